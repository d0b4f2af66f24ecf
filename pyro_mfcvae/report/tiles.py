"""How data of any shape become small drawings that an HTML page can hold."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAX_SIDE = 64  # pixels of a picture; larger ones are averaged down
MAX_CHANNELS = 4  # of pictures that are neither grey nor RGB; more are averaged
MAX_BARS = 24  # longer vectors are drawn as lines
MAX_POINTS = 200  # of a line; longer vectors are thinned out
BLOCK = 8  # JPEG compresses squares of this side; a tile that shares one with its neighbour shows it
QUALITY = 90  # of JPEG
PROFILE_WIDTH, PROFILE_HEIGHT = 96, 48
STRIP_GAP = 2  # pixels between the pictures of a strip
MISSING_COLOR = (125, 90, 170)
MISSING = -1  # in a profile


class Drawing(Protocol):
    """Draws data of one shape; the page knows no more of it than this."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of how data are drawn."""

    def tiles(self, data: Array) -> Array:
        r"""Data (n, *x_shape) in a small form, (n, ...), of which any part can be drawn."""

    def strip(self, tiles: Array, text: str) -> str:
        """HTML of some tiles side by side, with a text for those who do not see them."""

    def store(self, tiles: Array) -> dict[str, Any]:
        """JSON of many tiles, from which the page's script fills in any one."""

    def blank(self) -> str:
        """HTML of a tile that the page's script will fill in."""


def drawing(x: Array, own_scales: bool) -> Drawing:
    r"""The drawing that suits data: pictures for (H, W) and (C, H, W), else profiles.

    Args:
        x: data (N, *x_shape).
        own_scales: whether each element of a vector has a scale of its own, as columns of a table have.
    """
    return Pictures.of(x) if x.ndim in (3, 4) else Profiles.of(x, own_scales)


@dataclass(frozen=True)
class Pictures:
    """Data as pictures, in sheets that are PNG or JPEG, whichever is smaller.

    Attributes:
        low: value that is black.
        high: value of full brightness.
        width: of a tile, in pixels.
        height: of a tile, in pixels.
        notes: what a reader should know.
    """

    low: float
    high: float
    width: int
    height: int
    notes: tuple[str, ...]

    @classmethod
    def of(cls, x: Array) -> Pictures:
        """Pictures on one scale for all data (N, H, W) or (N, C, H, W)."""
        low, high = _range(x, 0.5, 99.5)
        if low >= -0.2 and high <= 1.2:
            low, high = 0.0, 1.0
        side = max(x.shape[-2:])
        shrink = min(1.0, MAX_SIDE / side)
        height, width = (max(1, round(n * shrink)) for n in x.shape[-2:])
        channels = x.shape[1] if x.ndim == 4 else 1
        notes = ["Pictures are kept as PNG or JPEG, whichever is smaller; JPEG changes pixels slightly."]
        if (low, high) != (0.0, 1.0):
            notes.append(
                f"Values from {low:.4g} (black) to {high:.4g} (full brightness); others are clipped."
            )
        if shrink < 1:
            notes.append(f"Pictures of {x.shape[-2]} x {x.shape[-1]} pixels are shown as {height} x {width}.")
        if channels not in (1, 3) and channels <= MAX_CHANNELS:
            width *= channels
            notes.append(f"The {channels} channels stand side by side.")
        elif channels not in (1, 3):
            notes.append(f"The mean of the {channels} channels is shown.")
        if np.isnan(x).any():
            notes.append("Missing pixels are violet.")
        return cls(low, high, width, height, tuple(notes))

    def tiles(self, data: Array) -> Array:
        """Data (n, H, W) or (n, C, H, W) as 8-bit pixels (n, height, width) or (n, height, width, 3)."""
        x = data if data.ndim == 4 else data[:, None]
        channels = x.shape[1]
        if channels > MAX_CHANNELS:
            x = x.mean(1, keepdims=True)
        elif channels not in (1, 3):
            x = np.concatenate(list(x.transpose(1, 0, 2, 3)), axis=-1)[:, None]
        missing = np.isnan(x)
        scaled = 255 * np.clip((x - self.low) / (self.high - self.low), 0.0, 1.0)
        pixels = np.where(missing, 0.0, scaled).round().astype(np.uint8).transpose(0, 2, 3, 1)
        if missing.any() and pixels.shape[-1] == 1:
            pixels = np.repeat(pixels, 3, -1)
        if missing.any():
            pixels[missing.any(1)] = MISSING_COLOR
        pixels = pixels if pixels.shape[-1] == 3 else pixels[..., 0]
        if pixels.shape[1:3] == (self.height, self.width):
            return pixels
        return np.stack([self._shrunk(tile) for tile in pixels])

    def _shrunk(self, tile: Array) -> Array:
        from PIL import Image

        size = (self.width, self.height)
        return np.asarray(Image.fromarray(tile).resize(size, Image.Resampling.BOX))

    def strip(self, tiles: Array, text: str) -> str:
        """An <img> of tiles in one row."""
        n, height, width = tiles.shape[:3]
        step = width + STRIP_GAP
        row = np.full((height, n * step - STRIP_GAP, *tiles.shape[3:]), 128, np.uint8)
        for i, tile in enumerate(tiles):
            row[:, i * step : i * step + width] = tile
        size = f'width="{row.shape[1]}" height="{height}"'
        return f'<img class="strip" alt="{escape(text)}" {size} src="{_data_uri(row)}">'

    def store(self, tiles: Array) -> dict[str, Any]:
        """A sheet of tiles, row by row; each is in a cell of whole JPEG blocks."""
        n, height, width = tiles.shape[:3]
        columns = math.ceil(math.sqrt(n))
        rows = math.ceil(n / columns)
        cell = tuple(-(-side // BLOCK) * BLOCK for side in (height, width))
        margin = ((0, rows * columns - n), *((0, c - s) for c, s in zip(cell, (height, width), strict=True)))
        padded = np.pad(tiles, margin + ((0, 0),) * (tiles.ndim - 3), mode="edge")
        sheet = padded.reshape(rows, columns, *padded.shape[1:]).swapaxes(1, 2)
        sheet = sheet.reshape(rows * cell[0], columns * cell[1], *tiles.shape[3:])
        return {"sheet": _data_uri(sheet), "columns": columns, "cell": cell[::-1]}

    def blank(self) -> str:
        """A <canvas>."""
        return f'<canvas class="tile" width="{self.width}" height="{self.height}"></canvas>'


@dataclass(frozen=True, eq=False)
class Profiles:
    """Data as profiles: bars for short vectors, else lines.

    Attributes:
        low: value at the bottom, one or one for each element.
        high: value at the top.
        zero: value that bars start from.
        notes: what a reader should know.
        style: "bars" or "line", a class of the style sheet.
        width: of a tile, in units of the SVG.
        height: of a tile, in units of the SVG.
    """

    low: Array
    high: Array
    zero: Array
    notes: tuple[str, ...]
    style: str
    width: int = PROFILE_WIDTH
    height: int = PROFILE_HEIGHT

    @classmethod
    def of(cls, x: Array, own_scales: bool) -> Profiles:
        """Profiles of data (N, ...), on one scale for all elements or not."""
        flat = x.reshape(len(x), -1)
        size, step = flat.shape[1], _step(flat.shape[1])
        flat = flat[:, ::step]
        notes = []
        if own_scales:
            ranges = [_range(column, 1, 99) for column in flat.T]
            low, high = (np.array(ends) for ends in zip(*ranges, strict=True))
            zero = np.nanmedian(np.where(np.isnan(flat).all(0), 0.0, flat), axis=0).clip(low, high)
            start = "; bars start from its median" if size <= MAX_BARS else ""
            notes.append(f"Each element has a scale of its own{start}.")
        else:
            low, high = (np.asarray(end) for end in _range(flat, 0.5, 99.5))
            if low >= 0 and high <= 1.2:
                low, high = np.asarray(0.0), np.asarray(1.0)
            zero = np.clip(0.0, low, high)
            notes.append(f"All elements share one scale, from {low:.4g} to {high:.4g}.")
        if step > 1:
            notes.append(f"Of {size:,} elements one in {step} is shown.")
        if np.isnan(x).any():
            notes.append("Where an entry is missing, there is no bar and no line.")
        return cls(low, high, np.asarray(zero), tuple(notes), "bars" if size <= MAX_BARS else "line")

    def tiles(self, data: Array) -> Array:
        """Data (n, ...) as heights from 0 to ``height``, MISSING where there is none."""
        flat = data.reshape(len(data), -1)
        flat = flat[:, :: _step(flat.shape[1])]
        scaled = self.height * np.clip((flat - self.low) / (self.high - self.low), 0.0, 1.0)
        return np.where(np.isnan(flat), MISSING, scaled.round()).astype(np.int16)

    def strip(self, tiles: Array, text: str) -> str:
        """An <svg> of tiles in one row."""
        step = self.width + 4
        parts = "".join(
            f'<path transform="translate({i * step})" d="{path}"/>'
            for i, path in enumerate(self.store(tiles)["paths"])
        )
        width = len(tiles) * step - 4
        size = f'width="{width}" height="{self.height}" viewBox="0 0 {width} {self.height}"'
        return f'<svg class="strip {self.style}" role="img" aria-label="{escape(text)}" {size}>{parts}</svg>'

    def store(self, tiles: Array) -> dict[str, Any]:
        """SVG paths."""
        path = self._bars if self.style == "bars" else self._line
        return {"paths": [path(tile.tolist()) for tile in tiles]}

    def blank(self) -> str:
        """An <svg> with an empty <path>."""
        return f'<svg class="tile {self.style}" viewBox="0 0 {self.width} {self.height}"><path/></svg>'

    def _bars(self, heights: Sequence[int]) -> str:
        zero = np.broadcast_to((self.zero - self.low) / (self.high - self.low), len(heights))
        bases = self.height - np.rint(self.height * zero).astype(int)
        step = self.width / len(heights)
        return "".join(
            f"M{step * (i + 0.1):.4g} {base}V{self.height - top}h{0.8 * step:.3g}V{base}z"
            for i, (top, base) in enumerate(zip(heights, bases, strict=True))
            if top != MISSING
        )

    def _line(self, heights: Sequence[int]) -> str:
        step = self.width / (len(heights) - 1)
        before, path = MISSING, []
        for i, top in enumerate(heights):
            if top != MISSING:
                # A start of no length is a dot, should nothing follow.
                command = "M{} {}h0" if before == MISSING else "L{} {}"
                path.append(command.format(f"{i * step:.4g}", self.height - top))
            before = top
        return "".join(path)


def _step(size: int) -> int:
    """Of how many elements of a vector one is shown."""
    return -(-size // MAX_POINTS)


def _range(values: Array, low: float, high: float) -> tuple[float, float]:
    """Two percentiles of what is observed, apart from each other."""
    observed = values[~np.isnan(values)]
    if not observed.size:
        return 0.0, 1.0
    bottom, top = (float(v) for v in np.percentile(observed, (low, high)))
    return (bottom, top) if top > bottom else (bottom, bottom + 1.0)


def _data_uri(pixels: Array) -> str:
    """8-bit pixels (H, W) or (H, W, 3) as PNG or JPEG, whichever is smaller."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    encoded = {}
    for form, options in {
        "png": {"compress_level": 9},
        "jpeg": {"quality": QUALITY, "subsampling": 0},
    }.items():
        buffer = io.BytesIO()
        image.save(buffer, format=form, **options)
        encoded[form] = buffer.getvalue()
    form = min(encoded, key=lambda form: len(encoded[form]))
    return f"data:image/{form};base64,{base64.b64encode(encoded[form]).decode()}"
