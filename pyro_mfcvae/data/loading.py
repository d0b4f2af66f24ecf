"""Data that a torch Dataset or DataLoader makes as they are needed."""

from __future__ import annotations

import copy
import itertools
import multiprocessing
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler

from pyro_mfcvae.data.inputs import joined, split_item
from pyro_mfcvae.data.sources import HELD_OUT, Check, Source, Stream, cut, number_held_out, seed_from, take
from pyro_mfcvae.data.values import as_stored, check_shape, scaled

WORKERS = 2  # that make items; a number of the machine's would change what random transforms draw
BLOCK = 256  # items that are read at a time where no batch size says so


class Items(Source):
    """Items of a map-style dataset, in an order of our own; labels that come with them are dropped.

    Worker processes make them, where processes can be forked; else a script without a ``__main__`` guard
    would start itself again. The order takes 8 bytes for each item.

    Args:
        dataset: with ``__len__`` and ``__getitem__``, whose items are ``x`` or ``(x, y, ...)``.
        name: what error messages call the data.

    Raises:
        ValueError: if it is empty, or items are single numbers.
    """

    def __init__(self, dataset: Any, name: str) -> None:
        if not len(dataset):
            raise ValueError(f"{name} is empty, its length is 0: expected at least one datum")
        self.dataset, self.name = dataset, name
        self.kept = torch.arange(len(dataset))  # indices of those that are not held out
        self.check: Check | None = None
        self.x_shape = tuple(first_item(dataset, name).shape)
        check_shape((len(self), *self.x_shape), name)

    def __len__(self) -> int:
        return len(self.kept)

    def batches(self, batch_size: int, count: int, generator: torch.Generator) -> Stream:
        """As :meth:`Source.batches`."""
        order = self.kept[self._order(generator)]
        size = min(batch_size, len(self))
        yield from self._read(order[: count * size], size, seed_from(generator))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """As :meth:`Source.sample`."""
        return self._collected(self.kept[self._order(generator)[:n]], seed_from(generator))

    def hold_out(self, fraction: float, seed: int) -> tuple[Source, Tensor]:
        """As :meth:`Source.hold_out`; what is held out is in memory, and so not more than ``HELD_OUT``."""
        count = min(number_held_out(fraction, len(self)), HELD_OUT)
        order = self.kept[self._order(torch.Generator().manual_seed(seed))]
        rest = copy.copy(self)
        rest.kept = order[count:]
        return rest, self._collected(order[:count], seed)

    def checked(self, check: Check) -> Self:
        """As :meth:`Source.checked`."""
        source = copy.copy(self)
        source.check = check
        return source

    def _order(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(self), generator=generator, device=generator.device).cpu()

    def _collected(self, indices: Tensor, seed: int) -> Tensor:
        with _apart(seed):
            return torch.cat(list(self._read(indices, BLOCK, seed)))

    def _read(self, indices: Tensor, size: int, seed: int) -> Iterator[Tensor]:
        """Items in this order, in batches of ``size`` or, the last one, fewer."""
        can_fork = multiprocessing.get_start_method() == "fork"
        loader = DataLoader(
            self.dataset,
            batch_sampler=_Cuts(indices, size),
            num_workers=min(WORKERS, -(-len(indices) // size)) if can_fork else 0,
            collate_fn=partial(_collate, name=self.name),
            generator=torch.Generator().manual_seed(seed),  # of the workers' seeds
        )
        for batch in loader:
            yield _seen(batch, self.check)


class Batches(Source):
    """What a DataLoader, or an IterableDataset whose length is known, yields, in its own order.

    Every epoch is another pass; batches are cut anew to the size that training asks for. The order is
    expected to be random, since the first data are taken for a sample of all.

    Args:
        loader: whose batches are ``x`` or ``(x, y, ...)``.
        name: what error messages call the data.

    Raises:
        ValueError: if the number of data is not known, or the loader does not shuffle.
    """

    def __init__(self, loader: DataLoader[Any], name: str) -> None:
        self.loader, self.name = loader, name
        self.check: Check | None = None
        self.size = _number_of_data(loader, name)
        with _apart(0):
            self.x_shape = tuple(next(self._pass()).shape[1:])
        check_shape((len(self), *self.x_shape), name)

    def __len__(self) -> int:
        return self.size

    def batches(self, batch_size: int, count: int, generator: torch.Generator) -> Stream:
        """As :meth:`Source.batches`, by PyTorch's global generator or one of the loader."""
        passes = itertools.chain.from_iterable(self._pass() for _ in itertools.count())
        yield from itertools.islice(cut(passes, min(batch_size, len(self))), count)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """As :meth:`Source.sample`: the first data of a pass."""
        with _apart(seed_from(generator)):
            return take(self._pass(), n)

    def hold_out(self, fraction: float, seed: int) -> tuple[Source, Tensor]:
        """Not possible: which data are in a batch is not known.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"held_out: got {fraction}, but a DataLoader that is streamed cannot leave data out; give its "
            "dataset instead, use held_out=0, or in_memory=True"
        )

    def checked(self, check: Check) -> Self:
        """As :meth:`Source.checked`."""
        source = copy.copy(self)
        source.check = check
        return source

    def _pass(self) -> Iterator[Tensor]:
        """All data once."""
        is_empty = True
        for batch in self.loader:
            is_empty = False
            yield _seen(as_stored(split_item(batch, self.name)[0], self.name), self.check)
        if is_empty:
            raise ValueError(f"{self.name} is empty, it gave no item: expected at least one datum")


class _Cuts:
    """Indices in lists of ``size``, each made when it is asked for."""

    def __init__(self, indices: Tensor, size: int) -> None:
        self.indices, self.size = indices, size

    def __len__(self) -> int:
        return -(-len(self.indices) // self.size)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.indices.split(self.size):
            yield batch.tolist()


def streamed(data: Any, name: str) -> Source:
    """A source of what a Dataset or DataLoader makes.

    Args:
        data: a map-style Dataset, a DataLoader, or an IterableDataset with ``__len__``.
        name: what error messages call the data.

    Raises:
        ValueError: if its length is not known, or a loader does not shuffle.
    """
    if isinstance(data, DataLoader):
        return Batches(data, name)
    if isinstance(data, IterableDataset):
        return Batches(DataLoader(data, BLOCK, collate_fn=partial(_collate, name=name)), name)
    if not hasattr(data, "__len__"):
        raise ValueError(f"{name}: its length is not known; give its class __len__, or use in_memory=True")
    return Items(data, name)


def first_item(dataset: Any, name: str) -> Tensor:
    """The first datum as it is stored; torch's random stream is as before."""
    with _apart(0):
        return as_stored(split_item(dataset[0], name)[0], name)


@contextmanager
def _apart(seed: int) -> Iterator[None]:
    """Seed PyTorch's generator of the CPU within, and restore it after: to look at data is not to draw."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        yield


def _collate(items: Iterable[Any], name: str) -> Tensor:
    return joined([as_stored(split_item(item, name)[0], name) for item in items], name, torch.stack)


def _seen(batch: Tensor, check: Check | None) -> Tensor:
    batch = scaled(batch)
    if check is not None:
        check(batch, None)
    return batch


def _number_of_data(loader: DataLoader[Any], name: str) -> int:
    dataset, remedy = loader.dataset, "or use in_memory=True, which reads all data first"
    if loader.batch_size is None:
        raise ValueError(
            f"{name}: it is streamed, but how many data its batches have is not known, since the DataLoader "
            f"has no batch_size; give it one, {remedy}"
        )
    if isinstance(dataset, IterableDataset):
        if not hasattr(dataset, "__len__"):
            raise ValueError(f"{name}: its length is not known; give its class __len__, {remedy}")
        return len(dataset)
    if isinstance(loader.sampler, SequentialSampler):
        raise ValueError(
            f"{name}: the DataLoader is streamed, but does not shuffle; give it shuffle=True, {remedy}"
        )
    size = len(loader.sampler)  # type: ignore[arg-type]
    return size // loader.batch_size * loader.batch_size if loader.drop_last else size
