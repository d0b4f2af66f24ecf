"""A distribution in a wider type than that of its densities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pyro.distributions import Distribution, TorchDistribution
from torch import Tensor
from torch.distributions.constraints import Constraint


class Precise(TorchDistribution):  # type: ignore[misc]
    """A distribution whose parameters and values are in float64, and whose log p is in another type.

    Args:
        base: the distribution.
        dtype: type of log p, which other factors of a model have.
    """

    arg_constraints: dict[str, Constraint] = {}  # noqa: RUF012

    def __init__(self, base: TorchDistribution, dtype: torch.dtype) -> None:
        self.base, self.dtype = base, dtype
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Constraint:
        """The support of ``base``."""
        support: Constraint = self.base.support
        return support

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> Distribution:
        """Return the distribution with another batch shape."""
        return Precise(self.base.expand(batch_shape), self.dtype)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Sample in float64."""
        sample: Tensor = self.base.sample(sample_shape)
        return sample

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p in nats, of the type of the others."""
        log_prob: Tensor = self.base.log_prob(value)
        return log_prob.to(self.dtype)
