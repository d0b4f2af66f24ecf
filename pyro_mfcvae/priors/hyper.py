"""Priors of a mixture's own parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pyro.distributions as dist
from torch import Tensor

from pyro_mfcvae._utils.checks import number, set_checked


@dataclass(frozen=True)
class HyperPriors:
    r"""Weakly informative priors of the parameters of K Gaussians in D dimensions.

    .. math::
        \pi \sim \mathrm{Dirichlet}(a, \ldots, a), \quad \mu_k \sim N(0, m^2 I), \quad
        \log\sigma_{kd} \sim N(\log s, t^2), \quad R_k \sim \mathrm{LKJ}(\eta), \quad
        \Sigma_k = \mathrm{diag}(\sigma_k)\, R_k\, \mathrm{diag}(\sigma_k)

    They are in units of the latent's overall standard deviation: a facet's latent is about standard normal
    when its mixture begins to train, and :func:`sample_mixture` standardises the embedding.
    A log-normal scale keeps components away from a standard deviation of zero, where the likelihood of a
    mixture is unbounded; its median :math:`s = K^{-1/D}` shares out the volume among the components.

    Attributes:
        concentration: concentration a of the Dirichlet distribution; 1 is uniform.
        mean_scale: standard deviation m of a mean.
        scale_median: median s of a standard deviation; None is :math:`K^{-1/D}`.
        scale_spread: standard deviation t of the logarithm of a standard deviation.
        correlation: :math:`\eta` of full covariances; 1 is uniform, and more shrinks correlations.

    Raises:
        ValueError: for a number that is not positive.

    References:
        C. Fraley, A. E. Raftery (2007). Bayesian regularization for normal mixture estimation and
        model-based clustering. Journal of Classification 24 (for the scale).
        D. Lewandowski, D. Kurowicka, H. Joe (2009). Generating random correlation matrices based on vines
        and extended onion method. Journal of Multivariate Analysis 100.
    """

    concentration: float = 1.0
    mean_scale: float = 2.0
    scale_median: float | None = None
    scale_spread: float = 1.0
    correlation: float = 2.0

    def __post_init__(self) -> None:
        set_checked(self, number, "concentration", "mean_scale", "scale_spread", "correlation", above=0)
        set_checked(self, number, "scale_median", above=0, or_none=True)

    def median(self, clusters: int, latent_dim: int) -> float:
        """Return the median of a standard deviation."""
        return clusters ** (-1 / latent_dim) if self.scale_median is None else self.scale_median

    def weights(self, like: Tensor, clusters: int) -> dist.Distribution:
        """Return p(pi), event shape (K,), in the precision and on the device of ``like``."""
        return dist.Dirichlet(like.new_full((clusters,), self.concentration))

    def means(self, like: Tensor, clusters: int, latent_dim: int) -> dist.Distribution:
        """Return p(mu), event shape (K, D)."""
        scale = like.new_full((), self.mean_scale)
        return dist.Normal(like.new_zeros(clusters, latent_dim), scale).to_event(2)

    def scales(self, like: Tensor, clusters: int, latent_dim: int) -> dist.Distribution:
        """Return p(sigma), event shape (K, D)."""
        loc = like.new_full((clusters, latent_dim), math.log(self.median(clusters, latent_dim)))
        return dist.LogNormal(loc, like.new_full((), self.scale_spread)).to_event(2)

    def correlations(self, like: Tensor, clusters: int, latent_dim: int) -> dist.Distribution:
        """Return the prior of R, as of its Cholesky factors, event shape (K, D, D), D > 1."""
        eta = like.new_full((clusters,), self.correlation)
        return dist.LKJCholesky(latent_dim, eta).to_event(1)
