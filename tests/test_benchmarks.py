"""The benchmarks run, and check what they compare; their figures are in tests/benchmarks/README.md."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "benchmarks"


def output(script, *arguments):
    command = [sys.executable, "-W", "ignore", str(FOLDER / script), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_step_time():
    lines = output("step_time.py", "--rounds", "2", "--settings", "tiny").splitlines()
    assert re.fullmatch(r"tiny .* ratio \d+\.\d{3} \(quartiles .*\)", lines[-1])


@pytest.mark.slow
def test_kl_forms():
    """The errors of the products are far below those of the direct form."""
    rows = [line.split() for line in output("kl_forms.py").splitlines()]
    errors = [
        (float(row[3]), float(row[4])) for row in rows if len(row) == 5 and row[0] in ("diagonal", "full")
    ]
    assert len(errors) == 10
    assert all(product < 1e-6 * direct for direct, product in errors)


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
