"""The command line under attack: bombs, junk, absurd numbers, places without room, interruptions."""

import io
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_mfcvae import fit, load
from pyro_mfcvae._utils import files
from pyro_mfcvae.cli import fitting, keeping, main, output
from pyro_mfcvae.results.fitted import FittedMFCVAE

from .attacks import blobs, tiny

QUICK = ["--clusters", "3", "--latent-dims", "2", "--epochs", "1", "--device", "cpu", "--compile", "off"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, and its data."""
    place = tmp_path_factory.mktemp("model")
    x, y = blobs(60)
    fit(x, tiny(epochs=1, warm_up_epochs=0), progress=False).save(place / "model.mfcvae")
    np.save(place / "x.npy", x)
    np.savez(place / "x.npz", x=x, y=y)
    return place


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refused(capsys, *arguments, code=2):
    """The one printable line on the standard error of a call that must fail."""
    assert main(list(map(str, arguments))) == code
    line = capsys.readouterr().err
    assert line.startswith("pyro_mfcvae: ")
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    return line


def header(shape, dtype="<f8"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def archive(path, compression=zipfile.ZIP_DEFLATED, **members):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)


# Data


def test_an_archive_that_unpacks_to_more_than_memory_holds(tmp_path, capsys, monkeypatch):
    x = header((60, 4)) + bytes(60 * 32)
    archive("x.npz", x=header((10**10, 4)))
    archive("y.npz", x=x, y=header((10**10, 4), "<i8"))
    for name in ("x", "y"):
        line = refused(capsys, "fit", f"{name}.npz", "--out", "out")
        assert f"dataset: got {name}.npz, which takes 480 GB when it is read, expected at most" in line
    archive("true.npz", x=header((2**19, 4)) + bytes(2**24))
    assert Path("true.npz").stat().st_size < 2**15
    monkeypatch.setattr("pyro_mfcvae.data.files.available_memory", lambda: 2.0**20)
    assert "which takes 25.2 MB when it is read" in refused(capsys, "fit", "true.npz", "--out", "out")
    assert not Path("out").exists()


def test_archives_that_numpy_did_not_write(capsys):
    x = header((60, 4)) + bytes(60 * 32)
    archive("bz2.npz", zipfile.ZIP_BZIP2, x=x)
    archive("lzma.npz", zipfile.ZIP_LZMA, x=x)
    for name in ("bz2", "lzma"):  # of which a step has no bound
        assert "compressed in another way" in refused(capsys, "fit", f"{name}.npz", "--out", "out")
    archive("long.npz", x=x + bytes(2**20))
    assert "x.npy is longer than its array" in refused(capsys, "fit", "long.npz", "--out", "out")
    archive("raw.npz", x=b"hello")
    archive("negative.npz", x=header((-1, -4)))
    archive("encrypted.npz", x=x)
    data = bytearray(Path("encrypted.npz").read_bytes())
    data[data.find(b"PK\x01\x02") + 8] |= 1
    Path("encrypted.npz").write_bytes(data)
    whole = Path("long.npz").read_bytes()
    Path("cut.npz").write_bytes(whole[: len(whole) // 2])
    Path("junk.npz").write_bytes(b"PK\x03\x04" + np.random.default_rng(0).bytes(999))
    for name in ("raw", "negative", "encrypted", "cut", "junk"):
        line = refused(capsys, "fit", f"{name}.npz", "--out", "out")
        assert "expected arrays that NumPy can read" in line


@pytest.mark.parametrize(
    "content",
    [
        b"",
        np.random.default_rng(0).bytes(999),
        header((10**10, 4)),
        header((2**62, 4)) + bytes(64),
        header((2**61, 8)) + bytes(64),
        header((-1, -4)) + bytes(64),
        header((60, 4)) + bytes(99),
        header((2,), "|O") + bytes(16),
        b"\x93NUMPY\x01\x00\x28\x23" + b"-" * 8999 + b"\n",
        b"\x93NUMPY\x01\x00\x28\x23" + b"(" * 9000,
    ],
)
def test_arrays_that_numpy_did_not_write(capsys, content):
    Path("x.npy").write_bytes(content)
    line = refused(capsys, "fit", "x.npy", "--out", "out")
    assert "dataset: got 'x.npy', which NumPy cannot map (" in line
    assert "(), " not in line


def test_a_sparse_file_of_data_larger_than_memory(capsys, monkeypatch):
    with open("x.npy", "wb") as file:
        file.write(header((20, 10**6), "<f4"))
        file.truncate(file.tell() + 80 * 10**6)
    for module in ("memmap", "choosing"):
        monkeypatch.setattr(f"pyro_mfcvae.data.{module}.available_memory", lambda: 2.0**20)
    assert "of which 20 take 80 MB at a time" in refused(capsys, "fit", "x.npy", "--out", "out")


def test_what_is_no_file_of_data(folder, capsys):
    os.mkdir("folder.npy")
    os.mkfifo("pipe.npy")
    Path("x.csv").write_bytes(np.random.default_rng(0).bytes(99))
    Path("empty.csv").touch()
    for name in ("folder.npy", "pipe.npy", "x.csv", "empty.csv", "a" * 5000 + ".npy", ""):
        for command in (["fit", name, "--out", "out"], ["predict", folder, name, "--out", "c.csv"]):
            assert len(refused(capsys, *command)) < 2200
    for model in ("pipe.npy", "x.csv", "folder.npy", "a" * 5000):
        refused(capsys, "predict", model, folder / "x.npy", "--out", "c.csv")
    assert not {"out", "c.csv"} & set(os.listdir())


@pytest.mark.parametrize("name", ["a\nb.npy", "a\x1b[2Jb.npy", "a\udcffb.npy", "a\rb.npy", "a\u202eb.npy"])
def test_names_that_a_terminal_would_obey(folder, capsys, name):
    refused(capsys, "fit", name, "--out", "out")
    refused(capsys, "fit", folder / "x.npy", "--out", name, "--restarts", name)
    refused(capsys, "evaluate", name, folder / "x.npy")
    os.link(folder / "x.npy", name)
    assert main(["evaluate", str(folder), name, "--out", "scores.txt"]) == 0
    shown = capsys.readouterr().out
    assert shown.replace("\n", "").isprintable()
    assert "a" in Path("scores.txt").read_text(encoding="utf-8")


# Numbers


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--threads 1000000", "--threads: got '1000000', expected a whole number from 1 to"),
        ("--threads 0", "--threads: got '0', expected"),
        ("--threads -1", "--threads: got '-1', expected"),
        (f"--threads {'9' * 5000}", "--threads: got '999"),
        ("--restarts 1000000000", "--restarts: got '1000000000', expected a whole number from 1 to 10,000"),
        ("--restarts 2 --workers 1000000000", "workers: got 1000000000, expected 'auto' or an integer from"),
        (f"--clusters {'1,' * 5000}1", "--clusters: got 5,001 numbers, expected at most 1,000"),
        (f"--seed {','.join(map(str, range(5000)))}", "--seed: got 5,000 numbers"),
        (f"--epochs {10**20}", "--epochs: got '1"),
        (f"--clusters {10**400}", "--clusters: got '1"),
        ("--epochs 0", "epochs: got 0"),
        ("--epochs -5", "epochs: got -5"),
        ("--batch-size 0", "--batch-size: got '0'"),
        (f"--batch-size {10**20}", "--batch-size: got '1"),
        ("--clusters 4294967295", "expected at least as many as a facet has clusters"),
        ("--clusters 2 --latent-dims 1000000000", "GB of parameters or more, expected at most"),
        ("--clusters 2,2 --latent-dims 4294967295,4294967295", "TB of parameters or more, expected at most"),
        ("--clusters 2 --latent-dims -1", "latent_dims: got (-1,), expected positive integers"),
        ("--learning-rate inf", "learning_rate: got inf"),
        ("--device meta", "device: 'meta' is not available here"),
        ("--device cuda:99", "use one of 'auto', 'cpu'"),
        ("--device nonsense", "use one of 'auto', 'cpu'"),
        ("--device opengl", "use one of 'auto', 'cpu'"),
        ("--device privateuseone", "use one of 'auto', 'cpu'"),
    ],
)
def test_absurd_options(folder, capsys, options, message):
    line = refused(capsys, "fit", folder / "x.npy", "--out", "out", *options.split(), "--quiet")
    assert message in line
    assert len(line) < 700


def test_a_model_larger_than_memory():
    with pytest.raises(ValueError, match=r"config: the model asks for .*; use fewer clusters or latent dim"):
        fit(blobs(60)[0], tiny(width=10**9), progress=False)


def test_more_draws_than_memory_holds(folder, capsys):
    for options in ([], ["--facet", "0"]):
        command = "sample", folder, "--out", "x.npy", "-n", 4 * 10**9, *options
        assert "got 4000000000, expected at most" in refused(capsys, *command)
    assert os.listdir() == []
    with pytest.raises(ValueError, match="n: got 1000000000000000, expected at most"):
        load(folder / "model.mfcvae").sample(10**15)


def test_memory_that_runs_out_all_the_same(folder, capsys, monkeypatch):
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")):
        monkeypatch.setattr(fitting, "fit", raising(error))
        command = "fit", folder / "x.npy", "--out", "out", "--quiet"
        assert "memory: got too little" in refused(capsys, *command, code=1)
    monkeypatch.setattr(fitting, "fit", raising(RuntimeError("a mistake of ours")))
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        main(["fit", str(folder / "x.npy"), "--out", "out", "--quiet"])


# Places


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


def test_nothing_is_replaced_unasked(folder, capsys):
    commands = {
        "c.csv": ["predict", folder, folder / "x.npy"],
        "s.npy": ["sample", folder],
        "e.txt": ["evaluate", folder, folder / "x.npy"],
        "r.html": ["report", folder, folder / "x.npy"],
    }
    for name, command in commands.items():
        Path(name).write_bytes(b"mine")
        line = refused(capsys, *command, "--out", name)
        assert f"--out: {name} exists; choose another name or add --overwrite" in line
        assert Path(name).read_bytes() == b"mine"
        os.symlink("nowhere", f"link_{name}")
        assert "exists" in refused(capsys, *command, "--out", f"link_{name}")
        assert "is no file" in refused(capsys, *command, "--out", f"link_{name}", "--overwrite")
        if name != "r.html":
            assert main([*map(str, command), "--out", name, "--overwrite"]) == 0
            assert Path(name).read_bytes() != b"mine"
    assert "/dev/null, which is there and is no file" in refused(
        capsys, *commands["e.txt"], "--out", "/dev/null", "--overwrite"
    )


@pytest.mark.parametrize("name", ["model.mfcvae", "clusters.npy", "evaluation.txt"])
def test_results_are_not_replaced_unasked(folder, capsys, name):
    for place, seeds in (("out", "0"), ("many/seed_1", "0,1")):
        os.makedirs(place)
        Path(place, name).write_bytes(b"mine")
        command = "fit", "absent.npy", "--out", place.split("/")[0], "--seed", seeds
        assert f"--out: {place}/{name} exists" in refused(capsys, *command)
        assert "absent.npy" in refused(capsys, *command, "--overwrite")
        assert Path(place, name).read_bytes() == b"mine"


def test_the_demo_finds_a_place(capsys, monkeypatch):
    monkeypatch.setattr(fitting, "fit", raising(ValueError("stopped")))
    for _ in range(3):
        assert "stopped" in refused(capsys, "demo", "--quick")
    assert sorted(os.listdir()) == ["demo", "demo_2", "demo_3"]
    Path("demo/model.mfcvae").touch()
    assert "exists" in refused(capsys, "demo", "--quick", "--out", "demo")


def test_the_place_is_tried_before_training(folder, capsys, monkeypatch):
    monkeypatch.setattr(fitting, "fit", raising(AssertionError("too late")))
    Path("file").touch()
    os.symlink("nowhere", "link")
    data = folder / "x.npy"
    for out in ("file", "file/in", "link", "/proc/out", "a" * 300):
        assert f"--out: got {out}, expected a" in refused(capsys, "fit", data, "--out", out, "--quiet")
    os.makedirs("many")
    Path("many/seed_1").touch()
    line = refused(capsys, "fit", data, "--out", "many", "--seed", "0,1", "--quiet")
    assert "--out: got many/seed_1, expected a folder" in line
    monkeypatch.setattr(output, "probe", raising(OSError(28, "No space left on device")))
    line = refused(capsys, "fit", data, "--out", "full", "--quiet")
    assert "expected a place that can be written to (No space left on device)" in line


def test_a_name_that_is_too_long_is_found_before_the_work(folder, capsys, monkeypatch):
    monkeypatch.setattr(FittedMFCVAE, "predict_proba", raising(AssertionError("too late")))
    line = refused(capsys, "predict", folder, folder / "x.npy", "--out", "a" * 250 + ".csv")
    assert "(File name too long)" in line


def test_a_model_that_cannot_be_written_is_somewhere_else(folder, capsys, monkeypatch, tmp_path):
    (tmp_path / "refuge").mkdir()
    monkeypatch.setattr(keeping.tempfile, "mkdtemp", lambda prefix: str(tmp_path / "refuge"))
    real = FittedMFCVAE.save

    def save(self, path):
        if "out" in Path(path).parts:
            raise OSError(28, "No space left on device")
        real(self, path)

    monkeypatch.setattr(FittedMFCVAE, "save", save)
    line = refused(capsys, "fit", folder / "x.npy", "--out", "out", "--quiet", *QUICK)
    refuge = tmp_path / "refuge" / "model.mfcvae"
    assert f"no model can be written (No space left on device); it is in {refuge}" in line
    assert load(refuge).clusters == (3,)


def test_pictures_that_cannot_be_written(folder, capsys, monkeypatch):
    monkeypatch.setattr(fitting.plots, "save_all", raising(OSError(28, "No space left on device")))
    line = refused(capsys, "fit", folder / "x.npy", "--out", "out", "--quiet", *QUICK)
    assert "--out: got out, expected a file that can be written (No space left on device)" in line
    assert load("out/model.mfcvae").clusters == (3,)


def test_a_device_is_never_replaced():
    with pytest.raises(FileExistsError, match="is no regular file"):
        files.writable("/dev/null")


# What ends early


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "pyro_mfcvae: interrupted; the model so far: "),
        (FloatingPointError("training diverged"), 1, "error: training diverged; the model before that: "),
    ],
)
def test_what_was_learned_is_kept(folder, capsys, monkeypatch, error, code, message):
    error.fitted = load(folder / "model.mfcvae")
    error.fitted.seed = 4
    monkeypatch.setattr(fitting, "fit", raising(error))
    for seeds, place in (("4", "out"), ("4,5", "many/seed_4")):
        command = "fit", folder / "x.npy", "--out", place.split("/")[0], "--seed", seeds, "--quiet"
        line = refused(capsys, *command, code=code)
        assert f"{message}{place}/model.mfcvae (seed 4, 1 epoch, in stage 1 of 1)" in line
        assert main(["evaluate", place, str(folder / "x.npy")]) == 0
        capsys.readouterr()
    refused(capsys, "demo", "--quick", code=code)
    assert Path("demo/model.mfcvae").is_file()


def test_finished_runs_are_kept(folder, capsys, monkeypatch):
    error = KeyboardInterrupt()
    x = blobs(60)[0]
    error.fitted = fit(x, tiny(epochs=1, warm_up_epochs=0), seeds=(1, 2), workers=1, progress=False)
    monkeypatch.setattr(fitting, "fit", raising(error))
    command = "fit", folder / "x.npy", "--quiet", "--out"
    refused(capsys, *command, "all", "--seed", "1,2,3", "--workers", 2, code=130)
    assert [load(f"all/seed_{seed}/model.mfcvae").seed for seed in (1, 2)] == [1, 2]
    refused(capsys, *command, "best", "--restarts", 3, code=130)
    assert set(load("best/model.mfcvae").restarts) == {1, 2}


def test_ctrl_c(folder):
    """A process that trains without end is interrupted; what it has learned is there."""
    options = ["--epochs", "1000000", "--clusters", "3", "--latent-dims", "2", "--compile", "off"]
    command = [sys.executable, "-m", "pyro_mfcvae", "fit", str(folder / "x.npy"), "--out", "out", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stderr.readline()  # of progress
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "pyro_mfcvae: interrupted; the model so far: out/model.mfcvae (seed 0, " in errors
    assert load("out/model.mfcvae").clusters == (3,)


def test_a_reader_that_leaves(folder):
    command = "evaluate", str(folder), str(folder / "x.npy"), "--out", "scores.txt"
    reader, writer = os.pipe()
    os.close(reader)
    whole = [sys.executable, "-m", "pyro_mfcvae", *command]
    done = subprocess.run(whole, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    assert "mean ELBO" in Path("scores.txt").read_text()


def test_devices_that_compute():
    from pyro_mfcvae._utils.devices import resolve_device

    assert resolve_device(torch.device("cpu")) == torch.device("cpu")
    for device in ("meta", torch.device("meta"), None, "", "cpu:x"):
        with pytest.raises(ValueError, match="use one of 'auto', 'cpu'"):
            resolve_device(device)


def test_seeds_without_end():
    with pytest.raises(ValueError, match=r"seeds: got more than 10,000"):
        fit(blobs(60)[0], tiny(), seeds=range(2**31), progress=False)
