"""Sources of data that a torch Dataset or DataLoader makes as they are needed."""

from __future__ import annotations

import copy
import itertools
import multiprocessing
from collections.abc import Iterable, Iterator, Mapping, Sized
from functools import partial
from typing import Self, cast

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler

from pyro_mfcvae._utils.turns import seeded
from pyro_mfcvae.data.arrays import as_stored, scaled
from pyro_mfcvae.data.checking import check_shape
from pyro_mfcvae.data.reading import MapStyle, joined, split_item
from pyro_mfcvae.data.sources import HELD_OUT, Check, Source, Stream, cut, number_held_out, seed_from, take

CPU = torch.device("cpu")
WORKERS = 2  # that make items; a number of the machine's would change what random transforms draw
EPOCH = 2**16  # data of a stream without an end, after which there is a record
BLOCK = 256  # items that are read at a time where no batch size says so


class Items(Source):
    """Items of a map-style dataset, in an order of our own; labels that come with them are dropped.

    Worker processes make them, where processes can be forked; else a script without a ``__main__`` guard
    would start itself again. The order takes 8 bytes for each item.

    Args:
        dataset: dataset with ``__len__`` and ``__getitem__``, of items ``x`` or ``(x, y, ...)``.
        name: argument that error messages name.

    Raises:
        ValueError: if it is empty, or items are single numbers.
    """

    dtype = torch.float64

    def __init__(self, dataset: MapStyle, name: str) -> None:
        if not len(dataset):
            raise ValueError(f"{name}: got no data, a Dataset of length 0, expected at least one datum")
        self.dataset, self.name = dataset, name
        self.kept = torch.arange(len(dataset))  # indices of those that are not held out
        self.check: Check | None = None
        self.x_shape = tuple(first_item(dataset, name).shape)
        check_shape((len(self), *self.x_shape), name)

    def __len__(self) -> int:
        return len(self.kept)

    def batches(self, batch_size: int, count: int, generator: torch.Generator) -> Stream:
        """Draw part of an epoch; see :meth:`Source.batches`."""
        order = self.kept[self._order(generator)]
        size = min(batch_size, len(self))
        yield from self._read(order[: count * size], size, seed_from(generator))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw different data at random; see :meth:`Source.sample`."""
        return self.read(self.kept[self._order(generator)[:n]], seed_from(generator))

    def hold_out(self, fraction: float, seed: int) -> tuple[Source, Tensor]:
        """Hold out data drawn at random, at most ``HELD_OUT``, since they are kept in memory."""
        count = min(number_held_out(fraction, len(self)), HELD_OUT)
        order = self.kept[self._order(torch.Generator().manual_seed(seed))]
        rest = copy.copy(self)
        rest.kept = order[count:]
        return rest, self.read(order[:count], seed)

    def checked(self, check: Check) -> Self:
        """Let ``check`` see the data as they are read; see :meth:`Source.checked`."""
        source = copy.copy(self)
        source.check = check
        return source

    def as_type(self, dtype: torch.dtype) -> Self:
        """Return the same data, of this type at the widest; see :meth:`Source.as_type`."""
        source = copy.copy(self)
        source.dtype = dtype
        return source

    def _order(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(self), generator=generator, device=generator.device).cpu()

    def read(self, indices: Tensor, seed: int) -> Tensor:
        """Read items of these indices, (M, *x_shape), with random transforms as the seed has them."""
        with seeded(seed, CPU):
            return torch.cat(list(self._read(indices, BLOCK, seed)))

    def _read(self, indices: Tensor, size: int, seed: int) -> Iterator[Tensor]:
        """Yield items in this order, in batches of ``size`` or, the last one, fewer."""
        # Without allow_none, to ask for the method would settle it, for the user's own processes, too.
        default = multiprocessing.get_all_start_methods()[0]
        method = multiprocessing.get_start_method(allow_none=True) or default
        workers = min(WORKERS, -(-len(indices) // size)) if method == "fork" else 0
        loader: DataLoader[Tensor] = DataLoader(
            self.dataset,  # type: ignore[arg-type]  # any with a length and items
            batch_sampler=_Cuts(indices, size),
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
            collate_fn=partial(_collate, name=self.name),
            generator=torch.Generator().manual_seed(seed),  # of the workers' seeds
        )
        for batch in loader:
            yield _seen(batch, self.dtype, self.check)


class Batches(Source):
    """Data that a DataLoader, or an IterableDataset whose length is known, yields, in its own order.

    Every epoch is another pass; batches are cut anew to the size that training asks for. The order is
    expected to be random, since the first data are taken for a sample of all.

    Args:
        loader: loader of batches ``x`` or ``(x, y, ...)``.
        name: argument that error messages name.
        size: number of data.
    """

    dtype = torch.float64

    def __init__(self, loader: DataLoader[object], name: str, size: int) -> None:
        self.loader, self.name, self.size = loader, name, size
        self.check: Check | None = None
        with seeded(0, CPU):  # to look at data is not to draw
            self.x_shape = tuple(next(self._pass()).shape[1:])
        check_shape((len(self), *self.x_shape), name)

    def __len__(self) -> int:
        return self.size

    def batches(self, batch_size: int, count: int, generator: torch.Generator) -> Stream:
        """Draw part of an epoch, in the order of PyTorch's global generator or one of the loader."""
        passes = itertools.chain.from_iterable(self._pass() for _ in itertools.count())
        yield from itertools.islice(cut(passes, min(batch_size, len(self))), count)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Take the first data of a pass; see :meth:`Source.sample`."""
        with seeded(seed_from(generator), CPU):
            return take(self._pass(), n)

    def hold_out(self, fraction: float, seed: int) -> tuple[Source, Tensor]:
        """Raise an error, since the data in a batch are not known.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"held_out: got {fraction}, expected 0 for a DataLoader or IterableDataset that is streamed; "
            "give a map-style dataset instead, use held_out=0, or in_memory=True"
        )

    def checked(self, check: Check) -> Self:
        """Let ``check`` see the data as they are read; see :meth:`Source.checked`."""
        source = copy.copy(self)
        source.check = check
        return source

    def as_type(self, dtype: torch.dtype) -> Self:
        """Return the same data, of this type at the widest; see :meth:`Source.as_type`."""
        source = copy.copy(self)
        source.dtype = dtype
        return source

    def _pass(self) -> Iterator[Tensor]:
        """Yield all data once."""
        is_empty = True
        for batch in self.loader:
            is_empty = False
            yield _seen(as_stored(split_item(batch, self.name)[0], self.name), self.dtype, self.check)
        if is_empty:
            raise ValueError(f"{self.name}: got no data, not a single item, expected at least one datum")


class Endless(Batches):
    """Data that a DataLoader, or an IterableDataset, yields, of which nobody knows how many there are.

    Epochs are of :data:`EPOCH` data, and go on in the stream where the one before ended; where the stream
    ends, it begins anew. :class:`Batches` says the rest.

    Args:
        loader: loader of batches ``x`` or ``(x, y, ...)``.
        name: argument that error messages name.
    """

    def __init__(self, loader: DataLoader[object], name: str) -> None:
        super().__init__(loader, name, EPOCH)
        self._rest: Iterator[Tensor] | None = None  # of the pass that an epoch has begun

    def batches(self, batch_size: int, count: int, generator: torch.Generator) -> Stream:
        """Draw part of an epoch, from where the last one ended; see :meth:`Batches.batches`."""
        if self._rest is None:
            self._rest = itertools.chain.from_iterable(self._pass() for _ in itertools.count())
        yield from itertools.islice(cut(self._rest, batch_size), count)

    def checked(self, check: Check) -> Self:
        """Let ``check`` see the data as they are read, from the first on; see :meth:`Source.checked`."""
        source = super().checked(check)
        source._rest = None
        return source


class _Cuts:
    """Indices in lists of ``size``, each made when it is asked for."""

    def __init__(self, indices: Tensor, size: int) -> None:
        self.indices, self.size = indices, size

    def __len__(self) -> int:
        return -(-len(self.indices) // self.size)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.indices.split(self.size):
            yield batch.tolist()


def streamed(data: Dataset[object] | DataLoader[object], name: str) -> Source:
    """Make a source of the data that a Dataset or DataLoader makes.

    Args:
        data: a map-style Dataset, a DataLoader, or an IterableDataset.
        name: argument that error messages name.

    Raises:
        ValueError: if the length of a map-style Dataset is not known, or a loader does not shuffle.
    """
    if isinstance(data, IterableDataset):
        data = DataLoader(data, BLOCK, collate_fn=partial(_collate, name=name))
    if isinstance(data, DataLoader):
        if isinstance(data.dataset, IterableDataset) and not isinstance(data.dataset, Sized):
            return Endless(data, name)
        return Batches(data, name, _number_of_data(data, name))
    if not isinstance(data, Sized):
        raise _unknown_length(data, name)
    return Items(data, name)


def first_item(dataset: MapStyle, name: str, loader: DataLoader[object] | None = None) -> Tensor:
    """Read the first datum as it is stored; torch's random stream is as before.

    Args:
        dataset: data.
        name: argument that error messages name.
        loader: loader that knows what to make of items that are dicts: of this one, a batch of one datum.
    """
    with seeded(0, CPU):
        item = dataset[0]
        if loader is not None and isinstance(item, Mapping):
            item = loader.collate_fn([item])
        return as_stored(split_item(item, name)[0], name)


def _collate(items: Iterable[object], name: str) -> Tensor:
    return joined([as_stored(split_item(item, name)[0], name) for item in items], name, torch.stack)


def _seen(batch: Tensor, dtype: torch.dtype, check: Check | None) -> Tensor:
    batch = scaled(batch, dtype)
    if check is not None:
        check(batch, None)
    return batch


def check_order(data: object, name: str) -> None:
    """Raise a ValueError for a DataLoader that does not yield all its data in their order."""
    if not isinstance(data, DataLoader) or isinstance(data.dataset, IterableDataset):
        return
    batches = data.batch_sampler
    sampler = data.sampler if batches is None else getattr(batches, "sampler", None)
    is_known = batches is None or type(batches) is BatchSampler
    if not (is_known and isinstance(sampler, SequentialSampler)):
        raise ValueError(
            f"{name}: got a DataLoader that shuffles or selects, expected data in order, since rows of the "
            "answer are rows of the question; give it shuffle=False, or take its dataset"
        )
    if data.drop_last and len(sampler) % (data.batch_size or 1):
        raise ValueError(
            f"{name}: got a DataLoader that drops the last {len(sampler) % (data.batch_size or 1)} of "
            f"{len(sampler)} data, expected all of them; give it drop_last=False, or take its dataset"
        )


def _unknown_length(data: object, name: str) -> ValueError:
    return ValueError(
        f"{name}: got a {type(data).__name__} whose length is not known, expected one with __len__; "
        "give its class __len__, or use in_memory=True, which reads all data first"
    )


def _number_of_data(loader: DataLoader[object], name: str) -> int:
    dataset, remedy = loader.dataset, "or use in_memory=True, which reads all data first"
    if loader.batch_size is None:
        raise ValueError(
            f"{name}: got a DataLoader with no batch_size, expected one that says how many data it has; "
            f"give it a batch_size, {remedy}"
        )
    if isinstance(dataset, IterableDataset):
        return len(cast(Sized, dataset))
    if isinstance(loader.sampler, SequentialSampler):
        raise ValueError(
            f"{name}: got a DataLoader that does not shuffle, expected one that shuffles; "
            f"give it shuffle=True, {remedy}"
        )
    size = len(loader.sampler)  # type: ignore[arg-type]
    return size // loader.batch_size * loader.batch_size if loader.drop_last else size
