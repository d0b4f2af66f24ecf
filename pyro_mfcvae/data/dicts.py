"""Data whose items are dicts, such as those of Hugging Face's datasets."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, TypeAlias, cast

from torch.utils.data import DataLoader, Dataset, IterableDataset

Item: TypeAlias = Any  # x, or (x, y)


def from_dicts(dataset: Any, x: str, *, label: str | None = None) -> Dataset[Item] | DataLoader[Item]:
    """Take data, and labels, out of items or batches that are dicts.

    Args:
        dataset: a ``datasets.Dataset`` of Hugging Face, streamed ones included; a torch Dataset or
            IterableDataset of dicts; a list of dicts; or a DataLoader whose batches are dicts.
        x: key of the data.
        label: key of the labels; None takes none.

    Returns:
        A Dataset or DataLoader of the same kind, of items ``x`` or ``(x, label)``.

    Raises:
        TypeError: for a dataset that has no items, and items that are no dicts.
        ValueError: where an item is read that lacks a key.

    Example:
        >>> pictures = from_dicts([{"image": [[0.5]], "label": 3}], "image", label="label")
        >>> pictures[0]
        ([[0.5]], 3)
    """
    keys = (x,) if label is None else (x, label)
    if isinstance(dataset, DataLoader):
        loader = copy.copy(dataset)
        loader._iterator = None  # of workers that persist, and collate as they did
        loader.collate_fn = _Collated(dataset.collate_fn, keys)
        return loader
    if hasattr(dataset, "__getitem__") and isinstance(dataset, Sized):
        return _Items(dataset, keys)
    if isinstance(dataset, Iterable):
        return _Stream(dataset, keys)
    raise TypeError(
        f"dataset: got a {type(dataset).__name__}, expected a dataset whose items are dicts, or a DataLoader"
    )


class _Collated:
    def __init__(self, collate: Callable[[Any], Any], keys: tuple[str, ...]) -> None:
        self.collate, self.keys = collate, keys

    def __call__(self, items: Any) -> Item:
        return _picked(self.collate(items), self.keys)


class _Items(Dataset[Item]):
    def __init__(self, dataset: Any, keys: tuple[str, ...]) -> None:
        self.dataset, self.keys = dataset, keys

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        return _picked(self.dataset[index], self.keys)


class _Stream(IterableDataset[Item]):
    def __init__(self, dataset: Iterable[object], keys: tuple[str, ...]) -> None:
        self.dataset, self.keys = dataset, keys

    def __iter__(self) -> Iterator[Item]:
        return (_picked(item, self.keys) for item in self.dataset)


def _picked(item: object, keys: tuple[str, ...]) -> Item:
    if not isinstance(item, Mapping):
        raise TypeError(f"dataset: got items that are a {type(item).__name__}, expected dicts")
    for key in keys:
        if key not in item:
            raise ValueError(
                f"dataset: got items without the key {key!r}, expected one of {list(item)}; look at "
                "the spelling"
            )
    picked = tuple(cast(Mapping[str, Any], item)[key] for key in keys)
    return picked[0] if len(picked) == 1 else picked
