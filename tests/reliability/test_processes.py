"""Processes beside a training: forked ones compute, and a folder of checkpoints has one owner at a time."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from attacks import blobs, tiny
from forks import ended, forked

import pyro_mfcvae as mf
from pyro_mfcvae._utils.files import alone_in

X = blobs(200)[0]

FORK = """
import os, sys
import numpy as np, torch
torch.set_num_threads(2)
import pyro_mfcvae as mf
x = np.random.default_rng(0).normal(size=(200, 4))
config = mf.presets.tabular(facets=(mf.Facet(3, 2),), schedule=mf.Schedule.progressive(1, epochs=2))
fitted = mf.fit(x, config, progress=False)
expected = fitted.predict(x)
if os.fork() == 0:
    ok = (fitted.predict(x) == expected).all() and (mf.fit(x, config, progress=False).predict(x) >= 0).all()
    os._exit(0 if ok else 3)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_process_forked_after_a_fit_of_two_threads_computes():
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    assert subprocess.run(command, timeout=120, check=False).returncode == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_folder_of_checkpoints_has_one_owner(tmp_path):
    (tmp_path / "run").mkdir()
    reader, writer = os.pipe()
    go, gone = os.pipe()

    def own():
        with alone_in(tmp_path / "run"):
            os.write(writer, b"!")
            os.read(go, 1)

    pid = forked(own)
    os.read(reader, 1)
    with pytest.raises(ValueError, match=r"checkpoint_dir: .* another"):
        mf.fit(X, tiny(), checkpoint_dir=tmp_path / "run", progress=False)
    os.write(gone, b"!")
    assert ended(pid) == 0
    mf.fit(X, tiny(), checkpoint_dir=tmp_path / "run", progress=False)
    for end in (reader, writer, go, gone):
        os.close(end)


def test_a_pickled_model_is_the_same():
    fitted = mf.fit(X, tiny(), progress=False)
    other = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(other.predict_proba(X)[0], fitted.predict_proba(X)[0])
    assert other.score(X) == fitted.score(X)
