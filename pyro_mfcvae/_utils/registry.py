"""Names of what a configuration chooses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

F = TypeVar("F")


def resolve(name: str, value: str | F, factories: Mapping[str, Callable[[], F]]) -> F:
    """Return the factory that a name stands for; a factory stays as it is.

    Args:
        name: name of the argument, for errors.
        value: name or factory.
        factories: classes that are called without arguments, by name.

    Raises:
        ValueError: for an unknown name.
        TypeError: for what is neither a name nor a callable, and for one of the classes that is not called.
    """
    if isinstance(value, str):
        if value not in factories:
            raise ValueError(f"{name}: got {value!r}, expected one of {tuple(factories)} or a callable")
        return factories[value]()
    if isinstance(value, type) and value in factories.values():
        raise TypeError(
            f"{name}: got the class {value.__name__}, expected an object of it; call it, as in "
            f"{value.__name__}()"
        )
    if not callable(value):
        raise TypeError(f"{name}: got {value!r}, expected one of {tuple(factories)} or a callable")
    return value
