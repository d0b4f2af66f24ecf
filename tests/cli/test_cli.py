"""The command line: what it writes and prints, and how it refuses."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pyro_mfcvae
from pyro_mfcvae import cli, load
from pyro_mfcvae.cli import configuring, datasets, fitting, main
from pyro_mfcvae.data import RenderedShapes
from pyro_mfcvae.data.memmap import Stored
from pyro_mfcvae.data.sources import InMemory

QUICK = ["--clusters", "3,2", "--latent-dims", "2", "--epochs", "2", "--batch-size", "20", "--device", "cpu"]


def pictures(J):
    of_facets = ("examples", "samples", "embedding", "cluster_sizes")
    names = {f"{name}_facet_{j}.png" for name in of_facets for j in range(J)}
    others = {"latent_space.png", "reconstructions.png", "training.png", "dependence.png"}
    return names | others | ({"compositions.png"} if J > 1 else set())


PICTURES = pictures(2)


def confusions(*names, J=2):
    return {f"confusion_facet_{j}_{name}.png" for j in range(J) for name in names}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.stack([np.arange(90) % 3, np.arange(90) % 2], 1)
    return np.eye(3)[y[:, 0]].repeat(2, 1) + y[:, 1:] + 0.05 * rng.normal(size=(90, 6)), y


@pytest.fixture
def npy(data, tmp_path):
    np.save(tmp_path / "data.npy", data[0])
    return str(tmp_path / "data.npy")


@pytest.fixture
def npz(data, tmp_path):
    np.savez(tmp_path / "data.npz", x=data[0], y=data[1])
    return str(tmp_path / "data.npz")


def files(folder):
    return {path.name for path in folder.iterdir()}


def refused(capsys, *arguments):
    """The one line on the standard error of a call that must fail."""
    assert main(list(map(str, arguments))) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("pyro_mfcvae: error: ")
    assert captured.err.count("\n") == 1
    assert captured.err.endswith("\n")
    return captured.err


def test_the_demo_shows_everything(tmp_path, capsys):
    out = tmp_path / "a" / "b"
    assert main(["demo", "--quick", "--out", str(out), "--device", "cpu"]) == 0
    names = ("floor_hue", "scale", "shape", "orientation")
    J = load(out / "model.mfcvae").num_facets  # as many as two epochs let it see
    written = {"model.mfcvae", "evaluation.txt", "report.html"}
    assert files(out) == pictures(J) | confusions(*names, J=J) | written
    printed, progress = capsys.readouterr()
    assert re.match(
        r"stage 1 of 2, epoch 1 of 2: loss [\d.]+, ELBO -?[\d.]+ nats per datum, clusters", progress
    )
    fitted = load(out / "model.mfcvae")
    environment = str(fitted.history.environment)
    assert f"   In {environment}.\n   facet 0: " in printed
    assert f"trained in {fitted.history[-1].seconds:.1f} s, in {environment}\n" in printed
    assert "float32 on cpu" in environment
    for score in ("purity", "Hungarian accuracy", "NMI", "ARI", "ECE", "redundancy"):
        assert re.search(rf"^{score}: ", printed, re.MULTILINE)
    assert "   facet 0: components 0 to " in printed
    assert "Verdict, for which no label was looked at: this run" in printed
    assert f"  open {out / 'report.html'} in a browser" in printed
    for name in names:
        assert re.search(rf"^ +\d +\d+/\d+ +{name} ", printed, re.MULTILINE)
    for name in ("wall_hue", "object_hue"):
        assert name not in printed
    assert "shape sphere" in (out / "report.html").read_text()
    assert re.search(r"trained in \d+\.\d s", printed)
    assert (out / "evaluation.txt").read_text() in printed
    assert str(out) in printed
    assert all(name in printed for name in files(out))


def test_an_array_is_clustered(npy, data, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["fit", npy, "--out", str(out), *QUICK]) == 0
    assert files(out) == PICTURES | {"model.mfcvae", "evaluation.txt", "clusters.npy"}
    printed = capsys.readouterr().out
    assert re.search(r"facet 0: \d of 3 clusters alive", printed)
    assert re.search(r"facet 1: \d of 2 clusters alive", printed)
    fitted = load(out / "model.mfcvae")
    clusters = np.load(out / "clusters.npy")
    np.testing.assert_array_equal(clusters, fitted.predict(data[0]))
    assert f"mean ELBO of 90 training data: {fitted.score(data[0]):.2f} nats" in printed
    assert f"trained in {fitted.history[-1].seconds:.1f} s" in printed


def test_labels_are_for_the_evaluation(npz, npy, data, tmp_path, capsys):
    assert main(["fit", npz, "--out", str(tmp_path / "a"), *QUICK]) == 0
    printed = capsys.readouterr().out
    fitted = load(tmp_path / "a" / "model.mfcvae")
    assert str(fitted.evaluate(data[0], data[1])) in printed
    assert main(["fit", npy, "--out", str(tmp_path / "b"), *QUICK]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "a/clusters.npy"), np.load(tmp_path / "b/clusters.npy"))


def test_labels_may_be_names(data, tmp_path, capsys):
    names = np.array(["cat", "dog", "cow"])[data[1][:, 0]]
    np.savez(tmp_path / "names.npz", x=data[0], y=names)
    assert main(["fit", str(tmp_path / "names.npz"), "--out", str(tmp_path / "out"), *QUICK]) == 0
    fitted = load(tmp_path / "out" / "model.mfcvae")
    assert str(fitted.evaluate(data[0], names)) in capsys.readouterr().out
    np.testing.assert_array_equal(
        fitted.evaluate(data[0], names).scores["nmi"], fitted.evaluate(data[0], data[1][:, 0]).scores["nmi"]
    )


def test_several_seeds_are_averaged(npz, data, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["fit", npz, "--out", str(out), "--seed", "3,5", "--quiet", *QUICK]) == 0
    assert files(out) == {"seed_3", "seed_5", "evaluation.txt"}
    assert files(out / "seed_5") == PICTURES | confusions("label_0", "label_1") | {
        "model.mfcvae",
        "evaluation.txt",
        "clusters.npy",
    }
    printed = capsys.readouterr().out
    summary = (out / "evaluation.txt").read_text()
    assert summary in printed
    assert "mean and standard deviation over 2 seeds (3, 5), on 90 training data" in summary
    fits = [load(out / f"seed_{seed}/model.mfcvae") for seed in (3, 5)]
    nmi = [fitted.evaluate(data[0], data[1]).score(1, "label_0", "nmi") for fitted in fits]
    row = next(line for line in summary.splitlines() if re.match(r"1 +label_0 ", line))
    assert f"{np.mean(nmi):.3f} +- {np.std(nmi, ddof=1):.3f}" in row
    assert printed.count("trained in") == 2
    for seed, fitted in zip((3, 5), fits, strict=True):
        assert str(fitted.evaluate(data[0], data[1])) in (out / f"seed_{seed}/evaluation.txt").read_text()


def test_seeds_without_labels_are_averaged(npy, tmp_path, capsys):
    assert main(["fit", npy, "--out", str(tmp_path / "out"), "--seed", "0,1", *QUICK]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"mean ELBO: -?[\d.]+ \+- [\d.]+ nats per datum; highest for seed [01]", printed)
    assert re.search(r"facet 0: [\d.]+ \+- [\d.]+ of 3 clusters alive", printed)


def test_restarts_keep_the_best(npy, data, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["fit", npy, "--out", str(out), "--seed", "3", "--restarts", "2", "--quiet", *QUICK]) == 0
    assert files(out) == PICTURES | {"model.mfcvae", "evaluation.txt", "clusters.npy"}
    printed = capsys.readouterr().out
    figures = re.findall(
        r"restart with seed (\d+): ELBO -?[\d.]+ nats per datum, agreement (-?[\d.]+), sharpness ([\d.]+), "
        r"redundancy (-?[\d.]+)",
        printed,
    )
    assert [int(seed) for seed, *_ in figures] == [3, 4]
    best = load(out / "model.mfcvae")
    assert best.restarts[best.seed].score == max(run.score for run in best.restarts.values())
    assert f"seed {best.seed}: trained in" in printed


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--seed 4,5 --workers 2", {"seeds": (4, 5), "workers": 2}),
        ("--seed 4,5 --workers auto", {"seeds": (4, 5), "workers": "auto"}),
        ("--seed 4,5", {"seed": 4}),  # one after another, each written when it is finished
        ("--seed 4,5 --workers 1", {"seed": 4, "workers": 1}),
        ("--restarts 3", {"seed": 0, "restarts": 3, "workers": 1}),
        ("--seed 6 --restarts 3 --workers 2", {"seed": 6, "restarts": 3, "workers": 2}),
    ],
)
def test_several_runs_are_those_of_fit(monkeypatch, tmp_path, data, options, expected):
    _, rest = configured(monkeypatch, tmp_path, data[0], *options.split())
    assert {name: rest[name] for name in ("seed", "seeds", "restarts", "workers") if name in rest} == expected


def test_compiling_and_checkpoints_are_those_of_fit(monkeypatch, tmp_path, data):
    _, rest = configured(monkeypatch, tmp_path, data[0])
    assert (rest["compile"], rest["checkpoint_dir"]) == ("auto", None)
    _, rest = configured(monkeypatch, tmp_path, data[0], "--compile", "off", "--checkpoints", "kept")
    assert (rest["compile"], rest["checkpoint_dir"]) == (False, Path("kept"))


def test_runs_of_processes_are_reported(monkeypatch, npy, data, tmp_path, capsys):
    real = fitting.fit
    monkeypatch.setattr(fitting, "fit", lambda *args, **options: real(*args, **{**options, "workers": 1}))
    command = ["fit", npy, "--seed", "1,2", *QUICK]
    for name, workers in (("a", []), ("b", ["--workers", "2"])):
        assert main([*command, "--out", str(tmp_path / name), *workers]) == 0
    for seed in (1, 2):
        a, b = (np.load(tmp_path / f"{name}/seed_{seed}/clusters.npy") for name in "ab")
        np.testing.assert_array_equal(a, b)
    assert files(tmp_path / "b") == {"seed_1", "seed_2", "evaluation.txt"}


def test_images_in_bytes_are_clustered(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    assert main(["fit", str(tmp_path / "x.npy"), "--out", str(tmp_path / "out"), *QUICK]) == 0
    assert load(tmp_path / "out" / "model.mfcvae").model.x_shape == (8, 8)


def configured(monkeypatch, tmp_path, data, *options):
    """The configuration that the options come to, without training."""
    seen = []

    def stop(x, config, **rest):
        seen.append((config, rest))
        raise ValueError("stopped")

    monkeypatch.setattr(fitting, "fit", stop)
    np.save(tmp_path / "x.npy", data)
    assert main(["fit", str(tmp_path / "x.npy"), "--out", str(tmp_path / "out"), *options]) == 2
    assert len(seen) == 1
    return seen[0]


def test_options_reach_the_configuration(monkeypatch, tmp_path, data):
    options = "--clusters 4,3,2 --latent-dims 5,6,7 --epochs 30,20,1 --batch-size 9 --learning-rate 0.5"
    more = "--preset mnist --likelihood gaussian --seed 7 --device cpu --precision float32 --quiet"
    config, rest = configured(monkeypatch, tmp_path, data[0], *options.split(), *more.split())
    assert [facet.clusters for facet in config.facets] == [4, 3, 2]
    assert [facet.latent_dim for facet in config.facets] == [5, 6, 7]
    assert [(stage.introduces, stage.epochs) for stage in config.stages] == [
        ((2,), 30),
        ((1,), 20),
        ((0,), 1),
    ]
    assert all(stage.batch_size == 9 and stage.learning_rate == 0.5 for stage in config.stages)
    assert all(stage.warm_up_epochs < stage.epochs for stage in config.stages)
    assert rest == {
        "seed": 7,
        "device": "cpu",
        "precision": "float32",
        "compile": "auto",
        "checkpoint_dir": None,
        "progress": False,
    }


def test_epochs_replace_the_steps_of_a_preset(monkeypatch, tmp_path, data):
    config, _ = configured(monkeypatch, tmp_path, data[0], "--preset", "tabular", "--epochs", "30,20")
    assert [(stage.epochs, stage.steps) for stage in config.stages] == [(30, None), (20, None)]
    assert config.stages[0].unmix


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (np.full((4, 3), 7.0), pyro_mfcvae.config.presets.for_data((3,), False)),
        (np.full((4, 8, 8), 0.5), pyro_mfcvae.config.presets.for_data((8, 8), True)),
        (np.full((4, 1, 8, 8), 0.5), pyro_mfcvae.config.presets.for_data((1, 8, 8), True)),
        (np.full((4, 1, 8, 8), -3.0), pyro_mfcvae.config.presets.for_data((1, 8, 8), False)),
        (np.full((4, 3, 8, 8), 9, np.uint8), pyro_mfcvae.config.presets.for_data((3, 8, 8), True)),
    ],
)
def test_the_preset_is_that_of_fit(monkeypatch, tmp_path, x, expected):
    assert configured(monkeypatch, tmp_path, x)[0] == expected


def test_the_preset_can_be_chosen(monkeypatch, tmp_path, data):
    config, _ = configured(monkeypatch, tmp_path, data[0], "--preset", "mnist", "--likelihood", "gaussian")
    default = pyro_mfcvae.config.presets.mnist(likelihood="gaussian")
    assert config == default
    config, _ = configured(monkeypatch, tmp_path, data[0], "--likelihood", "gaussian")
    assert config == pyro_mfcvae.config.presets.tabular()


def test_threads_are_put_back(monkeypatch, tmp_path, npy):
    import torch

    before, seen = torch.get_num_threads(), []

    def stop(*_, **__):
        seen.append(torch.get_num_threads())
        raise FloatingPointError("training diverged")

    monkeypatch.setattr(fitting, "fit", stop)
    assert main(["fit", npy, "--out", str(tmp_path / "out"), "--threads", "3"]) == 1
    assert seen == [3]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--clusters 3,x", "argument --clusters: got '3,x', expected whole numbers"),
        ("--clusters 3,0", "clusters: got (3, 0), expected positive integers"),
        ("--clusters 300", "expected at least as many"),
        ("--clusters 3,2 --latent-dims 2,2,2", "latent_dims: got 3 numbers, expected 1 or 2"),
        (
            "--preset shapes3d --latent-dims 2",
            "latent_dims: got (2,) where facets are counted, expected clusters, too; give",
        ),
        ("--clusters 3,2 --epochs 1,1,1", "--epochs: got 3 numbers, expected 1"),
        ("--preset mnist --epochs 1,1,1", "--epochs: got 3 numbers, expected 1 or 2, one for each stage"),
        ("--epochs 0", "epochs: got 0"),
        ("--batch-size 0", "argument --batch-size: got '0', expected a whole number from 1"),
        ("--batch-size many", "argument --batch-size"),
        ("--learning-rate nan", "learning_rate: got nan"),
        ("--likelihood cauchy", "argument --likelihood"),
        ("--likelihood bernoulli", "Bernoulli likelihood needs values in [0, 1]"),
        ("--seed -1", "argument --seed: got '-1'"),
        ("--seed 1,1", "argument --seed: got '1,1'"),
        ("--restarts 0", "argument --restarts: got '0', expected a whole number from 1 to 10,000"),
        ("--restarts 2 --seed 0,1", "--restarts: got 2 with 2 seeds, expected the first one only"),
        ("--workers many", "argument --workers: got 'many', expected auto or a whole number"),
        ("--workers 0", "workers: got 0, expected 'auto' or an integer from 1"),
        ("--device abacus", "device: 'abacus' is not available"),
        ("--precision 3", "argument --precision"),
        ("--threads 0", "argument --threads: got '0', expected a whole number from 1 to"),
        ("--root here", "expected mnist, svhn or shapes3d; give files by their path"),
        ("--subset wall", "expected shapes or shapes3d; leave it out"),
        ("--unknown", "unrecognized arguments: --unknown"),
    ],
)
def test_bad_options_are_refused(npy, tmp_path, capsys, options, message):
    assert message in refused(capsys, "fit", npy, "--out", tmp_path / "out", *options.split())


def test_bad_data_are_refused(tmp_path, capsys):
    def fit(name):
        return refused(capsys, "fit", tmp_path / name, "--out", tmp_path / "out")

    assert "expected a file that is there" in fit("absent.npy")
    assert "expected mnist, svhn, shapes, shapes3d, or a file .npy, .npz" in fit("cifar")
    (tmp_path / "text.npy").write_text("1, 2, 3\n")
    assert "expected an array of numbers; write it with np.save" in fit("text.npy")
    (tmp_path / "empty.npz").write_text("")
    assert "expected an array of numbers; write it with np.save" in fit("empty.npz")
    np.save(tmp_path / "objects.npy", np.array([{}, None]))
    assert "expected an array of numbers; write it with np.save" in fit("objects.npy")
    np.save(tmp_path / "nan.npy", np.full((30, 3), np.nan))
    assert "got NaN" in fit("nan.npy")
    np.save(tmp_path / "words.npy", np.array([["a", "b"]]))
    assert "expected real numbers" in fit("words.npy")
    np.save(tmp_path / "flat.npy", np.zeros(30))
    assert "expected (N, D)" in fit("flat.npy")
    np.savez(tmp_path / "names.npz", data=np.zeros((30, 3)), z=np.zeros(2))
    assert "with the arrays data, z, expected one of the name x" in fit("names.npz")
    np.savez(tmp_path / "short.npz", x=np.zeros((30, 3)), y=np.zeros(29, int))
    assert "unequal length" in fit("short.npz")
    np.savez(tmp_path / "real.npz", x=np.zeros((30, 3)), y=np.full(30, 0.5))
    assert f"y of {tmp_path / 'real.npz'}: got 0.5 in row 0, expected integers" in fit("real.npz")
    assert not (tmp_path / "out").exists()


def test_mnist_is_looked_for(tmp_path, capsys, monkeypatch):
    assert str(tmp_path / "a") in refused(capsys, "fit", "mnist", "--out", tmp_path, "--root", tmp_path / "a")
    monkeypatch.setenv("PYRO_MFCVAE_DATA", str(tmp_path / "b"))
    assert str(tmp_path / "b") in refused(capsys, "fit", "mnist", "--out", tmp_path)


@pytest.mark.parametrize(("name", "file"), [("svhn", "train_32x32.mat"), ("shapes3d", "3dshapes.h5")])
def test_other_files_are_looked_for(tmp_path, capsys, monkeypatch, name, file):
    line = refused(capsys, "fit", name, "--out", tmp_path, "--root", tmp_path / "a")
    assert str(tmp_path / "a") in line
    assert file in line
    monkeypatch.setenv("PYRO_MFCVAE_DATA", str(tmp_path / "b"))
    assert str(tmp_path / "b") in refused(capsys, "fit", name, "--out", tmp_path)


def loaded(*arguments):
    """What a call would be given as data."""
    return datasets.load(cli.parser().parse_args(["fit", *map(str, arguments), "--out", "out"]))


def test_svhn_is_read(tmp_path):
    import scipy.io

    x = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 9), dtype=np.uint8)
    y = np.arange(1, 10)[:, None]
    scipy.io.savemat(tmp_path / "train_32x32.mat", {"X": x, "y": y})
    scipy.io.savemat(tmp_path / "test_32x32.mat", {"X": x[..., :4], "y": y[:4]})
    dataset = loaded("svhn", "--root", tmp_path)
    assert dataset.title == "SVHN, 9 images of 32 x 32 to train on and 4 to test"
    assert tuple(dataset.train.x.shape) == (9, 3, 32, 32)
    assert dataset.judged.labels.classes == (("1", "2", "3", "4"),)
    assert dataset.judged.labels.names == ("digit",)
    assert dataset.judged.where == "4 test data"
    assert configuring.suitable(dataset) is pyro_mfcvae.config.presets.svhn


@pytest.mark.parametrize("subset", ["floor", "wall"])
def test_a_subset_of_the_shapes(monkeypatch, tmp_path, subset):
    class Rendered(RenderedShapes):
        """In the place of 3D Shapes, of which there is no file."""

        floor = classmethod(lambda cls, path: RenderedShapes.floor(16))
        wall = classmethod(lambda cls, path: RenderedShapes.wall(16))

    monkeypatch.setattr(datasets, "Shapes3D", Rendered)
    for dataset in (
        loaded("shapes", "--subset", subset),
        loaded("shapes3d", "--root", tmp_path, "--subset", subset),
    ):
        labels = dataset.judged.labels
        assert labels.names == (f"{subset}_hue", "scale", "shape", "orientation")
        assert labels.classes[2] == ("cube", "cylinder", "sphere", "capsule")
        assert (len(dataset.train.x), len(dataset.judged.x)) == (3840, 960)
        assert len(labels) == 960
        assert dataset.judged.where == "960 test data"


def test_results_need_a_folder(npy, capsys):
    assert "--out" in refused(capsys, "fit", npy)
    assert "expected a folder that can be made" in refused(capsys, "fit", npy, "--out", npy)
    assert "expected a folder that can be made" in refused(capsys, "demo", "--quick", "--out", npy)


def test_an_interruption_is_quiet(monkeypatch, npy, tmp_path, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "fit", interrupt)
    assert main(["fit", npy, "--out", str(tmp_path / "out"), "--quiet"]) == 130
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""


def test_without_arguments_there_is_help(capsys):
    assert main([]) == 2
    assert "examples:" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["fit", "--help"]])
def test_there_is_help(arguments, capsys):
    assert main(arguments) == 0
    assert "usage: python -m pyro_mfcvae" in capsys.readouterr().out


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"pyro_mfcvae {pyro_mfcvae.__version__}\n"


def test_it_is_a_module():
    command = [sys.executable, "-m", "pyro_mfcvae"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    assert "demo" in shown.stdout
    assert shown.stderr == ""
    refusal = subprocess.run([*command, "fit", "absent.npy", "--out", "x"], capture_output=True, text=True)
    assert refusal.returncode == 2
    expected = "dataset: got absent.npy, expected a file that is there; check its path"
    assert refusal.stderr == f"pyro_mfcvae: error: {expected}\n"


def test_what_takes_long_to_import_is_imported_when_used():
    late = {"arviz", "h5py", "joblib", "matplotlib", "pandas", "scipy", "sklearn", "torchvision", "xarray"}
    code = f"import sys, pyro_mfcvae.cli; print(sorted({late} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_file_too_large_for_memory(npy, data, tmp_path, monkeypatch, capsys):
    """It is streamed; a sample of it is judged and drawn, and all of it is clustered."""
    monkeypatch.setattr("pyro_mfcvae.data.choosing.MEMORY_SHARE", 1e-12)
    monkeypatch.setattr("pyro_mfcvae.data.sources.CALIBRATION_SAMPLE", 40)
    seen = []
    for kind in (InMemory, Stored):
        monkeypatch.setattr(kind, "batches", spy(seen, kind.batches))
    out = tmp_path / "out"
    assert main(["fit", npy, "--out", str(out), *QUICK]) == 0
    assert {type(source) for source in seen} == {Stored}
    text = capsys.readouterr().out
    assert "data.npy, 90 data of 6, without labels." in text
    assert "mean ELBO of 40 training data" in text
    clusters = np.load(out / "clusters.npy")
    assert np.array_equal(clusters, load(out / "model.mfcvae").predict(data[0]))
    assert main(["predict", str(out), npy, "--out", str(tmp_path / "again.npy")]) == 0
    assert np.array_equal(np.load(tmp_path / "again.npy"), clusters)


def spy(seen, batches):
    def noted(source, *arguments):
        seen.append(source)
        return batches(source, *arguments)

    return noted
