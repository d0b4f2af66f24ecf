"""Hamiltonian Monte Carlo over a mixture."""

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Dirichlet, LKJCholesky, LogNormal, MultivariateNormal, Normal

from pyro_mfcvae import FittedMFCVAE, mcmc
from pyro_mfcvae.posterior.mcmc import QUANTITIES, MixturePosterior, SamplingWarning, sample_mixture
from pyro_mfcvae.posterior.mixture_density import Mixture, MixtureDensity
from pyro_mfcvae.priors import FacetPrior, HyperPriors

SAMPLE_MIXTURE = "pyro_mfcvae.posterior.facet_mixture.sample_mixture"  # what the method calls

HYPER = HyperPriors(concentration=1.7, mean_scale=1.5, scale_median=0.6, scale_spread=0.8, correlation=2.5)


def random_mixture(K, D, full, seed=0):
    rng = np.random.default_rng(seed)
    factors = np.tril(rng.normal(size=(K, D, D)), -1) + rng.uniform(0.3, 1, (K, D, 1)) * np.eye(D)
    covariances = factors @ factors.transpose(0, 2, 1)
    if not full:
        covariances = np.diagonal(covariances, axis1=1, axis2=2).copy()
    return Mixture(rng.dirichlet(np.full(K, 5.0)), rng.normal(size=(K, D)), covariances)


def random_density(K, D, full, noise, seed=0):
    rng = np.random.default_rng(seed)
    points, variances = rng.normal(size=(15, D)), noise * rng.uniform(0.1, 0.5, (15, D))
    return MixtureDensity(points, variances, random_mixture(K, D, full), HYPER)


def numerical_jacobian(function, u, step=1e-5):
    """By central differences, (outputs, P)."""
    return np.stack([(function(u + d) - function(u - d)) / (2 * step) for d in step * np.eye(len(u))], -1)


# --- the density --------------------------------------------------------------------------------


def explicit_log_density(density, u):
    """By the distributions of PyTorch, and the Jacobian of the whole map by differences."""

    def parameters(u):
        """Weights but the last, means, standard deviations, and the free entries of R's Cholesky factors."""
        mixture = density.mixture(u)
        values = [mixture.weights[:-1], mixture.means, mixture.scales]
        if density.is_full:
            scales = mixture.scales
            corr = np.linalg.cholesky(mixture.covariances / (scales[:, :, None] * scales[:, None, :]))
            rows, columns = np.tril_indices(D, -1)
            values.append(corr[:, rows, columns])
        return np.concatenate([value.ravel() for value in values])

    K, D = density.clusters, density.latent_dim
    total = torch.tensor(np.linalg.slogdet(numerical_jacobian(parameters, u))[1])
    mixture = density.mixture(u)
    weights, means, covariances = (
        torch.from_numpy(a) for a in (mixture.weights, mixture.means, mixture.covariances)
    )
    if not density.is_full:
        covariances = covariances.diag_embed()
    scales = covariances.diagonal(dim1=1, dim2=2).sqrt()
    if K > 1:
        total = total + Dirichlet(torch.full_like(weights, HYPER.concentration)).log_prob(weights)
    total = total + Normal(0.0, HYPER.mean_scale).log_prob(means).sum()
    log_median = torch.full_like(scales, HYPER.scale_median).log()
    total = total + LogNormal(log_median, HYPER.scale_spread).log_prob(scales).sum()
    if density.is_full and D > 1:
        corr = torch.linalg.cholesky(covariances / (scales.unsqueeze(2) * scales.unsqueeze(1)))
        eta = torch.tensor(HYPER.correlation, dtype=scales.dtype)
        total = total + LKJCholesky(D, eta).log_prob(corr).sum()
    for m, v in zip(torch.from_numpy(density.points), torch.from_numpy(density.variances), strict=True):
        log_p = MultivariateNormal(means, covariances).log_prob(m)
        trace = (covariances.inverse() @ v.diag()).diagonal(dim1=1, dim2=2).sum(1)
        total = total + (weights.log() + log_p - 0.5 * trace).logsumexp(0)
    return total.item()


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("K", "D"), [(1, 1), (1, 3), (3, 1), (3, 2), (2, 3)])
def test_the_density_is_that_of_the_model(K, D, full, noise):
    density = random_density(K, D, full, noise)
    u = np.random.default_rng(1).normal(size=(3, density.num_parameters))
    ours = np.array([-density.value_and_gradient(u_i)[0] for u_i in u])
    explicit = np.array([explicit_log_density(density, u_i) for u_i in u])
    np.testing.assert_allclose(ours - ours[0], explicit - explicit[0], atol=1e-6)
    gradient = density.value_and_gradient(u[0])[1]
    numerical = numerical_jacobian(lambda u: np.array(density.value_and_gradient(u)[0]), u[0])
    np.testing.assert_allclose(gradient, numerical, atol=1e-6, rtol=1e-6)
    assert gradient.all()


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("far", [1e3, -1e3, 1e5, -1e5])
def test_far_away_the_density_is_zero(far, full):
    density = random_density(3, 2, full, noise=True)
    value, gradient = density.value_and_gradient(np.full(density.num_parameters, far))
    assert value > 1e4
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("full", [False, True])
def test_the_origin_is_the_reference(full):
    density, mixture = random_density(3, 2, full, noise=False), random_mixture(3, 2, full)
    origin = density.mixture(np.zeros(density.num_parameters))
    for name in QUANTITIES:
        np.testing.assert_allclose(getattr(origin, name), getattr(mixture, name), rtol=1e-12)


@pytest.mark.parametrize("full", [False, True])
def test_the_mode_is_stationary(full):
    density = random_density(2, 2, full, noise=True)
    at_mode = MixtureDensity(density.points, density.variances, density.mode(), HYPER)
    zero = np.zeros(density.num_parameters)
    value, gradient = at_mode.value_and_gradient(zero)
    # Its coordinates have other Jacobians, which are constant but for the weights' and correlations'.
    assert abs(gradient).max() < 0.5
    assert value < density.value_and_gradient(zero)[0]


def test_a_component_without_data_has_finite_coordinates():
    mixture = random_mixture(3, 2, full=True)
    empty = Mixture(np.array([0.0, 0.5, 0.5]), mixture.means, mixture.covariances)
    points = np.random.default_rng(0).normal(size=(20, 2))
    density = MixtureDensity(points, np.zeros_like(points), empty, HYPER)
    mode = density.mode()
    assert all(np.isfinite(getattr(mode, name)).all() for name in QUANTITIES)


# --- labels -------------------------------------------------------------------------------------


def test_labels_are_those_of_the_reference():
    """A draw in which three equal components have changed places, in a circle."""
    means = np.array([[-3.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
    rng = np.random.default_rng(0)
    points = np.repeat(means, 20, 0) + 0.3 * rng.normal(size=(60, 2))
    reference = Mixture(np.full(3, 1 / 3), means, np.full((3, 2), 0.09))
    density = MixtureDensity(points, np.zeros_like(points), reference, HYPER)
    zero = np.zeros(density.num_parameters)
    moved = zero.copy()
    shift = (np.roll(means, 1, 0) - means)[:, :, None]
    moved[2:8] = np.linalg.solve(density._mean_factors, shift).ravel()
    np.testing.assert_allclose(density.mixture(moved).means, np.roll(means, 1, 0), atol=1e-12)

    draws, permuted = mcmc._relabel(density, np.stack([zero, moved]))
    assert permuted.tolist() == [False, True]
    for draw in draws:
        np.testing.assert_allclose(draw.means, means, atol=1e-12)


# --- the chains ---------------------------------------------------------------------------------


def quadrature(z, hyper):
    """Moments of the mean and the variance of one Gaussian given z (N,), on a grid; z is standardised."""
    mu, log_s = np.linspace(-1, 1, 801)[:, None], np.linspace(-1, 1, 801)
    log_p = -0.5 * (mu / hyper.mean_scale) ** 2 - 0.5 * (log_s / hyper.scale_spread) ** 2
    squares = (z**2).sum() - 2 * mu * z.sum() + len(z) * mu**2
    log_p = log_p - len(z) * log_s - 0.5 * squares * np.exp(-2 * log_s)
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    moments = []
    for value in (np.broadcast_to(mu, p.shape), np.broadcast_to(np.exp(2 * log_s), p.shape)):
        mean = (p * value).sum()
        moments.append((mean, (p * (value - mean) ** 2).sum() ** 0.5))
    return moments


@pytest.fixture(scope="module")
def single():
    """The posterior of one component in one dimension, of data of mean 5 and standard deviation 2."""
    z = np.random.default_rng(0).normal(size=40)
    z = (z - z.mean()) / z.std()
    start = Mixture(np.ones(1), np.array([[5.0]]), np.array([[4.0]]))
    state = torch.random.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SamplingWarning)
        posterior = sample_mixture(
            5 + 2 * z[:, None], start, num_samples=250, warmup_steps=100, num_chains=2, progress=False
        )
    assert torch.equal(state, torch.random.get_rng_state())
    return z, posterior


def test_the_draws_have_the_moments_of_the_exact_posterior(single):
    z, posterior = single
    (mean, mean_sd), (variance, variance_sd) = quadrature(z, HyperPriors())
    ess = posterior.ess()
    for draws, expected, sd, size in (
        (posterior.means, 5 + 2 * mean, 2 * mean_sd, ess["means"].min()),
        (posterior.covariances, 4 * variance, 4 * variance_sd, ess["covariances"].min()),
    ):
        assert draws.mean() == pytest.approx(expected, abs=4 * sd / size**0.5)
        assert draws.std() == pytest.approx(sd, rel=0.15)
    assert size > 200


def test_shapes_and_diagnostics(single):
    _, posterior = single
    assert posterior.weights.shape == (2, 250, 1)
    assert (posterior.weights == 1).all()
    assert posterior.means.shape == posterior.covariances.shape == (2, 250, 1, 1)
    for name in ("log_density", "diverging", "relabelled"):
        assert getattr(posterior, name).shape == (2, 250)
    assert not posterior.relabelled.any()
    assert posterior.r_hat()["means"].shape == (1, 1)
    assert posterior.r_hat()["means"].item() < 1.03
    low, high = posterior.interval(0.5)["means"]
    inside = (posterior.means > low) & (posterior.means < high)
    assert inside.mean() == pytest.approx(0.5, abs=0.01)
    lines = posterior.summary().splitlines()
    assert lines[0].split() == ["mean", "sd", "3%", "97%", "r_hat", "ess_bulk"]
    assert [line.split()[0] for line in lines[1:]] == ["weights[0]", "means[0,", "covariances[0,"]
    with pytest.raises(ValueError, match="probability: got 94, expected a number between 0 and 1"):
        posterior.interval(94)


def test_for_arviz(single):
    _, posterior = single
    data = posterior.to_inference_data()
    assert data.posterior["means"].dims == ("chain", "draw", "cluster", "dim")
    assert data.posterior["covariances"].shape == (2, 250, 1, 1)
    assert not data.sample_stats["diverging"].any()


@pytest.mark.parametrize("kernel", ["nuts", "hmc"])
def test_chains_are_reproducible(kernel):
    z = np.concatenate([np.random.default_rng(0).normal(c, 1, (30, 2)) for c in (0, 6)])
    start = Mixture(np.full(2, 0.5), np.array([[0.0, 0.0], [6.0, 6.0]]), np.tile(np.eye(2), (2, 1, 1)))
    options = {"kernel": kernel, "num_samples": 8, "warmup_steps": 15, "num_chains": 2, "progress": False}
    with pytest.warns(SamplingWarning, match=r"bulk ESS is \d+, which should be at least 400"):
        first, second, other = (sample_mixture(z, start, seed=seed, **options) for seed in (0, 0, 1))
    for name in QUANTITIES:
        assert (getattr(first, name) == getattr(second, name)).all()
        assert (getattr(first, name) != getattr(other, name)).any()
    assert first.covariances.shape == (2, 8, 2, 2, 2)
    assert "covariances[1, 1, 0]" in first.summary()
    assert "covariances[1, 0, 1]" not in first.summary()
    assert first.to_inference_data().posterior["covariances"].dims[2:] == ("cluster", "dim", "dim_of_column")


def test_chains_that_disagree_are_reported():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(2, 50, 1, 1)) + np.array([0.0, 5.0])[:, None, None, None]
    posterior = MixturePosterior(
        weights=rng.random((2, 50, 1)),
        means=means,
        covariances=rng.random((2, 50, 1, 1)),
        log_density=np.zeros((2, 50)),
        diverging=np.arange(100).reshape(2, 50) < 3,
        relabelled=np.zeros((2, 50), dtype=bool),
        reference=Mixture(np.ones(1), np.zeros((1, 1)), np.ones((1, 1))),
        clusters=(7,),
    )
    assert posterior.r_hat()["means"].item() > 1.5
    with pytest.warns(
        SamplingWarning, match=r"R-hat is .* 3 of 100 trajectories diverged.* Raise num_samples"
    ):
        mcmc._warn(posterior)
    assert "means[7, 0]" in posterior.summary()


@pytest.mark.slow
@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_chains_agree_and_cover_the_truth(covariance):
    """One repetition of the benchmark, at its length; the figures of 20 are in its README."""
    path = Path(__file__).parents[1] / "benchmarks" / "mixture_posterior.py"
    spec = importlib.util.spec_from_file_location("mixture_posterior", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    mixture = benchmark.truth(covariance)
    z = benchmark.draw(mixture, 500, np.random.default_rng(1))
    posterior = sample_mixture(z, mixture, num_samples=1_000, warmup_steps=200, progress=False)
    assert max(values.max() for values in posterior.r_hat().values()) <= 1.01
    assert min(values.min() for values in posterior.ess().values()) >= 400
    interval = posterior.interval()
    covered = [
        (interval[name][0] <= getattr(mixture, name)) & (getattr(mixture, name) <= interval[name][1])
        for name in QUANTITIES
    ]
    assert np.mean(np.concatenate([c.ravel() for c in covered])) > 0.75


# --- of a fitted model --------------------------------------------------------------------------

SHORT = {"num_samples": 6, "warmup_steps": 6, "num_chains": 2, "kernel": "hmc", "progress": False}


@pytest.fixture
def fitted(make_model):
    return FittedMFCVAE(make_model(J=2, K=(3, 2), D=(2, 1), spread=0.3), [])


@pytest.mark.filterwarnings("ignore::pyro_mfcvae.posterior.mcmc.SamplingWarning")
def test_the_mixture_of_a_facet(fitted, monkeypatch):
    x = np.random.default_rng(0).random((40, 6), dtype=np.float32)
    posterior = fitted.sample_mixture(1, x, clusters=[1], **SHORT)
    assert posterior.clusters == (1,)
    assert posterior.means.shape == (2, 6, 1, 1)
    posterior = fitted.sample_mixture(0, x, **SHORT)
    assert posterior.clusters == tuple(np.unique(fitted.predict(x)[:, 0]))

    seen = []
    monkeypatch.setattr(
        "pyro_mfcvae.posterior.facet_mixture.sample_mixture",
        lambda *args, **options: seen.append((args, options)),
    )
    for embedding in ("posterior", "mean", "sample"):
        fitted.sample_mixture(0, x, embedding=embedding, clusters=[2, 0])
    (of_posterior, of_mean, of_sample) = seen
    loc = fitted.transform(x)[0]
    assert (of_posterior[0][0] == loc).all()
    assert (of_mean[0][0] == loc).all()
    variances = of_posterior[1]["variances"]
    assert (variances > 0).all()
    assert of_mean[1]["variances"] is None
    assert of_sample[1]["variances"] is None
    z = (of_sample[0][0] - loc) / variances**0.5
    assert z.std() == pytest.approx(1, abs=0.3)
    start = of_mean[0][1]
    prior = fitted.model.facet_priors[0]
    np.testing.assert_allclose(start.means, prior.loc.detach().numpy()[[2, 0]])
    assert start.weights.sum() == pytest.approx(1)


def test_full_covariances_of_a_facet(make_model, monkeypatch):
    seen = []
    monkeypatch.setattr(SAMPLE_MIXTURE, lambda *args, **_: seen.append(args[1]))
    fitted = FittedMFCVAE(make_model(J=1, prior="full_gaussian"), [])
    fitted.sample_mixture(0, np.zeros((3, 6), dtype=np.float32))
    assert seen[0].is_full


class _Other(FacetPrior):
    def weights(self):
        return torch.distributions.Categorical(torch.ones(self.clusters))

    def component(self, c):
        loc = torch.zeros(*c.shape, self.latent_dim)
        return torch.distributions.Independent(torch.distributions.Laplace(loc, 1.0), 1)


@pytest.mark.parametrize(
    ("facet", "options", "message"),
    [
        (2, {}, r"facet: got 2, expected one of 0 .. 1"),
        (-1, {}, r"facet: got -1, expected one of 0 .. 1"),
        (0, {"embedding": "median"}, "embedding: got 'median', expected one of"),
        (0, {"clusters": [3]}, r"clusters: got \[3\], expected some of 0 .. 2"),
        (0, {"clusters": []}, r"clusters: got \[\], expected some of 0 .. 2"),
        (0, {"kernel": "gibbs"}, "kernel: got 'gibbs', expected one of"),
        (0, {"num_samples": 3}, "num_samples: got 3, expected an integer of at least 4"),
        (0, {"num_chains": 1}, "num_chains: got 1, expected an integer of at least 2"),
        (0, {"warmup_steps": -1}, "warmup_steps: got -1"),
    ],
)
def test_errors_of_a_facet_name_the_argument(fitted, facet, options, message):
    with pytest.raises(ValueError, match=message):
        fitted.sample_mixture(facet, np.zeros((3, 6), dtype=np.float32), **options)


def test_only_gaussian_components(make_model):
    fitted = FittedMFCVAE(make_model(J=1, prior=_Other), [])
    with pytest.raises(ValueError, match="facet: its components are Laplace, expected Gaussian ones"):
        fitted.sample_mixture(0, np.zeros((3, 6), dtype=np.float32), clusters=[0])


@pytest.mark.parametrize(
    ("embedding", "variances", "start", "message"),
    [
        (np.zeros((4, 3)), None, (2, 2), r"embedding: got shape \(4, 3\), expected \(N, 2\)"),
        (np.full((4, 2), np.nan), None, (2, 2), "embedding: got values that are not finite"),
        (np.zeros((4, 2)), None, (2, 2), r"embedding: dimensions \[0, 1\] are constant"),
        (np.ones((4, 2)), np.ones(4), (2, 2), r"variances: got shape \(4,\), expected \(4, 2\)"),
        (np.ones((4, 2)), -np.ones((4, 2)), (2, 2), "variances: .* none negative"),
        (np.ones((4, 2)), None, (3, 2), r"start: got weights \(3,\) and covariances \(2, 2\)"),
    ],
)
def test_errors_name_the_argument(embedding, variances, start, message):
    mixture = Mixture(np.ones(start[0]) / start[0], np.zeros((2, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match=message):
        sample_mixture(embedding, mixture, variances=variances)


def test_the_package_does_not_import_arviz():
    """Which warns of its future whenever it is imported."""
    code = "import sys; import pyro_mfcvae; sys.exit('arviz' in sys.modules)"
    subprocess.run([sys.executable, "-W", "error::FutureWarning", "-c", code], check=True)
