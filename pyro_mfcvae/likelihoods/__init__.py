"""Likelihoods p(x | z): what the decoder's output means, and which data are valid.

A likelihood is an ``nn.Module`` that turns the decoder's output into a distribution over x. What a
configuration holds is a recipe: any callable ``(x_shape) -> Likelihood``, such as the frozen
dataclasses :class:`Bernoulli` and :class:`Gaussian`, or a name.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import Tensor, nn

LikelihoodFactory = Callable[[tuple[int, ...]], "Likelihood"]


class Likelihood(nn.Module, ABC):
    """The distribution of a datum given the decoder's output.

    Args:
        x_shape: shape of one datum.
    """

    def __init__(self, x_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.x_shape = x_shape

    @abstractmethod
    def forward(self, features: Tensor) -> dist.Distribution:
        r"""p(x | z) for the decoder's output (N, *x_shape): batch shape (N,), event shape x_shape."""

    @abstractmethod
    def mean(self, features: Tensor) -> Tensor:
        r"""E[x | z], shape (N, *x_shape), in the units of x."""

    def check(self, x: Tensor, name: str) -> None:
        r"""Raise a ValueError that names ``name`` where x (N, *x_shape) is outside the support."""
        return

    def calibrate(self, x: Tensor) -> None:
        r"""Take what depends on the scale of the training data x (N, *x_shape) from them."""
        return

    def preprocess(self, x: Tensor) -> Tensor:
        """What the encoder sees of x, the same shape."""
        return x


class BernoulliLikelihood(Likelihood):
    r"""Pixels as probabilities: :math:`\log p(x|z) = \sum_d x_d \log y_d + (1-x_d) \log(1-y_d)`.

    The decoder's output is the logit of y. Values of x between 0 and 1 are allowed, as in the paper.
    """

    def forward(self, features: Tensor) -> dist.Distribution:
        r"""Bernoulli with logits ``features``, (N, *x_shape)."""
        # Validation would refuse x strictly between 0 and 1.
        return dist.Bernoulli(logits=features, validate_args=False).to_event(len(self.x_shape))

    def mean(self, features: Tensor) -> Tensor:
        r"""Probabilities, (N, *x_shape)."""
        return features.sigmoid()

    def check(self, x: Tensor, name: str) -> None:
        """Raise a ValueError unless all x are in [0, 1]."""
        low, high = x.min().item(), x.max().item()
        if low < 0 or high > 1:
            raise ValueError(
                f"{name}: values from {low:.4g} to {high:.4g}, but the Bernoulli likelihood needs "
                "values in [0, 1]; rescale the data, or use likelihood='gaussian'"
            )


class GaussianLikelihood(Likelihood):
    r"""Gaussian of fixed standard deviation, :math:`p(x|z) = N(x; y, \sigma^2 I)`.

    With ``standardize``, :math:`x_d` is first shifted and scaled by its mean and standard deviation in
    the training data, so that sigma is in units of those; densities remain those of x itself.

    Args:
        x_shape: shape of one datum.
        sigma: standard deviation, in units of x or, with ``standardize``, of its deviations.
        standardize: whether each of the dimensions of x is standardised.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, x_shape: tuple[int, ...], sigma: float, standardize: bool) -> None:
        super().__init__(x_shape)
        self.sigma = sigma
        self.standardize = standardize
        if standardize:
            self.register_buffer("loc", torch.zeros(x_shape))
            self.register_buffer("scale", torch.ones(x_shape))

    def forward(self, features: Tensor) -> dist.Distribution:
        r"""Normal around the mean of ``features``, (N, *x_shape)."""
        scale = self.sigma * self.scale if self.standardize else self.sigma
        return dist.Normal(self.mean(features), scale).to_event(len(self.x_shape))

    def mean(self, features: Tensor) -> Tensor:
        r"""``features`` in the units of x, (N, *x_shape)."""
        return self.loc + self.scale * features if self.standardize else features

    def calibrate(self, x: Tensor) -> None:
        """Take mean and standard deviation of each dimension from x; a constant one gets scale 1."""
        if self.standardize:
            self.loc.copy_(x.mean(0))
            deviation = x.std(0, correction=0)
            self.scale.copy_(torch.where(deviation > 0, deviation, 1.0))

    def preprocess(self, x: Tensor) -> Tensor:
        """Standardised x, if so configured."""
        return (x - self.loc) / self.scale if self.standardize else x


@dataclass(frozen=True)
class Bernoulli:
    """Recipe of a :class:`BernoulliLikelihood`, for data in [0, 1]."""

    def __call__(self, x_shape: tuple[int, ...]) -> Likelihood:
        r"""Build the likelihood for data of shape (N, *x_shape)."""
        return BernoulliLikelihood(x_shape)


@dataclass(frozen=True)
class Gaussian:
    """Recipe of a :class:`GaussianLikelihood`, for real data.

    Attributes:
        sigma: standard deviation of x given z.
        standardize: whether each dimension is first standardised.

    Example:
        >>> Gaussian(sigma=0.5)((2,))(torch.zeros(1, 2)).log_prob(torch.zeros(1, 2))
        tensor([-0.4516])
    """

    sigma: float = 0.3
    standardize: bool = False

    def __post_init__(self) -> None:
        if not (self.sigma > 0 and math.isfinite(self.sigma)):
            raise ValueError(f"sigma: got {self.sigma}, expected a positive number")

    def __call__(self, x_shape: tuple[int, ...]) -> Likelihood:
        r"""Build the likelihood for data of shape (N, *x_shape)."""
        return GaussianLikelihood(x_shape, self.sigma, self.standardize)


RECIPES: dict[str, type] = {"bernoulli": Bernoulli, "gaussian": Gaussian}


def available() -> tuple[str, ...]:
    """Names that ``MFCVAEConfig(likelihood=...)`` takes."""
    return tuple(RECIPES)
