"""Colours, sizes, and figures that belong to nobody, for all pictures."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # matplotlib is slow to import, and only needed when a plot is made
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]

# Okabe and Ito's colours without the yellow, which is too light for a line: told apart by the colour-blind.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "x", "^", "+", "s", "1", "v", "*", "D")  # small ones, too, look unlike the next
STROKES = ("x", "+", "1")  # those without an area
DASHES = ("-", "--", "-.", ":")
GREY, PALE = "#666666", "#F0F0F0"

# In inches.
MARGIN = 0.12
HEADING = 0.55  # height of a heading with one line below it
LINE = 0.15  # height of each further line
MIN_WIDTH = 6.0
CHARACTER = 0.066  # of a label of 8 points; generous, so that no label is cut


def look(k: int) -> tuple[str, str]:
    """Return colour and marker of cluster or class k: 63 pairs, of which neighbours differ in colour."""
    return COLORS[k % len(COLORS)], MARKERS[k // len(COLORS) % len(MARKERS)]


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """Make an empty figure, sized in inches, that a notebook shows even where pyplot is not imported."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(width, MIN_WIDTH), height), layout=layout, facecolor="white")
    figure._repr_png_ = functools.partial(_png, figure)  # type: ignore[attr-defined]
    return figure


def write_heading(figure: Figure, heading: str, below: str) -> None:
    """Write a heading in the upper left corner, and smaller lines below it."""
    width, height = figure.get_size_inches()
    figure.text(MARGIN / width, 1 - 0.08 / height, heading, fontsize=11, va="top")
    figure.text(MARGIN / width, 1 - 0.29 / height, below, fontsize=8, va="top", color=GREY)


def place_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Place axes in inches from the figure's upper left corner."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))


def figure_of(ax: Axes) -> Figure:
    """Return the figure that axes are part of."""
    return cast("Figure", ax.get_figure())


def tidy(ax: Axes, grid: Literal["x", "y", "both"] = "y") -> None:
    """Leave two spines, and put a pale grid behind everything."""
    ax.grid(axis=grid, color="#DDDDDD", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def write_numbers(ax: Axes, places: Array, texts: list[str], size: float = 7.0) -> None:
    """Write texts at places (n, 2), the first ones first; what would cover another is left out."""
    from matplotlib.patheffects import withStroke

    # Limits and aspect are else settled when it is drawn.
    ax.autoscale_view()
    ax.apply_aspect()
    dots = figure_of(ax).dpi / 72 * size
    pixels = ax.transData.transform(places)
    box = ax.get_window_extent()
    taken = np.empty((0, 3))
    for (left, bottom), (x, y), text in zip(places, pixels, texts, strict=True):
        half_width = 0.35 * dots * len(text)
        covers = (abs(taken[:, 0] - x) < taken[:, 2] + half_width) & (abs(taken[:, 1] - y) < 0.9 * dots)
        if covers.any() or not box.contains(x, y):
            continue
        taken = np.vstack([taken, [x, y, half_width]])
        written = ax.text(
            left, bottom, text, fontsize=size, ha="center", va="center", weight="bold", zorder=5
        )
        written.set_path_effects([withStroke(linewidth=2, foreground="white")])


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()
