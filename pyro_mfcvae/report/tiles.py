"""Small drawings of data of any shape, as data that an HTML page can hold."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pyro_mfcvae.plots.scales import MAX_BARS, Scale, as_pictures, channel_notes, columns_note, is_picture
from pyro_mfcvae.plots.style import Array

MAX_SIDE = 64  # pixels of a picture; larger ones are averaged down
MAX_POINTS = 200  # of a line; longer vectors are thinned out
BLOCK = 8  # JPEG compresses squares of this side; a tile that shares one with its neighbour shows it
QUALITY = 90  # of JPEG
PROFILE_WIDTH, PROFILE_HEIGHT = 96, 48
PICTURE_GAP, PROFILE_GAP = 2, 4  # between the tiles of a strip
MISSING = -1  # in a profile


@dataclass(frozen=True)
class Strip:
    """Tiles side by side.

    Attributes:
        width: width of all of them.
        height: height of all of them.
        source: data URI of a picture of them; empty for profiles.
        paths: SVG path of each profile and its distance from the left; none for pictures.
    """

    width: int
    height: int
    source: str = ""
    paths: tuple[tuple[int, str], ...] = ()


class Drawing(Protocol):
    """A way to draw data of one shape; the page knows no more of it than this."""

    @property
    def style(self) -> str:
        """``"picture"``, ``"bars"`` or ``"line"``."""

    @property
    def width(self) -> int:
        """Width of a tile."""

    @property
    def height(self) -> int:
        """Height of a tile."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on how data are drawn."""

    def tiles(self, data: Array) -> Array:
        r"""Bring data (n, *x_shape) to a small form, (n, ...), of which any part can be drawn."""

    def strip(self, tiles: Array) -> Strip:
        """Draw some tiles side by side."""

    def store(self, tiles: Array) -> Mapping[str, object]:
        """Make JSON of many tiles, from which the page's script fills in any one."""


def drawing(x: Array, own_scales: bool, names: Sequence[str] = ()) -> Drawing:
    r"""Choose the drawing that suits data: pictures for (H, W) and (C, H, W), else profiles.

    Args:
        x: data (N, *x_shape).
        own_scales: whether each element of a vector has a scale of its own, as columns of a table have.
        names: names of the columns of a table; empty for other data.
    """
    return Pictures.of(x) if is_picture(x.shape[1:]) else Profiles.of(x, own_scales, names)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Data as pictures, in sheets that are PNG or JPEG, whichever is smaller.

    Attributes:
        scale: scale of brightness.
        width: width of a tile, in pixels.
        height: height of a tile, in pixels.
        notes: sentences that a reader should know.
        style: a class of the style sheet.
    """

    scale: Scale
    width: int
    height: int
    notes: tuple[str, ...]
    style: str = "picture"

    @classmethod
    def of(cls, x: Array) -> Pictures:
        """Choose one scale for all data (N, H, W) or (N, C, H, W)."""
        scale = Scale.shared(x, is_picture=True)
        side = max(x.shape[-2:])
        shrink = min(1.0, MAX_SIDE / side)
        height, width = (max(1, round(n * shrink)) for n in x.shape[-2:])
        notes = ["Pictures are kept as PNG or JPEG, whichever is smaller; JPEG changes pixels slightly."]
        if scale.low != 0.0 or scale.high != 1.0:
            notes.append(
                f"Values from {scale.low:.4g} (black) to {scale.high:.4g} (full brightness); "
                "others are clipped."
            )
        if shrink < 1:
            notes.append(f"Pictures of {x.shape[-2]} x {x.shape[-1]} pixels are shown as {height} x {width}.")
        notes += channel_notes(x.shape[1:])
        if np.isnan(x).any():
            notes.append("Missing pixels are orange.")
        return cls(scale, width, height, tuple(notes))

    def tiles(self, data: Array) -> Array:
        """Turn data (n, H, W) or (n, C, H, W) into bytes (n, height, width) or (n, height, width, 3)."""
        pixels = (255 * as_pictures(self.scale.scaled(data))).round().astype(np.uint8)
        if pixels.shape[-1] == 1:
            pixels = pixels[..., 0]
        if pixels.shape[1:3] == (self.height, self.width):
            return pixels
        return np.stack([self._shrunk(tile) for tile in pixels])

    def _shrunk(self, tile: Array) -> Array:
        from PIL import Image

        size = (self.width, self.height)
        return np.asarray(Image.fromarray(tile).resize(size, Image.Resampling.BOX))

    def strip(self, tiles: Array) -> Strip:
        """Draw tiles in one row of a picture."""
        n, height, width = tiles.shape[:3]
        step = width + PICTURE_GAP
        row = np.full((height, n * step - PICTURE_GAP, *tiles.shape[3:]), 128, np.uint8)
        for i, tile in enumerate(tiles):
            row[:, i * step : i * step + width] = tile
        return Strip(row.shape[1], height, source=_data_uri(row))

    def store(self, tiles: Array) -> Mapping[str, object]:
        """Make a sheet of tiles, row by row; each is in a cell of whole JPEG blocks."""
        n, height, width = tiles.shape[:3]
        columns = math.ceil(math.sqrt(n))
        rows = math.ceil(n / columns)
        cell = tuple(-(-side // BLOCK) * BLOCK for side in (height, width))
        margin = ((0, rows * columns - n), *((0, c - s) for c, s in zip(cell, (height, width), strict=True)))
        padded = np.pad(tiles, margin + ((0, 0),) * (tiles.ndim - 3), mode="edge")
        sheet = padded.reshape(rows, columns, *padded.shape[1:]).swapaxes(1, 2)
        sheet = sheet.reshape(rows * cell[0], columns * cell[1], *tiles.shape[3:])
        return {"sheet": _data_uri(sheet), "columns": columns, "cell": cell[::-1]}


@dataclass(frozen=True, eq=False)
class Profiles:
    """Data as profiles: bars for short vectors, else lines.

    Attributes:
        scale: scale of height, one or one for each element.
        notes: sentences that a reader should know.
        style: "bars" or "line", a class of the style sheet.
        width: width of a tile, in units of the SVG.
        height: height of a tile, in units of the SVG.
    """

    scale: Scale
    notes: tuple[str, ...]
    style: str
    width: int = PROFILE_WIDTH
    height: int = PROFILE_HEIGHT

    @classmethod
    def of(cls, x: Array, own_scales: bool, names: Sequence[str] = ()) -> Profiles:
        """Choose a scale for data (N, ...), one for all elements or not."""
        flat = x.reshape(len(x), -1)
        size, step = flat.shape[1], _step(flat.shape[1])
        flat = flat[:, ::step]
        notes = [columns_note(names)] if names else []
        if own_scales:
            scale = Scale.of_columns(flat)
            start = "; bars start from its median" if size <= MAX_BARS else ""
            notes.append(f"Each element has a scale of its own{start}.")
        else:
            scale = Scale.shared(flat, is_picture=False)
            notes.append(f"All elements share one scale, from {scale.low:.4g} to {scale.high:.4g}.")
        if step > 1:
            notes.append(f"Of {size:,} elements one in {step} is shown.")
        if np.isnan(x).any():
            notes.append("Where an entry is missing, there is no bar and no line.")
        return cls(scale, tuple(notes), "bars" if size <= MAX_BARS else "line")

    def tiles(self, data: Array) -> Array:
        """Turn data (n, ...) into heights from 0 to ``height``, MISSING where there is none."""
        flat = data.reshape(len(data), -1)
        flat = flat[:, :: _step(flat.shape[1])]
        heights = self.height * self.scale.scaled(flat)
        return np.where(np.isnan(flat), MISSING, heights.round()).astype(np.int16)

    def strip(self, tiles: Array) -> Strip:
        """Draw tiles in one row, as paths."""
        step = self.width + PROFILE_GAP
        paths = tuple((i * step, path) for i, path in enumerate(self._paths(tiles)))
        return Strip(len(tiles) * step - PROFILE_GAP, self.height, paths=paths)

    def store(self, tiles: Array) -> Mapping[str, object]:
        """List the SVG paths of tiles."""
        return {"paths": self._paths(tiles)}

    def _paths(self, tiles: Array) -> list[str]:
        path = self._bars if self.style == "bars" else self._line
        return [path(tile.tolist()) for tile in tiles]

    def _bars(self, heights: Sequence[int]) -> str:
        start = np.broadcast_to(self.scale.start, len(heights))
        bases = self.height - np.rint(self.height * start).astype(int)
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
    """Compute of how many elements of a vector one is shown."""
    return -(-size // MAX_POINTS)


def _data_uri(pixels: Array) -> str:
    """Encode 8-bit pixels (H, W) or (H, W, 3) as PNG or JPEG, whichever is smaller."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    png, jpeg = io.BytesIO(), io.BytesIO()
    image.save(png, format="png", compress_level=9)
    image.save(jpeg, format="jpeg", quality=QUALITY, subsampling=0)
    form, buffer = min(("png", png), ("jpeg", jpeg), key=lambda each: len(each[1].getvalue()))
    return f"data:image/{form};base64,{base64.b64encode(buffer.getvalue()).decode()}"
