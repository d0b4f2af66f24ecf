"""Several runs of the same configuration from different seeds: what they have in common, and the best."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from pyro_mfcvae._utils.spread import mean_and_sd, over, sd
from pyro_mfcvae._utils.tables import html_table, text_table
from pyro_mfcvae.config.mfcvae import MFCVAEConfig
from pyro_mfcvae.data.choosing import read_once
from pyro_mfcvae.metrics.evaluation import TITLES, Evaluation
from pyro_mfcvae.metrics.labels import Names
from pyro_mfcvae.results.agreement import Agreement, agreement_of
from pyro_mfcvae.results.choosing import Figures, RunScore, choose
from pyro_mfcvae.results.fitted import FittedMFCVAE
from pyro_mfcvae.results.loading import load

Floats = npt.NDArray[np.float64]
INDEX = "runs.json"  # in the folder of saved runs
VERSION = 1


class FittedRuns(Sequence[FittedMFCVAE]):
    """Models of the same data and configuration, trained from different seeds, in the order of these.

    Args:
        fits: the trained models.
        seeds: seeds of each model.
        scores: scores of each model, nats per datum.
        diverged: seeds whose training diverged; they have no model.
        figures: what their clusters say of each other; None if that is not known.

    Attributes:
        seeds: seeds of each model.
        scores: ELBO of each model, in nats per datum: the mean over the held-out data if there are any, else
            over one sample of the training data, the same for every model, and over several draws of z.
        diverged: seeds whose training diverged; they have no model.
        figures: agreement between the models, sharpness and redundancy of each, on one sample of the
            training data.

    Raises:
        ValueError: if there is not one seed and score for each model.
    """

    def __init__(
        self,
        fits: Sequence[FittedMFCVAE],
        seeds: Sequence[int],
        scores: Sequence[float],
        diverged: Sequence[int] = (),
        figures: Figures | None = None,
    ) -> None:
        if not len(fits) == len(seeds) == len(scores):
            raise ValueError(
                f"fits: got {len(fits)} models, {len(seeds)} seeds and {len(scores)} scores, expected "
                "a seed and a score for each model"
            )
        self.figures = Figures.unknown(len(fits)) if figures is None else figures
        if len(self.figures) != len(fits):
            raise ValueError(f"figures: got that of {len(self.figures)} models, expected that of {len(fits)}")
        self._fits = tuple(fits)
        self.seeds = tuple(seeds)
        self.scores = tuple(scores)
        self.diverged = tuple(diverged)

    def __len__(self) -> int:
        return len(self._fits)

    @overload
    def __getitem__(self, index: int) -> FittedMFCVAE: ...

    @overload
    def __getitem__(self, index: slice) -> FittedRuns: ...

    def __getitem__(self, index: int | slice) -> FittedMFCVAE | FittedRuns:
        if isinstance(index, slice):
            some = self.seeds[index], self.scores[index]
            return FittedRuns(self._fits[index], *some, figures=self.figures[index])
        return self._fits[index]

    @property
    def best(self) -> FittedMFCVAE:
        """The model with the highest sharpness less redundancy; labels have no part in it.

        Sharpness says how far its clusters are apart, redundancy how much its facets share; see
        :class:`RunScore`. ``print`` shows these beside ELBO and agreement with the other runs: where all
        agree little, none may be right. Of runs that were not compared, such as those in files of earlier
        versions, it is the one with the highest ELBO.
        """
        return self._fits[self._best]

    @property
    def restarts(self) -> dict[int, RunScore]:
        """Figures of every run, by seed, that :attr:`best` goes by."""
        return dict(zip(self.seeds, self._scored, strict=True))

    @property
    def _scored(self) -> tuple[RunScore, ...]:
        return self.figures.scores(self.scores)

    @property
    def _best(self) -> int:
        self._check_any()
        return choose(self._scored)

    def _check_any(self) -> None:
        if not self:
            raise ValueError("runs: got none, expected at least one; take a slice that holds some")

    def evaluate(self, x: Any, labels: object, names: Names = None) -> RunsEvaluation:
        r"""Compare every facet of every run with every label; mean and standard deviation over the runs.

        Args:
            x: data (N, *x_shape).
            labels: classes, (N,) or (N, F) for F kinds of label, as `FittedMFCVAE.evaluate` takes them.
            names: names of the F kinds of label, and of their classes, as `FittedMFCVAE.evaluate` takes them.

        Returns:
            A table that prints: purity, Hungarian accuracy, NMI and ARI of every facet and label.

        Raises:
            ValueError: if data and labels differ in length, there is no run, or the runs differ in their
                number of facets.
        """
        self._check_any()
        numbers = sorted({fitted.num_facets for fitted in self})
        if len(numbers) > 1:
            raise ValueError(
                f"evaluate: got runs with {', '.join(map(str, numbers))} facets, expected the same number in "
                "all; evaluate each run"
            )
        x = read_once(x, self[0].model.schema)
        return RunsEvaluation(tuple(fitted.evaluate(x, labels, names) for fitted in self), self.seeds)

    def agreement(self, x: Any) -> Agreement:
        r"""Measure whether the runs find the same clusters: their stability, for which no label is needed.

        .. math::
            A_{jrs} = \mathrm{ARI}(c_j^{(r)}, c_j^{(s)})

        A ladder gives the facets an order, and facet j of a run is compared with facet j of the others. Other
        networks give them none, and runs that were unmixed with ``"auto"`` may differ in their number. Their
        facets are matched first, one to one, with the largest sum of indices, to those of one run: of those
        with the most facets, the one that agrees best with the others. Facets of runs that have fewer have
        no partner, which counts 0.

        Two models that have found the same p(x) and are identifiable differ in their latents by an affine
        map alone. So an affine R^2 near 1 between all runs says that the latents are what the data have in
        them, and not what a seed made of them; the clusters may still differ, where a mixture divides these
        latents in another way.

        Args:
            x: data (N, *x_shape).

        Returns:
            The adjusted Rand index between every two runs, for each facet, and the affine R^2 of their
            latents, as a table that prints.

        Raises:
            ValueError: if there is one run only, or the data have another shape.

        References:
            Falck et al. (2021), on the stability of the clusterings; Hubert and Arabie (1985), Comparing
            partitions; Kivva et al. (2022), Identifiability of deep generative models without auxiliary
            information.
        """
        if len(self) < 2:
            raise ValueError(f"agreement: got {len(self)} runs, expected at least 2; fit with more seeds")
        x = read_once(x, self[0].model.schema)
        return agreement_of(self, self.seeds, x)

    def save(self, folder: str | Path) -> None:
        """Write every model to a file of its own, which :func:`pyro_mfcvae.load` reads, and the scores.

        Args:
            folder: made if need be; files in it of these names are replaced.

        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for seed, fitted in zip(self.seeds, self, strict=True):
            fitted.save(_file(folder, seed))
        index = {
            "version": VERSION,
            "seeds": self.seeds,
            "scores": self.scores,
            "diverged": self.diverged,
            "figures": self.figures.state_dict(),
        }
        (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")

    @classmethod
    def load(
        cls, folder: str | Path, *, device: str = "cpu", config: MFCVAEConfig | None = None
    ) -> FittedRuns:
        """Read what :meth:`save` wrote.

        Args:
            folder: where it is.
            device: where the models shall compute, as in :func:`pyro_mfcvae.fit`.
            config: as in :func:`pyro_mfcvae.load`.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if a file is not what :meth:`save` wrote, or the device is not there.
        """
        path = Path(folder) / INDEX
        if not path.is_file():
            raise FileNotFoundError(f"folder: there is no file {path}; give the folder of FittedRuns.save")
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
            if index["version"] != VERSION:
                raise ValueError(f"version {index['version']}, expected {VERSION}")
            seeds, diverged = ([int(seed) for seed in index[name]] for name in ("seeds", "diverged"))
            scores = [float(score) for score in index["scores"]]
            figures = index.get("figures")  # which files of earlier versions do not have
            figures = None if figures is None else Figures.from_state_dict(figures)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"folder: {path} is not what FittedRuns.save wrote ({error})") from error
        fits = [load(_file(path.parent, seed), device=device, config=config) for seed in seeds]
        for seed, fitted in zip(seeds, fits, strict=True):
            fitted.seed = seed
        return cls(fits, seeds, scores, diverged, figures)

    def __repr__(self) -> str:
        if not self:
            return "FittedRuns(0 runs)"
        seeds = ", ".join(map(str, self.seeds))
        return f"FittedRuns({len(self)} runs: seeds {seeds}; the best is seed {self.seeds[self._best]})"

    def _table(self) -> list[list[str]]:
        scored = self._scored
        compared = not np.isnan(self.figures.sharpness).all()
        titles = ["sharpness", "redundancy", "score", "agreement"] if compared else []
        rows = [["seed", "ELBO", *titles, "seconds", "clusters alive"]]
        for seed, run, fitted in zip(self.seeds, scored, self, strict=True):
            last = fitted.history[-1] if fitted.history else None
            components = [facet.clusters for facet in fitted.config.facets]  # of which training counts
            alive = zip(last.alive if last else (), components, strict=False)
            others = (run.sharpness, run.redundancy, run.score, run.agreement) if compared else ()
            rows.append(
                [
                    str(seed),
                    f"{run.elbo:.2f}",
                    *("" if math.isnan(value) else f"{value:z.3f}" for value in others),
                    f"{last.seconds:.1f}" if last else "",
                    ", ".join(f"{n}/{K}" for n, K in alive),
                ]
            )
        return rows

    def _notes(self) -> list[str]:
        if not self:
            return ["there is no run"]
        highest = self.seeds[int(np.argmax(self.scores))]
        unknown = any(math.isnan(run.score) for run in self._scored)
        rule = "ELBO" if unknown else "sharpness - redundancy"
        notes = [
            f"ELBO: {mean_and_sd(self.scores, 2)} nats per datum; highest for seed {highest}",
            f"best, by {rule}: seed {self.seeds[self._best]}",
        ]
        if not unknown:
            notes += [
                "sharpness: 1 where clusters are of one size and apart",
                "redundancy: adjusted mutual information of the facets, 0 by chance",
                "agreement: adjusted Rand index with the other runs; where it is low, few can be right",
            ]
        if self.diverged:
            notes.append(f"diverged, and left out: seeds {', '.join(map(str, self.diverged))}")
        return notes

    def __str__(self) -> str:
        return "\n".join([text_table(table := self._table(), left={len(table[0]) - 1}), *self._notes()])

    def _repr_html_(self) -> str:
        return html_table(self._table(), self._notes())


@dataclass(frozen=True, eq=False)
class RunsEvaluation:
    """Scores of J facets against F labels in each of R runs; ``print`` shows mean and standard deviation.

    Attributes:
        evaluations: evaluations of each run.
        seeds: seeds of each run.
    """

    evaluations: tuple[Evaluation, ...]
    seeds: tuple[int, ...]

    @property
    def scores(self) -> dict[str, Floats]:
        """All scores of :class:`Evaluation`, by name, each of shape (R, J, F)."""
        return {
            key: np.stack([e.scores[key] for e in self.evaluations]) for key in self.evaluations[0].scores
        }

    @property
    def mean(self) -> dict[str, Floats]:
        """Means over the runs, each of shape (J, F)."""
        return {key: values.mean(0) for key, values in self.scores.items()}

    @property
    def sd(self) -> dict[str, Floats]:
        """Standard deviations between the runs (divisor R - 1), each (J, F); NaN for one run."""
        return {key: sd(values) for key, values in self.scores.items()}

    def table(self) -> list[list[str]]:
        """A row of titles, then one row for every facet and label."""
        first, scores = self.evaluations[0], self.scores
        rows = [["facet", "label", *TITLES.values()]]
        for j in range(len(first.clusters)):
            for f, label in enumerate(first.label_names):
                rows.append([str(j), label, *(mean_and_sd(scores[key][:, j, f], 3) for key in TITLES)])
        return rows

    def _notes(self) -> list[str]:
        first, R = self.evaluations[0], len(self.evaluations)
        J = len(first.clusters)
        alive = [mean_and_sd([e.alive[j] for e in self.evaluations], 1) for j in range(J)]
        redundancy = [
            f"{i}-{j} {mean_and_sd([e.redundancy[i, j] for e in self.evaluations], 3)}"
            for i, j in itertools.combinations(range(J), 2)
        ]
        return [
            "clusters alive: "
            + ", ".join(f"facet {j} {alive[j]} of {K}" for j, K in enumerate(first.clusters)),
            f"redundancy (NMI) between facets: {', '.join(redundancy) or 'none, there is one facet'}",
            f"{first.num_data:,} data; {over(R, 'run')} (seeds {', '.join(map(str, self.seeds))})",
        ]

    def __str__(self) -> str:
        return "\n".join([text_table(self.table(), left={1}), *self._notes()])

    def _repr_html_(self) -> str:
        return html_table(self.table(), self._notes())


def _file(folder: Path, seed: int) -> Path:
    return folder / f"seed_{seed}.mfcvae"
