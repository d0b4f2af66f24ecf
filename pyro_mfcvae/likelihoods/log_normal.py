"""Positive numbers, such as concentrations, durations and incomes."""

from __future__ import annotations

from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_mfcvae._utils.checks import number, set_checked
from pyro_mfcvae.likelihoods.base import ElementwiseFactory, ElementwiseLikelihood, Likelihood, moments
from pyro_mfcvae.likelihoods.positive import Learn, Positive, check_learn


class _LogNormal(dist.LogNormal):  # type: ignore[misc]
    """A log-normal distribution whose log p is finite at zero, which stands for what is missing."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p in nats."""
        log_prob: Tensor = super().log_prob(_above_zero(value))
        return log_prob


class LogNormalLikelihood(ElementwiseLikelihood):
    r"""Positive numbers whose logarithm is Gaussian.

    .. math::
        p(x_d|z) = \frac{1}{x_d} N(\log x_d; m_d + s_d y_d, (s_d \sigma_d)^2)

    m_d and s_d are mean and standard deviation of log x_d in the training data.

    Args:
        x_shape: shape of one datum.
        sigma: standard deviation of log x given z, in units of s.
        learn: scope in which sigma is learned, as :class:`Gaussian` has it.
        floor: lower bound of a learned sigma.
        missing: whether elements of x may be NaN.
    """

    loc: Tensor
    scale: Tensor

    def __init__(
        self, x_shape: tuple[int, ...], sigma: float, learn: Learn, floor: float, missing: bool = False
    ) -> None:
        super().__init__(x_shape, missing)
        self.sigma = Positive(x_shape, sigma, floor, learn)
        self.num_features = 1 + self.sigma.num_features
        self.register_buffer("loc", torch.zeros(x_shape))
        self.register_buffer("scale", torch.ones(x_shape))

    def elements(self, features: Tensor) -> dist.Distribution:
        r"""Return log-normal distributions of ``features``, (N, *x_shape)."""
        return _LogNormal(*self._of_log(features))

    def mean(self, features: Tensor) -> Tensor:
        r"""Return E[x | z], which is above the median, (N, *x_shape); at most the largest number."""
        loc, scale = self._of_log(features)
        return (loc + scale.square() / 2).exp().clamp(max=torch.finfo(loc.dtype).max)

    def _of_log(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of log x."""
        y, *of_sigma = self.planes(features)
        return self.loc + self.scale * y, self.scale * self.sigma(tuple(of_sigma))

    def calibrate(self, x: Tensor) -> None:
        """Take mean and standard deviation of the logarithm of each dimension from x."""
        loc, scale = moments(x.log())
        self.loc.copy_(loc)
        self.scale.copy_(scale)

    def encode(self, x: Tensor) -> Tensor:
        """Return log x, standardised."""
        return (_above_zero(x).log() - self.loc) / self.scale

    def check_values(self, values: Tensor, name: str) -> None:
        """Raise a ValueError unless all values are positive."""
        bad = values[values <= 0]
        if bad.numel():
            raise ValueError(
                f"{name}: got {bad[0].item():.6g}, among {bad.numel()} of {values.numel()} values, but the "
                "log-normal likelihood needs positive numbers, and zero is none; use likelihood='gaussian', "
                "or make zeros missing where they stand for what could not be measured"
            )


@dataclass(frozen=True)
class LogNormal(ElementwiseFactory):
    """Factory of a :class:`LogNormalLikelihood`, for positive numbers that are spread over magnitudes.

    Attributes:
        sigma: standard deviation of log x given z, in units of that in the data; where it is learned, the one
            to start from.
        learn: None for a fixed sigma, ``"shared"``, ``"element"`` or ``"decoder"``, as :class:`Gaussian` has.
        floor: lower bound of a learned sigma.
        missing: whether elements of x may be NaN.

    Raises:
        ValueError: for numbers that are not positive, or a floor above sigma.

    Example:
        >>> LogNormal(learn=None)((1,)).mean(torch.zeros(1, 1))
        tensor([[1.1331]])
    """

    sigma: float = 0.5
    learn: Learn = "element"
    floor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, number, "floor", least=0)
        set_checked(self, check_learn, "sigma", floor=self.floor, learn=self.learn)

    def __call__(self, x_shape: tuple[int, ...]) -> Likelihood:
        r"""Build the likelihood for data of shape (N, *x_shape)."""
        return LogNormalLikelihood(x_shape, self.sigma, self.learn, self.floor, self.missing)


def _above_zero(x: Tensor) -> Tensor:
    return x.clamp(min=torch.finfo(x.dtype).tiny)
