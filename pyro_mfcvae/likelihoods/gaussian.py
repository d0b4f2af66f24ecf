"""Real data."""

from __future__ import annotations

from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_mfcvae._utils.checks import flag, number, set_checked
from pyro_mfcvae.likelihoods.base import ElementwiseFactory, ElementwiseLikelihood, Likelihood, moments
from pyro_mfcvae.likelihoods.positive import Learn, Positive, check_learn
from pyro_mfcvae.likelihoods.precise import Precise


class GaussianLikelihood(ElementwiseLikelihood):
    r"""Gaussian of a fixed or learned standard deviation, :math:`p(x_d|z) = N(x_d; y_d, \sigma_d^2)`.

    With ``standardize``, :math:`x_d` is first shifted and scaled by its mean and standard deviation in
    the training data, so that sigma is in units of those; densities remain those of x itself. This is done
    in float64: units and offsets of x do not matter, be they 1e-25 or 1e9 deviations.

    Args:
        x_shape: shape of one datum.
        sigma: standard deviation, in units of x or, with ``standardize``, of its deviations.
        standardize: whether each of the dimensions of x is standardised.
        learn: scope in which sigma is learned, as :class:`Gaussian` has it.
        floor: lower bound of a learned sigma.
        missing: whether elements of x may be NaN.
        sigmoid: whether y is the sigmoid of the decoder's output, for x in [0, 1].
    """

    loc: Tensor
    scale: Tensor

    def __init__(
        self,
        x_shape: tuple[int, ...],
        sigma: float,
        standardize: bool,
        learn: Learn = None,
        floor: float = 0.05,
        missing: bool = False,
        sigmoid: bool = False,
    ) -> None:
        super().__init__(x_shape, missing)
        self.sigmoid = sigmoid
        self.sigma = Positive(x_shape, sigma, floor, learn)
        self.num_features = 1 + self.sigma.num_features
        self.standardize = standardize
        if standardize:
            self.dtype = torch.float64
            self.register_buffer("loc", torch.zeros(x_shape, dtype=torch.float64))
            self.register_buffer("scale", torch.ones(x_shape, dtype=torch.float64))

    def elements(self, features: Tensor) -> dist.Distribution:
        r"""Return normal distributions around the mean of ``features``, (N, *x_shape)."""
        y, *of_sigma = self.planes(features)
        sigma = self.sigma(tuple(of_sigma))
        if not self.standardize:
            # A number would be copied to the device anew, which waits for it.
            sigma = y.new_full((), sigma) if isinstance(sigma, float) else sigma
            return dist.Normal(self._in_units_of_x(y), sigma)
        return Precise(dist.Normal(self._in_units_of_x(y), sigma * self.scale), y.dtype)

    def mean(self, features: Tensor) -> Tensor:
        r"""Return the first plane of ``features`` in the units of x, (N, *x_shape)."""
        return self._in_units_of_x(self.planes(features)[0])

    def _in_units_of_x(self, y: Tensor) -> Tensor:
        if self.sigmoid:
            return y.sigmoid()
        return self.loc + self.scale * y if self.standardize else y

    def calibrate(self, x: Tensor) -> None:
        """Take mean and standard deviation of each dimension from x; a constant one gets scale 1."""
        if self.standardize:
            loc, scale = moments(x)
            self.loc.copy_(loc)
            self.scale.copy_(scale)

    def encode(self, x: Tensor) -> Tensor:
        """Return x, standardised if so configured."""
        return (x - self.loc) / self.scale if self.standardize else x


@dataclass(frozen=True)
class Gaussian(ElementwiseFactory):
    """Factory of a :class:`GaussianLikelihood`, for real data.

    Attributes:
        sigma: standard deviation of x given z; where it is learned, the one to start from.
        standardize: whether each dimension is first standardised.
        learn: None for a fixed sigma, ``"shared"`` to learn one for all elements, ``"element"`` one for
            each element, ``"decoder"`` one for each element of each datum, which the decoder gives.
        floor: lower bound of a learned sigma: without it, the density of data that are
            reconstructed exactly has no bound.
        missing: whether elements of x may be NaN.
        sigmoid: whether the mean is the sigmoid of the decoder's output, for data in [0, 1].

    Raises:
        ValueError: for numbers that are not positive, a floor above sigma, or a sigmoid of what is
            standardised.

    References:
        Rybkin, Daniilidis, Levine (2021), Simple and Effective VAE Training with Calibrated Decoders.

    Example:
        >>> Gaussian(sigma=0.5)((2,))(torch.zeros(1, 2)).log_prob(torch.zeros(1, 2))
        tensor([-0.4516])
    """

    sigma: float = 0.3
    standardize: bool = False
    learn: Learn = None
    floor: float = 0.05
    sigmoid: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, flag, "standardize", "sigmoid")
        if self.sigmoid and self.standardize:
            raise ValueError("sigmoid: got True with standardize=True, expected at most one of the two")
        set_checked(self, number, "floor", least=0)
        set_checked(self, check_learn, "sigma", floor=self.floor, learn=self.learn)

    def __call__(self, x_shape: tuple[int, ...]) -> Likelihood:
        r"""Build the likelihood for data of shape (N, *x_shape)."""
        return GaussianLikelihood(
            x_shape, self.sigma, self.standardize, self.learn, self.floor, self.missing, self.sigmoid
        )
