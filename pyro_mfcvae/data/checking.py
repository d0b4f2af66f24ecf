"""Checks of data: their shape, and that values are finite and valid under a likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyro_mfcvae.likelihoods import Likelihood

Array = TypeVar("Array", Tensor, npt.NDArray[np.generic])
CHANNELS = (1, 3, 4)  # of pictures
SMALLEST_PICTURE = 8  # pixels of a side, below which nobody can tell

Rows = range | npt.NDArray[np.int64]  # numbers of some of all data


def check_shape(shape: Sequence[int], name: str) -> None:
    """Raise a ValueError unless this is the shape (N, ...) of at least one datum."""
    if len(shape) == 0 or (len(shape) == 1 and shape[0] > 0):
        raise ValueError(
            f"{name}: got shape {tuple(shape)}, expected (N, D) or (N, ...) with the datum first; "
            "use reshape(-1, 1) for N data of one feature, reshape(1, -1) for one datum"
        )
    if 0 in shape:
        raise ValueError(
            f"{name}: got no data, shape {tuple(shape)}, expected at least one datum of at least one value"
        )


def check_channels(x_shape: Sequence[int], name: str) -> None:
    """Raise a ValueError for pictures whose channels are last, which would be taken for rows."""
    if len(x_shape) == 3 and x_shape[2] in CHANNELS and min(x_shape[:2]) >= SMALLEST_PICTURE:
        raise ValueError(
            f"{name}: got data of shape (N, {', '.join(map(str, x_shape))}), whose channels seem to be last, "
            "expected (N, C, H, W); move them with np.moveaxis(x, -1, 1), or x.permute(0, 3, 1, 2) for a "
            "tensor; flatten what is no picture with x.reshape(len(x), -1)"
        )


def check_bytes(x: Tensor, name: str) -> None:
    """Raise a ValueError for data that may have been zeros and ones of type uint8, scaled as pictures."""
    largest = x.max()
    if largest.isnan():
        observed = x[~x.isnan()]
        largest = observed.max() if observed.numel() else largest
    if largest.to(torch.float32) == torch.tensor(1 / 255, dtype=torch.float32):
        raise ValueError(
            f"{name}: got 8-bit data that are 0 or 1 throughout, expected pictures of 0 to 255, which are "
            "scaled to [0, 1]; give numbers with x.astype('float32'), and black and white pictures too"
        )


def check_finite(x: Tensor, name: str, allow_missing: bool = False, rows: Rows | None = None) -> None:
    """Raise a ValueError for infinite entries and, unless they are allowed, missing ones.

    Args:
        x: inputs, (N, ...).
        name: argument that messages name.
        allow_missing: whether entries may be NaN.
        rows: numbers of these data among all of them; None if they are all.
    """
    low, high = torch.aminmax(x)  # both are NaN if any is
    if torch.isfinite(low) and torch.isfinite(high):
        return
    bad = torch.isinf(x) if allow_missing else ~torch.isfinite(x)
    found = torch.nonzero(bad.flatten(1).any(1)).flatten().tolist()
    if not found:
        return
    kind, expected = ("infinity", "or NaN") if allow_missing else ("NaN or infinity", "only")
    first = found[0] if rows is None else rows[found[0]]
    raise ValueError(
        f"{name}: got {kind} (as {str(x.dtype).removeprefix('torch.')}) in {len(found)} of {len(x)} rows, "
        f"the first is row {first}, expected finite numbers {expected}; remove these rows; impute them with "
        "sklearn.impute.SimpleImputer; or mark missing entries by NaN and use a likelihood that leaves them "
        "out, such as likelihood='mixed' for tables or likelihoods.Gaussian(missing=True)"
    )


def check_data(
    likelihood: Likelihood, name: str, x: Tensor, rows: Rows | None = None, *, support: bool = True
) -> None:
    """Raise a ValueError for data that are not finite, or not valid under the likelihood.

    Args:
        likelihood: the model's likelihood.
        name: argument that messages name.
        x: some of the data, on the CPU, (N, *x_shape).
        rows: numbers of these data among all of them; None if they are all, or if that is not known.
        support: whether they must be valid under the likelihood, and not only finite.
    """
    check_finite(x, name, likelihood.allows_missing, rows)
    if support:
        likelihood.check(x, name if rows is None else f"{name}, rows {rows[0]} to {rows[-1]}")


def shaped(x: Array, x_shape: tuple[int, ...], name: str) -> Array:
    """Return data as (N, *x_shape), with a channel of size one added if just that is missing.

    Args:
        x: data (N, ...).
        x_shape: shape of one datum.
        name: argument that messages name.

    Raises:
        ValueError: if the data have another shape.
    """
    if x_shape[0] == 1 and tuple(x.shape[1:]) == x_shape[1:]:
        x = x.reshape(x.shape[0], *x_shape)
    if tuple(x.shape[1:]) != x_shape:
        is_last = len(x_shape) == 3 and tuple(x.shape[1:]) == (*x_shape[1:], x_shape[0])
        remedy = (
            "move the channels with np.moveaxis(x, -1, 1)"
            if is_last
            else "for a single datum add a dimension, as in x[None]"
        )
        raise ValueError(
            f"{name}: got data of shape {tuple(x.shape)}, expected (N, {', '.join(map(str, x_shape))}); "
            f"{remedy}"
        )
    return x
