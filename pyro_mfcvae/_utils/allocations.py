"""The memory that is there, and bounds on what code may ask for by the word of a file or of an option."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only


class AllocationError(ValueError):
    """Code asked for more memory than it was allowed.

    Args:
        asked: bytes that it asked for until then.
        limit: bytes that it was allowed.
    """

    def __init__(self, asked: float, limit: float) -> None:
        super().__init__(asked, limit)  # so that it can be passed between processes
        self.asked = asked
        self.limit = limit

    def __str__(self) -> str:
        return f"it asks for tensors of {in_words(self.asked)}, expected at most {in_words(self.limit)}"


def available_memory() -> float:
    """Estimate the bytes that could be allocated without swapping; infinity if nobody knows."""
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


def fitting(name: str, count: int, size: int) -> int:
    """Return a number of things, if memory can hold so many.

    Args:
        name: name of the argument, for the error.
        count: the number.
        size: bytes of each.

    Raises:
        ValueError: if there is less memory.
    """
    most = available_memory() / size
    if count > most:
        raise ValueError(
            f"{name}: got {count}, expected at most {most:.0f}, as many as memory can hold; take fewer at a "
            "time"
        )
    return count


class bounded_allocations(TorchDispatchMode):  # noqa: N801  # used as a function
    """Refuse tensors made in this context once they take more than ``limit`` bytes together, freed or not.

    The shape of what an operation gives is computed before it runs, so nothing is allocated that is refused.
    Other threads are not affected.

    Args:
        limit: what all tensors may take, in bytes.

    Raises:
        AllocationError: where a tensor would exceed the limit.
    """

    def __init__(self, limit: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._limit = limit
        self._asked = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        # What works in place, and what gives a view, asks for nothing.
        if not any(result.alias_info for result in func._schema.returns):
            self._asked += _size(func, args, kwargs)
            if self._asked > self._limit:
                raise AllocationError(self._asked, self._limit)
        return func(*args, **kwargs)


def _size(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """Compute the bytes of what an operation gives; 0 where its shape depends on values."""
    args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, dict(kwargs)))
    if "device" in kwargs:
        kwargs = {**kwargs, "device": torch.device("meta"), "pin_memory": None}
    try:
        results = func(*args, **kwargs)
    except (NotImplementedError, RuntimeError):
        return 0
    return sum(
        math.prod(result.shape) * result.element_size()
        for result in tree_iter(results)
        if isinstance(result, Tensor)
    )


def in_words(size: float) -> str:
    """Write a number of bytes with its unit, to three digits."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size = size / 1000
    return f"{size:.3g} TB"
