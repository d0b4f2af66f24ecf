"""Counts out of a known number: successes, answers, alleles."""

from __future__ import annotations

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
    moments,
)
from pyro_mfcvae.likelihoods.positive import Learn, Positive, check_learn

SMALLEST_CONCENTRATION = 0.1  # below it, nearly all counts are zero or n
SMALLEST_SHARE = 1e-6  # a beta distribution needs both of its parameters to be positive


class BetaBinomialLikelihood(ElementwiseLikelihood):
    r"""Counts out of n whose share varies more than a binomial's.

    .. math::
        p(x_d|z) = \binom{n}{x_d} \frac{B(x_d + \kappa_d \mu_d, n - x_d + \kappa_d (1 - \mu_d))}
        {B(\kappa_d \mu_d, \kappa_d (1 - \mu_d))}, \qquad \mu_d = \mathrm{sigmoid}(y_d + \mathrm{logit}\, m_d)

    m_d is the mean share of element d in the training data. The encoder sees x, standardised.

    Args:
        x_shape: shape of one datum.
        total_count: number n; x has the integers from 0 to n.
        concentration: number kappa, positive.
        learn: scope in which kappa is learned, as :class:`Gaussian` has it for its sigma.
        missing: whether elements of x may be NaN.
    """

    average: Tensor
    loc: Tensor
    scale: Tensor

    def __init__(
        self,
        x_shape: tuple[int, ...],
        total_count: int,
        concentration: float,
        learn: Learn,
        missing: bool = False,
    ) -> None:
        super().__init__(x_shape, missing)
        self.total_count = total_count
        self.concentration = Positive(x_shape, concentration, SMALLEST_CONCENTRATION, learn)
        self.num_features = 1 + self.concentration.num_features
        self.register_buffer("average", torch.full(x_shape, 0.5))
        self.register_buffer("loc", torch.zeros(x_shape))
        self.register_buffer("scale", torch.ones(x_shape))

    def elements(self, features: Tensor) -> dist.Distribution:
        r"""Return beta-binomial distributions with the shares of ``features``, (N, *x_shape)."""
        share, other = self._shares(features)
        kappa = self.concentration(self.planes(features)[1:])
        n = share.new_full((), self.total_count)
        return dist.BetaBinomial(kappa * share, kappa * other, n, validate_args=False)

    def mean(self, features: Tensor) -> Tensor:
        r"""Return n times the shares, (N, *x_shape)."""
        return self.total_count * self._shares(features)[0]

    def _shares(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and 1 - mu, both with all their digits."""
        logit = self.planes(features)[0] + self.average.logit()
        inner = 1 - 2 * SMALLEST_SHARE
        return SMALLEST_SHARE + inner * logit.sigmoid(), SMALLEST_SHARE + inner * (-logit).sigmoid()

    def calibrate(self, x: Tensor) -> None:
        """Take the mean share of each element, and the moments that standardise it, from x."""
        loc, scale = moments(x)
        least = 1 / (self.total_count * (len(x) + 1))  # what never occurs here may occur elsewhere
        self.average.copy_((loc / self.total_count).clamp(least, 1 - least))
        self.loc.copy_(loc)
        self.scale.copy_(scale)

    def encode(self, x: Tensor) -> Tensor:
        """Return x, standardised."""
        return (x - self.loc) / self.scale

    def check_values(self, values: Tensor, name: str) -> None:
        """Raise a ValueError unless all values are integers from 0 to n."""
        n, most = self.total_count, values.max().item()
        expected = f"the beta-binomial likelihood needs counts out of {n}, integers from 0 to {n}"
        check_integers(values, name, expected, "use likelihood='gaussian' for data that are no counts")
        if most > n:
            raise ValueError(
                f"{name}: values up to {most:.6g}, but {expected}; use BetaBinomial({int(most)}), or "
                "'poisson' for counts without a bound"
            )


@dataclass(frozen=True)
class BetaBinomial(ElementwiseFactory):
    """Factory of a :class:`BetaBinomialLikelihood`, for counts out of a number that is known.

    Attributes:
        total_count: number n that all counts are out of: 2 for the alleles of a genotype.
        concentration: number kappa, which is large for counts that are nearly binomial; where it is learned,
            the one to start from.
        learn: None for a fixed kappa, ``"shared"``, ``"element"`` or ``"decoder"``, as :class:`Gaussian` has.
        missing: whether elements of x may be NaN.

    Raises:
        ValueError: for n less than one, or a kappa that is not positive, or too small to learn.

    Example:
        >>> BetaBinomial(4)((1,)).mean(torch.zeros(1, 1))
        tensor([[2.]])
    """

    total_count: int = 2
    concentration: float = 10.0
    learn: Learn = "element"

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, integer, "total_count", least=1)
        set_checked(self, check_learn, "concentration", floor=SMALLEST_CONCENTRATION, learn=self.learn)

    def __call__(self, x_shape: tuple[int, ...]) -> Likelihood:
        r"""Build the likelihood for data of shape (N, *x_shape)."""
        return BetaBinomialLikelihood(x_shape, self.total_count, self.concentration, self.learn, self.missing)
