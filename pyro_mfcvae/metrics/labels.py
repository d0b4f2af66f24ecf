"""Labels of any kind: numbers, booleans and text, in arrays, lists, series and tables, as classes."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:  # only needed for what comes from such a library
    import narwhals

__all__ = ["Coded", "Labels", "Names", "code"]

Codes = npt.NDArray[np.int64]
Names: TypeAlias = Sequence[str] | Mapping[str, Sequence[str] | None] | None

DENSE = 4  # numbers per datum up to which a table of all that may occur is cheaper than to sort the data
EXPECTED = "expected integers, whole numbers, booleans or text"


class Coded(NamedTuple):
    """Values (N,) as those that occur, in their order, and their positions among them."""

    names: npt.NDArray[Any]  # (K,)
    codes: Codes  # (N,), in 0 .. K-1


def code(values: npt.NDArray[np.integer]) -> Coded:
    """Number the integers (N,) that occur, in ascending order."""
    low, high = int(values.min()), int(values.max())
    if high - low > DENSE * len(values) or values.dtype == np.uint64:  # which int64 may have no room for
        return _sorted(values)
    shifted = values.astype(np.int64) - low
    occurs = np.bincount(shifted) > 0
    return Coded((np.flatnonzero(occurs) + low).astype(values.dtype), (np.cumsum(occurs) - 1)[shifted])


@dataclass(frozen=True, eq=False)
class Labels:
    """F kinds of label of N data, each with classes of its own.

    Attributes:
        names: names of the kinds.
        columns: for each kind, the classes that occur and the class of every datum. Numbers are in
            ascending order, text is sorted, and the categories of a table keep their order.
    """

    names: tuple[str, ...]
    columns: tuple[Coded, ...]

    @classmethod
    def of(cls, values: object, names: Names = None, argument: str = "labels") -> Self:
        """Read labels.

        >>> Labels.of(["cat", "dog", "cat"]).columns[0].codes
        array([0, 1, 0])
        >>> Labels.of([[0, 1], [2, 1]], {"size": None, "colour": ["red", "blue"]}).classes
        (('0', '2'), ('blue',))

        Args:
            values: integers, whole numbers, booleans or text, (N,) or (N, F): an array, a tensor, lists, or a
                series or table of pandas, polars or Arrow, a kind of label in each column; or `Labels`.
            names: names of the kinds, F of them; or a mapping from these to the names of their classes, of
                which label 0 has the first, or to None. Without names a table's or series' own are taken,
                else "label", or "label_0", "label_1", ...
            argument: argument that error messages name.

        Raises:
            TypeError: for values of another type, or numbers that are not whole.
            ValueError: for values that are missing, no data, or another shape; or names that are not F
                different ones, or do not name all classes.
        """
        columns, own = (values.columns, values.names) if isinstance(values, cls) else _read(values, argument)
        chosen = _names(names, own, len(columns))
        if isinstance(names, Mapping):
            each = zip(columns, names.items(), strict=True)
            columns = tuple(_renamed(column, *of_column) for column, of_column in each)
        return cls(chosen, columns)

    @classmethod
    def one(cls, values: object, argument: str = "labels") -> Self:
        """Read labels of one kind, (N,); see `of`.

        Raises:
            TypeError: as `of`.
            ValueError: as `of`, and for several kinds.
        """
        labels = cls.of(values, argument=argument)
        if len(labels.columns) > 1:
            raise ValueError(
                f"{argument}: got shape {labels.codes.shape}, expected one kind of label, (N,); choose one, "
                f"as in {argument}[:, 0], or a column of a table"
            )
        return labels

    @cached_property
    def classes(self) -> tuple[tuple[str, ...], ...]:
        """Names of the classes that occur, in their order, for each kind."""
        return tuple(tuple(map(str, column.names.tolist())) for column in self.columns)

    @cached_property
    def codes(self) -> Codes:
        """Positions of the classes of every datum, int64 (N, F)."""
        return np.stack([column.codes for column in self.columns], 1)

    def kind(self, f: int) -> Self:
        """Return the labels of one kind."""
        return type(self)(self.names[f : f + 1], self.columns[f : f + 1])

    def __len__(self) -> int:
        return len(self.columns[0].codes)


def _names(names: Names, own: tuple[str, ...] | None, F: int) -> tuple[str, ...]:
    if names is None:
        names = own or (("label",) if F == 1 else tuple(f"label_{f}" for f in range(F)))
    if isinstance(names, str) or len(names) != F or len(set(names)) != F:
        raise ValueError(f"names: got {names!r}, expected {F} different names, one for every label")
    return tuple(map(str, names))


def _renamed(column: Coded, kind: str, classes: Sequence[str] | None) -> Coded:
    """Give the classes of integer labels their names; None leaves them the numbers."""
    if classes is None:
        return column
    L, values = len(classes), column.names
    if isinstance(classes, str) or len(set(classes)) < L:
        raise ValueError(f"names[{kind!r}]: got {classes!r}, expected different names of classes in a list")
    if values.dtype.kind not in "bui" or values.min() < 0 or values.max() >= L:
        raise ValueError(
            f"names[{kind!r}]: got {L} names for the labels {', '.join(map(str, values[:3].tolist()))}, ..., "
            f"expected labels from 0 to {L - 1}; name all classes, or give None where labels are names"
        )
    return Coded(np.array([str(classes[value]) for value in values.tolist()]), column.codes)


# --- what labels come in -------------------------------------------------------------------------


def _read(values: object, argument: str) -> tuple[tuple[Coded, ...], tuple[str, ...] | None]:
    """Read columns, and their names where they have some."""
    if hasattr(values, "to_numpy") or hasattr(values, "__arrow_c_stream__"):
        import narwhals as nw

        frame = nw.from_native(_known(values), allow_series=True, pass_through=True)
        if isinstance(frame, nw.Series):
            _check_size(frame.shape, argument)
            own = (frame.name,) if isinstance(frame.name, str) and frame.name else None
            return (_of_series(frame, argument),), own
        if isinstance(frame, nw.DataFrame):
            _check_size(frame.shape, argument)
            series = frame.iter_columns()
            columns = tuple(_of_series(each, f"{argument}, column {each.name!r}") for each in series)
            return columns, tuple(map(str, frame.columns))
    array = _array(values, argument)
    _check_size(array.shape, argument)
    if array.ndim == 0:
        raise TypeError(
            f"{argument}: got a {type(values).__name__}, expected labels (N,) or (N, columns); give an "
            "array, a list, or a series or table that is in memory"
        )
    if array.ndim > 2:
        raise ValueError(
            f"{argument}: got shape {array.shape}, expected (N,) or (N, columns); select columns, or use "
            "ravel"
        )
    if array.ndim == 1:
        return (_of_array(array, argument),), None
    return tuple(_of_array(column, f"{argument}, column {f}") for f, column in enumerate(array.T)), None


def _known(values: object) -> object:
    """Wrap the arrays of pandas and Arrow, which narwhals takes for no series."""
    package = type(values).__module__.split(".")[0]
    if package == "pandas" and not hasattr(values, "iloc"):
        return sys.modules["pandas"].Series(values)
    if package == "pyarrow" and hasattr(values, "dictionary_encode") and not hasattr(values, "chunks"):
        return sys.modules["pyarrow"].chunked_array([values])
    return values


def _array(values: object, argument: str) -> npt.NDArray[np.generic]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.double() if values.is_floating_point() else values).numpy()
    try:
        array = np.asanyarray(values)
        if array.dtype.kind == "U" and not isinstance(values, np.ndarray):
            return np.array(values, dtype=object)  # NumPy makes text of numbers beside text, and of NaN
    except ValueError as error:
        raise ValueError(
            f"{argument}: got values that are no array ({error}), expected (N,) or (N, columns); make all "
            "rows equally long"
        ) from error
    return array


def _check_size(shape: tuple[int, ...], argument: str) -> None:
    if 0 in shape:
        raise ValueError(f"{argument}: got no data, shape {shape}, expected at least one datum")


# --- one kind of label ---------------------------------------------------------------------------


def _of_series(series: narwhals.Series[Any], where: str) -> Coded:
    import narwhals as nw

    is_missing = series.is_null().to_numpy()
    if is_missing.any():
        raise _missing(is_missing, where)
    if series.dtype not in (nw.Categorical, nw.Enum):
        return _of_array(np.asarray(series.to_numpy()), where)
    names = series.unique().sort().to_list()  # in the order that the categories have
    place = {name: k for k, name in enumerate(names)}
    return Coded(np.array(names), np.array([place[value] for value in series.to_list()], np.int64))


def _of_array(values: npt.NDArray[Any], where: str) -> Coded:
    """Number the values (N,) that occur."""
    if np.ma.is_masked(values):
        raise _missing(np.ma.getmaskarray(values), where)
    values = np.asarray(values)
    kind = values.dtype.kind
    if kind == "b":
        number, codes = code(values.astype(np.int64))
        return Coded(number.astype(bool), codes)
    if kind in "ui":
        return code(values)
    if kind == "f":
        return code(_whole(values, where))
    if kind in "UT":
        return _sorted(values)
    if kind == "O":
        return _of_objects(values, where)
    raise TypeError(
        f"{where}: got dtype {values.dtype}, {EXPECTED}; name the classes with .astype(str), and cut what is "
        "continuous with np.digitize"
    )


def _of_objects(values: npt.NDArray[np.generic], where: str) -> Coded:
    """Number Python's objects (N,): all text, or all numbers."""
    objects: list[object] = values.tolist()
    is_missing = np.array([each is None or (isinstance(each, float) and each != each) for each in objects])
    if is_missing.any():
        raise _missing(is_missing, where)
    if all(isinstance(each, str) for each in objects):
        return _sorted(np.array(objects))
    if all(isinstance(each, (numbers.Real, np.bool_)) for each in objects):
        array = np.array(objects)
        if array.dtype.kind != "O":  # of integers beyond 64 bits
            return _of_array(array, where)
    types = ", ".join(sorted({type(each).__name__ for each in objects}))
    raise TypeError(
        f"{where}: got values of type {types}, {EXPECTED}, and all of the same kind; convert them with "
        ".astype(str)"
    )


def _whole(values: npt.NDArray[np.generic], where: str) -> Codes:
    floats = values.astype(np.float64)
    if np.isnan(floats).any():
        raise _missing(np.isnan(floats), where)
    is_whole = (floats == np.rint(floats)) & (np.abs(floats) < 2.0**63)
    if not is_whole.all():
        row = int(is_whole.argmin())
        raise TypeError(
            f"{where}: got {floats[row]:g} in row {row}, {EXPECTED}; cut what is continuous into "
            "classes with np.digitize"
        )
    return floats.astype(np.int64)


def _sorted(values: npt.NDArray[np.generic]) -> Coded:
    names, codes = np.unique(values, return_inverse=True)
    return Coded(names, codes.astype(np.int64, copy=False))


def _missing(is_missing: npt.NDArray[np.bool_], where: str) -> ValueError:
    rows = np.flatnonzero(is_missing)
    return ValueError(
        f"{where}: got none in row {rows[0]}, the first of {len(rows)} such, expected a class for every "
        "datum; leave out data where it is unknown, as in x[known] and labels[known]"
    )
