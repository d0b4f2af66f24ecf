"""Optimisers of ``pyro.optim`` that know every parameter by its name, once ``pyro.module`` has told them."""

import copy

import pyro
import pytest
import torch
from pyro.infer import SVI

from pyro_mfcvae import FacetELBO


@pytest.fixture
def named(model):
    pyro.module("mfcvae", model)
    return model


def steps(model, optimizer, x, number=3):
    svi = SVI(model.model, model.guide, optimizer, model.elbo())
    for step in range(number):
        torch.manual_seed(step)
        svi.step(x)


def test_options_for_each_parameter(named, x):
    before = copy.deepcopy(named.state_dict())
    asked = []

    def options(name):
        asked.append(name)
        return {"lr": 0.0 if name.startswith("mfcvae.priors.") else 0.01}

    steps(named, pyro.optim.Adam(options), x)
    assert sorted(asked) == sorted(f"mfcvae.{name}" for name, _ in named.named_parameters())
    for name, parameter in named.named_parameters():
        assert torch.equal(parameter, before[name]) == name.startswith("priors."), name


def test_clipping_for_each_parameter(named, x):
    before = copy.deepcopy(named.state_dict())

    def clip(module, name):
        assert module == "mfcvae"
        return {"clip_norm": 1e-6} if name.startswith("encoder.") else {}

    steps(named, pyro.optim.SGD({"lr": 1.0}, clip), x, number=1)
    for name, parameter in named.named_parameters():
        if name.startswith("encoder."):
            assert (parameter - before[name]).norm() < 2e-6, name


def test_the_state_has_a_name_for_each_parameter(named, x):
    optimizer = pyro.optim.Adam({"lr": 0.01})
    steps(named, optimizer, x)
    state = optimizer.get_state()
    assert set(state) == {f"mfcvae$$${name}" for name, _ in named.named_parameters()}
    for name, parameter in named.named_parameters():
        assert state[f"mfcvae$$${name}"]["state"][0]["exp_avg"].shape == parameter.shape


def test_training_goes_on_from_a_saved_state(named, x, tmp_path):
    optimizer = pyro.optim.Adam({"lr": 0.01})
    steps(named, optimizer, x)
    optimizer.save(str(tmp_path / "optimizer"))
    weights = copy.deepcopy(named.state_dict())
    steps(named, optimizer, x)
    expected = copy.deepcopy(named.state_dict())

    pyro.clear_param_store()  # as in another process
    again = copy.deepcopy(named)
    again.load_state_dict(weights)
    pyro.module("mfcvae", again)
    optimizer = pyro.optim.Adam({"lr": 0.01})
    optimizer.load(str(tmp_path / "optimizer"))
    steps(again, optimizer, x)
    for name, value in again.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert not torch.equal(next(again.parameters()), weights[next(iter(weights))])


def test_two_models_have_names_of_their_own(named, make_model, x):
    other = make_model(J=1)
    pyro.module("other", other)
    optimizer = pyro.optim.Adam({"lr": 0.01})
    for model in (named, other):
        steps(model, optimizer, x)
    names = [name for name in optimizer.get_state() if name.startswith("other$$$")]
    assert len(names) == len(list(other.parameters()))
    assert len(optimizer.get_state()) == len(names) + len(list(named.parameters()))


def test_a_program_that_registers_the_model_itself(model, x):
    """In the manner of Pyro's tutorials."""

    def program(x):
        pyro.module("mfcvae", model)
        return model.model(x)

    optimizer = pyro.optim.Adam({"lr": 0.01})
    SVI(program, model.guide, optimizer, FacetELBO(max_plate_nesting=1)).step(x)
    assert set(optimizer.get_state()) == {f"mfcvae$$${name}" for name, _ in model.named_parameters()}


def test_the_store_stays_as_it_is_unless_asked(model, x):
    steps(model, pyro.optim.Adam({"lr": 0.01}), x)
    assert len(pyro.get_param_store()) == 0
