"""Scores of a model on data, in words."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyro_mfcvae.cli.datasets import Part
from pyro_mfcvae.metrics import alive_clusters, redundancy
from pyro_mfcvae.metrics.evaluation import Evaluation, evaluate
from pyro_mfcvae.results.fitted import FittedMFCVAE

EXPLANATIONS = (
    "purity: share of data that are of their cluster's most frequent class; more clusters make it easier",
    "Hungarian accuracy: the same with one cluster a class; low where clusters outnumber the classes",
    "NMI: what clusters and classes tell of each other, 0 for nothing, 1 if they are the same",
    "ARI: pairs of data that clusters and classes join or part alike, 0 by chance, 1 if all",
    "ECE: how far confidence is from the share of right answers; large where clusters share a class",
    "redundancy: NMI between facets, low where they say different things",
)
MAX_REDUNDANCY = 0.05  # between two facets, corrected for chance


@dataclass(frozen=True)
class Scores:
    """Scores of a model on data.

    Attributes:
        where: number and kind of the data.
        elbo: mean over the data, nats per datum.
        clusters: number K_j of clusters of each facet.
        alive: number of clusters that are the most probable one for some datum, for each facet.
        confidence: mean over the data of the largest responsibility, for each facet.
        redundancy: adjusted mutual information between every two facets, (J, J).
        evaluation: scores by labels, if there are any.
    """

    where: str
    elbo: float
    clusters: tuple[int, ...]
    alive: tuple[int, ...]
    confidence: tuple[float, ...]
    redundancy: npt.NDArray[np.float64]
    evaluation: Evaluation | None

    def lines(self) -> list[str]:
        """Write the ELBO, and the table of facets and labels or what is known without labels."""
        lines = [f"mean ELBO of {self.where}: {self.elbo:.2f} nats per datum"]
        if self.evaluation is None:
            alive = zip(self.alive, self.clusters, strict=True)
            lines += [f"facet {j}: {n} of {K} clusters alive" for j, (n, K) in enumerate(alive)]
            confidence = (f"facet {j} {value:.3f}" for j, value in enumerate(self.confidence))
            return [*lines, f"mean confidence: {', '.join(confidence)}"]
        return [*lines, "", str(self.evaluation)]


def judge(fitted: FittedMFCVAE, part: Part, seed: int = 0) -> Scores:
    """Score a model.

    Args:
        fitted: the model.
        part: data, with labels or without.
        seed: seed of the samples that the ELBO takes.
    """
    responsibilities = fitted.predict_proba(part.x)
    clusters = np.stack([r.argmax(-1) for r in responsibilities], axis=1)
    evaluation = None
    if part.labels is not None:
        evaluation = evaluate(clusters, part.labels, sizes=fitted.clusters, responsibilities=responsibilities)
    return Scores(
        where=part.where,
        elbo=fitted.score(part.x, seed=seed),
        clusters=fitted.clusters,
        alive=tuple(map(alive_clusters, clusters.T)),
        confidence=tuple(float(r.max(-1).mean()) for r in responsibilities),
        redundancy=redundancy(clusters, "ami"),
        evaluation=evaluation,
    )


def verdict(scores: Scores, usual_elbo: float | None = None) -> list[str]:
    """Say whether a run has separated its facets, by what needs no label.

    Args:
        scores: scores of the model.
        usual_elbo: ELBO that the configuration usually reaches on these data at least, nats per datum; None
            if that is not known.

    Returns:
        Lines of text: the verdict, and what speaks against the run.
    """
    reasons = []
    J = len(scores.clusters)
    for i, j in itertools.combinations(range(J), 2):
        shared = scores.redundancy[i, j]
        if shared > MAX_REDUNDANCY and min(scores.alive[i], scores.alive[j]) > 1:
            reasons.append(
                f"facets {i} and {j} repeat each other: adjusted mutual information {shared:.2f}, above "
                f"{MAX_REDUNDANCY:g}"
            )
    for j, (alive, K) in enumerate(zip(scores.alive, scores.clusters, strict=True)):
        if alive < K / 2:
            reasons.append(f"facet {j} has lost its clusters: {alive} of {K} are alive")
    if usual_elbo is not None and scores.elbo < usual_elbo:
        reasons.append(f"the ELBO is {scores.elbo:.1f}, below the {usual_elbo:.1f} that runs usually reach")
    if not reasons:
        return ["Verdict, for which no label was looked at: this run separated its facets."]
    return [
        "Verdict, for which no label was looked at: this run did not separate its facets. Try another seed, "
        "or the best of several restarts.",
        *(f"  {reason}" for reason in reasons),
    ]
