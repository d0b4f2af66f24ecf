"""Counts of the data that every cluster shares with every class, as the cells that occur."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pyro_mfcvae.metrics.inputs import pair
from pyro_mfcvae.metrics.labels import DENSE, Coded

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Contingency:
    """Counts n_kl of M cells, those that have data, of K clusters and L classes.

    Attributes:
        k: cluster of each cell, ascending, (M,).
        l: class of each cell, (M,).
        n: data in each cell, (M,), positive.
        rows: data in each cluster, n_k, (K,).
        columns: data in each class, n_l, (L,).
        clusters: cluster of every datum, in 0 .. K-1, (N,).
        labels: class of every datum, in 0 .. L-1, (N,).
    """

    k: Counts
    l: Counts  # noqa: E741
    n: Counts
    rows: Counts
    columns: Counts
    clusters: Counts
    labels: Counts

    @classmethod
    def of(cls, clusters: npt.ArrayLike, labels: object) -> Contingency:
        """Count integers (N,) of any values, and labels (N,) of any kind.

        Raises:
            TypeError: clusters are not integers, or labels no classes.
            ValueError: they are empty, not one-dimensional, or differ in length.
        """
        return cls.count(*pair(clusters, labels))

    @classmethod
    def count(cls, clusters: Coded, labels: Coded) -> Contingency:
        """Count coded integers (N,) and (N,), of K and L different names, not all of which need have data."""
        L = len(labels.names)
        cell_of = clusters.codes * L + labels.codes
        if len(clusters.names) * L <= DENSE * len(cell_of):
            counts = np.bincount(cell_of)
            cells = np.flatnonzero(counts)
            n = counts[cells]
        else:
            cells, n = np.unique(cell_of, return_counts=True)
        rows, columns = (np.bincount(coded.codes, minlength=len(coded.names)) for coded in (clusters, labels))
        return cls(cells // L, cells % L, n, rows, columns, clusters.codes, labels.codes)

    @property
    def num_data(self) -> int:
        """Number of data N."""
        return len(self.clusters)

    @cached_property
    def largest(self) -> Counts:
        """Indices of the cells with the majority class of each cluster that has data.

        Of classes with equally many data in a cluster the rarer one is taken, and of these the first.
        """
        order = np.lexsort((-self.l, -self.columns[self.l], self.n, self.k))  # the last is the largest
        last_of_cluster = np.diff(self.k[order], append=-1) != 0
        return np.asarray(order[last_of_cluster])


def entropy(counts: npt.NDArray[np.int64] | npt.NDArray[np.float64]) -> float:
    """Compute the entropy of shares, in nats: -sum_k p_k log p_k with p_k = counts_k / sum of counts."""
    counts = counts[counts > 0]
    total = counts.sum()
    return float((counts / total * np.log(total / counts)).sum())
