"""Scores of one clustering against one label, from their contingency table."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from pyro_mfcvae._utils.turns import in_turn
from pyro_mfcvae.metrics.contingency import Contingency


def purity(clusters: npt.ArrayLike, labels: object) -> float:
    """Compute the share of data that the majority class of their cluster gets right.

    purity = 1/N sum_k max_l n_kl,  n_kl = #{n: c_n = k, y_n = l}

    This is what the MFCVAE paper calls accuracy. Several clusters may share a class, so it grows
    with the number of clusters and is 1 if every datum has its own.

    >>> purity([0, 0, 1, 2], [5, 6, 6, 6])
    0.75

    Args:
        clusters: cluster of every datum, integers (N,).
        labels: class of every datum, (N,), numbers or text.

    Returns:
        A number in (0, 1].

    Raises:
        TypeError: clusters are not integers, or labels no classes.
        ValueError: they are empty, not one-dimensional, or differ in length.

    Source:
        Manning, Raghavan, Schuetze, "Introduction to Information Retrieval", 2008, section 16.3.
    """
    return purity_of(Contingency.of(clusters, labels))


def class_weighted_purity(clusters: npt.ArrayLike, labels: object) -> float:
    """Average over the classes the share of each that the majority class of its cluster gets right.

    class-weighted purity = 1/L sum_l 1/n_l #{n: y_n = l = m(c_n)},  m(k) = argmax_l n_kl

    The majority class m(k) of a cluster is that of the purity, by plain counts; of classes with equally
    many data in the cluster it is the one with the fewest data in all. Every one of the L classes counts
    the same, however many data n_l it has: missing a rare class costs as much as missing a frequent one.

    >>> class_weighted_purity([0, 0, 0, 0], [5, 5, 5, 6])
    0.5

    Args:
        clusters: cluster of every datum, integers (N,).
        labels: class of every datum, (N,), numbers or text.

    Returns:
        A number in (0, 1]; it equals the purity if all classes have equally many data.

    Raises:
        TypeError: clusters are not integers, or labels no classes.
        ValueError: they are empty, not one-dimensional, or differ in length.

    Source:
        ``cluster_acc_weighted`` in the code of Falck et al., 2021, but for the ties, which there depend
        on the order of the classes.
    """
    return class_weighted_purity_of(Contingency.of(clusters, labels))


def homogeneity(clusters: npt.ArrayLike, labels: object) -> float:
    """Measure by entropies how far each cluster has data of a single class.

    homogeneity = 1 - H(y | c) / H(y)

    Args:
        clusters: cluster of every datum, integers (N,).
        labels: class of every datum, (N,), numbers or text.

    Returns:
        A number in [0, 1]; 1 if there is one class only.

    Raises:
        TypeError: clusters are not integers, or labels no classes.
        ValueError: they are empty, not one-dimensional, or differ in length.

    Source:
        Rosenberg and Hirschberg, "V-measure: a conditional entropy-based external cluster evaluation
        measure", 2007; `sklearn.metrics.homogeneity_score`.
    """
    return homogeneity_of(Contingency.of(clusters, labels))


def nmi(clusters: npt.ArrayLike, labels: object) -> float:
    """Compute the normalised mutual information, with the arithmetic mean of the entropies.

    NMI = 2 I(c; y) / (H(c) + H(y))

    Args:
        clusters: cluster of every datum, integers (N,).
        labels: class of every datum, (N,), numbers or text.

    Returns:
        A number in [0, 1]; 0 if just one of the two is constant, 1 if both are.

    Raises:
        TypeError: clusters are not integers, or labels no classes.
        ValueError: they are empty, not one-dimensional, or differ in length.

    Source:
        Strehl and Ghosh, "Cluster ensembles", Journal of Machine Learning Research 3, 2002;
        `sklearn.metrics.normalized_mutual_info_score`.
    """
    return nmi_of(Contingency.of(clusters, labels))


def variation_of_information(clusters: npt.ArrayLike, labels: object) -> float:
    """Compute the variation of information, in nats: a metric on partitions.

    VI = H(c | y) + H(y | c), the information that each of the two clusterings leaves unknown of the other

    >>> round(variation_of_information([0, 0, 1, 1], [0, 1, 0, 1]), 6)  # log 4, two bits
    1.386294

    Args:
        clusters: cluster of every datum, integers (N,).
        labels: class, or cluster of another clustering, of every datum, (N,).

    Returns:
        Nats, in [0, log N]; 0 if the two are the same partition.

    Raises:
        TypeError: clusters are not integers, or labels no classes.
        ValueError: they are empty, not one-dimensional, or differ in length.

    Source:
        Meila, "Comparing clusterings: an information based distance", Journal of Multivariate Analysis
        98, 2007.
    """
    return variation_of(Contingency.of(clusters, labels))


def ari(clusters: npt.ArrayLike, labels: object) -> float:
    """Compute the adjusted Rand index: agreement on pairs of data, corrected for chance.

    ARI = (t - E[t]) / ((a + b) / 2 - E[t]),  E[t] = a b / (N (N - 1) / 2)

    with a pairs of data in the same cluster, b in the same class, and t in both.

    Args:
        clusters: cluster of every datum, integers (N,).
        labels: class of every datum, (N,), numbers or text.

    Returns:
        A number in [-0.5, 1]; 0 is expected by chance.

    Raises:
        TypeError: clusters are not integers, or labels no classes.
        ValueError: they are empty, not one-dimensional, or differ in length.

    Source:
        Hubert and Arabie, "Comparing partitions", Journal of Classification 2, 1985;
        `sklearn.metrics.adjusted_rand_score`.
    """
    return ari_of(Contingency.of(clusters, labels))


# the same, of a table that is there already


def purity_of(table: Contingency) -> float:
    """Compute the purity of a table."""
    return float(table.n[table.largest].sum() / table.num_data)


def class_weighted_purity_of(table: Contingency) -> float:
    """Compute the class-weighted purity of a table."""
    right, of_class = table.n[table.largest], table.columns[table.l[table.largest]]
    return min(1.0, float((right / of_class).sum() / len(table.columns)))


def homogeneity_of(table: Contingency) -> float:
    """Compute the homogeneity of a table."""
    return _sklearn("homogeneity_score", table)


def nmi_of(table: Contingency) -> float:
    """Compute the normalised mutual information of a table."""
    return _sklearn("normalized_mutual_info_score", table)


def ari_of(table: Contingency) -> float:
    """Compute the adjusted Rand index of a table."""
    return _sklearn("adjusted_rand_score", table)


def ami_of(table: Contingency) -> float:
    """Compute the adjusted mutual information of a table, which is NMI corrected for chance.

    AMI = (I(c; y) - E[I]) / ((H(c) + H(y)) / 2 - E[I]),  E[I] over all tables with the same margins

    Source:
        Vinh, Epps and Bailey, 2010, Information theoretic measures for clusterings comparison.
    """
    return _sklearn("adjusted_mutual_info_score", table)


def variation_of(table: Contingency) -> float:
    """Compute the variation of information of a table; no term is negative, so nothing cancels."""
    left = np.log(table.rows[table.k] / table.n) + np.log(table.columns[table.l] / table.n)
    return float((table.n * left).sum() / table.num_data)


@in_turn  # since what Python warns of is of the whole process
def _sklearn(name: str, table: Contingency) -> float:
    """Compute a score of scikit-learn's, rounding errors at its ends cut off."""
    from sklearn import metrics

    with warnings.catch_warnings():  # it takes many different integers for a regression
        warnings.simplefilter("ignore", UserWarning)
        score = float(getattr(metrics, name)(table.labels, table.clusters))
    return min(score, 1.0) if name.startswith("adjusted") else min(max(score, 0.0), 1.0)
