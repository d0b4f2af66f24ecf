"""A training run that is killed at any moment goes on as if nothing had been, and leaves nothing behind."""

import os
import select
import signal
import time

import numpy as np
import pytest
import torch
from attacks import blobs, tiny
from forks import assert_same_fit, ended, forked

import pyro_mfcvae as mf
from pyro_mfcvae._utils import files
from pyro_mfcvae.training import checkpoints

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

X = blobs(200)[0]
CONFIG = tiny(J=2, epochs=3, fade_in_steps=2, held_out=0.2)
WRITES = 6  # of a run, one an epoch
PLACES = ("created", "half written", "fsync", "replace", "replaced", "done")  # of a write, in their order
NAME = "seed_0.checkpoint"


def train(folder=None):
    return mf.fit(X, CONFIG, checkpoint_dir=folder, progress=False)


def train_with_pauses(folder, place, number, ready):
    """Train, and stop in the middle of one of the writes until the process is killed."""
    seen = dict.fromkeys(PLACES, 0)
    make_partial, fsync, replace, sync = files._partial, os.fsync, os.replace, files._sync_folder

    def reach(here):
        seen[here] += 1
        if here == place and seen[here] > number:
            os.write(ready, b"!")
            time.sleep(60)

    def partial(path):
        file = make_partial(path)
        reach("created")
        write = file.write

        def in_halves(data):
            write(data[: len(data) // 2])
            file.flush()
            reach("half written")
            return write(data[len(data) // 2 :])

        file.write = in_halves
        return file

    def pausing(function, before, after=None):
        def call(*arguments):
            if seen["created"]:  # else it is the folder that is tried
                reach(before)
            function(*arguments)
            if after:
                reach(after)

        return call

    files._partial, files._sync_folder = partial, pausing(sync, "done")
    os.fsync, os.replace = pausing(fsync, "fsync"), pausing(replace, "replace", "replaced")
    train(folder)


def kill_in_write(folder, place, number):
    """Kill a run in one of its writes; whether it got there."""
    reader, writer = os.pipe()
    pid = forked(train_with_pauses, folder, place, number, writer)
    os.close(writer)
    select.select([reader], [], [], 60)  # ready, or at its end
    is_there = os.read(reader, 1) == b"!"
    os.close(reader)
    os.kill(pid, signal.SIGKILL)
    return ended(pid) == -signal.SIGKILL and is_there


def kill_after(folder, seconds):
    """Kill a run after some time; whether it had not ended before."""
    pid = forked(train, folder)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return ended(pid) == -signal.SIGKILL


def kill_and_resume(number, folder, monkeypatch):
    """Kill runs so many times, some again when they went on; how many were in writes, and left a file."""
    rng = np.random.default_rng(number)
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as every forked process has
    try:
        train()
        expected, start = train(), time.monotonic()
        train(folder / "clean")
        seconds = time.monotonic() - start
        clean = os.listdir(folder / "clean")
        kills, in_writes, found, runs = 0, 0, 0, 0
        here = folder / "0"
        while kills < number or here.exists():
            if kills < number:
                if kills % 2:
                    was_killed = kill_after(here, rng.uniform(0, seconds))
                else:
                    was_killed = kill_in_write(here, PLACES[rng.integers(6)], int(rng.integers(WRITES)))
                if not was_killed:  # it had ended: another
                    here = folder / f"{here.name}-"
                    continue
                kills += 1
                left = os.listdir(here) if here.exists() else []
                in_writes += any(name.endswith(files.PARTIAL) for name in left) or kills % 2
                if NAME in left:  # whole, whenever it was
                    found += 1
                    assert 0 < len(mf.load(here / NAME).history) <= WRITES
            if kills == number or rng.random() < 0.7:
                assert_same_fit(train(here), expected)
                assert os.listdir(here) == clean == [NAME]
                runs += 1
                here = folder / str(runs)
    finally:
        torch.set_num_threads(before)
    return in_writes, found, runs


def test_a_killed_run_goes_on_bit_for_bit(monkeypatch, tmp_path):
    in_writes, _, runs = kill_and_resume(4, tmp_path, monkeypatch)
    assert in_writes >= 2
    assert runs >= 1


@pytest.mark.slow
def test_a_hundred_killed_runs_go_on_bit_for_bit(monkeypatch, tmp_path):
    in_writes, found, runs = kill_and_resume(100, tmp_path, monkeypatch)
    print(f"100 kills, {in_writes} in writes, {found} with a checkpoint, {runs} runs finished")
    assert in_writes >= 50
    assert found >= 30
    assert runs >= 40
