r"""Which of several runs to keep, without labels.

The ELBO says how well a model fits the data, and not whether its facets are what the data have: a run that
lost a partition to a continuous factor may have the higher one. What is wanted of clusters can be seen in the
clusters themselves: they are apart, and the facets tell different things.

.. math::
    \text{score} = \text{sharpness} - \text{redundancy}

Both are between 0 and 1 but for chance, so neither needs a scale. Agreement with the other runs has no part
in it, since most of them may err in the same way. It says whether to trust any: where the runs agree little,
few of them can be right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyro_mfcvae.metrics import matched_agreement, redundancy, sharpness

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RunScore:
    """Figures of a run among others, of which the score chooses.

    Attributes:
        elbo: nats per datum: mean over the held-out data if there are any, else over one sample of the
            training data, the same for all runs, and over several draws of z.
        agreement: mean adjusted Rand index with the facets of the other runs, each with its partner; NaN for
            the only run.
        sharpness: mean over the facets of :func:`pyro_mfcvae.metrics.sharpness`.
        redundancy: mean adjusted mutual information between two facets; 0 for one facet.

    The last three are NaN where they are not known, as of files of earlier versions.
    """

    elbo: float
    agreement: float = math.nan
    sharpness: float = math.nan
    redundancy: float = math.nan

    @property
    def score(self) -> float:
        """Sharpness less redundancy, the higher the better; NaN where they are not known."""
        return self.sharpness - self.redundancy

    def __str__(self) -> str:
        figures = {name: getattr(self, name) for name in ("agreement", "sharpness", "redundancy")}
        shown = (f", {name} {value:z.3f}" for name, value in figures.items() if not math.isnan(value))
        return f"ELBO {self.elbo:.2f} nats per datum{''.join(shown)}"


@dataclass(frozen=True, eq=False)
class Clusters:
    """What one run says of N data.

    Attributes:
        facets: most probable cluster of every datum in every facet, int64, shape (N, J).
        sharpness: mean over the facets.
    """

    facets: npt.NDArray[np.int64]
    sharpness: float

    @classmethod
    def of(cls, responsibilities: Sequence[npt.NDArray[np.floating[Any]]]) -> Clusters:
        """Make it from the responsibilities of each facet, (N, K_j)."""
        facets = np.stack([r.argmax(-1) for r in responsibilities], axis=1)
        return cls(facets, float(np.mean([sharpness(r) for r in responsibilities])))


@dataclass(frozen=True, eq=False)
class Figures:
    """What the clusters of R runs, on the same data, say without labels.

    Attributes:
        agreement: mean adjusted Rand index of the matched facets of every two runs, shape (R, R).
        sharpness: mean over the facets of each run, shape (R,).
        redundancy: mean adjusted mutual information between every two facets of a run, shape (R,).
    """

    agreement: Floats
    sharpness: Floats
    redundancy: Floats

    @classmethod
    def of(cls, runs: Sequence[Clusters]) -> Figures:
        """Compare the clusters of R runs on the same data."""
        return cls(
            matched_agreement([run.facets for run in runs]),
            np.array([run.sharpness for run in runs]),
            np.array([_redundancy(run.facets) for run in runs]),
        )

    @classmethod
    def unknown(cls, number: int) -> Figures:
        """Make what is known of the clusters of so many runs, if nothing is."""
        return cls(np.full((number, number), np.nan), np.full(number, np.nan), np.full(number, np.nan))

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Figures:
        """Make what :meth:`state_dict` came from."""
        return cls(*(np.array(state[name], np.float64) for name in ("agreement", "sharpness", "redundancy")))

    def state_dict(self) -> dict[str, Any]:
        """Return all attributes, as JSON knows them: None for NaN."""
        return {
            "agreement": [[known(v) for v in row] for row in self.agreement.tolist()],
            "sharpness": [known(v) for v in self.sharpness.tolist()],
            "redundancy": [known(v) for v in self.redundancy.tolist()],
        }

    def __len__(self) -> int:
        return len(self.redundancy)

    def __getitem__(self, index: slice) -> Figures:
        return Figures(self.agreement[index, index], self.sharpness[index], self.redundancy[index])

    def scores(self, elbo: Sequence[float]) -> tuple[RunScore, ...]:
        """Return the figures of each run; its agreement is a mean over the others."""
        R = len(self)
        agreement = [
            float(np.delete(row, r).mean()) if R > 1 else math.nan for r, row in enumerate(self.agreement)
        ]
        each = zip(elbo, agreement, self.sharpness.tolist(), self.redundancy.tolist(), strict=True)
        return tuple(RunScore(*figures) for figures in each)


def choose(scores: Sequence[RunScore]) -> int:
    """Choose the run with the highest score, or if one is not known, with the highest ELBO.

    Args:
        scores: figures of the runs, at least one.

    Returns:
        Its number.
    """
    if any(math.isnan(run.score) for run in scores):
        return max(range(len(scores)), key=lambda r: scores[r].elbo)
    return max(range(len(scores)), key=lambda r: (scores[r].score, scores[r].elbo))


def known(value: float) -> float | None:
    """Return None for NaN, which JSON does not know."""
    return None if math.isnan(value) else value


def _redundancy(facets: npt.ArrayLike) -> float:
    matrix = redundancy(facets, "ami")
    pairs = matrix[np.triu_indices(len(matrix), 1)]
    return float(pairs.mean()) if len(pairs) else 0.0
