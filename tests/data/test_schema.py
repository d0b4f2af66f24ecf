import datetime
import decimal
import math
import subprocess
import sys

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings

from pyro_mfcvae.data import Column, Schema, as_tensor
from pyro_mfcvae.data.choosing import as_source, schema_of

NAN = math.nan
DATES = [datetime.date(2020, 1, 1), None, datetime.date(2020, 1, 5)]
COLUMNS = {
    "mass": [1.5, None, 2.25],
    "visits": [None, 1, 3],
    "year": [2007, 2008, 2009],
    "smokes": [True, None, False],
    "answer": [0, 1, 1],
    "island": ["Dream", None, "Biscoe"],
    "day": DATES,
}
KINDS = ("real", "count", "real", "boolean", "boolean", "category", "date")
CODES = [  # the mean day is the third of January
    [1.5, NAN, 2007, 1, 0, 1, -2],
    [NAN, 1, 2008, NAN, 1, NAN, NAN],
    [2.25, 3, 2009, 0, 1, 0, 2],
]


def as_pandas(columns):
    return pd.DataFrame(columns, index=[f"row {i}" for i in range(len(next(iter(columns.values()))))])


def as_nullable(columns):
    return pd.DataFrame(columns).convert_dtypes()


def as_arrow_backed(columns):
    return pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype)


LIBRARIES = {
    "pandas": as_pandas,
    "nullable pandas": as_nullable,
    "pandas on Arrow": as_arrow_backed,
    "polars": pl.DataFrame,
    "Arrow": pa.table,
}
libraries = pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)


def equal(x, y):
    np.testing.assert_array_equal(np.asarray(x, np.float64), np.asarray(y, np.float64))


@libraries
def test_kinds_and_codes(library):
    table = library(COLUMNS)
    schema = Schema.infer(table)
    assert schema.names == tuple(COLUMNS)
    assert tuple(column.kind for column in schema.columns) == KINDS
    assert schema.columns[5].categories == ("Biscoe", "Dream")
    assert schema.columns[6].origin == "2020-01-03"
    equal(schema.encode(table), CODES)


@libraries
def test_columns_go_by_their_names(library):
    schema = Schema.infer(library(COLUMNS))
    equal(schema.encode(library(dict(reversed(COLUMNS.items())))), CODES)


@libraries
def test_another_library_gives_the_same(library):
    equal(Schema.infer(pl.DataFrame(COLUMNS)).encode(library(COLUMNS)), CODES)


@libraries
def test_there_and_back(library):
    table = library(COLUMNS)
    schema = Schema.infer(table)
    back = schema.decode(schema.encode(table), table)
    assert type(back) is type(table)
    equal(schema.encode(back), CODES)
    if isinstance(table, pd.DataFrame):
        assert back.index.equals(table.index)
        assert back["island"].tolist() == ["Dream", None, "Biscoe"]


def test_without_a_table_to_be_like_pandas_is_made():
    schema = Schema.infer(pl.DataFrame(COLUMNS))
    back = schema.decode([[1.2, 2.6, 2007, 0.7, 0.2, 0.9, 0.5]])
    assert isinstance(back, pd.DataFrame)
    assert back["smokes"].tolist() == [True]
    assert back["answer"].tolist() == [0]
    assert back["island"].tolist() == ["Dream"]
    assert back["day"].tolist() == [pd.Timestamp("2020-01-03 12:00")]
    assert back["visits"].tolist() == [2.6]  # a mean of counts is no count
    with pytest.raises(ValueError, match=r"^values: got shape \(1, 2\), expected \(N, 7\)"):
        schema.decode([[1, 2]])


@given(
    st.lists(
        st.tuples(
            st.floats(-1e6, 1e6) | st.none(),
            st.sampled_from(["a", "b", "ü", ""]) | st.none(),
            st.booleans() | st.none(),
            st.dates(datetime.date(1700, 1, 1), datetime.date(2200, 1, 1)) | st.none(),
        ),
        min_size=1,
        max_size=20,
    ),
    st.randoms(),
)
@settings(deadline=None, max_examples=50)
def test_any_table_comes_back(rows, random):
    rows = [*rows, (0.5, "a", True, datetime.date(2000, 2, 29))]  # no column is without a value
    columns = dict(zip("rcbd", map(list, zip(*rows, strict=True)), strict=True))
    table = pl.DataFrame(columns, schema={"r": pl.Float64, "c": pl.String, "b": pl.Boolean, "d": pl.Date})
    schema = Schema.infer(table)
    x = schema.encode(table)
    names = list(columns)
    random.shuffle(names)
    equal(schema.encode(table[names]), x)
    back = schema.decode(x, table)
    assert back["c"].to_list() == columns["c"]
    assert back["b"].to_list() == columns["b"]
    assert back["d"].cast(pl.Date).to_list() == columns["d"]
    equal(back["r"].to_numpy(), table["r"].to_numpy())


@pytest.mark.parametrize(
    ("values", "kind", "codes"),
    [
        ([0, 2, 5], "count", [0, 2, 5]),
        ([1, 2, 5], "count", [1, 2, 5]),
        ([2, 3, 5], "real", [2, 3, 5]),
        ([-1, 0, 5], "real", [-1, 0, 5]),
        ([0.0, 1.0, None], "boolean", [0, 1, NAN]),
        ([0.0, 3.0, None], "count", [0, 3, NAN]),
        ([0.0, 3.0, 4.0], "real", [0, 3, 4]),
        ([decimal.Decimal("1.5"), None, decimal.Decimal(2)], "real", [1.5, NAN, 2]),
        (pd.to_timedelta([12, 24, 36], unit="h"), "real", [0.5, 1, 1.5]),
        (pd.Categorical(["s", "l", "s"], ["s", "m", "l"]), "category", [0, 1, 0]),
        (pd.Categorical([30, 10, None]), "category", [1, 0, NAN]),
        (pd.cut([1, 5, 9], [0, 5, 10]), "category", [0, 0, 1]),
        (pd.Series(["x", None, "y"], dtype="string"), "category", [0, NAN, 1]),
        (pd.Series([True, None, False], dtype=object), "boolean", [1, NAN, 0]),
        (pd.to_datetime(["2020-01-02T00:00", "2020-01-01T12:00", None]), "date", [0, -0.5, NAN]),
        (pd.to_datetime(["2020-01-02", "2020-01-02", "2020-01-02"], utc=True), "date", [0, 0, 0]),
        (np.array([200, 255, 3], np.uint8), "real", [200, 255, 3]),
    ],
)
def test_kinds(values, kind, codes):
    table = pd.DataFrame({"a": values})
    schema = Schema.infer(table)
    assert schema.columns[0].kind == kind
    equal(schema.encode(table)[:, 0], codes)


def test_a_kind_that_is_given():
    table = pd.DataFrame({"a": [2, 3, 3], "b": [0, 1, 1], "c": [7, 9, 7]})
    schema = Schema.infer(table, {"a": "count", "b": "real", "c": "category"})
    assert [column.kind for column in schema.columns] == ["count", "real", "category"]
    assert schema.columns[2].categories == (7, 9)
    with pytest.raises(ValueError, match=r"^kinds: got a column 'd', expected 'a', 'b', 'c'; leave it out"):
        Schema.infer(table, {"d": "real"})
    with pytest.raises(ValueError, match=r"^kinds: got 'text', expected one of"):
        Schema.infer(table, {"a": "text"})
    with pytest.raises(TypeError, match=r"^dataset: got column 'a' of .*expected dates; parse them"):
        Schema.infer(table, {"a": "date"})


def test_the_narrowest_type_that_holds_the_columns():
    table = pd.DataFrame({"a": np.ones(2, np.float32), "b": np.ones(2, np.int8)})
    assert Schema.infer(table).encode(table).dtype == torch.float32
    assert Schema.infer(table).encode(table.astype({"b": "int64"})).dtype == torch.float64


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ({"a": [None, None, None]}, ValueError, "got column 'a' without any value, expected some; leave"),
        (
            {"a": list("abc") * 10, "id": [str(i) for i in range(30)]},
            ValueError,
            "column 'id' of texts, 30",
        ),
        ({"a": [[1], [2], [3]]}, TypeError, "got column 'a' of (List|objects)"),
        ({"a": [1, "x", 2.5]}, TypeError, "objects of the types float, int, str, expected one kind"),
    ],
)
def test_columns_that_are_refused(table, error, message):
    with pytest.raises(error, match=f"^dataset: .*{message}"):
        Schema.infer(pd.DataFrame(table))


def test_names_must_differ():
    table = pd.DataFrame([[1.0, 2.0]], columns=["a", "a"])
    with pytest.raises(ValueError, match=r"^dataset: got several columns of the name 'a'"):
        Schema.infer(table)


def test_numbers_serve_as_names():
    schema = Schema.infer(pd.DataFrame(np.eye(3)))
    assert schema.names == ("0", "1", "2")
    equal(schema.encode(pd.DataFrame(np.eye(3))[[2, 0, 1]]), np.eye(3))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda t: t.drop("island"), ValueError, "got no column 'island', expected the 7 columns"),
        (lambda t: t.with_columns(x=1, y=2), ValueError, "got a column 'x', 'y', expected 'mass'"),
        (
            lambda t: t.with_columns(island=pl.lit("Gotland")),
            ValueError,
            "column 'island' with the category 'Gotland', expected one of 'Biscoe', 'Dream'; mark it",
        ),
        (
            lambda t: t.with_columns(mass=pl.lit("much")),
            TypeError,
            "column 'mass' of String, expected the kind",
        ),
        (lambda t: t.with_columns(day=1), TypeError, "column 'day' of Int32, expected the kind 'date'"),
        (lambda t: t.lazy(), TypeError, "got a LazyFrame, expected a DataFrame; call its collect"),
    ],
)
def test_tables_that_do_not_suit(change, error, message):
    table = pl.DataFrame(COLUMNS)
    with pytest.raises(error, match=f"^x: .*{message}"):
        Schema.infer(table).encode(change(table))


def test_a_column_may_be_missing_throughout_later():
    table = pl.DataFrame(COLUMNS)
    codes = Schema.infer(table).encode(table.with_columns(island=None))
    equal(codes[:, 5], [NAN] * 3)


def test_it_prints():
    schema = Schema.infer(pl.DataFrame(COLUMNS))
    lines = str(schema).splitlines()
    assert lines[0].split() == ["column", "kind", "values"]
    assert lines[6].split() == ["island", "category", "Biscoe,", "Dream"]
    assert lines[7].endswith("days since 2020-01-03")
    assert schema.summary() == (
        "real: mass, year; count: visits; category: island; boolean: smokes, answer; date: day"
    )
    hostile = Schema((Column("<script>", "category", ("<b>",)),))
    assert "<script>" not in hostile._repr_html_()
    assert "&lt;b&gt;" in hostile._repr_html_()


def test_a_kind_that_there_is_not():
    with pytest.raises(ValueError, match=r"^kind: got 'text', expected one of"):
        Column("a", "text")


def test_only_tables_have_a_schema():
    table = pd.DataFrame(COLUMNS)
    assert schema_of(table) == schema_of((table, [1, 2, 3])) == Schema.infer(table)
    assert schema_of(np.eye(3)) is schema_of([[1.0]]) is schema_of(torch.eye(2)) is None


def test_sources_of_tables():
    table = pl.DataFrame(COLUMNS)
    for in_memory in (True, False):
        source = as_source(table, in_memory, schema=Schema.infer(table))
        x = source.sample(3, torch.Generator().manual_seed(0))
        assert sorted(x[:, 2].tolist()) == [2007, 2008, 2009]


@libraries
def test_numbers_alone_need_no_schema(library):
    table = library({"a": [1.5, None], "b": [True, False], "c": [3, 4]})
    equal(as_tensor(table, allow_missing=True), [[1.5, 1, 3], [NAN, 0, 4]])
    with pytest.raises(TypeError, match=r"^x: got column 'd' of .*expected real numbers in every column"):
        as_tensor(library({"a": [1.5, None], "d": ["u", "v"]}))


EXTRAS = (
    *("narwhals", "pandas", "polars", "pyarrow", "anndata", "zarr", "datasets", "dask", "distributed", "ray"),
    *("onnx", "onnxscript", "onnxruntime", "scanpy", "tensorboard", "optuna"),
)


def test_nothing_is_imported_for_other_data(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    code = (
        "import sys, h5py, numpy as np, scipy.sparse, pyro_mfcvae as mf; x = np.ones((3, 2));"
        f"file = h5py.File({str(tmp_path / 'x.h5')!r}, 'w').create_dataset('x', data=x);"
        f"items = mf.data.from_dicts([{{'x': row}} for row in x], 'x');"
        f"given = [x, scipy.sparse.csr_array(x), file, items, {str(tmp_path / 'x.npy')!r}];"
        "[mf.data.as_tensor(each) for each in given];"
        f"print([m for m in {EXTRAS} if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
