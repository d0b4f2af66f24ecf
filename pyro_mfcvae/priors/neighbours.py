r"""Clusters of any shape: the groups of a graph that joins each datum to its nearest neighbours.

The graph has weights :math:`A_{nm}`: 1 where n and m are neighbours of each other, 1/2 where one is the
other's. With :math:`W_{kl}` the weight between clusters, and :math:`d_k = \sum_l W_{kl}`, all divided by
the total weight, a partition is good if one end of an edge tells much of the other:

.. math:: I = \sum_{kl} W_{kl} \log \frac{W_{kl}}{d_k d_l}

It is looked for from several starts. Each cuts the data into many small pieces by k-means, joins the two
pieces with the largest :math:`W_{kl} / d_k d_l` while there are more than K, which is blind to their sizes,
and then moves single data to where most of their neighbours are. The best partition is crossed with each
other one, and what both have in common are pieces again.

References:
    T. Bonald, B. Charpentier, A. Galland, A. Hollocou (2018). Hierarchical graph clustering using node pair
    sampling. M. Ovelgönne, A. Geyer-Schulz (2012). An ensemble learning strategy for graph clustering.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyro_mfcvae.priors.estimators import k_means, one_thread

if TYPE_CHECKING:
    from scipy import sparse

NEIGHBOURS = 15
PIECES = 20  # for each cluster, with at least so many data each:
PIECE_SIZE = 5
MAX_PIECES = 2_000  # whose weights are a dense matrix
STARTS = 8
STARTS_TIMES_CLUSTERS = 1_600  # fewer starts for many clusters, down to one
SWEEPS = 5  # over all data
NO_EDGE = 1e-6  # weight between groups without an edge: of these, the smallest are joined first


def neighbour_labels(z: np.ndarray, clusters: int, seed: int) -> np.ndarray | None:
    """Find K clusters in the graph of nearest neighbours.

    Args:
        z: data, shape (N, D).
        clusters: number of clusters K.
        seed: seed of the starts.

    Returns:
        Labels, shape (N,), each of 0, ..., K - 1 at least once; None if there are too few distinct data
        for several pieces of a cluster, or more clusters than ``MAX_PIECES``.
    """
    N, K = len(z), clusters
    pieces = min(PIECES * K, N // PIECE_SIZE, MAX_PIECES)
    if K == 1:
        return np.zeros(N, int)
    if pieces <= K:
        return None
    graph = neighbour_graph(z)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(max(1, min(STARTS, STARTS_TIMES_CLUSTERS // K))):
        cut, _centres = k_means(z, pieces, int(rng.integers(2**31)))
        if len(np.unique(cut)) < K:
            return None
        found.append(_join(graph, cut, K, rng))
    found.sort(key=lambda scored: -scored[0])  # stable: ties keep their order
    best = found[0]
    for _, other in found[1:]:
        crossed = best[1] * K + other
        if len(np.unique(crossed)) <= MAX_PIECES:
            best = max(best, _join(graph, crossed, K, rng), key=lambda scored: scored[0])
    return best[1]


def neighbour_graph(z: np.ndarray) -> sparse.csr_array:
    """Join each datum to its nearest others.

    Args:
        z: data, shape (N, D), N >= 2.

    Returns:
        Weights, shape (N, N), with nothing on the diagonal: 1 where two data are neighbours of each other,
        1/2 where one is the other's.
    """
    from scipy import sparse
    from sklearn.neighbors import NearestNeighbors

    with one_thread():
        count = min(NEIGHBOURS, len(z) - 1)
        directed = sparse.csr_array(NearestNeighbors(n_neighbors=count).fit(z).kneighbors_graph())
    return sparse.csr_array((directed + directed.T) / 2)


def _join(
    graph: sparse.csr_array, pieces: np.ndarray, clusters: int, rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    """Join pieces (N,) to clusters and move single data; return the information I and labels (N,)."""
    _, pieces = np.unique(pieces, return_inverse=True)
    labels = _merge(_between(graph, pieces), clusters)[pieces]
    labels = _move(graph, labels, clusters, rng)
    joint = _between(graph, labels) / graph.sum()
    independent = np.outer(joint.sum(1), joint.sum(1))
    linked = joint > 0
    return float((joint[linked] * np.log(joint[linked] / independent[linked])).sum()), labels


def _indicators(labels: np.ndarray, size: int) -> sparse.csr_array:
    """Return ones at each datum's label, shape (N, size)."""
    from scipy import sparse

    N = len(labels)
    return sparse.csr_array((np.ones(N), (np.arange(N), labels)), shape=(N, size))


def _between(graph: sparse.csr_array, labels: np.ndarray) -> np.ndarray:
    """Return the weights between M groups, shape (M, M); those within one are counted twice."""
    groups = _indicators(labels, labels.max() + 1)
    weights: np.ndarray = (groups.T @ graph @ groups).toarray()
    return weights


def _merge(weights: np.ndarray, clusters: int) -> np.ndarray:
    """Join the two of M groups that have the most edges for their sizes, until K are left; labels (M,)."""
    M = len(weights)
    weights, degree, labels = weights + NO_EDGE, weights.sum(1), np.arange(M)
    closeness = weights / np.outer(degree, degree)
    np.fill_diagonal(closeness, 0)
    partner, best = closeness.argmax(1), closeness.max(1)  # of each group
    for _ in range(M - clusters):
        i = int(best.argmax())
        j = int(partner[i])
        labels[labels == j] = i
        weights[i] += weights[j]
        weights[:, i] += weights[:, j]
        degree[i] += degree[j]
        closeness[i] = np.where(closeness[i] > 0, weights[i] / (degree[i] * degree), 0)
        closeness[j] = closeness[:, j] = closeness[i, j] = 0  # what is joined is no partner any more
        closeness[:, i] = closeness[i]
        closer = closeness[i] > best
        partner[closer], best[closer] = i, closeness[i, closer]
        stale = np.flatnonzero((partner == i) | (partner == j))
        stale = np.union1d(stale, (i, j))
        partner[stale], best[stale] = closeness[stale].argmax(1), closeness[stale].max(1)
    return np.unique(labels, return_inverse=True)[1]


def _move(graph: sparse.csr_array, labels: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Move data to where most of their neighbours are, a quarter of all data at a time."""
    quarters = [(rows, graph[rows]) for rows in np.array_split(rng.permutation(len(labels)), 4)]
    for _ in range(SWEEPS):
        before = labels
        for rows, edges in quarters:
            moved = labels.copy()
            moved[rows] = (edges @ _indicators(labels, clusters)).toarray().argmax(1)
            if np.bincount(moved, minlength=clusters).min() == 0:
                return labels
            labels = moved
        if np.array_equal(labels, before):
            break
    return labels
