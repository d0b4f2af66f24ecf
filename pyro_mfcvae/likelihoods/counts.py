"""Counts: integers from zero."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Literal

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn import functional as F

from pyro_mfcvae._utils.checks import one_of, set_checked
from pyro_mfcvae.likelihoods.base import (
    ElementwiseFactory,
    ElementwiseLikelihood,
    Likelihood,
    check_integers,
    moments,
)
from pyro_mfcvae.likelihoods.positive import Learn, Positive, check_learn, inverse_softplus

Exposure = Literal["total"] | None
EXPOSURES: tuple[Exposure, ...] = (None, "total")

SMALLEST_RATE = 1e-6  # relative to the mean: below it softplus has no digits, and a count no finite mass
SMALLEST_COUNT = 1e-2  # of the gamma distribution in a negative binomial


class CountLikelihood(ElementwiseLikelihood):
    r"""Counts of rate :math:`\lambda_d = s\, m_d\, \mathrm{softplus}(y_d + c)`, which is s m_d at y = 0.

    m_d is the mean of element d in the training data. The encoder sees log(1 + x / s), standardised. The
    exposure s is one or, with ``exposure="total"``, how much was counted of a datum, relative to the mean:

    .. math::
        s(x) = \sum_{d\ \mathrm{observed}} x_d \Big/ \sum_{d\ \mathrm{observed}} m_d

    It is taken for known, as a library size or a length of observation is, so that z need not tell it:
    p(x | z) is that of the counts given s, and its values compare with each other only for models that take
    the same for known. Data that are generated have s = 1. Where a column of a table is the exposure,
    :class:`Mixed` says so.

    Args:
        x_shape: shape of one datum.
        missing: whether elements of x may be NaN.
        exposure: None, or ``"total"``.

    Attributes:
        family: name of the distribution, for errors.
    """

    family: str
    average: Tensor
    loc: Tensor
    scale: Tensor

    def __init__(self, x_shape: tuple[int, ...], missing: bool = False, exposure: Exposure = None) -> None:
        super().__init__(x_shape, missing)
        if exposure and math.prod(x_shape) < 2:
            raise ValueError(
                f"exposure: got {exposure!r} with data of shape {x_shape}, expected several counts in each "
                "datum, whose total tells little of each; give None"
            )
        self.exposure = exposure
        self.known: Tensor | None = None  # exposure that a column of the data at hand says, (N, 1, ..., 1)
        self.relative: Tensor | float = 1.0  # exposure of the data at hand, (N, 1, ..., 1)
        self.register_buffer("average", torch.ones(x_shape))
        self.register_buffer("loc", torch.zeros(x_shape))
        self.register_buffer("scale", torch.ones(x_shape))

    def given(self, x: Tensor | None) -> Likelihood:
        r"""Return the likelihood of counts x (N, *x_shape) whose exposure is known."""
        if x is None or (self.exposure is None and self.known is None):
            return self
        likelihood = copy.copy(self)  # with the same parameters
        likelihood.relative = self._exposures(x)
        return likelihood

    def exposed(self, exposure: Tensor) -> CountLikelihood:
        r"""Return the likelihood, with the same parameters, of data with these exposures s, (N,)."""
        likelihood = copy.copy(self)
        likelihood.known = exposure.view(-1, *(1 for _ in self.x_shape))
        return likelihood

    def rate(self, features: Tensor) -> Tensor:
        r"""Return the rates, (N, *x_shape)."""
        factor = F.softplus(self.planes(features)[0] + inverse_softplus(1)) + SMALLEST_RATE
        return self.relative * self.average * factor

    def mean(self, features: Tensor) -> Tensor:
        r"""Return the rates, (N, *x_shape)."""
        return self.rate(features)

    def calibrate(self, x: Tensor) -> None:
        """Take the mean of each element, and the moments of log(1 + x / s), from x."""
        # An element that is always zero here may be one elsewhere.
        self.average.copy_(moments(x)[0].clamp(min=1 / (len(x) + 1)))
        loc, scale = moments((x / self._exposures(x)).log1p())
        self.loc.copy_(loc)
        self.scale.copy_(scale)

    def encode(self, x: Tensor) -> Tensor:
        """Return log(1 + x / s), standardised."""
        x = x.clamp(min=0)
        return ((x / self._exposures(x)).log1p() - self.loc) / self.scale

    def _exposures(self, x: Tensor) -> Tensor | float:
        """Return s of counts (N, *x_shape), (N, 1, ..., 1); that of a datum without any is that of one."""
        if self.known is not None:
            return self.known.to(self.average.dtype)
        if self.exposure is None:
            return 1.0
        expected = torch.where(x.isnan(), 0.0, self.average).flatten(1).sum(1)
        total = x.nan_to_num(nan=0.0).flatten(1).sum(1).clamp(min=1)
        relative = torch.where(expected > 0, total / expected.clamp(min=torch.finfo(x.dtype).tiny), 1.0)
        return relative.to(self.average.dtype).view(-1, *(1 for _ in self.x_shape))

    def check_values(self, values: Tensor, name: str) -> None:
        """Raise a ValueError unless all values are integers from 0."""
        expected = f"the {self.family} likelihood needs counts, integers from 0"
        check_integers(values, name, expected, "use likelihood='gaussian' for data that are no counts")


class PoissonLikelihood(CountLikelihood):
    r"""Counts as variable as their mean: :math:`p(x_d|z) = \lambda_d^{x_d} e^{-\lambda_d} / x_d!`."""

    family = "Poisson"

    def elements(self, features: Tensor) -> dist.Distribution:
        r"""Return Poisson distributions with the rates of ``features``, (N, *x_shape)."""
        return dist.Poisson(self.rate(features))


class NegativeBinomialLikelihood(CountLikelihood):
    r"""Counts more variable than their mean, whose variance is :math:`\lambda_d + \lambda_d^2 / r_d`.

    .. math::
        p(x_d|z) = \binom{x_d + r_d - 1}{x_d}
        \left(\frac{\lambda_d}{\lambda_d + r_d}\right)^{x_d} \left(\frac{r_d}{\lambda_d + r_d}\right)^{r_d}

    Args:
        x_shape: shape of one datum.
        total_count: number r, positive.
        learn: scope in which r is learned, as :class:`NegativeBinomial` has it.
        missing: whether elements of x may be NaN.
        exposure: None, or ``"total"``.

    References:
        Lopez, Regier, Cole, Jordan, Yosef (2018), Deep Generative Modeling for Single-Cell Transcriptomics.
    """

    family = "negative binomial"

    def __init__(
        self,
        x_shape: tuple[int, ...],
        total_count: float,
        learn: Learn,
        missing: bool = False,
        exposure: Exposure = None,
    ) -> None:
        super().__init__(x_shape, missing, exposure)
        self.total_count = Positive(x_shape, total_count, SMALLEST_COUNT, learn)
        self.num_features = 1 + self.total_count.num_features

    def elements(self, features: Tensor) -> dist.Distribution:
        r"""Return negative binomial distributions with the rates of ``features``, (N, *x_shape)."""
        rate = self.rate(features)
        total_count = self.total_count(self.planes(features)[1 : 1 + self.total_count.num_features])
        r = torch.as_tensor(total_count, dtype=rate.dtype, device=rate.device)
        return dist.NegativeBinomial(r, logits=rate.log() - r.log())


@dataclass(frozen=True)
class Poisson(ElementwiseFactory):
    """Factory of a :class:`PoissonLikelihood`, for counts.

    Attributes:
        exposure: None, or ``"total"`` where how much was counted of a datum should not matter.
        missing: whether elements of x may be NaN.

    Raises:
        ValueError: for another exposure.

    Example:
        >>> likelihood = Poisson(exposure="total")((2,))
        >>> x = torch.tensor([[1.0, 2.0], [10.0, 20.0]])
        >>> likelihood.calibrate(x)
        >>> likelihood.given(x).mean(torch.zeros(2, 2)).round(decimals=3)
        tensor([[ 1.,  2.],
                [10., 20.]])
    """

    exposure: Exposure = None

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, one_of, "exposure", known=EXPOSURES)

    def __call__(self, x_shape: tuple[int, ...]) -> Likelihood:
        r"""Build the likelihood for data of shape (N, *x_shape)."""
        return PoissonLikelihood(x_shape, self.missing, self.exposure)


@dataclass(frozen=True)
class NegativeBinomial(ElementwiseFactory):
    """Factory of a :class:`NegativeBinomialLikelihood`, for counts that vary more than a Poisson's.

    Attributes:
        total_count: number r, which is large for counts that are nearly Poisson; where it is learned, the one
            to start from.
        learn: None for a fixed r, ``"shared"``, ``"element"`` or ``"decoder"``, as :class:`Gaussian` has it.
        exposure: None, or ``"total"`` where how much was counted of a datum should not matter.
        missing: whether elements of x may be NaN.

    Raises:
        ValueError: for an r that is not positive, or too small to learn, or another exposure.
    """

    total_count: float = 1.0
    learn: Learn = "element"
    exposure: Exposure = None

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, one_of, "exposure", known=EXPOSURES)
        set_checked(self, check_learn, "total_count", floor=SMALLEST_COUNT, learn=self.learn)

    def __call__(self, x_shape: tuple[int, ...]) -> Likelihood:
        r"""Build the likelihood for data of shape (N, *x_shape)."""
        return NegativeBinomialLikelihood(x_shape, self.total_count, self.learn, self.missing, self.exposure)
