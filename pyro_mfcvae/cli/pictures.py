"""Pictures of generated data in a square, without labels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:  # matplotlib is slow to import, and only needed when a picture is made
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float32]

DPI = 150
SIDE = 100  # least pixels of the longer side of an image
PROFILE = 1.2, 0.8  # width and height of a vector, in inches
BLUE, PALE = "#0072B2", "#F0F0F0"


def square(data: Floats, typical: Floats) -> Figure:
    """Data in as many rows as columns, or one row fewer.

    Images are drawn as such. Of all else each number is a bar, from its mean over ``typical`` data, in a
    frame that 99 % of them lie in.

    Args:
        data: (N, *x_shape).
        typical: data (M, *x_shape) that the scale is taken from.
    """
    columns = math.ceil(math.sqrt(len(data)))
    shape = data.shape[1:]
    if len(shape) == 2 or (len(shape) == 3 and shape[0] in (1, 3)):
        return _images(data, typical, columns)
    return _profiles(data.reshape(len(data), -1), typical.reshape(len(typical), -1), columns)


def _images(data: Floats, typical: Floats, columns: int) -> Figure:
    from matplotlib.figure import Figure
    from torchvision.utils import make_grid

    low, high = np.percentile(typical, (0.5, 99.5))
    if low >= -0.2 and high <= 1.2:
        low, high = 0.0, 1.0
    scaled = np.clip((data - low) / max(high - low, 1e-6), 0.0, 1.0)
    height, width = data.shape[-2:]
    pixels = torch.from_numpy(scaled.reshape(len(data), -1, height, width))
    gap = max(1, round(0.07 * max(height, width)))
    grid = make_grid(pixels, nrow=columns, padding=gap, pad_value=1.0).permute(1, 2, 0).numpy()
    zoom = math.ceil(SIDE / max(height, width))
    figure = Figure(figsize=(zoom * grid.shape[1] / DPI, zoom * grid.shape[0] / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(grid, interpolation="nearest")
    axes.set_axis_off()
    return figure


def _profiles(data: Floats, typical: Floats, columns: int) -> Figure:
    from matplotlib.figure import Figure

    N, D = data.shape
    rows = -(-N // columns)
    low, high = np.percentile(typical, (0.5, 99.5), axis=0)
    extent = np.maximum(high - low, 1e-6)
    top = np.clip((data - low) / extent, 0.0, 1.0)  # (N, D)
    zero = np.broadcast_to(np.clip((typical.mean(0) - low) / extent, 0.0, 1.0), top.shape)
    # One cell is a unit wide and high, and has a twentieth of it as its margin on every side.
    left, bottom = np.arange(N) % columns + 0.05, rows - 1 - np.arange(N) // columns + 0.05
    figure = Figure(figsize=(PROFILE[0] * columns, PROFILE[1] * rows), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, columns), ylim=(0, rows))
    axes.bar(left, 0.9, 0.9, bottom, align="edge", color=PALE)
    place = left[:, None] + 0.9 * (np.arange(D) + 0.5) / D
    start, end = (bottom[:, None] + 0.9 * level for level in (zero, top))
    width = max(0.3, 0.8 * 0.9 * 72 * PROFILE[0] / D)  # in points
    axes.vlines(place.ravel(), start.ravel(), end.ravel(), colors=BLUE, linewidth=width)
    axes.set_axis_off()
    return figure
