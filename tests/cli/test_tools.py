"""The commands that look at a model that is there: what they write and print, and how they refuse."""

import csv
import os
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

import pyro_mfcvae
from pyro_mfcvae import FittedMFCVAE, fit, load
from pyro_mfcvae.cli import datasets, main
from pyro_mfcvae.data import LabelledData, RenderedShapes, mnist
from pyro_mfcvae.likelihoods import Gaussian
from pyro_mfcvae.results.choosing import RunScore

OPTIONS = {"device": "cpu", "precision": "float32", "progress": False}
MNIST = Path(os.environ.get("PYRO_MFCVAE_DATA", "nowhere")) / "MNIST" / "raw"


@pytest.fixture(scope="module")
def folder(blobs, make_config, tmp_path_factory):
    """What ``fit`` would leave: a model of 3 and 2 clusters, and the data, with labels and without."""
    place = tmp_path_factory.mktemp("cli")
    x, y = blobs
    stage = {"epochs": 6, "warm_up_epochs": 4, "learning_rate": 1e-2, "batch_size": 16}
    config = make_config(K=(3, 2), likelihood=Gaussian(0.05), **stage)
    fit(x, config, seed=7, **OPTIONS).save(place / "model.mfcvae")
    np.savez(place / "data.npz", x=x, y=y)
    np.save(place / "data.npy", x)
    return place


@pytest.fixture(scope="module")
def fitted(folder):
    return load(folder / "model.mfcvae")


def succeeded(capsys, *arguments):
    """What a call prints that must succeed."""
    assert main(list(map(str, arguments))) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def refused(capsys, *arguments):
    """The one line on the standard error of a call that must fail."""
    assert main(list(map(str, arguments))) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("pyro_mfcvae: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


# evaluate


def test_labels_are_scored(folder, fitted, blobs, tmp_path, capsys):
    out = tmp_path / "a" / "b.txt"
    printed = succeeded(capsys, "evaluate", folder, folder / "data.npz", "--out", out, "--device", "cpu")
    assert out.read_text() == printed
    assert os.listdir(out.parent) == ["b.txt"]
    x, y = blobs
    evaluation = fitted.evaluate(x, y)
    assert str(evaluation) in printed
    best = evaluation.best_facet("label_1")
    assert f"closest to label_1: facet {best} (NMI {evaluation.score(best, 'label_1', 'nmi'):.3f})" in printed
    model = f"model: {folder / 'model.mfcvae'}, trained with seed 7, in {fitted.history.environment}\n"
    assert model in printed
    assert f"mean ELBO of 300 data: {fitted.score(x):.2f} nats per datum" in printed


def test_without_labels_there_is_no_table(folder, fitted, blobs, capsys):
    command = "evaluate", folder / "model.mfcvae", folder / "data.npy", "--seed"
    printed = succeeded(capsys, *command, 5)
    assert "purity" not in printed
    assert f"{fitted.score(blobs[0], seed=5):.2f} nats per datum" in printed
    for j, r in enumerate(fitted.predict_proba(blobs[0])):
        alive = len(set(r.argmax(1)))
        assert f"facet {j}: {alive} of {r.shape[1]} clusters alive" in printed
        assert re.search(rf"mean confidence.* facet {j} {r.max(1).mean():.3f}", printed)
    assert printed == succeeded(capsys, *command, 5)
    assert printed != succeeded(capsys, *command, 6)


def test_the_best_of_restarts_is_called_so(fitted, folder, tmp_path, capsys):
    best = FittedMFCVAE(fitted.model, fitted.history, seed=2)
    best.restarts = {2: RunScore(-1.0, 0.5, 0.9, 0.1), 3: RunScore(-2.0, 0.5, 0.9, 0.2)}
    best.save(tmp_path / "best.mfcvae")
    printed = succeeded(capsys, "evaluate", tmp_path / "best.mfcvae", folder / "data.npy")
    assert "trained with seed 2, the best of 2 without labels" in printed
    FittedMFCVAE(fitted.model, fitted.history).save(tmp_path / "best.mfcvae")
    assert "seed" not in succeeded(capsys, "evaluate", tmp_path / "best.mfcvae", folder / "data.npy")


def test_parts_of_digits(monkeypatch, fitted, folder, tmp_path, capsys):
    """Only the part that is asked for is read."""
    read = []

    def digits(root, train):
        read.append(train)
        n = 40 if train else 30
        labels = torch.arange(n).remainder(2)[:, None]
        return LabelledData(torch.rand(n, 6), labels, ("digit",))

    monkeypatch.setitem(datasets.DIGITS, "mnist", digits)
    out = tmp_path / "clusters.npy"
    for options, number, kind in (
        ([], 30, "test"),
        (["--split", "test"], 30, "test"),
        (["--split", "train"], 40, "training"),
    ):
        assert f"data: mnist, {number} {kind} data\n" in succeeded(
            capsys, "predict", folder, "mnist", "--out", out, "--overwrite", *options
        )
        assert len(np.load(out)) == number
        printed = succeeded(capsys, "evaluate", folder, "mnist", *options)
        assert f"mean ELBO of {number} {kind} data" in printed
        assert "closest to digit" in printed
    assert read == [False] * 4 + [True] * 2


def test_parts_of_rooms(monkeypatch):
    turning = RenderedShapes({"orientation": "all"}, image_size=16)
    monkeypatch.setattr(RenderedShapes, "floor", lambda: turning)
    parser = pyro_mfcvae.cli.parser()
    for options, number, kind in (([], 3, "test"), (["--split", "train"], 12, "training")):
        arguments = parser.parse_args(["evaluate", "model", "shapes", *options])
        part = datasets.load_part(arguments, allow_missing=False)
        assert part.where == f"{number} {kind} data"
        assert part.x.shape == (number, 3, 16, 16)
        assert part.labels.names == ("orientation",)


# report


@pytest.mark.parametrize("title", [None, "Third attempt"])
def test_a_report_is_written(folder, blobs, tmp_path, capsys, monkeypatch, title):
    seen = []

    def report(self, path, x, labels=None, names=None, *, title=None, seed=0):
        seen.append((self.seed, x, labels, names, title, seed))
        path.write_text("<html>")
        return path

    monkeypatch.setattr(FittedMFCVAE, "report", report, raising=False)
    out = tmp_path / "new" / "report.html"
    options = ["--seed", "3", *([] if title is None else ["--title", title])]
    printed = succeeded(capsys, "report", folder, folder / "data.npz", "--out", out, *options)
    assert f"Wrote {out}." in printed
    assert "300 data" in printed
    assert out.read_text() == "<html>"
    ((model_seed, x, labels, names, given, seed),) = seen
    np.testing.assert_array_equal(x, blobs[0])
    np.testing.assert_array_equal(labels.codes, blobs[1])
    assert (model_seed, names, seed) == (7, None, 3)
    assert given == (title or "data.npz: 300 data")


def test_a_report_that_cannot_be_written(folder, tmp_path, capsys, monkeypatch):
    def report(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FittedMFCVAE, "report", report, raising=False)
    line = refused(capsys, "report", folder, folder / "data.npz", "--out", tmp_path / "r.html")
    assert (
        f"--out: got {tmp_path / 'r.html'}, expected a file that can be written (No space left on device)"
        in line
    )


# predict


def test_clusters_are_written(folder, fitted, blobs, tmp_path, capsys):
    x = blobs[0]
    out = tmp_path / "new" / "clusters.csv"
    for suffix in (".csv", ".npy", ".npz"):
        path = out.with_suffix(suffix)
        printed = succeeded(capsys, "predict", folder, folder / "data.npz", "--out", path)
        assert f"Wrote {path}." in printed
        assert "300 data" in printed
    assert {path.name for path in out.parent.iterdir()} == {"clusters.csv", "clusters.npy", "clusters.npz"}

    clusters, responsibilities = fitted.predict(x), fitted.predict_proba(x)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["index", "cluster_0", "probability_0", "cluster_1", "probability_1"]
    assert [int(row["index"]) for row in rows] == list(range(300))
    for j, r in enumerate(responsibilities):
        np.testing.assert_array_equal([int(row[f"cluster_{j}"]) for row in rows], clusters[:, j])
        probabilities = [float(row[f"probability_{j}"]) for row in rows]
        np.testing.assert_allclose(probabilities, r[np.arange(300), clusters[:, j]], atol=1e-6)
    np.testing.assert_array_equal(np.load(out.with_suffix(".npy")), clusters)
    with np.load(out.with_suffix(".npz")) as arrays:
        assert set(arrays) == {"clusters", "probabilities", "responsibilities_0", "responsibilities_1"}
        np.testing.assert_array_equal(arrays["clusters"], clusters)
        for j, r in enumerate(responsibilities):
            np.testing.assert_array_equal(arrays[f"responsibilities_{j}"], r)
            np.testing.assert_array_equal(arrays["probabilities"][:, j], r.max(1))


@pytest.mark.parametrize("command", ["predict", "sample"])
def test_a_file_that_cannot_be_written_is_left_as_it_was(folder, tmp_path, capsys, monkeypatch, command):
    out = tmp_path / "out.npy"
    out.write_bytes(b"what was there")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    data = [folder / "data.npz"] if command == "predict" else []
    line = refused(capsys, command, folder, *data, "--out", out, "--overwrite")
    assert f"--out: got {out}, expected a file that can be written (No space left on device)" in line
    assert os.listdir(tmp_path) == ["out.npy"]
    assert out.read_bytes() == b"what was there"


# sample


def test_arrays_are_the_models_own(folder, fitted, tmp_path, capsys):
    out = tmp_path / "new" / "x.npy"
    options = ["-n", 5, "--temperature", 0.5, "--seed", 3, "--overwrite"]
    same = {"temperature": 0.5, "seed": 3}

    def drawn(*which):
        assert "5 data generated from" in succeeded(capsys, "sample", folder, "--out", out, *options, *which)
        return np.load(out)

    np.testing.assert_array_equal(drawn(), fitted.sample(5, **same))
    np.testing.assert_array_equal(drawn("--facet", 0, "--cluster", 2), fitted.sample(5, {0: 2}, **same))
    every = drawn("--facet", 1)
    assert every.shape == (2, 5, 6)
    for k in range(2):
        np.testing.assert_array_equal(every[k], fitted.sample(5, {1: k}, **same))


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".PDF", b"%PDF"), (".svg", b"<?xml")])
@pytest.mark.parametrize(
    ("which", "source"),
    [
        ([], "the whole prior"),
        (["--facet", "1"], "each of the 2 clusters of facet 1"),
        (["--facet", "1", "--cluster", "0"], "cluster 0 of facet 1"),
    ],
)
def test_pictures_are_drawn(folder, tmp_path, capsys, suffix, start, which, source):
    out = tmp_path / f"grid{suffix}"
    printed = succeeded(capsys, "sample", folder, "-n", 3, "--out", out, *which)
    assert printed == f"Wrote {out}: 3 data generated from {source} (temperature 1, seed 0).\n"
    assert out.read_bytes().startswith(start)


def test_rows_are_those_of_the_plots(folder, tmp_path, monkeypatch):
    seen = {}
    real = pyro_mfcvae.plots.cluster_samples

    def record(fitted, facet, **options):
        seen.update(options, facet=facet)
        return real(fitted, facet, **options)

    monkeypatch.setattr(pyro_mfcvae.plots, "cluster_samples", record)
    options = ["--facet", "0", "-n", "4", "--temperature", "0", "--seed", "9"]
    assert main(["sample", str(folder), "--out", str(tmp_path / "a.png"), *options]) == 0
    assert seen == {"facet": 0, "num_samples": 4, "temperature": 0, "seed": 9, "clusters": range(3)}


@pytest.mark.parametrize(("n", "rows", "columns"), [(1, 1, 1), (3, 2, 2), (5, 2, 3), (9, 3, 3)])
def test_one_cluster_is_drawn_in_a_square(make_model, tmp_path, n, rows, columns):
    """Each image is where it belongs, and what is left over is white."""
    fitted = FittedMFCVAE(make_model(x_shape=(1, 6, 8)), [])
    fitted.save(tmp_path / "model.mfcvae")
    out = tmp_path / "a.png"
    options = ["--facet", "1", "--cluster", "2", "-n", str(n), "--out", str(out)]
    assert main(["sample", str(tmp_path), *options]) == 0
    picture = matplotlib.image.imread(out)[..., 0]
    height, width = picture.shape
    data = fitted.sample(n, {1: 2})[:, 0]
    for i in range(rows * columns):
        y, x = (i // columns + 0.5) * height / rows, (i % columns + 0.5) * width / columns
        y, x = y + height / rows / 12, x + width / columns / 16  # the middle of a pixel
        assert picture[int(y), int(x)] == pytest.approx(data[i, 3, 4] if i < n else 1.0, abs=0.01)


# How they refuse


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("evaluate", "the following arguments are required: MODEL, DATASET"),
        ("evaluate {m}", "the following arguments are required: DATASET"),
        ("evaluate {m} {d} --out {m}", "is a folder, expected the name of a file"),
        ("evaluate {m} {d} --out {d}/x", "--out: got {d}, expected a folder that can be made"),
        ("evaluate {m} {d} --seed 1,2", "argument --seed: got '1,2', expected one number"),
        ("evaluate {m} {d} --threads 0", "argument --threads: got '0', expected a whole number from 1 to"),
        ("evaluate {m} {d} --device abacus", "device: 'abacus' is not available"),
        ("evaluate {m} {d} --split test", "--split: got test with {d}, expected one of mnist, svhn"),
        ("evaluate {m} {d} --root here", "--root: got here with {d}, expected mnist, svhn or shapes3d"),
        ("evaluate {m} {d} --subset wall", "--subset: got wall with {d}, expected shapes or shapes3d"),
        ("evaluate {m} cifar", "dataset: got 'cifar', expected mnist, svhn"),
        ("evaluate {m} absent.npy", "dataset: got absent.npy, expected a file that is there"),
        ("evaluate {m} mnist --root {m}", "root: no train-images-idx3-ubyte"),
        ("evaluate absent {d}", "model: got absent, expected a file or folder that is there"),
        ("evaluate {d} {d}", "model: {d} is not a whole pyro_mfcvae model"),
        ("report {m} {d}", "the following arguments are required: --out"),
        (
            "report {m} {d} --out r.pdf",
            "argument --out: got 'r.pdf', expected a name that ends in .html or .htm",
        ),
        ("predict {m} {d} --out r.txt", "got 'r.txt', expected a name that ends in .csv or .npy or .npz"),
        ("sample {m} --out {d}/x/a.png", "--out: got {d}/x, expected a folder that can be made"),
        ("predict {m} {d} --out .csv", "got '.csv', expected a name that ends in"),
        ("sample {m}", "the following arguments are required: --out"),
        ("sample {m} --out a.jpg", "argument --out: got 'a.jpg', expected a name that ends in .png or .pdf"),
        ("sample {m} --out a.png --cluster 1", "--cluster: got 1 without --facet"),
        ("sample {m} --out a.png --facet 2", "--facet: got 2, expected one of the model's facets, 0 .. 1"),
        ("sample {m} --out a.png --facet -1", "--facet: got -1, expected one of"),
        ("sample {m} --out a.png --facet 1 --cluster 2", "--cluster: got 2, expected one of the clusters"),
        ("sample {m} --out a.png --facet x", "argument --facet: invalid int value: 'x'"),
        ("sample {m} --out a.png -n 0", "argument -n: got '0', expected a whole number from 1"),
        ("sample {m} --out a.png -n 401", "-n: got 401, expected at most 400"),
        ("sample {m} --out a.png -n 51 --facet 0", "-n: got 51, expected at most 50"),
        ("sample {m} --out a.png --temperature -1", "argument --temperature: got '-1', expected a number"),
        ("sample {m} --out a.png --temperature nan", "argument --temperature: got 'nan'"),
        ("sample {m} --out a.png --temperature hot", "argument --temperature: got 'hot'"),
        ("sample {m} --out a.png --seed x", "argument --seed: got 'x'"),
    ],
)
def test_bad_arguments_are_refused(folder, tmp_path, capsys, monkeypatch, command, message):
    monkeypatch.chdir(tmp_path)
    names = {"m": folder, "d": folder / "data.npz"}
    line = refused(capsys, *(part.format(**names) for part in command.split()))
    assert message.format(**names) in line
    assert os.listdir(tmp_path) == []


def test_a_folder_without_a_model(folder, tmp_path, capsys):
    line = refused(capsys, "sample", tmp_path, "--out", tmp_path / "a.png")
    assert f"model: got the folder {tmp_path}, expected model.mfcvae in it; give the file" in line
    for seed in (2, 1):
        (tmp_path / f"seed_{seed}").mkdir()
        (tmp_path / f"seed_{seed}" / "model.mfcvae").write_bytes(b"")
    line = refused(capsys, "sample", tmp_path, "--out", tmp_path / "a.png")
    first, second = (tmp_path / f"seed_{seed}" / "model.mfcvae" for seed in (1, 2))
    assert f"choose from {first}, {second}" in line


@pytest.mark.parametrize("command", ["evaluate", "report", "predict"])
def test_data_that_do_not_suit_the_model(make_config, tmp_path, capsys, command):
    x = np.random.default_rng(0).random((40, 2, 3))
    fit(x, make_config(J=1, epochs=1, likelihood="bernoulli"), **OPTIONS).save(tmp_path / "model.mfcvae")
    suffix = {"evaluate": "txt", "report": "html", "predict": "csv"}[command]
    for data, message in (
        (np.zeros((5, 2, 4)), "dataset: got data of 2 x 4, expected 2 x 3, as the model was trained on"),
        (np.zeros((5, 6)), "dataset: got data of 6, expected 2 x 3"),
        (2 * x, "dataset: values from .* but the Bernoulli likelihood needs values in"),
        (np.full((5, 2, 3), np.nan), "x.npy: got NaN or infinity"),
    ):
        np.save(tmp_path / "x.npy", data)
        out = tmp_path / "new" / f"out.{suffix}"
        line = refused(capsys, command, tmp_path, tmp_path / "x.npy", "--out", out)
        assert re.search(message, line)
    assert not (tmp_path / "new").exists()


def test_a_missing_channel_is_added(make_config, tmp_path, capsys):
    x = np.random.default_rng(0).integers(0, 256, (40, 1, 4, 4), dtype=np.uint8)
    fitted = fit(x, make_config(J=1, epochs=1), **OPTIONS)
    fitted.save(tmp_path / "model.mfcvae")
    np.save(tmp_path / "x.npy", x[:, 0])
    succeeded(capsys, "predict", tmp_path, tmp_path / "x.npy", "--out", tmp_path / "c.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "c.npy"), fitted.predict(x))


def test_entries_may_be_missing_where_the_model_says_so(make_config, blobs, tmp_path, capsys):
    x = blobs[0][:40].copy()
    x[::3, 1] = np.nan
    fitted = fit(x, make_config(J=1, epochs=1, likelihood="mixed"), **OPTIONS)
    fitted.save(tmp_path / "model.mfcvae")
    np.save(tmp_path / "x.npy", x)
    printed = succeeded(capsys, "evaluate", tmp_path, tmp_path / "x.npy")
    assert f"{fitted.score(x):.2f} nats per datum" in printed


# All of it


@pytest.mark.parametrize("command", ["evaluate", "report", "predict", "sample"])
def test_there_is_help_with_an_example(command, capsys):
    printed = succeeded(capsys, command, "--help")
    assert re.search(rf"examples?:\n  python -m pyro_mfcvae {command} result", printed)
    line = rf"^    {command} +\w.*$"
    assert len(re.findall(line, succeeded(capsys, "--help"), re.MULTILINE)) == 1


def test_what_fit_wrote_is_looked_at(folder, tmp_path, capsys):
    """The folder of ``fit`` is a model, which knows its seed, and scores as ``fit`` said."""
    options = ["--clusters", "3,2", "--latent-dims", "2", "--epochs", "1", "--batch-size", "50"]
    command = ["fit", folder / "data.npz", "--out", tmp_path / "out", "--seed", "2", "--quiet", *options]
    fitted = succeeded(capsys, *command)
    printed = succeeded(capsys, "evaluate", tmp_path / "out", folder / "data.npz")
    assert "trained with seed 2, in float32 on " in printed
    table = fitted[fitted.index("facet  clusters") : fitted.index("closest")]
    assert table in printed
    elbo = re.compile(r": (-?[\d.]+) nats per datum")
    assert elbo.findall(fitted) == elbo.findall(printed)
    succeeded(capsys, "predict", tmp_path / "out", folder / "data.npz", "--out", tmp_path / "c.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "c.npy"), np.load(tmp_path / "out" / "clusters.npy"))


@pytest.mark.skipif(not MNIST.is_dir(), reason="PYRO_MFCVAE_DATA holds no MNIST")
def test_mnist(make_config, tmp_path, capsys):
    stage = {"epochs": 4, "warm_up_epochs": 2, "learning_rate": 3e-3}
    config = make_config(K=(5, 12), D=3, width=64, likelihood="bernoulli", **stage)
    test = mnist(MNIST.parents[1], train=False)
    fit(test.x[:1_000], config, seed=1, **OPTIONS).save(tmp_path / "model.mfcvae")
    printed = succeeded(capsys, "evaluate", tmp_path, "mnist", "--root", MNIST.parents[1])
    assert "data: mnist, 10,000 test data" in printed
    fitted = load(tmp_path / "model.mfcvae")
    assert str(fitted.evaluate(test.x, test.labels, ("digit",))) in printed
    succeeded(capsys, "predict", tmp_path, "mnist", "--out", tmp_path / "c.csv")
    rows = (tmp_path / "c.csv").read_text().splitlines()
    assert len(rows) == 10_001
    assert [int(row.split(",")[3]) for row in rows[1:]] == fitted.predict(test.x)[:, 1].tolist()
    succeeded(capsys, "sample", tmp_path, "--facet", "1", "--cluster", "3", "--out", tmp_path / "grid.png")
    height, width = matplotlib.image.imread(tmp_path / "grid.png").shape[:2]
    assert height == width > 4 * 28  # sixteen in a square
