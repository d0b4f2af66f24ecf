"""Clusters and latents that are known, by ``pyro.condition``, or set, by ``pyro.do``."""

import pyro
import pytest
import torch
from pyro import poutine


def elbo_of(model, program, x, guide=None):
    torch.manual_seed(1)
    return -torch.tensor(model.elbo().loss(program, guide or model.guide, x))


@pytest.mark.parametrize("facet", [0, 1])
def test_known_clusters_make_up_the_elbo(model, x, facet):
    """The ELBO of a datum is the log-sum-exp of those with each of its clusters known."""
    K = model.config.facets[facet].clusters
    for datum in x.split(1):
        known = [
            elbo_of(model, pyro.condition(model.model, {f"c_{facet}": torch.tensor([k])}), datum)
            for k in range(K)
        ]
        expected = torch.stack(known).logsumexp(0)
        torch.testing.assert_close(elbo_of(model, model.model, datum), expected, rtol=1e-4, atol=1e-4)


def test_a_cluster_that_is_set_costs_nothing(model, x):
    """Between what is known and what is set lies log p(c), which sums to one."""
    K = model.config.facets[0].clusters
    log_pi = []
    for k in range(K):
        value = {"c_0": torch.tensor([k])}
        known, done = (
            elbo_of(model, handler(model.model, value), x[:1]) for handler in (pyro.condition, pyro.do)
        )
        log_pi.append(known - done)
    assert torch.stack(log_pi).exp().sum().item() == pytest.approx(1, abs=1e-3)


def test_responsibilities_of_the_other_facets_stay(model, x):
    elbo = model.elbo()
    torch.manual_seed(1)
    before = elbo.responsibilities(model.model, model.guide, x)
    known = pyro.condition(model.model, {"c_0": torch.zeros(5, dtype=torch.long)})
    torch.manual_seed(1)
    after = elbo.responsibilities(known, model.guide, x)
    assert set(after) == set(before) - {"c_0"}
    for name, r in after.items():
        torch.testing.assert_close(r, before[name])


def test_a_known_latent(model, x):
    """It leaves the guide, and its facet becomes the density of a mixture."""
    z = torch.zeros(5, model.config.facets[0].latent_dim)
    known = pyro.condition(model.model, {"z_0": z})
    guide = poutine.block(model.guide, hide=["z_0"])
    trace = poutine.trace(poutine.replay(known, poutine.trace(guide).get_trace(x))).get_trace(x)
    assert trace.nodes["z_0"]["value"] is z
    assert elbo_of(model, known, x, guide).isfinite()


def test_data_of_a_cluster_that_is_set(model):
    c = torch.tensor([0, 1, 1, 0])
    trace = poutine.trace(pyro.do(model.model, {"c_0": c})).get_trace(None, data_size=4)
    component = trace.nodes["z_0"]["fn"].mean
    assert torch.equal(component[0], component[3])
    assert torch.equal(component[1], component[2])
    assert not torch.equal(component[0], component[1])
    assert trace.nodes["x"]["value"].shape == (4, 6)
