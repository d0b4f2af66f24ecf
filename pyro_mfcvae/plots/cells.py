"""Grids of cells, in which data of any shape are small pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyro_mfcvae.likelihoods import GaussianLikelihood, MixedLikelihood
from pyro_mfcvae.plots.arguments import on_host
from pyro_mfcvae.plots.scales import (
    MAX_BARS,
    MISSING,
    Scale,
    as_pictures,
    channel_notes,
    columns_note,
    is_picture,
)
from pyro_mfcvae.plots.style import (
    CHARACTER,
    COLORS,
    HEADING,
    LINE,
    MARGIN,
    PALE,
    Array,
    figure_of,
    new_figure,
    place_axes,
    write_heading,
)
from pyro_mfcvae.results.fitted import FittedMFCVAE

if TYPE_CHECKING:  # matplotlib is slow to import, and only needed when a plot is made
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = 0.5  # height of one image, in inches
ROWS_PER_COLUMN = 20
MAX_PIXELS = 96  # side of an image; larger ones are thinned out


@dataclass(frozen=True)
class Cells:
    """A grid of cells, in which data of one shape are drawn.

    Data of shape (H, W) or (C, H, W) are images, all others are profiles, of bars or a line.

    Attributes:
        x_shape: shape of a datum.
        scale: scale of brightness or height.
        has_missing: whether entries are missing.
        names: names of the columns of a table; empty for other data.
    """

    x_shape: tuple[int, ...]
    scale: Scale
    has_missing: bool
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, fitted: FittedMFCVAE, *data: Array) -> Cells:
        """Make cells for data (N, *x_shape), on one scale unless columns have scales of their own."""
        x_shape, likelihood = fitted.model.x_shape, fitted.model.likelihood
        values = np.concatenate([d.ravel() for d in data])
        has_missing = bool(np.isnan(values).any())
        names = () if fitted.model.schema is None else fitted.model.schema.names
        is_image = is_picture(x_shape)
        if isinstance(likelihood, GaussianLikelihood) and likelihood.standardize and not is_image:
            loc, scale = on_host(likelihood.loc), on_host(likelihood.scale)
            own = Scale(loc - 2.5 * scale, loc + 2.5 * scale, loc)
            return cls(x_shape, own, has_missing, names)
        if isinstance(likelihood, MixedLikelihood):
            return cls(x_shape, Scale.of_columns(values.reshape(-1, *x_shape)), has_missing, names)
        return cls(x_shape, Scale.shared(values, is_picture=is_image), has_missing, names)

    @property
    def is_image(self) -> bool:
        """True if a datum is drawn as an image."""
        return is_picture(self.x_shape)

    @property
    def note(self) -> str:
        """Sentences on what is not as expected; empty if there is nothing."""
        notes = channel_notes(self.x_shape)
        if self.names:
            notes.append(columns_note(self.names))
        if self.has_missing:
            notes.append("Missing entries are orange.")
        return " ".join(notes)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a cell, in pixels."""
        if not self.is_image:
            return 24, 48
        height, width = (-(-side // self._thinning) for side in self.x_shape[-2:])
        return height, width

    @property
    def gap(self) -> int:
        """Pixels between cells."""
        return max(1, round(0.07 * max(self.size)))

    @property
    def _thinning(self) -> int:
        return -(-max(self.x_shape[-2:]) // MAX_PIXELS)

    def offsets(self, n: int, axis: int, lead: int = 0) -> Array:
        """Place n cells along an axis: the first pixel of each, ``lead`` pixels more after the first."""
        return np.arange(n) * (self.size[axis] + self.gap) + lead * (np.arange(n) > 0)

    def extent(self, n: int, axis: int, lead: int = 0) -> float:
        """Compute the inches that n cells take along an axis."""
        height, width = self.size
        inches = CELL * min(1.0, 2.0 * height / width) * (1.0 if self.is_image else 0.7)
        return float(self.offsets(n, axis, lead)[-1] + self.size[axis]) * inches / height

    def draw(self, ax: Axes, rows: Sequence[Sequence[Array | None]], lead: int = 0) -> None:
        """Draw rows of data, each (*x_shape); None is an empty cell. Pixel (0, 0) is at the origin."""
        R, C = len(rows), max(map(len, rows))
        y, x = self.offsets(R, 0, lead), self.offsets(C, 1, lead)
        height, width = int(y[-1]) + self.size[0], int(x[-1]) + self.size[1]
        filled = [(y[i], x[k], d) for i, row in enumerate(rows) for k, d in enumerate(row) if d is not None]
        corners = np.array([(top, left) for top, left, _ in filled])  # (n, 2)
        scaled = self.scale.scaled(np.stack([d for _, _, d in filled]))
        if self.is_image:
            ax.imshow(self._montage(scaled, corners, height, width), aspect="auto")
        else:
            self._profiles(ax, scaled.reshape(len(scaled), -1), corners)
        ax.set_xlim(-0.5, width - 0.5)
        ax.set_ylim(height - 0.5, -0.5)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)

    def _montage(self, scaled: Array, corners: Array, height: int, width: int) -> Array:
        """Put images (n, *x_shape) at their corners (n, 2) in one of shape (height, width, 3)."""
        H, W = self.size
        montage = np.ones((height, width, 3), np.float32)
        pictures = as_pictures(scaled[..., :: self._thinning, :: self._thinning])
        for (top, left), picture in zip(corners, pictures, strict=True):
            montage[top : top + H, left : left + W] = picture
        return montage

    def _profiles(self, ax: Axes, scaled: Array, corners: Array) -> None:
        """Draw bars from zero for short vectors (n, D), else lines, at corners (n, 2)."""
        from matplotlib.collections import LineCollection

        (H, W), (n, D) = self.size, scaled.shape
        top, left = corners[:, :1] - 0.5, corners[:, 1:] - 0.5  # (n, 1)
        zero = np.broadcast_to(self.scale.start, self.x_shape).ravel()
        heights = top + H * (1 - scaled)  # (n, D)
        _add_boxes(ax, left, left + W, top, top + H, color=PALE)
        start, end = left + W * np.arange(D) / D, left + W * (np.arange(D) + 1) / D
        is_missing = np.isnan(scaled)
        if is_missing.any():
            full = np.broadcast_to(top, (n, D))[is_missing]
            _add_boxes(ax, start[is_missing], end[is_missing], full, full + H, color=MISSING)
        if D <= MAX_BARS:
            base, room = np.broadcast_to(top + H * (1 - zero), (n, D)), 0.1 * W / D
            seen = [edge[~is_missing] for edge in (start + room, end - room, base, heights)]
            _add_boxes(ax, *seen, color=COLORS[0])
        else:
            lines = list(np.stack([(start + end) / 2, heights], -1))
            ax.add_collection(LineCollection(lines, colors=COLORS[0], linewidths=0.6))


def draw_rows(
    cells: Cells,
    rows: Sequence[Array],
    labels: Sequence[str],
    heading: str,
    below: str,
    ax: Axes | None = None,
) -> Figure:
    """Draw labelled rows of data, in as many columns of rows as keep the figure's height in bounds.

    With ``ax`` they stand below each other in these axes, under the heading alone.
    """
    C = max(map(len, rows))
    if ax is not None:
        _draw_column(cells, ax, rows, labels, C)
        ax.set_aspect("equal", adjustable="box")
        ax.set_title(heading, fontsize=10)
        return figure_of(ax)
    num_columns = -(-len(rows) // ROWS_PER_COLUMN)
    R = -(-len(rows) // num_columns)
    label_width = CHARACTER * max(map(len, labels)) + 0.08
    width, height = cells.extent(C, 1), cells.extent(R, 0)
    step = MARGIN + label_width + width
    space = HEADING + LINE if cells.note else HEADING
    figure = new_figure(num_columns * step + 2 * MARGIN, height + space + MARGIN)
    write_heading(figure, heading, f"{below}\n{cells.note}")
    for column in range(num_columns):
        part = slice(column * R, (column + 1) * R)
        part_height = cells.extent(len(rows[part]), 0)
        place = (MARGIN + column * step + label_width, space, width, part_height)
        _draw_column(cells, place_axes(figure, *place), rows[part], labels[part], C)
    return figure


def draw_square(cells: Cells, data: Array) -> Figure:
    """Draw data (N, *x_shape) in as many rows as columns, or one row fewer, and nothing else."""
    from matplotlib.figure import Figure

    C = math.ceil(math.sqrt(len(data)))
    rows = [list(data[start : start + C]) for start in range(0, len(data), C)]
    figure = Figure(figsize=(cells.extent(C, 1), cells.extent(len(rows), 0)), facecolor="white")
    cells.draw(figure.add_axes((0, 0, 1, 1)), [[*row, *[None] * (C - len(row))] for row in rows])
    return figure


def _draw_column(cells: Cells, ax: Axes, rows: Sequence[Array], labels: Sequence[str], C: int) -> None:
    """Draw labelled rows in one grid of C cells a row."""
    cells.draw(ax, [[*row, *[None] * (C - len(row))] for row in rows])
    ax.set_yticks(cells.offsets(len(rows), 0) + (cells.size[0] - 1) / 2, labels, fontsize=8)
    ax.tick_params(axis="y", length=0, pad=3)


def _add_boxes(ax: Axes, left: Array, right: Array, top: Array, bottom: Array, *, color: str) -> None:
    """Draw filled boxes, whose edges have one shape."""
    from matplotlib.collections import PolyCollection

    corners = np.broadcast_arrays(left, top, left, bottom, right, bottom, right, top)
    boxes = np.stack([corner.ravel() for corner in corners], -1).reshape(-1, 4, 2)
    ax.add_collection(PolyCollection(list(boxes), facecolors=color, edgecolors="none"))
