"""What paths, and objects of other libraries, hold: arrays, tables, and what is read from by rows."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyro_mfcvae.data.arrays import as_stored
from pyro_mfcvae.data.cells import from_anndata, is_anndata, open_h5ad
from pyro_mfcvae.data.files import open_npy
from pyro_mfcvae.data.schema import Schema
from pyro_mfcvae.data.tables import TableFile, is_table

READ_BY_ROWS = (
    ("h5py", "Dataset"),
    ("zarr", "Array"),
    ("anndata.abc", "CSRDataset"),
    ("anndata.abc", "CSCDataset"),
)
Streaming = bool | Literal["auto"]


@dataclass(frozen=True, eq=False)
class RowWise:
    """An array that is read from by rows: of a sparse matrix, or in a file of HDF5 or Zarr.

    Args:
        array: numbers (N, ...), which slices and ascending indices read rows of.
        x_shape: shape that a row is given; None is its own.
    """

    array: Any
    x_shape: tuple[int, ...] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self.filename is None:
            return RowWise, (self.array, self.x_shape)
        return _reopened, (self.filename, self.array.name, self.x_shape)  # by another process

    def __len__(self) -> int:
        return int(self.array.shape[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (N, *x_shape)."""
        return (len(self), *(self.array.shape[1:] if self.x_shape is None else self.x_shape))

    @property
    def size(self) -> int:
        """Number of values, be they stored or not."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the numbers."""
        dtype: np.dtype[np.generic] = np.dtype(self.array.dtype)
        return dtype

    @property
    def filename(self) -> str | None:
        """File of HDF5 that they are in; None for others."""
        name: str | None = getattr(getattr(self.array, "file", None), "filename", None)
        return name

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> npt.NDArray[np.generic]:
        by_axis = getattr(self.array, "oindex", self.array)  # Zarr's, which takes indices of rows alone
        part = by_axis[rows]
        dense = np.asarray(part.toarray() if _is_sparse(part) else part)
        return dense.reshape(-1, *self.shape[1:])

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[np.generic]:
        return np.asarray(self[slice(None)], dtype)

    def reshape(self, length: int, *x_shape: int) -> RowWise:
        """Return the same rows, each of another shape."""
        return replace(self, x_shape=x_shape)


def _reopened(filename: str, dataset: str, x_shape: tuple[int, ...] | None) -> RowWise:
    import h5py

    return RowWise(h5py.File(filename)[dataset], x_shape)


def opened(data: object, name: str, in_memory: Streaming = "auto", schema: Schema | None = None) -> object:
    """Return what a path or another library's container holds, and other data as they are.

    Args:
        data: data, or a pair (x, y) of them and their labels.
        name: argument that error messages name.
        in_memory: whether to read a table in a file at once; ``"auto"`` does so if it is small.
        schema: columns that a table is expected to have; None is not known.

    Returns:
        A mapped array for a path .npy; an Arrow table, or a :class:`TableFile`, for a table; a
        :class:`RowWise` for sparse matrices, arrays of HDF5 and Zarr, and those in a path .h5ad.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if the library that reads it is not installed.
        ValueError: if a file cannot be read, or an AnnData has other variables than the schema.
    """
    if isinstance(data, tuple) and len(data) == 2:
        x = opened(data[0], name, in_memory, schema)
        return x if isinstance(x, TableFile) else (x, data[1])
    if isinstance(data, TableFile):
        return data.read() if in_memory is True else data
    if isinstance(data, (str, Path)):
        if is_table(data):
            file = TableFile(data, name, schema)
            is_streamed = file.is_large if in_memory == "auto" else not in_memory
            return file if is_streamed else file.read()
        data = open_h5ad(data, name) if Path(data).suffix.lower() == ".h5ad" else open_npy(data, name)
    return _row_wise(from_anndata(data, schema=schema) if is_anndata(data) else data)


def _is_sparse(value: object) -> bool:
    module = sys.modules.get("scipy.sparse")
    return module is not None and bool(module.issparse(value))


def _row_wise(data: object) -> object:
    """Wrap arrays that can be read by rows; other data are as they are."""
    if isinstance(data, Tensor) and data.layout != torch.strided and data.ndim == 2:
        entries = data.detach().cpu().to_sparse_coo().coalesce()
        values = as_stored(entries.values(), "data").numpy()
        import scipy.sparse  # which takes long

        data = scipy.sparse.coo_array((values, tuple(entries.indices().numpy())), tuple(entries.shape))
    if _is_sparse(data):
        return RowWise(cast(Any, data).tocsr())
    for library, kind in READ_BY_ROWS:
        module = sys.modules.get(library)  # imported, if there is one of its objects
        if module is not None and isinstance(data, getattr(module, kind)):
            return RowWise(data)
    return data
