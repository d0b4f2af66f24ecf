"""Subspaces of the data to start from: one for each facet, independent of each other, and what they leave."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pyro_mfcvae.priors.estimators import one_thread
from pyro_mfcvae.training.components import independent_components
from pyro_mfcvae.training.grouping import Gains, Groups, assign_groups, merge_groups

Floats = npt.NDArray[np.float64]

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
    U = independent_components(x, max(len(clusters), sum(clusters) - len(clusters)), seed)
    if U.shape[1] < len(clusters) or len(clusters) == 1:
        return [U if U.shape[1] else np.eye(x.shape[1])] * len(clusters)
    s = (x - x.mean(0)) @ U
    return [U[:, list(group)] for group in _best_groups(s, clusters, seed)]


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

    x = np.asarray(x, dtype=np.float64)
    centred = x - x.mean(0)
    U = np.concatenate(list(subspaces), 1)
    with one_thread():
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


def _best_groups(s: Floats, clusters: Sequence[int], seed: int) -> Groups:
    """Choose, of the coordinates s (N, p), those of each facet."""
    gains: Gains = {}
    best: float = -np.inf
    chosen: Groups = ()
    for merge in merge_groups(s):
        if len(merge.groups) < len(clusters):
            break
        taken, total = assign_groups(s, merge.groups, clusters, seed, gains)
        if total > best + MIN_GAIN:
            best, chosen = total, taken
    return chosen
