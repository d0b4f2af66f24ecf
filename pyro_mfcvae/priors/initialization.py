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


def _fit_mixture(
    z: np.ndarray, clusters: int, covariance_type: str, concentration: float | None, seed: int
) -> Start:
    """Expectation maximisation, or variational inference for a Dirichlet process, by scikit-learn."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
    from threadpoolctl import threadpool_limits

    options: dict[str, Any] = {
        "covariance_type": covariance_type,
        "reg_covar": MIN_VARIANCE,
        "random_state": seed,
    }
    if concentration is None:
        mixture = GaussianMixture(clusters, max_iter=200, n_init=5, **options)  # the likeliest of five
    else:
        mixture = BayesianGaussianMixture(
            n_components=clusters,
            weight_concentration_prior_type="dirichlet_process",
            weight_concentration_prior=concentration,
            max_iter=1000,  # clusters empty slowly
            **options,
        )
    # One thread: sums in another order would make the same seed give another fit. A fit that
    # stops at max_iter is good enough to start from.
    with threadpool_limits(1), warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        mixture.fit(z)
    covariances = mixture.covariances_
    if covariance_type == "tied":
        covariances = np.tile(covariances, (clusters, 1, 1))
    elif covariance_type == "spherical":
        covariances = np.tile(covariances[:, None], (1, z.shape[1]))
    return Start(mixture.weights_, mixture.means_, covariances)
