"""Sources of batches in random order, wherever the data are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Self, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyro_mfcvae._utils.devices import is_same_device
from pyro_mfcvae.data.arrays import scaled
from pyro_mfcvae.data.checking import Rows

Item = TypeVar("Item")
Stream = Generator[Tensor, None, None]
# Raises a ValueError for data that a model cannot take. Its arguments are data (N, *x_shape) on the CPU,
# and their numbers among all data; None if they are all, or if that is not known.
Check = Callable[[Tensor, Rows | None], None]

DEVICE_SHARE = 0.5  # of a GPU's free memory, that data may take
HELD_OUT_SEED = 0  # the same data for every run, since runs are compared on them
HELD_OUT = 20_000  # data that are held out of those that are not in memory, at most
CALIBRATION_SAMPLE = 20_000  # data that stand for all of those that are not in memory, at most


class Source(ABC):
    """Data to train on, which need not be in memory, of type float32 or, where that is not exact, float64.

    Attributes:
        x_shape: shape of one datum.
        device: device that batches come from.
    """

    x_shape: tuple[int, ...]
    device = torch.device("cpu")

    @abstractmethod
    def __len__(self) -> int:
        """Count the data, N."""

    @abstractmethod
    def batches(self, batch_size: int, count: int, generator: torch.Generator) -> Stream:
        """Draw part of an epoch: data in random order, each of them at most once.

        Args:
            batch_size: data in each batch; if there are fewer, all of them are one batch.
            count: number of batches, at most those of an epoch, ``max(1, N // batch_size)``.
            generator: random generator that the order is drawn from.

        Yields:
            Batches, each (batch_size, *x_shape).
        """

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw different data at random, (min(n, N), *x_shape)."""

    @abstractmethod
    def hold_out(self, fraction: float, seed: int) -> tuple[Source, Tensor]:
        """Return the data without some, drawn at random, and these, (M, *x_shape)."""

    @abstractmethod
    def checked(self, check: Check) -> Self:
        """Return the same data, which ``check`` sees as soon as they are read."""

    @abstractmethod
    def as_type(self, dtype: torch.dtype) -> Self:
        """Return the same data, of this type at the widest."""

    def calibration_sample(self) -> Tensor:
        """Return data to take presets and scales from: all of those in memory, or always the same sample."""
        return self.sample(CALIBRATION_SAMPLE, torch.Generator().manual_seed(0))

    def to(self, device: torch.device) -> Source:
        """Move the data to the device if they are in memory and it has room for them, else leave them."""
        return self


class InMemory(Source):
    """All data in one tensor.

    Args:
        x: data, (N, *x_shape).
    """

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.x_shape = tuple(x.shape[1:])
        self.device = x.device

    def __reduce__(self) -> tuple[Callable[..., InMemory], tuple[npt.NDArray[np.generic]]]:
        # As an array, which joblib shares between processes.
        return _in_memory, (self.x.numpy(),)

    def __sizeof__(self) -> int:
        return self.x.nbytes  # by which Dask tells what it sends to its workers once

    def __len__(self) -> int:
        return len(self.x)

    def batches(self, batch_size: int, count: int, generator: torch.Generator) -> Stream:
        """Draw part of an epoch; see :meth:`Source.batches`."""
        order = self._order(generator)
        for i in range(count):
            yield self.x[order[i * batch_size : (i + 1) * batch_size]]

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw different data at random; see :meth:`Source.sample`."""
        return self.x[self._order(generator)[:n]]

    def hold_out(self, fraction: float, seed: int) -> tuple[Source, Tensor]:
        """Hold out data drawn at random; see :meth:`Source.hold_out`."""
        count = number_held_out(fraction, len(self))
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed)).to(self.device)
        return InMemory(self.x[order[count:]]), self.x[order[:count]]

    def checked(self, check: Check) -> Self:
        """Let ``check`` see the data at once, since they are there; see :meth:`Source.checked`."""
        check(self.x, None)
        return self

    def as_type(self, dtype: torch.dtype) -> Self:
        """Return the same data, of this type at the widest; see :meth:`Source.as_type`."""
        return type(self)(scaled(self.x, dtype))

    def calibration_sample(self) -> Tensor:
        """Return all data; see :meth:`Source.calibration_sample`."""
        return self.x

    def to(self, device: torch.device) -> Source:
        """Move the data to any device but a GPU whose free memory they would take more than half of."""
        if device.type == "cuda" and self.x.nbytes > DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
            return self
        return InMemory(self.x.to(device))

    def _order(self, generator: torch.Generator) -> Tensor:
        # Drawn where the generator is: the same order, be the data on the device or not.
        return torch.randperm(len(self), generator=generator, device=generator.device).to(self.device)


def _in_memory(x: npt.NDArray[np.generic]) -> InMemory:
    return InMemory(torch.from_numpy(x))


class _End:
    """Mark of the end, after the last item."""


def number_held_out(fraction: float, size: int) -> int:
    """Count the data that are held out of ``size`` data, for a share of them.

    Raises:
        ValueError: if that is none or all.
    """
    count = round(fraction * size)
    if not 0 < count < size:
        raise ValueError(
            f"held_out: got {fraction} of {size} data, that is {count}, expected some to hold out and some "
            "to train on; choose another share, or 0"
        )
    return count


def cut(blocks: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Cut blocks of any length into batches of ``size``, in the same order; a last rest is left out."""
    rest: Tensor | None = None
    for block in blocks:
        start = 0
        if rest is not None:
            start = min(size - len(rest), len(block))
            rest = torch.cat([rest, block[:start]])
            if len(rest) < size:
                continue
            yield rest
        whole = start + (len(block) - start) // size * size
        if whole > start:
            yield from block[start:whole].split(size)
        rest = block[whole:] if whole < len(block) else None


def prefetched(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Yield the same items, each made by a background thread while the one before it is in use.

    To close the generator ends the thread, as does an exception on either side.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        upcoming = pool.submit(next, items, _End)
        while (item := upcoming.result()) is not _End:
            upcoming = pool.submit(next, items, _End)
            yield cast(Item, item)


def on_device(source: Source, batches: Stream, device: torch.device) -> Stream:
    """Bring batches of a source to the device of the model.

    They are copied to a GPU from page-locked memory, by a thread and a stream of their own, while the
    model is busy with the batch before.

    Args:
        source: data that the batches come from.
        batches: data, each (B, *x_shape).
        device: the model's device.

    Yields:
        The same data, on the device.
    """
    if is_same_device(source.device, device):
        yield from batches
        return
    if device.type != "cuda" or source.device.type != "cpu":  # only the host has pages to lock
        for batch in batches:
            yield batch.to(device)
        return
    copying = torch.cuda.Stream(device)

    def copy(batch: Tensor) -> tuple[Tensor, torch.cuda.Event]:
        with torch.cuda.stream(copying):
            return batch.pin_memory().to(device, non_blocking=True), copying.record_event()

    with closing(prefetched(map(copy, batches))) as copies:
        for batch, is_there in copies:
            computing = torch.cuda.current_stream(device)
            computing.wait_event(is_there)
            batch.record_stream(computing)
            yield batch


def seed_from(generator: torch.Generator) -> int:
    """Draw a seed for a generator of another kind."""
    return int(torch.randint(2**62, (), generator=generator, device=generator.device).item())


def take(blocks: Iterable[Tensor], size: int) -> Tensor:
    """Join the first ``size`` rows of all blocks, or all if there are fewer; the rest is not asked for."""
    parts: list[Tensor] = []
    missing = size
    for block in blocks:
        parts.append(block[:missing])
        missing -= len(parts[-1])
        if not missing:
            break
    return torch.cat(parts)
