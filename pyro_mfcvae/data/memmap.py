"""Sources of data that stay in a file, or in an array of another type, until they are needed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyro_mfcvae._utils.allocations import available_memory, in_words
from pyro_mfcvae.data.arrays import REAL, not_real, scaled, stored_type
from pyro_mfcvae.data.checking import Rows, check_shape
from pyro_mfcvae.data.opening import RowWise
from pyro_mfcvae.data.sources import (
    HELD_OUT,
    Check,
    Source,
    Stream,
    cut,
    number_held_out,
    prefetched,
    seed_from,
)

CHUNK = 2**16  # bytes that are read from one place
WINDOW = 2**24  # bytes of many such chunks, from places at random, that are shuffled at a time


@dataclass(frozen=True, eq=False)
class StoredRows:
    """Rows of an array of real numbers, as floats where they are read; uint8 is scaled by 1/255.

    Args:
        array: numbers (N, *x_shape), such as a ``numpy.memmap``.
        name: argument that error messages name.
        check: function that sees all rows that are read.
        widest: type that they are read as, unless float32 is exact: float64 or float32.
        file: path of the file that they were encoded from, if the array is not a file of its own.

    Raises:
        TypeError: if the array does not hold real numbers.
        ValueError: if it is empty, or has one dimension.
    """

    array: npt.NDArray[np.generic] | RowWise
    name: str
    check: Check | None = None
    widest: torch.dtype = torch.float64
    file: str | None = None

    def __post_init__(self) -> None:
        if self.array.dtype.kind not in REAL:
            raise not_real(self.array.dtype, self.name)
        check_shape(self.array.shape, self.name)

    def __len__(self) -> int:
        return len(self.array)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (N, *x_shape) of all rows."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type that rows are kept as before they are needed: bytes, or else floats."""
        stored = stored_type(self.array.dtype)
        return np.dtype(np.float32) if stored == np.float64 and self.widest == torch.float32 else stored

    @property
    def row_bytes(self) -> int:
        """Number of bytes of a row of this type."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def read(self, rows: Rows) -> npt.NDArray[np.generic]:
        """Copy rows, a range or indices, as :attr:`dtype` has them: (M, *x_shape)."""
        with np.errstate(over="ignore", invalid="ignore"):  # the check tells of what overflows float32
            part = self.array[slice(rows.start, rows.stop) if isinstance(rows, range) else rows]
            copy = np.array(part, self.dtype, order="C")
        if self.check is not None:
            self.check(scaled(torch.from_numpy(copy)), rows)
        return copy

    def take(self, rows: Rows) -> Tensor:
        """Copy rows, a range or indices, as float32 (M, *x_shape).

        Raises:
            ValueError: if so many do not fit into memory.
        """
        needed, available = 4 * len(rows) * math.prod(self.shape[1:]), available_memory()
        if needed > available:
            raise ValueError(
                f"{self.name}: got data of shape {self.shape}, of which {len(rows)} take {in_words(needed)} "
                f"at a time, expected at most {in_words(available)}, the memory that is there; make each "
                "smaller"
            )
        return scaled(torch.from_numpy(self.read(rows)))

    def split(self, size: int) -> Iterator[Tensor]:
        """Yield all rows in order, in blocks of ``size`` or, the last one, fewer."""
        for start in range(0, len(self), size):
            yield self.take(range(start, min(start + size, len(self))))


class Stored(Source):
    """Data of an array that need not fit into memory, in an order at random.

    Rows are read in chunks of neighbours. A window has chunks from many places, and its rows are shuffled;
    a thread prepares it while the one before is trained on. So the rows of a sorted file are mixed, reading
    is mostly sequential, and memory does not grow with N, but for one number for each chunk.

    Args:
        rows: all data, of which some may be held out.
        held_out: numbers of the rows that are left out, ascending, (M,); None leaves out none.
    """

    def __init__(self, rows: StoredRows, held_out: npt.NDArray[np.int64] | None = None) -> None:
        self.rows = rows
        self.held_out = np.empty(0, np.int64) if held_out is None else held_out
        self.x_shape = rows.shape[1:]
        self._is_checked = False

    def __len__(self) -> int:
        return len(self.rows) - len(self.held_out)

    def batches(self, batch_size: int, count: int, generator: torch.Generator) -> Stream:
        """Draw part of an epoch; see :meth:`Source.batches`."""
        rng = np.random.default_rng(seed_from(generator))
        with closing(prefetched(self._windows(rng))) as windows:
            for batch in islice(cut(windows, min(batch_size, len(self))), count):
                yield scaled(batch)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw different data at random; see :meth:`Source.sample`."""
        rng = np.random.default_rng(seed_from(generator))
        places = _distinct(len(self), min(n, len(self)), rng)
        # The i-th row that is not held out: as many places further as rows before it are.
        skipped = np.searchsorted(self.held_out - np.arange(len(self.held_out)), places, side="right")
        return self.rows.take(places + skipped)[torch.from_numpy(rng.permutation(len(places)))]

    def hold_out(self, fraction: float, seed: int) -> tuple[Source, Tensor]:
        """Hold out data drawn at random, at most ``HELD_OUT``, since they are kept in memory."""
        count = min(number_held_out(fraction, len(self)), HELD_OUT)
        chosen = _distinct(len(self), count, np.random.default_rng(seed))
        return Stored(self.rows, chosen), self.rows.take(chosen)

    def checked(self, check: Check) -> Self:
        """Let ``check`` see the data as they are read, until an epoch has read all of them."""
        return type(self)(dataclasses.replace(self.rows, check=check), self.held_out)

    def as_type(self, dtype: torch.dtype) -> Self:
        """Return the same data, of this type at the widest; see :meth:`Source.as_type`."""
        return type(self)(dataclasses.replace(self.rows, widest=dtype), self.held_out)

    def _windows(self, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield all rows once, as they are stored, shuffled within windows of equally many chunks."""
        rows = dataclasses.replace(self.rows, check=None) if self._is_checked else self.rows
        size = max(1, CHUNK // rows.row_bytes)
        starts = size * rng.permutation(math.ceil(len(rows) / size))
        windows = min(len(starts), math.ceil(len(rows) * rows.row_bytes / WINDOW))
        for some in np.array_split(starts, windows):
            chunks = (self._kept(start, start + size) for start in np.sort(some).tolist())
            yield self._window(rows, [chunk for chunk in chunks if len(chunk)], rng)
        self._is_checked = True

    def _window(self, rows: StoredRows, chunks: Sequence[Rows], rng: np.random.Generator) -> Tensor:
        places = rng.permutation(sum(map(len, chunks)))
        window = np.empty((len(places), *self.x_shape), rows.dtype)
        end = 0
        for chunk in chunks:
            end += len(chunk)
            window[places[end - len(chunk) : end]] = rows.read(chunk)
        return torch.from_numpy(window)

    def _kept(self, start: int, stop: int) -> Rows:
        """Return the numbers of neighbouring rows that are there and not held out."""
        rows = range(start, min(stop, len(self.rows)))
        first, last = np.searchsorted(self.held_out, (rows.start, rows.stop))
        if first == last:
            return rows
        return np.delete(np.arange(rows.start, rows.stop), self.held_out[first:last] - start)


def _distinct(size: int, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw ``count`` different numbers below ``size`` at random, in ascending order."""
    return np.sort(rng.choice(size, count, replace=False, shuffle=False))
