"""Commands on tables in files, and on an AnnData."""

import anndata
import numpy as np
import pandas as pd
import pytest

from pyro_mfcvae import load
from pyro_mfcvae.cli import main

QUICK = ["--clusters", "3,2", "--latent-dims", "2", "--epochs", "2", "--batch-size", "20", "--device", "cpu"]


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    kind = np.arange(90) % 3
    return pd.DataFrame(
        {
            "id": [f"n{i}" for i in range(90)],
            "mass": kind + 0.1 * rng.normal(size=90),
            "site": np.array(["north", "south"])[np.arange(90) % 2],
            "species": np.array(["cat", "dog", "owl"])[kind],
            "year": rng.integers(2000, 2005, 90),
        }
    )


def write(table, path):
    table.to_parquet(path) if path.suffix == ".parquet" else table.to_csv(
        path, index=False, sep="\t" if path.suffix.lower() == ".tsv" else ","
    )
    return str(path)


@pytest.fixture
def without_pictures(monkeypatch):
    monkeypatch.setattr("pyro_mfcvae.plots.save_all", lambda *_: [])


def refused(capsys, *arguments):
    assert main(list(map(str, arguments))) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("ending", [".TSV", ".parquet"])
def test_a_table_is_fitted_judged_and_predicted(ending, table, tmp_path, capsys):
    path, out = write(table, tmp_path / f"table{ending}"), tmp_path / "out"
    columns = ["--labels", "species", "--drop", "id,year"]
    assert main(["fit", path, "--out", str(out), *columns, *QUICK, "--quiet"]) == 0
    assert "species" in (out / "evaluation.txt").read_text()
    fitted = load(out / "model.mfcvae")
    assert fitted.config.schema.names == ("mass", "site")
    expected = fitted.predict(table[["mass", "site"]])
    assert np.array_equal(np.load(out / "clusters.npy"), expected)
    written = pd.read_csv(out / "clusters.csv")
    assert list(written) == ["row", "facet_0", "facet_1"]
    assert np.array_equal(written, np.column_stack([np.arange(90), expected]))
    capsys.readouterr()
    assert main(["evaluate", str(out), path, *columns, "--device", "cpu"]) == 0
    assert "species" in capsys.readouterr().out
    again = ["predict", str(out), path, "--drop", "id,year,species", "--out", str(tmp_path / "c.npy")]
    assert main(again) == 0
    assert np.array_equal(np.load(tmp_path / "c.npy"), expected)
    assert "got a column 'id'" in refused(capsys, "evaluate", out, path, "--labels", "species")
    for name in ("model.mfcvae", "evaluation.txt", "clusters.npy"):
        (out / name).unlink()
    assert "clusters.csv exists" in refused(capsys, "fit", path, "--out", out, *columns)


@pytest.mark.usefixtures("without_pictures")
def test_a_table_too_large_for_memory(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pyro_mfcvae.data.tables.MEMORY_SHARE", 1e-12)
    path, out = write(table, tmp_path / "table.csv"), tmp_path / "out"
    assert main(["fit", path, "--out", str(out), "--drop", "id,species", *QUICK]) == 0
    assert "table.csv, 90 data of 3, without labels." in capsys.readouterr().out
    clusters = np.load(out / "clusters.npy")
    assert np.array_equal(clusters, load(out / "model.mfcvae").predict(table.drop(columns=["id", "species"])))
    question = ["predict", str(out), path, "--drop", "id,species", "--out", str(tmp_path / "c.npy")]
    assert main(question) == 0
    assert np.array_equal(np.load(tmp_path / "c.npy"), clusters)
    labelled = ["--labels", "species", "--drop", "id"]
    assert main(["report", str(out), path, *labelled, "--out", str(tmp_path / "report.html")]) == 0
    assert "closest to species" in (tmp_path / "report.html").read_text()
    capsys.readouterr()
    assert main(["evaluate", str(out), path, *labelled, "--device", "cpu"]) == 0
    of_a_file = capsys.readouterr().out
    monkeypatch.undo()
    assert main(["evaluate", str(out), path, *labelled, "--device", "cpu"]) == 0
    assert of_a_file == capsys.readouterr().out
    monkeypatch.setattr("pyro_mfcvae.data.tables.MEMORY_SHARE", 1e-12)
    message = refused(capsys, "fit", path, "--out", tmp_path / "b", "--labels", "species", "--drop", "id")
    assert "--labels: got species" in message
    assert "too large for memory" in message


@pytest.mark.usefixtures("without_pictures")
def test_an_anndata(table, tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(90, 4))
    cells = anndata.AnnData(x, obs=table[["species"]].set_index(table["id"]))
    path, out = tmp_path / "cells.h5ad", tmp_path / "out"
    cells.write_h5ad(path)
    assert main(["fit", str(path), "--out", str(out), "--labels", "species", *QUICK, "--quiet"]) == 0
    assert "species" in (out / "evaluation.txt").read_text()
    assert np.array_equal(np.load(out / "clusters.npy"), load(out / "model.mfcvae").predict(x))
    assert not (out / "clusters.csv").exists()
    message = refused(capsys, "fit", path, "--out", tmp_path / "b", "--labels", "kind")
    assert "--labels: got 'kind', expected columns of the data, species" in message


def test_columns_that_are_not_there(table, tmp_path, capsys):
    path, out = write(table, tmp_path / "table.csv"), tmp_path / "out"
    for option in ("--labels", "--drop"):
        message = refused(capsys, "fit", path, "--out", out, option, "spices")
        assert f"{option}: got 'spices', expected columns of the data, id, mass, site, species" in message
    np.save(tmp_path / "x.npy", np.ones((4, 2)))
    message = refused(capsys, "fit", tmp_path / "x.npy", "--out", out, "--drop", "a")
    assert "--drop: got a with" in message
    assert "expected a file .csv, .tsv, .parquet" in message
    assert "argument --drop: got 'a,,b', expected different" in refused(
        capsys, "fit", path, "--out", out, "--drop", "a,,b"
    )
    assert "dataset: got column 'id' of texts" in refused(capsys, "fit", path, "--out", out)
