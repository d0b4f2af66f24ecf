"""On other processors, which environment variables simulate, a model says the same to rounding."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from pyro_mfcvae import FittedMFCVAE, load

KERNELS = (
    {"ATEN_CPU_CAPABILITY": "default"},
    {"ATEN_CPU_CAPABILITY": "avx2"},
    {"MKL_CBWR": "COMPATIBLE"},
    {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"OMP_NUM_THREADS": "2"},
)
PROGRAM = """
import sys
import numpy as np
import pyro_mfcvae as mf

model, data, out = sys.argv[1:]
fitted, x = mf.load(model), np.load(data)
np.savez(out, *fitted.predict_proba(x), *fitted.transform(x), fitted.reconstruct(x), fitted.score(x))
"""


def outputs(fitted, x):
    return [*fitted.predict_proba(x), *fitted.transform(x), fitted.reconstruct(x), fitted.score(x)]


@pytest.mark.parametrize("kernels", KERNELS, ids=lambda kernels: "=".join(*kernels.items()))
def test_other_kernels_say_the_same_to_rounding(kernels, make_model, tmp_path):
    x = np.random.default_rng(0).random((700, 6)).astype(np.float32)
    FittedMFCVAE(make_model(K=5, D=3, width=64, prior="full_gaussian"), []).save(tmp_path / "model")
    np.save(tmp_path / "x.npy", x)
    files = [str(tmp_path / name) for name in ("model", "x.npy", "out.npz")]
    environment = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS",)}
    subprocess.run([sys.executable, "-c", PROGRAM, *files], env=environment | kernels, check=True)
    with np.load(files[2]) as arrays:
        theirs = [arrays[f"arr_{i}"] for i in range(len(arrays.files))]
    ours = outputs(load(tmp_path / "model"), x)
    for a, b in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.portable
def test_the_kernels_are_those_asked_for():
    """So that a run of the tests under other kernels is one."""
    asked = os.environ.get("ATEN_CPU_CAPABILITY")
    if asked is not None:
        assert torch.backends.cpu.get_cpu_capability() == asked.upper()
