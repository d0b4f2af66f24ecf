"""The values of data: arrays of any kind as tensors on the CPU, scaled and checked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch


def is_array(value: Any) -> bool:
    """Whether value holds an array: NumPy's, torch's, or one that converts itself."""
    convertible = hasattr(value, "__array__") or hasattr(value, "to_numpy")
    return convertible and not isinstance(value, np.generic) and not is_picture(value)


def is_picture(value: Any) -> bool:
    """Whether value is a PIL image; if so, its module has been imported already."""
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(value, pil.Image)


def as_stored(value: Any, name: str) -> torch.Tensor:
    """A tensor on the CPU of the values as stored: uint8, or else float32."""
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        tensor = tensor if tensor.layout == torch.strided else tensor.to_dense()
        tensor = tensor.as_subclass(torch.Tensor)
        if tensor.is_complex():
            raise not_real(tensor.dtype, name)
        return tensor if tensor.dtype == torch.uint8 else tensor.to(torch.float32)
    array = _array(value, name)
    if array.dtype.kind not in "buif":
        raise not_real(array.dtype, name)
    dtype = np.uint8 if array.dtype == np.uint8 else np.float32
    with np.errstate(over="ignore"):  # what overflows float32 is reported with the infinities
        if isinstance(array, np.ma.MaskedArray):
            masked = np.ma.is_masked(array)
            array = np.ma.filled(array.astype(np.float32), np.nan) if masked else array.data
        return torch.from_numpy(np.require(array, dtype, ["C", "W"]))


def _array(value: Any, name: str) -> npt.NDArray[Any]:
    if is_picture(value):
        picture = np.asarray(value.convert("RGB") if value.mode == "P" else value)
        return picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1)
    try:
        return np.asanyarray(value.to_numpy() if hasattr(value, "to_numpy") else value)
    except ValueError as error:
        raise ValueError(f"{name} cannot be read as an array of numbers: {error}") from error


def not_real(dtype: Any, name: str) -> TypeError:
    """What to raise for data that are no real numbers."""
    return TypeError(
        f"{name} has dtype {dtype}, expected real numbers (integers, floats or booleans): encode "
        "categories as numbers first, give complex numbers as real and imaginary parts, and "
        "convert objects that are numbers with .astype('float32')"
    )


def open_npy(path: str | Path, name: str) -> np.memmap[Any, Any]:
    """Map a file that ``np.save`` wrote into memory, to read from.

    Args:
        path: of the file.
        name: what error messages call the data.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if NumPy cannot map it.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{name}: there is no file {path}; expected data, or the path of a .npy file")
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"{name}: {path} is not an array that NumPy can map ({error}); expected a file that np.save "
            "wrote, of numbers"
        ) from error


def check_shape(shape: Sequence[int], name: str) -> None:
    """Raise a ValueError unless this is the shape (N, ...) of at least one datum."""
    if len(shape) == 0 or (len(shape) == 1 and shape[0] > 0):
        raise ValueError(
            f"{name} has shape {tuple(shape)}, expected (N, D) or (N, ...) with the datum first: "
            "use reshape(-1, 1) for N data of one feature, reshape(1, -1) for one datum"
        )
    if 0 in shape:
        raise ValueError(f"{name} is empty, shape {tuple(shape)}: expected at least one datum")


def scaled(raw: torch.Tensor) -> torch.Tensor:
    """Pictures in [0, 1], all else as it is: x / 255 for uint8, else x."""
    return raw.to(torch.float32).div_(255) if raw.dtype == torch.uint8 else raw


def check_finite(
    x: torch.Tensor,
    name: str,
    allow_missing: bool = False,
    rows: Sequence[int] | npt.NDArray[np.int64] | None = None,
) -> None:
    """Raise a ValueError for infinite entries and, unless they are allowed, missing ones.

    Args:
        x: inputs, float32 (N, ...).
        name: what the message calls them.
        allow_missing: whether entries may be NaN.
        rows: which of the data these are, in order; None is all.
    """
    low, high = torch.aminmax(x)  # both are NaN if any is
    if torch.isfinite(low) and torch.isfinite(high):
        return
    bad = torch.isinf(x) if allow_missing else ~torch.isfinite(x)
    found = torch.nonzero(bad.flatten(1).any(1)).flatten().tolist()
    if not found:
        return
    what = "infinity" if allow_missing else "NaN or infinity"
    first = found[0] if rows is None else rows[found[0]]
    raise ValueError(
        f"{name} contains {what} (as float32) in {len(found)} of {len(x)} rows, the first "
        f"is row {first}: remove these rows; impute them, e.g. with sklearn.impute.SimpleImputer; or "
        "mark missing entries by NaN and use a likelihood that leaves them out, such as "
        "likelihood='mixed' for tables or likelihoods.Gaussian(missing=True)"
    )
