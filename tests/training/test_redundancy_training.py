"""Training with a charge for facets that depend on each other, and what the history says of it."""

import dataclasses
import math

import pytest
import torch

from pyro_mfcvae import MFCVAE, MFCVAEConfig, Schedule, Stage, load
from pyro_mfcvae.likelihoods import Gaussian
from pyro_mfcvae.model import mfcvae
from pyro_mfcvae.model.redundancy import redundancy
from pyro_mfcvae.networks import FullyConnectedShared
from pyro_mfcvae.results import FittedMFCVAE
from pyro_mfcvae.training import train

# The same programs, but through Pyro.
THROUGH_PYRO = type("ThroughPyro", (MFCVAE,), {"guide": lambda self, *a, **k: MFCVAE.guide(self, *a, **k)})


@pytest.fixture
def x():
    """A ring, the coordinates of which have no correlation and still depend on each other."""
    angle = 2 * math.pi * torch.rand(300, 1, generator=torch.Generator().manual_seed(0))
    return torch.cat([angle.cos(), angle.sin()], 1).repeat(1, 3)


def trained(config, x, kind=MFCVAE):
    torch.manual_seed(0)
    model = kind(config, (6,))
    return model, train(model, x, seed=0, progress=False)


def charged(make_config, weight, epochs=3, **fields):
    schedule = Schedule.joint(2, epochs=epochs, batch_size=100, learning_rate=0.02, redundancy_weight=weight)
    network = FullyConnectedShared(widths=(16,))
    return make_config(D=1, schedule=schedule, network=network, likelihood=Gaussian(sigma=0.2), **fields)


def test_without_a_weight_nothing_is_computed(make_config, x, monkeypatch):
    """The same parameters, where training has no such function at all."""
    config = charged(make_config, 0.0)
    expected, _ = trained(config, x)
    monkeypatch.delattr(mfcvae, "redundancy")
    model, _ = trained(config, x)
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    with pytest.raises(NameError):
        trained(charged(make_config, 1.0), x)


def test_a_weight_makes_facets_depend_less(make_config, x):
    histories = [trained(charged(make_config, weight, epochs=15), x)[1] for weight in (0.0, 100.0)]
    free, less = (sum(record.redundancy for record in history[-5:]) / 5 for history in histories)
    assert free > 0.08
    assert less < free / 2


@pytest.mark.parametrize("nuisance", [0, 2])
def test_through_the_programs_it_is_the_same(make_config, x, nuisance):
    config = charged(make_config, 20.0, nuisance=nuisance)
    histories = [trained(config, x, kind)[1] for kind in (MFCVAE, THROUGH_PYRO)]
    for plain, other in zip(*histories, strict=True):
        assert other.loss == pytest.approx(plain.loss, rel=1e-3)
        assert other.redundancy == pytest.approx(plain.redundancy, abs=1e-2)


def test_the_history_has_the_redundancy_of_the_facets_that_take_part(make_config, x):
    """At samples, of the facets alone; of one there is none."""
    stages = (Stage((2,), 1), Stage((0,), 1, fade_in_steps=9), Stage((1,), 1))
    model, history = trained(make_config(J=3, nuisance=2, schedule=Schedule(stages)), x)
    assert [record.redundancy is None for record in history] == [True, False, False]
    assert history[1].redundancy <= 1
    with torch.no_grad():
        z = [q.sample() for q in model.encode(x)[:3]]
        assert history[2].redundancy == pytest.approx(redundancy(z).item(), abs=0.05)


def test_it_is_saved_with_the_model(make_config, x, tmp_path):
    config = charged(make_config, 20.0, epochs=1)
    assert MFCVAEConfig.from_json(config.to_json()) == config
    assert config.stages[0].redundancy_weight == 20.0
    model, history = trained(config, x)
    FittedMFCVAE(model, history).save(tmp_path / "model")
    assert load(tmp_path / "model").history == history
    old = [dataclasses.replace(record, redundancy=None) for record in history]
    FittedMFCVAE(model, old).save(tmp_path / "old")
    assert load(tmp_path / "old").history[0].redundancy is None
