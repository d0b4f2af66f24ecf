"""Pictures: the right data in the right places, and nothing global touched."""

import io
import itertools
import os
import re

import matplotlib
import numpy as np
import pytest
import torch

from pyro_mfcvae import MFCVAE, Facet, FittedMFCVAE, Schedule, fit, plots, presets
from pyro_mfcvae.likelihoods import Bernoulli, Gaussian
from pyro_mfcvae.networks import FullyConnectedLadder
from pyro_mfcvae.plots import saving

pytestmark = pytest.mark.usefixtures("nothing_global")

SHAPES = {
    "grey": (1, 8, 6),
    "colour": (3, 8, 6),
    "flat": (8, 6),
    "bars": (6,),
    "lines": (40,),
    "two channels": (2, 8, 6),
    "five channels": (5, 8, 6),
    "odd": (2, 2, 3, 4),
}
N = 60


def make(x_shape, clusters=(4, 3), *, likelihood=None):
    """Data of four well separated kinds, and a model trained for a moment on them."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(size=(4, *x_shape))
    x = np.clip(centres[np.arange(N) % 4] + 0.02 * rng.normal(size=(N, *x_shape)), 0, 1).astype(np.float32)
    overrides = {"likelihood": likelihood} if likelihood else {}
    config = presets.tabular(
        facets=tuple(Facet(K, 2) for K in clusters),
        network=FullyConnectedLadder(widths=(128,) * len(clusters)),
        data_init=False,
        schedule=Schedule.progressive(
            len(clusters), epochs=6, warm_up_epochs=3, batch_size=20, learning_rate=3e-3
        ),
        **overrides,
    )
    return fit(x, config, progress=False), x


@pytest.fixture(scope="module")
def models():
    # The means of a Bernoulli are in [0, 1], and so drawn as they are, whatever the model has learned.
    return {name: make(x_shape, likelihood=Bernoulli()) for name, x_shape in SHAPES.items()}


def test_of_a_model_with_a_nuisance(blobs, make_config, tmp_path):
    x = blobs[0][:60]
    fitted = fit(x, make_config(nuisance=2, epochs=2), progress=False)
    figure = plots.training_curves(fitted)
    legends = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in figure.axes]
    assert legends[1][:3] == ["facet 0", "facet 1", "nuisance"]
    assert sum(name.startswith("nuisance: KL weight") for name in legends[2]) == 1
    assert not any("nuisance" in name for name in legends[3])
    names = {path.name for path in plots.save_all(fitted, x, tmp_path)}
    assert {"compositions.png", "latent_space.png", "training.png"} <= names


@pytest.mark.parametrize(("row", "column"), [(0, 1), (1, 0)])
def test_the_nuisance_of_compositions_is_that_of_the_left(make_model, monkeypatch, row, column):
    fitted, given = FittedMFCVAE(make_model(nuisance=2), []), []
    compose = fitted.compose
    monkeypatch.setattr(fitted, "compose", lambda x: (given.append(x), compose(x))[1])
    left, top = np.zeros((2, 6), np.float32), np.ones((3, 6), np.float32)
    plots.compositions(fitted, left, top, row_facet=row, column_facet=column)
    (sources,) = given
    assert [source.any() for source in sources] == [column == 0, column == 1, False]


def test_compositions_of_columns_of_different_kinds(make_model):
    x = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    fitted = FittedMFCVAE(make_model(likelihood="mixed"), [])
    assert len(plots.compositions(fitted, x[:2], x[2:5]).axes) == 1


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(saving, "DPI", 50)


def cell(figure, row, column, x_shape, *, axes=0, lead=0):
    """The pixels (H, W, 3) of one cell of a grid of small images."""
    H, W = x_shape[-2:]
    top = row * (H + 1) + (lead if row else 0)
    left = column * (W + 1) + (lead if column else 0)
    return np.asarray(figure.axes[axes].images[0].get_array())[top : top + H, left : left + W]


def pixels(image):
    image = image if image.ndim == 3 else image[None]
    return np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)


def row_labels(figure):
    return [text.get_text() for axes in figure.axes for text in axes.get_yticklabels()]


@pytest.mark.parametrize("name", SHAPES)
def test_all_kinds_of_data_are_drawn(models, name, tmp_path):
    fitted, x = models[name]
    figures = [
        plots.cluster_examples(fitted, x, 1),
        plots.cluster_samples(fitted, 0),
        plots.compositions(fitted, x[:3], x[:2]),
        plots.reconstructions(fitted, x),
    ]
    for figure in figures:
        image = matplotlib.image.imread(io.BytesIO(figure._repr_png_()))
        assert image.std() > 0.01
    note = {"two channels": "the mean of both channels", "five channels": "the first three of 5 channels"}
    texts = [text.get_text() for text in figures[0].texts]
    assert any("channels" in text for text in texts) == (name in note)
    assert any(note.get(name, "Rows") in text for text in texts)


LABELS = np.stack([np.arange(N) % 4, np.arange(N) % 2], 1)
NAMES = ["kind", "half / whole"]


@pytest.fixture
def written(models, tmp_path_factory):
    return plots.save_all(*models["bars"], tmp_path_factory.mktemp("new") / "folder", LABELS, NAMES)


def test_all_pictures_are_written(models, written, tmp_path):
    kinds = ("examples_facet_{}", "samples_facet_{}", "embedding_facet_{}", "cluster_sizes_facet_{}")
    confusions = ("confusion_facet_{}_kind", "confusion_facet_{}_label_1")
    of_all = ("latent_space", "compositions", "reconstructions", "training")
    names = [kind.format(j) for j in (0, 1) for kind in kinds + confusions]
    assert [path.name for path in written] == [f"{name}.png" for name in (*names, *of_all)]
    assert set(written[0].parent.iterdir()) == set(written)
    for path in written:
        image = matplotlib.image.imread(path)
        assert image.std() > 0.01
        edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert (edge[:, :3] == 1).all(), f"{path.name} is cut off"
    again = plots.save_all(*models["bars"], tmp_path, LABELS, NAMES)
    for a, b in zip(written, again, strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_a_single_kind_of_label_is_not_in_the_name_of_a_file(models, monkeypatch, tmp_path):
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda *_, **__: None)
    names = {path.name for path in plots.save_all(*models["bars"], tmp_path, LABELS[:, 0])}
    assert {"confusion_facet_0.png", "confusion_facet_1.png"} <= names


def test_nothing_half_written_is_left(models, tmp_path, monkeypatch):
    def replace(*args):
        raise OSError("the disk is full")

    fitted, x = models["bars"]
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="full"):
        plots.save_all(fitted, x, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["grey", "colour", "flat"])
@pytest.mark.parametrize("facet", [0, 1])
def test_most_confident_examples_come_first(models, name, facet):
    fitted, x = models[name]
    figure = plots.cluster_examples(fitted, x, facet, num_examples=5)
    r = fitted.predict_proba(x)[facet]
    sizes = np.bincount(r.argmax(1), minlength=r.shape[1])
    shown = [tuple(map(int, re.findall(r"\d+", label))) for label in row_labels(figure)]
    assert sorted(shown) == [(k, n) for k, n in enumerate(sizes) if n]
    assert [n for _, n in shown] == sorted((n for _, n in shown), reverse=True)
    for row, (k, n) in enumerate(shown):
        expected = np.sort(r[r.argmax(1) == k, k])[::-1][:5]
        found = []
        for column in range(min(n, 5)):
            picture = cell(figure, row, column, x.shape[1:])
            matches = [i for i in range(N) if np.allclose(pixels(x[i]), picture, atol=1e-6)]
            assert len(matches) == 1
            found.append(matches[0])
        assert len(set(found)) == len(found)
        np.testing.assert_array_equal(r[found, k], expected)
        if n < 5:
            assert (cell(figure, row, n, x.shape[1:]) == 1).all()


def test_grey_images_without_a_channel_are_understood(models):
    fitted, x = models["grey"]
    with_channel = plots.cluster_examples(fitted, x, 0)
    without = plots.cluster_examples(fitted, torch.from_numpy(x[:, 0]), 0)
    np.testing.assert_array_equal(
        with_channel.axes[0].images[0].get_array(), without.axes[0].images[0].get_array()
    )


def test_bytes_look_like_the_numbers_they_stand_for(models):
    fitted, x = models["colour"]
    data = np.round(x * 255).astype(np.uint8)
    picture = cell(plots.reconstructions(fitted, data), 0, 0, x.shape[1:])
    np.testing.assert_allclose(picture, pixels(data[0] / 255), atol=1e-6)


def test_many_clusters_stand_in_columns():
    config = presets.mnist(facets=(Facet(70, 2), Facet(3, 2)))
    fitted = FittedMFCVAE(MFCVAE(config, (1, 8, 6)), [])
    figure = plots.cluster_samples(fitted, 0, num_samples=3)
    assert len(figure.axes) == 3
    assert len(row_labels(figure)) == 60
    assert all(len(axes.images) == 1 for axes in figure.axes)
    figure.canvas.draw()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    for left, right in itertools.pairwise(boxes):
        assert left.x1 < right.x0
    width, height = figure.bbox.width, figure.bbox.height
    assert all(b.x0 >= 0 and b.x1 <= width and b.y0 >= 0 and b.y1 <= height for b in boxes)
    columns = plots.cluster_samples(fitted, 0, clusters=range(21)).axes
    assert [len(axes.get_yticklabels()) for axes in columns] == [11, 10]


def test_only_the_largest_clusters_are_shown(models):
    fitted, x = models["grey"]
    everything = row_labels(plots.cluster_examples(fitted, x, 0))
    assert row_labels(plots.cluster_examples(fitted, x, 0, max_clusters=1)) == everything[:1]


def test_samples_are_those_of_the_clusters_asked_for(models):
    fitted, x = models["colour"]
    figure = plots.cluster_samples(fitted, 0, num_samples=4, temperature=0.5, seed=3, clusters=[2, 0])
    assert [label.split()[0] for label in row_labels(figure)] == ["2", "0"]
    for row, k in enumerate((2, 0)):
        expected = fitted.sample(4, {0: k}, temperature=0.5, seed=3)
        for column in range(4):
            picture = cell(figure, row, column, x.shape[1:])
            np.testing.assert_allclose(picture, pixels(np.clip(expected[column], 0, 1)), atol=1e-6)


def test_samples_are_ordered_by_weight(models):
    fitted, _ = models["colour"]
    percents = [
        float(re.search(r"\((.*) %\)", label)[1]) for label in row_labels(plots.cluster_samples(fitted, 0))
    ]
    assert percents == sorted(percents, reverse=True)
    assert sum(percents) == pytest.approx(100, abs=0.3)


@pytest.mark.parametrize(("row_facet", "column_facet"), [(0, 1), (1, 0)])
def test_compositions_take_each_facet_from_its_side(models, row_facet, column_facet):
    fitted, x = models["colour"]
    left, top = x[:2], x[5:8]
    figure = plots.compositions(fitted, left, top, row_facet=row_facet, column_facet=column_facet)
    assert len(figure.axes) == 1
    for r in range(2):
        np.testing.assert_allclose(cell(figure, r + 1, 0, x.shape[1:], lead=4), pixels(left[r]), atol=1e-6)
        for c in range(3):
            sources = [None, None]
            sources[row_facet], sources[column_facet] = left[[r]], top[[c]]
            expected = np.clip(fitted.compose(sources)[0], 0, 1)
            picture = cell(figure, r + 1, c + 1, x.shape[1:], lead=4)
            np.testing.assert_allclose(picture, pixels(expected), atol=1e-4)
    for c in range(3):
        np.testing.assert_allclose(cell(figure, 0, c + 1, x.shape[1:], lead=4), pixels(top[c]), atol=1e-6)
    assert (cell(figure, 0, 0, x.shape[1:], lead=4) == 1).all()


def test_facets_of_neither_side_come_from_the_left():
    fitted, x = make((3, 8, 6), clusters=(3, 2, 2))
    figure = plots.compositions(fitted, x[:2], x[5:7], row_facet=2, column_facet=0)
    expected = np.clip(fitted.compose([x[[6]], x[[1]], x[[1]]])[0], 0, 1)
    picture = cell(figure, 2, 2, x.shape[1:], lead=4)
    np.testing.assert_allclose(picture, pixels(expected), atol=1e-4)


def test_one_facet_cannot_be_composed(tmp_path, monkeypatch):
    fitted, x = make((6,), clusters=(3,))
    with pytest.raises(ValueError, match="1 facet, expected at least 2"):
        plots.compositions(fitted, x[:2], x[:2])
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda *_, **__: None)
    names = [path.name for path in plots.save_all(fitted, x, tmp_path)]
    assert "compositions.png" not in names
    assert "examples_facet_0.png" in names


def test_reconstructions_are_below_their_inputs(models):
    fitted, x = models["colour"]
    figure = plots.reconstructions(fitted, x, num=20)
    assert row_labels(figure) == ["input", "output"] * 2
    chosen = np.linspace(0, N - 1, 20).round().astype(int)
    outputs = np.clip(fitted.reconstruct(x[chosen]), 0, 1)
    for i in (0, 15, 16, 19):
        row, column = 2 * (i // 16), i % 16
        assert np.allclose(cell(figure, row, column, x.shape[1:]), pixels(x[chosen[i]]), atol=1e-6)
        assert np.allclose(cell(figure, row + 1, column, x.shape[1:]), pixels(outputs[i]), atol=1e-4)
    assert cell(plots.reconstructions(fitted, x[:1]), 0, 0, x.shape[1:]).shape == (8, 6, 3)


def test_values_outside_the_unit_interval_are_scaled():
    rng = np.random.default_rng(0)
    x = 100 * rng.normal(size=(N, 1, 8, 6)).astype(np.float32)
    schedule = Schedule.progressive(1, epochs=2, batch_size=20)
    fitted = fit(x, presets.tabular(facets=(Facet(2, 2),), schedule=schedule), progress=False)
    montage = plots.cluster_examples(fitted, x, 0).axes[0].images[0].get_array()
    inside = montage[(montage > 0) & (montage < 1)]
    assert 0.3 < inside.mean() < 0.7
    assert inside.std() > 0.05


def test_large_images_are_thinned_out():
    fitted = FittedMFCVAE(MFCVAE(presets.mnist(), (3, 200, 150)), [])
    montage = plots.cluster_samples(fitted, 0, num_samples=2, clusters=[0]).axes[0].images[0].get_array()
    assert montage.shape[0] == 67
    assert montage.shape[1] == 2 * 50 + 5


def test_training_curves_are_the_history(models):
    fitted, _ = models["bars"]
    figure = plots.training_curves(fitted)
    top, middle, weights, bottom = figure.axes
    lines = {line.get_label(): line for axes in (top, middle) for line in axes.lines}
    np.testing.assert_array_equal(lines["ELBO"].get_ydata(), [r.elbo for r in fitted.history])
    np.testing.assert_array_equal(
        lines["log-likelihood"].get_ydata(), [r.log_likelihood for r in fitted.history]
    )
    np.testing.assert_array_equal(lines["facet 1"].get_xdata(), np.arange(1, 13))
    np.testing.assert_array_equal(lines["facet 0"].get_xdata(), np.arange(7, 13))
    np.testing.assert_array_equal(
        lines["facet 0"].get_ydata(), [r.facet_terms[0] for r in fitted.history if r.stage == 1]
    )
    alive = next(line for line in bottom.lines if line.get_label().startswith("facet 1"))
    np.testing.assert_array_equal(alive.get_ydata(), [r.alive[1] for r in fitted.history])
    of_weights = {line.get_label(): line.get_ydata() for line in weights.lines}
    for j in (0, 1):
        np.testing.assert_array_equal(
            of_weights[rf"facet {j}: fade-in $\alpha$"], [r.fade_in[j] for r in fitted.history]
        )
        np.testing.assert_array_equal(
            of_weights[rf"facet {j}: KL weight $\beta$"], [r.kl_weights[j] for r in fitted.history]
        )
    assert all(len(axes.patches) == 2 for axes in figure.axes)
    assert [text.get_text() for text in top.texts] == ["stage 1\nfacet 1", "stage 2\nfacet 0"]
    for axes in (top, middle):
        low, high = axes.get_ylim()
        last = fitted.history[-1].elbo if axes is top else fitted.history[-1].facet_terms[0]
        assert low < last < high


@pytest.mark.parametrize("warm_up", [{"warm_up_epochs": 2}, {"warm_up_steps": 9}])
def test_the_end_of_the_warm_up_is_marked(warm_up):
    """After the second epoch, which nine steps may cut short."""
    schedule = Schedule.joint(1, epochs=4, batch_size=10, **warm_up)
    x = np.random.default_rng(0).normal(size=(50, 6))
    fitted = fit(x, presets.tabular(facets=(Facet(2, 2),), schedule=schedule), progress=False)
    marks = [line for line in plots.training_curves(fitted).axes[0].lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in marks] == [2.5]


def test_training_of_one_epoch_is_drawn(models):
    fitted, _ = models["bars"]
    once = FittedMFCVAE(fitted.model, fitted.history[:1])
    plots.training_curves(once).canvas.draw()


def test_notebooks_can_show_a_figure(models):
    fitted, x = models["bars"]
    assert plots.reconstructions(fitted, x)._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, x: plots.cluster_examples(f, x, 2), "facet: got 2, expected one of the 2 facets"),
        (lambda f, x: plots.cluster_examples(f, x, -1), "facet: got -1"),
        (lambda f, x: plots.cluster_examples(f, x, 0, num_examples=0), "num_examples: got 0"),
        (lambda f, x: plots.cluster_examples(f, x, 0, max_clusters=0), "max_clusters: got 0"),
        (lambda f, x: plots.cluster_examples(f, x[:, :3], 0), "x: got data of shape"),
        (lambda f, x: plots.cluster_examples(f, x * np.nan, 0), "x: got NaN"),
        (lambda f, x: plots.cluster_samples(f, 0, num_samples=0), "num_samples: got 0"),
        (lambda f, x: plots.cluster_samples(f, 0, clusters=[]), "clusters: got none"),
        (lambda f, x: plots.cluster_samples(f, 0, clusters=[99]), "clusters: got {0: 99}"),
        (lambda f, x: plots.cluster_samples(f, 0, temperature=-1), "temperature: got -1"),
        (lambda f, x: plots.compositions(f, x[:2], x[:2], column_facet=0), "column_facet: got 0"),
        (lambda f, x: plots.compositions(f, x[:2], x[:2], row_facet=5), "row_facet: got 5"),
        (lambda f, x: plots.compositions(f, x, x[:2]), "x_rows: got 60 data, expected at most 40"),
        (lambda f, x: plots.compositions(f, x[:2], x[0]), "x_columns"),
        (lambda f, x: plots.reconstructions(f, x, num=0), "num: got 0"),
        (lambda f, x: plots.save_all(f, x, "never", LABELS[:5]), "x: got 60 rows and 5 of labels"),
        (lambda f, x: plots.save_all(f, x, "never", LABELS, ["kind"]), "expected 2 different names"),
        (lambda f, x: plots.training_curves(FittedMFCVAE(f.model, [])), "history is empty"),
    ],
)
def test_errors_say_what_is_wrong(models, call, message):
    fitted, x = models["bars"]
    with pytest.raises(ValueError, match=re.escape(message)):
        call(fitted, x)


def test_probabilities_are_drawn_from_zero_to_one():
    fitted, x = make((6,), likelihood=Bernoulli())
    figure = plots.cluster_examples(fitted, x, 0, num_examples=1)
    frames, bars = figure.axes[0].collections
    heights = [np.ptp(path.vertices[:, 1]) for path in bars.get_paths()]
    r = fitted.predict_proba(x)[0]
    k = np.bincount(r.argmax(1)).argmax()
    candidates = x[(r.argmax(1) == k) & (r[:, k] == r[r.argmax(1) == k, k].max())]
    assert min(np.abs(24 * c - heights[:6]).max() for c in candidates) < 1e-3
    assert len(frames.get_paths()) == len(row_labels(figure))


def test_missing_entries_are_seen():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(N, 1, 8, 6)).astype(np.float32)
    x[:, 0, 2, 3] = np.nan
    schedule = Schedule.progressive(1, epochs=1, batch_size=20)
    config = presets.tabular(
        facets=(Facet(2, 2),), schedule=schedule, likelihood=Gaussian(missing=True), data_init=False
    )
    fitted = fit(x, config, progress=False)
    figure = plots.reconstructions(fitted, x, num=2)
    picture = cell(figure, 0, 0, (8, 6))
    np.testing.assert_allclose(picture[2, 3], matplotlib.colors.to_rgb("#F2B866"), atol=1e-6)
    assert np.ptp(np.delete(picture.reshape(-1, 3), 2 * 6 + 3, 0), axis=1).max() < 1e-6  # grey
    assert np.ptp(cell(figure, 1, 0, (8, 6)), axis=-1).max() < 1e-6
    assert any("Missing entries are orange" in text.get_text() for text in figure.texts)


def test_missing_entries_of_a_profile_are_bands():
    x = np.random.default_rng(0).uniform(size=(N, 6)).astype(np.float32)
    x[:, 4] = np.nan
    x[0] = np.nan
    schedule = Schedule.progressive(1, epochs=1, batch_size=20)
    config = presets.tabular(facets=(Facet(2, 2),), schedule=schedule, likelihood=Gaussian(missing=True))
    fitted = fit(x, config, progress=False)
    frames, bands, bars = plots.reconstructions(fitted, x, num=2).axes[0].collections
    assert [len(each.get_paths()) for each in (frames, bands, bars)] == [4, 6 + 1, 5 + 2 * 6]


@pytest.mark.parametrize(
    "draw",
    [
        lambda f, x, ax: plots.cluster_examples(f, x, 0, ax=ax),
        lambda f, x, ax: plots.cluster_samples(f, 0, ax=ax),
        lambda f, x, ax: plots.compositions(f, x[:3], x[:2], ax=ax),
        lambda f, x, ax: plots.reconstructions(f, x, ax=ax),
    ],
)
@pytest.mark.parametrize("name", ["colour", "bars"])
def test_pictures_go_where_they_are_asked_to(models, draw, name):
    fitted, x = models[name]
    figure = matplotlib.figure.Figure()
    left, right = figure.subplots(1, 2)
    assert draw(fitted, x, right) is figure
    assert figure.axes == [left, right]
    assert not left.has_data()
    assert right.has_data()
    assert right.get_title()
