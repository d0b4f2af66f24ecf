"""Categories, coded as integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_mfcvae._utils.checks import integer, set_checked
from pyro_mfcvae.likelihoods.base import (
    ElementwiseFactory,
    ElementwiseLikelihood,
    Likelihood,
    check_integers,
    stacked,
)


class _Codes(dist.Categorical):  # type: ignore[misc]
    """A categorical distribution whose samples are floats, as data are."""

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Sample codes from 0."""
        sample: Tensor = super().sample(sample_shape).to(self.logits.dtype)
        return sample


class CategoricalLikelihood(ElementwiseLikelihood):
    r"""Elements that are one of C categories: :math:`p(x_d = c|z) = \mathrm{softmax}(y_d)_c`.

    The encoder sees a category as zeros with a one. A category beyond C is all zeros to it: unknown.

    Args:
        x_shape: shape of one datum.
        categories: number of categories C; x has the integers from 0 to C - 1.
        missing: whether elements of x may be NaN.
    """

    def __init__(self, x_shape: tuple[int, ...], categories: int, missing: bool = False) -> None:
        super().__init__(x_shape, missing)
        self.categories = self.num_features = self.num_inputs = categories

    def elements(self, features: Tensor) -> dist.Distribution:
        r"""Return categorical distributions, whose C logits are the planes of ``features``."""
        return _Codes(logits=torch.stack(self.planes(features), -1))

    def mean(self, features: Tensor) -> Tensor:
        r"""Return the most probable category, (N, *x_shape)."""
        return torch.stack(self.planes(features), -1).argmax(-1).to(features.dtype)

    def encode(self, x: Tensor) -> Tensor:
        """Return one plane for each category, of zeros and ones."""
        codes = torch.arange(self.categories, device=x.device)
        # What is missing equals no code.
        planes = x.unsqueeze(1) == codes.view(-1, *(1 for _ in self.x_shape))
        return planes.to(x.dtype).reshape(-1, *stacked(self.x_shape, self.categories))

    def check_values(self, values: Tensor, name: str) -> None:
        """Raise a ValueError unless all values are integers from 0 to C - 1."""
        C, most = self.categories, values.max().item()
        expected = f"the categorical likelihood needs categories numbered from 0 to {C - 1}"
        check_integers(values, name, expected, "number the categories from 0")
        if most >= C:
            raise ValueError(
                f"{name}: values up to {most:.6g}, but {expected}; "
                f"use Categorical({int(most) + 1}), or number the categories from 0 without gaps"
            )


@dataclass(frozen=True)
class Categorical(ElementwiseFactory):
    """Factory of a :class:`CategoricalLikelihood`, for integer-coded categories.

    Attributes:
        categories: number of categories of every element.
        missing: whether elements of x may be NaN.

    Raises:
        ValueError: for less than two categories.

    Example:
        >>> likelihood = Categorical(3)((5,))
        >>> likelihood.features_shape, likelihood(torch.zeros(1, 15)).event_shape
        ((15,), torch.Size([5]))
    """

    categories: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, integer, "categories", least=2)

    def __call__(self, x_shape: tuple[int, ...]) -> Likelihood:
        r"""Build the likelihood for data of shape (N, *x_shape)."""
        return CategoricalLikelihood(x_shape, self.categories, self.missing)
