"""Pictures of clusters in numbers: against labels, and by their size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyro_mfcvae import metrics
from pyro_mfcvae.metrics.evaluation import TITLES
from pyro_mfcvae.plots.arguments import data_of, facet_of, labels_of
from pyro_mfcvae.plots.choosing import matched
from pyro_mfcvae.plots.style import (
    CHARACTER,
    COLORS,
    GREY,
    HEADING,
    LINE,
    MARGIN,
    Array,
    figure_of,
    new_figure,
    place_axes,
    tidy,
    write_heading,
)
from pyro_mfcvae.results.fitted import FittedMFCVAE

if TYPE_CHECKING:  # matplotlib is slow to import, and only needed when a plot is made
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# In inches.
CELL_HEIGHT, CELL_WIDTH = 0.21, 0.42
MAX_HEIGHT, MAX_WIDTH = 10.0, 16.0  # of all cells together, which shrink to fit
BAR = 0.2


def confusion_matrix(
    fitted: FittedMFCVAE,
    x: object,
    labels: object,
    facet: int,
    *,
    name: str | None = None,
    counts: bool = False,
    ax: Axes | None = None,
) -> Figure:
    r"""Draw the classes that the clusters of a facet are made of.

    Clusters and classes are matched one to one so that most data are right (a frame marks the match);
    clusters that are left over stand with their majority class. Shades are the share of the cluster's
    data. The longer side, of clusters or classes, is upright. Clusters without data are only counted.

    Args:
        fitted: the model.
        x: data (N, *x_shape).
        labels: classes (N,), of any kind that `FittedMFCVAE.evaluate` takes.
        facet: index of the facet, 0 .. J-1.
        name: name of the label; None takes that of a series, or "label".
        counts: whether numbers of data are written, rather than percent of the cluster's data.
        ax: axes to draw in; None makes a figure of its own.

    Returns:
        The figure.

    Raises:
        ValueError: if the data do not suit the model, there is no such facet, or labels have another length.
        TypeError: if labels are no classes.

    References:
        Kuhn (1955), The Hungarian method for the assignment problem.
    """
    facet = facet_of(fitted, facet)
    data = data_of(fitted, x)
    return draw_confusion(fitted, fitted.predict(data)[:, facet], labels, facet, name, counts, ax)


def draw_confusion(
    fitted: FittedMFCVAE,
    c: Array,
    labels: object,
    facet: int,
    name: str | None = None,
    counts: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draw the figure of :func:`confusion_matrix`, given clusters c (N,)."""
    y = labels_of(labels, c)
    name = name or y.names[0]
    table = metrics.confusion(c, y)  # (K, L)
    order, match, is_match = matched(table)
    sizes = table.sum(1)
    share = table / sizes[:, None]
    rows = [f"{k} ({n:,})" for k, n in zip(np.unique(c)[order], sizes[order], strict=True)]
    frames = np.stack([match[order][is_match[order]], np.flatnonzero(is_match[order])], -1)
    table, share, columns = table[order], share[order], list(y.classes[0])
    is_upright = len(rows) >= len(columns)
    sides = ["cluster (number of data)", name]
    if not is_upright:
        table, share, rows, columns = table.T, share.T, columns, rows
        frames, sides = frames[:, ::-1], sides[::-1]

    R, C = table.shape
    number = [f"{v:,}" if counts else f"{100 * s:.0f}" for v, s in zip(table.flat, share.flat, strict=True)]
    wide = max(CELL_WIDTH if is_upright else 0.26, 0.055 * max(map(len, number)) + 0.1)
    height = min(max(CELL_HEIGHT, min(2.0 / R, 0.4)), MAX_HEIGHT / R)  # few cells are larger
    width = min(max(wide, min(3.0 / C, 0.6)), MAX_WIDTH / C)
    heading = f"Facet {facet} against {name}: {len(sizes)} of {fitted.clusters[facet]} clusters alive"
    if ax is None:
        scores = ", ".join(
            f"{title} {metrics.score_table(c, y, key).item():.3f}" for key, title in TITLES.items()
        )
        what = "numbers of data" if counts else "percent of the cluster's data"
        below = (
            f"{scores[0].upper()}{scores[1:]}\nRows: {sides[0]}. Columns: {sides[1]}.\n"
            f"Cells: {what}; frames: matched one to one."
        )
        left, top = (0.1 + CHARACTER * max(map(len, side)) for side in (rows, columns))
        top = 0.25 if _is_flat(columns) else top
        space = HEADING + 2 * LINE + top
        figure = new_figure(left + C * width + 2 * MARGIN, space + R * height + MARGIN)
        write_heading(figure, heading, below)
        ax = place_axes(figure, MARGIN + left, space, C * width, R * height)
    else:
        ax.set_title(heading, fontsize=10)
        ax.set_ylabel(sides[0], fontsize=8, color=GREY)
        ax.set_xlabel(sides[1], fontsize=8, color=GREY)
    _draw_matrix(ax, share, number, rows, columns, 72 * min(height * 0.62, 0.105))
    _draw_frames(ax, frames)
    return figure_of(ax)


def cluster_sizes(fitted: FittedMFCVAE, x: object, facet: int, *, ax: Axes | None = None) -> Figure:
    r"""Draw the mixture weights of a facet beside the share of the data in each cluster.

    Clusters are in descending order of their share of x, then of their weight. A cross marks those without
    data.

    Args:
        fitted: the model.
        x: data (N, *x_shape).
        facet: index of the facet, 0 .. J-1.
        ax: axes to draw in; None makes a figure of its own.

    Returns:
        The figure.

    Raises:
        ValueError: if the data do not suit the model, or there is no such facet.
    """
    facet = facet_of(fitted, facet)
    data = data_of(fitted, x)
    return draw_sizes(fitted, fitted.predict(data)[:, facet], facet, ax)


def draw_sizes(fitted: FittedMFCVAE, c: Array, facet: int, ax: Axes | None = None) -> Figure:
    """Draw the figure of :func:`cluster_sizes`, given clusters c (N,)."""
    K = fitted.clusters[facet]
    weights = 100 * fitted.weights[facet]
    shares = 100 * np.bincount(c, minlength=K) / len(c)
    order = np.lexsort([-weights, -shares])
    is_dead = shares[order] == 0
    heading = f"Facet {facet}: {K - is_dead.sum()} of {K} clusters alive"
    if ax is None:
        width = min(BAR * K, MAX_WIDTH) if K > 25 else max(BAR * K, 5.0)
        figure = new_figure(width + 1.0, HEADING + 3.0)
        width = figure.get_size_inches()[0] - 0.55 - 2 * MARGIN
        write_heading(figure, heading, f"Share of {len(c):,} data, and mixture weight p(c)")
        ax = place_axes(figure, MARGIN + 0.45, HEADING + 0.1, width, 2.4)
    else:
        ax.set_title(heading, fontsize=10)
    places = np.arange(K)
    ax.bar(places, shares[order], color=COLORS[5], width=0.8, label="share of the data")
    ax.plot(
        places,
        weights[order],
        linestyle="",
        marker="D",
        markersize=4,
        markerfacecolor="none",
        color=COLORS[6],
        label="mixture weight",
    )
    if is_dead.any():
        ax.plot(
            places[is_dead],
            np.zeros(is_dead.sum()),
            linestyle="",
            marker="x",
            color=COLORS[1],
            clip_on=False,
            zorder=4,
            label="no data",
        )
    step = -(-K // 80)  # of more clusters every other one is named, or fewer
    ax.set_xticks(places[::step], [str(k) for k in order[::step]], fontsize=7)
    ax.tick_params(axis="x", length=0)
    ax.tick_params(axis="y", labelsize=8)
    ax.set_xlim(-0.7, K - 0.3)
    ax.set_ylim(0, 1.05 * max(shares.max(), weights.max()))
    ax.set_xlabel("cluster", fontsize=8)
    ax.set_ylabel("percent", fontsize=8)
    tidy(ax)
    ax.legend(loc="upper right", frameon=False, fontsize=8)
    return figure_of(ax)


def _draw_matrix(
    ax: Axes, share: Array, numbers: list[str], rows: list[str], columns: list[str], size: float
) -> None:
    """Draw shades from 0 to 1 with numbers in them; what rounds to zero stays empty."""
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for (i, k), number in zip(np.ndindex(share.shape), numbers, strict=True):
        if number != "0":
            color = "white" if share[i, k] > 0.55 else "black"
            ax.text(k, i, number, ha="center", va="center_baseline", fontsize=size, color=color)
    label_size = min(8.0, 1.25 * size)
    ax.set_yticks(range(len(rows)), rows, fontsize=label_size)
    ax.set_xticks(range(len(columns)), columns, fontsize=8, rotation=0 if _is_flat(columns) else 90)
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.tick_params(length=0, pad=3)
    for i in range(1, len(rows)):
        ax.axhline(i - 0.5, color="white", linewidth=0.5)
    for k in range(1, len(columns)):
        ax.axvline(k - 0.5, color="white", linewidth=0.5)
    ax.spines[:].set_color(GREY)


def _is_flat(columns: list[str]) -> bool:
    """Say whether the names of columns are short enough to be written from left to right."""
    return max(map(len, columns)) <= 5


def _draw_frames(ax: Axes, frames: Array) -> None:
    """Draw frames around cells, (n, 2) of column and row."""
    from matplotlib.patches import Rectangle

    for column, row in frames:
        box = (column - 0.5, row - 0.5)
        ax.add_patch(Rectangle(box, 1, 1, fill=False, edgecolor=COLORS[1], linewidth=1.4, zorder=3))
