"""Groups of coordinates that depend on each other: a tree of merges, by the alignment of kernels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Group = tuple[int, ...]
Groups = tuple[Group, ...]
Gains = dict[tuple[int, Group], float]

MIXTURE_SIZE = 1_000  # data that mixtures are fitted to
MAX_CLUSTERS = 200  # of those mixtures: more cannot be told apart with so few data
MIN_VARIANCE = 0.01  # added to a component's, of coordinates with a variance of one
SIZES = ((16, 800), (30, 500))  # of coordinates at most, and of the data that their kernels are taken on
FEWER = 300  # data, beyond that
MIN_SIZE = 4  # data, at least, of which a centred kernel can tell a dependence


@dataclass(frozen=True)
class Merge:
    """A grouping of coordinates, and how it came about.

    Attributes:
        groups: all groups after the merge.
        dependence: dependence between those that were made one, in [0, 1]; 1 before the first merge.
    """

    groups: Groups
    dependence: float


def merge_groups(s: Floats, are_apart: Callable[[Groups, float], bool] | None = None) -> list[Merge]:
    r"""Merge coordinates, and then groups of them, from the most dependent to the least.

    The dependence of two groups is the alignment of their kernels,

    .. math::
        \rho(a, b) = \frac{\langle \tilde K_a, \tilde K_b \rangle}{\|\tilde K_a\| \, \|\tilde K_b\|},
        \qquad K_a(m, n) = \exp\bigl(-\|s_{ma} - s_{na}\| / \bar d_a\bigr),

    where :math:`\bar d_a` is the median distance and the tilde an unbiased centring: it is about zero for
    groups that are independent, however large they are. It measures how strongly one group moves with the
    other, and not how much it tells: where there is hardly any noise, a trace of dependence tells a lot.

    Pairs are not enough. The corners of a tetrahedron have coordinates of which every two are independent,
    and the third is the product of both; so every three groups may merge as well, at the least of
    :math:`\rho(a, bc)`, :math:`\rho(b, ac)` and :math:`\rho(c, ab)`.

    Args:
        s: coordinates, shape (N, p), each with a variance of one.
        are_apart: whether groups, of which the dependence is given, must not be merged.

    Returns:
        All groupings, from p groups down to one, or to those that must not be merged.

    References:
        Cortes, Mohri, Rostamizadeh (2012), Algorithms for Learning Kernels Based on Centered Alignment;
        Székely, Rizzo (2014), Partial Distance Correlation with Methods for Dissimilarities (the centring).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> corners = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
        >>> s = np.concatenate([corners[rng.integers(4, size=400)], rng.normal(size=(400, 1))], 1)
        >>> [merge.groups for merge in merge_groups(s)][1]
        ((3,), (0, 1, 2))
    """
    kernels = _Kernels(s[: _size(s.shape[1])])
    groups: Groups = tuple((i,) for i in range(s.shape[1]))
    merges = [Merge(groups, 1.0)]
    while len(groups) > 1:
        ranked = sorted(kernels.dependences(groups), key=lambda item: -item[0])
        found = (item for item in ranked if are_apart is None or not are_apart(item[1], item[0]))
        dependence, chosen = next(found, (0.0, ()))
        if not chosen:
            break
        others = (group for group in groups if group not in chosen)
        groups = (*others, tuple(sorted(itertools.chain(*chosen))))
        merges.append(Merge(groups, dependence))
    return merges


def dependence_matrix(s: Floats, groups: Groups) -> Floats:
    """Measure the dependence between every two groups, as :func:`merge_groups` does.

    Args:
        s: coordinates, shape (N, p).
        groups: G groups of them.

    Returns:
        Dependences in [0, 1], shape (G, G), with ones on the diagonal.
    """
    kernels = _Kernels(s[: _size(s.shape[1])])
    found = np.eye(len(groups))
    for (i, a), (j, b) in itertools.combinations(enumerate(groups), 2):
        found[i, j] = found[j, i] = kernels.dependence(a, b)
    return found


def assign_groups(
    s: Floats, groups: Groups, clusters: Sequence[int], seed: int, gains: Gains | None = None
) -> tuple[Groups, float]:
    """Give every facet the group whose clusters it can use best.

    The data are most probable so, where facet j's group has a mixture of K_j Gaussians, at most
    ``MAX_CLUSTERS``, and what no facet takes has one Gaussian.

    Args:
        s: coordinates, shape (N, p), each with a variance of one.
        groups: groups of them, at least J.
        clusters: K_j of each facet.
        seed: seed of the mixtures.
        gains: gains that are known already, by number of clusters and group; new ones are added.

    Returns:
        The group of each facet, and how much more probable than under one Gaussian the data are, in nats per
        datum.
    """
    from scipy.optimize import linear_sum_assignment

    gains = {} if gains is None else gains
    sizes = [min(K, MAX_CLUSTERS) for K in clusters]
    for K, group in itertools.product(sizes, groups):
        if (K, group) not in gains:
            gains[K, group] = _gain(s[:MIXTURE_SIZE, list(group)], K, seed)
    table = np.array([[gains[K, group] for group in groups] for K in sizes])
    facets, taken = linear_sum_assignment(-table)
    return tuple(groups[i] for i in taken), float(table[facets, taken].sum())


def _gain(s: Floats, K: int, seed: int) -> float:
    """Measure how much more probable the coordinates s (N, p) are under K Gaussians than under one."""
    from pyro_mfcvae.priors.initialization import fit_mixture

    K = min(K, len(s))
    if K == 1:
        return 0.0
    mixtures = [fit_mixture(s, k, "full", seed, min_variance=MIN_VARIANCE, starts=2) for k in (K, 1)]
    return float(mixtures[0].lower_bound_ - mixtures[1].lower_bound_)


def _size(coordinates: int) -> int:
    return next((size for most, size in SIZES if coordinates <= most), FEWER)


class _Kernels:
    """Centred kernels of groups of coordinates, each as a vector of length one."""

    def __init__(self, s: Floats) -> None:
        self._s = s
        self._vectors: dict[Group, npt.NDArray[np.float32]] = {}

    def dependence(self, *two: Group) -> float:
        a, b = (self._vector(group) for group in two)
        return max(0.0, float(a @ b))

    def dependences(self, groups: Groups) -> list[tuple[float, Groups]]:
        """List the dependence of every two and every three groups, and which they are."""
        found: list[tuple[float, Groups]] = [
            (self.dependence(a, b), (a, b)) for a, b in itertools.combinations(groups, 2)
        ]
        joint = {
            frozenset(two): tuple(sorted(itertools.chain(*two))) for two in itertools.combinations(groups, 2)
        }
        if len(groups) > 2:
            singles = np.stack([self._vector(group) for group in groups])
            pairs = np.stack([self._vector(pair) for pair in joint.values()])
            table = dict(zip(joint, np.maximum(0.0, singles @ pairs.T).T, strict=True))
            for i, j, k in itertools.combinations(range(len(groups)), 3):
                a, b, c = groups[i], groups[j], groups[k]
                least = min(
                    table[frozenset((b, c))][i], table[frozenset((a, c))][j], table[frozenset((a, b))][k]
                )
                found.append((float(least), (a, b, c)))
        return found

    def _vector(self, group: Group) -> npt.NDArray[np.float32]:
        if group not in self._vectors:
            self._vectors[group] = _centred_kernel(self._s[:, list(group)])
        return self._vectors[group]


def _centred_kernel(x: Floats) -> npt.NDArray[np.float32]:
    """Return the upper triangle of the U-centred kernel of x (N, d), (N (N - 1) / 2,), of length one."""
    from scipy.spatial.distance import pdist, squareform

    N = len(x)
    if N < MIN_SIZE:
        return np.zeros(N * (N - 1) // 2, np.float32)
    distances = pdist(x)
    kernel = squareform(np.exp(-distances / (np.median(distances) or 1.0)))  # zeros on the diagonal
    rows = kernel.sum(0) / (N - 2)
    kernel -= rows[:, None] + rows - rows.sum() / (N - 1)
    upper = kernel[np.triu_indices(N, 1)].astype(np.float32)
    unit: npt.NDArray[np.float32] = upper / (float(np.linalg.norm(upper)) or 1.0)
    return unit
