"""Bounds on the memory that code may ask for, for what is built by the word of a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only


class AllocationError(ValueError):
    """Code asked for more memory than it was allowed."""


class bounded_allocations(TorchDispatchMode):  # noqa: N801  # used as a function
    """Refuse tensors made in this context once they take more than ``limit`` bytes together, freed or not.

    The shape of what an operation gives is computed before it runs, so nothing is allocated that is refused.
    Other threads are not affected.

    Args:
        limit: what all tensors may take, in bytes.

    Raises:
        AllocationError: where a tensor would exceed the limit.
    """

    def __init__(self, limit: int) -> None:
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
                raise AllocationError(
                    f"it asks for tensors of {_in_words(self._asked)}, expected at most "
                    f"{_in_words(self._limit)}"
                )
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


def _in_words(size: int) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size = size / 1000  # type: ignore[assignment]
    return f"{size:.3g} TB"
