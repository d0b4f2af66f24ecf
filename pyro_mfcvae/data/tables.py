"""Tables in files, CSV and Parquet, at once or in batches of rows."""

from __future__ import annotations

import os
import re
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import numpy as np

from pyro_mfcvae._utils.allocations import available_memory
from pyro_mfcvae.data.columns import Column, Facts, facts_of, inferred
from pyro_mfcvae.data.files import Mapped, check_is_file
from pyro_mfcvae.data.schema import Schema, as_numbers, framed

if TYPE_CHECKING:  # imported where there is a file
    import pyarrow

    Table: TypeAlias = pyarrow.Table

Result = TypeVar("Result")

TABLES = (".csv", ".tsv", ".parquet")
WIDTH = 16  # bytes of a value in memory, at most, while a table is read and encoded
CSV_WIDTH = 2  # characters of the shortest value in a CSV, and what is between two
MEMORY_SHARE = 0.25  # of the memory that is available, that a file is read into
BATCH = 2**16  # rows of a batch of Parquet
BLOCK = 2**20  # bytes of a batch of CSV, unless its rows are very long
MAX_HEADER = 2**24  # bytes of the names of its columns, at most
# Of a value in the column of a CSV that the type found before it, by its first batch, does not suit.
CONVERSION = re.compile(
    r"In CSV column #(\d+): (?:Row #\d+: )?CSV conversion error to [^:]+: (?:invalid value '(.*)')?", re.S
)


class TableFile:
    """A table in a file, which is read in batches, as often as need be.

    Args:
        path: a file .csv, .tsv or .parquet.
        name: argument that error messages name.
        schema: columns that are expected, whose texts may look like numbers in a CSV; None is not known.
        leaves_out: names of columns that are left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if pyarrow is not installed.
        ValueError: where it is read, for a file that Arrow cannot read.
    """

    def __init__(
        self, path: str | Path, name: str, schema: Schema | None = None, leaves_out: Sequence[str] = ()
    ) -> None:
        check_is_file(path, name, *TABLES)
        try:
            import pyarrow
        except ImportError as error:
            raise ImportError(
                f"{name}: got {str(path)!r}, but pyarrow is not installed, which reads it; run pip install "
                "pyarrow"
            ) from error
        self.path, self.name, self.leaves_out = Path(path), name, list(leaves_out)
        self._is_parquet = self.path.suffix.lower() == ".parquet"
        texts = [c.name for c in schema.columns if _has_texts(c)] if schema is not None else []
        # Of the columns of a CSV, as far as it was read, or they are known.
        self.types: dict[str, pyarrow.DataType] = dict.fromkeys(texts, pyarrow.string())
        self.names: list[str] = []

    def __len__(self) -> int:
        """Count the rows, N, which reads all of a CSV."""
        if self._is_parquet:
            return sum(self.row_groups())
        return self._in_batches(lambda batches: sum(map(len, batches)))

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (N, D), which reads all of a CSV."""
        return len(self), len(self.column_names)

    @property
    def column_names(self) -> list[str]:
        """Names of the columns that are not left out."""
        names = self._parquet_columns() if self._is_parquet else self._csv_names()
        return [name for name in names if name not in self.leaves_out]

    @property
    def is_large(self) -> bool:
        """Whether it would take too much of the memory that is available."""
        if self._is_parquet:
            count = len(self) * len(self._parquet_columns())
        else:
            count = self.path.stat().st_size // CSV_WIDTH
        return WIDTH * count > MEMORY_SHARE * available_memory()

    def read(self) -> Table:
        """Read all of the table."""
        return self.read_whole().drop_columns(self.leaves_out)

    def read_whole(self, columns: Sequence[str] | None = None) -> Table:
        """Read all of the table, also columns that are left out, or some of its columns."""
        import pyarrow.csv
        import pyarrow.parquet

        if self._is_parquet:
            chosen = list(columns or self._parquet_columns())
            return self._read(lambda: pyarrow.parquet.read_table(self.path, columns=chosen))
        types = pyarrow.csv.ConvertOptions(
            column_types=self.types, strings_can_be_null=True, include_columns=columns or []
        )
        table = self._read(lambda: pyarrow.csv.read_csv(self.path, self._blocks(), self._layout(), types))
        self._check(table.schema)
        return table

    def schema(self) -> Schema:
        """Find out the kind of every column, as :meth:`Schema.infer` does for the whole table.

        Raises:
            TypeError: as :meth:`Schema.infer`.
            ValueError: as :meth:`Schema.infer`, and for texts of which very many are different.
        """

        def seen(batches: Iterator[Table]) -> list[Facts]:
            facts: list[Facts] = []
            for batch in batches:
                columns = framed(batch, self.name).iter_columns()
                found = [facts_of(series, None, self.name) for series in columns]
                facts = [a + b for a, b in zip(facts, found, strict=True)] if facts else found
            return facts

        facts = self._in_batches(seen)
        if not facts:
            raise self._without_rows()
        return Schema(tuple(inferred(each) for each in facts))

    def encode(self, schema: Schema | None) -> Mapped:
        """Encode the table into a temporary file, which is deleted when nothing uses it any more.

        Args:
            schema: columns of the table; None expects numbers in all of them.

        Returns:
            Numbers (N, D), as :meth:`Schema.encode` has them.
        """
        handle, path = tempfile.mkstemp(suffix=".bin", prefix="pyro_mfcvae_")
        try:
            with open(handle, "wb") as file:

                def written(batches: Iterator[Table]) -> int:
                    file.seek(0)
                    width = 0
                    for batch in batches:
                        numbers = self._numbers(batch, schema)
                        width = numbers.shape[1]
                        file.write(np.ascontiguousarray(numbers, np.float64).data)
                    file.truncate()
                    return width

                width = self._in_batches(written)
            if not os.path.getsize(path):
                raise self._without_rows()
            shape = (os.path.getsize(path) // (8 * width), width)
            array: Mapped = np.memmap(path, np.float64, "r", shape=shape)
        except BaseException:
            os.unlink(path)
            raise
        weakref.finalize(cast(Any, array)._mmap, _unlink, path)  # views of it share that
        return array

    def row_groups(self) -> list[int]:
        """Return the numbers of rows of the groups that a file of Parquet is made of."""
        import pyarrow.parquet

        meta = self._read(lambda: pyarrow.parquet.read_metadata(self.path))
        return [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]

    def batches_of(self, groups: Sequence[int]) -> Iterator[Table]:
        """Read the rows of some groups of a file of Parquet, without columns that are left out."""
        return (batch.drop_columns(self.leaves_out) for batch in self._parquet_batches(groups))

    def _numbers(self, batch: Table, schema: Schema | None) -> np.ndarray:
        return as_numbers(batch, self.name) if schema is None else schema.encode(batch, self.name).numpy()

    def _in_batches(self, function: Callable[[Iterator[Table]], Result]) -> Result:
        """Apply a function to all batches; again from the first, if a type turns out to be another."""
        while True:
            batches = self._parquet_batches() if self._is_parquet else self._csv_batches()
            try:
                return function(batch.drop_columns(self.leaves_out) for batch in batches)
            except _AnotherTypeError:
                continue

    def _parquet_batches(self, groups: Sequence[int] | None = None) -> Iterator[Table]:
        import pyarrow.parquet

        columns = self._parquet_columns()
        with self._read(lambda: pyarrow.parquet.ParquetFile(self.path)) as file:
            batches = file.iter_batches(BATCH, row_groups=groups, columns=columns)
            while (batch := self._read(lambda: next(batches, None))) is not None:
                yield pyarrow.Table.from_batches([batch])

    def _parquet_columns(self) -> list[str]:
        """Return the names of the columns without those that pandas wrote for its index."""
        import pyarrow.parquet

        schema = self._read(lambda: pyarrow.parquet.read_schema(self.path))
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        return [name for name in schema.names if name not in index]

    def _csv_names(self) -> list[str]:
        import pyarrow.csv

        reader = self._read(lambda: pyarrow.csv.open_csv(self.path, self._blocks(), self._layout()))
        with reader:
            names: list[str] = reader.schema.names
            return names

    def _csv_batches(self) -> Iterator[Table]:
        import pyarrow.csv

        types = pyarrow.csv.ConvertOptions(column_types=self.types, strings_can_be_null=True)
        try:
            with pyarrow.csv.open_csv(self.path, self._blocks(), self._layout(), types) as reader:
                self._check(reader.schema)
                self.names = reader.schema.names
                self.types = dict(zip(reader.schema.names, reader.schema.types, strict=True))
                for batch in reader:
                    yield pyarrow.Table.from_batches([batch])
        except pyarrow.ArrowInvalid as error:
            found = CONVERSION.match(str(error))
            if found is None or not self.names:
                raise self._unreadable(error) from error
            column = self.names[int(found[1])]
            self.types[column] = _wider(self.types[column], found[2])
            raise _AnotherTypeError from error

    def _blocks(self) -> pyarrow.csv.ReadOptions:
        import pyarrow.csv

        with open(self.path, "rb") as file:
            header = len(file.readline(MAX_HEADER))
        # A row must fit into a block, and its numbers may be longer than the names.
        return pyarrow.csv.ReadOptions(block_size=max(BLOCK, 16 * header))

    def _layout(self) -> pyarrow.csv.ParseOptions:
        import pyarrow.csv

        delimiter = "\t" if self.path.suffix.lower() == ".tsv" else ","
        # Texts in quotes may have several lines.
        return pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)

    def _check(self, schema: pyarrow.Schema) -> None:
        """Raise a ValueError for a column without a name, which pandas writes for the index of a table."""
        framed(schema.empty_table(), self.name)
        if "" in schema.names:
            raise ValueError(
                f"{self.name}: got {str(self.path)!r}, a column of which has no name, as pandas writes for "
                "an index, expected names; write it with index=False, or give the column a name"
            )

    def _read(self, function: Callable[[], Result]) -> Result:
        """Call a function that reads from the file."""
        import pyarrow

        try:
            return function()
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise self._unreadable(error) from error

    def _without_rows(self) -> ValueError:
        return ValueError(f"{self.name}: got {str(self.path)!r} without rows, expected at least one")

    def _unreadable(self, error: Exception) -> ValueError:
        kind = "Parquet" if self._is_parquet else "CSV"
        return ValueError(
            f"{self.name}: got {str(self.path)!r}, which pyarrow cannot read as {kind} ({error}), expected a "
            "table whose first row names the columns; look at the file, or read it with a library of your own"
        )


class _AnotherTypeError(Exception):
    """Of a column in a CSV whose type turned out to be a wider one."""


def is_table(path: str | Path) -> bool:
    """Tell whether a path is that of a table, by its ending."""
    return Path(path).suffix.lower() in TABLES


def _has_texts(column: Column) -> bool:
    return any(isinstance(value, str) for value in column.categories)


def _wider(dtype: pyarrow.DataType, value: str | None) -> pyarrow.DataType:
    """Return the first type after this one, in Arrow's order, that suits a value; None is not known."""
    import pyarrow as pa
    import pyarrow.csv

    zones = [pa.timestamp(unit, zone) for zone in (None, "UTC") for unit in ("s", "ns")]
    order = [pa.null(), pa.int64(), pa.bool_(), pa.date32(), pa.time32("s"), *zones]
    order += [pa.float64(), pa.string(), pa.binary()]
    place = order.index(dtype) + 1
    if value is not None:
        text = "a\n" + '"{}"'.format(value.replace('"', '""'))
        options = pyarrow.csv.ParseOptions(newlines_in_values=True)
        own = pyarrow.csv.read_csv(pa.BufferReader(text.encode()), parse_options=options).schema.types[0]
        place = max(place, order.index(own))
    return order[place]


def _unlink(path: str) -> None:
    Path(path).unlink(missing_ok=True)
