"""Panels with points in them, coloured by cluster or by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyro_mfcvae.plots.style import (
    HEADING,
    LINE,
    MARGIN,
    STROKES,
    Array,
    look,
    new_figure,
    place_axes,
    tidy,
    write_heading,
    write_numbers,
)

if TYPE_CHECKING:  # matplotlib is slow to import, and only needed when a plot is made
    from matplotlib.axes import Axes

BINS = 60
MAX_LEGEND = 40

# In inches.
PANEL = 3.6
LEFT, BOTTOM = 0.55, 0.5  # room for the labels of an axis
TITLE = 0.3
LEGEND = 0.95  # width of a column of 20 classes


def lay_out(heading: str, below: str, num: int, columns: int, names: Sequence[str]) -> list[Axes]:
    """Make square panels in a figure of their own, row by row, with a legend of classes if there are any.

    Args:
        heading: heading of the figure.
        below: lines below the heading.
        num: number of panels.
        columns: number of panels in a row.
        names: names of the classes; their legend is to the right of the first row.
    """
    step, height = LEFT + PANEL + MARGIN, TITLE + PANEL + BOTTOM
    top = HEADING + LINE * below.count("\n")
    figure = new_figure(columns * step + 2 * MARGIN + _legend_width(names), top + -(-num // columns) * height)
    write_heading(figure, heading, below)
    panels = []
    for row, column in (divmod(i, columns) for i in range(num)):
        left = MARGIN + column * step + LEFT
        panels.append(place_axes(figure, left, top + row * height + TITLE, PANEL, PANEL))
    if names:
        _draw_legend(panels[columns - 1], names)
    return panels


def draw_points(
    ax: Axes,
    places: Array,
    index: Array,
    axis_labels: tuple[str, str],
    names: Sequence[str] = (),
    span: tuple[float, float] | None = None,
) -> None:
    """Draw faint points (n, 2), or a histogram of (n, 1), coloured by an index (n,).

    The histogram is of a span; None is that of the points. Names, if there are any, are written in the
    middle of the points, those of most points first.
    """
    present, sizes = np.unique(index, return_counts=True)
    groups = [places[index == k] for k in present]
    if places.shape[1] == 1:
        colors = [look(int(k))[0] for k in present]
        values = [group[:, 0] for group in groups]
        ax.hist(
            values,
            bins=BINS,
            range=span,
            stacked=True,
            density=True,
            color=colors,
            alpha=0.5,
            linewidth=0,
        )
    else:
        size = float(np.clip(12_000 / len(places), 5, 25))
        for k, group in zip(present, groups, strict=True):
            color, marker = look(int(k))
            has_area = marker not in STROKES
            ax.scatter(
                group[:, 0],
                group[:, 1],
                s=size if has_area else 1.5 * size,
                color=color,
                marker=marker,
                alpha=0.35 if has_area else 0.5,
                linewidths=0.0 if has_area else 0.6,
            )
        if names:
            order = np.argsort(-sizes, kind="stable")
            middle = np.array([_middle(groups[i]) for i in order])
            write_numbers(ax, middle, [names[present[i]] for i in order])
    ax.set_xlabel(axis_labels[0], fontsize=8, labelpad=2)
    ax.set_ylabel(axis_labels[1], fontsize=8, labelpad=2)
    ax.tick_params(labelsize=7, length=2, pad=2)
    tidy(ax, "both")


def _middle(points: Array) -> Array:
    """Find the point (2,) nearest to the median of points (n, 2): in several groups, one that is there."""
    nearest: Array = points[np.square(points - np.median(points, 0)).sum(1).argmin()]
    return nearest


def _legend_width(names: Sequence[str]) -> float:
    if not names:
        return 0.0
    return -(-min(len(names), MAX_LEGEND) // 20) * (LEGEND + 0.06 * max(len(name) for name in names))


def _draw_legend(ax: Axes, names: Sequence[str]) -> None:
    """Write classes by colour and marker, to the right of some axes."""
    from matplotlib.lines import Line2D

    handles = []
    for k, name in enumerate(names[:MAX_LEGEND]):
        color, marker = look(k)
        handles.append(Line2D([], [], color=color, marker=marker, linestyle="", markersize=5, label=name))
    rest = len(names) - MAX_LEGEND
    ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        ncols=-(-len(handles) // 20),
        frameon=False,
        fontsize=8,
        title=f"label ({rest} more)" if rest > 0 else "label",
        title_fontsize=8,
    )
