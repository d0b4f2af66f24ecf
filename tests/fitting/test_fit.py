import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered import Items
from safetensors.torch import save_file
from torch.utils.data import DataLoader, TensorDataset

import pyro_mfcvae as mf
from pyro_mfcvae import Facet, FittedMFCVAE, MFCVAEConfig, Schedule, fit, load, presets
from pyro_mfcvae._utils.tensors import read_tensors, write_tensors
from pyro_mfcvae.data import RenderedShapes
from pyro_mfcvae.likelihoods import Gaussian
from pyro_mfcvae.metrics import purity
from pyro_mfcvae.results.choosing import RunScore


def quick(x, config, **options):
    return fit(x, config, **{"device": "cpu", "precision": "float32", "progress": False, **options})


@pytest.fixture(scope="module")
def fitted(blobs, make_config):
    config = make_config(
        J=2, K=(4, 3), D=(2, 3), width=16, likelihood=Gaussian(0.1, standardize=True), epochs=3
    )
    return quick(blobs[0], config)


@pytest.fixture(scope="module")
def pictures(make_config):
    """A model of grey images (1, 4, 4)."""
    x = np.random.default_rng(0).integers(0, 256, (40, 1, 4, 4), dtype=np.uint8)
    return quick(x, make_config(J=2)), x


# --- what it finds ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_it_finds_clusters(make_config, blobs, seed):
    x, y = blobs
    config = make_config(
        J=1, K=8, width=64, likelihood=Gaussian(0.1), epochs=40, warm_up_epochs=10, learning_rate=3e-3
    )
    fitted = quick(x, config, seed=seed)
    both = y[:, 0] * 2 + y[:, 1]
    assert purity(fitted.predict(x)[:, 0], both) > 0.9
    assert purity(fitted.predict(x)[:, 0], np.random.default_rng(0).permutation(both)) < 0.4
    table = fitted.evaluate(x, y, names=["first", "second"])
    assert table.score(0, "first") > 0.9
    assert "first" in str(table)


def test_labels_are_never_looked_at(make_config, blobs):
    x, y = blobs
    config = make_config()
    alone, pair, shuffled = (
        quick(dataset, config) for dataset in (x, (x, y), (x, np.random.default_rng(0).permutation(y)))
    )
    for other in (pair, shuffled):
        for name, value in alone.model.state_dict().items():
            assert torch.equal(value, other.model.state_dict()[name]), name


# --- what it takes ------------------------------------------------------------------------------


VECTORS = np.random.default_rng(0).random((20, 4)).astype(np.float32)
KINDS = {
    "float32": lambda x: x,
    "float64": lambda x: x.astype(np.float64),
    "tensor": torch.from_numpy,
    "pair": lambda x: (x, np.arange(20)),
    "TensorDataset": lambda x: TensorDataset(torch.from_numpy(x), torch.arange(20)),
    "Dataset": lambda x: Items(torch.from_numpy(x)),
    "DataLoader": lambda x: DataLoader(Items(torch.from_numpy(x)), batch_size=6),
    "list": lambda x: x.tolist(),
    "list of tensors": lambda x: list(torch.from_numpy(x)),
    "not contiguous": lambda x: np.asfortranarray(x),
}


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_data_are_the_same_data(make_config, kind):
    expected = quick(VECTORS, make_config())
    dataset = KINDS[kind](VECTORS)
    actual = quick(dataset, make_config())
    for name, value in expected.model.state_dict().items():
        assert torch.equal(value, actual.model.state_dict()[name]), name
    for a, b in zip(actual.predict_proba(dataset), expected.predict_proba(VECTORS), strict=True):
        assert np.array_equal(a, b)


def test_pictures_of_bytes_are_scaled(pictures):
    fitted, x = pictures
    assert fitted.model.x_shape == (1, 4, 4)
    for data in (x, x / 255, torch.from_numpy(x), torch.from_numpy(x / 255), x[:, 0]):
        np.testing.assert_allclose(fitted.transform(data)[0], fitted.transform(x)[0], atol=1e-5)
    assert fitted.reconstruct(x[:, 0]).shape == (40, 1, 4, 4)


def test_rendered_shapes(make_config):
    shapes = RenderedShapes(image_size=16)
    dataset = torch.utils.data.Subset(shapes, range(0, len(shapes), len(shapes) // 12))
    fitted = quick(dataset, make_config(J=2))
    assert fitted.model.x_shape == (3, 16, 16)
    assert fitted.predict(dataset).shape == (len(dataset), 2)


@pytest.mark.parametrize(
    ("x", "likelihood"),
    [
        (VECTORS * 100 - 3, Gaussian(sigma=0.3, standardize=True)),
        (VECTORS.reshape(20, 1, 2, 2), presets.mnist().likelihood),
        (np.repeat(VECTORS.reshape(20, 1, 2, 2), 3, 1), presets.shapes3d().likelihood),
        (VECTORS.reshape(20, 1, 2, 2) * 9, Gaussian(sigma=0.3, standardize=True)),
    ],
)
@pytest.mark.filterwarnings("ignore::pyro_mfcvae.training.UnmixingWarning")  # noise has no clusters
def test_without_a_configuration_a_preset_is_taken(monkeypatch, with_stages, x, likelihood):
    real = presets.for_data

    def fast(*args, **options):
        config = with_stages(
            real(*args, **options), epochs=1, steps=None, warm_up_epochs=0, warm_up_steps=None
        )
        facets = tuple(dataclasses.replace(facet, clusters=3) for facet in config.facets)
        network = dataclasses.replace(config.network, widths=(8, 8))
        return dataclasses.replace(config, facets=facets, network=network)

    monkeypatch.setattr(presets, "for_data", fast)
    fitted = quick(x, None)
    assert fitted.model.config.likelihood == likelihood
    assert fitted.predict(x).shape == (20, fitted.num_facets)
    assert (fitted.history.unmixing is None) == (likelihood == presets.mnist().likelihood)


def test_bfloat16_trains_and_predicts_in_float32(make_config, blobs):
    config = make_config(width=32)
    fitted = quick(blobs[0], config, precision="bfloat16")
    exact = quick(blobs[0], config)
    assert fitted.precision == "float32"
    assert all(p.dtype == torch.float32 for p in fitted.model.parameters())
    assert fitted.predict_proba(blobs[0])[0].dtype == np.float32
    assert not torch.equal(*(f.model.state_dict()["encoder.facet_modules.0.weight"] for f in (fitted, exact)))


def test_predictions_in_bfloat16_are_asked_for(fitted, blobs, monkeypatch):
    exact = fitted.predict_proba(blobs[0])
    assert fitted.precision == "float32"
    try:
        fitted.precision = "bfloat16"
        coarse = fitted.predict_proba(blobs[0])
        fitted.precision = "auto"
        assert fitted.precision == "float32"
        with pytest.raises(ValueError, match="precision: got 'half', expected one of"):
            fitted.precision = "half"
    finally:
        fitted.precision = "float32"
    for r, expected in zip(coarse, exact, strict=True):
        assert r.dtype == np.float32
        assert not np.array_equal(r, expected)
        np.testing.assert_allclose(r, expected, atol=0.1)
    np.testing.assert_array_equal(fitted.predict_proba(blobs[0])[0], exact[0])


# --- what it gives ------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 7, 300, 1203])
def test_shapes_and_types(fitted, blobs, n):
    x = np.resize(blobs[0], (n, 6))
    c, r, z = fitted.predict(x), fitted.predict_proba(x), fitted.transform(x)
    assert c.shape == (n, 2)
    assert c.dtype == np.int64
    assert [r_j.shape for r_j in r] == [(n, 4), (n, 3)]
    assert [z_j.shape for z_j in z] == [(n, 2), (n, 3)]
    assert fitted.reconstruct(x).shape == (n, 6)
    for array in (*r, *z, fitted.reconstruct(x)):
        assert isinstance(array, np.ndarray)
        assert array.dtype == (np.float64 if array.shape == x.shape else np.float32)
        assert np.isfinite(array).all()
    for j in range(2):
        np.testing.assert_allclose(r[j].sum(1), 1, atol=1e-5)
        assert (r[j] >= 0).all()
        assert np.array_equal(c[:, j], r[j].argmax(1))


def test_what_it_gives_is_what_the_model_says(fitted, blobs):
    x = torch.from_numpy(blobs[0])
    with torch.no_grad():
        q = fitted.model.encode(x)
        for j, r in enumerate(fitted.model.responsibilities(q)):
            np.testing.assert_allclose(fitted.predict_proba(x)[j], r.numpy(), atol=1e-4)
            np.testing.assert_allclose(fitted.transform(x)[j], q[j].mean.numpy(), atol=1e-4)
        mean = fitted.model.likelihood.mean(fitted.model.decode([q_j.mean for q_j in q]))
        np.testing.assert_allclose(fitted.reconstruct(x), mean.numpy(), atol=1e-4)
        scores = [fitted.model.elbo_terms(x).elbo.mean().item() for _ in range(20)]
    assert np.mean(scores) == pytest.approx(fitted.score(x), abs=5 * np.std(scores) + 1e-3)


@pytest.mark.portable
@pytest.mark.parametrize("width", [16, 500])
def test_a_datum_alone_is_what_it_is_among_others_to_rounding(make_config, blobs, width):
    x = np.resize(blobs[0], (1030, 6))
    fitted = quick(blobs[0], make_config(width=width, epochs=1))
    everything = [*fitted.predict_proba(x), *fitted.transform(x), fitted.reconstruct(x)]
    for part in (slice(0, 1), slice(3, 4), slice(498, 515), slice(1029, 1030), slice(100, 950)):
        alone = [*fitted.predict_proba(x[part]), *fitted.transform(x[part]), fitted.reconstruct(x[part])]
        for a, b in zip(alone, everything, strict=True):
            np.testing.assert_allclose(a, b[part], rtol=1e-4, atol=1e-5)
        for j, clusters in enumerate(fitted.predict(x[part]).T):
            chosen = everything[j][part][np.arange(len(clusters)), clusters]
            assert (chosen >= everything[j][part].max(1) - 2e-5).all()


def test_memory_of_other_alignment_holds_the_same_data(fitted, blobs):
    """Sums of floats depend on it on some processors."""
    x = blobs[0]
    bytes_ = np.empty(x.nbytes + 64, np.uint8)
    for offset in (4, 16, 36):
        shifted = bytes_[offset : offset + x.nbytes].view(np.float32).reshape(x.shape)
        shifted[:] = x
        for a, b in zip(fitted.predict_proba(shifted), fitted.predict_proba(x), strict=True):
            assert np.array_equal(a, b)


def test_sample(fitted):
    x = fitted.sample(5)
    assert np.array_equal(x, fitted.sample(np.int64(5)))
    for n in (0, True, 5.0, "5"):
        with pytest.raises(ValueError, match=f"^n: got {n!r}, expected an integer of at least 1"):
            fitted.sample(n)
    for temperature in (-1.0, math.nan, "0"):
        with pytest.raises(
            ValueError, match=f"^temperature: got {temperature!r}, expected a number of at least 0"
        ):
            fitted.sample(5, temperature=temperature)
    assert x.shape == (5, 6)
    assert x.dtype == np.float64
    assert np.array_equal(x, fitted.sample(5, seed=0))
    assert not np.allclose(x, fitted.sample(5, seed=1))
    assert not np.allclose(x[0], x[1])
    given = fitted.sample(50, clusters={1: 2}, temperature=0.0)
    assert 1 <= len(np.unique(given.round(4), axis=0)) <= 4  # the clusters of the other facet
    both = fitted.sample(50, clusters={0: 1, 1: 2}, temperature=0.0)
    np.testing.assert_allclose(both, np.broadcast_to(both[:1], both.shape), atol=1e-5)


def test_sample_without_temperature_is_the_mean_of_the_cluster(make_config, blobs):
    fitted = quick(blobs[0], make_config(J=1, K=3))
    means = []
    for k in range(3):
        x = fitted.sample(4, clusters={0: k}, temperature=0)
        np.testing.assert_allclose(x, np.broadcast_to(x[:1], x.shape), atol=1e-6)
        z = fitted.model.facet_priors[0].loc[k : k + 1]
        with torch.no_grad():
            expected = fitted.model.likelihood.mean(fitted.model.decode([z]))
        np.testing.assert_allclose(x[:1], expected.numpy(), atol=1e-5)
        means.append(x[0])
    assert not np.allclose(means[0], means[1], atol=1e-6)


def test_temperature_scales_the_deviations(fitted, monkeypatch):
    """z = mean + temperature * (sample - mean), with the same sample at the same seed."""
    blocks, latents = [], []
    decode = fitted.model.decode
    monkeypatch.setattr(fitted.model, "decode", lambda z: (blocks.append(z), decode(z))[1])
    for temperature in (0.0, 1.0, 2.5):
        fitted.sample(2_000, clusters={0: 3, 1: 1}, temperature=temperature)
        latents.append([torch.cat(z_j) for z_j in zip(*blocks, strict=True)])
        blocks.clear()
    for j, k in enumerate((3, 1)):
        prior = fitted.model.facet_priors[j]
        mean, one, more = (z[j] for z in latents)
        torch.testing.assert_close(mean, prior.loc[k].detach().expand_as(mean))
        torch.testing.assert_close(more - mean, 2.5 * (one - mean), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            (one.mean(0) - mean[0]) / one.std(0), torch.zeros_like(mean[0]), atol=0.1, rtol=0
        )
        torch.testing.assert_close(
            one.std(0), prior.component(torch.tensor(k)).stddev.detach(), rtol=0.1, atol=0
        )


def test_compose(fitted, blobs):
    x = blobs[0][:5]
    np.testing.assert_allclose(fitted.compose([x, x]), fitted.reconstruct(x), atol=1e-5)
    other = blobs[0][5:10]
    mixed = fitted.compose([x, other])
    assert mixed.shape == x.shape
    assert mixed.dtype == np.float64
    with torch.no_grad():
        z = [torch.from_numpy(fitted.transform(x)[0]), torch.from_numpy(fitted.transform(other)[1])]
        expected = fitted.model.likelihood.mean(fitted.model.decode(z))
    np.testing.assert_allclose(mixed, expected.numpy(), atol=1e-5)
    assert not np.allclose(mixed, fitted.compose([other, x]))


def test_score(fitted, blobs):
    x = blobs[0]
    score = fitted.score(x)
    assert isinstance(score, float)
    assert score == fitted.score(x, seed=0) != fitted.score(x, seed=1)
    assert fitted.score(x + 5) < score - 100
    assert fitted.score(x[:1]) != score


def test_random_streams_are_untouched(fitted, blobs):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    fitted.sample(3), fitted.score(blobs[0]), fitted.predict(blobs[0]), fitted.compose([blobs[0]] * 2)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_repr_says_what_it_is(fitted):
    assert repr(fitted) == (
        "FittedMFCVAE(2 facets: 4 clusters in 2 dimensions, 3 clusters in 3 dimensions; x_shape=(6,); "
        f"trained in {fitted.history.environment})"
    )
    assert fitted.clusters == (4, 3)
    assert fitted.num_facets == 2
    assert len(fitted.history) == 6


def test_data_that_are_given_are_not_changed(make_config, blobs):
    x = blobs[0].copy()
    fitted = quick(x, make_config(likelihood=Gaussian(standardize=True)))
    fitted.predict(x), fitted.score(x), fitted.reconstruct(x)
    assert np.array_equal(x, blobs[0])


# --- on disk ------------------------------------------------------------------------------------


def outputs(fitted, x):
    return [
        *fitted.predict_proba(x),
        *fitted.transform(x),
        fitted.reconstruct(x),
        fitted.sample(4, clusters={0: 1}, seed=2),
        np.float64(fitted.score(x)),
    ]


@pytest.mark.portable
def test_save_and_load(fitted, blobs, tmp_path):
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    assert os.listdir(tmp_path) == ["model.safetensors"]
    again = load(str(path))
    assert isinstance(again, FittedMFCVAE)
    assert again.history == fitted.history
    assert again.model.config == fitted.model.config
    assert again.model.x_shape == fitted.model.x_shape
    for a, b in zip(outputs(again, blobs[0]), outputs(fitted, blobs[0]), strict=True):
        assert np.array_equal(a, b)
    again.save(path)  # over itself
    assert load(path).history == fitted.history


def test_seed_and_restarts_are_stored(fitted, blobs, tmp_path):
    fitted.save(tmp_path / "one")
    one = load(tmp_path / "one")
    assert (one.seed, one.restarts) == (fitted.seed, {})
    assert one.seed is not None
    best = FittedMFCVAE(fitted.model, fitted.history, seed=2**32 - 1)
    best.restarts = {4: RunScore(-1.5, 0.5, 0.25, 0.125), 2**32 - 1: RunScore(1 / 3, 0.5, 0.5, 0.0)}
    best.save(tmp_path / "best")
    again = load(tmp_path / "best")
    assert (again.seed, again.restarts) == (best.seed, best.restarts)


def test_files_of_earlier_versions_have_no_seed(fitted, blobs, tmp_path):
    fitted.save(tmp_path / "model")
    rewritten(tmp_path / "model", lambda h, t: {k: v for k, v in h.items() if k not in ("seed", "restarts")})
    again = load(tmp_path / "model")
    assert (again.seed, again.restarts) == (None, {})
    assert np.array_equal(again.predict(blobs[0]), fitted.predict(blobs[0]))
    again.save(tmp_path / "model")
    assert load(tmp_path / "model").seed is None


@pytest.mark.portable
def test_another_process_predicts_the_same_bits(fitted, blobs, tmp_path):
    fitted.save(tmp_path / "m")
    np.save(tmp_path / "x.npy", blobs[0])
    code = """if True:
        import sys, numpy as np, torch, pyro_mfcvae
        torch.manual_seed(99)
        fitted, x = pyro_mfcvae.load("m"), np.load("x.npy")
        arrays = [*fitted.predict_proba(x), *fitted.transform(x), fitted.reconstruct(x),
                  fitted.sample(4, clusters={0: 1}, seed=2), np.float64(fitted.score(x))]
        np.savez("out.npz", *arrays)
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(mf.__file__).parents[1])}
    environment |= {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=120)
    with np.load(tmp_path / "out.npz") as arrays:
        for a, b in zip(arrays.values(), outputs(fitted, blobs[0]), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("step", ["replace", "chmod"])
def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(fitted, tmp_path, monkeypatch, step):
    path = tmp_path / "model"
    path.write_bytes(b"what was there")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        fitted.save(path)
    assert os.listdir(tmp_path) == ["model"]
    assert path.read_bytes() == b"what was there"


def test_save_needs_a_folder(fitted, tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder, expected a file"):
        fitted.save(tmp_path)
    assert os.listdir(tmp_path) == []
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        fitted.save(tmp_path / "nowhere" / "model")


def test_the_file_follows_the_umask(fitted, tmp_path):
    old = os.umask(0o027)
    try:
        fitted.save(tmp_path / "model")
    finally:
        os.umask(old)
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o640


def test_load_names_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nothing"):
        load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load(tmp_path)


def rewritten(path, change):
    """The file again, with another header or other tensors, as somebody writes it who knows the digest."""
    header, tensors = read_tensors(path, "pyro_mfcvae")
    header = change(header, tensors)
    if isinstance(header, dict):
        write_tensors(path, "pyro_mfcvae", header, tensors)
    else:
        save_file(tensors, path, metadata={"pyro_mfcvae": header})


def lose_tensor(header, tensors):
    tensors.pop("priors.0.loc")
    return header


def reshape_tensor(header, tensors):
    tensors["priors.0.loc"] = torch.zeros(9, 9)
    return header


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, t: {**h, "version": 999}, r"version 999, expected one of \(1, 2, 3, 4\)"),
        (lambda h, t: {k: v for k, v in h.items() if k != "version"}, "not a whole pyro_mfcvae model"),
        (lambda h, t: {k: v for k, v in h.items() if k != "config"}, "not a whole pyro_mfcvae model"),
        (lambda h, t: "not JSON", "not a whole pyro_mfcvae model"),
        (lambda h, t: "[]", "not a whole pyro_mfcvae model"),
        (lambda h, t: {**h, "x_shape": 3}, "not a whole pyro_mfcvae model"),
        (lambda h, t: {**h, "history": [3]}, "not a whole pyro_mfcvae model"),
        (lambda h, t: {**h, "history": [{"loss": 3}]}, "not a whole pyro_mfcvae model"),
        (lambda h, t: {**h, "seed": "three"}, "not a whole pyro_mfcvae model"),
        (lambda h, t: {**h, "restarts": [3]}, "not a whole pyro_mfcvae model"),
        (lambda h, t: {**h, "restarts": {"three": 0.0}}, "not a whole pyro_mfcvae model"),
        (lambda h, t: {**h, "config": {"facets": []}}, "path: .*model"),
        (lose_tensor, r"not a whole pyro_mfcvae model.*priors\.0\.loc"),
        (reshape_tensor, r"not a whole pyro_mfcvae model.*priors\.0\.loc"),
    ],
)
def test_load_refuses_a_changed_file(fitted, tmp_path, change, message):
    path = tmp_path / "model"
    fitted.save(path)
    rewritten(path, change)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load(path)


@pytest.mark.parametrize("kind", ["empty", "garbage", "truncated", "header only", "foreign"])
def test_load_refuses_other_files(fitted, tmp_path, kind):
    path = tmp_path / "model"
    fitted.save(path)
    whole = path.read_bytes()
    content = {
        "empty": b"",
        "garbage": bytes(range(256)) * 20,
        "truncated": whole[:-10],
        "header only": whole[:100],
    }
    if kind == "foreign":
        save_file({"weight": torch.zeros(3)}, path)
    else:
        path.write_bytes(content[kind])
    with pytest.raises(ValueError, match=r"path: .*model.*load what FittedMFCVAE\.save wrote"):
        load(path)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_load_names_an_unknown_device(fitted, tmp_path, device):
    fitted.save(tmp_path / "model")
    with pytest.raises(ValueError, match=rf"device: '{device}'"):
        load(tmp_path / "model", device=device)


# --- what it refuses ----------------------------------------------------------------------------


def with_value(value):
    x = VECTORS.copy()
    x[3, 1] = value
    return x


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (with_value(np.nan), "dataset: got NaN or infinity .* row 3"),
        (with_value(np.inf), "dataset: got infinity .* row 3"),
        (with_value(-0.1), r"dataset: values from -0\.1 .* Bernoulli"),
        (with_value(1.1), r"dataset: values from .* to 1\.1.* Bernoulli"),
        (VECTORS[:0], "dataset: got no data"),
        ([], "dataset: got no data"),
        (VECTORS[0], "dataset: got shape"),
        (VECTORS[:2], "dataset: got 2 data, expected at least .* 3"),
    ],
)
def test_bad_data(make_config, x, message):
    with pytest.raises(ValueError, match=message):
        quick(x, make_config())


@pytest.mark.parametrize("x", [None, 3, {"x": VECTORS}, VECTORS.astype(str)])
def test_data_of_another_kind(make_config, x):
    with pytest.raises(TypeError, match="dataset"):
        quick(x, make_config())


@pytest.mark.parametrize("config", ["mnist", presets.mnist, {"facets": ()}, Facet(3, 2)])
def test_a_configuration_of_another_kind(config):
    with pytest.raises(TypeError, match=r"config: got .* expected an MFCVAEConfig"):
        quick(VECTORS, config)


def test_a_preset_is_called():
    message = r"^config: got tabular itself, expected an MFCVAEConfig, such as presets.mnist\(\); call it$"
    with pytest.raises(TypeError, match=message):
        quick(VECTORS, presets.tabular)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "nonsense"}, "device: 'nonsense' is not available"),
        ({"device": "cuda:99"}, "device: 'cuda:99' is not available"),
        ({"precision": "float16"}, "precision: got 'float16', expected one of"),
    ],
)
def test_bad_options(make_config, options, message):
    with pytest.raises(ValueError, match=message):
        quick(VECTORS, make_config(), **options)


@pytest.mark.parametrize(
    "method",
    ["predict", "predict_proba", "transform", "reconstruct", "score", lambda f, x: f.compose([x, x])],
)
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("x", [np.zeros((3, 7)), np.zeros((3, 2, 3)), np.full((3, 6), np.nan, np.float32)])
def test_data_of_another_shape(fitted, method, x, kind):
    call = method if callable(method) else getattr(FittedMFCVAE, method)
    with pytest.raises(ValueError, match=r"x: got data of shape|x: got NaN"):
        call(fitted, kind(x))


def test_one_datum_needs_a_dimension(fitted, pictures):
    with pytest.raises(ValueError, match=r"x.*shape"):
        fitted.predict(np.zeros(6))
    with pytest.raises(ValueError, match=r"x\[None\]"):
        pictures[0].predict(np.zeros((4, 4)))


def test_score_wants_data_that_the_likelihood_allows(pictures):
    with pytest.raises(ValueError, match="x: values from 3 to 3, but the Bernoulli"):
        pictures[0].score(np.full((2, 1, 4, 4), 3.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clusters": {2: 0}}, r"clusters: got \{2: 0\}, expected a facet of 0 \.\. 1"),
        ({"clusters": {-1: 0}}, r"clusters: got \{-1: 0\}"),
        ({"clusters": {0: 4}}, r"clusters: got \{0: 4\}.*\(4, 3\)"),
        ({"clusters": {0: -1}}, r"clusters: got \{0: -1\}"),
        ({"n": 0}, "n: got 0"),
        ({"n": 2.5}, "n: got 2.5"),
        ({"temperature": -1.0}, "temperature: got -1.0"),
        ({"temperature": float("nan")}, "temperature: got nan"),
    ],
)
def test_bad_samples(fitted, arguments, message):
    with pytest.raises(ValueError, match=message):
        fitted.sample(**{"n": 3, **arguments})


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([np.zeros((3, 6))], "got 1 inputs, expected one for each of 2"),
        ([np.zeros((3, 6))] * 3, "got 3 inputs"),
        ([np.zeros((3, 6)), np.zeros((4, 6))], r"lengths \[3, 4\]"),
    ],
)
def test_bad_compositions(fitted, x, message):
    with pytest.raises(ValueError, match=message):
        fitted.compose(x)


def test_evaluate_wants_as_many_labels(fitted, blobs):
    with pytest.raises(ValueError, match=r"^clusters: got .* rows and .* of labels"):
        fitted.evaluate(blobs[0], blobs[1][:10])


# --- digits -------------------------------------------------------------------------------------


def mnist_arrays(root, train):
    data = mf.data.mnist(root, train=train)
    return data.x, data.labels[:, 0].numpy()


def test_mnist():
    root = os.environ.get("PYRO_MFCVAE_DATA")
    if not root:
        pytest.skip("PYRO_MFCVAE_DATA does not name the folder of MNIST")
    images, labels = (array[:2_000] for array in mnist_arrays(root, train=True))
    test_images, test_labels = (array[:1_000] for array in mnist_arrays(root, train=False))
    config = MFCVAEConfig(
        facets=(Facet(25, 5), Facet(25, 5)),
        network=mf.networks.FullyConnectedLadder(widths=(128, 256)),
        schedule=Schedule.progressive(2, epochs=(20, 6), warm_up_epochs=3, batch_size=64),
    )
    fitted = quick(images, config, seed=0)
    table = fitted.evaluate(test_images, test_labels, names=["digit"])
    assert table.score(-1, "digit") > 0.4
    assert purity(fitted.predict(images)[:, 1], labels) > 0.4
    assert table.alive[1] > 10
    assert fitted.score(images) > fitted.score(1 - images) + 50


def test_a_module_is_left_as_it_was(make_model, blobs):
    """Wrapping a module of one's own changes none of its modes, and predictions are in evaluation mode."""
    network = mf.networks.FullyConnectedLadder(widths=(8, 8), dropout=0.5, batch_norm=True)
    model = make_model(network=network)
    model.decoder.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    assert set(modes.values()) == {True, False}
    fitted = FittedMFCVAE(model, [])
    state = {name: value.clone() for name, value in model.state_dict().items()}
    x = blobs[0][:20]
    first = [*fitted.predict_proba(x), fitted.reconstruct(x), fitted.sample(3), fitted.compose([x, x])]
    again = [*fitted.predict_proba(x), fitted.reconstruct(x), fitted.sample(3), fitted.compose([x, x])]
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a, b)  # no dropout
    assert fitted.score(x) == fitted.score(x)
    assert np.array_equal(fitted.log_likelihood(x, 5), fitted.log_likelihood(x, 5))
    assert {name: module.training for name, module in model.named_modules()} == modes
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name  # no running average moved
    fitted.precision = "bfloat16"
    assert FittedMFCVAE(model, []).precision == "float32"
