"""Arrays, tables and pictures as raw tensors on the CPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:  # needs no import where there are no pictures
    from PIL.Image import Image

Mapped: TypeAlias = np.memmap[tuple[int, ...], np.dtype[np.generic]]


def is_array(value: object) -> bool:
    """Tell whether a value holds an array: NumPy's, torch's, or one that converts itself."""
    convertible = hasattr(value, "__array__") or hasattr(value, "to_numpy")
    return convertible and not isinstance(value, np.generic) and not is_picture(value)


def is_picture(value: object) -> TypeGuard[Image]:
    """Tell whether a value is a PIL image; if so, its module has been imported already."""
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(value, pil.Image)


def as_stored(value: object, name: str) -> Tensor:
    """Turn an array, a picture or numbers into a raw tensor on the CPU: uint8, or else float32."""
    if isinstance(value, Tensor):
        tensor = value.detach().cpu()
        tensor = tensor if tensor.layout == torch.strided else tensor.to_dense()
        tensor = tensor.as_subclass(Tensor)
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


def _array(value: object, name: str) -> npt.NDArray[np.generic]:
    if is_picture(value):
        picture = np.asarray(value.convert("RGB") if value.mode == "P" else value)
        return picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1)
    try:
        return np.asanyarray(value.to_numpy() if hasattr(value, "to_numpy") else value)
    except ValueError as error:
        raise ValueError(
            f"{name}: got values that are no array ({error}), expected numbers; make all rows equally long"
        ) from error


def as_integers(value: object) -> Tensor | None:
    """Turn labels into int64; None for anything but integers."""
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.is_complex():
            return None
        return value.detach().cpu().as_subclass(Tensor).to(torch.int64)
    if value is None or is_picture(value):
        return None
    try:
        array = np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value)
    except (TypeError, ValueError):
        return None
    return torch.from_numpy(array.astype(np.int64)) if array.dtype.kind in "bui" else None


def scaled(raw: Tensor) -> Tensor:
    """Scale pictures to [0, 1], x / 255 for uint8, and return all else as it is."""
    return raw.to(torch.float32).div_(255) if raw.dtype == torch.uint8 else raw


def not_real(dtype: object, name: str) -> TypeError:
    """Make the error to raise for data that are no real numbers."""
    return TypeError(
        f"{name}: got dtype {dtype}, expected real numbers (integers, floats or booleans); encode "
        "categories as numbers first, give complex numbers as real and imaginary parts, and "
        "convert objects that are numbers with .astype('float32')"
    )


def open_npy(path: str | Path, name: str) -> Mapped:
    """Map a file that ``np.save`` wrote into memory, to read from.

    Args:
        path: the file.
        name: argument that error messages name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if NumPy cannot map it.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{name}: got {str(path)!r}, where there is no file, expected data or the path of a .npy file; "
            "look at the folder and the spelling"
        )
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"{name}: got {str(path)!r}, which NumPy cannot map ({error}), expected an array of numbers; "
            "write it with np.save"
        ) from error
