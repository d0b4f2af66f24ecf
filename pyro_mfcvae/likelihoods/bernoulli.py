"""Data in [0, 1] as probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import pyro.distributions as dist
from torch import Tensor

from pyro_mfcvae.likelihoods.base import ElementwiseFactory, ElementwiseLikelihood, Likelihood


class BernoulliLikelihood(ElementwiseLikelihood):
    r"""Pixels as probabilities: :math:`\log p(x|z) = \sum_d x_d \log y_d + (1-x_d) \log(1-y_d)`.

    The decoder's output is the logit of y. Values of x between 0 and 1 are allowed, as in the paper.
    """

    def elements(self, features: Tensor) -> dist.Distribution:
        r"""Return Bernoulli distributions with logits ``features``, (N, *x_shape)."""
        # Validation would refuse x strictly between 0 and 1.
        return dist.Bernoulli(logits=features, validate_args=False)

    def mean(self, features: Tensor) -> Tensor:
        r"""Return the probabilities, (N, *x_shape)."""
        return features.sigmoid()

    def check_values(self, values: Tensor, name: str) -> None:
        """Raise a ValueError unless all values are in [0, 1]."""
        check_unit_interval(values, name, "Bernoulli")


@dataclass(frozen=True)
class Bernoulli(ElementwiseFactory):
    """Factory of a :class:`BernoulliLikelihood`, for data in [0, 1].

    Attributes:
        missing: whether elements of x may be NaN.
    """

    def __call__(self, x_shape: tuple[int, ...]) -> Likelihood:
        r"""Build the likelihood for data of shape (N, *x_shape)."""
        return BernoulliLikelihood(x_shape, self.missing)


def check_unit_interval(values: Tensor, name: str, family: str) -> None:
    """Raise a ValueError unless all values are in [0, 1]."""
    low, high = values.min().item(), values.max().item()
    if low < 0 or high > 1:
        raise ValueError(
            f"{name}: values from {low:.4g} to {high:.4g}, but the {family} likelihood needs "
            "values in [0, 1]; rescale the data, or use likelihood='gaussian'"
        )
