"""Curves of the training, as numbers, for figures and for reports."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyro_mfcvae.results.fitted import FittedMFCVAE
from pyro_mfcvae.training.history import EpochRecord


@dataclass(frozen=True)
class Curve:
    """One line of a chart.

    Attributes:
        name: text in the legend.
        epochs: epochs of the points, counted from 1.
        values: values of the points.
    """

    name: str
    epochs: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class Span:
    """The epochs of one stage.

    Attributes:
        stage: index of the stage.
        first: first epoch, counted from 1.
        last: last epoch.
    """

    stage: int
    first: int
    last: int


def stage_spans(history: Sequence[EpochRecord]) -> list[Span]:
    """List the stages that were trained, in their order."""
    groups = itertools.groupby(enumerate(history, 1), key=lambda numbered: numbered[1].stage)
    epochs = {stage: [epoch for epoch, _ in members] for stage, members in groups}
    return [Span(stage, numbers[0], numbers[-1]) for stage, numbers in epochs.items()]


def fit_curves(history: Sequence[EpochRecord]) -> list[Curve]:
    """Take ELBO, log-likelihood and, where data were held out, their ELBO from a history."""
    epochs = range(1, len(history) + 1)
    curves = [
        Curve("ELBO", epochs, [record.elbo for record in history]),
        Curve("log-likelihood", epochs, [record.log_likelihood for record in history]),
    ]
    known = {e: record.held_out_elbo for e, record in enumerate(history, 1)}
    held_out = {e: value for e, value in known.items() if value is not None}
    if held_out:
        curves.append(Curve("ELBO of held-out data", list(held_out), list(held_out.values())))
    return curves


def term_curves(fitted: FittedMFCVAE) -> list[Curve]:
    """Take the term of each facet in the ELBO, from the stage that introduces it, and of the nuisance."""
    curves = [
        Curve(f"facet {j}", since, [fitted.history[e - 1].facet_terms[j] for e in since])
        for j, since in enumerate(_active_epochs(fitted))
    ]
    return curves + _known_curve("nuisance", [record.nuisance_term for record in fitted.history])


def kl_weight_curves(fitted: FittedMFCVAE) -> list[Curve]:
    """Take the KL weight of each facet, and of the nuisance, from a history."""
    history = fitted.history
    curves = []
    for j in range(fitted.num_facets):
        # Before facets were found there may have been fewer.
        known = {e: record.kl_weights[j] for e, record in enumerate(history, 1) if j < len(record.kl_weights)}
        curves.append(Curve(rf"facet {j}: KL weight $\beta$", list(known), list(known.values())))
    name = r"nuisance: KL weight $\beta$"
    return curves + _known_curve(name, [record.nuisance_kl_weight for record in history])


def alive_curves(fitted: FittedMFCVAE) -> list[Curve]:
    """Take the number of clusters alive in each facet, from the stage that introduces it."""
    return [
        Curve(f"facet {j}", since, [fitted.history[e - 1].alive[j] for e in since])
        for j, since in enumerate(_active_epochs(fitted))
    ]


def limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """Choose the ends of an axis that leave out the first epochs where they would flatten all that follows.

    The lower end is no further below the tenth percentile of all values than the largest value is above it;
    for curves without values the ends are 0 and 1.
    """
    values = np.concatenate([curve.values for curve in curves])
    if not len(values):
        return 0.0, 1.0
    high, typical = float(values.max()), float(np.percentile(values, 10))
    low = max(float(values.min()), typical - (high - typical))
    room = 0.05 * (high - low) or 1.0
    return low - room, high + room


def _known_curve(name: str, values: Sequence[float | None]) -> list[Curve]:
    """List the curve of those values, by epoch, that are known, or nothing where none is."""
    known = {e: value for e, value in enumerate(values, 1) if value is not None}
    return [Curve(name, list(known), list(known.values()))] if known else []


def _active_epochs(fitted: FittedMFCVAE) -> list[list[int]]:
    """List for each facet the epochs, counted from 1, in which it takes part.

    What a stage trains that unmixes is not yet the facets.
    """
    stages = enumerate(fitted.model.config.stages)
    introduced = {j: s + bool(stage.unmix) for s, stage in stages for j in stage.introduces}
    return [
        [e for e, record in enumerate(fitted.history, 1) if record.stage >= introduced[j]]
        for j in range(fitted.num_facets)
    ]
