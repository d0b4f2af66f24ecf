"""One column of a table, and the numbers that stand for its values."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import math
import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from pyro_mfcvae._utils.checks import one_of
from pyro_mfcvae.data.arrays import stored_type

if TYPE_CHECKING:  # imported where there is a table
    import narwhals

    Series: TypeAlias = narwhals.Series[Any]

Kind = Literal["real", "count", "category", "boolean", "date"]
Value = str | int | float | bool
Numbers = npt.NDArray[np.floating[Any]]

KINDS: tuple[Kind, ...] = get_args(Kind)
MICROSECONDS = 86_400_000_000  # of a day
EPOCH = datetime.date(1970, 1, 1)
FEW = 20  # different texts, that may be categories however few rows there are
MANY = 100_000  # different texts of a column of a file, at most
SHOWN = 6  # names and categories in messages


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: its name.
        kind: ``"real"``, a number of any scale, or a duration in days; ``"count"``, an integer from 0;
            ``"category"``, one of ``categories``, whose code is its place there; ``"boolean"``, 0 or 1; or
            ``"date"``, in days since ``origin``.
        categories: values that a category has; of a boolean, the numbers 0 and 1 if it was given as such.
        origin: day from which dates are counted, as in ``"2026-11-27"``; empty for other kinds.
    """

    name: str
    kind: Kind
    categories: tuple[Value, ...] = ()
    origin: str = ""

    def __post_init__(self) -> None:
        one_of("kind", self.kind, KINDS)
        object.__setattr__(self, "categories", tuple(self.categories))


@dataclass(frozen=True)
class Facts:
    """What the values of a column say of its kind; those of batches of it add up.

    Attributes:
        label: name of the column.
        where: beginning of error messages.
        dtype: type of the values, in words.
        observed: number of values that are not missing.
        missing: number of those that are.
        kind: kind that the type speaks for; None for numbers, of which the values decide.
        is_integer: whether the type is one of integers.
        is_whole: whether all numbers are whole.
        low: smallest number.
        high: largest number.
        days: sum of the dates, in days since 1970.
        found: values of a category that occur.
        order: categories in the order that a Categorical has.
    """

    label: str
    where: str
    dtype: str
    observed: int
    missing: int
    kind: Kind | None = None
    is_integer: bool = False
    is_whole: bool = True
    low: float = math.inf
    high: float = -math.inf
    days: float = 0.0
    found: frozenset[Value] = frozenset()
    order: tuple[Value, ...] = ()

    def __add__(self, other: Facts) -> Facts:
        found = self.found | other.found
        if len(found) > MANY:
            raise ValueError(
                f"{self.where} of texts, more than {MANY:,} different ones, expected categories that occur "
                "many times; leave the column out"
            )
        return dataclasses.replace(
            self,
            observed=self.observed + other.observed,
            missing=self.missing + other.missing,
            kind=self.kind or other.kind,
            is_whole=self.is_whole and other.is_whole,
            low=min(self.low, other.low),
            high=max(self.high, other.high),
            days=self.days + other.days,
            found=found,
            order=tuple(dict.fromkeys(self.order + other.order)),
        )

    @property
    def natural_kind(self) -> Kind:
        """Kind that the type, and the values, speak for."""
        if self.kind is not None:
            return self.kind
        if not (self.is_integer or (self.missing and self.is_whole)):
            return "real"
        if self.low == 0 and self.high == 1:
            return "boolean"
        return "count" if self.low in (0, 1) and self.high > 1 else "real"


def facts_of(series: Series, kind: Kind | None, name: str) -> Facts:
    """Look at the values of a column, or of a batch of it, that shall be of a kind; None if that is open."""
    import narwhals.stable.v2 as nw

    label, dtype = str(series.name), series.dtype
    where = f"{name}: got column {label!r}"
    missing = missing_in(series)
    observed = int((~missing).sum())
    facts = Facts(label, where, str(dtype), observed, len(missing) - observed, is_integer=dtype.is_integer())
    if not observed:  # of whatever type a column without values is
        return facts
    natural = kind_of_type(series, where)
    if natural is None:
        values = floats(series)[~missing]
        is_whole = bool((values == np.round(values)).all())
        low, high = float(values.min()), float(values.max())
        facts = dataclasses.replace(facts, is_whole=is_whole, low=low, high=high)
    elif natural == "date":
        facts = dataclasses.replace(facts, days=math.fsum(_days(series)[~missing]))
    if (kind or natural) == "category":
        order: tuple[Value, ...] = ()
        if dtype in (nw.Categorical, nw.Enum):
            order = tuple(_plain(value) for value in series.cat.get_categories().to_list())
        occurring = series.unique() if dtype == nw.String else series
        found = frozenset(_plain(value) for value in _observed(occurring))
        facts = dataclasses.replace(facts, found=found, order=order)
    return dataclasses.replace(facts, kind=natural)


def inferred(facts: Facts, kind: Kind | None = None) -> Column:
    """Find out the kind of a column, or what a given kind needs."""
    label, where, dtype = facts.label, facts.where, facts.dtype
    if not facts.observed:
        raise ValueError(f"{where} without any value, expected some; leave the column out")
    found = facts.natural_kind
    chosen = kind or found
    if chosen == "date":
        if found != "date":
            raise TypeError(f"{where} of {dtype}, expected dates; parse them first")
        origin = EPOCH + datetime.timedelta(days=round(facts.days / facts.observed))
        return Column(label, "date", origin=origin.isoformat())
    if chosen == "category":
        number = len(facts.found)
        if kind is None and number > max(FEW, facts.observed // 2):
            raise ValueError(
                f"{where} of texts, {number:,} different ones in {facts.observed:,} rows, expected "
                "categories that occur several times; leave the column out"
            )
        ordered = facts.order or sorted(facts.found, key=lambda value: (isinstance(value, str), value))
        return Column(label, "category", tuple(value for value in ordered if value in facts.found))
    if chosen == "boolean" and facts.kind != "boolean":  # numbers, 0 and 1
        return Column(label, "boolean", (0, 1))
    if chosen in ("real", "count") and found in ("category", "date"):
        raise TypeError(f"{where} of {dtype}, expected numbers; convert it first, or give no kind")
    return Column(label, chosen)


def kind_of_type(series: Series, where: str) -> Kind | None:
    """Return the kind that a column's type speaks for; None for numbers, of which the values decide."""
    import narwhals.stable.v2 as nw

    dtype = series.dtype
    if dtype == nw.Boolean:
        return "boolean"
    if dtype in (nw.String, nw.Categorical, nw.Enum):
        return "category"
    if dtype in (nw.Date, nw.Datetime):
        return "date"
    if dtype == nw.Duration:
        return "real"
    if dtype == nw.Object or dtype == nw.Unknown:
        return _kind_of_objects(series, where)
    if not dtype.is_numeric():
        raise TypeError(
            f"{where} of {dtype}, expected numbers, texts, categories, booleans or dates; leave it out"
        )
    return None


def _kind_of_objects(series: Series, where: str) -> Kind:
    """Return the kind of a column of Python's objects, which must be of one kind."""
    values = _observed(series)
    if all(isinstance(value, (bool, np.bool_)) for value in values):
        return "boolean"
    if all(isinstance(value, (numbers.Real, decimal.Decimal)) for value in values):
        return "real"
    if all(isinstance(value, str) for value in values):
        return "category"
    if all(isinstance(value, datetime.date) for value in values):
        return "date"
    kinds = sorted({type(value).__name__ for value in values})
    raise TypeError(
        f"{where} of objects of the types {some(kinds)}, expected one kind of numbers, texts, booleans or "
        "dates; convert the column, or leave it out"
    )


def missing_in(series: Series) -> npt.NDArray[np.bool_]:
    """Return which values are missing, (N,)."""
    missing = series.is_null()
    if series.dtype.is_float():
        missing = missing | series.is_nan().fill_null(value=True)
    return np.asarray(missing.to_numpy(), np.bool_)


def _observed(series: Series) -> list[Any]:
    """Return the values that are not missing."""
    return series.drop_nulls().to_list()


def _plain(value: object) -> Value:
    """Return a value as JSON knows it."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, (str, int, float, bool)) else str(value)


def floats(series: Series) -> Numbers:
    """Return numbers of any type, with NaN where they are missing."""
    import narwhals.stable.v2 as nw

    if series.dtype == nw.Duration:
        return (
            np.asarray(series.dt.total_microseconds().cast(nw.Float64).to_numpy(), np.float64) / MICROSECONDS
        )
    if series.dtype in (nw.Object, nw.Unknown) or series.dtype.is_decimal():
        missing = missing_in(series)
        pairs = zip(series.to_list(), missing, strict=True)
        return np.array([np.nan if is_missing else float(value) for value, is_missing in pairs])
    if series.dtype == nw.Boolean or bool(series.is_null().any()):
        wide = series.cast(nw.Float32 if series.dtype == nw.Float32 else nw.Float64)
        return np.asarray(
            wide.to_numpy(), stored_type(np.dtype(np.float32 if wide.dtype == nw.Float32 else float))
        )
    array = np.asarray(series.to_numpy())
    return array.astype(np.float32 if array.dtype == np.uint8 else stored_type(array.dtype))


def _days(series: Series) -> Numbers:
    """Return dates as days since 1970, with NaN where they are missing."""
    import narwhals.stable.v2 as nw

    if series.dtype == nw.Object:
        missing = missing_in(series)
        pairs = zip(series.to_list(), missing, strict=True)
        stamps = [np.datetime64("NaT") if gone else np.datetime64(_naive(value)) for value, gone in pairs]
        days = np.array(stamps, "datetime64[us]")
        return np.where(missing, np.nan, days.astype(np.int64) / MICROSECONDS)
    exact = series.cast(nw.Datetime("us")) if series.dtype == nw.Date else series
    return np.asarray(exact.dt.timestamp("us").cast(nw.Float64).to_numpy(), np.float64) / MICROSECONDS


def _naive(value: datetime.date) -> datetime.date:
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(datetime.UTC).replace(tzinfo=None)
    return value


def encoded(series: Series, column: Column, name: str) -> Numbers:
    """Return the numbers of one column, (N,)."""
    where = f"{name}: got column {column.name!r}"
    missing = missing_in(series)
    if bool(missing.all()):  # of whatever type a column without values is
        return np.full(len(series), np.nan)
    if column.kind == "category":
        codes: dict[Value, float] = {value: code for code, value in enumerate(column.categories)}
        values = [
            np.nan if gone else codes.get(_plain(v))
            for v, gone in zip(series.to_list(), missing, strict=True)
        ]
        if None in values:
            unknown = series.to_list()[values.index(None)]
            raise ValueError(
                f"{where} with the category {unknown!r}, expected one of "
                f"{some(map(repr, column.categories))}; mark it as missing, or train with it"
            )
        return np.array(values, np.float64)
    found = kind_of_type(series, where)
    if (column.kind == "date") != (found == "date") or found == "category":
        raise TypeError(f"{where} of {series.dtype}, expected the kind {column.kind!r}; convert it first")
    if column.kind == "date":
        return _days(series) - float((datetime.date.fromisoformat(column.origin) - EPOCH).days)
    return floats(series)


def decoded(codes: npt.NDArray[np.float64], column: Column) -> Any:
    """Return the values of one column, (N,), for its numbers."""
    missing = np.isnan(codes)
    if column.kind == "date":
        origin = np.datetime64(column.origin, "us")
        days = np.where(missing, 0, codes)
        dates = origin + np.round(days * MICROSECONDS).astype("timedelta64[us]")
        return np.where(missing, np.datetime64("NaT"), dates).astype("datetime64[us]")
    if column.kind in ("category", "boolean"):
        values = column.categories or (False, True)
        nearest = np.clip(np.round(np.where(missing, 0, codes)), 0, len(values) - 1).astype(int)
        return [None if gone else values[code] for code, gone in zip(nearest, missing, strict=True)]
    return codes


def some(values: Iterable[object]) -> str:
    """List a few values, and say how many more there are."""
    texts = [str(value) for value in values]
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(texts[:SHOWN]) + more
