"""Checks of arguments, with errors that say what came and what was expected."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np


def check_int(
    name: str, value: Any, low: int, high: int, advice: str, error: type[Exception] = ValueError
) -> int:
    """Return ``value`` as an int from ``low`` to ``high``, or raise an error that ends in ``advice``."""
    counted: Any = None if isinstance(value, bool) else value  # True is an int to Python
    try:
        number = operator.index(counted)
    except TypeError:
        kind = type(value).__name__
        raise TypeError(f"{name} must be an int, got {value!r} ({kind}); {advice}") from None
    if not low <= number <= high:
        raise error(f"{name} must be from {low} to {high}, got {number}; {advice}")
    return number


def is_list(value: Any) -> bool:
    """Whether ``value`` is a sequence or an array of one dimension, and no text."""
    listed = isinstance(value, Sequence | np.ndarray) and getattr(value, "ndim", 1) == 1
    return listed and not isinstance(value, str | bytes)
