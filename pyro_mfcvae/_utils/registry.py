"""Names of what a configuration chooses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast


def resolve(name: str, value: Any, recipes: Mapping[str, type]) -> Callable[..., Any]:
    """The recipe that a name stands for; a recipe stays as it is.

    Args:
        name: of the argument, for errors.
        value: a name or a callable.
        recipes: by name, classes that are called without arguments.

    Raises:
        ValueError: for an unknown name.
        TypeError: for what is neither a name nor a callable.
    """
    if isinstance(value, str):
        if value not in recipes:
            raise ValueError(f"{name}: got {value!r}, expected one of {tuple(recipes)} or a callable")
        return cast(Callable[..., Any], recipes[value]())
    if not callable(value):
        raise TypeError(f"{name}: got {value!r}, expected one of {tuple(recipes)} or a callable")
    return cast(Callable[..., Any], value)
