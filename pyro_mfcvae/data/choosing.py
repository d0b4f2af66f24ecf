"""The choice whether data are collected in memory, or stay where they are until they are needed."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sized
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from pyro_mfcvae._utils.allocations import available_memory
from pyro_mfcvae._utils.turns import in_turn
from pyro_mfcvae.data.arrays import as_stored, is_array
from pyro_mfcvae.data.checking import check_channels, check_data, shaped
from pyro_mfcvae.data.files import Mapped
from pyro_mfcvae.data.loading import check_order, first_item, streamed
from pyro_mfcvae.data.memmap import Stored, StoredRows
from pyro_mfcvae.data.opening import RowWise, Streaming, opened
from pyro_mfcvae.data.reading import as_tensor, stored, without_labels
from pyro_mfcvae.data.schema import Schema, is_frame
from pyro_mfcvae.data.sources import InMemory, Source
from pyro_mfcvae.data.tables import TableFile
from pyro_mfcvae.likelihoods import Likelihood
from pyro_mfcvae.likelihoods.base import moments

SEEN = 1_000  # data by which the precision that they need is judged
MEMORY_SHARE = 0.25  # of the memory that is available, that "auto" collects data into


class Inputs(Protocol):
    """What a model says of the data that it takes: their shape, their columns, and what is valid."""

    likelihood: Likelihood
    x_shape: tuple[int, ...]

    @property
    def schema(self) -> Schema | None:
        """Columns of a table; None for other data."""


def schema_of(data: object, name: str = "dataset") -> Schema | None:
    """Return the schema of a table, or of one with labels; None for other data."""
    x = without_labels(opened(data, name))
    if isinstance(x, TableFile):
        return x.schema()
    return Schema.infer(x, name=name) if is_frame(x) else None


def as_source(
    data: object, in_memory: Streaming = "auto", name: str = "dataset", schema: Schema | None = None
) -> Source:
    """Prepare data to train on: in memory, as one tensor on the CPU, or read as they are needed.

    Args:
        data: anything that ``as_labelled`` takes.
        in_memory: whether they are in memory. ``"auto"`` is False for a sparse array, one in a file, a table
            in a file, a map-style Dataset, or a DataLoader of one, which would take more than a quarter of
            the memory that is available now; and True else.
        name: argument that error messages name.
        schema: columns of a table.

    Raises:
        TypeError: for data of a kind that is not accepted, or that cannot be streamed.
        ValueError: for another value of ``in_memory``, and for data that have no shape that suits.
    """
    if not (isinstance(in_memory, bool) or in_memory == "auto"):
        raise ValueError(f"in_memory: got {in_memory!r}, expected True, False or 'auto'")
    data = opened(data, name, in_memory, schema)
    if in_memory is True or (in_memory == "auto" and not is_large(data, name)):
        x = as_tensor(data, name=name, allow_missing=True, dtype=torch.float64, schema=schema)
        source: Source = InMemory(x)
    else:
        source = _out_of_memory(data, name, schema)
    check_channels(source.x_shape, name)
    return source


def as_needed(source: Source, likelihood: Likelihood, name: str) -> Source:
    """Return the data, of the type that the likelihood needs.

    Args:
        source: the data.
        likelihood: the model's likelihood.
        name: argument that the warning names.

    Warns:
        UserWarning: if that rounds away what they are.
    """
    some = source.sample(SEEN, torch.Generator().manual_seed(0))
    if likelihood.dtype != torch.float64 and some.dtype == torch.float64:
        varies = (some != some[:1]).any(0)
        loc, scale = moments(some)
        is_lost = varies & (scale < 16 * torch.finfo(torch.float32).eps * loc.abs())
        if is_lost.any():
            first = int(is_lost.flatten().to(torch.uint8).argmax())
            warnings.warn(
                f"{name}: {int(is_lost.sum())} of {is_lost.numel()} elements of a datum vary by no more than "
                f"float32 rounds them; element {first} by {scale.flatten()[first]:.3g} around "
                f"{loc.flatten()[first]:.6g}; subtract the mean, or use a likelihood that standardises in "
                "higher precision, such as likelihoods.Gaussian(standardize=True)",
                stacklevel=4,  # where fit is called
            )
    return source.as_type(likelihood.dtype)


def _out_of_memory(data: object, name: str, schema: Schema | None) -> Source:
    x = without_labels(data)
    if isinstance(x, TableFile):
        return Stored(StoredRows(x.encode(schema), name, file=str(x.path)))
    if isinstance(x, np.ma.MaskedArray):
        x = as_stored(x, name)
    if is_frame(x) or is_array(x):
        array = x if isinstance(x, (np.ndarray, RowWise)) else stored(x, name, schema).numpy()
        return Stored(StoredRows(array, name))
    if isinstance(x, (Dataset, DataLoader)):
        return streamed(x, name)
    raise TypeError(
        f"{name}: got a {type(data).__name__}, which in_memory=False cannot stream, expected an array, the "
        "path of a file, a torch Dataset or a DataLoader; use in_memory=True"
    )


def read_once(data: object, schema: Schema | None, name: str = "x") -> Tensor | Mapped | RowWise:
    """Read data that are used several times into one tensor, but leave those that are read by rows there."""
    array = _by_rows(data, schema, name)
    if array is not None:
        return array
    return as_tensor(data, name=name, allow_missing=True, dtype=torch.float64, schema=schema)


def data_for(x: object, model: Inputs, name: str = "x") -> Tensor:
    r"""Read data (N, *x_shape), in any form that :func:`pyro_mfcvae.fit` takes, into one tensor on the CPU.

    Args:
        x: data; a missing channel of size one is added, and columns of a table go by their names if the
            model knows any.
        model: the model, whose likelihood may allow missing entries.
        name: argument that error messages name.

    Raises:
        ValueError: if the data have another shape or other columns, or are not finite.
    """
    check_order(x, name)
    likelihood = model.likelihood
    tensor = as_tensor(
        x,
        name=name,
        allow_missing=likelihood.allows_missing,
        dtype=likelihood.dtype,
        schema=model.schema,
    )
    return shaped(tensor, model.x_shape, name)


@in_turn
def rows_for(x: object, model: Inputs, name: str = "x", *, support: bool = False) -> Tensor | StoredRows:
    r"""Read data as :func:`data_for` does, but leave those of a file there, to be read and checked by blocks.

    Args:
        x: data, as for :func:`data_for`.
        model: the model, whose likelihood may allow missing entries.
        name: argument that error messages name.
        support: whether data must be valid under the likelihood, too.

    Raises:
        ValueError: as :func:`data_for`, and for data that are invalid.
    """
    if isinstance(x, StoredRows):
        return x
    x = opened(x, name, schema=model.schema)
    array = _by_rows(x, model.schema, name)
    if array is not None:
        check = functools.partial(check_data, model.likelihood, name, support=support)
        rows = shaped(cast(npt.NDArray[np.generic], array), model.x_shape, name)
        return StoredRows(rows, name, check, model.likelihood.dtype)
    tensor = data_for(x, model, name)
    if support:
        model.likelihood.check(tensor, name)
    return tensor


def is_large(data: object, name: str) -> bool:
    """Tell whether data that are not in memory yet would take too much of it."""
    x = without_labels(data)
    if isinstance(x, TableFile):  # which were in memory else
        return True
    return 4 * _size(x, name) > MEMORY_SHARE * available_memory()


def _by_rows(data: object, schema: Schema | None, name: str) -> Mapped | RowWise | None:
    """Return the array in a file that data are, or are in a pair (x, y); None for those in memory."""
    x = without_labels(opened(data, name, schema=schema))
    if isinstance(x, TableFile):
        return x.encode(schema)
    return x if isinstance(x, (np.memmap, RowWise)) else None


def _size(x: object, name: str) -> int:
    """Count the values of data that may not be in memory; 0 where their number is not known."""
    if isinstance(x, (np.memmap, RowWise)):
        return x.size
    dataset = x.dataset if isinstance(x, DataLoader) else x
    if isinstance(dataset, (IterableDataset, TensorDataset)) or not (
        isinstance(dataset, Dataset) and isinstance(dataset, Sized) and len(dataset)
    ):
        return 0
    return len(dataset) * first_item(dataset, name, x if isinstance(x, DataLoader) else None).numel()
