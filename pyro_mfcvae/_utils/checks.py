"""Checks of arguments, whose errors all read alike: "name: got X, expected Y; do Z"."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from numbers import Real
from typing import SupportsIndex, TypeVar, cast

T = TypeVar("T")


class WrongTypeError(TypeError, ValueError):
    """A value of a wrong type: a ``TypeError``, and a ``ValueError`` as all bad values are."""


def integer(
    name: str,
    value: object,
    least: int | None = None,
    most: int | None = None,
    *,
    expected: str = "",
    advice: str = "",
) -> int:
    """Return an integer of any kind, such as NumPy's, as Python's; True and False are none.

    Args:
        name: name of the argument, for the error.
        value: value to check.
        least: smallest value that is allowed; None allows any.
        most: largest value that is allowed; None allows any.
        expected: description of what is allowed, for the error, in place of one made of the bounds.
        advice: remedy that the error ends with.

    Raises:
        WrongTypeError: if it is no integer.
        ValueError: if it is out of bounds.

    Example:
        >>> integer("epochs", 0, least=1)
        Traceback (most recent call last):
        ValueError: epochs: got 0, expected an integer of at least 1
    """
    expected = expected or f"an integer{_bounds(least, most)}"
    number = _index(value)
    if number is None:
        raise WrongTypeError(_message(name, value, expected, advice))
    if _is_out(number, least, most):
        raise ValueError(_message(name, value, expected, advice))
    return number


def integers(
    name: str,
    values: object,
    least: int | None = 1,
    most: int | None = None,
    *,
    allow_none: bool = False,
    expected: str = "",
    advice: str = "",
) -> tuple[int, ...]:
    """Return a sequence of integers as a tuple of Python's.

    Args:
        name: name of the argument, for the error.
        values: values to check.
        least: smallest value that is allowed; None allows any.
        most: largest value that is allowed; None allows any.
        allow_none: whether there may be no value at all.
        expected: description of what is allowed, for the error, in place of one made of the bounds.
        advice: remedy that the error ends with.

    Raises:
        WrongTypeError: if they are no sequence, or one of them is no integer.
        ValueError: if one is out of bounds, or there is none.
    """
    positive = least == 1 and most is None
    expected = expected or ("positive integers" if positive else f"integers{_bounds(least, most)}")
    if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping | Set):
        raise WrongTypeError(_message(name, values, expected, advice))
    found = tuple(_index(value) for value in values)
    checked = tuple(number for number in found if number is not None)
    if len(checked) < len(found):
        raise WrongTypeError(_message(name, values, expected, advice))
    if not checked and not allow_none:
        raise ValueError(_message(name, values, f"{expected}, at least one", advice))
    if any(_is_out(number, least, most) for number in checked):
        raise ValueError(_message(name, values, expected, advice))
    return checked


def number(
    name: str,
    value: object,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    expected: str = "",
    advice: str = "",
) -> float:
    """Return a finite number of any kind as a float; True and False are none.

    Args:
        name: name of the argument, for the error.
        value: value to check.
        least: smallest value that is allowed.
        above: bound that the value must exceed, in place of ``least``.
        most: largest value that is allowed.
        below: bound that the value must stay under, in place of ``most``.
        expected: description of what is allowed, for the error, in place of one made of the bounds.
        advice: remedy that the error ends with.

    Raises:
        WrongTypeError: if it is no real number.
        ValueError: if it is not finite, or out of bounds.

    Example:
        >>> number("dropout", 1.0, least=0, below=1)
        Traceback (most recent call last):
        ValueError: dropout: got 1.0, expected a number in [0, 1)
    """
    expected = expected or _interval(least, above, most, below)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise WrongTypeError(_message(name, value, expected, advice))
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    is_at_end = found in (above, below)
    if is_at_end or _is_out(found, least, most) or _is_out(found, above, below) or not math.isfinite(found):
        raise ValueError(_message(name, value, expected, advice))
    return found


def one_of(name: str, value: object, known: Sequence[T], advice: str = "") -> T:
    """Return the known value that equals this one.

    Args:
        name: name of the argument, for the error.
        value: value to check.
        known: values that are allowed.
        advice: remedy that the error ends with.

    Raises:
        ValueError: if there is none.
    """
    for candidate in known:
        if isinstance(value, type(candidate)) and value == candidate:
            return candidate
    raise ValueError(_message(name, value, f"one of {tuple(known)}", advice))


def flag(name: str, value: object) -> bool:
    """Return True or False; what is merely taken for one of them is refused.

    Raises:
        WrongTypeError: if it is neither.
    """
    if not isinstance(value, bool):
        raise WrongTypeError(_message(name, value, "True or False"))
    return value


def set_checked(
    config: object,
    check: Callable[..., object],
    *names: str,
    or_none: bool = False,
    **options: object,
) -> None:
    """Check fields of a frozen dataclass, and set them to what the check returns.

    Args:
        config: dataclass that is being made.
        check: function of this module, called with a name, a value and the options.
        *names: names of the fields.
        or_none: whether a field may be None.
        **options: further arguments of the check.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None or not or_none:
            object.__setattr__(config, name, check(name, value, **options))


def _index(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        return operator.index(cast(SupportsIndex, value))
    except TypeError:
        return None


def _is_out(value: float, least: float | None, most: float | None) -> bool:
    return (least is not None and value < least) or (most is not None and value > most)


def _message(name: str, value: object, expected: str, advice: str = "") -> str:
    return f"{name}: got {value!r}, expected {expected}" + (f"; {advice}" if advice else "")


def _bounds(least: int | None, most: int | None) -> str:
    if least is not None and most is not None:
        return f" from {least} to {most}"
    if least is not None:
        return f" of at least {least}"
    return "" if most is None else f" of at most {most}"


def _interval(least: float | None, above: float | None, most: float | None, below: float | None) -> str:
    if most is not None or below is not None:
        left = f"({above:g}" if above is not None else "(-inf" if least is None else f"[{least:g}"
        right = f"{below:g})" if below is not None else f"{most:g}]"
        return f"a number in {left}, {right}"
    if least is not None:
        return f"a number of at least {least:g}"
    if above is not None:
        return "a positive number" if above == 0 else f"a number above {above:g}"
    return "a finite number"
