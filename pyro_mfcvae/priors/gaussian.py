"""Mixtures of Gaussians."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import FacetPrior

Initialization = Literal["mixture", "k-means++", "glorot"]
INITIALIZATIONS: tuple[str, ...] = get_args(Initialization)

MIN_SCALE = 1e-4  # of a component: keeps KL divergences and their gradients finite
MIN_VARIANCE = 1e-4  # added to what is found in an embedding


class GaussianMixturePrior(FacetPrior):
    r"""Mixture of Gaussians; the subclasses say which covariances.

    .. math::
        p(c = k) = \pi_k, \qquad p(z \mid c = k) = N(z; \mu_k, \Sigma_k)

    Constructed with every component standard normal and equal weights.

    Args:
        clusters: number of components K.
        latent_dim: dimension D of the latent.
        learn_weights: whether the mixture weights are learned; if not, they stay uniform.
        initialization: a name from ``INITIALIZATIONS``; see :meth:`initialize`.
        scale: standard deviation of every component at the start; None takes what the initialisation
            finds in the embedding.

    Raises:
        ValueError: for an unknown initialisation, or a scale that is not positive.

    References:
        Falck et al. (2021), equation 1.
    """

    logits: Tensor
    covariance_type: str  # as scikit-learn names it

    def __init__(
        self,
        clusters: int,
        latent_dim: int,
        *,
        learn_weights: bool = True,
        initialization: Initialization = "mixture",
        scale: float | None = None,
    ) -> None:
        super().__init__(clusters, latent_dim)
        _check_options(initialization, scale)
        self.learn_weights = learn_weights
        self.initialization = initialization
        self.scale = scale
        if learn_weights:
            self.logits = nn.Parameter(torch.zeros(clusters))
        else:
            self.register_buffer("logits", torch.zeros(clusters))
        self.loc = nn.Parameter(torch.zeros(clusters, latent_dim))

    def weights(self) -> dist.Distribution:
        """p(c), categorical over K values."""
        return dist.Categorical(logits=self.logits)

    @abstractmethod
    def set_covariances(self, covariances: np.ndarray) -> None:
        """Take covariances, shape (K, D, D), or (K, D) if they are diagonal, as the components' own."""

    @torch.no_grad()
    def reset(self) -> None:
        """Make every component standard normal and all weights equal."""
        self.logits.zero_()
        self.loc.zero_()
        self.set_covariances(np.ones((self.clusters, self.latent_dim)))

    @torch.no_grad()
    def initialize(self, embedding: np.ndarray, seed: int) -> None:
        """Place the components in an embedding of the data.

        ``"mixture"`` fits means, covariances and weights by expectation maximisation; ``"k-means++"``
        takes as means data that are far from each other, and ``"glorot"`` draws them without looking at
        the data, both with equal weights and, unless ``scale`` says otherwise, with the variances of
        the whole embedding.

        Args:
            embedding: latents, shape (N, D), N >= K.
            seed: of the fit.
        """
        z = embedding.astype(np.float64)
        K, D = self.clusters, self.latent_dim
        weights, covariances = np.full(K, 1 / K), np.tile(z.var(0) + MIN_VARIANCE, (K, 1))
        if self.initialization == "mixture":
            mixture = fit_mixture(z, K, self.covariance_type, seed)
            weights, means, covariances = mixture.weights_, mixture.means_, mixture.covariances_
        elif self.initialization == "k-means++":
            from sklearn.cluster import kmeans_plusplus

            means, _ = kmeans_plusplus(z, K, random_state=seed)
        else:
            means = np.random.default_rng(seed).normal(scale=(2 / (K + D)) ** 0.5, size=(K, D))
        if self.learn_weights:
            self.logits.copy_(torch.from_numpy(np.log(weights)))
        self.loc.copy_(torch.from_numpy(means))
        self.set_covariances(covariances if self.scale is None else np.full((K, D), self.scale**2))


class DiagonalGaussianMixture(GaussianMixturePrior):
    r"""Mixture of Gaussians with diagonal covariance.

    .. math::
        p(z \mid c = k) = N(z; \mu_k, \mathrm{diag}(\sigma_k^2)), \qquad
        \sigma_k = \mathrm{softplus}(s_k) + 10^{-4}

    The arguments are those of :class:`GaussianMixturePrior`.
    """

    covariance_type = "diag"

    def __init__(self, clusters: int, latent_dim: int, **options: Any) -> None:
        super().__init__(clusters, latent_dim, **options)
        self.raw_scale = nn.Parameter(torch.zeros(clusters, latent_dim))
        self.reset()

    def component(self, c: Tensor) -> dist.Distribution:
        """p(z | c): batch shape of ``c``, event shape (D,)."""
        return dist.Normal(self.loc[c], _positive(self.raw_scale)[c]).to_event(1)

    @torch.no_grad()
    def set_covariances(self, covariances: np.ndarray) -> None:
        """Take the components' variances, shape (K, D)."""
        self.raw_scale.copy_(torch.from_numpy(_unconstrained(np.sqrt(covariances))))


class FullGaussianMixture(GaussianMixturePrior):
    r"""Mixture of Gaussians with full covariance.

    .. math::
        p(z \mid c = k) = N(z; \mu_k, L_k L_k^\top), \qquad L_{k,dd} = \mathrm{softplus}(s_{kd}) + 10^{-4}

    with L_k lower triangular. The arguments are those of :class:`GaussianMixturePrior`.
    """

    covariance_type = "full"

    def __init__(self, clusters: int, latent_dim: int, **options: Any) -> None:
        super().__init__(clusters, latent_dim, **options)
        self.raw_scale = nn.Parameter(torch.zeros(clusters, latent_dim))
        self.lower = nn.Parameter(torch.zeros(clusters, latent_dim, latent_dim))
        self.reset()

    def component(self, c: Tensor) -> dist.Distribution:
        """p(z | c): batch shape of ``c``, event shape (D,)."""
        scale_tril = self.lower.tril(-1) + _positive(self.raw_scale).diag_embed()
        return dist.MultivariateNormal(self.loc[c], scale_tril=scale_tril[c])

    @torch.no_grad()
    def set_covariances(self, covariances: np.ndarray) -> None:
        """Take the components' covariances, shape (K, D, D), or variances, shape (K, D)."""
        if covariances.ndim == 2:
            covariances = covariances[:, :, None] * np.eye(self.latent_dim)
        factors = np.linalg.cholesky(covariances)
        self.raw_scale.copy_(torch.from_numpy(_unconstrained(np.diagonal(factors, axis1=1, axis2=2))))
        self.lower.copy_(torch.from_numpy(np.tril(factors, -1)))


def _positive(raw: Tensor) -> Tensor:
    return F.softplus(raw) + MIN_SCALE


def _unconstrained(scale: np.ndarray) -> np.ndarray:
    """Inverse of :func:`_positive`; scales at the bound or below become the smallest above it."""
    excess = np.maximum(scale - MIN_SCALE, 1e-6)
    return excess + np.log(-np.expm1(-excess))


def fit_mixture(
    z: np.ndarray,
    clusters: int,
    covariance_type: str,
    seed: int,
    *,
    min_variance: float = MIN_VARIANCE,
    starts: int = 5,
) -> Any:
    """Expectation maximisation, by scikit-learn; the likeliest of several starts."""
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    mixture = GaussianMixture(
        clusters,
        covariance_type=covariance_type,
        reg_covar=min_variance,
        max_iter=200,
        n_init=starts,
        random_state=seed,
    )
    # One thread: sums in another order would make the same seed give another fit. EM that
    # stops at max_iter is good enough to start from.
    with threadpool_limits(1), _ignore_convergence():
        return mixture.fit(z)


def _ignore_convergence() -> warnings.catch_warnings:
    from sklearn.exceptions import ConvergenceWarning

    return warnings.catch_warnings(action="ignore", category=ConvergenceWarning)


def _check_options(initialization: str, scale: float | None) -> None:
    if initialization not in INITIALIZATIONS:
        raise ValueError(f"initialization: got {initialization!r}, expected one of {INITIALIZATIONS}")
    if scale is not None and not (math.isfinite(scale) and scale > MIN_SCALE):
        raise ValueError(f"scale: got {scale}, expected a number above {MIN_SCALE}, or None")


@dataclass(frozen=True)
class DiagonalGaussian:
    """Recipe of a :class:`DiagonalGaussianMixture`.

    Attributes:
        learn_weights: whether the mixture weights are learned; if not, they stay uniform.
        initialization: ``"mixture"``, ``"k-means++"`` or ``"glorot"``.
        scale: standard deviation of every component at the start; None takes what the initialisation
            finds in the embedding.

    Raises:
        ValueError: for an unknown initialisation, or a scale that is not positive.

    Example:
        >>> prior = DiagonalGaussian(learn_weights=False)(clusters=3, latent_dim=2)
        >>> prior.component(torch.arange(3)).batch_shape
        torch.Size([3])
    """

    learn_weights: bool = True
    initialization: Initialization = "mixture"
    scale: float | None = None

    def __post_init__(self) -> None:
        _check_options(self.initialization, self.scale)

    def __call__(self, clusters: int, latent_dim: int) -> FacetPrior:
        """Build the prior of K = ``clusters`` components in D = ``latent_dim`` dimensions."""
        return DiagonalGaussianMixture(clusters, latent_dim, **asdict(self))


@dataclass(frozen=True)
class FullGaussian(DiagonalGaussian):
    """Recipe of a :class:`FullGaussianMixture`; the attributes are those of :class:`DiagonalGaussian`."""

    def __call__(self, clusters: int, latent_dim: int) -> FacetPrior:
        """Build the prior of K = ``clusters`` components in D = ``latent_dim`` dimensions."""
        return FullGaussianMixture(clusters, latent_dim, **asdict(self))
