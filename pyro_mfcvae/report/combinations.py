"""All combinations of clusters, generated beforehand for the explorer of a report."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyro_mfcvae._utils.turns import seeded
from pyro_mfcvae.plots.style import Array
from pyro_mfcvae.priors import FacetPrior
from pyro_mfcvae.report.findings import Findings, by_size, most_confident
from pyro_mfcvae.report.tiles import Drawing
from pyro_mfcvae.results.fitted import FittedMFCVAE

# What is shown of a combination, from much to little: temperatures, draws at each above zero, real data.
AMOUNTS = (
    ((0.0, 0.25, 0.5, 0.75, 1.0), 4, 6),
    ((0.0, 0.25, 0.5, 0.75, 1.0), 2, 6),
    ((0.0, 0.5, 1.0), 2, 4),
    ((0.0, 0.5, 1.0), 1, 3),
)
MAX_TILES = 12_000  # generated in all, which bounds the time
BYTES_PER_COMBINATION = 40  # of its numbers, beside pictures
SAMPLE = 128  # tiles that sizes are estimated from
MARGIN = 1.1  # of these estimates
DRAWS_OF_A_MEAN = 100  # where a component does not know its mean
DECODED = 512  # data that are decoded at once


@dataclass(frozen=True)
class Plan:
    """The content of an explorer.

    Attributes:
        temperatures: temperatures in ascending order.
        draws: number of pictures at each temperature above zero, where there is one.
        examples: number of real data of a combination, at most.
        kept: numbers of the clusters that take part, ascending, for each facet.
    """

    temperatures: tuple[float, ...]
    draws: int
    examples: int
    kept: tuple[tuple[int, ...], ...]

    @property
    def num_combinations(self) -> int:
        """Number of combinations of the clusters that are kept."""
        return math.prod(map(len, self.kept))

    @property
    def tiles_per_combination(self) -> int:
        """Number of generated pictures of a combination."""
        return sum(self.draws_at(t) for t in self.temperatures)

    @property
    def start(self) -> int:
        """Index of the temperature that comes first."""
        return self.temperatures.index(0.5) if 0.5 in self.temperatures else 0

    def draws_at(self, temperature: float) -> int:
        """Count the draws at a temperature; at zero all are the same."""
        return self.draws if temperature > 0 else 1


class Explorer:
    """A generator of combinations, as many as there is room for.

    Args:
        fitted: the model.
        findings: findings of the model in the data.
        drawing: way to draw data.
        seed: seed of the draws.
    """

    def __init__(self, fitted: FittedMFCVAE, findings: Findings, drawing: Drawing, seed: int) -> None:
        self.fitted, self.findings, self.drawing, self.seed = fitted, findings, drawing, seed
        self.knows_means = all(map(_knows_mean, fitted.model.facet_priors))
        self.bytes_real, self.bytes_generated = self._tile_sizes()

    def plan(self, budget: float) -> Plan:
        """Choose the richest plan that should take at most so many bytes.

        First there are fewer temperatures, draws and real data of each combination; where that does not
        suffice, only the largest clusters of each facet, of the longest list one less at a time.
        """
        order = [[each.number for each in by_size(clusters)] for clusters in self.findings.facets]
        sizes = [len(clusters) for clusters in order]
        while True:
            kept = tuple(tuple(sorted(k[:n])) for k, n in zip(order, sizes, strict=True))
            for temperatures, draws, examples in AMOUNTS:
                plan = Plan(temperatures if self.knows_means else (1.0,), draws, examples, kept)
                fits = self.cost(plan) <= budget
                if fits and plan.num_combinations * plan.tiles_per_combination <= MAX_TILES:
                    return plan
            if max(sizes) == 1:
                return plan
            sizes[int(np.argmax(sizes))] -= 1

    def cost(self, plan: Plan) -> float:
        """Estimate the bytes that a plan takes."""
        T = plan.num_combinations
        real = min(len(self.findings.x), T * plan.examples)
        generated = T * plan.tiles_per_combination
        return BYTES_PER_COMBINATION * T + self.bytes_real * real + self.bytes_generated * generated

    def content(self, plan: Plan) -> dict[str, object]:
        """Make JSON for the page's script; combinations are in row-major order of the clusters kept."""
        shape = tuple(map(len, plan.kept))
        counts, shown = self._real(plan, shape)
        used = np.unique(np.concatenate(shown))
        place = {datum: i for i, datum in enumerate(used.tolist())}
        return {
            "numData": len(self.findings.x),
            "facets": [
                [{"number": k, "note": self._note(j, k)} for k in kept] for j, kept in enumerate(plan.kept)
            ],
            "temperatures": plan.temperatures,
            "draws": [plan.draws_at(t) for t in plan.temperatures],
            "generated": [self.drawing.store(self._generated(plan, shape, t)) for t in plan.temperatures],
            "real": self.drawing.store(self.drawing.tiles(self.findings.x[used])),
            "realNames": [self.findings.describe(datum) for datum in used.tolist()],
            "counts": counts.tolist(),
            "shown": [[place[datum] for datum in data.tolist()] for data in shown],
        }

    def _note(self, j: int, k: int) -> str:
        """Say in words what a cluster holds."""
        if not self.findings.facets[j][k].size:
            return "no data"
        mostly = self.findings.mostly(j, k)
        return f"mostly {mostly}" if mostly else ""

    def _tile_sizes(self) -> tuple[float, float]:
        """Estimate the bytes of one real and of one generated tile from some of each."""
        x = self.findings.x
        chosen = np.random.default_rng(self.seed).permutation(len(x))[:SAMPLE]
        generated = self.fitted.sample(SAMPLE, seed=self.seed)
        sizes = [
            MARGIN * len(json.dumps(self.drawing.store(self.drawing.tiles(data)))) / len(data)
            for data in (x[chosen], generated)
        ]
        return sizes[0], sizes[1]

    @torch.no_grad()
    def latents(self, plan: Plan, temperature: float) -> list[Tensor]:
        """Draw for each facet latents (S, K'_j, D_j) of the clusters kept, and (S, 1, D) of a nuisance.

        The noise of a cluster is the same at all temperatures and in all combinations: what changes in
        the picture is what was changed.
        """
        model = self.fitted.model
        with seeded(self.seed, model.device):
            z = []
            for prior, level, kept in zip(model.facet_priors, self.fitted.levels, plan.kept, strict=True):
                c = torch.tensor(kept, device=model.device).expand(plan.draws, -1)
                z.append(prior.draw(level.components(prior, c), temperature))
            if model.nuisance is not None:
                z.append(model.nuisance.draw(torch.zeros_like(c[:, :1]), temperature))
            return z

    @torch.no_grad()
    def _generated(self, plan: Plan, shape: Sequence[int], temperature: float) -> Array:
        """Make tiles of E[x | z], the draws of each combination one after another."""
        model, draws = self.fitted.model, plan.draws_at(temperature)
        z = self.latents(plan, temperature)
        combination, draw = np.divmod(np.arange(plan.num_combinations * draws), draws)
        clusters = np.unravel_index(combination, tuple(shape))
        if model.nuisance is not None:
            clusters = (*clusters, np.zeros_like(combination))
        tiles = []
        for start in range(0, len(draw), DECODED):
            block = slice(start, start + DECODED)
            chosen = [z_j[draw[block], c[block]] for z_j, c in zip(z, clusters, strict=True)]
            mean = model.likelihood.mean(model.decode(chosen))
            tiles.append(self.drawing.tiles(mean.cpu().numpy()))
        return np.concatenate(tiles)

    def _real(self, plan: Plan, shape: Sequence[int]) -> tuple[Array, list[Array]]:
        """Count the data of each combination, and choose its most confident ones, or else the nearest."""
        found, T = self.findings, plan.num_combinations
        positions = []
        for kept, clusters in zip(plan.kept, found.facets, strict=True):
            position = np.full(len(clusters), -1)
            position[list(kept)] = np.arange(len(kept))
            positions.append(position)
        where = np.stack([position[found.clusters[:, j]] for j, position in enumerate(positions)])  # (J, N)
        inside = np.flatnonzero((where >= 0).all(0))
        group = np.ravel_multi_index(tuple(where[:, inside]), tuple(shape))
        counts = np.bincount(group, minlength=T)
        confidence = found.log_confidence[inside].sum(1)
        shown = [
            inside[members] for members in most_confident(group, confidence, T, plan.examples, self.seed)
        ]
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            for combination, nearest in zip(empty, self._nearest(plan, shape, empty), strict=True):
                shown[combination] = nearest
        return counts, shown

    def _nearest(self, plan: Plan, shape: Sequence[int], combinations: Array) -> Array:
        """Find the data whose latents are nearest to the component means, every facet counting equally."""
        from sklearn.neighbors import NearestNeighbors

        means = self._means(plan)
        clusters = np.unravel_index(combinations, tuple(shape))
        points, targets = [], []
        for z, mean, c in zip(self.findings.latents, means, clusters, strict=True):
            scale = np.sqrt(z.var(0).sum()) or 1.0
            points.append(z / scale)
            targets.append(mean[c] / scale)
        number = min(plan.examples, len(self.findings.x))
        neighbours = NearestNeighbors(n_neighbors=number).fit(np.concatenate(points, 1))
        nearest: Array = neighbours.kneighbors(np.concatenate(targets, 1), return_distance=False)
        return nearest

    def _means(self, plan: Plan) -> list[Array]:
        """Compute means (K'_j, D_j) of components, of joined ones that of the first draw, or of many."""
        if self.knows_means:
            z = [z_j[0] for z_j in self.latents(plan, 0.0)]
        else:
            many = Plan((1.0,), DRAWS_OF_A_MEAN, plan.examples, plan.kept)
            z = [z_j.mean(0) for z_j in self.latents(many, 1.0)]
        return [z_j.cpu().numpy() for z_j in z[: len(plan.kept)]]


@torch.no_grad()
def _knows_mean(prior: FacetPrior) -> bool:
    """Say whether draws can have another temperature than one."""
    c = prior.weights().enumerate_support()[:1]
    try:
        with seeded(0, c.device):
            prior.draw(c, 0.0)
    except ValueError:
        return False
    return True
