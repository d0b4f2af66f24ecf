"""``elbo(model, guide)``: the loss as a module, for PyTorch's own optimisers."""

import pyro
import pyro.distributions as dist
import torch
from torch import nn

from pyro_mfcvae import FacetELBO


def test_it_has_the_parameters_of_the_model(model, x):
    loss = model.elbo()(model.model, model.guide)
    assert {id(p) for p in loss.parameters()} == {id(p) for p in model.parameters()}
    assert len(list(loss.parameters())) == len(list(model.parameters()))
    torch.manual_seed(1)
    value = loss(x)
    torch.manual_seed(1)
    assert value == model.elbo().differentiable_loss(model.model, model.guide, x)


def test_a_loop_of_pytorch_trains_it(model, x):
    loss = model.elbo()(model.model, model.guide)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.01)
    values = []
    for _ in range(20):
        optimizer.zero_grad()
        torch.manual_seed(0)
        value = loss(x)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0]


def test_the_state_goes_back(model, make_model, case, x):
    other = make_model(**case, seed=5)
    other.elbo()(other.model, other.guide).load_state_dict(
        model.elbo()(model.model, model.guide).state_dict()
    )
    for name, value in other.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


class Likelihood(nn.Module):
    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(self.loc, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)


class Encoder(Likelihood):
    def sample(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.loc + x / 2, 1.0), infer={"collapse_kl": True})


def test_model_and_guide_may_be_modules_methods_or_functions(x):
    likelihood, encoder = Likelihood(), Encoder()
    elbo = FacetELBO(max_plate_nesting=1)
    for programs, expected in (
        ((likelihood, encoder.sample), {likelihood.loc, encoder.loc}),
        ((likelihood.forward, encoder.sample), {likelihood.loc, encoder.loc}),
        ((likelihood, lambda x: encoder.sample(x)), {likelihood.loc}),
    ):
        loss = elbo(*programs)
        assert set(loss.parameters()) == expected
        loss(x[:, 0]).backward()
