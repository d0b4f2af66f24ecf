"""How every facet scores against every label, as one table."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from .metrics import alive_clusters, ari, hungarian_accuracy, integers, nmi, purity, redundancy

__all__ = ["Evaluation", "evaluate"]

Score = Callable[[npt.NDArray[Any], npt.NDArray[Any]], float]

SCORES: dict[str, Score] = {
    "purity": purity,
    "hungarian_accuracy": hungarian_accuracy,
    "nmi": nmi,
    "ari": ari,
}
TITLES = {
    "purity": "purity",
    "hungarian_accuracy": "Hungarian accuracy",
    "nmi": "NMI",
    "ari": "ARI",
}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of J facets against F labels; ``print`` shows them as a table.

    Purity, which the MFCVAE paper calls accuracy, lets clusters share a class; Hungarian accuracy
    does not. See `pyro_mfcvae.metrics` for the definitions.

    Args:
        scores: "purity", "hungarian_accuracy", "nmi" and "ari", each float (J, F).
        redundancy: NMI between every two facets, float (J, J).
        alive: number of clusters with at least one datum, int (J,).
        clusters: number of clusters that every facet has, K_j.
        classes: number of classes that occur in every label, F of them.
        label_names: names of the labels, F of them.
        num_data: number of data, N.
    """

    scores: dict[str, npt.NDArray[np.float64]]
    redundancy: npt.NDArray[np.float64]
    alive: npt.NDArray[np.int64]
    clusters: tuple[int, ...]
    classes: tuple[int, ...]
    label_names: tuple[str, ...]
    num_data: int

    def score(self, facet: int, label_name: str, score: str = "purity") -> float:
        """One score of one facet against one label.

        Args:
            facet: index of the facet, 0 .. J-1; negative ones count from the deepest facet.
            label_name: one of `label_names`.
            score: one of the keys of `scores`.

        Returns:
            The score.

        Raises:
            ValueError: there is no such facet, label or score.
        """
        J = len(self.clusters)
        if not -J <= facet < J:
            raise ValueError(f"facet is {facet}, expected 0 .. {J - 1}")
        return float(self._column(label_name, score)[facet])

    def best_facet(self, label_name: str, score: str = "nmi") -> int:
        """The facet that a score finds closest to a label; the first of equals.

        Args:
            label_name: one of `label_names`.
            score: one of the keys of `scores`.

        Returns:
            Index of the facet, 0 .. J-1.

        Raises:
            ValueError: there is no such label or score.
        """
        return int(self._column(label_name, score).argmax())

    def _column(self, label_name: str, score: str) -> npt.NDArray[np.float64]:
        if label_name not in self.label_names:
            raise ValueError(f"label_name is {label_name!r}, expected one of {', '.join(self.label_names)}")
        if score not in self.scores:
            raise ValueError(f"score is {score!r}, expected one of {', '.join(self.scores)}")
        return self.scores[score][:, self.label_names.index(label_name)]

    def _table(self) -> list[list[str]]:
        """A row of titles, then one row for every facet and label."""
        rows = [["facet", "clusters", "label", "classes", *(TITLES[key] for key in self.scores)]]
        for j, K in enumerate(self.clusters):
            for f, (label, classes) in enumerate(zip(self.label_names, self.classes, strict=True)):
                values = [f"{values[j, f]:z.3f}" for values in self.scores.values()]
                rows.append([str(j), f"{self.alive[j]}/{K}", label, str(classes), *values])
        return rows

    def _redundancy_line(self) -> str:
        J = len(self.clusters)
        pairs = [f"{i}-{j} {self.redundancy[i, j]:z.3f}" for i in range(J) for j in range(i + 1, J)]
        return f"redundancy (NMI) between facets: {', '.join(pairs) or 'none, there is one facet'}"

    def _caption(self) -> str:
        return f"{self.num_data:,} data; clusters: alive/all"

    def __str__(self) -> str:
        # the label is text, all else numbers
        return "\n".join([text_table(self._table(), left={2}), self._redundancy_line(), self._caption()])

    def _repr_html_(self) -> str:
        return html_table(self._table(), [self._redundancy_line(), self._caption()])


def text_table(rows: Sequence[Sequence[str]], left: Collection[int]) -> str:
    """Rows of cells as aligned lines; the columns ``left`` are flush left, all others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = enumerate(zip(row, widths, strict=True))
        padded = (cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in cells)
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def html_table(rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """Rows of cells, of which the first are titles, with lines of text below."""
    titles, *others = rows
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in others)
    text = "<br>".join(map(escape, notes))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{text}</p>"


def evaluate(
    clusters: npt.ArrayLike,
    labels: npt.ArrayLike,
    names: Sequence[str] | None = None,
    sizes: Sequence[int] | None = None,
) -> Evaluation:
    """Score every facet against every label, and the facets against each other.

    Args:
        clusters: clusters of every datum in every facet, integers (N, J).
        labels: classes of every datum, integers (N,) or (N, F).
        names: names of the F labels; "label", or "label_0", "label_1", ... if not given.
        sizes: number of clusters K_j of every facet; the largest index + 1 if not given.

    Returns:
        The scores.

    Raises:
        TypeError: clusters or labels are not integers.
        ValueError: clusters or labels have another shape or differ in length; names or sizes have
            another length; names are not unique; or a cluster is not in 0 .. K_j-1.
    """
    c = integers(clusters, "clusters", 2)  # (N, J)
    y = _labels(labels, len(c))  # (N, F)
    (N, J), F = c.shape, y.shape[1]
    scores = {
        key: np.array([[score(c[:, j], y[:, f]) for f in range(F)] for j in range(J)])
        for key, score in SCORES.items()
    }
    return Evaluation(
        scores=scores,
        redundancy=redundancy(c),
        alive=np.array([alive_clusters(c[:, j]) for j in range(J)]),
        clusters=_sizes(sizes, c),
        classes=tuple(len(np.unique(y[:, f])) for f in range(F)),
        label_names=_names(names, F),
        num_data=N,
    )


def _labels(labels: npt.ArrayLike, N: int) -> npt.NDArray[Any]:
    y = integers(labels, "labels", 1, 2)
    if len(y) != N:
        raise ValueError(
            f"clusters and labels differ in length, {N} and {len(y)}: expected one row of each for "
            "every datum, so take both from the same data"
        )
    return y.reshape(N, -1)


def _names(names: Sequence[str] | None, F: int) -> tuple[str, ...]:
    if names is None:
        return ("label",) if F == 1 else tuple(f"label_{f}" for f in range(F))
    if isinstance(names, str) or len(names) != F or len(set(names)) != F:
        raise ValueError(f"names is {names!r}, expected {F} different names, one for every label")
    return tuple(map(str, names))


def _sizes(sizes: Sequence[int] | None, c: npt.NDArray[Any]) -> tuple[int, ...]:
    J, low, high = c.shape[1], c.min(axis=0), c.max(axis=0)
    if sizes is None:
        sizes = [int(k) + 1 for k in high]
    if len(sizes) != J:
        raise ValueError(f"sizes is {tuple(sizes)}, expected {J} numbers of clusters, one a facet")
    for j, K in enumerate(sizes):
        if low[j] < 0 or high[j] >= K:
            raise ValueError(
                f"clusters has values {low[j]} .. {high[j]} in facet {j}, expected 0 .. {K - 1}: "
                "give sizes the number of clusters of every facet"
            )
    return tuple(map(int, sizes))
