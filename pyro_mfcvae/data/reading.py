"""Arrays, tensors, datasets and loaders as one tensor on the CPU.

Anything that is read becomes a raw tensor first, either uint8 (pictures as stored, 0 to 255) or
float32 or float64 (taken as it is). Only the joined result is scaled, so that pictures stay small until
then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Sized
from typing import Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from pyro_mfcvae._utils.turns import in_turn
from pyro_mfcvae.data.arrays import as_integers, as_stored, is_array, is_picture, scaled
from pyro_mfcvae.data.checking import check_bytes, check_finite, check_shape
from pyro_mfcvae.data.opening import opened
from pyro_mfcvae.data.schema import Schema, as_numbers, is_frame
from pyro_mfcvae.datasets.labelled import LabelledData

Labelled: TypeAlias = tuple[Tensor, Tensor | None]
Join: TypeAlias = Callable[[list[Tensor]], Tensor]

ACCEPTED = (
    "a NumPy array or tensor (N, ...), a pair (x, y) of them, a DataFrame, nested lists of numbers, a torch "
    "or torchvision Dataset, a torch DataLoader, a sparse matrix, an AnnData, an array of HDF5 or Zarr, or "
    "the path of a file .npy, .csv, .tsv, .parquet or .h5ad"
)

# Modules whose datasets return their arrays unchanged when they have no transform, and the
# attributes that hold the inputs and the labels there.
IN_MEMORY_MODULES = ("torchvision.datasets.", "pyro_mfcvae.datasets.")
IN_MEMORY_ATTRIBUTES = (("data", "targets"), ("data", "labels"), ("images", "labels"))


class MapStyle(Protocol):
    """Dataset with a length, whose items are numbered from 0."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> object: ...


# --- all kinds of data ---------------------------------------------------------------------------


def as_tensor(
    data: object,
    *,
    name: str = "x",
    allow_missing: bool = False,
    dtype: torch.dtype = torch.float32,
    schema: Schema | None = None,
) -> Tensor:
    """Turn data into one tensor on the CPU; labels that come with it are dropped.

    Args:
        data: anything that `as_labelled` takes.
        name: argument that error messages name.
        allow_missing: whether entries may be missing, as for `as_labelled`.
        dtype: the widest type, as for `as_labelled`.
        schema: columns of a table, as for `as_labelled`.

    Returns:
        Inputs, (N, ...).

    Raises:
        TypeError: as `as_labelled`.
        ValueError: as `as_labelled`.
    """
    return as_labelled(data, name=name, allow_missing=allow_missing, dtype=dtype, schema=schema)[0]


@in_turn
def as_labelled(
    data: object,
    *,
    name: str = "dataset",
    allow_missing: bool = False,
    dtype: torch.dtype = torch.float32,
    schema: Schema | None = None,
) -> Labelled:
    """Turn data into one tensor on the CPU and, where there are any, integer labels.

    uint8 is a picture and becomes x / 255, but in a DataFrame; every other number is cast. Arrays and
    tensors keep their shape, PIL images become (C, H, W), with C = 1 for grey ones. A DataLoader
    is read once, in its own order; torch's random stream is restored afterwards.

    >>> x, y = as_labelled((np.full((2, 3), 51, dtype=np.uint8), [4, 7]))
    >>> x[0], y
    (tensor([0.2000, 0.2000, 0.2000]), tensor([4, 7]))

    Args:
        data: an array or tensor (N, ...); a pair (x, y) of them, best a tuple; anything with
            ``to_numpy``; nested lists of numbers; `LabelledData`; a torch Dataset or IterableDataset with
            items ``x`` or ``(x, y, ...)``, such as `RenderedShapes` and `Shapes3D`, or a list of such
            items; a DataLoader (without automatic batching, what it yields are batches); a sparse
            matrix of SciPy or torch; an ``AnnData``, that is its ``X``; an array of HDF5 or Zarr; the path
            of a file ``.npy``, ``.csv``, ``.tsv``, ``.parquet`` or ``.h5ad``. A tensor or array that is of
            the right type already is not copied.
        name: argument that error messages name.
        allow_missing: whether entries may be NaN or, in a masked array, masked, which gives NaN.
        dtype: the widest type: float32, or float64, which data have then that float32 does not hold exactly.
        schema: columns of a table; None expects numbers in all of its columns, and goes by their places.

    Returns:
        Inputs, (N, ...), and labels, int64 (N,) or (N, F); None for labels that are
        absent or not integers.

    Raises:
        TypeError: data of a kind that is not accepted, or not real numbers.
        ValueError: data that is empty, has one dimension, is not finite, or whose parts differ
            in shape or length; and data that may be one thing or another.
    """
    x, labels = _read(data, name, schema)
    check_shape(x.shape, name)
    x = scaled(x.contiguous(), dtype)
    check_bytes(x, name)
    check_finite(x, name, allow_missing)
    if labels is not None and labels.ndim > 2:  # masks and the like are no labels
        labels = None
    return x, labels


def without_labels(data: object) -> object:
    """Return the x of a pair (x, y) or of `LabelledData`, and any other data as they are."""
    if isinstance(data, LabelledData):
        return data.x
    pair = as_pair(data)
    return data if pair is None else pair[0]


def as_pair(data: object, name: str = "dataset") -> tuple[object, object] | None:
    """Return data and their labels, if that is what two things in a tuple or list are; else None.

    Two arrays of one shape in a list are two data.

    Raises:
        ValueError: if they may as well be data and labels.
    """
    if not isinstance(data, (tuple, list)) or len(data) != 2 or not is_array(data[0]):
        return None
    x, y = data
    if isinstance(data, list) and is_array(y) and np.shape(x) == np.shape(y):
        if as_integers(y) is not None and as_integers(x) is None:
            raise ValueError(
                f"{name}: got a list of two arrays of shape {np.shape(x)}, the second of integers, expected "
                "two data or a pair of data and labels; give a tuple (x, y), or np.stack the two data"
            )
        return None
    return x, y


def stored(data: object, name: str, schema: Schema | None = None) -> Tensor:
    """Turn an array or a table into a raw tensor on the CPU."""
    if not is_frame(data):
        return as_stored(data, name)
    return torch.from_numpy(as_numbers(data, name)) if schema is None else schema.encode(data, name)


def _read(data: object, name: str, schema: Schema | None) -> Labelled:
    """Dispatch on the kind of data; the inputs come back raw."""
    data = opened(data, name, in_memory=True, schema=schema)
    if isinstance(data, LabelledData):
        return _read_pair(data.x, data.labels, name, schema)
    if isinstance(data, (tuple, list)):
        return _read_sequence(data, name, schema)
    if isinstance(data, DataLoader):
        with torch.random.fork_rng(devices=()):  # a loader draws a seed even without shuffling
            return _collect(data, name, torch.cat)
    if isinstance(data, IterableDataset):
        return _collect(data, name, torch.stack)
    if isinstance(data, Dataset):
        return _read_dataset(data, name)
    if is_frame(data) or is_array(data):
        return stored(data, name, schema), None
    if hasattr(data, "column_names") and hasattr(data, "features"):  # one of Hugging Face's datasets
        raise _of_dicts(list(data.column_names or data.features or ()), name)
    raise TypeError(f"{name}: got a {type(data).__name__}, expected {ACCEPTED}")


def _read_sequence(data: Sequence[object], name: str, schema: Schema | None) -> Labelled:
    """Read a pair (x, y), a list of items as a Dataset has them, or nested lists of numbers."""
    if len(data) == 0:
        raise ValueError(f"{name}: got no data, expected at least one datum")
    pair = as_pair(data, name)
    if pair is not None:
        return _read_pair(*pair, name, schema)
    first = data[0][0] if isinstance(data[0], tuple) and data[0] else data[0]
    if is_array(first) or is_picture(first):
        return _collect(data, name, torch.stack)
    try:
        array = np.asarray(data)
    except ValueError:  # ragged: name the first two shapes that differ
        return joined([as_stored(row, name) for row in data], name, torch.stack), None
    return as_stored(array, name), None


def _read_pair(x: object, y: object, name: str, schema: Schema | None) -> Labelled:
    inputs = stored(x, name, schema)
    if y is None:
        return inputs, None
    y = y.to_numpy() if hasattr(y, "to_numpy") else y
    shape = _shape_of_labels(y)
    if len(shape) not in (1, 2):
        raise ValueError(
            f"{name}: got a pair whose second element has shape {shape}, expected labels (N,) or "
            "(N, F); pass the inputs alone, or np.stack two inputs into one array"
        )
    if inputs.ndim == 0 or shape[0] != len(inputs):
        raise ValueError(
            f"{name}: got a pair (x, y) of unequal length, shapes {tuple(inputs.shape)} and {shape}, "
            "expected one label for every datum; take both from the same data"
        )
    return inputs, as_integers(y)


def _shape_of_labels(y: object) -> tuple[int, ...]:
    if hasattr(y, "shape"):
        return tuple(y.shape)
    try:
        return np.asarray(y).shape
    except ValueError:  # ragged
        return (len(y),) if isinstance(y, Sized) else ()


# --- datasets ------------------------------------------------------------------------------------


def _read_dataset(data: Dataset[object], name: str) -> Labelled:
    """Read a map-style dataset: from its arrays where that is the same, else item by item."""
    if type(data) is TensorDataset:
        labels = as_integers(data.tensors[1]) if len(data.tensors) > 1 else None
        return as_stored(data.tensors[0], name), labels
    if not isinstance(data, Sized):
        return _collect(data, name, torch.stack)  # type: ignore[arg-type]  # by __getitem__
    if len(data) == 0:
        raise ValueError(f"{name}: got no data, a Dataset of length 0, expected at least one datum")
    in_memory = _in_memory(data, name)
    if in_memory is not None:
        return in_memory
    return _collect((data[i] for i in range(len(data))), name, torch.stack)


def _in_memory(data: MapStyle, name: str) -> Labelled | None:
    """Return inputs and labels of a dataset that holds them as arrays; None where its items may differ.

    The code that makes the items must be torchvision's or ours, without transforms, and the first
    item must be the first entry of the arrays, which also settles the order of the axes.
    """
    if not type(data).__getitem__.__module__.startswith(IN_MEMORY_MODULES):
        return None
    transforms = ("transform", "target_transform", "transforms")
    if any(getattr(data, transform, None) is not None for transform in transforms):
        return None
    first_x, first_label = split_item(data[0], name)
    first = scaled(as_stored(first_x, name))
    for inputs, targets in IN_MEMORY_ATTRIBUTES:
        if not (is_array(getattr(data, inputs, None)) and hasattr(data, targets)):
            continue
        x, labels = as_stored(getattr(data, inputs), name), as_integers(getattr(data, targets))
        if len(x) != len(data) or not _starts_with(labels, as_integers(first_label), len(data)):
            continue
        layouts = [x]
        if x.ndim == 3:
            layouts.append(x.unsqueeze(1))  # grey pictures (N, H, W)
        elif x.ndim == 4:
            layouts.append(x.permute(0, 3, 1, 2))  # colours last
        for layout in layouts:
            if torch.equal(scaled(layout[0]), first):
                return layout, labels
    return None


def _starts_with(labels: Tensor | None, first: Tensor | None, N: int) -> bool:
    if labels is None or first is None:
        return labels is None and first is None
    return len(labels) == N and torch.equal(labels[0], first)


def _collect(items: Iterable[object], name: str, join: Join) -> Labelled:
    """Read items (joined by stacking) or batches (by concatenation), with labels or without."""
    inputs: list[Tensor] = []
    labels: list[Tensor | None] = []
    for item in items:
        x, label = split_item(item, name)
        inputs.append(as_stored(x, name))
        labels.append(as_integers(label))
    if not inputs:
        raise ValueError(f"{name}: got no data, not a single item, expected at least one datum")
    return joined(inputs, name, join), _join_labels(labels, join)


def split_item(item: object, name: str) -> tuple[object, object]:
    """Split an item or batch ``x`` or ``(x, y, ...)`` into x and y, None without one."""
    if isinstance(item, dict):
        raise _of_dicts(list(item), name)
    if isinstance(item, tuple) or (
        isinstance(item, list) and item and (is_array(item[0]) or is_picture(item[0]))
    ):
        if not item:
            raise ValueError(f"{name}: got an item that is an empty tuple, expected x or (x, y)")
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def _of_dicts(keys: Sequence[object], name: str) -> TypeError:
    return TypeError(
        f"{name}: got items that are a dict with keys {keys}, expected x or (x, y); choose what x is, as in "
        'data.from_dicts(dataset, "image", label="label")'
    )


def joined(parts: list[Tensor], name: str, join: Join) -> Tensor:
    """Join items (by ``torch.stack``) or batches (by ``torch.cat``), whose shapes must agree."""
    shapes = [tuple(part.shape) for part in parts]
    kind, shared = "item", slice(None)
    if join is torch.cat:
        kind, shared = "batch", slice(1, None)
        if shapes[0] == ():
            raise ValueError(f"{name}: got a number, expected batches; give the DataLoader a batch_size")
    for i, shape in enumerate(shapes):
        if len(shape) != len(shapes[0]) or shape[shared] != shapes[0][shared]:
            raise ValueError(
                f"{name}: got {kind} 0 of shape {shapes[0]} and {kind} {i} of shape {shape}, expected one "
                "shape for all; resize, crop or pad them first"
            )
    if len({part.dtype for part in parts}) > 1:
        parts = [scaled(part) for part in parts]
    return join(parts)


def _join_labels(parts: list[Tensor | None], join: Join) -> Tensor | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    if join is torch.cat:
        return join(known) if len({part.shape[1:] for part in known}) == 1 else None
    return join(known) if len({part.shape for part in known}) == 1 else None
