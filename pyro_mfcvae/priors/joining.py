"""The joining of clusters: pairs are joined greedily, by one of two criteria."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyro_mfcvae.priors.initialization import fit_mixture
from pyro_mfcvae.priors.neighbours import neighbour_graph

Array = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.int64]

SEPARATION = 0.025  # misclassification probability of clusters that are apart
COMPONENTS = 20  # of few, those of one curved cluster would be apart
MIN_SHARE = 0.2  # of a component's data, that a cluster has
DATA_PER_COMPONENT = 40  # at least, where clusters are counted: with fewer, chance makes gaps
MIN_VARIANCE = 5e-3  # of a component, for data with a variance of one


@dataclass(frozen=True)
class Joins:
    """Joins of M clusters down to a single one.

    Attributes:
        order: M - 1 pairs; the higher number of a pair is joined to the lower one, and disappears.
        values: criterion of the partitions into M, M - 1, ..., 1 clusters.
    """

    order: tuple[tuple[int, int], ...]
    values: tuple[float, ...]

    def partition(self, number: int) -> Integers:
        """Number which of the M clusters are together when so many are left: integers (M,)."""
        kept = np.arange(len(self.values))
        for i, j in self.order[: len(self.values) - number]:
            kept[kept == j] = i
        return numbered(kept)


def count_clusters(z: Array, most: int, seed: int) -> int:
    """Count the clusters of :func:`separate_clusters`: from 1 to ``most``."""
    return max(1, min(most, int(separate_clusters(z, most, seed).max()) + 1))


def separate_clusters(z: Array, most: int, seed: int) -> Integers:
    """Find clusters that are apart from each other, whatever their shape.

    A mixture of ``most`` Gaussians, or ``COMPONENTS`` if that is more, is fitted. Two components of which one
    is taken for the other with a probability of ``SEPARATION`` are of one cluster, and so are chains of them:
    the pieces of a curved cluster run into each other, and count once. The probabilities are those of the
    components, since those of what was joined fall with its size: two halves of a ring meet at their ends
    only. What is much smaller than a component is an outlier, and not numbered.

    Args:
        z: data, shape (N, D), with a variance of one in every direction.
        most: number of components, at least; with less than ``DATA_PER_COMPONENT`` data for each, fewer.
        seed: seed of the mixture.

    Returns:
        The number of the cluster of each datum, shape (N,); -1 for outliers.

    References:
        Hennig (2010), as :func:`by_misclassification`.
    """
    from scipy.sparse.csgraph import connected_components

    components = max(1, min(max(most, COMPONENTS), len(z) // DATA_PER_COMPONENT))
    mixture = fit_mixture(z, components, "full", seed, min_variance=MIN_VARIANCE, starts=1)
    r = mixture.predict_proba(z)
    used = np.unique(r.argmax(1))
    r = r[:, used] / r[:, used].sum(1, keepdims=True)
    _, labels = connected_components(misclassification(r)[1] >= SEPARATION)
    taken = labels[r.argmax(1)]
    is_cluster = np.bincount(taken) >= MIN_SHARE * len(z) / components
    numbers = np.where(is_cluster, np.cumsum(is_cluster) - 1, -1)
    return np.asarray(numbers[taken], np.int64)


def by_modularity(z: Array, r: Array) -> Joins:
    r"""Join those clusters whose data are neighbours more often than by chance.

    .. math::
        Q = \sum_k \frac{e_{kk}}{e} - \Bigl(\frac{e_k}{e}\Bigr)^2, \quad
        e_{kl} = \sum_{nm} r_{nk} A_{nm} r_{ml}, \quad e_k = \sum_l e_{kl}, \quad e = \sum_k e_k

    A is the graph of the nearest neighbours of the data, and the soft clusters are its super-nodes. Each
    join is that of the highest Q.

    Args:
        z: latents (N, D).
        r: probabilities of M clusters (N, M).

    Raises:
        ValueError: for a single datum.

    References:
        Newman and Girvan (2004), Finding and evaluating community structure in networks; Clauset, Newman
        and Moore (2004), Finding community structure in very large networks.
    """
    if len(z) < 2:
        raise ValueError("x: got 1 datum, expected at least 2, of which one can be the other's neighbour")
    graph, r = neighbour_graph(z), r.astype(np.float64)
    edges = r.T @ (graph @ r)
    return _greedy(edges / edges.sum(), len(edges), modularity, _join_nodes)


def by_misclassification(r: Array) -> Joins:
    r"""Join those clusters whose data are most often taken for the other's.

    .. math::
        p_{l|k} = \frac{\sum_n r_{nk} [l = \arg\max_m r_{nm}]}{\sum_n r_{nk}}

    The larger of the two probabilities of a pair counts.

    Args:
        r: probabilities of M clusters (N, M).

    References:
        Hennig (2010), Methods for merging Gaussian mixture components: directly estimated misclassification
        probabilities (DEMP).
    """
    return _greedy(r.astype(np.float64), r.shape[1], misclassification, _join_columns)


def modularity(shares: Array) -> tuple[float, Array]:
    """Compute the modularity of shares of edges (m, m), and by how much each join raises it, (m, m)."""
    degrees = shares.sum(0)
    return float(np.trace(shares) - degrees @ degrees), 2 * (shares - np.outer(degrees, degrees))


def misclassification(r: Array) -> tuple[float, Array]:
    """Estimate from probabilities (N, m) the highest misclassification probability, and all, (m, m)."""
    m = r.shape[1]
    taken = summed(r.T, r.argmax(1), m)  # of the mass of k (rows) what is taken for l
    p = taken / r.sum(0)[:, None]
    p = np.maximum(p, p.T)
    np.fill_diagonal(p, 0)
    return float(p.max()), p


def summed(values: Array, groups: Integers, number: int | None = None) -> Array:
    """Add up columns of values (N, C) that are in the same group (C,): (N, number of groups)."""
    from scipy.sparse import csr_array

    number = int(groups.max()) + 1 if number is None else number
    C = len(groups)
    indicator = csr_array((np.ones(C, values.dtype), (groups, np.arange(C))), shape=(number, C))
    sums: Array = (indicator @ values.T).T
    return sums


def _greedy(
    state: Array,
    M: int,
    judge: Callable[[Array], tuple[float, Array]],
    join_pair: Callable[[Array, int, int], Array],
) -> Joins:
    """Join the pair of the highest gain, of equals the first, until one cluster is left."""
    names = list(range(M))
    order: list[tuple[int, int]] = []
    values: list[float] = []
    while True:
        value, gains = judge(state)
        values.append(value)
        if len(names) == 1:
            return Joins(tuple(order), tuple(values))
        gains[np.tri(len(names), dtype=bool)] = -np.inf
        i, j = divmod(int(gains.argmax()), len(names))
        order.append((names[i], names.pop(j)))
        state = join_pair(state, i, j)


def _join_nodes(shares: Array, i: int, j: int) -> Array:
    return _join_columns(_join_columns(shares, i, j).T, i, j)


def _join_columns(values: Array, i: int, j: int) -> Array:
    joined: Array = np.delete(values, j, 1)
    joined[:, i] += values[:, j]
    return joined


def numbered(groups: Sequence[int] | Integers) -> Integers:
    """Number groups 0, 1, ... in the order of their first members."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[inverse])
