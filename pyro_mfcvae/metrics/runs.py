"""Several runs against each other: their clusters, facet by facet, and their latents; no label is needed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pyro_mfcvae.metrics.contingency import Contingency, Counts
from pyro_mfcvae.metrics.inputs import Integers, columns, integers
from pyro_mfcvae.metrics.labels import Coded, code
from pyro_mfcvae.metrics.matched import best_assignment
from pyro_mfcvae.metrics.scores import ari_of

Matrix = npt.NDArray[np.float64]
Runs = list[list[Coded]]  # of each run, the clusters of its facets

NO_FACET = -1  # of a run, for a facet that it does not have
MIN_VARIANCE = 0.01  # of a dimension that is in use, as a share of the mean variance of all


def agreement(runs: Sequence[npt.ArrayLike], facets: npt.ArrayLike | None = None) -> Matrix:
    """Compare the clusters of several runs, facet by facet.

    A_jrs = ARI(c_j of run r, c_j of run s)

    Args:
        runs: for each of R runs, clusters of every datum in every facet, integers (N, J_r) or (N,).
        facets: which facet of each run is the j-th, integers (R, J) with -1 for none, as from
            `align_facets`; None takes those of all runs in their order.

    Returns:
        The adjusted Rand indices, (J, R, R), with ones on the diagonal. A facet that one of the two runs
        does not have gives 0, and NaN if neither has it.

    Raises:
        TypeError: runs are not integers.
        ValueError: there is no run, or they differ in shape; with facets, in length only.

    Source:
        Falck et al., 2021, on the stability of the clusterings.
    """
    coded = _coded(runs, same_facets=facets is None)
    chosen = _chosen([range(len(run)) for run in coded] if facets is None else facets, coded)
    R, J = chosen.shape
    matrices = np.full((J, R, R), np.nan)
    for j, r, s in itertools.product(range(J), range(R), range(R)):
        one, other = chosen[r, j], chosen[s, j]
        if one != NO_FACET and other != NO_FACET and r <= s:
            score = 1.0 if r == s else ari_of(Contingency.count(coded[r][one], coded[s][other]))
            matrices[j, r, s] = matrices[j, s, r] = score
        elif (one == NO_FACET) != (other == NO_FACET):
            matrices[j, r, s] = 0.0
    return matrices


def align_facets(runs: Sequence[npt.ArrayLike]) -> Counts:
    """Find which facets of several runs are the same, where facets have no order and differ in number.

    The facets of every run are matched one to one, with the largest sum of adjusted Rand indices, to those
    of one run: of those with the most facets, the one that agrees best with the others.

    >>> first, second = [0, 0, 1, 1], [0, 1, 0, 1]
    >>> align_facets([np.stack([first, second], 1), np.stack([second, first], 1), np.stack([second], 1)])
    array([[ 0,  1],
           [ 1,  0],
           [-1,  0]])

    Args:
        runs: for each of R runs, clusters of every datum in every facet, integers (N, J_r) or (N,).

    Returns:
        The facet of run r that is facet j of that one run, int64 (R, J), with J the largest J_r; -1 where
        run r has none.

    Raises:
        TypeError: runs are not integers.
        ValueError: there is no run, or they differ in length.

    Source:
        Kuhn, "The Hungarian method for the assignment problem", 1955.
    """
    coded = _coded(runs)
    most = max(map(len, coded))
    reference = max(
        (r for r, run in enumerate(coded) if len(run) == most),
        key=lambda r: sum(_matched(_table(coded[r], run)) for run in coded),
    )
    aligned = np.full((len(coded), most), NO_FACET, np.int64)
    for r, run in enumerate(coded):
        places, facets = best_assignment(_table(coded[reference], run))
        aligned[r, places] = facets
    aligned[reference] = np.arange(most)  # also where two of its facets are the same
    return aligned


def matched_agreement(runs: Sequence[npt.ArrayLike]) -> Matrix:
    """Average the agreement of every two runs over their facets, matched one to one.

    A_rs = 1 / max(J_r, J_s) max_m sum_j ARI(c_j of run r, c_m(j) of run s), over all m that give a facet of
    s to one of r at most: a facet without a partner adds 0

    Args:
        runs: for each of R runs, clusters of every datum in every facet, integers (N, J_r) or (N,).

    Returns:
        The means, symmetric (R, R), with ones on the diagonal.

    Raises:
        TypeError: runs are not integers.
        ValueError: there is no run, or they differ in length.

    Source:
        Kuhn, 1955; Hubert and Arabie, "Comparing partitions", 1985.
    """
    coded = _coded(runs)
    matrix = np.eye(len(coded))
    for r, s in itertools.combinations(range(len(coded)), 2):
        matrix[r, s] = matrix[s, r] = _matched(_table(coded[r], coded[s]))
    return matrix


def affine_r2(z: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Compute how much of one latent is an affine function of another: 1 if they are the same up to that.

    R^2 = mean_d [1 - min_{a, b} sum_n (z_nd - a^T z'_n - b)^2 / sum_n (z_nd - mean of z_d)^2]

    The mean is over the dimensions of z in use: those with at least a hundredth of the mean variance of all.
    Two models that are identifiable and have found the same p(x) differ by an affine map alone, so their
    latents have an R^2 near 1 both ways. By chance it is about D' / N.

    >>> z = np.random.default_rng(0).normal(size=(100, 2))
    >>> round(affine_r2(z, z @ [[1.0, 2.0], [3.0, 4.0]] + 5.0), 6)
    1.0

    Args:
        z: latents to explain, such as means of q(z | x), (N, D).
        other: latents of the same data that explain them, (N, D').

    Returns:
        A number in [0, 1]; 0 if z does not vary.

    Raises:
        ValueError: they are not finite, not two-dimensional, differ in length, or there are fewer than two
            data.

    Source:
        Kivva et al., "Identifiability of deep generative models without auxiliary information", 2022.
    """
    y, x = _latents(z, "z"), _latents(other, "other")
    if len(y) != len(x):
        raise ValueError(
            f"z: got {len(y)} rows and {len(x)} of other, expected one of each for every datum; embed the "
            "same data"
        )
    y, x = y - y.mean(0), x - x.mean(0)
    variance = y.var(0)
    used = (variance > 0) & (variance >= MIN_VARIANCE * variance.mean())
    if not used.any():
        return 0.0
    y = y[:, used]
    residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return float(np.clip(1 - residual.var(0) / variance[used], 0, 1).mean())


def _coded(runs: Sequence[npt.ArrayLike], same_facets: bool = False) -> Runs:
    clusters = [columns(run, f"runs[{r}]") for r, run in enumerate(runs)]
    shapes = {run.shape if same_facets else run.shape[:1] for run in clusters}
    if len(shapes) != 1:
        remedy = "; use align_facets for other numbers of facets" if same_facets else ""
        raise ValueError(
            f"runs: got shapes {sorted({run.shape for run in clusters})}, expected one for all; give the "
            f"clusters of the same data{' in the same number of facets' if same_facets else ''}{remedy}"
        )
    return [[code(facet) for facet in run.T] for run in clusters]


def _chosen(facets: npt.ArrayLike | list[range], coded: Runs) -> Integers:
    chosen = integers(np.asarray(facets), "facets", 2)
    most = np.array([[len(run) - 1] for run in coded])
    if len(chosen) != len(coded) or (chosen < NO_FACET).any() or (chosen > most).any():
        raise ValueError(
            f"facets: got {chosen.tolist()}, expected for each of {len(coded)} runs some of its facets, of "
            f"which there are {[len(run) for run in coded]}, or -1; use align_facets(runs)"
        )
    return chosen


def _table(one: Sequence[Coded], other: Sequence[Coded]) -> Matrix:
    """ARI of every two facets, (J, J')."""
    return np.array([[ari_of(Contingency.count(c, y)) for y in other] for c in one])


def _matched(table: Matrix) -> float:
    return float(table[best_assignment(table)].sum() / max(table.shape))


def _latents(values: npt.ArrayLike, name: str) -> Matrix:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or len(array) < 2 or not array.shape[1] or not np.isfinite(array).all():
        raise ValueError(
            f"{name}: got shape {array.shape}, expected finite latents (N, D) of at least two data; give one "
            "array, as in np.concatenate(fitted.transform(x), axis=1)"
        )
    return array
