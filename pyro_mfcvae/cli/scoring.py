"""How well a model does on data, in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyro_mfcvae.cli.datasets import Part
from pyro_mfcvae.evaluation import Evaluation, evaluate
from pyro_mfcvae.fitted import FittedMFCVAE
from pyro_mfcvae.metrics import alive_clusters


@dataclass(frozen=True)
class Verdict:
    """What a model makes of data.

    Attributes:
        where: what the data are.
        elbo: mean over the data, nats per datum.
        clusters: number K_j of each facet.
        alive: those that are the most probable one for some datum, for each facet.
        confidence: mean over the data of the largest responsibility, for each facet.
        evaluation: scores by labels, if there are any.
    """

    where: str
    elbo: float
    clusters: tuple[int, ...]
    alive: tuple[int, ...]
    confidence: tuple[float, ...]
    evaluation: Evaluation | None

    def lines(self) -> list[str]:
        """ELBO, and the table of facets and labels or, without labels, what is known without them."""
        lines = [f"mean ELBO of {self.where}: {self.elbo:.2f} nats per datum"]
        if self.evaluation is None:
            alive = zip(self.alive, self.clusters, strict=True)
            lines += [f"facet {j}: {n} of {K} clusters alive" for j, (n, K) in enumerate(alive)]
            confidence = (f"facet {j} {value:.3f}" for j, value in enumerate(self.confidence))
            return [*lines, f"mean confidence: {', '.join(confidence)}"]
        return [*lines, "", str(self.evaluation)]


def judge(fitted: FittedMFCVAE, part: Part, seed: int = 0) -> Verdict:
    """Score a model.

    Args:
        fitted: the model.
        part: data, with labels or without.
        seed: of the samples that the ELBO takes.
    """
    responsibilities = fitted.predict_proba(part.x)
    clusters = np.stack([r.argmax(-1) for r in responsibilities], axis=1)
    evaluation = None
    if part.labels is not None:
        evaluation = evaluate(clusters, part.labels, part.label_names, fitted.clusters, responsibilities)
    return Verdict(
        where=part.where,
        elbo=fitted.score(part.x, seed=seed),
        clusters=fitted.clusters,
        alive=tuple(map(alive_clusters, clusters.T)),
        confidence=tuple(float(r.max(-1).mean()) for r in responsibilities),
        evaluation=evaluation,
    )
