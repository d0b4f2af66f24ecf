"""Pairs of data that several clusterings, and several labels, put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyro_mfcvae.metrics.contingency import Counts, code, together
from pyro_mfcvae.metrics.inputs import columns, same_length

MAX_LABELLINGS = 20  # there is a sum for each of their subsets


@dataclass(frozen=True)
class PairCounts:
    """Numbers of pairs of data, by where they are together; exact integers.

    Attributes:
        both: together in a facet and in a label ("true positives").
        facets_only: together in a facet and in no label ("false positives").
        labels_only: together in a label and in no facet ("false negatives").
        neither: apart in all of them ("true negatives").
    """

    both: int
    facets_only: int
    labels_only: int
    neither: int

    @property
    def precision(self) -> float:
        """Share of the pairs together in a facet that are together in a label; 1 if there is none."""
        pairs = self.both + self.facets_only
        return self.both / pairs if pairs else 1.0

    @property
    def recall(self) -> float:
        """Share of the pairs together in a label that are together in a facet; 1 if there is none."""
        pairs = self.both + self.labels_only
        return self.both / pairs if pairs else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 if no pair is together anywhere."""
        pairs = 2 * self.both + self.facets_only + self.labels_only
        return 2 * self.both / pairs if pairs else 1.0


def pair_f1(facets: npt.ArrayLike, labels: npt.ArrayLike, *, ignore_constant: bool = True) -> float:
    r"""F1 of pairs of data, of J facets as a whole against F labels as a whole.

    .. math::
        F_1 = \frac{2 |P \cap T|}{|P| + |T|}, \qquad
        P = \{\{n, m\}: c_{nj} = c_{mj} \text{ for some } j\}, \quad
        T = \{\{n, m\}: y_{nf} = y_{mf} \text{ for some } f\}

    A pair counts once, however many facets it is together in. Facets need not be matched to labels. With
    one facet and one label it is the F1 of ordinary pair counting.

    >>> pair_f1([[0, 0], [0, 1], [1, 1]], [0, 0, 1])  # together: {0, 1} and {1, 2}; {0, 1}
    0.6666666666666666

    Args:
        facets: clusters of every datum in every facet, integers (N, J) or (N,).
        labels: classes of every datum, integers (N, F) or (N,).
        ignore_constant: whether to leave out facets and labels with one value only. They put every pair
            together, and would hide all others. Non-redundant clustering takes them for what no
            cluster is in ("noise space") and leaves them out.

    Returns:
        A number in [0, 1]; 1 if P and T are the same, be they empty.

    Raises:
        TypeError: facets or labels are not integers.
        ValueError: they are empty, have another shape, differ in length, or are more than 20 in all.

    Source:
        Achtert, Goldhofer, Kriegel, Schubert, Zimek, "Evaluation of clusterings: metrics and visual
        support", ICDE 2012, as used for sets of clusterings by Mautz, Ye, Plant, Boehm, "Discovering
        non-redundant k-means clusterings in optimal subspaces" (Nr-Kmeans), KDD 2018. Its authors'
        ClustPy (``multiple_labelings_pc_f1_score``) visits all pairs; here they are counted.
    """
    return pair_counts(facets, labels, ignore_constant=ignore_constant).f1


def pair_counts(facets: npt.ArrayLike, labels: npt.ArrayLike, *, ignore_constant: bool = True) -> PairCounts:
    r"""Count the pairs of data that are together in a facet, in a label, in both or in neither.

    Pairs together in some of several labellings are counted by inclusion and exclusion, from the pairs
    together in all labellings of every subset:

    .. math::
        |P| = \sum_{\emptyset \ne S} (-1)^{|S| + 1} \sum_{\text{cells of } S} \binom{n_\text{cell}}{2},
        \qquad |P \cap T| = |P| + |T| - |P \cup T|

    Time is that of at most 2^(J + F) sorts, of the data that still share a cell with others; memory is
    linear in N.

    Args:
        facets: clusters of every datum in every facet, integers (N, J) or (N,).
        labels: classes of every datum, integers (N, F) or (N,).
        ignore_constant: whether to leave out facets and labels with one value only.

    Returns:
        The numbers of pairs, N (N - 1) / 2 in all.

    Raises:
        TypeError: facets or labels are not integers.
        ValueError: they are empty, have another shape, differ in length, or are more than 20 in all.

    Source:
        As :func:`pair_f1`.
    """
    c, y = columns(facets, "facets"), columns(labels, "labels")
    same_length(c, y, "facets")
    if c.shape[1] + y.shape[1] > MAX_LABELLINGS:
        raise ValueError(
            f"facets and labels have {c.shape[1]} and {y.shape[1]} columns, expected at most "
            f"{MAX_LABELLINGS} in all, since every subset of them is counted: select columns"
        )
    predicted, true = (
        [coded.codes for coded in map(code, array.T) if len(coded.names) > 1 or not ignore_constant]
        for array in (c, y)
    )
    J, N = len(predicted), len(c)
    in_facets = in_labels = in_either = 0
    for subset, pairs in _subsets(*_distinct(predicted + true)):
        signed = pairs if len(subset) % 2 else -pairs
        in_either += signed
        in_facets += signed if subset[-1] < J else 0
        in_labels += signed if subset[0] >= J else 0
    both = in_facets + in_labels - in_either
    return PairCounts(both, in_facets - both, in_labels - both, N * (N - 1) // 2 - in_either)


def _distinct(labellings: Sequence[Counts]) -> tuple[list[Counts], Counts]:
    """The different rows of several labellings, and how many data have each."""
    if not labellings:
        return [], np.ones(1, dtype=np.int64)
    cells = labellings[0]
    for labelling in labellings[1:]:
        cells = _join(cells, labelling)
    _, row, number = np.unique(cells, return_index=True, return_counts=True)
    return [labelling[row] for labelling in labellings], number


def _subsets(
    labellings: list[Counts], weights: Counts, cells: Counts | None = None, first: int = 0
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Every subset of the labellings from the first on that has pairs together in all, and how many.

    Args:
        labellings: codes of the rows, each (M,).
        weights: data of each row, (M,).
        cells: codes of what the rows have in common already, (M,); None is nothing.
        first: index of the first labelling.
    """
    for i in range(first, len(labellings)):
        joint = labellings[i] if cells is None else _join(cells, labellings[i])
        counts = np.bincount(joint, weights).astype(np.int64)  # exact: floats below 2**53
        shared = counts[joint] > 1
        if not shared.any():
            continue  # nor has any larger subset
        yield (i,), together(counts)
        rest = [labelling[shared] for labelling in labellings]
        for subset, pairs in _subsets(rest, weights[shared], joint[shared], i + 1):
            yield (i, *subset), pairs


def _join(a: Counts, b: Counts) -> Counts:
    """Codes of the cells that two labellings have in common."""
    return code(a * (b.max() + 1) + b).codes
