"""Checkpoints that are damaged, forged, or of other work: refused, or the same run to the last bit."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from attacks import blobs, damaged, forged, tiny
from forks import assert_same_fit

import pyro_mfcvae as mf
from pyro_mfcvae.training import checkpoints
from pyro_mfcvae.training.checkpoints import FORMAT

X = blobs(200)[0]
CONFIG = tiny(J=2, epochs=2, batch_size=50)
NAME = "seed_0.checkpoint"
QUIET = {"progress": False}
pytestmark = pytest.mark.filterwarnings("ignore:training diverged", "ignore:.*dependent")


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """The checkpoint of a run after two of four epochs, and the run that was not interrupted."""
    folder = tmp_path_factory.mktemp("half")
    write, written = checkpoints.Checkpoint.write, []

    def keep(self, state_dict, is_due):
        write(self, state_dict, True)
        written.append(shutil.copy(self.path, folder / f"{len(written)}"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.Checkpoint, "write", keep)
        expected = mf.fit(X, CONFIG, checkpoint_dir=folder / "run", **QUIET)
    return Path(written[1]), expected


def resumed(content, folder):
    """Resume from a checkpoint; None if it is refused, as it should be where it is."""
    folder.mkdir(exist_ok=True)
    (folder / NAME).write_bytes(content)
    try:
        return mf.fit(X, CONFIG, checkpoint_dir=folder, **QUIET)
    except ValueError as error:
        if not str(error).startswith(f"checkpoint_dir: {folder / NAME} is "):
            raise
        return None


def attack(half, number, folder):
    """Resume from so many damaged checkpoints; how many were found out. The others are the same run."""
    rng = np.random.default_rng(0)
    whole, expected = half[0].read_bytes(), half[1]
    found = 0
    for _ in range(number):
        fitted = resumed(damaged(whole, rng)[1], folder)
        found += fitted is None
        if fitted is not None:
            assert_same_fit(fitted, expected)
    return found


def forge(half, number, folder):
    """Resume from so many checkpoints with a right digest and other content; how many were refused."""
    rng, refused = np.random.default_rng(1), 0
    for _ in range(number):
        forged(half[0], FORMAT, folder / "forged", rng)
        try:
            fitted = resumed((folder / "forged").read_bytes(), folder / "run")
        except FloatingPointError:  # a run may be forged to diverge
            continue
        refused += fitted is None
    return refused


def test_a_whole_one_goes_on(half, tmp_path):
    assert_same_fit(resumed(half[0].read_bytes(), tmp_path), half[1])


def test_damage_is_found(half, tmp_path):
    assert attack(half, 60, tmp_path) > 50


def test_forgeries_are_refused_or_end(half, tmp_path):
    assert forge(half, 25, tmp_path) > 5


@pytest.mark.slow
def test_a_thousand_checkpoints(half, tmp_path):
    found, refused = attack(half, 1_000, tmp_path), forge(half, 300, tmp_path)
    print(f"1000 damaged, {found} found; 300 forged, {refused} refused")
    assert found > 900


# --- other work ----------------------------------------------------------------------------------


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_file_of_the_same_shape_is_other_data(in_memory, tmp_path):
    for name, x in (("a", X), ("b", X + 1)):
        np.save(tmp_path / f"{name}.npy", x)
    options = {"in_memory": in_memory, "checkpoint_dir": tmp_path / "run", **QUIET}
    mf.fit(tmp_path / "a.npy", CONFIG, **options)
    with pytest.raises(ValueError, match="is of a run that differs in data"):
        mf.fit(tmp_path / "b.npy", CONFIG, **options)
    np.save(tmp_path / "a.npy", X[::-1])
    with pytest.raises(ValueError, match="is of a run that differs in data"):
        mf.fit(tmp_path / "a.npy", CONFIG, **options)


def test_one_datum_that_changed_is_other_data(tmp_path):
    mf.fit(X, CONFIG, checkpoint_dir=tmp_path, **QUIET)
    changed = X.copy()
    changed[77, 2] = np.nextafter(changed[77, 2], 9)
    with pytest.raises(ValueError, match="is of a run that differs in data"):
        mf.fit(changed, CONFIG, checkpoint_dir=tmp_path, **QUIET)


def _with(network=None, **stage):
    config = tiny(**stage)
    return mf.MFCVAEConfig(config.facets, config.likelihood, network or config.network, config.schedule)


def test_a_recipe_that_json_does_not_know_is_part_of_the_run(tmp_path):
    def network(width):
        return lambda x_shape, latent_dims: mf.networks.FullyConnectedLadder((width,))(x_shape, latent_dims)

    short = mf.fit(X, _with(network(8), epochs=2), checkpoint_dir=tmp_path, **QUIET)
    assert len(short.history) == 2
    same = mf.fit(X, _with(network(8), epochs=2), checkpoint_dir=tmp_path, **QUIET)
    assert_same_fit(same, short)
    for config in (_with(network(8), epochs=5), _with(network(9), epochs=2)):
        with pytest.raises(ValueError, match="is of a run that differs in config"):
            mf.fit(X, config, checkpoint_dir=tmp_path, **QUIET)


def test_fewer_epochs_than_were_trained_are_another_run(tmp_path):
    mf.fit(X, _with(epochs=8), checkpoint_dir=tmp_path, **QUIET)
    with pytest.raises(ValueError, match="is of a run that differs in config"):
        mf.fit(X, _with(epochs=3), checkpoint_dir=tmp_path, **QUIET)


def test_other_threads_are_another_run(tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        mf.fit(X, CONFIG, checkpoint_dir=tmp_path, **QUIET)
        torch.set_num_threads(2)
        with pytest.raises(ValueError, match=r"differs in threads \(1, here 2\)"):
            mf.fit(X, CONFIG, checkpoint_dir=tmp_path, **QUIET)
    finally:
        torch.set_num_threads(before)


def test_a_checkpoint_loads_as_the_model_so_far(half):
    fitted = mf.load(half[0])
    assert list(fitted.history) == list(half[1].history)[: len(fitted.history)]
    assert 0 < len(fitted.history) < 4
    assert fitted.predict(X).shape == (200, 2)
