"""What several test files share: tiny configurations, tiny models, and data with two partitions."""

import dataclasses
import os
import sys

import matplotlib
import numpy as np
import pyro
import pytest
import torch
from hypothesis import HealthCheck, settings

from pyro_mfcvae import MFCVAE, Facet, MFCVAEConfig, Schedule
from pyro_mfcvae.networks import FullyConnectedLadder

# Tests run in as many processes as there are cores, and so do not need threads.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start, too
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _fresh():
    """No test sees the random state or the parameter store of another."""
    torch.manual_seed(0)
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


def _make_config(J=2, K=3, D=2, width=8, **fields):
    clusters = (K,) * J if isinstance(K, int) else K
    latent_dims = (D,) * J if isinstance(D, int) else D
    prior = fields.pop("prior", "diagonal_gaussian")
    stage = {
        name: fields.pop(name)
        for name in ("epochs", "batch_size", "learning_rate", "warm_up_epochs", "fade_in_steps", "freeze")
        if name in fields
    }
    defaults = {
        "facets": tuple(Facet(k, d, prior) for k, d in zip(clusters, latent_dims, strict=True)),
        "network": FullyConnectedLadder(widths=(width,) * (J + bool(fields.get("nuisance")))),
        "schedule": Schedule.progressive(J, **{"epochs": 2, "batch_size": 32, **stage}),
    }
    return MFCVAEConfig(**{**defaults, **fields})


def _make_model(J=2, K=3, D=2, width=8, x_shape=(6,), spread=1.0, seed=0, **fields):
    """A model whose mixtures have different components, so that nothing is symmetric by accident."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MFCVAE(_make_config(J, K, D, width, **fields), x_shape)
        with torch.no_grad():
            for prior in model.facet_priors:
                for parameter in prior.parameters():
                    parameter.copy_(spread * torch.randn_like(parameter))
    return model


@pytest.fixture
def nothing_global(monkeypatch):
    """Matplotlib's settings stay as they are, and pyplot is not imported."""
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # so that importing it is an error
    # Reading the backend would import pyplot to choose one.
    names = set(matplotlib.rcParams) - {"backend"}
    before = {name: matplotlib.rcParams[name] for name in names}
    yield
    assert {name: matplotlib.rcParams[name] for name in names} == before


@pytest.fixture(scope="session")
def make_config():
    """(J, K, D, width, **fields of MFCVAEConfig or Stage) -> MFCVAEConfig."""
    return _make_config


@pytest.fixture(scope="session")
def make_model():
    """(J, K, D, width, x_shape, spread, seed, **fields of the configuration) -> MFCVAE."""
    return _make_model


@pytest.fixture(scope="session")
def blobs():
    """Data (300, 6) in [0, 1] with 3 clusters in the first three columns and 2 in the others."""
    rng = np.random.default_rng(0)
    y = np.stack([rng.integers(0, 3, 300), rng.integers(0, 2, 300)], axis=1)
    centres = 0.1 + 0.8 * np.eye(3)[y[:, 0]], 0.2 + 0.6 * np.eye(2)[y[:, 1]][:, [0, 1, 1]]
    x = np.concatenate(centres, axis=1) + rng.normal(scale=0.02, size=(300, 6))
    return x.astype(np.float32), y


@pytest.fixture(scope="session")
def with_stages():
    """(config, **fields of Stage) -> the configuration with these fields in every stage."""

    def change(config, **fields):
        stages = tuple(dataclasses.replace(stage, **fields) for stage in config.stages)
        return dataclasses.replace(config, schedule=Schedule(stages))

    return change
