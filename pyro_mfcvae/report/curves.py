"""Training curves as inline SVG, which takes its colours from the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from pyro_mfcvae.training.history import EpochRecord

WIDTH, HEIGHT = 420, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 12, 34
NUM_COLORS = 6  # classes c0 to c5 of the style sheet
DASHES = ("none", "6 3", "2 3", "8 3 2 3")


@dataclass(frozen=True)
class Curve:
    """A line of a chart.

    Attributes:
        name: in the legend.
        epochs: from 1, of its points.
        values: of its points.
    """

    name: str
    epochs: Sequence[int]
    values: Sequence[float]


def training_charts(history: Sequence[EpochRecord], introduced: Sequence[int]) -> str:
    """Charts of ELBO, facet terms and clusters alive; a dashed line is where a stage begins.

    Args:
        history: one record for each epoch, at least one.
        introduced: stage that introduces each facet, before which it has no curve.
    """
    epochs = range(1, len(history) + 1)
    stages = [record.stage for record in history]
    starts = [i + 0.5 for i in range(1, len(stages)) if stages[i] != stages[i - 1]]
    fit = [
        Curve("ELBO", epochs, [record.elbo for record in history]),
        Curve("log-likelihood", epochs, [record.log_likelihood for record in history]),
    ]
    if history[-1].held_out_elbo is not None:
        known = [e for e in epochs if history[e - 1].held_out_elbo is not None]
        values = [history[e - 1].held_out_elbo or 0.0 for e in known]
        fit.append(Curve("ELBO of held-out data", known, values))
    terms, alive = [], []
    for j, first in enumerate(introduced):
        since = [e for e in epochs if stages[e - 1] >= first]
        terms.append(Curve(f"facet {j}", since, [history[e - 1].facet_terms[j] for e in since]))
        alive.append(Curve(f"facet {j}", since, [history[e - 1].alive[j] for e in since]))
    return "".join(
        [
            _chart("ELBO and log-likelihood, nats per datum", fit, len(epochs), starts),
            _chart("Facet terms of the ELBO, nats per datum", terms, len(epochs), starts),
            _chart("Clusters alive", alive, len(epochs), starts, from_zero=True),
        ]
    )


def _chart(
    title: str, curves: Sequence[Curve], epochs: int, starts: Sequence[float], from_zero: bool = False
) -> str:
    from matplotlib.ticker import MaxNLocator  # slow to import

    values = np.concatenate([curve.values for curve in curves])
    # The depths of the first epochs would flatten all that follows.
    high, typical = float(values.max()), float(np.percentile(values, 10))
    low = 0.0 if from_zero else max(float(values.min()), typical - (high - typical))
    room = 0.05 * (high - low) or 1.0
    low, high = (low if from_zero else low - room), high + room

    def x(epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (epoch - 1) / max(1, epochs - 1)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - max(value, low)) / (high - low)

    floor = HEIGHT - BOTTOM
    parts = []
    for tick in MaxNLocator(5).tick_values(low, high):
        if low <= tick <= high:
            parts.append(f'<path class="rule" d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:,.4g}</text>')
    for tick in MaxNLocator(5, integer=True).tick_values(1, epochs):
        if 1 <= tick <= epochs:
            parts.append(f'<text x="{x(tick):.1f}" y="{floor + 16}" text-anchor="middle">{tick:.0f}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 2}" text-anchor="middle">epoch</text>')
    parts += [f'<path class="stage" d="M{x(start):.1f} {TOP}V{floor}"/>' for start in starts]
    legend = []
    for i, curve in enumerate(curves):
        style = f'class="curve c{i % NUM_COLORS}" stroke-dasharray="{DASHES[i % len(DASHES)]}"'
        points = " ".join(f"{x(e):.1f},{y(v):.1f}" for e, v in zip(curve.epochs, curve.values, strict=True))
        if len(curve.values) == 1:
            points += f" {points}"  # a line of no length is a dot
        parts.append(f'<polyline {style} points="{points}"/>')
        swatch = f'<svg width="28" height="8" aria-hidden="true"><path {style} d="M1 4h26"/></svg>'
        legend.append(f"<li>{swatch} {escape(curve.name)}</li>")
    last = ", ".join(f"{curve.name} {curve.values[-1]:,.4g}" for curve in curves if len(curve.values))
    text = f"{title}, by epoch. In the last epoch: {last}."
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg role="img" aria-label="{escape(text)}" viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(parts)}</svg>'
        f'<ul class="legend">{"".join(legend)}</ul></figure>'
    )
