"""Arrays and pictures as raw tensors on the CPU."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:  # needs no import where there are no pictures
    from PIL.Image import Image

REAL = "buif"  # kinds of types whose values are real numbers
NARROW = (torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.int8, torch.int16)


def is_array(value: object) -> bool:
    """Tell whether a value holds an array: NumPy's, torch's, or one that converts itself."""
    convertible = hasattr(value, "__array__") or hasattr(value, "to_numpy")
    return convertible and not isinstance(value, np.generic) and not is_picture(value)


def is_picture(value: object) -> TypeGuard[Image]:
    """Tell whether a value is a PIL image; if so, its module has been imported already."""
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(value, pil.Image)


def as_stored(value: object, name: str) -> Tensor:
    """Turn an array, a picture or numbers into a raw tensor on the CPU.

    Returns:
        uint8 as it is; float32 for all that it holds exactly; and
        float64 for the rest.
    """
    if isinstance(value, Tensor):
        tensor = value.detach().cpu()
        tensor = tensor if tensor.layout == torch.strided else tensor.to_dense()
        tensor = tensor.as_subclass(Tensor)
        if tensor.is_complex():
            raise not_real(tensor.dtype, name)
        if tensor.is_inference():  # which nothing could learn from
            tensor = tensor.clone()
        if tensor.dtype == torch.uint8:
            return tensor
        return tensor.to(torch.float32 if tensor.dtype in NARROW else torch.float64)
    array = _array(value, name)
    if array.dtype.kind not in REAL:
        raise not_real(array.dtype, name)
    if isinstance(array, np.ma.MaskedArray):
        array = _filled(array) if np.ma.is_masked(array) else array.data
    dtype = stored_type(array.dtype)
    return torch.from_numpy(np.require(array, dtype, ["C", "W"]))


def stored_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that :func:`as_stored` has for numbers of this type."""
    if dtype == np.uint8:
        return dtype
    return np.dtype(np.float32 if np.can_cast(dtype, np.float32) else np.float64)


def _array(value: object, name: str) -> npt.NDArray[np.generic]:
    if is_picture(value):
        picture = np.asarray(value.convert("RGB") if value.mode == "P" else value)
        return picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1)
    try:
        array = np.asanyarray(value.to_numpy() if hasattr(value, "to_numpy") else value)
    except ValueError as error:
        raise ValueError(
            f"{name}: got values that are no array ({error}), expected numbers; make all rows equally long"
        ) from error
    return array


def _filled(array: np.ma.MaskedArray[Any, Any]) -> npt.NDArray[np.floating[Any]]:
    """Put NaN in the place of what is masked; pictures are scaled before they lose their type."""
    if array.dtype == np.uint8:
        return np.asarray(np.ma.filled(array.astype(np.float32), np.nan)) / np.float32(255)
    return np.asarray(np.ma.filled(array.astype(stored_type(array.dtype)), np.nan))


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


def scaled(raw: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """Scale pictures to [0, 1], x / 255 for uint8, and return all else, of this type at the widest."""
    if raw.dtype == torch.uint8:
        return raw.to(torch.float32).div_(255)
    return raw.to(dtype) if raw.dtype == torch.float64 else raw


def not_real(dtype: object, name: str) -> TypeError:
    """Make the error to raise for data that are no real numbers."""
    return TypeError(
        f"{name}: got dtype {dtype}, expected real numbers (integers, floats or booleans); encode "
        "categories as numbers first, give complex numbers as real and imaginary parts, and "
        "convert objects that are numbers with .astype('float32')"
    )
