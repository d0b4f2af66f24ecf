"""The choice of data, clusters and classes to show, and their order."""

from __future__ import annotations

import numpy as np

from pyro_mfcvae.metrics.matched import best_assignment
from pyro_mfcvae.plots.style import Array


def by_size(r: Array) -> tuple[Array, Array]:
    """Sort clusters by their number of data, largest first, and count these, both (K,)."""
    sizes = np.bincount(r.argmax(-1), minlength=r.shape[1])
    return np.argsort(-sizes, kind="stable"), sizes


def most_confident(r: Array, k: int, num: int) -> Array:
    """Choose the data of cluster k with the highest responsibilities r (N, K), the highest first."""
    members = np.flatnonzero(r.argmax(-1) == k)
    # Many posteriors are exactly one, and data often come sorted: do not just show the first of them.
    members = np.random.default_rng(0).permutation(members)
    chosen: Array = members[np.argsort(-r[members, k], kind="stable")][:num]
    return chosen


def distinct(r: Array, z: Array, num: int) -> Array:
    """Choose the most confident data of clusters that are large and far apart, largest cluster first."""
    order, sizes = by_size(r)
    candidates = np.array([most_confident(r, k, 1)[0] for k in order[: 2 * num] if sizes[k]])
    chosen = [0]
    distance = np.full(len(candidates), np.inf)
    while len(chosen) < min(num, len(candidates)):
        latest = z[candidates[chosen[-1]]]
        distance = np.minimum(distance, np.square(z[candidates] - latest).sum(-1))
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
    indices: Array = candidates[chosen]
    return indices


def at_random(N: int, num: int, seed: int) -> Array:
    """Choose at most ``num`` of N data at random, in ascending order."""
    if num >= N:
        return np.arange(N)
    return np.sort(np.random.default_rng(seed).choice(N, num, replace=False))


def matched(counts: Array) -> tuple[Array, Array, Array]:
    """Order clusters by class: the one that is matched to the class first, then the largest.

    Clusters and classes are matched one to one, so that most data are right. A cluster that is left
    over, or shares no datum with its match, goes to its majority class.

    Args:
        counts: data of every cluster and class, (K, L).

    Returns:
        The order (K,), the class (K,) of every cluster, and whether it is its match, (K,).
    """
    classes = counts.argmax(1)
    is_match = np.zeros(len(counts), dtype=bool)
    for k, l in zip(*best_assignment(counts), strict=True):  # noqa: E741
        if counts[k, l]:
            classes[k], is_match[k] = l, True
    return np.lexsort([-counts.sum(1), ~is_match, classes]), classes, is_match
