"""Whether data are collected in memory, or streamed."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from pyro_mfcvae.data.inputs import as_tensor
from pyro_mfcvae.data.loading import first_item, streamed
from pyro_mfcvae.data.memmap import Stored, StoredRows
from pyro_mfcvae.data.sources import InMemory, Source
from pyro_mfcvae.data.values import as_stored, is_array, open_npy
from pyro_mfcvae.datasets.factors import FactorImages
from pyro_mfcvae.datasets.labelled import LabelledData

Streaming = bool | Literal["auto"]
MEMORY_SHARE = 0.25  # of the memory that is available, that "auto" collects data into


def as_source(data: Any, in_memory: Streaming = "auto", name: str = "dataset") -> Source:
    """Data to train on: in memory, as one float32 tensor on the CPU, or read as they are needed.

    Args:
        data: anything that ``as_labelled`` takes.
        in_memory: whether they are in memory. ``"auto"`` is False for a memory-mapped array, the path of a
            ``.npy`` file, a map-style Dataset, or a DataLoader of one, which would take more than a quarter
            of the memory that is available now, as float32; and True else.
        name: what error messages call the data.

    Raises:
        TypeError: for data of a kind that is not accepted, or that cannot be streamed.
        ValueError: for another value of ``in_memory``, and for data that have no shape that suits.
    """
    if not (isinstance(in_memory, bool) or in_memory == "auto"):
        raise ValueError(f"in_memory: got {in_memory!r}, expected True, False or 'auto'")
    if isinstance(data, (str, Path)):
        data = open_npy(data, name)
    if in_memory is True or (in_memory == "auto" and not is_large(data, name)):
        return InMemory(as_tensor(data, name=name, allow_missing=True))
    x = _without_labels(data)
    if isinstance(x, np.ma.MaskedArray):
        x = as_stored(x, name)
    if is_array(x):
        return Stored(StoredRows(x if isinstance(x, np.ndarray) else as_stored(x, name).numpy(), name))
    if isinstance(x, (Dataset, DataLoader, FactorImages)):
        return streamed(x, name)
    raise TypeError(
        f"{name} is a {type(data).__name__}, which in_memory=False cannot stream; expected an array, the "
        "path of a .npy file, a torch Dataset or a DataLoader"
    )


def mapped(data: Any, name: str = "x") -> np.memmap[Any, Any] | None:
    """The memory-mapped array that data are, or are in a pair (x, y), or are the path of; None else."""
    x = open_npy(data, name) if isinstance(data, (str, Path)) else _without_labels(data)
    return x if isinstance(x, np.memmap) else None


def read_once(data: Any, name: str = "x") -> Tensor | np.memmap[Any, Any]:
    """Data that are used several times: one tensor, or a mapped array as it is."""
    array = mapped(data, name)
    return as_tensor(data, name=name, allow_missing=True) if array is None else array


def _without_labels(data: Any) -> Any:
    """The x of a pair (x, y)."""
    if isinstance(data, LabelledData):
        return data.x
    if isinstance(data, (tuple, list)) and len(data) == 2 and is_array(data[0]):
        return data[0]
    return data


def is_large(data: Any, name: str) -> bool:
    """Whether data that are not in memory yet would take too much of it."""
    x = _without_labels(data)
    return 4 * _size(x.dataset if isinstance(x, DataLoader) else x, name) > MEMORY_SHARE * _available_memory()


def _size(x: Any, name: str) -> int:
    """Number of values of data that may not be in memory; 0 where it is not known."""
    if isinstance(x, np.memmap):
        return x.size
    if not isinstance(x, (Dataset, FactorImages)) or isinstance(x, (IterableDataset, TensorDataset)):
        return 0
    N = len(x) if hasattr(x, "__len__") else 0
    return N * first_item(x, name).numel() if N else 0


def _available_memory() -> float:
    """Bytes that could be allocated without swapping, or infinity if nobody knows."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":") for line in file)
        available = 1024.0 * int(fields["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        try:
            available = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        except (AttributeError, OSError, ValueError):
            return math.inf
    try:  # of a container
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return available
    return min(available, float(limit)) if limit.isdecimal() else available
