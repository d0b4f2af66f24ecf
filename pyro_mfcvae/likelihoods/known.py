"""A column that is known: it says something of the others, and has no density itself."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from pyro_mfcvae.likelihoods.base import ElementwiseLikelihood, Likelihood, moments


class _Known(dist.TorchDistribution):  # type: ignore[misc]
    """Values that are given: whatever they are, log p is zero.

    Args:
        values: what is drawn, of the batch shape.
    """

    arg_constraints: dict[str, Constraint] = {}  # noqa: RUF012
    support = dist.constraints.real

    def __init__(self, values: Tensor) -> None:
        self.values = values
        super().__init__(values.shape, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> dist.Distribution:
        """Return the distribution with another batch shape."""
        return _Known(self.values.expand(batch_shape))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return the values."""
        return self.values.expand(*sample_shape, *self.values.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return zero."""
        shape = torch.broadcast_shapes(value.shape, self.values.shape)
        return torch.zeros(shape, dtype=self.values.dtype, device=value.device)


class ExposureLikelihood(ElementwiseLikelihood):
    r"""How much was counted of a datum, such as hours or a library size: known, and no part of p(x | z).

    Neither the encoder nor the decoder has to do with it. Data that are generated have its mean.

    Args:
        x_shape: shape of one datum, (1,).
    """

    num_features = 0
    num_inputs = 0
    average: Tensor

    def __init__(self, x_shape: tuple[int, ...]) -> None:
        super().__init__(x_shape)
        self.values: Tensor | None = None  # of the data at hand, (N, 1)
        self.register_buffer("average", torch.ones(x_shape))

    def relative(self, x: Tensor) -> Tensor:
        """Return the exposures x (N, 1) by their mean in the training data; one where they are missing."""
        return torch.where(x.isnan(), 1.0, x / self.average.to(x.dtype))

    def given(self, x: Tensor | None) -> Likelihood:
        r"""Return the likelihood of data whose exposures x (N, 1) are known."""
        if x is None:
            return self
        likelihood = copy.copy(self)
        likelihood.values = torch.where(x.isnan(), self.average.to(x.dtype), x)
        return likelihood

    def elements(self, features: Tensor) -> dist.Distribution:
        r"""Return the values that are known, for features (..., N, 0)."""
        return _Known(self.mean(features))

    def mean(self, features: Tensor) -> Tensor:
        r"""Return the exposures, (..., N, 1)."""
        values = self.average if self.values is None else self.values
        return values.to(features.dtype).expand(*features.shape[:-1], 1)

    def encode(self, x: Tensor) -> Tensor:
        """Return nothing, (N, 0)."""
        return x[:, :0]

    def calibrate(self, x: Tensor) -> None:
        """Take the mean from x (N, 1)."""
        self.average.copy_(moments(x)[0])

    def check_values(self, values: Tensor, name: str) -> None:
        """Raise a ValueError unless all values are positive."""
        if (values <= 0).any():
            raise ValueError(
                f"{name}: got the exposure {values.min().item():g}, expected positive numbers; leave out "
                "data of which nothing was counted"
            )
