"""Charts of the training, as numbers that a template draws as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyro_mfcvae.plots.curves import Curve, alive_curves, fit_curves, limits, stage_spans, term_curves
from pyro_mfcvae.results.fitted import FittedMFCVAE

WIDTH, HEIGHT = 420, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 12, 34
NUM_COLORS = 6  # classes c0 to c5 of the style sheet
DASHES = ("none", "6 3", "2 3", "8 3 2 3")


@dataclass(frozen=True)
class Line:
    """A curve in a chart.

    Attributes:
        name: text in the legend.
        color: number of its colour.
        dashes: ``stroke-dasharray`` of SVG.
        points: ``points`` of SVG.
    """

    name: str
    color: int
    dashes: str
    points: str


@dataclass(frozen=True)
class Chart:
    """Curves by epoch, at places in units of the SVG.

    Attributes:
        title: heading.
        text: description for those who do not see the chart.
        rules: height of each horizontal rule, height of its text, and the text.
        ticks: place and text of each epoch that is named.
        starts: places where a stage begins, but the first.
        lines: the curves.
    """

    title: str
    text: str
    rules: list[tuple[str, str, str]]
    ticks: list[tuple[str, str]]
    starts: list[str]
    lines: list[Line]

    # Sizes that the template needs.
    width, height = WIDTH, HEIGHT
    left, right, top, floor = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM


def training_charts(fitted: FittedMFCVAE) -> list[Chart]:
    """Prepare charts of ELBO, facet terms and clusters alive.

    Args:
        fitted: the model, with a history of at least one epoch.
    """
    epochs = len(fitted.history)
    starts = [span.first - 0.5 for span in stage_spans(fitted.history)[1:]]
    fit, terms, alive = fit_curves(fitted.history), term_curves(fitted), alive_curves(fitted)
    most = max(max(curve.values, default=0.0) for curve in alive)
    return [
        _chart("ELBO and log-likelihood, nats per datum", fit, epochs, starts, limits(fit)),
        _chart("Facet terms of the ELBO, nats per datum", terms, epochs, starts, limits(terms)),
        _chart("Clusters alive", alive, epochs, starts, (0.0, 1.05 * most or 1.0)),
    ]


def _chart(
    title: str, curves: Sequence[Curve], epochs: int, starts: Sequence[float], ends: tuple[float, float]
) -> Chart:
    from matplotlib.ticker import MaxNLocator  # slow to import

    low, high = ends

    def x(epoch: float) -> str:
        return f"{LEFT + (WIDTH - LEFT - RIGHT) * (epoch - 1) / max(1, epochs - 1):.1f}"

    def y(value: float, below: float = 0.0) -> str:
        return f"{TOP + (HEIGHT - TOP - BOTTOM) * (high - max(value, low)) / (high - low) + below:.1f}"

    lines = []
    for i, curve in enumerate(curves):
        points = " ".join(f"{x(e)},{y(v)}" for e, v in zip(curve.epochs, curve.values, strict=True))
        if len(curve.values) == 1:
            points += f" {points}"  # a line of no length is a dot
        lines.append(Line(curve.name, i % NUM_COLORS, DASHES[i % len(DASHES)], points))
    last = ", ".join(f"{curve.name} {curve.values[-1]:,.4g}" for curve in curves if len(curve.values))
    return Chart(
        title=title,
        text=f"{title}, by epoch. In the last epoch: {last}.",
        rules=[
            (y(tick), y(tick, 4), f"{tick:,.4g}")
            for tick in MaxNLocator(5).tick_values(low, high)
            if low <= tick <= high
        ],
        ticks=[
            (x(tick), f"{tick:.0f}")
            for tick in MaxNLocator(5, integer=True).tick_values(1, epochs)
            if 1 <= tick <= epochs
        ],
        starts=[x(start) for start in starts],
        lines=lines,
    )
