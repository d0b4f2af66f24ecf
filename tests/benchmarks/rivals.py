"""Other ways to cluster data J times, to compare with: each is (x, clusters, seed) -> labels (N, J).

Columns in different units should be standardised first, as all but the mixture go by distance.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import ortho_group
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.mixture import GaussianMixture

Labels = npt.NDArray[np.int64]
RESTARTS = 10
STEPS = 100


def k_means(x: npt.ArrayLike, clusters: Sequence[int], seed: int = 0) -> Labels:
    """Cluster all columns by k-means, for each number of clusters anew: nothing keeps the answers apart."""
    x = np.asarray(x, dtype=np.float64)
    found = [KMeans(K, n_init=RESTARTS, random_state=seed + j).fit_predict(x) for j, K in enumerate(clusters)]
    return np.stack(found, axis=1).astype(np.int64)


def gaussian_mixture(x: npt.ArrayLike, clusters: Sequence[int], seed: int = 0) -> Labels:
    """Cluster all columns by mixtures with full covariances, for each number of clusters anew."""
    x = np.asarray(x, dtype=np.float64)
    found = []
    for j, K in enumerate(clusters):
        mixture = GaussianMixture(K, n_init=3, reg_covar=1e-6 * x.var(), random_state=seed + j)
        found.append(mixture.fit_predict(x))
    return np.stack(found, axis=1).astype(np.int64)


def non_redundant_k_means(x: npt.ArrayLike, clusters: Sequence[int], seed: int = 0) -> Labels:
    r"""Cluster by k-means in J orthogonal subspaces, and leave the rest of the space without clusters.

    Minimises, over a rotation V split into the subspaces' axes V_j (D, D_j), labels and centres,

        \sum_{j=0}^{J} \sum_n |V_j^T (x_n - m_{j, y_nj})|^2,    K_J = 1,

    by turns: a step of k-means in every subspace, and then for every two of them the directions of both
    are divided anew, by the sign of the eigenvalues of the difference of their scatters. The best of some
    starts. Source: Mautz et al., "Discovering non-redundant k-means clusterings in optimal subspaces",
    KDD 2018.

    Args:
        x: data (N, D).
        clusters: number of clusters of each subspace.
        seed: seed of the starts.
    """
    x = np.asarray(x, dtype=np.float64)
    rng = np.random.default_rng(seed)
    runs = [_from_one_start(x, (*clusters, 1), rng) for _ in range(RESTARTS)]
    return min(runs, key=lambda run: run[0])[1][:, :-1]


def _from_one_start(x, clusters, rng) -> tuple[float, Labels]:
    """Return the cost that a start leads to, and its labels (N, J + 1)."""
    seed = int(rng.integers(2**31))
    axes = np.array_split(ortho_group.rvs(x.shape[1], random_state=seed), len(clusters), axis=1)
    centres = [kmeans_plusplus(x, K, random_state=seed + j)[0] for j, K in enumerate(clusters)]
    labels = np.full((len(x), len(clusters)), -1)
    for _ in range(STEPS):
        old = labels
        labels = np.stack([_nearest(x @ V, m @ V) for m, V in zip(centres, axes, strict=True)], axis=1)
        scatters = []
        for m, y in zip(centres, labels.T, strict=True):
            for k in np.unique(y):
                m[k] = x[y == k].mean(0)
            scatters.append((x - m[y]).T @ (x - m[y]))
        if (labels == old).all():
            break
        for i, j in itertools.combinations(range(len(clusters)), 2):
            both = np.concatenate([axes[i], axes[j]], axis=1)
            values, vectors = np.linalg.eigh(both.T @ (scatters[i] - scatters[j]) @ both)
            # Clusters explain a little of anything: what they do not explain is left to the rest.
            mine = values < -1e-9 * np.trace(scatters[-1])
            axes[i], axes[j] = both @ vectors[:, mine], both @ vectors[:, ~mine]
    return sum(np.trace(V.T @ S @ V) for V, S in zip(axes, scatters, strict=True)), labels


def _nearest(x, centres) -> Labels:
    """Number of the nearest centre of each datum; 0 where there are no dimensions left."""
    return ((x[:, None] - centres) ** 2).sum(-1).argmin(1)


def _clustpy(x: npt.ArrayLike, clusters: Sequence[int], seed: int = 0) -> Labels:
    """Cluster by the authors' non-redundant k-means, from ClustPy: the best of some starts by its cost."""
    from clustpy.alternative import NrKmeans

    x = np.asarray(x, dtype=np.float64)
    labels = NrKmeans([*clusters, 1], n_init=RESTARTS, random_state=seed).fit(x).labels_
    found = np.zeros((len(x), len(clusters)), dtype=np.int64)  # it drops a subspace that gets no dimension
    kept = min(labels.shape[1], len(clusters))
    found[:, :kept] = labels[:, :kept]
    return found


RIVALS: dict[str, Callable[[npt.ArrayLike, Sequence[int], int], Labels]] = {
    "k-means": k_means,
    "Gaussian mixture": gaussian_mixture,
    "non-redundant k-means": non_redundant_k_means,
}
if importlib.util.find_spec("clustpy"):
    RIVALS["non-redundant k-means, ClustPy"] = _clustpy
