import datetime
import gc
import os
import subprocess
import sys
import tempfile

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings

from pyro_mfcvae import Schedule, compare, fit, presets
from pyro_mfcvae.data import Schema, as_tensor, tables
from pyro_mfcvae.data.choosing import as_source, rows_for, schema_of
from pyro_mfcvae.data.opening import opened
from pyro_mfcvae.data.tables import TableFile

N = 300
ENDINGS = (".csv", ".tsv", ".parquet")
every_ending = pytest.mark.parametrize("ending", ENDINGS)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    days = pd.date_range("2020-01-01", periods=N).to_series().sample(frac=1, random_state=0)
    columns = {
        "mass": rng.normal(size=N),
        "visits": pd.Series(rng.integers(0, 9, N)).mask(rng.random(N) < 0.1),
        "island": rng.choice(["Dream", "Biscoe", None], N),
        "smokes": rng.random(N) < 0.3,
        "day": days.to_numpy(),
    }
    return pd.DataFrame(columns)


def write(table, folder, ending):
    path = folder / f"table{ending}"
    if ending == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if ending == ".tsv" else ",")
    return path


def config(**changes):
    schedule = Schedule.progressive(1, epochs=1)
    return presets.tabular(clusters=(2,), latent_dims=2, likelihood="mixed", schedule=schedule, **changes)


@every_ending
def test_a_file_is_the_table(ending, table, tmp_path):
    path = write(table, tmp_path, ending)
    schema = Schema.infer(table)
    assert schema_of(path) == schema == schema_of(str(path))
    assert torch.equal(as_tensor(path, schema=schema, allow_missing=True).nan_to_num(-1),
                       as_tensor(table, schema=schema, allow_missing=True).nan_to_num(-1))  # fmt: skip


@every_ending
def test_training_and_answers_are_those_of_the_table(ending, table, tmp_path):
    path = write(table, tmp_path, ending)
    fitted, same = (fit(x, config(), progress=False) for x in (table, path))
    assert fitted.config.schema == same.config.schema
    assert np.array_equal(fitted.predict_proba(table)[0], same.predict_proba(str(path))[0])
    assert fitted.score(table) == same.score(path)
    assert isinstance(fitted.predict(path, as_frame=True), pd.DataFrame)
    pd.testing.assert_frame_equal(fitted.impute(path, as_frame=True), fitted.impute(table, as_frame=True))
    labels = table["smokes"]
    assert str(fitted.evaluate(path, labels)) == str(fitted.evaluate(table, labels))
    both = [compare({"a": config()}, x, progress=False).models[0].elbo for x in (table, path)]
    assert np.array_equal(*both)


@every_ending
def test_a_large_file_is_read_in_batches(ending, table, tmp_path, monkeypatch):
    path = write(table, tmp_path, ending)
    monkeypatch.setattr(tables, "available_memory", lambda: 1_000)
    schema = schema_of(path)
    assert schema == Schema.infer(table)
    fitted = fit(path, config(), progress=False)
    assert fitted.config.schema == schema
    rows = rows_for(path, fitted.model)
    assert np.array_equal(rows.array, schema.encode(table), equal_nan=True)
    assert np.array_equal(fitted.predict(path), fitted.predict(table))
    again = fit(path, config(), in_memory=False, progress=False)
    assert np.array_equal(fitted.transform(table)[0], again.transform(table)[0])


def test_the_temporary_file_goes_with_the_source(table, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    os.mkdir(tempfile.tempdir)
    path = write(table, tmp_path, ".csv")
    source = as_source(path, in_memory=False, schema=schema_of(path))
    view = source.checked(lambda x, rows: None)
    assert len(os.listdir(tempfile.tempdir)) == 1
    del source
    gc.collect()
    assert len(os.listdir(tempfile.tempdir)) == 1
    del view
    gc.collect()
    assert not os.listdir(tempfile.tempdir)
    with pytest.raises(TypeError, match="island"):
        TableFile(path, "x").encode(None)
    assert not os.listdir(tempfile.tempdir)


def test_a_run_goes_on_from_its_checkpoint(table, tmp_path):
    path = write(table, tmp_path, ".csv")
    options = {"in_memory": False, "checkpoint_dir": tmp_path / "runs", "progress": False}
    first = fit(path, config(), **options)
    again = fit(path, config(), **options)
    assert first.history[-1].seconds == again.history[-1].seconds  # of the run that was finished


VALUES = {
    "integers": st.integers(-3, 3),
    "counts": st.integers(0, 5),
    "booleans": st.sampled_from([True, False]),
    "zero or one": st.sampled_from([0, 1]),
    "floats": st.floats(-5, 5).map(lambda x: round(x, 3)),
    "whole floats": st.sampled_from([0.0, 1.0, 2.0]),
    "dates": st.dates(datetime.date(1960, 1, 1), datetime.date(2030, 1, 1)),
    "times": st.datetimes(datetime.datetime(1960, 1, 1), datetime.datetime(2030, 1, 1)).map(
        lambda t: t.replace(microsecond=0)
    ),
    "texts": st.sampled_from(["a", "b b", 'c"c', "d,\nd", "é"]),
    "booleans, and numbers": st.sampled_from(["true", "0", "1"]),
    "anything": st.sampled_from(["1", "2.5", "true", "2020-01-01", "2020-01-01 10:00:00", "x"]),
}


@st.composite
def columns_of_values(draw):
    rows = draw(st.integers(1, 40))
    columns = {}
    for i, kind in enumerate(draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4))):
        value = VALUES[kind] | st.none() if draw(st.booleans()) else VALUES[kind]
        # What is rare comes late, after the batches that speak for another type.
        first = draw(st.lists(value, min_size=rows, max_size=rows))
        columns[f"{kind} {i}"] = first
    return columns


def outcome(function):
    try:
        return function()
    except (TypeError, ValueError) as error:
        return type(error), str(error)


def same_both_ways(path):
    whole, streamed = TableFile(path, "x").read(), TableFile(path, "x")
    schema = outcome(lambda: Schema.infer(whole, name="x"))
    assert outcome(streamed.schema) == schema
    if isinstance(schema, Schema):
        expected = schema.encode(whole).numpy()
        assert np.array_equal(streamed.encode(schema), expected, equal_nan=True)
        assert np.array_equal(TableFile(path, "x", schema).encode(schema), expected, equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(columns_of_values(), st.integers(100, 500))
def test_batches_of_a_csv_say_what_the_whole_says(columns, block):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BLOCK", block)
        path = os.path.join(folder, "table.csv")
        pd.DataFrame(columns, dtype=object).to_csv(path, index=False)
        same_both_ways(path)


@settings(max_examples=40, deadline=None)
@given(columns_of_values(), st.integers(1, 50), st.integers(1, 50))
def test_batches_of_parquet_say_what_the_whole_says(columns, batch, group):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BATCH", batch)
        path = os.path.join(folder, "table.parquet")
        arrays = {name: pa.array(values) for name, values in columns.items()}
        texts = {name: each for name, each in arrays.items() if each.type == pa.string()}
        arrays |= {f"{name}, categories": each.dictionary_encode() for name, each in texts.items()}
        pyarrow.parquet.write_table(pa.table(arrays), path, row_group_size=group)
        same_both_ways(path)


def test_a_type_that_turns_out_late_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK", 1_000)
    late = {
        "whole": ["1"] * 999 + ["1.5"],
        "empty": [""] * 999 + ["2020-01-01"],
        "number": ["3"] * 999 + ["x"],
        "boolean": ["0", "1"] * 499 + ["1", "true"],
        "binary": ["0"] * 999 + ["y"],
    }
    path = tmp_path / "late.csv"
    pd.DataFrame(late).to_csv(path, index=False)
    schema = TableFile(path, "x").schema()
    assert [column.kind for column in schema.columns] == ["real", "date", "category", "boolean", "category"]
    same_both_ways(path)


def test_rows_longer_than_a_block(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK", 500)
    x = np.random.default_rng(0).normal(size=(30, 100))
    pd.DataFrame(x).to_csv(tmp_path / "wide.csv", index=False)
    file = TableFile(tmp_path / "wide.csv", "x")
    assert np.array_equal(file.encode(None), x)
    assert np.array_equal(as_tensor(file.read(), dtype=torch.float64), x)
    assert file.shape == (30, 100)


def test_very_many_texts_are_refused_early(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK", 1_000)
    monkeypatch.setattr("pyro_mfcvae.data.columns.MANY", 500)
    path = tmp_path / "texts.csv"
    pd.DataFrame({"id": [f"n{i}" for i in range(2_000)]}).to_csv(path, index=False)
    with pytest.raises(ValueError, match="'id' of texts, more than 500 different ones"):
        TableFile(path, "x").schema()


def test_the_index_of_pandas_is_no_column(tmp_path):
    table = pd.DataFrame({"a": [1.5, 2.5]}, index=["x", "y"])
    table.to_parquet(tmp_path / "a.parquet")
    assert TableFile(tmp_path / "a.parquet", "x").read().column_names == ["a"]
    assert TableFile(tmp_path / "a.parquet", "x").schema().names == ("a",)
    table.to_csv(tmp_path / "a.csv")
    for in_memory in (True, False):
        with pytest.raises(ValueError, match=r"a column of which has no name.*index=False"):
            fit(tmp_path / "a.csv", config(), in_memory=in_memory)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "cannot read as CSV .*Empty"),
        ("a.csv", b"a,b\n1,2\n3\n", "cannot read as CSV .*Expected 2 columns"),
        ("a.csv", b"a,a\n1,2\n", "several columns of the name 'a'"),
        ("a.csv", b"a,b\n", "without (any value|rows)"),
        ("a.csv", b"a,b\n1,\xe9\n2,x\n", "of Binary"),
        ("a.parquet", b"nothing", "cannot read as Parquet"),
    ],
)
def test_files_that_are_no_tables(in_memory, name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises((TypeError, ValueError), match=f"^dataset: .*{message}"):
        fit(tmp_path / name, config(), in_memory=in_memory)


def test_a_file_that_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"x: got 'no.parquet', where there is no file"):
        as_tensor("no.parquet")


def test_pyarrow_is_asked_for(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")
    code = f"import sys; sys.modules['pyarrow'] = None; import pyro_mfcvae as m; m.fit({str(path)!r})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pyarrow is not installed" in result.stderr
    assert "run pip install pyarrow" in result.stderr


@pytest.mark.parametrize("in_memory", [True, False])
def test_texts_that_look_like_numbers(in_memory, tmp_path):
    path, question = tmp_path / "a.csv", tmp_path / "b.csv"
    pd.DataFrame({"code": ["1", "2", "x"] * 9, "mass": range(27)}).to_csv(path, index=False)
    pd.DataFrame({"code": ["1", "2"], "mass": [3, 4]}).to_csv(question, index=False)
    fitted = fit(path, config(), in_memory=in_memory, progress=False)
    table = pd.DataFrame({"code": ["1", "2"], "mass": [3, 4]})
    assert np.array_equal(fitted.predict_proba(question)[0], fitted.predict_proba(table)[0])


def test_a_table_in_memory_is_opened_once(table, tmp_path):
    path = write(table, tmp_path, ".parquet")
    x = opened(path, "x", in_memory=True)
    assert isinstance(x, pa.Table)
    assert opened(x, "x") is x
    large = opened(path, "x", in_memory=False)
    assert isinstance(large, TableFile)
    assert opened(large, "x") is large
    assert opened((path, [1] * N), "x", in_memory=True)[1] == [1] * N
