"""Numbers of the clusters that a facet uses, for which no label is needed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyro_mfcvae.metrics.contingency import entropy
from pyro_mfcvae.metrics.inputs import integers, probabilities
from pyro_mfcvae.metrics.labels import code


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


def entropy_of_use(clusters: npt.ArrayLike) -> float:
    """Compute the entropy of the shares that the clusters have of the data, in nats.

    H = -sum_k s_k log s_k,  s_k = 1/N #{n: c_n = k}, or of responsibilities s_k = 1/N sum_n r_nk

    Args:
        clusters: cluster of every datum, integers (N,); or the responsibilities of every datum, (N, K).

    Returns:
        Nats, from 0 for one cluster to log K for K clusters with equal shares.

    Raises:
        TypeError: one-dimensional clusters are not integers.
        ValueError: clusters is empty or has another shape, or responsibilities do not sum to 1.
    """
    if np.ndim(clusters) == 2:
        return entropy(probabilities(clusters, "clusters").mean(axis=0, dtype=np.float64))
    return entropy(np.bincount(code(integers(clusters, "clusters", 1)).codes))


def effective_clusters(clusters: npt.ArrayLike) -> float:
    """Compute the number of clusters in use: so many equally large ones would be as diverse.

    exp(H), the perplexity, with the entropy of `entropy_of_use`

    >>> round(effective_clusters([0, 0, 1, 1]), 12), effective_clusters([7, 7, 7])
    (2.0, 1.0)

    Args:
        clusters: cluster of every datum, integers (N,); or the responsibilities of every datum, (N, K).

    Returns:
        A number from 1 to K.

    Raises:
        TypeError: one-dimensional clusters are not integers.
        ValueError: clusters is empty or has another shape, or responsibilities do not sum to 1.

    Source:
        Hill, "Diversity and evenness", Ecology 54, 1973: the Hill number of order 1.
    """
    return float(np.exp(entropy_of_use(clusters)))
