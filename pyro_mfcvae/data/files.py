"""Files that NumPy wrote, or somebody who says so."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pyro_mfcvae._utils.allocations import available_memory, in_words

Mapped: TypeAlias = np.memmap[tuple[int, ...], np.dtype[np.generic]]

# What NumPy writes; zipfile unpacks others in steps that have no bound.
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def open_npy(path: str | Path, name: str) -> Mapped:
    """Map a file that ``np.save`` wrote into memory, to read from.

    Args:
        path: the file.
        name: argument that error messages name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if NumPy cannot map it.
    """
    check_is_file(path, name, ".npy")
    try:
        with np.errstate(over="ignore"):  # of a size that no file has
            return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # a file may hold anything
        raise ValueError(
            f"{name}: got {str(path)!r}, which NumPy cannot map ({_reason(error)}), expected an array of "
            "numbers; write it with np.save"
        ) from error


def check_is_file(path: str | Path, name: str, *suffixes: str) -> None:
    """Raise a FileNotFoundError unless there is a file, which is one of these kinds."""
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{name}: got {str(path)!r}, where there is no file, expected data or the path of a "
            f"{' or '.join(suffixes)} file; look at the folder and the spelling"
        )


def is_npz(path: str | Path) -> bool:
    """Tell whether a file is one of ``np.savez``, by its beginning."""
    with open(path, "rb") as file:
        return file.read(2) == b"PK"


def read_npz(
    path: str | Path, wanted: Iterable[str], name: str
) -> tuple[list[str], dict[str, npt.NDArray[np.generic]]]:
    """Read some arrays of a file that ``np.savez`` wrote, unless they are too large for memory.

    Args:
        path: the file.
        wanted: names of the arrays to read, where there are such.
        name: argument that error messages name.

    Returns:
        The names of all arrays, and those that were read.

    Raises:
        ValueError: if NumPy did not write it, or what it unpacks to would not fit into memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            chosen = {array: members[array] for array in wanted if array in members}
            needed = sum(_needed(archive, info) for info in chosen.values())
            if needed <= available_memory():
                return list(members), {array: _read(archive, info) for array, info in chosen.items()}
    except Exception as error:  # a file may hold anything
        raise ValueError(
            f"{name}: got {path}, expected arrays that NumPy can read ({_reason(error)}); "
            "write them with np.savez"
        ) from error
    raise ValueError(
        f"{name}: got {path}, which takes {in_words(needed)} when it is read, expected at most "
        f"{in_words(available_memory())}, the memory that is there; write x to a file .npy, which can stay "
        "on the disk"
    )


def _needed(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """Compute the bytes of an array by its header, as it is stored and as float32 beside that."""
    if info.compress_type not in COMPRESSIONS:
        raise ValueError(f"{info.filename} is compressed in another way than NumPy does")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read_header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(file)
    return math.prod(shape) * (dtype.itemsize + 4)


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> npt.NDArray[np.generic]:
    with archive.open(info) as file:
        array: npt.NDArray[np.generic] = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):  # at the end, where all of it is compared with its check sum
            raise ValueError(f"{info.filename} is longer than its array")
        return array


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
