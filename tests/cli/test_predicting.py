"""The command ``predict`` from Parquet to Parquet: in parts, that are kept."""

import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pyro_mfcvae as mf
from pyro_mfcvae._utils.files import alone_in
from pyro_mfcvae.cli import main, predicting
from pyro_mfcvae.data.tables import TableFile

ROWS, GROUP = 170, 20  # of the file, and of its groups
CONFIG = mf.presets.tabular(
    clusters=(3, 2), latent_dims=2, schedule=mf.Schedule((mf.Stage((0, 1), epochs=2, batch_size=50),))
)


def make_table(N, seed=0):
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, N)
    site = np.array(["north", "south"])[rng.integers(0, 2, N)]
    return pd.DataFrame({"id": np.arange(N), "mass": kind + 0.1 * rng.normal(size=N), "site": site})


@pytest.fixture(scope="module")
def fitted():
    return mf.fit(make_table(200, seed=1).drop(columns="id"), CONFIG, device="cpu", progress=False)


@pytest.fixture
def folder(fitted, tmp_path):
    fitted.save(tmp_path / "model.mfcvae")
    make_table(ROWS).to_parquet(tmp_path / "rows.parquet", index=False, row_group_size=GROUP)
    return tmp_path


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(predicting, "PART", 50)  # so that a part has three groups


def command(folder, *options, out="clusters.parquet", data="rows.parquet"):
    paths = [folder / "model.mfcvae", folder / data, "--out", folder / out]
    return list(map(str, ["predict", *paths, "--drop", "id", "--device", "cpu", "--threads", 1, *options]))


def assert_right(folder, fitted, N=ROWS):
    found = pd.read_parquet(folder / "clusters.parquet")
    assert list(found) == ["index", "cluster_0", "probability_0", "cluster_1", "probability_1"]
    np.testing.assert_array_equal(found["index"], np.arange(N))
    for j, r in enumerate(fitted.predict_proba(make_table(N).drop(columns="id"))):
        np.testing.assert_array_equal(found[f"cluster_{j}"], r.argmax(-1))
        np.testing.assert_allclose(found[f"probability_{j}"], r.max(-1), rtol=0, atol=1e-6)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("workers", [1, 2])
def test_clusters_are_those_of_predict(folder, fitted, workers, capsys, monkeypatch):
    before = set(folder.iterdir())
    with monkeypatch.context() as patch:
        if workers > 1:
            patch.setattr(TableFile, "batches_of", None)  # here, but not in other processes
        assert main(command(folder, "--workers", workers)) == 0
    assert "data: " in capsys.readouterr().out
    assert_right(folder, fitted)
    assert set(folder.iterdir()) == before | {folder / "clusters.parquet"}
    assert main(command(folder)) == 2
    assert "clusters.parquet exists" in capsys.readouterr().err
    assert main(command(folder, "--overwrite")) == 0


def interrupt_after(monkeypatch, parts):
    """Let that many parts be read, and note the first group of each."""
    read, whole = [], TableFile.batches_of

    def batches_of(self, groups):
        if len(read) == parts:
            raise KeyboardInterrupt
        read.append(groups[0])
        return whole(self, groups)

    monkeypatch.setattr(TableFile, "batches_of", batches_of)
    return read


@pytest.mark.usefixtures("small_parts")
def test_an_interrupted_one_goes_on(folder, fitted, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        assert interrupt_after(patch, 2) == []
        assert main(command(folder)) == 130
    assert not (folder / "clusters.parquet").exists()
    assert len(list((folder / "clusters.parquet.parts").glob("*.parquet"))) == 2
    read = interrupt_after(monkeypatch, 10)
    assert main(command(folder)) == 0
    assert read == [6]  # of groups 0 to 8, in parts of three
    assert "has 120 of 170 rows; going on." in capsys.readouterr().out
    assert_right(folder, fitted)
    assert not (folder / "clusters.parquet.parts").exists()


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("change", ["model", "data"])
def test_parts_of_others_are_refused(folder, change, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        assert main(command(folder)) == 130
    given = command(folder)
    if change == "model":
        mf.fit(make_table(200)[["mass", "site"]], CONFIG, device="cpu", progress=False).save(
            folder / "model.mfcvae"
        )
    else:
        table = make_table(ROWS).assign(mass=0.0)
        table.to_parquet(folder / "rows.parquet", index=False, row_group_size=GROUP)
    assert main(given) == 2
    assert "which has parts of another model or of other data" in capsys.readouterr().err
    assert len(list((folder / "clusters.parquet.parts").glob("*.parquet"))) == 1
    assert main([*given, "--overwrite"]) == 0
    clusters = mf.load(folder / "model.mfcvae").predict(
        pd.read_parquet(folder / "rows.parquet")[["mass", "site"]]
    )
    np.testing.assert_array_equal(pd.read_parquet(folder / "clusters.parquet")["cluster_0"], clusters[:, 0])


@pytest.mark.usefixtures("small_parts")
def test_parts_of_other_columns_are_refused(folder, monkeypatch, capsys):
    """Where a model knows no names, one choice of columns is as good to it as another."""
    x = np.random.default_rng(0).normal(size=(ROWS, 3))
    of_arrays = mf.fit(x[:, :2], CONFIG, device="cpu", progress=False)
    of_arrays.save(folder / "model.mfcvae")
    table = pd.DataFrame(x, columns=["id", "a", "b"])
    table.to_parquet(folder / "rows.parquet", index=False, row_group_size=GROUP)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        assert main(command(folder)) == 130
    others = ["a" if option == "id" else option for option in command(folder)]
    assert main(others) == 2
    assert "which has parts of another model or of other data" in capsys.readouterr().err
    assert main(command(folder)) == 0


def test_one_process_at_a_time(folder, monkeypatch, capsys):
    monkeypatch.setattr("pyro_mfcvae._utils.files.PATIENCE", 0)
    parts = folder / "clusters.parquet.parts"
    parts.mkdir()
    with alone_in(parts):
        assert main(command(folder)) == 2
    assert "clusters.parquet.parts, in which another process writes" in capsys.readouterr().err


def test_a_folder_of_somebody_else_is_left_alone(folder, capsys):
    other = folder / "clusters.parquet.parts"
    other.mkdir()
    (other / "thesis.txt").touch()
    for options in ([], ["--overwrite"]):
        assert main(command(folder, *options)) == 2
        assert "clusters.parquet.parts, which is there for something else" in capsys.readouterr().err
        assert list(other.iterdir()) == [other / "thesis.txt"]


def test_what_cannot_be_predicted_leaves_nothing(folder, capsys):
    table = make_table(60)
    table.iloc[:0].to_parquet(folder / "empty.parquet", index=False)
    table.assign(site="west").to_parquet(folder / "unknown.parquet", index=False)
    np.save(folder / "x.npy", np.zeros((3, 2)))
    before = set(folder.iterdir())
    in_rows = "dataset: in the 60 rows from 0 on: x: "
    for data, expected in {"empty": "without rows", "unknown": in_rows}.items():
        assert main(command(folder, data=f"{data}.parquet")) == 2
        assert expected in capsys.readouterr().err
    assert main([*command(folder)[:3], "--out", str(folder / "c.parquet")]) == 2
    assert "column 'id'" in capsys.readouterr().err
    without_drop = ["predict", str(folder / "model.mfcvae"), str(folder / "x.npy"), "--out"]
    assert main([*without_drop, str(folder / "c.csv"), "--workers", "2"]) == 2
    assert "--workers: got 2 with" in capsys.readouterr().err
    for option in ("--split test", "--root rows", "--subset wall"):
        assert main(command(folder, *option.split())) == 2
        assert f"{option.split()[0]}: got" in capsys.readouterr().err
    assert main(command(folder, "--overwrite", out="rows.parquet")) == 2
    assert "rows.parquet, which has the data, expected another file" in capsys.readouterr().err
    assert set(folder.iterdir()) == before


def test_without_pyarrow_a_line_says_so(folder, monkeypatch, capsys):
    np.save(folder / "x.npy", np.zeros((3, 2)))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for data in ("x.npy", "rows.parquet"):
        assert main(command(folder, data=data)) == 2
        assert "pyarrow is not installed, which writes it; run pip install pyarrow" in capsys.readouterr().err
    assert main(command(folder, out="c.csv")) == 2
    assert "pyarrow is not installed, which reads it; run pip install pyarrow" in capsys.readouterr().err


def test_others_are_written_to_parquet_too(folder, fitted):
    make_table(ROWS).to_csv(folder / "rows.csv", index=False)
    assert main(command(folder, data="rows.csv")) == 0
    assert_right(folder, fitted)


def printed_by(run):
    return subprocess.run(run, check=True, capture_output=True, text=True).stdout


PEAK = """
import resource, sys
from pyro_mfcvae.cli import main
few, many, model, out = sys.argv[1:]
for data in (few, many):
    options = ["--out", out, "--drop", "id", "--threads", "1", "--overwrite"]
    assert main(["predict", model, data, *options]) == 0
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_many_rows_take_little_memory_and_survive_a_kill(folder, fitted):
    part = pa.Table.from_pandas(make_table(200_000), preserve_index=False)
    with pq.ParquetWriter(folder / "many.parquet", part.schema) as writer:
        for _ in range(15):
            writer.write_table(part)
    paths = [folder / name for name in ("rows.parquet", "many.parquet", "model.mfcvae", "c.parquet")]
    run = [sys.executable, "-W", "ignore", "-c", PEAK, *map(str, paths)]
    parts = folder / "c.parquet.parts"
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        while len(list(parts.glob("*.parquet"))) < 2 or not (folder / "c.parquet").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert parts.exists()
    (folder / "c.parquet").unlink()
    again = command(folder, out="c.parquet", data="many.parquet")
    assert "of 3,000,000 rows; going on." in printed_by([sys.executable, "-m", "pyro_mfcvae", *again])
    clusters = pq.read_table(folder / "c.parquet", columns=["index", "cluster_0"]).to_pandas()
    np.testing.assert_array_equal(clusters["index"], np.arange(3_000_000))
    expected = fitted.predict(make_table(200_000).drop(columns="id"))[:, 0]
    np.testing.assert_array_equal(clusters["cluster_0"], np.tile(expected, 15))
    peaks = [int(peak) for peak in re.findall(r"^peak (\d+)$", printed_by(run), re.MULTILINE)]
    assert peaks[1] - peaks[0] < 64 * 1024  # KiB; all rows at once take 220,000
