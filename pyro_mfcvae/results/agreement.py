"""Whether several runs found the same: their clusters, facet by facet, and their latents."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyro_mfcvae._utils.spread import mean_and_sd, over, sd
from pyro_mfcvae._utils.tables import html_table, text_table
from pyro_mfcvae.metrics import affine_r2, agreement, align_facets
from pyro_mfcvae.networks import LadderDecoder
from pyro_mfcvae.results.predictor import Predictor

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Agreement:
    """Adjusted Rand index between every two of R runs, for each of J facets; ``print`` shows its mean and sd.

    1 is the same clusters, 0 is what chance gives. Pairs that share a run are not independent: the
    standard deviation describes the pairs, and says little about the error of the mean.

    Attributes:
        matrices: ARI of facet j between runs r and s, shape (J, R, R), with ones on the diagonal. Where one
            of the two has no such facet it is 0, where neither has, NaN.
        seeds: seeds of each run.
        facets: which facet of each run is compared as facet j, int64, shape (R, J); -1 for none.
        affine_r2: share of the variance of run r's latents, with the nuisance, that an affine function of
            run s's explains, shape (R, R). Near 1 for all pairs, the latents are identified, up to what the
            clusters add.
    """

    matrices: Floats
    seeds: tuple[int, ...]
    facets: Integers
    affine_r2: Floats

    @property
    def pairs(self) -> Floats:
        """ARI of every two runs, shape (J, R (R - 1) / 2)."""
        return self.matrices[:, *np.triu_indices(len(self.seeds), 1)]

    @property
    def mean(self) -> Floats:
        """Means over the pairs of which one has the facet, shape (J,)."""
        return np.array([pairs.mean() for pairs in self._known])

    @property
    def sd(self) -> Floats:
        """Standard deviations between the pairs, shape (J,); NaN for two runs, which are one pair."""
        return np.array([sd(pairs) for pairs in self._known])

    @property
    def _known(self) -> list[Floats]:
        """ARI of every two runs one of which has the facet, for each facet."""
        return [pairs[~np.isnan(pairs)] for pairs in self.pairs]

    @property
    def _is_matched(self) -> bool:
        return bool((self.facets != np.arange(self.facets.shape[1])).any())

    def _table(self) -> list[list[str]]:
        rows = [["facet", "ARI between runs", "lowest", "highest"]]
        for j, pairs in enumerate(self._known):
            rows.append([str(j), mean_and_sd(pairs, 3), f"{pairs.min():z.3f}", f"{pairs.max():z.3f}"])
        return rows

    def _notes(self) -> list[str]:
        seeds, R = ", ".join(map(str, self.seeds)), len(self.seeds)
        r2 = self.affine_r2[~np.eye(R, dtype=bool)]
        notes = [
            f"{over(self.pairs.shape[1], 'pair')} of {R} runs (seeds {seeds})",
            f"latents: affine R^2 {mean_and_sd(r2, 3)}, lowest {r2.min():.3f}",
        ]
        if self._is_matched:
            of_runs = (" ".join("-" if j < 0 else str(j) for j in facets) for facets in self.facets)
            each = (f"seed {seed}: {of_run}" for seed, of_run in zip(self.seeds, of_runs, strict=True))
            notes.append(f"facets matched between runs: {'; '.join(each)}")
        return notes

    def __str__(self) -> str:
        return "\n".join([text_table(self._table(), left=()), *self._notes()])

    def _repr_html_(self) -> str:
        return html_table(self._table(), self._notes())


def agreement_of(fits: Sequence[Predictor], seeds: tuple[int, ...], x: Any) -> Agreement:
    """Compare the clusters and the latents of several models on data (N, *x_shape)."""
    clusters = [fitted.predict(x) for fitted in fits]
    latents = [_latents(fitted, x) for fitted in fits]
    if all(has_order(fitted) for fitted in fits) and len({c.shape[1] for c in clusters}) == 1:
        facets = np.tile(np.arange(clusters[0].shape[1]), (len(fits), 1))
    else:
        facets = align_facets(clusters)
    r2 = np.eye(len(fits))
    for r, s in itertools.permutations(range(len(fits)), 2):
        r2[r, s] = affine_r2(latents[r], latents[s])
    return Agreement(agreement(clusters, facets), seeds, facets, r2)


def has_order(fitted: Predictor) -> bool:
    """Tell whether facets have an order, so that facet j is the same in every run: those of a ladder have."""
    return isinstance(fitted.model.decoder, LadderDecoder)


def _latents(fitted: Predictor, x: Any) -> npt.NDArray[np.float32]:
    """Means (N, D) of all latents, side by side, those of the nuisance last."""
    z = fitted.transform(x)
    if fitted.model.nuisance is not None:
        z.append(fitted.nuisance(x))
    return np.concatenate(z, axis=1)
