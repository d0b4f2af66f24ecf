"""Pyro's just-in-time compiler, which finds parameters by their names in the store."""

import pyro
import pytest
import torch
from pyro.infer import SVI, JitTraceEnum_ELBO, TraceEnum_ELBO

from pyro_mfcvae import FacetELBO

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit")  # PyTorch has deprecated it


class JitFacetELBO(FacetELBO, JitTraceEnum_ELBO):
    """As the documentation of FacetELBO says."""


@pytest.fixture(params=[(JitTraceEnum_ELBO, TraceEnum_ELBO), (JitFacetELBO, FacetELBO)])
def elbos(request):
    compiled, plain = request.param
    return compiled(max_plate_nesting=1, ignore_jit_warnings=True), plain(max_plate_nesting=1)


def test_loss_and_gradients_are_those_without_it(model, x, elbos):
    pyro.module("mfcvae", model)
    programs = model.model, model.guide  # Pyro compiles again for other objects
    elbos[0].differentiable_loss(*programs, x)
    other = x.flip(0) * 0.9
    results = []
    for elbo in elbos:
        model.zero_grad()
        torch.manual_seed(1)
        loss = elbo.differentiable_loss(*programs, other)
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_it_trains(model, x, elbos):
    pyro.module("mfcvae", model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    svi = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 0.01}), elbos[0])
    losses = []
    for _ in range(10):
        torch.manual_seed(0)
        losses.append(svi.step(x))
    assert losses[-1] < losses[1]  # the first is of other samples, for it compiles
    still = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
    assert still == set()
