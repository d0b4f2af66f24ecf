"""Clusters by ``pyro.infer.infer_discrete``, given a sample of the guide."""

import pytest
import torch
from pyro import poutine
from pyro.infer import infer_discrete


def brute_force(model, latents, x):
    """log p(c_j, z_j) of every facet, shape (K_j, N), from the sites of the program."""
    joint = []
    for j, facet in enumerate(model.config.facets):
        rows = []
        for k in range(facet.clusters):
            c = torch.full((len(x),), k)
            given = poutine.condition(model.model, {**latents, f"c_{j}": c})
            trace = poutine.trace(given).get_trace(x)
            trace.compute_log_prob()
            rows.append(trace.nodes[f"c_{j}"]["log_prob"] + trace.nodes[f"z_{j}"]["log_prob"])
        joint.append(torch.stack(rows))
    return joint


def latents_of(model, x):
    trace = poutine.trace(model.guide).get_trace(x)
    known = set(poutine.trace(model.model).get_trace(x).stochastic_nodes) - {"data"}
    return {name: trace.nodes[name]["value"].detach() for name in trace.stochastic_nodes if name in known}


def inferred(model, latents, x, temperature):
    program = infer_discrete(
        poutine.condition(model.model, latents), first_available_dim=-2, temperature=temperature
    )
    return poutine.trace(program).get_trace(x)


@pytest.mark.parametrize("N", [1, 5])
def test_the_most_probable_clusters(model, x, N):
    x = x[:N]
    latents = latents_of(model, x)
    trace = inferred(model, latents, x, temperature=0)
    for j, joint in enumerate(brute_force(model, latents, x)):
        assert torch.equal(trace.nodes[f"c_{j}"]["value"].reshape(N), joint.argmax(0))


def test_samples_of_clusters(model, x):
    """As often as p(c | z) says."""
    x = x[:2].repeat(500, 1)
    latents = latents_of(model, x[:2])
    for name in model.latent_sites:
        latents[name] = latents[name].repeat(500, 1)
    trace = inferred(model, latents, x, temperature=1)
    for j, joint in enumerate(brute_force(model, latents, x)):
        expected = joint.softmax(0)[:, :2].T
        c = trace.nodes[f"c_{j}"]["value"].reshape(500, 2)
        often = torch.stack([(c == k).float().mean(0) for k in range(len(joint))], 1)
        assert (often - expected).abs().max() < 0.1
