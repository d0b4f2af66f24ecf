"""An automatic guide for what a user adds to the model, beside the guide of the model."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI
from pyro.infer.autoguide import AutoGuideList, AutoNormal

NOISE = torch.randn(5, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def program(model):
    """The model, and a mean of other data."""

    def program(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
        with pyro.plate("others", len(NOISE)):
            pyro.sample("y", dist.Normal(mean, 1.0), obs=NOISE + 3)
        return model.model(x)

    return program


def test_both_train(model, program, x):
    # The list opens the plates of what it is made of, and a guide that opens them must come alone.
    mean = poutine.block(program, expose=["mean"])
    guide = AutoGuideList(mean)
    guide.append(AutoNormal(mean, init_scale=0.3))
    guide.append(model.guide)
    before = copy.deepcopy(model.state_dict())
    svi = SVI(program, guide, pyro.optim.Adam({"lr": 0.2}), model.elbo())
    for _ in range(40):
        svi.step(x)
    precision = 5 + 0.01
    assert guide[0].locs.mean.item() == pytest.approx((NOISE + 3).sum().item() / precision, abs=0.5)
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name]), name
    trace = poutine.trace(guide).get_trace(x)
    assert {"mean", *model.latent_sites} <= set(trace.stochastic_nodes)
