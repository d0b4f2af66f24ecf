"""Scores of one clustering against labels, and of several clusterings against each other.

Everything here takes integer arrays (N,), of any values: clusters and labels are names, not sizes.
"""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

__all__ = [
    "alive_clusters",
    "ari",
    "confusion",
    "hungarian_accuracy",
    "nmi",
    "purity",
    "redundancy",
]

Integers = npt.NDArray[np.integer[Any]]


def purity(clusters: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Share of data that the majority class of their cluster gets right.

    purity = 1/N sum_k max_l #{n: c_n = k, y_n = l}

    This is what the MFCVAE paper calls accuracy. Several clusters may share a class, so it grows
    with the number of clusters and is 1 if every datum has its own.

    >>> purity([0, 0, 1, 2], [5, 6, 6, 6])
    0.75

    Args:
        clusters: cluster of every datum, integers (N,).
        labels: class of every datum, integers (N,).

    Returns:
        A number in (0, 1].

    Raises:
        TypeError: clusters or labels are not integers.
        ValueError: they are empty, not one-dimensional, or differ in length.

    Source:
        Manning, Raghavan, Schuetze, "Introduction to Information Retrieval", 2008, section 16.3.
    """
    counts = confusion(clusters, labels)
    return float(counts.max(axis=1).sum() / counts.sum())


def hungarian_accuracy(clusters: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Share of data that the best one-to-one matching of clusters to classes gets right.

    accuracy = 1/N max_m sum_n [m(c_n) = y_n], over all m that give a class to one cluster at most

    With more clusters than classes, the data of the clusters left over count as wrong. It never
    exceeds the purity.

    >>> hungarian_accuracy([0, 0, 1, 2], [5, 6, 6, 6])
    0.5

    Args:
        clusters: cluster of every datum, integers (N,).
        labels: class of every datum, integers (N,).

    Returns:
        A number in (0, 1].

    Raises:
        TypeError: clusters or labels are not integers.
        ValueError: they are empty, not one-dimensional, or differ in length.

    Source:
        Kuhn, "The Hungarian method for the assignment problem", 1955; solved by
        `scipy.optimize.linear_sum_assignment`.
    """
    from scipy.optimize import linear_sum_assignment

    counts = confusion(clusters, labels)
    matched = counts[linear_sum_assignment(counts, maximize=True)]
    return float(matched.sum() / counts.sum())


def nmi(clusters: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Normalised mutual information, with the arithmetic mean of the entropies.

    NMI = 2 I(c; y) / (H(c) + H(y))

    Args:
        clusters: cluster of every datum, integers (N,).
        labels: class of every datum, integers (N,).

    Returns:
        A number in [0, 1]; 0 if just one of the two is constant, 1 if both are.

    Raises:
        TypeError: clusters or labels are not integers.
        ValueError: they are empty, not one-dimensional, or differ in length.

    Source:
        `sklearn.metrics.normalized_mutual_info_score`.
    """
    from sklearn.metrics import normalized_mutual_info_score

    c, y = _pair(clusters, labels)
    with warnings.catch_warnings():  # sklearn takes many different integers for a regression
        warnings.simplefilter("ignore", UserWarning)
        return float(np.clip(normalized_mutual_info_score(y, c), 0.0, 1.0))


def ari(clusters: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Adjusted Rand index: agreement on pairs of data, corrected for chance.

    ARI = (RI - E[RI]) / (max RI - E[RI])

    Args:
        clusters: cluster of every datum, integers (N,).
        labels: class of every datum, integers (N,).

    Returns:
        A number in [-0.5, 1]; 0 is expected by chance.

    Raises:
        TypeError: clusters or labels are not integers.
        ValueError: they are empty, not one-dimensional, or differ in length.

    Source:
        Hubert and Arabie, "Comparing partitions", Journal of Classification 2, 1985;
        `sklearn.metrics.adjusted_rand_score`.
    """
    from sklearn.metrics import adjusted_rand_score

    c, y = _pair(clusters, labels)
    with warnings.catch_warnings():  # see nmi
        warnings.simplefilter("ignore", UserWarning)
        return float(adjusted_rand_score(y, c))


def confusion(clusters: npt.ArrayLike, labels: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Count the data of every cluster and class.

    counts_kl = #{n: c_n is the k-th and y_n the l-th value that occurs, in ascending order}

    >>> confusion([3, 3, 9], [0, 1, 1])
    array([[1, 1],
           [0, 1]])

    Args:
        clusters: cluster of every datum, integers (N,).
        labels: class of every datum, integers (N,).

    Returns:
        Counts, int64 (K, L), for the K clusters and L classes that occur.

    Raises:
        TypeError: clusters or labels are not integers.
        ValueError: they are empty, not one-dimensional, or differ in length.
    """
    c, y = _pair(clusters, labels)
    cluster_names, k = np.unique(c, return_inverse=True)
    label_names, l = np.unique(y, return_inverse=True)  # noqa: E741
    K, L = len(cluster_names), len(label_names)
    return np.bincount(k * L + l, minlength=K * L).reshape(K, L).astype(np.int64, copy=False)


def alive_clusters(clusters: npt.ArrayLike) -> int:
    """Count the clusters that have at least one datum.

    Args:
        clusters: cluster of every datum, integers (N,).

    Returns:
        The number of different values.

    Raises:
        TypeError: clusters are not integers.
        ValueError: clusters is empty or not one-dimensional.
    """
    return len(np.unique(integers(clusters, "clusters", 1)))


def redundancy(facets: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Normalised mutual information between every two facets: 0 if they tell different things.

    R_ij = NMI(c_i, c_j)

    Args:
        facets: clusters of every datum in every facet, integers (N, J).

    Returns:
        A symmetric matrix (J, J) with ones on the diagonal.

    Raises:
        TypeError: facets are not integers.
        ValueError: facets is empty or not two-dimensional.
    """
    c = integers(facets, "facets", 2)
    J = c.shape[1]
    matrix = np.eye(J)
    for i in range(J):
        for j in range(i):
            matrix[i, j] = matrix[j, i] = nmi(c[:, i], c[:, j])
    return matrix


def integers(values: npt.ArrayLike, name: str, *ndims: int) -> Integers:
    """Check that values are integers with one of the given numbers of dimensions.

    Args:
        values: an array, a tensor or nested lists.
        name: what error messages call it.
        *ndims: 1 for (N,), 2 for (N, J), or both.

    Returns:
        The values as an integer array; booleans become 0 and 1.

    Raises:
        TypeError: values are not integers.
        ValueError: values are empty, or have another number of dimensions.
    """
    array = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
    if array.size == 0:
        raise ValueError(f"{name} is empty, shape {array.shape}: expected at least one datum")
    if array.dtype.kind not in "bui":
        raise TypeError(
            f"{name} has dtype {array.dtype}, expected integers: cast whole numbers with "
            ".astype(int), code names with np.unique(names, return_inverse=True)[1]"
        )
    if array.ndim not in ndims:
        expected = " or ".join({1: "(N,)", 2: "(N, columns)"}[ndim] for ndim in ndims)
        remedy = "use reshape(-1, 1)" if array.ndim < min(ndims) else "select columns, or use ravel"
        raise ValueError(f"{name} has shape {array.shape}, expected {expected}: {remedy}")
    return array.astype(np.int64) if array.dtype.kind == "b" else array


def _pair(clusters: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Integers, Integers]:
    c, y = integers(clusters, "clusters", 1), integers(labels, "labels", 1)
    if len(c) != len(y):
        raise ValueError(
            f"clusters and labels differ in length, {len(c)} and {len(y)}: expected one of each "
            "for every datum, so take both from the same data"
        )
    return c, y
