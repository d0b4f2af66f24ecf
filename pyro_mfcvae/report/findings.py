"""Findings of a model in data: clusters, their most confident members, and scores against labels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyro_mfcvae.data.choosing import data_for
from pyro_mfcvae.metrics.evaluation import Evaluation, evaluate
from pyro_mfcvae.metrics.labels import Labels, Names
from pyro_mfcvae.plots.style import Array
from pyro_mfcvae.results.fitted import FittedMFCVAE

MAX_EXAMPLES = 8  # of a cluster, at most


@dataclass(frozen=True)
class Majority:
    """The most frequent class of a cluster's data.

    Attributes:
        label: name of the label.
        name: name of the class; the first of equally frequent ones.
        purity: fraction of the cluster's data that have it.
    """

    label: str
    name: str
    purity: float

    def __str__(self) -> str:
        return f"{self.label} {self.name}"


@dataclass(frozen=True)
class Cluster:
    """One cluster of a facet.

    Attributes:
        number: its index k.
        size: number of data whose most probable cluster it is.
        weight: mixture weight pi_k.
        confidence: mean of q(c = k | x) over these data; None if there are none.
        examples: indices of the data that it is most confident of.
        majorities: one for each label that has several classes, first that which the facet finds best;
            none of empty clusters.
    """

    number: int
    size: int
    weight: float
    confidence: float | None
    examples: Array
    majorities: tuple[Majority, ...]


@dataclass(frozen=True)
class Findings:
    r"""All that a report says of data.

    Attributes:
        x: data (N, *x_shape).
        clusters: most probable cluster of every datum in every facet (N, J).
        log_confidence: log q of that cluster (N, J).
        latents: means of q(z_j | x), for each facet (N, D_j).
        elbo: mean ELBO of the data, nats per datum.
        facets: the K_j clusters of each facet.
        labels: F kinds of label of the data, or None.
        evaluation: scores of facets against labels; None without labels.
    """

    x: Array
    clusters: Array
    log_confidence: Array
    latents: list[Array]
    elbo: float
    facets: tuple[tuple[Cluster, ...], ...]
    labels: Labels | None
    evaluation: Evaluation | None

    @property
    def telling_labels(self) -> list[int]:
        """Indices of the labels that have several classes."""
        return [] if self.evaluation is None else _telling(self.evaluation)

    def closest_labels(self, j: int) -> list[str]:
        """List the names of the labels that facet j, of all facets, is closest to."""
        if self.evaluation is None:
            return []
        names = [self.evaluation.label_names[f] for f in self.telling_labels]
        return [name for name in names if self.evaluation.best_facet(name) == j]

    def mostly(self, j: int, k: int) -> str:
        """List the classes that more than half of a cluster have, of labels that its facet is closest to."""
        closest = self.closest_labels(j)
        majorities = self.facets[j][k].majorities
        return ", ".join(str(m) for m in majorities if m.label in closest and m.purity > 0.5)

    def describe(self, datum: int) -> str:
        """Write the number of a datum and, on lines of their own, its classes if they are known."""
        if self.labels is None:
            return str(datum)
        names, classes, codes = self.labels.names, self.labels.classes, self.labels.codes[datum]
        lines = (f"{names[f]} {classes[f][codes[f]]}" for f in self.telling_labels)
        return "\n".join([str(datum), *lines])


def find(fitted: FittedMFCVAE, x: object, labels: object, names: Names, seed: int) -> Findings:
    """Look at data with a model; the arguments are those of :meth:`FittedMFCVAE.report`."""
    if labels is None and names is not None:
        raise ValueError(f"names: got {names!r} without labels; give labels as well, or neither")
    data = data_for(x, fitted.model)
    posteriors = fitted.predict_proba(data)
    clusters = np.stack([r.argmax(-1) for r in posteriors], axis=1)
    evaluation = y = None
    if labels is not None:
        y = Labels.of(labels, names)
        evaluation = evaluate(clusters, y, sizes=fitted.clusters, responsibilities=posteriors)
    return Findings(
        x=data.numpy(),
        clusters=clusters,
        log_confidence=np.log(np.stack([r.max(-1) for r in posteriors], axis=1)),
        latents=fitted.transform(data),
        elbo=fitted.score(data, seed=seed),
        facets=tuple(_facet(fitted, j, r, y, evaluation, seed) for j, r in enumerate(posteriors)),
        labels=y,
        evaluation=evaluation,
    )


def most_confident(groups: Array, confidence: Array, num_groups: int, num: int, seed: int) -> list[Array]:
    """Choose the data of each group with the highest confidence, this first, at most ``num``.

    Many are equal, and data often come sorted: among equals the order is random.

    Args:
        groups: group of every datum, 0 .. num_groups - 1 (N,).
        confidence: confidence of every datum (N,), on any scale.
        num_groups: number of groups.
        num: number of indices for each, at most.
        seed: seed of the order of equals.

    Returns:
        Indices of data, for each group.
    """
    shuffled = np.random.default_rng(seed).permutation(len(groups))
    order = shuffled[np.lexsort((-confidence[shuffled], groups[shuffled]))]
    bounds = np.searchsorted(groups[order], np.arange(num_groups + 1))
    return [order[i : min(i + num, end)] for i, end in itertools.pairwise(bounds)]


def by_size(clusters: Sequence[Cluster]) -> list[Cluster]:
    """Sort clusters, those of most data and then of most weight first."""
    return sorted(clusters, key=lambda cluster: (-cluster.size, -cluster.weight))


def _facet(
    fitted: FittedMFCVAE, j: int, r: Array, y: Labels | None, evaluation: Evaluation | None, seed: int
) -> tuple[Cluster, ...]:
    K = r.shape[1]
    weights = fitted.weights[j]
    c, top = r.argmax(-1), r.max(-1)
    examples = most_confident(c, top, K, MAX_EXAMPLES, seed)
    clusters = []
    for k in range(K):
        members = c == k
        size = int(members.sum())
        confidence = float(top[members].astype(np.float64).mean()) if size else None
        majorities: tuple[Majority, ...] = ()
        if size and y is not None and evaluation is not None:
            majorities = _majorities(y, members, evaluation, j)
        clusters.append(Cluster(k, size, float(weights[k]), confidence, examples[k], majorities))
    return tuple(clusters)


def _majorities(y: Labels, members: Array, evaluation: Evaluation, j: int) -> tuple[Majority, ...]:
    """Find the most frequent class of a cluster's data, which a mask (N,) tells, for each label."""
    majorities = []
    for f in sorted(_telling(evaluation), key=lambda f: -evaluation.scores["nmi"][j, f]):
        counts = np.bincount(y.columns[f].codes[members])
        best = counts.argmax()
        majorities.append(Majority(y.names[f], y.classes[f][best], float(counts[best] / counts.sum())))
    return tuple(majorities)


def _telling(evaluation: Evaluation) -> list[int]:
    """List the labels that have several classes; with one, every clustering is pure."""
    return [f for f, classes in enumerate(evaluation.classes) if classes > 1]
