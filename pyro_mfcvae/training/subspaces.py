"""Subspaces of the data to start from: one for each facet, independent of each other, and what they leave."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MAX_DIMENSIONS = 30  # of all subspaces together
MIXTURE_SIZE = 1_000  # data that mixtures are fitted to
MAX_CLUSTERS = 200  # of those mixtures: more cannot be told apart with so few data
MIN_VARIANCE = 0.01  # added to a component's, of coordinates with a variance of one
BINS = 8  # of a coordinate, to estimate mutual information
MIN_GAIN = 0.1  # nats per datum that a coarser grouping must be better by


def independent_subspaces(x: npt.ArrayLike, clusters: Sequence[int], seed: int = 0) -> list[Floats]:
    r"""Independent subspace analysis: for each facet directions whose coordinates are its own.

    The centres of K_j clusters span at most K_j - 1 dimensions, so the search is among the
    :math:`\sum_j (K_j - 1)` first principal components. Their independent components are grouped by how
    much they depend on each other; of all groupings from fine to coarse, and of all ways to give groups
    to facets, the one is taken under which the data are most probable, where facet j's group has a
    mixture of K_j Gaussians (at most ``MAX_CLUSTERS``) and what no facet takes has one Gaussian.

    Args:
        x: data, shape (N, D), N >= K_j.
        clusters: K_j of each facet.
        seed: seed of the search.

    Returns:
        U_j, shape (D, p_j), for each facet: the coordinates U_j' x have a variance of one, and those of
        different facets are about independent. A single facet gets all components, and so does every
        facet where there are fewer of them than facets.

    References:
        Cardoso (1998), Multidimensional Independent Component Analysis; Hyvärinen, Oja (2000),
        Independent Component Analysis: Algorithms and Applications.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.integers(0, 2, (1000, 2)) @ np.array([[1.0, 1.0], [-2.0, 1.0]])
        >>> [u.shape for u in independent_subspaces(x, (2, 2))]
        [(2, 1), (2, 1)]
    """
    x = np.asarray(x, dtype=np.float64)
    U = _independent_components(x, max(len(clusters), sum(clusters) - len(clusters)), seed)
    if U.shape[1] < len(clusters) or len(clusters) == 1:
        return [U if U.shape[1] else np.eye(x.shape[1])] * len(clusters)
    s = (x - x.mean(0)) @ U
    return [U[:, group] for group in _best_groups(s, clusters, seed)]


def residual_subspace(
    x: npt.ArrayLike, subspaces: Sequence[Floats], dimensions: int, seed: int = 0
) -> Floats:
    r"""Find what subspaces leave of the data: directions whose coordinates do not correlate with theirs.

    .. math::
        R = X - S B, \qquad S = X U, \qquad B = (S^\top S)^{-1} S^\top X

    for centred data X and all given directions U side by side. The principal components of R are functions
    of x alone, :math:`R v = X (I - U B) v`, and it is the first of these that are returned.

    Args:
        x: data, shape (N, D).
        subspaces: U_j, shape (D, p_j).
        dimensions: number of directions, at most.
        seed: seed of the search for principal components of very many dimensions.

    Returns:
        Directions, shape (D, p), p <= ``dimensions``, whose coordinates have a variance of one; p = 0 where
        nothing is left.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 3))
        >>> u = residual_subspace(x, [np.eye(3)[:, :1]], 1)
        >>> bool(abs(np.cov((x @ u)[:, 0], x[:, 0])[0, 1]) < 1e-9)
        True
    """
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    x = np.asarray(x, dtype=np.float64)
    centred = x - x.mean(0)
    U = np.concatenate(list(subspaces), 1)
    with threadpool_limits(1):  # for the same sums in the same order
        coordinates = centred @ U  # (N, P)
        B = np.linalg.lstsq(coordinates, centred, rcond=None)[0]  # (P, D)
        residual = centred - coordinates @ B
        nothing = 1e-6 * centred.std(0).max()
        if not (residual.std(0) > nothing).any():
            return np.empty((x.shape[1], 0))
        pca = PCA(min(dimensions, *x.shape), random_state=seed).fit(residual)
        deviations = np.sqrt(pca.explained_variance_)
        found = deviations > nothing
        axes = pca.components_[found].T / deviations[found]
        directions: Floats = axes - U @ (B @ axes)
    return directions


def _independent_components(x: Floats, p: int, seed: int) -> Floats:
    """At most p directions, (D, p)."""
    from sklearn.decomposition import PCA, FastICA
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    if not np.ptp(x, axis=0).any():  # constant
        return np.empty((x.shape[1], 0))
    p = min(p, MAX_DIMENSIONS, *x.shape)
    # One thread, for the same sums in the same order; a search that has not ended is good enough.
    with threadpool_limits(1), warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        pca = PCA(p, random_state=seed).fit(x)
        deviations = np.sqrt(pca.explained_variance_)
        found = deviations > 1e-6 * deviations.max()
        axes: Floats = pca.components_[found].T / deviations[found]  # (D, p), which whiten
        if axes.shape[1] < 2:
            return axes
        ica = FastICA(whiten=False, max_iter=500, tol=1e-3, random_state=seed)
        turned: Floats = axes @ ica.fit((x - pca.mean_) @ axes).components_.T
        return turned


def _best_groups(s: Floats, clusters: Sequence[int], seed: int) -> list[list[int]]:
    """Of the coordinates s (N, p), those of each facet."""
    from scipy.optimize import linear_sum_assignment

    dependence = _dependence(s)
    sizes = [min(K, MAX_CLUSTERS) for K in clusters]
    groups = [[i] for i in range(s.shape[1])]
    gains: dict[tuple[Any, ...], float] = {}
    best, chosen = -np.inf, groups
    while len(groups) >= len(clusters):
        for K in sizes:
            for group in groups:
                if (K, *group) not in gains:
                    gains[K, *group] = _gain(s[:MIXTURE_SIZE, group], K, seed)
        table = np.array([[gains[K, *group] for group in groups] for K in sizes])
        facets, taken = linear_sum_assignment(-table)
        total = table[facets, taken].sum()
        if total > best + MIN_GAIN:
            best, chosen = total, [groups[i] for i in taken]
        groups = _merge(groups, dependence)
    return chosen


def _dependence(s: Floats) -> Floats:
    """Measure how much every two coordinates depend on each other, alone or given a third, (p, p).

    The corners of a tetrahedron have coordinates of which every two are independent, and the third is
    the product of both: only their third cumulant tells.
    """
    N, p = s.shape
    third = np.stack([(s * s[:, [k]]).T @ s / N for k in range(p)], -1) ** 2  # (p, p, p)
    third[np.arange(p), :, np.arange(p)] = third[:, np.arange(p), np.arange(p)] = 0
    dependence: Floats = third.sum(-1)
    for i in range(p):
        for k in range(i):
            information = _mutual_information(s[:, i], s[:, k])
            dependence[i, k] += information
            dependence[k, i] += information
    return dependence


def _mutual_information(a: Floats, b: Floats) -> float:
    """In nats, of two coordinates (N,)."""
    joint = np.histogram2d(a, b, BINS)[0] / len(a)
    product = joint.sum(1, keepdims=True) * joint.sum(0)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / product[seen])).sum())


def _gain(s: Floats, K: int, seed: int) -> float:
    """Measure how much more probable the coordinates s (N, p) are under K Gaussians than under one."""
    from pyro_mfcvae.priors.initialization import fit_mixture

    if K == 1:
        return 0.0
    mixtures = [fit_mixture(s, k, "full", seed, min_variance=MIN_VARIANCE, starts=2) for k in (K, 1)]
    return float(mixtures[0].lower_bound_ - mixtures[1].lower_bound_)


def _merge(groups: list[list[int]], dependence: Floats) -> list[list[int]]:
    """Make one group of the two that depend most on each other."""
    if len(groups) == 1:
        return []
    pairs = [(a, b) for a in range(len(groups)) for b in range(a)]
    a, b = max(pairs, key=lambda pair: dependence[np.ix_(groups[pair[0]], groups[pair[1]])].mean())
    others = [group for i, group in enumerate(groups) if i not in (a, b)]
    return [*others, sorted(groups[a] + groups[b])]
