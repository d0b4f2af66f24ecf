"""Where the components of a mixture start in an embedding of the data."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

Initialization = Literal["mixture", "k-means++", "glorot"]
INITIALIZATIONS: tuple[str, ...] = get_args(Initialization)

MIN_VARIANCE = 1e-4  # added to what is found in an embedding


@dataclass(frozen=True)
class Start:
    """Weights (K,), means (K, D) and covariances, (K, D, D), or (K, D) if they are diagonal."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def sorted(self) -> Start:
        """The heaviest component first."""
        order = np.argsort(-self.weights, kind="stable")
        return Start(self.weights[order], self.means[order], self.covariances[order])


def find_components(
    embedding: np.ndarray,
    clusters: int,
    *,
    initialization: str,
    covariance_type: str,
    concentration: float | None,
    seed: int,
) -> Start:
    """Place K components in an embedding of the data.

    ``"mixture"`` fits means, covariances and weights by expectation maximisation; ``"k-means++"`` takes
    as means data that are far from each other, and ``"glorot"`` draws them without looking at the data,
    both with equal weights and with the variances of the whole embedding.

    Args:
        embedding: latents, shape (N, D), N >= K.
        clusters: number of components K.
        initialization: a name from ``INITIALIZATIONS``.
        covariance_type: ``"full"``, ``"tied"``, ``"diag"`` or ``"spherical"``, as scikit-learn names it.
        concentration: of a Dirichlet process, which ``"mixture"`` fits then, and whose heaviest
            components come first; None is an ordinary mixture.
        seed: of the fit.
    """
    z = embedding.astype(np.float64)
    K, D = clusters, z.shape[1]
    if initialization == "mixture":
        start = _fit_mixture(z, K, covariance_type, concentration, seed)
        return start if concentration is None else start.sorted()
    if initialization == "k-means++":
        from sklearn.cluster import kmeans_plusplus

        means, _ = kmeans_plusplus(z, K, random_state=seed)
    else:
        means = np.random.default_rng(seed).normal(scale=(2 / (K + D)) ** 0.5, size=(K, D))
    return Start(np.full(K, 1 / K), means, np.tile(z.var(0) + MIN_VARIANCE, (K, 1)))


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

    options = _options(covariance_type, min_variance, seed)
    return _fit(GaussianMixture(clusters, max_iter=200, n_init=starts, **options), z)


def _fit_mixture(
    z: np.ndarray, clusters: int, covariance_type: str, concentration: float | None, seed: int
) -> Start:
    """Expectation maximisation, or variational inference for a Dirichlet process."""
    if concentration is None:
        mixture = fit_mixture(z, clusters, covariance_type, seed)
    else:
        from sklearn.mixture import BayesianGaussianMixture

        mixture = BayesianGaussianMixture(
            n_components=clusters,
            weight_concentration_prior_type="dirichlet_process",
            weight_concentration_prior=concentration,
            max_iter=1000,  # clusters empty slowly
            **_options(covariance_type, MIN_VARIANCE, seed),
        )
        _fit(mixture, z)
    covariances = mixture.covariances_
    if covariance_type == "tied":
        covariances = np.tile(covariances, (clusters, 1, 1))
    elif covariance_type == "spherical":
        covariances = np.tile(covariances[:, None], (1, z.shape[1]))
    return Start(mixture.weights_, mixture.means_, covariances)


def _options(covariance_type: str, min_variance: float, seed: int) -> dict[str, Any]:
    return {"covariance_type": covariance_type, "reg_covar": min_variance, "random_state": seed}


def _fit(mixture: Any, z: np.ndarray) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    # One thread: sums in another order would make the same seed give another fit. A fit that
    # stops at max_iter is good enough to start from.
    with threadpool_limits(1), warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        return mixture.fit(z)
