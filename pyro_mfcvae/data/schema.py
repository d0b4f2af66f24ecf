"""Tables with named columns of different kinds, and the numbers that stand for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyro_mfcvae._utils.checks import one_of
from pyro_mfcvae._utils.tables import html_table, text_table
from pyro_mfcvae.data.columns import (
    KINDS,
    Column,
    Kind,
    Numbers,
    decoded,
    encoded,
    facts_of,
    floats,
    inferred,
    kind_of_type,
    missing_in,
    some,
)

if TYPE_CHECKING:  # imported where there is a table
    import narwhals.stable.v2 as nw

Frame: TypeAlias = Any  # a table of any library


@dataclass(frozen=True)
class Schema:
    """The columns of a table: which there are, and which numbers stand for their values.

    Attributes:
        columns: the D columns, in the order that a datum (D,) has them.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"mass": [3.7, 4.1, 5.0], "island": ["Dream", None, "Biscoe"]})
        >>> schema = Schema.infer(table)
        >>> print(schema)
        column  kind      values
        mass    real
        island  category  Biscoe, Dream
        >>> schema.encode(table)[:, 1]
        tensor([1., nan, 0.], dtype=torch.float64)
    """

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))

    @classmethod
    def infer(
        cls, table: object, kinds: Mapping[str, Kind] | None = None, *, name: str = "dataset"
    ) -> Schema:
        """Find out the kind of every column.

        Texts and categories are categories. Integers are booleans if they are 0 and 1, counts if their
        smallest is 0 or 1, and real numbers else; so are whole floats of a column that lacks some, since
        pandas makes floats of those.

        Args:
            table: a DataFrame of pandas, polars or another library that narwhals knows, or an Arrow table.
            kinds: kind of columns where it shall be another, by name.
            name: argument that error messages name.

        Raises:
            TypeError: for a column of values that are none of these.
            ValueError: for names that are not unique, a column without any value, one of texts that are
                nearly all different, and kinds of no column.
        """
        frame = framed(table, name)
        given = dict(kinds or {})
        _check_names(list(given), frame.columns, "kinds", is_part=True)
        for kind in given.values():
            one_of("kinds", kind, KINDS)
        kinds_of = [(series, given.get(str(series.name))) for series in frame.iter_columns()]
        return cls(tuple(inferred(facts_of(series, kind, name), kind) for series, kind in kinds_of))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    def of_kind(self, kind: Kind) -> tuple[int, ...]:
        """Return the places of the columns of a kind."""
        return tuple(i for i, column in enumerate(self.columns) if column.kind == kind)

    def encode(self, table: object, name: str = "x") -> Tensor:
        """Turn a table into numbers; columns go by their names, in whatever order they are.

        Args:
            table: as for :meth:`infer`.
            name: argument that error messages name.

        Returns:
            Numbers (N, D) on the CPU, with NaN where they are missing; float64, or float32 if it holds all
            types of the columns.

        Raises:
            TypeError: for a column whose values are of another kind.
            ValueError: for a column that is missing or not known, and a category that is not known.
        """
        frame = framed(table, name)
        _check_names([str(each) for each in frame.columns], self.names, name)
        series = {str(each.name): each for each in frame.iter_columns()}
        codes = [encoded(series[column.name], column, name) for column in self.columns]
        return torch.from_numpy(np.stack(codes, axis=1))

    def decode(self, values: npt.ArrayLike, like: object = None) -> Frame:
        """Turn numbers into a table: the inverse of :meth:`encode`.

        Args:
            values: (N, D); codes between two categories, or 0 and 1, become the nearer one.
            like: table whose library the result is of, and whose index it has; None is pandas.

        Returns:
            A table with the columns' names and values.

        Raises:
            ImportError: if pandas is needed and not installed.
            ValueError: for values of another shape.
        """
        array = np.asarray(values, np.float64)
        if array.ndim != 2 or array.shape[1] != len(self.columns):
            raise ValueError(f"values: got shape {array.shape}, expected (N, {len(self.columns)})")
        return as_frame({c.name: decoded(array[:, i], c) for i, c in enumerate(self.columns)}, like)

    def summary(self) -> str:
        """Describe the columns in one line."""
        names = {kind: [self.names[i] for i in self.of_kind(kind)] for kind in KINDS}
        return "; ".join(f"{kind}: {some(each)}" for kind, each in names.items() if each)

    def _rows(self) -> list[list[str]]:
        rows = [["column", "kind", "values"]]
        for column in self.columns:
            values = f"days since {column.origin}" if column.origin else some(column.categories)
            rows.append([column.name, column.kind, values])
        return rows

    def __str__(self) -> str:
        return text_table(self._rows(), left=(0, 1, 2))

    def _repr_html_(self) -> str:
        return html_table(self._rows(), [])


def as_numbers(table: object, name: str) -> Numbers:
    """Turn a table of numbers alone into an array (N, D), with NaN where they are missing.

    Raises:
        TypeError: for a column of anything else.
    """
    arrays = []
    for series in framed(table, name).iter_columns():
        where = f"{name}: got column {str(series.name)!r}"
        missing = missing_in(series)
        if not bool(missing.all()) and kind_of_type(series, where) in ("category", "date"):
            raise TypeError(
                f"{where} of {series.dtype}, expected real numbers in every column; train on a table with "
                "such columns, or encode them as numbers first, e.g. with pandas.get_dummies"
            )
        arrays.append(np.full(len(series), np.nan) if bool(missing.all()) else floats(series))
    return np.stack(arrays, axis=1)


def is_frame(value: object) -> bool:
    """Tell whether a value is a table with named columns, without importing anything for other values."""
    kind = type(value)
    if not (hasattr(kind, "columns") or hasattr(kind, "column_names") or hasattr(kind, "collect_schema")):
        return False
    import narwhals.stable.v2 as nw

    return nw.dependencies.is_into_dataframe(value) or _is_lazy(value)


def numbered(values: npt.NDArray[Any], prefix: str, like: object = None) -> Frame:
    """Make a table of numbers (N, D), with columns ``prefix_0``, ``prefix_1``, ...; see :func:`as_frame`."""
    return as_frame({f"{prefix}_{i}": values[:, i] for i in range(values.shape[1])}, like)


def as_frame(columns: Mapping[str, Any], like: object = None) -> Frame:
    """Make a table of columns of values.

    Args:
        columns: values of each column, (N,), by its name.
        like: table whose library the result is of, and whose index it has; None is pandas.

    Raises:
        ImportError: if pandas is needed and not installed.
    """
    import narwhals.stable.v2 as nw

    if like is None or not is_frame(like):
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "as_frame: pandas is not installed, expected any version; run pip install pandas, or give "
                "a table of another library"
            ) from error
        table: Frame = pd.DataFrame(dict(columns))
        return table
    frame = nw.from_native(cast(Any, like), eager_only=True)
    made: Frame = nw.from_dict(dict(columns), backend=frame.implementation).to_native()
    index = nw.maybe_get_index(frame)
    if index is not None and len(index) == len(made):
        made.index = index
    return made


def _is_lazy(value: object) -> bool:
    import narwhals.stable.v2 as nw

    return nw.dependencies.is_polars_lazyframe(value)


def framed(table: object, name: str) -> nw.DataFrame[Any]:
    """Wrap a table, whatever its library."""
    import narwhals.stable.v2 as nw

    if _is_lazy(table):
        raise TypeError(f"{name}: got a LazyFrame, expected a DataFrame; call its collect()")
    is_known: bool = nw.dependencies.is_into_dataframe(table)
    if not is_known:
        raise TypeError(
            f"{name}: got a {type(table).__name__}, expected a table with named columns, such as a DataFrame "
            "of pandas or polars"
        )
    columns = [str(each) for each in getattr(table, "column_names", None) or cast(Any, table).columns]
    twice = [each for each, count in Counter(columns).items() if count > 1]
    if twice:
        raise ValueError(
            f"{name}: got several columns of the name {twice[0]!r}, expected names that differ; rename them"
        )
    return nw.from_native(cast(Any, table), eager_only=True)


def _check_names(given: Sequence[str], known: Iterable[str], name: str, *, is_part: bool = False) -> None:
    """Raise a ValueError for a column that is not known and, unless a part is enough, one that is missing."""
    expected = [str(each) for each in known]
    unknown = [each for each in given if each not in set(expected)]
    missing = [] if is_part else [each for each in expected if each not in set(given)]
    if missing:
        raise ValueError(
            f"{name}: got no column {some(map(repr, missing))}, expected the {len(expected)} columns that "
            "were trained on; give it, with missing values if they are not known"
        )
    if unknown:
        raise ValueError(
            f"{name}: got a column {some(map(repr, unknown))}, expected {some(map(repr, expected))}; "
            "leave it out, or look at the spelling"
        )
