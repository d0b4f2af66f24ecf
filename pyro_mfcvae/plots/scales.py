"""Scales that turn values into brightness, colours or heights, for figures and for reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyro_mfcvae.plots.style import Array

MISSING = "#F2B866"  # the colour of missing entries
MISSING_RGB = np.array([int(MISSING[i : i + 2], 16) for i in (1, 3, 5)], np.float32) / 255
MAX_BARS = 24  # longer vectors are drawn as lines


@dataclass(frozen=True, eq=False)
class Scale:
    """Numbers to scale values with; each is one number, or one for each element of a datum.

    Attributes:
        low: value that is black, or at the bottom of a profile.
        high: value of full brightness, or at the top of a profile.
        zero: value that bars start from.
    """

    low: Array
    high: Array
    zero: Array

    @classmethod
    def shared(cls, values: Array, *, is_picture: bool) -> Scale:
        """Choose one scale for all elements, from 0 to 1 if that suits the values (any shape)."""
        low, high = _range(values, 0.5, 99.5)
        if low >= (-0.2 if is_picture else 0.0) and high <= 1.2:
            low, high = 0.0, 1.0
        if high <= low:
            high = low + 1.0
        return cls(np.asarray(low), np.asarray(high), np.clip(0.0, low, high))

    @classmethod
    def of_columns(cls, x: Array) -> Scale:
        """Choose a scale for each column of data (N, D); bars start from its median."""
        low, high = (np.array(ends) for ends in zip(*(_range(column, 1, 99) for column in x.T), strict=True))
        high = np.where(high > low, high, low + 1.0)
        median = np.nanmedian(np.where(np.isnan(x).all(0), 0.0, x), axis=0)
        return cls(low, high, median.clip(low, high))

    @property
    def start(self) -> Array:
        """Height of the value that bars start from, in [0, 1]."""
        start: Array = (self.zero - self.low) / (self.high - self.low)
        return start

    def scaled(self, data: Array) -> Array:
        """Scale data to [0, 1], what lies outside is clipped; missing entries stay NaN."""
        scaled: Array = np.clip((data - self.low) / (self.high - self.low), 0.0, 1.0)
        return scaled


def columns_note(names: Sequence[str]) -> str:
    """Say which columns the elements of a profile are, from left to right."""
    last = "" if len(names) <= MAX_BARS else f", ... to {names[-1]}"
    return f"Columns from the left: {', '.join(names[:MAX_BARS])}{last}."


def is_picture(x_shape: Sequence[int]) -> bool:
    """Say whether a datum is drawn as a picture, (H, W) or (C, H, W), rather than as a profile."""
    return len(x_shape) in (2, 3)


def as_pictures(scaled: Array) -> Array:
    """Turn data (n, H, W) or (n, C, H, W) in [0, 1] into pictures (n, H, W, 1), or (n, H, W, 3) in colour.

    Three channels are colours, and of more the first three; two are averaged. Missing entries have a colour
    of their own.
    """
    H, W = scaled.shape[-2:]
    pixels = scaled.reshape(len(scaled), -1, H, W)
    pixels = pixels.mean(1, keepdims=True) if pixels.shape[1] == 2 else pixels[:, :3]
    pixels = pixels.transpose(0, 2, 3, 1)
    is_missing = np.isnan(pixels).any(-1, keepdims=True)
    return np.where(is_missing, MISSING_RGB, pixels) if is_missing.any() else pixels


def channel_notes(x_shape: Sequence[int]) -> list[str]:
    """Tell what becomes of channels that are neither grey nor red, green and blue."""
    channels = x_shape[0] if len(x_shape) == 3 else 1
    if channels == 2:
        return ["Brightness: the mean of both channels."]
    return [f"Colours: the first three of {channels} channels."] if channels > 3 else []


def _range(values: Array, low: float, high: float) -> tuple[float, float]:
    """Compute two percentiles of what is observed; 0 and 1 if nothing is."""
    observed = values[~np.isnan(values)]
    if not observed.size:
        return 0.0, 1.0
    bottom, top = np.percentile(observed, (low, high))
    return float(bottom), float(top)
