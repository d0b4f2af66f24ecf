"""A run that is interrupted gives back what it learned; a disk that is full does not end it."""

import errno
import os

import numpy as np
import pytest
import torch
from attacks import blobs, tiny
from forks import assert_same_fit, records

import pyro_mfcvae as mf
from pyro_mfcvae.training import checkpoints
from pyro_mfcvae.training.checkpoints import CheckpointWarning
from pyro_mfcvae.training.monitor import Monitor

X = blobs(200)[0]
CONFIG = tiny(epochs=6, batch_size=50)


def stop(monkeypatch, after, error):
    """Raise an error at the end of the epoch after so many."""
    record, seen = Monitor.record, []

    def interrupted(self, **fields):
        seen.append(1)
        if len(seen) > after:
            raise error
        return record(self, **fields)

    monkeypatch.setattr(Monitor, "record", interrupted)


@pytest.mark.parametrize("keeps", [False, True])
def test_ctrl_c_leaves_the_model_so_far(keeps, monkeypatch, tmp_path):
    expected = mf.fit(X, CONFIG, progress=False)
    folder = tmp_path / "run" if keeps else None
    with monkeypatch.context() as patch:
        stop(patch, 4, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt) as caught:
            mf.fit(X, CONFIG, checkpoint_dir=folder, progress=False)
    fitted = caught.value.fitted
    assert records(fitted) == records(expected)[:4]
    fitted.save(tmp_path / "model")
    np.testing.assert_array_equal(mf.load(tmp_path / "model").predict(X), fitted.predict(X))
    if keeps:
        assert_same_fit(mf.fit(X, CONFIG, checkpoint_dir=folder, progress=False), expected)


def test_ctrl_c_before_anything_was_learned_leaves_none(monkeypatch):
    stop(monkeypatch, 0, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        mf.fit(X, CONFIG, progress=False)
    assert caught.value.fitted is None


@pytest.mark.parametrize("unit", [1e8, 1e12, 1e17])
def test_units_that_no_learning_rate_mends_are_said_before_training(unit):
    config = tiny(likelihood=mf.likelihoods.Gaussian())
    with pytest.raises(FloatingPointError, match=r"cannot begin: .* give them in other units, or .* that"):
        mf.fit(X * unit, config, progress=False)
    mf.fit(X * unit, tiny(), progress=False)


def test_a_full_disk_is_said_and_the_run_goes_on(monkeypatch, tmp_path):
    expected = mf.fit(X, CONFIG, progress=False)
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    fsync, written = os.fsync, []

    def full(descriptor):
        written.append(1)
        if len(written) in (4, 5):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(CheckpointWarning, match="could not be written .*No space left.* the run goes on"):
        fitted = mf.fit(X, CONFIG, checkpoint_dir=tmp_path / "run", progress=False)
    assert_same_fit(fitted, expected)
    assert os.listdir(tmp_path / "run") == ["seed_0.checkpoint"]


def test_a_full_disk_leaves_the_old_file_whole(monkeypatch, tmp_path):
    fitted = mf.fit(X, tiny(), progress=False)
    fitted.save(tmp_path / "model")
    other = mf.fit(X, tiny(), seed=1, progress=False)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            other.save(tmp_path / "model")
    assert os.listdir(tmp_path) == ["model"]
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            mf.load(tmp_path / "model").model.state_dict().values(),
            fitted.model.state_dict().values(),
            strict=True,
        )
    )


def test_a_folder_that_cannot_be_written_is_noticed_before_training(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"checkpoint_dir: got .*, where a file is in the way"):
            mf.fit(X, CONFIG, checkpoint_dir=folder, progress=False)
    with pytest.raises(OSError, match="checkpoint_dir: got '/proc/kept'"):
        mf.fit(X, CONFIG, checkpoint_dir="/proc/kept", progress=False)
