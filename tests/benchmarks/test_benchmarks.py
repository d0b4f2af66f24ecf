"""The benchmarks run, and check what they compare; their figures are in tests/benchmarks/README.md."""

import dataclasses
import importlib.util
import json
import math
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from pyro_mfcvae import Facet, Schedule, presets
from pyro_mfcvae.data import RenderedShapes, Shapes3D
from pyro_mfcvae.priors import DiagonalGaussian, FullGaussian

FOLDER = Path(__file__).parent
SPEED_SECTIONS = {
    "train": {"preset", "batch", "threads", "ms", "peak_gflops", "images_per_second"},
    "by_hand": {"fit_ratio", "facet_elbo_ratio", "by_hand_ms"},
    "memory": {"model_mib", "step_mib"},
    "predict": {"array", "N", "ms", "images_per_second"},
    "setup": {"part", "calls", "seconds", "share"},
    "growth": {"grows", "size", "ms", "exponent"},
}


def output(script, *arguments):
    command = [sys.executable, "-W", "ignore", str(FOLDER / script), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_step_time():
    lines = output("step_time.py", "--rounds", "2", "--settings", "tiny").splitlines()
    assert re.fullmatch(r"tiny .* ratio \d+\.\d{3} \(quartiles .*\)", lines[-1])


@pytest.mark.slow
def test_streaming():
    lines = output("streaming.py", "--quick").splitlines()
    assert len(lines) == 10
    assert all(re.search(r" ratio \d+\.\d{3} \(quartiles .*\)$", line) for line in lines[1:5])
    assert re.search(r" s for an epoch, \d+\.\d of them to encode; speed \d\.\d{3} of that", lines[7])
    assert all(re.search(r" \d+\.\d MiB more than before$", line) for line in lines[5:7] + lines[8:])


def test_scaling(monkeypatch):
    text = output("scaling.py", "--quick")
    assert len(re.findall(r"^ *(?:mnist|tabular) +(?:1|8|64) ", text, re.MULTILINE)) == 2 * 5
    assert "PREDICTED for devices of 20 TFLOP/s" in text
    monkeypatch.syspath_prepend(FOLDER)
    scaling = importlib.import_module("scaling")
    step = scaling.Step(batch=100, work=1e6, gradients=8_000, python=1e-4, datum=400, reading=1e9)
    cluster = scaling.Cluster(speed=1e12, bandwidth=1e6, latency=1e-3)
    assert scaling.predicted(step, cluster, 1, 100) == (1e-4, 0)  # Python is what takes longest
    assert scaling.predicted(step, cluster, 1, 1_000)[0] == pytest.approx(1e-3)  # the products
    slow = dataclasses.replace(step, reading=1e6)
    assert scaling.predicted(slow, cluster, 1, 1_000)[0] == pytest.approx(0.4)
    # Each of two devices sends half of the gradients, and then half of the sums.
    total, waiting = scaling.predicted(step, cluster, 2, 100)
    assert waiting == pytest.approx(8_000 / 1e6 + 2e-3)
    assert total == pytest.approx(waiting + 1e-4)
    assert scaling.advice(step, cluster, 1, 100) == "nothing"
    faster = scaling.Cluster(speed=1e12, bandwidth=5e7, latency=0)  # 0.16 ms of waiting, beside 0.1
    expected = "add up 2 steps, or 160 data a device or bfloat16 gradients"
    assert scaling.advice(step, faster, 2, 100) == expected
    assert re.fullmatch(
        r"add up 10[01] steps, or 10,00[01] data a device", scaling.advice(step, cluster, 2, 100)
    )


def test_speed(tmp_path):
    """Every section has rows of plausible figures; how fast anything is, no test can tell."""
    file = tmp_path / "speed.json"
    output("speed.py", "--quick", "--threads", "1", "--json", str(file), "--sections", *SPEED_SECTIONS)
    assert list(tmp_path.iterdir()) == [file]
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["quick"] is True
    assert {"torch", "processor", "threads", "date"} <= result["machine"].keys()
    sections = result["sections"]
    assert sections.keys() == SPEED_SECTIONS.keys()
    for name, columns in SPEED_SECTIONS.items():
        assert sections[name]
        for row in sections[name]:
            assert columns <= row.keys(), name
            assert all(value > 0 for key, value in row.items() if key.endswith(("ms", "ratio", "gflop")))
            if "ms" in row:
                assert row["ms_low"] <= row["ms"] <= row["ms_high"]
    shares = [row["share_of_peak"] for name in ("train", "predict") for row in sections[name]]
    assert all(0 < share < 1 for share in shares)
    assert sum(row["share"] for row in sections["setup"]) == pytest.approx(1)
    (hand,) = sections["by_hand"]
    assert hand["setting"] == "tiny"
    # 100 data of 32 columns through 32-64-40 and 20-64-32, forward and backward; data need no gradient.
    products = 32 * 64 + 64 * 40 + 20 * 64 + 64 * 32
    expected = 2 * 100 * (3 * products - 32 * 64) / 1e9
    assert sections["train"][0]["gflop"] == pytest.approx(expected, rel=0.05)


@pytest.mark.slow
def test_choosing_runs(tmp_path):
    """The table has what each rule chooses; figures that were kept give it again."""
    file = tmp_path / "runs.csv"
    options = ["--cases", "tabular0:0", "auto:0", "--runs", "3", "--scale", "0.1", "--csv", str(file)]
    lines = output("choosing_runs.py", *options).splitlines()[-5:]
    assert output("choosing_runs.py", "--table", str(file)).splitlines() == lines
    for line in lines[2:4]:
        *chosen, best, mean = map(float, line.split("|")[2:10])
        assert max(chosen) <= best
        assert 0 <= mean <= best <= 1


def test_metrics_time(monkeypatch, capsys):
    script = FOLDER / "metrics_time.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--sizes", "100", "300"])
    runpy.run_path(str(script), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["seconds,", "and", "growth", "100", "300", "3", "N"]
    assert all(re.fullmatch(r"\w.* +\d+\.\d{4} +\d+\.\d{4} +\d+\.\d+x", line) for line in lines[1:])


@pytest.mark.slow
def test_kl_forms():
    """The errors of the products are far below those of the direct form."""
    rows = [line.split() for line in output("kl_forms.py").splitlines()]
    errors = [
        (float(row[3]), float(row[4])) for row in rows if len(row) == 5 and row[0] in ("diagonal", "full")
    ]
    assert len(errors) == 10
    assert all(product < 1e-6 * direct for direct, product in errors)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["nuts", "importance"])
def test_mixture_posterior(kernel):
    options = [
        "--kernel",
        kernel,
        "--repetitions",
        "2",
        "--samples",
        "100",
        "--warmup",
        "50",
        "--chains",
        "2",
    ]
    coverage = float(output("mixture_posterior.py", *options).splitlines()[-1].split()[1])
    assert 0.6 < coverage <= 1


@pytest.mark.skipif(
    "PYRO_MFCVAE_DATA" not in os.environ, reason="PYRO_MFCVAE_DATA does not say where MNIST is"
)
def test_gradient_variance():
    """On a fixed batch, nothing of the noise reaches the mixtures under the analytic objective."""
    data = os.environ["PYRO_MFCVAE_DATA"]
    text = output("gradient_variance.py", data, "--epochs", "2", "--draws", "20", "--data-size", "2000")
    rows = {tuple(line.split()[:2]): [float(v) for v in line.split()[2:]] for line in text.splitlines()[1:]}
    encoder, ratio, priors, _ = rows["analytic", "1"]
    assert ratio == 1
    assert rows["monte_carlo", "1"][0] > encoder
    assert priors < 1e-9 < 1e-6 < rows["monte_carlo", "10"][2] < rows["monte_carlo", "1"][2]


@pytest.mark.slow
@pytest.mark.skipif(
    "PYRO_MFCVAE_DATA" not in os.environ, reason="PYRO_MFCVAE_DATA does not say where MNIST is"
)
def test_time_to_purity():
    """One cluster, as in the warm-up, has the share of the commonest digit for its purity."""
    data = os.environ["PYRO_MFCVAE_DATA"]
    text = output("time_to_purity.py", data, "--purity", "0.1", "--seeds", "0")
    assert text.startswith("seed 0: purity 0.1135 after 1 epochs, ")


@pytest.fixture(scope="module")
def reproduce():
    spec = importlib.util.spec_from_file_location("reproduce", FOLDER / "reproduce.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("angle", [-0.4, 0.0, 0.3])
@pytest.mark.parametrize("width", [2.0, 3.0, 5.0])
def test_strokes_are_measured(reproduce, angle, width):
    """A stroke of known width that leans to the right by a known angle."""
    rows, columns = np.indices((28, 28)) - 13.5
    across = columns * math.cos(angle) + rows * math.sin(angle)
    along = rows * math.cos(angle) - columns * math.sin(angle)
    image = ((abs(across) < width / 2) & (abs(along) < 10)).astype(float)[None]
    assert reproduce.slant(image)[0] == pytest.approx(angle, abs=0.06)
    thickness = reproduce.stroke_thickness(image)[0]
    assert width < thickness < 1.4 * width + 2  # of pixels, whose nearest edge is half a pixel away or more


def test_thicker_strokes_measure_thicker(reproduce):
    images = np.zeros((3, 28, 28))
    for i, half in enumerate((1, 2, 4)):
        images[i, 4:24, 14 - half : 14 + half] = 1
    assert np.all(np.diff(reproduce.stroke_thickness(images)) > 1)


def test_explained_variance(reproduce):
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, 5, 20_000)
    noise = rng.normal(size=20_000)
    assert reproduce.explained_variance(clusters.astype(float), clusters) == pytest.approx(1)
    assert reproduce.explained_variance(noise, clusters) < 1e-3
    assert reproduce.explained_variance(2**0.5 * noise + clusters, clusters) == pytest.approx(0.5, abs=0.02)


def test_the_readme_has_the_recorded_figures(reproduce):
    assert reproduce.table() in (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")


def test_a_row_may_join_clusters(reproduce, make_config, monkeypatch):
    rooms = RenderedShapes({"floor_hue": [0, 5], "shape": "all", "scale": "all"})
    whole = (rooms.images, rooms.images, rooms.labels, rooms.label_names, rooms.labels)
    row = (lambda data, seed: whole, lambda: make_config(epochs=1), [(-1, "floor_hue")], None)
    monkeypatch.setitem(reproduce.ROWS, "tiny", row)
    monkeypatch.setitem(reproduce.ROWS, "tiny_merged", (*row, lambda fitted, x: fitted.merge(1, x, 1)))
    (apart,), (joined,) = (reproduce.run(name, None, 0) for name in ("tiny", "tiny_merged"))
    assert apart["clusters"] > joined["clusters"] == 1


def test_a_row_is_run_and_recorded(reproduce, make_config, monkeypatch, tmp_path):
    def load(data, seed):
        train, test = RenderedShapes({"floor_hue": [0, 5], "shape": "all", "scale": "all"}).split(0.5, seed=0)
        return train.images, test.images, test.labels, test.label_names, train.labels

    monkeypatch.setattr(reproduce, "RESULTS", tmp_path / "results.csv")
    row = (load, lambda: make_config(epochs=1), [(-1, "floor_hue"), (0, "shape")], None)
    monkeypatch.setitem(reproduce.ROWS, "tiny", row)
    assert reproduce.train_table() == ""
    folders = []
    monkeypatch.setattr(reproduce.mf.plots, "save_all", lambda fitted, x, folder, *_: folders.append(folder))
    kept = {"figures": tmp_path / "figures", "checkpoints": tmp_path / "checkpoints"}
    for seed in (0, 1, 0):
        reproduce.append(reproduce.run("tiny", None, seed, **(kept if seed else {})))
    assert folders == [tmp_path / "figures" / "tiny_seed_1"]
    assert [path.name for path in (tmp_path / "checkpoints" / "tiny").iterdir()] == ["seed_1.checkpoint"]
    records = reproduce.read()
    assert [(r["seed"], r["facet"]) for r in records] == [("1", "1"), ("1", "0"), ("0", "1"), ("0", "0")]
    assert all(0 <= float(r[name]) <= 1 for r in records for name in ("purity", "train_purity"))
    of_train = [line.split(" | ")[3] for line in reproduce.train_table().splitlines()[2:]]
    assert of_train == ["shape", "floor_hue"]
    lines = reproduce.table().splitlines()
    assert len(lines) == 4
    purities = [float(r["purity"]) for r in records if r["facet"] == "1"]
    processor = records[0]["cpu"].split()[0].removesuffix("(R)")
    start = f"| tiny | float32 | 1 | floor_hue | 2 {processor} | {np.mean(purities):.3f} +- "
    assert lines[2].startswith(start)
    assert f"({min(purities):.3f})" in lines[2]
    reproduce.append(reproduce.run("tiny", None, 0, "bfloat16"))
    assert len(reproduce.read()) == 6
    assert reproduce.table().splitlines()[2].startswith("| tiny | bfloat16 | 1 | floor_hue | 1 ")


PAPER_ROWS = ("paper_mnist", "paper_shapes", "paper_svhn")


def test_rows_of_the_paper_differ_from_its_settings_by_what_their_names_say(reproduce):
    rows = {name: row[1]() for name, row in reproduce.ROWS.items() if name.startswith(PAPER_ROWS)}
    assert len(rows) == 7 + 2 * 2 * 3 + 1
    for name, config in rows.items():
        epochs = sum(stage.epochs for stage in config.stages)
        assert epochs == 401
        assert {facet.prior.initialization for facet in config.facets} == {"untrained"}
        assert {facet.prior.scale for facet in config.facets} == {0.1}
        one_stage = any(word in name for word in ("joint", "single", "vade"))
        assert len(config.stages) == (1 if one_stage else 2)
        is_full = ("full" in name or "mnist" not in name) and "diagonal" not in name
        assert {type(f.prior) for f in config.facets} == {FullGaussian if is_full else DiagonalGaussian}
    single, vade = rows["paper_mnist_single"], rows["paper_mnist_vade"]
    assert dataclasses.replace(vade, elbo="monte_carlo", num_kl_samples=1) == single
    assert single.facets == (Facet(25, 10, rows["paper_mnist"].facets[0].prior),)
    shared = dataclasses.replace(rows["paper_mnist_shared"], network=rows["paper_mnist"].network)
    assert shared == rows["paper_mnist"]
    assert rows["paper_shapes_floor"] == rows["paper_shapes3d_floor"] == presets.paper_shapes3d_floor()


def few_epochs(preset):
    """The preset with stages of one epoch, a small network and few clusters."""
    config = preset()
    return dataclasses.replace(
        config,
        facets=[dataclasses.replace(facet, clusters=3, latent_dim=2) for facet in config.facets],
        network=dataclasses.replace(config.network, channels=2),
        schedule=Schedule([dataclasses.replace(s, epochs=1, batch_size=20) for s in config.stages]),
    )


def house_numbers_files(folder):
    rng = np.random.default_rng(0)
    for name, n in (("train", 60), ("test", 30)):
        content = {"X": rng.integers(0, 256, (32, 32, 3, n), np.uint8), "y": rng.integers(1, 11, (n, 1))}
        scipy.io.savemat(folder / f"{name}_32x32.mat", content)


def shapes3d_file(folder):
    """A file of the true layout, whose pictures are all black."""
    sizes = tuple(Shapes3D.FACTORS.values())
    labels = np.stack([grid.ravel() for grid in np.meshgrid(*map(np.arange, sizes), indexing="ij")], 1)
    with h5py.File(folder / "3dshapes.h5", "w") as file:
        file.create_dataset("labels", data=labels.astype(float), compression="gzip", compression_opts=1)
        options = {"chunks": (480, 64, 64, 3), "compression": "gzip"}
        file.create_dataset("images", (len(labels), 64, 64, 3), "u1", **options)


@pytest.mark.filterwarnings("ignore::pyro_mfcvae.training.DeadClustersWarning")
def test_the_row_of_house_numbers_runs_on_files_of_their_format(reproduce, monkeypatch, tmp_path):
    house_numbers_files(tmp_path)
    load, preset, *others = reproduce.ROWS["paper_svhn"]
    monkeypatch.setitem(reproduce.ROWS, "paper_svhn", (load, lambda: few_epochs(preset), *others))
    records = reproduce.run("paper_svhn", tmp_path, 0)
    assert [(record["facet"], record["label"]) for record in records] == [(1, "digit"), (0, "digit")]
    # Of the commonest of few random labels, which is another share of the ones than of the others.
    assert all(0.1 < record["train_purity"] != record["purity"] > 0.1 for record in records)


@pytest.mark.filterwarnings("ignore::pyro_mfcvae.training.DeadClustersWarning")
def test_the_rows_of_3d_shapes_run_on_a_file_of_its_format(reproduce, monkeypatch, tmp_path):
    shapes3d_file(tmp_path)
    train, test, labels, names, train_labels = reproduce.ROWS["paper_shapes3d_wall"][0](tmp_path, 0)
    assert [x.shape for x in (train, test)] == [(3840, 3, 32, 32), (960, 3, 32, 32)]
    assert [x.shape for x in (train_labels, labels)] == [(3840, 4), (960, 4)]
    assert names == ["wall_hue", "scale", "shape", "orientation"]
    pictures = np.random.default_rng(0).integers(0, 256, (90, 3, 32, 32), np.uint8)  # few, and not all black

    def few(data, seed):
        return pictures[:60], pictures[60:], labels[:30], names, train_labels[:60]

    _, preset, *others = reproduce.ROWS["paper_shapes3d_wall"]
    monkeypatch.setitem(reproduce.ROWS, "paper_shapes3d_wall", (few, lambda: few_epochs(preset), *others))
    assert [record["label"] for record in reproduce.run("paper_shapes3d_wall", tmp_path, 0)] == names


def test_a_row_of_independent_partitions_is_one_record(reproduce, monkeypatch, tmp_path):
    def preset(facets):
        return presets.tabular(facets=facets, schedule=Schedule.joint(len(facets), epochs=1))

    monkeypatch.setattr(reproduce, "RESULTS", tmp_path / "results.csv")
    monkeypatch.setitem(reproduce.FACETS, "tiny", ("subspaces", 2, preset))
    (record,) = reproduce.run("tiny", None, 0)
    assert all(0 <= record[score] <= 1 for score in ("purity", "nmi"))
    assert 0 < record["alive"] <= 100
    reproduce.append([record])
    assert reproduce.table().splitlines()[-1].startswith("| tiny | float32 | all | one to one | 1 ")
