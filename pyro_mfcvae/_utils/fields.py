"""Dataclasses of what JSON holds, each field checked."""

from __future__ import annotations

import contextlib
import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

C = TypeVar("C")


def from_fields(kind: type[C], fields: object, *, ignores_unknown: bool = False) -> C:
    """Make a dataclass of its fields, as JSON has them.

    Args:
        kind: dataclass whose fields are numbers, texts, None, literals, tuples and mappings of those.
        fields: names and values.
        ignores_unknown: whether fields that the class does not have are left out, as those of a later
            version are; else they are an error.

    Raises:
        ValueError: if a field is missing, unknown, or of another type.
    """
    if not isinstance(fields, Mapping):
        raise ValueError(f"got {fields!r:.50}, expected the fields of {kind.__name__}")
    hints = get_type_hints(kind)
    known = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = [name for name in fields if name not in known]
    if unknown and not ignores_unknown:
        raise ValueError(f"{kind.__name__} has no field {unknown[0]!r}")
    required = (name for name, field in known.items() if _is_required(field))
    missing = [name for name in required if name not in fields]
    if missing:
        raise ValueError(f"{kind.__name__} lacks the field {missing[0]!r}")
    values = {name: checked(fields[name], hints[name], name) for name in known if name in fields}
    return kind(**values)


def checked(value: Any, hint: Any, name: str) -> Any:
    """Return a value of JSON as the type that is expected: lists become tuples, integers floats.

    Args:
        value: what JSON has.
        hint: type, as a hint says it.
        name: name of the value, for errors.

    Raises:
        ValueError: if it is of another type.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        for option in arguments:
            try:
                return checked(value, option, name)
            except ValueError:
                continue
    elif origin is Literal:
        if value in arguments and type(value) in map(type, arguments):
            return value
    elif origin is tuple and isinstance(value, (list, tuple)):
        if arguments[-1] is Ellipsis:
            return tuple(checked(v, arguments[0], name) for v in value)
        if len(value) == len(arguments):
            return tuple(checked(v, a, name) for v, a in zip(value, arguments, strict=True))
    elif origin is not None and issubclass(origin, Mapping):
        if isinstance(value, Mapping):
            return {checked(k, arguments[0], name): checked(v, arguments[1], name) for k, v in value.items()}
    elif hint is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):
                return float(value)
    elif hint in (int, str, bool, type(None)) and type(value) is hint:
        return value
    raise ValueError(f"{name} is {value!r:.50}, expected {getattr(hint, '__name__', hint)}")


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
