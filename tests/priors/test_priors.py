import itertools

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from pyro_mfcvae.priors import (
    DiagonalGaussian,
    DiagonalGaussianMixture,
    FacetPrior,
    FullGaussian,
    FullGaussianMixture,
)
from pyro_mfcvae.priors.initialization import INITIALIZATIONS

FACTORIES = [
    DiagonalGaussian(),
    DiagonalGaussian(weights="uniform"),
    FullGaussian(),
    FullGaussian(weights="uniform"),
]
MIXTURES = [DiagonalGaussianMixture, FullGaussianMixture]


def random_prior(factory, K, D):
    prior = factory(K, D).double()
    generator = torch.Generator().manual_seed(K + 10 * D)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return prior


def log_prob(prior, z):
    """log p(z) of the mixture, z (N, D)."""
    c = torch.arange(prior.clusters)
    return (prior.weights().log_prob(c) + prior.component(c).log_prob(z.unsqueeze(-2))).logsumexp(-1)


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("K", [1, 4])
def test_density_integrates_to_one(factory, K):
    prior = random_prior(factory, K, 1)
    z = torch.linspace(-40, 40, 40_001, dtype=torch.float64)
    density = log_prob(prior, z.unsqueeze(1)).exp()
    assert torch.trapezoid(density, z).item() == pytest.approx(1, abs=1e-8)
    assert prior.weights().log_prob(torch.arange(K)).exp().sum().item() == pytest.approx(1)


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize(("K", "D"), [(1, 1), (3, 2)])
def test_samples_have_the_moments_of_the_density(factory, K, D):
    prior = random_prior(factory, K, D)
    torch.manual_seed(0)
    N = 100_000
    c = prior.weights().sample((N,))
    z = prior.component(c).sample()
    assert z.shape == (N, D)
    frequency = torch.bincount(c, minlength=K) / N
    torch.testing.assert_close(
        frequency.double(), prior.mixing.logits.double().softmax(0).detach(), atol=0.01, rtol=0
    )
    for k in range(K):
        of_k = z[c == k]
        torch.testing.assert_close(of_k.mean(0), prior.loc[k].detach(), atol=0.05, rtol=0)
        expected = prior.component(torch.tensor(k))
        torch.testing.assert_close(of_k.var(0), expected.variance.detach(), atol=0.05, rtol=0.05)
        if hasattr(expected, "covariance_matrix"):
            torch.testing.assert_close(
                of_k.T.cov().reshape(D, D), expected.covariance_matrix.detach(), atol=0.05, rtol=0.05
            )


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("shape", [(), (5,), (3, 1), (2, 3, 4)])
def test_components_have_the_shape_of_c(factory, shape):
    prior = random_prior(factory, 4, 2)
    c = torch.randint(0, 4, shape)
    component = prior.component(c)
    assert component.batch_shape == shape
    assert component.event_shape == (2,)
    torch.testing.assert_close(component.mean, prior.loc[c])
    assert prior.weights().batch_shape == ()


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_new_or_reset_prior_is_standard_normal(factory):
    for prior in (factory(3, 2), random_prior(factory, 3, 2)):
        prior.reset()
        component = prior.component(torch.arange(3))
        assert torch.equal(component.mean, torch.zeros_like(component.mean))
        torch.testing.assert_close(component.variance, torch.ones_like(component.mean))
        torch.testing.assert_close(
            prior.weights().log_prob(torch.arange(3)).exp(),
            torch.full((3,), 1 / 3, dtype=component.mean.dtype),
        )
    assert torch.equal(factory(3, 2).component(torch.arange(3)).mean, torch.zeros(3, 2))


@pytest.mark.parametrize("factory", [DiagonalGaussian, FullGaussian])
@pytest.mark.parametrize("learn", [True, False])
def test_weights_are_parameters_only_if_learned(factory, learn):
    prior = factory(weights="learned" if learn else "uniform")(3, 2)
    assert ("mixing.logits" in dict(prior.named_parameters())) == learn
    assert "mixing.logits" in prior.state_dict()
    others = {"loc", "raw_scale"} | ({"lower"} if factory is FullGaussian else set())
    assert set(dict(prior.named_parameters())) - {"mixing.logits"} == others
    assert isinstance(prior, FacetPrior)


@pytest.mark.parametrize("mixture", MIXTURES)
def test_scales_are_bounded_from_below(mixture):
    prior = mixture(3, 2)
    with torch.no_grad():
        prior.raw_scale.fill_(-1e6)
    component = prior.component(torch.arange(3))
    assert (component.variance >= 0.99e-8).all()
    value = component.log_prob(torch.zeros(2)).sum()
    assert value.isfinite()
    value.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in prior.parameters())
    prior.set_covariances(np.zeros((3, 2)) + 1e-12)
    assert prior.raw_scale.isfinite().all()


def test_covariances_are_taken_exactly():
    rng = np.random.default_rng(0)
    factors = np.tril(rng.normal(size=(4, 3, 3)))
    covariances = factors @ factors.transpose(0, 2, 1) + 0.1 * np.eye(3)
    prior = FullGaussianMixture(4, 3).double()
    prior.set_covariances(covariances)
    found = prior.component(torch.arange(4)).covariance_matrix
    np.testing.assert_allclose(found.detach().numpy(), covariances, rtol=1e-10)
    variances = rng.uniform(0.1, 2, (4, 3))
    for mixture in MIXTURES:
        prior = mixture(4, 3).double()
        prior.set_covariances(variances)
        np.testing.assert_allclose(prior.component(torch.arange(4)).variance.detach().numpy(), variances)


def clusters(weights=(0.2, 0.3, 0.5), N=600):
    rng = np.random.default_rng(0)
    centres = np.array([[-6.0, 0.0], [6.0, 0.0], [0.0, 8.0]])
    scales = np.array([[0.3, 0.6], [0.5, 0.2], [0.4, 0.4]])
    y = rng.choice(3, N, p=weights)
    return centres, scales, y, (centres[y] + scales[y] * rng.normal(size=(N, 2))).astype(np.float32)


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("learn", [True, False])
def test_initialization_recovers_separated_clusters(mixture, learn):
    centres, scales, y, z = clusters()
    prior = mixture(3, 2, weights="learned" if learn else "uniform")
    prior.initialize(z, seed=0)
    loc = prior.loc.detach().numpy()
    order = list(min(itertools.permutations(range(3)), key=lambda p: np.abs(loc[list(p)] - centres).sum()))
    np.testing.assert_allclose(loc[order], centres, atol=0.15)
    deviations = prior.component(torch.arange(3)).variance.sqrt().detach().numpy()
    np.testing.assert_allclose(deviations[order], scales, atol=0.1)
    weights = np.bincount(y) / len(y) if learn else np.full(3, 1 / 3)
    found = prior.weights().log_prob(torch.arange(3)).exp().detach().numpy()
    np.testing.assert_allclose(found[order], weights, atol=1e-3)
    assert all(p.requires_grad and p.grad is None for p in prior.parameters())


def test_full_covariances_are_found():
    rng = np.random.default_rng(0)
    covariance = np.array([[1.0, 0.9], [0.9, 1.0]])
    z = rng.multivariate_normal([1.0, -2.0], covariance, 5_000)
    prior = FullGaussianMixture(1, 2)
    prior.initialize(z, seed=0)
    found = prior.component(torch.arange(1)).covariance_matrix[0].detach().numpy()
    np.testing.assert_allclose(found, covariance, atol=0.06)


@pytest.mark.parametrize("mixture", MIXTURES)
def test_means_without_a_fit(mixture):
    """k-means++ takes data that are far from each other; glorot does not look at the data."""
    _, _, y, z = clusters()
    prior = mixture(3, 2, initialization="k-means++")
    prior.initialize(z, seed=0)
    loc = prior.loc.detach().numpy()
    rows = [int(np.abs(z - mean).sum(1).argmin()) for mean in loc]
    np.testing.assert_allclose(z[rows], loc, rtol=1e-6)
    assert sorted(y[rows]) == [0, 1, 2]
    variance = prior.component(torch.arange(3)).variance.detach().numpy()
    np.testing.assert_allclose(variance, np.tile(z.var(0), (3, 1)), rtol=1e-3)
    np.testing.assert_allclose(prior.mixing.logits.softmax(0).detach(), np.full(3, 1 / 3), rtol=1e-6)

    prior = mixture(3, 2, initialization="untrained")
    prior.initialize(1e-2 * z, seed=0)
    found = GaussianMixture(3, covariance_type="diag", random_state=0).fit(1e-2 * z)
    np.testing.assert_allclose(prior.loc.detach().numpy(), found.means_, rtol=1e-3)
    np.testing.assert_allclose(prior.mixing.logits.softmax(0).detach(), np.full(3, 1 / 3), rtol=1e-6)

    many = mixture(300, 50, initialization="glorot")
    many.initialize(np.zeros((10, 50), np.float32), seed=0)
    assert many.loc.std().item() == pytest.approx((2 / 350) ** 0.5, rel=0.03)


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("initialization", INITIALIZATIONS)
def test_the_starting_scale_may_be_given(mixture, initialization):
    _, _, _, z = clusters()
    prior = mixture(3, 2, initialization=initialization, scale=0.1)
    prior.initialize(z, seed=0)
    variance = prior.component(torch.arange(3)).variance
    torch.testing.assert_close(variance, torch.full((3, 2), 0.01))


@pytest.mark.parametrize("factory", [DiagonalGaussian, FullGaussian])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initialization": "random"}, "initialization: got 'random', expected one of .*k-means"),
        ({"scale": 0.0}, "scale: got 0.0, expected a number above"),
        ({"scale": float("nan")}, "scale: got nan"),
    ],
)
def test_bad_options(factory, options, message):
    with pytest.raises(ValueError, match=message):
        factory(**options)
    with pytest.raises(ValueError, match=message):
        DiagonalGaussianMixture(3, 2, **options)


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("initialization", INITIALIZATIONS)
def test_initialization_is_deterministic_given_the_seed(mixture, initialization):
    z = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)

    def fitted(seed):
        prior = mixture(5, 3, initialization=initialization)
        prior.initialize(z, seed)
        return prior.state_dict()

    state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    first, again, other = fitted(0), fitted(0), fitted(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["loc"], other["loc"])
    assert np.array_equal(state[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(state[1], torch.get_rng_state())


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("initialization", INITIALIZATIONS)
def test_initialization_survives_an_embedding_without_structure(mixture, initialization):
    """As many clusters as data, and a collapsed dimension."""
    z = np.zeros((4, 2), np.float32)
    z[:, 0] = np.arange(4)
    prior = mixture(4, 2, initialization=initialization)
    prior.initialize(z, seed=0)
    assert all(parameter.isfinite().all() for parameter in prior.parameters())


def test_a_prior_may_leave_initialization_out():
    class Fixed(FacetPrior):
        def weights(self):
            raise NotImplementedError

        def component(self, c):
            raise NotImplementedError

    prior = Fixed(3, 2)
    assert (prior.clusters, prior.latent_dim) == (3, 2)
    prior.reset()
    prior.initialize(np.zeros((5, 2)), seed=0)
    with pytest.raises(TypeError, match="abstract"):
        FacetPrior(3, 2)
