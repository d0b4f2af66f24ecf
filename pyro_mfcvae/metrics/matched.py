"""Clusters and classes matched one to one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyro_mfcvae.metrics.contingency import Contingency, Counts
from pyro_mfcvae.metrics.inputs import Integers, pair

MAX_CELLS = 2**27  # of a table with all of its cells, 1 GiB


@dataclass(frozen=True, eq=False)
class MatchedConfusion:
    """Counts of K clusters and L classes, so ordered that matched ones are on the diagonal.

    Attributes:
        counts: data of every cluster and class, int64 (K, L). Of the first min(K, L) clusters and
            classes, the i-th are matched with each other; clusters or classes that are left over follow.
        clusters: names of the rows, (K,). Those left over are in ascending order.
        classes: classes of the columns, (L,). Both those matched and those left over are in ascending order.
    """

    counts: Counts
    clusters: Integers
    classes: npt.NDArray[np.generic]

    @property
    def accuracy(self) -> float:
        """Share of the data on the diagonal: the Hungarian accuracy."""
        return float(self.counts.trace() / self.counts.sum())


def hungarian_accuracy(clusters: npt.ArrayLike, labels: object) -> float:
    """Compute the share of data that the best one-to-one matching of clusters to classes gets right.

    accuracy = 1/N max_m sum_n [m(c_n) = y_n], over all m that give a class to one cluster at most

    With more clusters than classes, the data of the clusters left over count as wrong. It never
    exceeds the purity.

    >>> hungarian_accuracy([0, 0, 1, 2], [5, 6, 6, 6])
    0.5

    Args:
        clusters: cluster of every datum, integers (N,).
        labels: class of every datum, (N,), numbers or text.

    Returns:
        A number in (0, 1].

    Raises:
        TypeError: clusters are not integers, or labels no classes.
        ValueError: they are empty, not one-dimensional, differ in length, or have so many different
            values that the table of all cells has more than 2**27.

    Source:
        Kuhn, "The Hungarian method for the assignment problem", 1955; solved by
        `scipy.optimize.linear_sum_assignment`.
    """
    return hungarian_accuracy_of(Contingency.of(clusters, labels))


def confusion(clusters: npt.ArrayLike, labels: object) -> Counts:
    """Count the data of every cluster and class.

    counts_kl = #{n: c_n is the k-th and y_n the l-th value that occurs, in ascending order}

    >>> confusion([3, 3, 9], [0, 1, 1])
    array([[1, 1],
           [0, 1]])

    Args:
        clusters: cluster of every datum, integers (N,).
        labels: class of every datum, (N,), numbers or text.

    Returns:
        Counts, int64 (K, L), for the K clusters and L classes that occur.

    Raises:
        TypeError: clusters are not integers, or labels no classes.
        ValueError: they are empty, not one-dimensional, differ in length, or have so many different
            values that the table of all cells has more than 2**27.
    """
    return _all_cells(Contingency.of(clusters, labels))


def matched_confusion(clusters: npt.ArrayLike, labels: object) -> MatchedConfusion:
    """Count the data of every cluster and class, clusters in the order of the classes they are matched to.

    The matching is the one of :func:`hungarian_accuracy`, with the most data on the diagonal.

    >>> matched = matched_confusion([3, 3, 9, 9, 4], [0, 1, 0, 0, 1])
    >>> matched.counts
    array([[2, 0],
           [1, 1],
           [0, 1]])
    >>> matched.clusters, matched.classes
    (array([9, 3, 4]), array([0, 1]))

    Args:
        clusters: cluster of every datum, integers (N,).
        labels: class of every datum, (N,), numbers or text.

    Returns:
        The counts, and which clusters and classes their rows and columns are.

    Raises:
        TypeError: clusters are not integers, or labels no classes.
        ValueError: as :func:`confusion`.
    """
    c, y = pair(clusters, labels)
    counts = _all_cells(Contingency.count(c, y))
    k, l = best_assignment(counts)  # noqa: E741
    rows, columns = _first(k, len(c.names)), _first(l, len(y.names))
    return MatchedConfusion(counts[np.ix_(rows, columns)], c.names[rows], y.names[columns])


def best_assignment(table: npt.NDArray[np.int64] | npt.NDArray[np.float64]) -> tuple[Counts, Counts]:
    """Choose rows and columns, each once at most, with the largest sum, in ascending order of the columns."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(table, maximize=True)
    order = np.argsort(columns)
    return rows[order], columns[order]


def hungarian_accuracy_of(table: Contingency) -> float:
    """Compute the Hungarian accuracy of a table."""
    counts = _all_cells(table)
    return float(counts[best_assignment(counts)].sum() / table.num_data)


def _all_cells(table: Contingency) -> Counts:
    """Fill in the empty cells of a table, (K, L)."""
    K, L = len(table.rows), len(table.columns)
    if K * L > MAX_CELLS:
        raise ValueError(
            f"clusters: got {K:,} different values and {L:,} of labels, expected a table of at most "
            f"{MAX_CELLS:,} cells; give clusters and classes, not what identifies single data"
        )
    counts = np.zeros((K, L), dtype=np.int64)
    counts[table.k, table.l] = table.n
    return counts


def _first(chosen: Counts, number: int) -> Counts:
    """List 0 .. number - 1, the chosen ones first."""
    return np.concatenate([chosen, np.setdiff1d(np.arange(number), chosen)])
