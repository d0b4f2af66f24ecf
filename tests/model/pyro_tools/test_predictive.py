"""Samples of the prior and of the posterior by ``pyro.infer.Predictive``."""

import pytest
import torch
from pyro.infer import Predictive


@pytest.fixture(params=[True, False])
def parallel(request):
    return request.param


def test_prior_predictive(model, parallel):
    samples = Predictive(model.model, num_samples=4, parallel=parallel)(None, data_size=3)
    assert samples["x"].shape == (4, 3, 6)
    assert set(samples["x"].unique().tolist()) <= {0.0, 1.0}
    for j, facet in enumerate(model.config.facets):
        assert samples[f"c_{j}"].shape == (4, 3)
        assert samples[f"c_{j}"].max() < facet.clusters
        assert samples[f"z_{j}"].shape == (4, 3, facet.latent_dim)


def test_posterior_predictive(model, x, parallel):
    number = 1_000 if parallel else 50
    samples = Predictive(model.model, guide=model.guide, num_samples=number, parallel=parallel)(x)
    assert samples["x"].shape == (number, 5, 6)
    for name, q in zip(model.latent_sites, model.encode(x), strict=True):
        error = (samples[name].mean(0) - q.mean) / (q.stddev / number**0.5)
        assert error.abs().max() < 5


def test_the_data_of_given_clusters(model, parallel):
    """A facet's cluster decides on its latent, and the latents on the data."""
    given = {"c_0": torch.zeros(200, 2, dtype=torch.long)}
    samples = Predictive(model.model, given, parallel=parallel)(None, data_size=2)
    assert "c_0" not in samples
    z, component = samples["z_0"], model.facet_priors[0].component(torch.tensor(0))
    if "prior_0.means" in samples:  # shape (200, 1, K, D): each sample has a mixture of its own
        z = (z - samples["prior_0.means"][:, :, 0]) / samples["prior_0.scales"][:, :, 0]
        component = torch.distributions.Normal(torch.zeros(2), torch.ones(2))
    error = (z.mean((0, 1)) - component.mean) / (component.stddev / 400**0.5)
    assert error.abs().max() < 5
