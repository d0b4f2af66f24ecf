"""Scores of every facet against every label, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pyro_mfcvae._utils.tables import html_table, text_table, wrapped
from pyro_mfcvae.metrics import (
    Calibration,
    alive_clusters,
    entropy_of_use,
    redundancy,
)
from pyro_mfcvae.metrics import matching as match
from pyro_mfcvae.metrics.confidence import calibrate
from pyro_mfcvae.metrics.facets import score_tables
from pyro_mfcvae.metrics.inputs import Integers, Probabilities, integers, probabilities, same_length
from pyro_mfcvae.metrics.labels import Labels, Names

if TYPE_CHECKING:  # optional
    import pandas as pd

__all__ = ["Evaluation", "evaluate"]

Floats = npt.NDArray[np.float64]

TITLES = {  # of the scores that are printed
    "purity": "purity",
    "hungarian_accuracy": "Hungarian accuracy",
    "nmi": "NMI",
    "ari": "ARI",
}
ALL_TITLES = {**TITLES, "class_weighted_purity": "class-weighted purity", "homogeneity": "homogeneity"}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of J facets against F labels; ``print`` shows them as a table.

    Purity, which the MFCVAE paper calls accuracy, lets clusters share a class; Hungarian accuracy
    does not. See `pyro_mfcvae.metrics` for the definitions.

    Args:
        scores: "purity", "hungarian_accuracy", "nmi", "ari", "class_weighted_purity" and "homogeneity",
            each float (J, F). The last two are not printed, but in notebooks and in `to_pandas`.
        redundancy: NMI between every two facets, float (J, J).
        variation: variation of information between every two facets, in nats, float (J, J).
        alive: number of clusters with at least one datum, int (J,).
        entropy: entropy of the use of the clusters, in nats, float (J,): from the responsibilities, averaged
            over the data, or from the shares of the data where there are none.
        clusters: number of clusters that every facet has, K_j.
        classes: number of classes that occur in every label, F of them.
        label_names: names of the labels, F of them.
        num_data: number of data, N.
        confidence: mean of the largest responsibility, float (J,); None without responsibilities.
        calibration: calibration of every facet against every label, J tuples of F; None without
            responsibilities.
    """

    scores: dict[str, Floats]
    redundancy: Floats
    variation: Floats
    alive: npt.NDArray[np.int64]
    entropy: Floats
    clusters: tuple[int, ...]
    classes: tuple[int, ...]
    label_names: tuple[str, ...]
    num_data: int
    confidence: Floats | None = None
    calibration: tuple[tuple[Calibration, ...], ...] | None = None

    @property
    def effective_clusters(self) -> Floats:
        """Number of clusters in use, exp of the entropy, float (J,)."""
        return np.asarray(np.exp(self.entropy))

    @property
    def calibration_error(self) -> Floats | None:
        """Expected calibration error, float (J, F); None without responsibilities."""
        if self.calibration is None:
            return None
        return np.array([[cell.error for cell in row] for row in self.calibration])

    @property
    def constant_labels(self) -> tuple[str, ...]:
        """Labels of which all data have the same value, where others vary; not printed."""
        if max(self.classes) == 1:
            return ()
        return tuple(name for name, n in zip(self.label_names, self.classes, strict=True) if n == 1)

    def score(self, facet: int, label_name: str, score: str = "purity") -> float:
        """Look up one score of one facet against one label.

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
            raise ValueError(f"facet: got {facet}, expected 0 .. {J - 1}")
        return float(self._column(label_name, score)[facet])

    def best_facet(self, label_name: str, score: str = "nmi") -> int:
        """Find the facet that a score puts closest to a label; the first of equals.

        Args:
            label_name: one of `label_names`.
            score: one of the keys of `scores`.

        Returns:
            Index of the facet, 0 .. J-1.

        Raises:
            ValueError: there is no such label or score.
        """
        return int(self._column(label_name, score).argmax())

    def matching(self, score: str = "nmi") -> dict[str, int]:
        """Match facets and labels one to one, with the largest sum of scores; see `metrics.matching`.

        Args:
            score: one of the keys of `scores`.

        Returns:
            The facet of each label, by its name; with more labels than facets, some labels have none.

        Raises:
            ValueError: there is no such score.
        """
        return {self.label_names[f]: j for j, f in match(self._scores(score))}

    def to_pandas(self) -> pd.DataFrame:
        """Make a ``pandas.DataFrame`` with a row for each facet and label, which are its index.

        Its columns are those of the facet: ``clusters``, ``alive``, ``effective_clusters`` and, with
        responsibilities, ``confidence``; of the label: ``classes``; and of both: all `scores` and, with
        responsibilities, ``calibration_error``.

        Raises:
            ImportError: if pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "pandas is not installed, expected any version; run pip install pandas, or use scores"
            ) from error
        J, F = len(self.clusters), len(self.label_names)
        table: dict[str, npt.NDArray[np.generic]] = {
            "clusters": np.repeat(self.clusters, F),
            "alive": np.repeat(self.alive, F),
            "effective_clusters": np.repeat(self.effective_clusters, F),
            "classes": np.tile(self.classes, J),
        }
        if self.confidence is not None:
            table["confidence"] = np.repeat(self.confidence, F)
        table |= {key: values.ravel() for key, values in self.scores.items()}
        if self.calibration_error is not None:
            table["calibration_error"] = self.calibration_error.ravel()
        index = pd.MultiIndex.from_product([range(J), self.label_names], names=["facet", "label"])
        return pd.DataFrame(table, index=index)

    def _scores(self, score: str) -> Floats:
        if score not in self.scores:
            raise ValueError(f"score: got {score!r}, expected one of {', '.join(self.scores)}")
        return self.scores[score]

    def _column(self, label_name: str, score: str) -> Floats:
        if label_name not in self.label_names:
            raise ValueError(f"label_name: got {label_name!r}, expected one of {', '.join(self.label_names)}")
        return self._scores(score)[:, self.label_names.index(label_name)]

    def _table(self, titles: dict[str, str]) -> list[list[str]]:
        """Make a row of titles, then one row for every facet and label."""
        shown, errors = [self.scores[key] for key in titles], self.calibration_error
        rows = [["facet", "clusters", "label", "classes", *titles.values()]]
        if errors is not None:
            rows[0].append("ECE")
            shown.append(errors)
        constant = self.constant_labels
        for j, K in enumerate(self.clusters):
            for f, (label, classes) in enumerate(zip(self.label_names, self.classes, strict=True)):
                if label in constant:
                    continue
                values = [f"{values[j, f]:z.3f}" for values in shown]
                rows.append([str(j), f"{self.alive[j]}/{K}", label, str(classes), *values])
        return rows

    def _notes(self) -> list[str]:
        notes, constant = [], self.constant_labels
        for name in self.label_names:
            if name in constant:
                continue
            j = self.best_facet(name)
            notes.append(f"closest to {name}: facet {j} (NMI {self.score(j, name, 'nmi'):z.3f})")
        if constant:
            notes.append(f"left out, since all data have the same value: {', '.join(constant)}")
        return [
            *notes,
            f"effective clusters: {_facets(self.effective_clusters, '.1f')}",
            *([] if self.confidence is None else [f"mean confidence: {_facets(self.confidence, '.3f')}"]),
            f"redundancy (NMI) between facets: {_pairs(self.redundancy, '')}",
            f"variation of information between facets: {_pairs(self.variation, ' nats')}",
            self._caption(),
        ]

    def _caption(self) -> str:
        ece = "" if self.calibration is None else "; ECE: expected calibration error of the confidence"
        return f"{self.num_data:,} data; clusters: alive/all{ece}"

    def __str__(self) -> str:
        # the label is text, all else numbers
        notes = (wrapped(note) for note in self._notes())
        return "\n".join([text_table(self._table(TITLES), left={2}), *notes])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return html_table(self._table(ALL_TITLES), self._notes())


def evaluate(
    clusters: npt.ArrayLike,
    labels: object,
    names: Names = None,
    sizes: Sequence[int] | None = None,
    responsibilities: Sequence[npt.ArrayLike] | None = None,
) -> Evaluation:
    """Score every facet against every label, and the facets against each other.

    Args:
        clusters: clusters of every datum in every facet, integers (N, J).
        labels: classes of every datum, (N,) or (N, F): integers, booleans or text, in an array, a tensor,
            lists, or a series or table of pandas, polars or Arrow.
        names: names of the F labels; or a mapping from these to the names of their classes, of which label 0
            has the first, or to None. If not given, those of a table, or "label_0", "label_1", ...
        sizes: number of clusters K_j of every facet; the largest index + 1 if not given.
        responsibilities: for each facet, probabilities (N, K_j) that are largest for its cluster; None
            leaves out confidence and calibration.

    Returns:
        The scores.

    Raises:
        TypeError: clusters are not integers, or labels no classes.
        ValueError: clusters or labels have another shape or differ in length; a label is missing; names or
            sizes have another length; names are not unique; a cluster is not in 0 .. K_j-1; or
            responsibilities are not those of the clusters.
    """
    c, y = integers(clusters, "clusters", 2), Labels.of(labels, names)  # (N, J), (N, F)
    same_length(c, y, "clusters")
    N, J = c.shape
    sizes = _sizes(sizes, c)
    r = _responsibilities(responsibilities, c, sizes)
    confidence = [r_j.max(axis=1) for r_j in r]  # (N,) of each facet
    return Evaluation(
        scores=score_tables(c, y, list(ALL_TITLES)),
        redundancy=redundancy(c),
        variation=redundancy(c, "variation_of_information"),
        alive=np.array([alive_clusters(c[:, j]) for j in range(J)]),
        entropy=np.array([entropy_of_use(use) for use in r or c.T]),
        clusters=sizes,
        classes=tuple(map(len, y.classes)),
        label_names=y.names,
        num_data=N,
        confidence=np.array([p.mean(dtype=np.float64) for p in confidence]) if r else None,
        calibration=tuple(
            tuple(calibrate(c_j, p, y_f) for y_f in y.columns) for c_j, p in zip(c.T, confidence, strict=True)
        )
        if r
        else None,
    )


def _sizes(sizes: Sequence[int] | None, c: Integers) -> tuple[int, ...]:
    J, low, high = c.shape[1], c.min(axis=0), c.max(axis=0)
    if sizes is None:
        sizes = [int(k) + 1 for k in high]
    if len(sizes) != J:
        raise ValueError(f"sizes: got {tuple(sizes)}, expected {J} numbers of clusters, one a facet")
    for j, K in enumerate(sizes):
        if low[j] < 0 or high[j] >= K:
            raise ValueError(
                f"clusters: got values {low[j]} .. {high[j]} in facet {j}, expected 0 .. {K - 1}; "
                "give sizes the number of clusters of every facet"
            )
    return tuple(map(int, sizes))


def _facets(values: Floats, form: str) -> str:
    """Write a number of every facet as text."""
    return ", ".join(f"facet {j} {value:{form}}" for j, value in enumerate(values))


def _pairs(matrix: Floats, unit: str) -> str:
    """Write the entries of every two facets as text."""
    J = len(matrix)
    pairs = [f"{i}-{j} {matrix[i, j]:z.3f}" for i in range(J) for j in range(i + 1, J)]
    return ", ".join(pairs) + unit if pairs else "none, there is one facet"


def _responsibilities(
    responsibilities: Sequence[npt.ArrayLike] | None, c: Integers, sizes: Sequence[int]
) -> list[Probabilities]:
    """Check that the responsibilities are those of the clusters; none if there are none."""
    if responsibilities is None:
        return []
    if len(responsibilities) != len(sizes):
        raise ValueError(
            f"responsibilities: got {len(responsibilities)} arrays, expected {len(sizes)}, one a facet"
        )
    checked = [probabilities(r, f"responsibilities[{j}]") for j, r in enumerate(responsibilities)]
    for j, (r, K) in enumerate(zip(checked, sizes, strict=True)):
        if r.shape != (len(c), K):
            raise ValueError(f"responsibilities[{j}]: got shape {r.shape}, expected ({len(c)}, {K})")
        if (r[np.arange(len(c)), c[:, j]] < r.max(axis=1)).any():
            raise ValueError(
                f"responsibilities[{j}]: got its largest for other clusters than facet {j} has, expected "
                "the same; give the argmax as clusters"
            )
    return checked
