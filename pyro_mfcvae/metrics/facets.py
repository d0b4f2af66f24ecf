"""Several clusterings at once: against several labels, and against each other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence

import numpy as np
import numpy.typing as npt

from pyro_mfcvae.metrics.contingency import Contingency
from pyro_mfcvae.metrics.inputs import Integers, columns, integers, same_length
from pyro_mfcvae.metrics.labels import Labels, code
from pyro_mfcvae.metrics.matched import best_assignment, hungarian_accuracy_of
from pyro_mfcvae.metrics.scores import (
    ami_of,
    ari_of,
    class_weighted_purity_of,
    homogeneity_of,
    nmi_of,
    purity_of,
    variation_of,
)

Matrix = npt.NDArray[np.float64]
Score = str | Callable[[Integers, Integers], float]

SCORES: dict[str, Callable[[Contingency], float]] = {
    "purity": purity_of,
    "hungarian_accuracy": hungarian_accuracy_of,
    "nmi": nmi_of,
    "ari": ari_of,
    "ami": ami_of,
    "class_weighted_purity": class_weighted_purity_of,
    "homogeneity": homogeneity_of,
    "variation_of_information": variation_of,
}
SYMMETRIC = ("nmi", "ari", "variation_of_information", "ami")


def score_table(facets: npt.ArrayLike, labels: object, score: Score = "nmi") -> Matrix:
    """Score every facet against every label.

    T_jf = score(c_j, y_f)

    Args:
        facets: clusters of every datum in every facet, integers (N, J) or (N,).
        labels: classes of every datum, (N, F) or (N,), numbers or text.
        score: "purity", "hungarian_accuracy", "nmi", "ari", "ami", "class_weighted_purity", "homogeneity"
            or "variation_of_information", or a function of two integer arrays (N,), the
            clusters, and the classes numbered in their order.

    Returns:
        The scores, (J, F), as in ``Evaluation.scores``.

    Raises:
        TypeError: facets are not integers, or labels no classes.
        ValueError: they are empty, have another shape or differ in length, or there is no such score.
    """
    if not callable(score):
        return score_tables(facets, labels, [score])[score]
    c, y = _facets_and_labels(facets, labels)
    return np.array([[score(c_j, y_f.codes) for y_f in y.columns] for c_j in c.T], dtype=np.float64)


def score_tables(
    facets: npt.ArrayLike, labels: object, scores: Sequence[str] = tuple(SCORES)
) -> dict[str, Matrix]:
    """Compute several scores by name, from one table for each facet and label; see `score_table`."""
    array, y = _facets_and_labels(facets, labels)
    c = [code(column) for column in array.T]
    for score in scores:
        _check(score, SCORES)
    tables = {score: np.empty((len(c), len(y.columns))) for score in scores}
    for (j, c_j), (f, y_f) in itertools.product(enumerate(c), enumerate(y.columns)):
        cells = Contingency.count(c_j, y_f)
        for score, table in tables.items():
            table[j, f] = SCORES[score](cells)
    return tables


def matching(table: npt.ArrayLike) -> tuple[tuple[int, int], ...]:
    """Match facets to labels one to one, with the largest sum of scores.

    >>> matching([[0.9, 0.8], [0.7, 0.1]])
    ((1, 0), (0, 1))

    Args:
        table: scores of every facet and label, the larger the better, (J, F), as from `score_table`.

    Returns:
        min(J, F) pairs of a facet and a label, in the order of the labels.

    Raises:
        ValueError: the table is empty, not two-dimensional or not finite.

    Source:
        Kuhn, "The Hungarian method for the assignment problem", 1955; solved by
        `scipy.optimize.linear_sum_assignment`.
    """
    rows, cols = best_assignment(_scores(table))
    return tuple(zip(rows.tolist(), cols.tolist(), strict=True))


def one_to_one(table: npt.ArrayLike) -> float:
    """Average the score over the labels when each has a facet of its own, at its best.

    1/F max_m sum_f T_{m(f), f}, over all m that give a facet to one label at most

    With fewer facets than labels, a label without a facet adds 0.

    >>> round(one_to_one([[0.9, 0.8], [0.7, 0.1]]), 12)
    0.75

    Args:
        table: scores of every facet and label, the larger the better, (J, F), as from `score_table`.

    Returns:
        The mean of the scores of `matching` over the F labels.

    Raises:
        ValueError: the table is empty, not two-dimensional or not finite.
    """
    scores = _scores(table)
    return float(scores[best_assignment(scores)].sum() / scores.shape[1])


def best_per_label(table: npt.ArrayLike) -> float:
    """Average the score over the labels when each has its best facet, be it that of another label.

    1/F sum_f max_j T_jf

    >>> round(best_per_label([[0.9, 0.8], [0.7, 0.1]]), 12)
    0.85

    Args:
        table: scores of every facet and label, the larger the better, (J, F), as from `score_table`.

    Returns:
        The mean over the F labels; it is never less than `one_to_one`, unless scores are negative.

    Raises:
        ValueError: the table is empty, not two-dimensional or not finite.
    """
    return float(_scores(table).max(axis=0).mean())


def redundancy(facets: npt.ArrayLike, score: str = "nmi") -> Matrix:
    """Measure the information that every two facets share.

    R_ij = NMI(c_i, c_j), which is 0 if they tell different things; or another score

    Args:
        facets: clusters of every datum in every facet, integers (N, J).
        score: "nmi"; "variation_of_information", in nats, which is 0 if they tell the same; "ari"; or "ami",
            which is NMI corrected for chance: with many clusters and few data, NMI is never near 0.

    Returns:
        A symmetric matrix (J, J), with what equal facets have, 1 or 0 nats, on the diagonal.

    Raises:
        TypeError: facets are not integers.
        ValueError: facets is empty or not two-dimensional, or there is no such score.
    """
    _check(score, SYMMETRIC)
    c = [code(column) for column in integers(facets, "facets", 2).T]
    matrix = np.empty((len(c), len(c)))
    for i, j in itertools.combinations_with_replacement(range(len(c)), 2):
        matrix[i, j] = matrix[j, i] = SCORES[score](Contingency.count(c[i], c[j]))
    return matrix


def _facets_and_labels(facets: npt.ArrayLike, labels: object) -> tuple[Integers, Labels]:
    c, y = columns(facets, "facets"), Labels.of(labels)
    same_length(c, y, "facets")
    return c, y


def _check(score: str, known: Collection[str]) -> None:
    if score not in known:
        raise ValueError(f"score: got {score!r}, expected one of {', '.join(known)}")


def _scores(table: npt.ArrayLike) -> Matrix:
    scores = np.asarray(table, dtype=np.float64)
    if scores.ndim != 2 or scores.size == 0 or not np.isfinite(scores).all():
        raise ValueError(
            f"table: got shape {scores.shape}, expected finite scores (J, F) of every facet and label; "
            "use score_table(facets, labels)"
        )
    return scores
