"""Data in [0, 1] with a density."""

from __future__ import annotations

from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_mfcvae.likelihoods.base import ElementwiseFactory, ElementwiseLikelihood, Likelihood
from pyro_mfcvae.likelihoods.bernoulli import check_unit_interval

# Logits nearer to zero take a series, whose rest is below 1e-11; the closed form loses digits there.
_NEAR_ZERO = 0.5


class _ContinuousBernoulli(dist.ContinuousBernoulli):  # type: ignore[misc]
    """PyTorch's samples, with densities that hold for all logits: its own are of clamped probabilities."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density in nats, exact near a logit of 0 as for large ones."""
        log_prob: Tensor = (value - 0.5) * self.logits - _log_sinhc(self.logits)
        return log_prob

    @property
    def mean(self) -> Tensor:
        """E[x]."""
        return _mean(self.logits)


class ContinuousBernoulliLikelihood(ElementwiseLikelihood):
    r"""Pixels with a density on [0, 1].

    .. math::
        p(x_d|z) = C(\lambda_d)\, \lambda_d^{x_d} (1-\lambda_d)^{1-x_d}, \qquad
        C(\lambda) = \frac{2 \tanh^{-1}(1-2\lambda)}{1-2\lambda}

    The decoder's output is the logit of lambda. The constant C, with which the density integrates to one,
    is what :class:`BernoulliLikelihood` lacks for values between 0 and 1.

    References:
        Loaiza-Ganem, Cunningham (2019), The Continuous Bernoulli: Fixing a Pervasive Error in Variational
        Autoencoders.
    """

    def elements(self, features: Tensor) -> dist.Distribution:
        r"""Return continuous Bernoulli distributions with logits ``features``, (N, *x_shape)."""
        return _ContinuousBernoulli(logits=features)

    def mean(self, features: Tensor) -> Tensor:
        r"""Return the means, (N, *x_shape), which are not lambda but nearer to 1/2."""
        return _mean(features)

    def check_values(self, values: Tensor, name: str) -> None:
        """Raise a ValueError unless all values are in [0, 1]."""
        check_unit_interval(values, name, "continuous Bernoulli")


@dataclass(frozen=True)
class ContinuousBernoulli(ElementwiseFactory):
    """Factory of a :class:`ContinuousBernoulliLikelihood`, for data that fill [0, 1].

    Attributes:
        missing: whether elements of x may be NaN.

    Example:
        >>> ContinuousBernoulli()((2,))(torch.zeros(1, 2)).log_prob(torch.rand(1, 2))  # uniform
        tensor([0.])
    """

    def __call__(self, x_shape: tuple[int, ...]) -> Likelihood:
        r"""Build the likelihood for data of shape (N, *x_shape)."""
        return ContinuousBernoulliLikelihood(x_shape, self.missing)


def _away_from_zero(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Find where the closed form holds, and logits that it takes everywhere without a gradient of NaN."""
    away = logits.abs() > _NEAR_ZERO
    return away, torch.where(away, logits, 1.0)


def _log_sinhc(logits: Tensor) -> Tensor:
    r"""Compute log(sinh(a) / a) for a = logits / 2, the normaliser of :math:`e^{(2x - 1) a}` on [0, 1]."""
    away, safe = _away_from_zero(logits)
    t = safe.abs()
    closed = t / 2 + torch.log(-torch.expm1(-t) / t)
    s = torch.where(away, 0.0, logits).square() / 4
    series = s * (1 / 6 - s * (1 / 180 - s * (1 / 2835 - s / 37800)))
    return torch.where(away, closed, series)


def _mean(logits: Tensor) -> Tensor:
    """Compute 1/2 + (coth(a) - 1/a) / 2 for a = logits / 2."""
    away, safe = _away_from_zero(logits)
    closed = 1 / -torch.expm1(-safe.abs()) - 1 / safe.abs()
    closed = torch.where(safe > 0, closed, 1 - closed)
    a = torch.where(away, 0.0, logits) / 2
    s = a.square()
    series = 0.5 + a * (1 / 6 - s * (1 / 90 - s * (1 / 945 - s / 9450)))
    return torch.where(away, closed, series)
