"""Start of a mixture: its components in an embedding of the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from pyro_mfcvae.priors.estimators import fit_estimator, k_means

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

Initialization = Literal["mixture", "neighbours", "k-means++", "glorot", "untrained"]
INITIALIZATIONS: tuple[str, ...] = get_args(Initialization)

MIN_VARIANCE = 1e-4  # added to what is found in an embedding
UNTRAINED_MIN_VARIANCE = 1e-6  # likewise, where the encoder has not yet spread its means
# Responsibilities, N x K, up to which a mixture is fitted by expectation maximisation: 500 clusters of
# 20,000 data. One of 10,000 clusters would take hours and gigabytes.
EM_SIZE = 10_000_000
STARTS, STARTS_SIZE = (5, 20), 10_000  # starts at least and at most; data in all of them, between these
NEIGHBOURS_SIZE = 20_000  # data, or a few for each cluster, whose neighbours are looked for
DATA_PER_CLUSTER = 5  # in the embedding, where there are many clusters


@dataclass(frozen=True)
class MixtureInit:
    """Weights (K,), means (K, D) and covariances, (K, D, D), or (K, D) if they are diagonal."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def sorted(self) -> MixtureInit:
        """Return the same components, the heaviest first."""
        order = np.argsort(-self.weights, kind="stable")
        return MixtureInit(self.weights[order], self.means[order], self.covariances[order])


def find_components(
    embedding: np.ndarray,
    clusters: int,
    *,
    initialization: str,
    covariance_type: str,
    concentration: float | None,
    seed: int,
) -> MixtureInit:
    """Place K components in an embedding of the data.

    ``"mixture"`` fits means, covariances and weights by expectation maximisation, or, where N K is above
    ``EM_SIZE``, takes those of the clusters of k-means. ``"neighbours"`` takes those of the clusters of a
    graph of nearest neighbours, which may be bent, or of k-means where there are too few data for it; see
    :mod:`pyro_mfcvae.priors.neighbours`. ``"k-means++"`` takes as means data that are far
    from each other, and ``"glorot"`` draws them without looking at the data, both with equal weights and
    with the variances of the whole embedding. ``"untrained"`` is the start of the paper's code, made once
    before any training, from the means of q(z | x) of the networks as they are then: means and variances
    of a diagonal mixture, fitted from one start, and equal weights.

    Args:
        embedding: latents, shape (N, D), N >= K.
        clusters: number of components K.
        initialization: a name from ``INITIALIZATIONS``.
        covariance_type: ``"full"``, ``"tied"``, ``"diag"`` or ``"spherical"``, as scikit-learn names it.
        concentration: that of a Dirichlet process, which ``"mixture"`` fits then; the heaviest components
            of ``"mixture"`` and ``"neighbours"`` come first. None is an ordinary mixture.
        seed: seed of the fit.

    Returns:
        Positive weights, and positive definite covariances.
    """
    z = embedding.astype(np.float64)
    K, D = clusters, z.shape[1]
    if initialization == "mixture":
        if len(z) * K > EM_SIZE:
            start = _partition(z, K, covariance_type, seed)
        else:
            start = _fit_mixture(z, K, covariance_type, concentration, seed)
        return start if concentration is None else start.sorted()
    if initialization == "neighbours":
        start = _groups(z, K, covariance_type, seed)
        return start if concentration is None else start.sorted()
    if initialization == "untrained":
        found = fit_mixture(z, K, "diag", seed, min_variance=UNTRAINED_MIN_VARIANCE, starts=1)
        return MixtureInit(np.full(K, 1 / K), found.means_, found.covariances_)
    if initialization == "k-means++":
        from sklearn.cluster import kmeans_plusplus

        means, _ = kmeans_plusplus(z, K, random_state=seed)
    else:
        means = np.random.default_rng(seed).normal(scale=(2 / (K + D)) ** 0.5, size=(K, D))
    return MixtureInit(np.full(K, 1 / K), means, np.tile(z.var(0) + MIN_VARIANCE, (K, 1)))


def embedding_size(clusters: int, at_least: int) -> int:
    """Return the number of data to find K clusters in: a few for each, where there are many clusters.

    Args:
        clusters: number of clusters K.
        at_least: smallest number of data, for any K.
    """
    return max(at_least, DATA_PER_CLUSTER * clusters)


def fit_mixture(
    z: np.ndarray,
    clusters: int,
    covariance_type: str,
    seed: int,
    *,
    min_variance: float = MIN_VARIANCE,
    starts: int | None = None,
) -> GaussianMixture:
    """Fit a mixture by scikit-learn's expectation maximisation; the likeliest of several starts.

    Few data cost little, and mislead more often: where no number is given, they get more starts.
    """
    from sklearn.mixture import GaussianMixture

    starts = starts or int(np.clip(STARTS_SIZE // len(z), *STARTS))
    options = _options(covariance_type, min_variance, seed)
    return fit_estimator(GaussianMixture(clusters, max_iter=200, n_init=starts, **options), z)


def _fit_mixture(
    z: np.ndarray, clusters: int, covariance_type: str, concentration: float | None, seed: int
) -> MixtureInit:
    """Fit a mixture by expectation maximisation, or that of a Dirichlet process by variational inference."""
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
        fit_estimator(mixture, z)
    covariances = mixture.covariances_
    if covariance_type == "tied":
        covariances = np.tile(covariances, (clusters, 1, 1))
    elif covariance_type == "spherical":
        covariances = np.tile(covariances[:, None], (1, z.shape[1]))
    return MixtureInit(mixture.weights_, mixture.means_, covariances)


def _partition(z: np.ndarray, clusters: int, covariance_type: str, seed: int) -> MixtureInit:
    """Find the clusters of k-means, in time O(N K D), and their moments."""
    labels, centres = k_means(z, clusters, seed)
    return _moments(z, labels, centres, covariance_type)


def _groups(z: np.ndarray, clusters: int, covariance_type: str, seed: int) -> MixtureInit:
    """Find the clusters of the graph of nearest neighbours, and their moments in the latent space."""
    from pyro_mfcvae.priors.neighbours import neighbour_labels

    size = embedding_size(clusters, NEIGHBOURS_SIZE)
    if len(z) > size:
        z = z[np.random.default_rng(seed).choice(len(z), size, replace=False)]
    labels = neighbour_labels(z, clusters, seed)
    if labels is None:
        return _partition(z, clusters, covariance_type, seed)
    means = np.stack([np.bincount(labels, column, clusters) for column in z.T], 1)
    start = _moments(z, labels, means / np.bincount(labels)[:, None], covariance_type)
    # A cluster of many equal data would have next to no variance.
    least = MIN_VARIANCE * (np.eye(z.shape[1]) if start.covariances.ndim == 3 else 1)
    return MixtureInit(start.weights, start.means, start.covariances + least)


def _moments(z: np.ndarray, labels: np.ndarray, means: np.ndarray, covariance_type: str) -> MixtureInit:
    r"""Compute weights and covariances of clusters.

    .. math::
        \pi_k = \frac{n_k + 1}{N + K}, \qquad
        \Sigma_k = \frac{\sum_{n \in k} (z_n - \mu_k)(z_n - \mu_k)^\top + (D + 1)\, \Sigma}{n_k + D + 1}

    with the pooled covariance within clusters, :math:`\Sigma`, where a cluster has too few data for its own.
    """
    (N, D), clusters = z.shape, len(means)
    counts = np.bincount(labels, minlength=clusters)
    residuals = (z - means[labels])[np.argsort(labels, kind="stable")]
    are_full = covariance_type in ("full", "tied")
    scatter = np.stack(
        [r.T @ r if are_full else (r * r).sum(0) for r in np.split(residuals, counts.cumsum()[:-1])]
    )
    pooled = scatter.sum(0) / max(N - clusters, 1) + MIN_VARIANCE * (np.eye(D) if are_full else 1)
    if covariance_type == "tied":
        covariances = np.tile(pooled, (clusters, 1, 1))
    else:
        n = counts.reshape(-1, *(1,) * pooled.ndim)
        covariances = (scatter + (D + 1) * pooled) / (n + D + 1)
    if covariance_type == "spherical":
        covariances = np.tile(covariances.mean(1, keepdims=True), (1, D))
    return MixtureInit((counts + 1) / (N + clusters), means, covariances)


def _options(covariance_type: str, min_variance: float, seed: int) -> dict[str, str | float]:
    return {"covariance_type": covariance_type, "reg_covar": min_variance, "random_state": seed}
