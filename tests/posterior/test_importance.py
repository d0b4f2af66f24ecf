"""Importance-weighted log p(x): against exact values, brute force, and the ELBO below it."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from pyro_mfcvae import MFCVAE, Facet, FittedMFCVAE, MFCVAEConfig
from pyro_mfcvae.likelihoods import Gaussian
from pyro_mfcvae.posterior import importance
from pyro_mfcvae.posterior.importance import bounds, log_mixture, pareto_k

SIGMA = 0.6


class LinearDecoder(nn.Module):
    def __init__(self, x_dim, latent_dims):
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(D, x_dim) for D in latent_dims)

    def forward(self, z, fade_in):
        return sum(linear(z_j) for linear, z_j in zip(self.maps, z, strict=True))


class LinearEncoder(nn.Module):
    """Posterior of z under the moments of the prior, if q could have correlations, and a little wider."""

    def __init__(self, decoder, latent_dims):
        super().__init__()
        self.decoders, self.latent_dims, self.width = [decoder], latent_dims, 1.2
        self.register_buffer("prior_mean", torch.zeros(sum(latent_dims)))
        self.register_buffer("prior_covariance", torch.eye(sum(latent_dims)))

    def forward(self, x):
        W = torch.cat([linear.weight for linear in self.decoders[0].maps], 1)
        bias = sum(linear.bias for linear in self.decoders[0].maps)
        covariance = (self.prior_covariance.inverse() + W.T @ W / SIGMA**2).inverse()
        residual = x - bias - self.prior_mean @ W.T
        loc = self.prior_mean + residual @ W @ covariance / SIGMA**2
        scale = (self.width * covariance.diagonal().sqrt()).expand_as(loc)
        return list(zip(loc.split(self.latent_dims, -1), scale.split(self.latent_dims, -1), strict=True))


def linear_network(x_shape, latent_dims):
    decoder = LinearDecoder(x_shape[0], latent_dims)
    return LinearEncoder(decoder, latent_dims), decoder


def exact_components(model):
    """Of the Gaussian mixture that p(x) is: log weights, means and covariances, over all (c_0, .., c_J-1)."""
    maps = list(model.decoder.maps)
    bias, noise = sum(linear.bias for linear in maps), SIGMA**2 * torch.eye(model.x_shape[0]).double()
    for c in itertools.product(*(range(prior.clusters) for prior in model.latent_priors)):
        log_weight, mean, covariance = torch.zeros(()), bias, noise
        for prior, linear, c_j in zip(model.latent_priors, maps, c, strict=True):
            component = prior.component(torch.tensor(c_j))
            W = linear.weight
            is_full = getattr(prior, "covariance_type", None) == "full"
            spread = component.covariance_matrix if is_full else None
            spread = component.variance.diag() if spread is None else spread
            log_weight = log_weight + prior.weights().log_prob(torch.tensor(c_j))
            mean, covariance = mean + W @ component.mean, covariance + W @ spread @ W.T
        yield log_weight, mean, covariance


@torch.no_grad()
def exact(model, x):
    terms = [w + MultivariateNormal(mean, C).log_prob(x) for w, mean, C in exact_components(model)]
    return torch.stack(terms).logsumexp(0).numpy()


@torch.no_grad()
def linear_model(K=(3, 2), D=(2, 1), prior="diagonal_gaussian", x_dim=4, scale=0.7, seed=0, nuisance=0):
    torch.manual_seed(seed)
    facets = tuple(Facet(k, d, prior) for k, d in zip(K, D, strict=True))
    config = MFCVAEConfig(facets, Gaussian(SIGMA), linear_network, nuisance=nuisance)
    model = MFCVAE(config, (x_dim,)).double().eval()
    for parameter in model.parameters():
        parameter.copy_(torch.randn_like(parameter) * scale)
    z = [mixture(prior).sample((100_000,)) for prior in model.latent_priors]
    z = torch.cat(z, -1)
    model.encoder.prior_mean.copy_(z.mean(0))
    model.encoder.prior_covariance.copy_(z.T.cov())
    return model


def mixture(prior):
    with torch.no_grad():
        components = prior.component(torch.arange(prior.clusters))
        return MixtureSameFamily(Categorical(logits=prior.weights().logits), components)


@torch.no_grad()
def draw(model, N):
    """Data of the model itself, and some that are unlikely under it."""
    z = [mixture(prior).sample((N,)) for prior in model.latent_priors]
    x = model.likelihood(model.decode(z)).sample()
    x[-1] += 1.5
    return x


# --- what it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", ["diagonal_gaussian", "full_gaussian"])
@pytest.mark.parametrize(("K", "D", "nuisance"), [((1,), (2,), 0), ((3, 2), (2, 1), 0), ((3,), (1,), 2)])
def test_against_the_exact_likelihood(K, D, nuisance, prior):
    # With a larger scale q, without correlations, would ask for more samples.
    model = linear_model(K, D, prior, scale=0.4, nuisance=nuisance)
    x = draw(model, 20)
    found = bounds(model, x, 40_000)
    assert found.log_likelihood.shape == found.elbo.shape == (20,)
    assert found.log_likelihood.dtype == np.float64
    np.testing.assert_allclose(found.log_likelihood, exact(model, x), atol=0.05)
    assert np.median(found.pareto_k) < 0.7


def test_one_gaussian_and_its_posterior_need_one_sample():
    """With q(z|x) = p(z|x) all weights are p(x)."""
    model = linear_model((1,), (1,))
    model.encoder.width = 1.0
    component = model.facet_priors[0].component(torch.tensor(0))
    model.encoder.prior_mean.copy_(component.mean.detach())
    model.encoder.prior_covariance.copy_(component.variance.detach().diag())
    x = draw(model, 5)
    found = bounds(model, x, 1)
    np.testing.assert_allclose(found.log_likelihood, exact(model, x), atol=1e-10)
    assert np.isnan(found.pareto_k).all()


def test_it_grows_with_the_samples_towards_the_likelihood():
    model = linear_model()
    model.encoder.width = 1.5  # further from the posterior, or there is little to see
    x = draw(model, 300)
    truth = exact(model, x).mean()
    means = [bounds(model, x, S).log_likelihood.mean() for S in (1, 4, 16, 256)]
    assert all(a < b for a, b in itertools.pairwise(means))
    assert abs(means[-1] - truth) < 0.05
    assert truth - means[0] > 0.2


@torch.no_grad()
def test_its_place_among_the_bounds():
    """E[analytic ELBO] <= E[marginal ELBO] = E[S = 1] <= log p(x), with expectations over many samples."""
    model = linear_model()
    x = draw(model, 10)
    losses = {
        objective: -model.elbo(objective=objective, num_particles=4_000).loss(model.model, model.guide, x)
        for objective in ("analytic", "marginal")
    }
    one = bounds(model, x.repeat(4_000, 1), 1).log_likelihood.sum() / 4_000
    many = bounds(model, x, 4_000)
    assert many.elbo.sum() == pytest.approx(losses["analytic"], abs=0.6)
    assert one == pytest.approx(losses["marginal"], abs=0.6)
    assert many.elbo.sum() < losses["marginal"] - 0.5 < one < exact(model, x).sum() - 0.5
    assert (many.elbo < many.log_likelihood).all()


@torch.no_grad()
@pytest.mark.parametrize(("N", "S"), [(3, 40), (2, 700), (600, 2)])
def test_against_brute_force(monkeypatch, N, S):
    """One sample of one datum after the other, from the same latents, with the blocks put together."""
    model = linear_model()
    x = draw(model, N)
    latents, decode = [], model.decode
    monkeypatch.setattr(model, "decode", lambda z, *weights: (latents.append(z), decode(z, *weights))[1])
    monkeypatch.setattr(importance, "PASS", 128)
    found = bounds(model, x, S)
    passes = [z for z in latents if z[0].ndim == 3]  # not those of the ELBO's other terms
    assert max(z[0].shape[:2].numel() for z in passes) <= 128
    priors = [mixture(prior) for prior in model.facet_priors]
    some = range(N) if N < 10 else (0, 127, 128, N - 1)
    log_weights = {n: [] for n in some}
    starts = np.repeat(range(0, N, 128), len(passes) // -(-N // 128))
    for start, z in zip(starts, passes, strict=True):
        for n in some:
            if not start <= n < start + z[0].shape[1]:
                continue
            q = model.encode(x[n : n + 1])
            for s in range(len(z[0])):
                z_s = [z_j[s, n - start] for z_j in z]
                mean = sum(linear(z_j) for linear, z_j in zip(model.decoder.maps, z_s, strict=True))
                log_weight = Normal(mean, SIGMA).log_prob(x[n]).sum()
                for q_j, prior, z_j in zip(q, priors, z_s, strict=True):
                    log_weight += prior.log_prob(z_j) - q_j.log_prob(z_j).squeeze()
                log_weights[n].append(log_weight.item())
    for n, values in log_weights.items():
        assert len(values) == S
        expected = np.logaddexp.reduce(values) - math.log(S)
        assert found.log_likelihood[n] == pytest.approx(expected, abs=1e-10)
        if S >= 25:
            assert found.pareto_k[n] == pytest.approx(pareto_k(values), abs=1e-10)


def test_the_mixture_of_a_prior():
    model = linear_model((4, 2), (3, 2), "full_gaussian")
    for prior, shape in zip(model.facet_priors, [(2, 5, 3), (7, 2)], strict=True):
        z = torch.randn(shape, dtype=torch.float64)
        torch.testing.assert_close(log_mixture(prior, z), mixture(prior).log_prob(z))


# --- Pareto k ------------------------------------------------------------------------------------


def arviz_pareto_k(log_weights):
    """What the installed ArviZ finds for weights (S,)."""
    try:
        from arviz_stats.base import array_stats
    except ImportError:
        arviz = pytest.importorskip("arviz")
        return arviz.psislw(log_weights.copy())[1]
    return array_stats.psislw(-log_weights, axis=-1)[1]  # it takes log-likelihoods


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("S", [100, 400, 900])  # where both versions take as many for the tail
@pytest.mark.parametrize("scale", [0.01, 1.0, 5.0])
def test_pareto_k_is_that_of_arviz(S, scale):
    log_weights = np.random.default_rng(0).normal(-900.0, scale, size=(S, 6))
    found = pareto_k(log_weights)
    assert found.shape == (6,)
    for column, k in zip(log_weights.T, found, strict=True):
        assert k == pytest.approx(float(arviz_pareto_k(column)), abs=1e-8)


@pytest.mark.parametrize("k", [0.2, 0.5, 1.0])
def test_pareto_k_of_a_pareto_distribution(k):
    weights = np.random.default_rng(0).pareto(1 / k, size=(40_000, 5)) + 1
    np.testing.assert_allclose(pareto_k(np.log(weights)), k, atol=0.15)


def test_pareto_k_of_equal_weights():
    assert pareto_k(np.full(50, -3.0)) == -math.inf
    assert pareto_k(np.r_[np.zeros(2), np.full(50, -3.0)]) == math.inf  # too few to tell


# --- as a method ----------------------------------------------------------------------------------


@functools.cache
def _fitted(make_model):
    return FittedMFCVAE(make_model(J=2, K=(4, 3), likelihood=Gaussian(0.5)), [])


@pytest.fixture
def fitted(make_model):
    return _fitted(make_model)


def test_of_a_fitted_model(fitted, blobs):
    x = blobs[0]
    values, k = fitted.log_likelihood(x, 50), fitted.pareto_k(x, 50)
    assert values.shape == k.shape == (300,)
    assert values.dtype == k.dtype == np.float64
    assert np.isfinite(values).all()
    assert values.mean() > fitted.score(x)
    np.testing.assert_array_equal(values, fitted.log_likelihood(x, 50, seed=0))
    assert not np.array_equal(values, fitted.log_likelihood(x, 50, seed=1))
    assert fitted.log_likelihood(x[:1]).shape == (1,)


def test_blocks_of_data_are_joined_in_order(fitted, blobs):
    x = np.resize(blobs[0], (1_100, 6))
    x[5::512] += 3
    values = fitted.log_likelihood(x, 20)
    assert set(np.argsort(values)[:3]) == {5, 517, 1_029}


def test_random_streams_are_untouched(fitted, blobs):
    state = torch.get_rng_state()
    fitted.log_likelihood(blobs[0], 3), fitted.pareto_k(blobs[0], 25)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("number", [0, 2.5, "many"])
def test_an_impossible_number_of_samples(fitted, blobs, number):
    message = f"num_particles: got {number!r}, expected an integer of at least "
    with pytest.raises(ValueError, match=message + "1"):
        fitted.log_likelihood(blobs[0], number)
    with pytest.raises(ValueError, match=message + "25"):
        fitted.pareto_k(blobs[0], number)


def test_too_few_weights():
    with pytest.raises(ValueError, match=r"log_weights: got shape \(24, 3\), .* at least 25 weights"):
        pareto_k(np.zeros((24, 3)))


def test_data_that_do_not_suit(make_model, fitted):
    with pytest.raises(ValueError, match=r"x: got data of shape \(2, 5\), expected \(N, 6\)"):
        fitted.log_likelihood(np.zeros((2, 5)))
    bernoulli = FittedMFCVAE(make_model(), [])
    with pytest.raises(ValueError, match="Bernoulli likelihood needs"):
        bernoulli.log_likelihood(np.full((2, 6), 3.0))
