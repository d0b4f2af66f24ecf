"""What holds for every family of priors, with every kind of weights."""

import copy
import dataclasses
import itertools
import pickle
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from calls import Calls
from torch.distributions import kl_divergence

import pyro_mfcvae as mf
from pyro_mfcvae import MFCVAE, Facet, MFCVAEConfig, Schedule, priors
from pyro_mfcvae.model import FacetWeights
from pyro_mfcvae.model.kl import component_kl
from pyro_mfcvae.model.objectives import facet_term, quasi_monte_carlo_points
from pyro_mfcvae.networks import FullyConnectedLadder
from pyro_mfcvae.priors.sticks import LogitStick, mean_sigmoid
from pyro_mfcvae.training import DeadClustersWarning

STANDARD = "standard_normal"
BAYESIAN = "bayesian_gaussian"  # whose weights are among its latent variables
MIXTURES = [name for name in priors.available() if name not in (STANDARD, BAYESIAN)]
LATENT_WEIGHTS = ("logistic_normal", "stick_breaking")
NO_CLOSED_FORM = ("student_t", "flow")
FAMILIES = [(name, weights) for name in MIXTURES for weights in priors.WEIGHTS]
FAMILIES += [(STANDARD, None), (BAYESIAN, None)]
families = pytest.mark.parametrize(("name", "weights"), FAMILIES)
mixtures = pytest.mark.parametrize("name", MIXTURES)


def factory_of(name, weights="learned", **options):
    options = options if weights is None or name in (STANDARD, BAYESIAN) else {"weights": weights, **options}
    return priors.FACTORIES[name](**options)


def config_of(factory, K, D=2, **fields):
    stage = {"epochs": 3, "warm_up_epochs": 1, "batch_size": 32, "learning_rate": 3e-3}
    defaults = {
        "facets": (Facet(K, D, factory),),
        "network": FullyConnectedLadder(widths=(8,)),
        "schedule": Schedule.progressive(1, **stage),
    }
    return MFCVAEConfig(**{**defaults, **fields})


def model_of(name, weights="learned", K=3, D=2, spread=0.5, **options):
    """A model in float64 whose prior's parameters are all different."""
    K = 1 if name == STANDARD else K
    model = MFCVAE(config_of(factory_of(name, weights, **options), K, D), (6,)).double()
    generator = torch.Generator().manual_seed(K + 10 * D)
    with torch.no_grad():
        for parameter in model.priors.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(spread * noise)
    return model


def prior_of(*args, **options):
    model = model_of(*args, **options)
    return model.facet_priors[0]


def log_prob(prior, z):
    """log p(z) of the mixture, z (N, D)."""
    c = torch.arange(prior.clusters)
    return (prior.weights().log_prob(c) + prior.component(c).log_prob(z.unsqueeze(-2))).logsumexp(-1)


def grid(D, half, size):
    axis = torch.linspace(-half, half, size, dtype=torch.float64)
    return torch.cartesian_prod(*[axis] * D).reshape(-1, D), (2 * half / (size - 1)) ** D


@families
def test_density_integrates_to_one(name, weights):
    prior = prior_of(name, weights, D=2 if name == "flow" else 1, spread=0.2)
    if name == "flow":
        z, cell = grid(2, 15, 401)
    else:  # far out, for heavy tails
        t = torch.linspace(-14, 14, 8_001, dtype=torch.float64).unsqueeze(1)
        z, cell = t.sinh(), t.cosh().squeeze(1) * (t[1] - t[0])
    with torch.no_grad():
        total = (log_prob(prior, z).exp() * cell).sum().item()
    assert total == pytest.approx(1, abs=1e-5)
    assert prior.weights().probs.sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", priors.available())
def test_samples_are_of_the_density(name):
    """In the classes of a fine partition of each component's own first dimension and sum."""
    K = 1 if name == STANDARD else 3
    prior = prior_of(name, spread=0.2)
    torch.manual_seed(0)
    c = prior.weights().sample((60_000,))
    with torch.no_grad():
        z = prior.draw(c)
        assert z.shape == (60_000, 2)
        torch.testing.assert_close(
            prior.weights().probs, torch.bincount(c) / len(c), atol=0.01, rtol=0, check_dtype=False
        )
        half = 6.0
        points, cell = grid(2, half, 121)
        for k in range(K):
            density = prior.component(torch.tensor(k)).log_prob(points).exp() * cell
            for lower, upper in itertools.product((-np.inf, -0.55, 0.55), (np.inf, 0.05)):
                inside = (points[:, 0] > lower) & (points[:, 1] < upper)
                of_k = z[c == k]
                frequency = (
                    (of_k[:, 0] > lower) & (of_k[:, 1] < upper) & (of_k.abs() < half).all(1)
                ).double()
                assert frequency.mean().item() == pytest.approx(density[inside].sum().item(), abs=0.03)


@mixtures
@pytest.mark.parametrize("shape", [(), (5,), (3, 1), (2, 3, 4)])
@pytest.mark.parametrize("K", [1, 4])
def test_components_have_the_shape_of_c(name, shape, K):
    prior = prior_of(name, K=K)
    c = torch.randint(0, K, shape)
    z = torch.randn(*shape, 2, dtype=torch.float64)
    for component in (prior.component(c), prior.component(c).expand((7, *shape))):
        assert component.event_shape == (2,)
        assert component.log_prob(z).shape == component.batch_shape
    assert prior.component(c).batch_shape == shape
    # All values at once agree with one at a time.
    each = torch.stack(
        [prior.component(k).log_prob(x) for k, x in zip(c.flatten(), z.reshape(-1, 2), strict=True)]
    )
    torch.testing.assert_close(prior.component(c).log_prob(z).flatten(), each)


@pytest.mark.parametrize("is_standard", [False, True])
@pytest.mark.parametrize("name", priors.available())
def test_all_components_are_those_of_every_c(name, is_standard):
    """In values and gradients, though nothing is gathered."""
    model = model_of(name, K=4)
    prior, z = model.facet_priors[0], torch.randn(5, 2, dtype=torch.float64)
    if is_standard:
        prior.reset()
    every = torch.arange(prior.clusters).unsqueeze(-1)
    results = []
    for components in (prior.all_components(), prior.component(every)):
        assert components.batch_shape == every.shape
        log_prob = components.log_prob(z)
        parameters = list(model.parameters())
        gradients = [None] * len(parameters)
        if log_prob.requires_grad:
            gradients = torch.autograd.grad(log_prob.square().sum(), parameters, allow_unused=True)
        results.append((log_prob, gradients))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("name", ["diagonal_gaussian", "full_gaussian", "student_t", "laplace"])
def test_a_step_gathers_nothing(name):
    """Nor does it compute responsibilities, that is a softmax."""
    model = model_of(name)
    with pyro.validation_enabled(False), Calls() as calls:
        model.objective(torch.rand(5, 6, dtype=torch.float64)).backward()
    assert not calls.names & {"index", "gather", "index_put", "_index_put_impl_", "_softmax"}
    with Calls() as calls:
        model.facet_priors[0].component(torch.arange(3)).mean.sum()
    assert "index" in calls.names


def test_all_components_of_a_prior_of_ones_own():
    """Whose arithmetic with c needs a tensor, derived from one of ours or not."""

    class Line(priors.DiagonalGaussianMixture):
        def component(self, c):
            return dist.Normal(c.unsqueeze(-1) + self.loc[c], 1.0).to_event(1)

    torch.testing.assert_close(Line(3, 1).all_components().mean.flatten(), torch.arange(3.0))


@mixtures
@pytest.mark.parametrize("N", [1, 700])
@pytest.mark.parametrize("K", [1, 6])
def test_closed_form_against_monte_carlo(name, N, K):
    """Few data take the direct form, many a product of matrices."""
    prior = prior_of(name, K=K, D=3)
    generator = torch.Generator().manual_seed(1)
    loc = torch.randn(N, 3, generator=generator, dtype=torch.float64)
    scale = 0.3 + torch.rand(N, 3, generator=generator, dtype=torch.float64)
    q = dist.Normal(loc, scale).to_event(1)
    p = prior.component(torch.arange(K).unsqueeze(-1))
    if name in NO_CLOSED_FORM:
        with pytest.raises(NotImplementedError):
            component_kl(q, p, dim=-2)
        return
    kl = component_kl(q, p, dim=-2)
    assert kl.shape == (K, N)
    few = q.expand((N,)) if N == 1 else dist.Normal(loc[:4], scale[:4]).to_event(1)
    z = few.sample((10_000,))
    estimate = (few.log_prob(z).unsqueeze(1) - p.log_prob(z.unsqueeze(1))).mean(0)
    error = 5 * (few.log_prob(z).unsqueeze(1) - p.log_prob(z.unsqueeze(1))).std(0) / 100
    assert ((kl[:, :4] - estimate).abs() <= error).all()


def test_divergence_from_a_laplace_by_quadrature():
    q = dist.Normal(
        torch.tensor([0.3, -2.0], dtype=torch.float64), torch.tensor([0.5, 1.7], dtype=torch.float64)
    )
    p = dist.Laplace(torch.tensor([-0.2], dtype=torch.float64), torch.tensor([0.8], dtype=torch.float64))
    z = torch.linspace(-25, 25, 400_001, dtype=torch.float64).unsqueeze(1)
    integrand = q.log_prob(z).exp() * (q.log_prob(z) - p.log_prob(z))
    torch.testing.assert_close(
        kl_divergence(q, p), torch.trapezoid(integrand, z, dim=0), rtol=1e-7, atol=1e-7
    )


@pytest.mark.parametrize("N", [3, 5000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_divergence_from_a_low_rank_gaussian_is_that_of_the_full_one(N, dtype):
    prior = prior_of("low_rank_gaussian", K=5, D=4, rank=2)
    prior.to(dtype)
    p = prior.component(torch.arange(5).unsqueeze(-1))
    q = dist.Normal(torch.randn(N, 4, dtype=dtype), 0.1 + torch.rand(N, 4, dtype=dtype)).to_event(1)
    found = component_kl(q, p.expand((5, N)), dim=-2)
    assert found.dtype == dtype
    full = dist.MultivariateNormal(p.loc.double(), covariance_matrix=p.covariance_matrix.double())
    expected = kl_divergence(dist.Normal(q.mean.double(), q.stddev.double()).to_event(1), full)
    torch.testing.assert_close(
        found.double(), expected, **({} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4})
    )
    (one,) = torch.autograd.grad(found.sum(), prior.factor, retain_graph=True)
    (other,) = torch.autograd.grad(expected.sum(), prior.factor)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * one.abs().max().item())


def loss_of(model, x, **options):
    torch.manual_seed(0)
    with pyro.validation_enabled():
        return model.elbo(**options).differentiable_loss(model.model, model.guide, x, data_size=100) / 100


@families
@pytest.mark.parametrize("particles", [1, 3])
def test_a_finite_gradient_reaches_every_parameter(name, weights, particles):
    model = model_of(name, weights)
    x = torch.rand(4, 6, dtype=torch.float64)
    loss_of(model, x, num_particles=particles).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        if not key.startswith(("encoder", "decoder")):
            assert parameter.grad.any(), key


@families
def test_one_datum_and_one_cluster(name, weights):
    """K = 1 has no site to enumerate, and no latent weights; of other parameters it may have."""
    model = model_of(name, weights, K=1)
    x = torch.rand(1, 6, dtype=torch.float64)
    for particles in (1, 2):
        assert loss_of(model, x, num_particles=particles).isfinite()
    assert model.facet_priors[0].has_globals == (name == BAYESIAN)
    (responsibilities,) = model.responsibilities(model.encode(x))
    torch.testing.assert_close(responsibilities, torch.ones_like(responsibilities))
    assert model.model(data_size=2).shape == (2, 6)


@families
def test_the_warm_up_is_a_standard_normal(name, weights):
    prior = prior_of(name, weights)
    prior.reset()
    z = torch.randn(20, 2, dtype=torch.float64)
    standard = dist.Normal(torch.zeros(2, dtype=torch.float64), 1.0).to_event(1)
    torch.testing.assert_close(log_prob(prior, z), standard.log_prob(z), rtol=1e-5, atol=1e-6)
    prior.initialize_from_data(torch.rand(200, 6), np.random.default_rng(0).normal(size=(200, 2)), seed=0)
    assert all(parameter.isfinite().all() for parameter in prior.parameters())
    if name != STANDARD:
        assert (log_prob(prior, z) - standard.log_prob(z)).abs().max() > 1e-3


@families
def test_devices_dtypes_and_copies(name, weights):
    model = model_of(name, weights).float()
    prior = model.facet_priors[0]
    c = torch.arange(prior.clusters)
    assert prior.component(c).log_prob(torch.zeros(2)).dtype == torch.float32
    assert model.double().facet_priors[0].component(c).sample().dtype == torch.float64
    z = torch.randn(7, 2, dtype=torch.float64)
    expected = log_prob(prior, z)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.state_dict().keys() == model.state_dict().keys()
        torch.testing.assert_close(log_prob(other.facet_priors[0], z), expected, rtol=0, atol=0)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(0.1)
    torch.testing.assert_close(log_prob(prior, z), expected, rtol=0, atol=0)
    fresh = MFCVAE(model.config, (6,)).double()
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(log_prob(fresh.facet_priors[0], z), expected, rtol=0, atol=0)
    assert len(list(model.parameters())) == len({id(p) for p in model.parameters()})
    meta = copy.deepcopy(model).to("meta")
    with pyro.validation_enabled(False):  # it would look at values, of which there are none
        assert meta.facet_priors[0].weights().logits.device.type == "meta"
        if name != "vamp":  # the networks' autocast does not know this device
            component = meta.facet_priors[0].component(c.to("meta"))
            assert component.sample().device.type == "meta"


@pytest.mark.portable
@pytest.mark.parametrize(
    ("name", "weights"),
    [
        *((name, "learned") for name in MIXTURES),
        *(("flow", w) for w in priors.WEIGHTS if w != "learned"),
        (STANDARD, None),
        (BAYESIAN, None),
    ],
)
def test_fit_predict_sample_save_and_load(name, weights, blobs, tmp_path):
    x, _ = blobs
    K = 1 if name == STANDARD else 3
    config = config_of(factory_of(name, weights), K)
    assert MFCVAEConfig.from_json(config.to_json()) == config
    fitted = mf.fit(x, config, seed=0, progress=False)
    assert all(np.isfinite(record.loss) for record in fitted.history)
    assert fitted.history[-1].loss < fitted.history[1].loss  # both after the warm-up
    predicted = fitted.predict_proba(x)[0]
    assert predicted.shape == (len(x), K)
    np.testing.assert_array_equal(fitted.predict_proba(x)[0], predicted)
    np.testing.assert_allclose(fitted.predict_proba(x[5:8])[0], predicted[5:8], atol=1e-4)  # to rounding
    for temperature in (0.0, 1.0):
        assert np.isfinite(fitted.sample(5, {0: K - 1}, temperature=temperature)).all()
    fitted.save(tmp_path / "model")
    again = mf.load(tmp_path / "model")
    assert again.model.config == config
    np.testing.assert_array_equal(again.predict_proba(x)[0], predicted)
    np.testing.assert_array_equal(again.sample(5, seed=3), fitted.sample(5, seed=3))


def test_every_facet_may_have_another_prior(blobs, tmp_path):
    facets = (
        Facet(3, 2, "vamp"),
        Facet(4, 3, priors.FullGaussian(weights="stick_breaking")),
        Facet(1, 2, STANDARD),
    )
    config = config_of(
        "vamp",
        1,
        facets=facets,
        network=FullyConnectedLadder(widths=(8,) * 3),
        schedule=Schedule.progressive(3, epochs=2, batch_size=64, warm_up_epochs=1),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeadClustersWarning)
        fitted = mf.fit(blobs[0], config, seed=0, progress=False)
    assert fitted.predict(blobs[0]).shape == (300, 3)
    fitted.save(tmp_path / "model")
    np.testing.assert_array_equal(mf.load(tmp_path / "model").predict(blobs[0]), fitted.predict(blobs[0]))


def test_deterministic_points_estimate_the_facet_term():
    q = dist.Normal(torch.randn(3, 2, dtype=torch.float64), torch.rand(3, 2, dtype=torch.float64)).to_event(1)
    points = quasi_monte_carlo_points(q, 512)
    torch.testing.assert_close(points.mean(0), q.mean)
    torch.testing.assert_close(points.var(0), q.variance, rtol=0.02, atol=0)
    few = quasi_monte_carlo_points(q) - q.mean  # symmetric, so that no odd moment depends on their number
    torch.testing.assert_close((few**3).mean(0), torch.zeros_like(q.mean), rtol=0, atol=1e-12)
    p = prior_of("diagonal_gaussian").component(torch.arange(3).unsqueeze(-1))
    exact, _ = facet_term(q, p, 0.0, dim=-2)
    estimate, _ = facet_term(q, p, 0.0, dim=-2, objective="monte_carlo", samples=lambda: points)
    torch.testing.assert_close(estimate, exact, rtol=0.02, atol=0.02)


# Weights that are latent variables


def test_a_logit_stick_is_the_logit_of_a_beta():
    alpha = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    stick = LogitStick(alpha)
    u = torch.linspace(-60, 120, 200_001, dtype=torch.float64).unsqueeze(1)
    torch.testing.assert_close(
        torch.trapezoid(stick.log_prob(u).exp(), u, dim=0), torch.ones(3, dtype=torch.float64)
    )
    v = torch.rand(9, 3, dtype=torch.float64)
    jacobian = v.log() + (-v).log1p()
    torch.testing.assert_close(stick.log_prob(v.logit()), dist.Beta(1.0, alpha).log_prob(v) + jacobian)
    samples = stick.expand((40_000, 3)).sample().sigmoid()
    torch.testing.assert_close(samples.mean(0), 1 / (1 + alpha), atol=0.01, rtol=0)
    q = dist.Normal(
        torch.tensor([-3.0, 0.0, 2.0], dtype=torch.float64),
        torch.tensor([0.1, 1.0, 2.0], dtype=torch.float64),
    )
    integrand = q.log_prob(u).exp() * (q.log_prob(u) - stick.log_prob(u))
    torch.testing.assert_close(
        kl_divergence(q, stick), torch.trapezoid(integrand, u, dim=0), rtol=1e-5, atol=1e-6
    )
    expected = torch.trapezoid(q.log_prob(u).exp() * u.sigmoid(), u, dim=0)
    torch.testing.assert_close(mean_sigmoid(q.loc, q.scale), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", LATENT_WEIGHTS)
def test_the_prior_of_the_weights_counts_once_for_all_data(kind):
    """The loss of all data is that of the data given weights, plus one divergence of the weights."""
    model = model_of("diagonal_gaussian", kind)
    mixing = model.facet_priors[0].mixing
    x = torch.rand(10, 6, dtype=torch.float64)
    q = dist.Normal(mixing.loc, mixing.log_scale.exp()).to_event(1)
    divergence = kl_divergence(q, mixing.latent())

    def loss(size, weight=1.0):
        torch.manual_seed(0)
        options = {"data_size": size, "weights": FacetWeights((1.0,), (weight,))}
        return model.elbo().differentiable_loss(model.model, model.guide, x, **options)

    data_term = loss(10) - divergence
    torch.testing.assert_close(loss(1000), 100 * data_term + divergence)
    assert loss(10, 0.0).isfinite()
    (gradient,) = torch.autograd.grad(loss(10, 0.0), mixing.loc, allow_unused=True)
    assert gradient is None or not gradient.any()


def test_the_posterior_of_sticks_is_that_of_the_counts():
    weights = priors.StickBreaking(2.0)(4).double()
    counts = np.array([500.0, 300.0, 200.0, 0.0])
    weights.initialize(counts / 1000, 1000)
    q = dist.Normal(weights.loc, weights.log_scale.exp())
    v = q.sample((20_000,)).sigmoid()
    exact = dist.Beta(torch.tensor([501.0, 301.0, 201.0]), torch.tensor([502.0, 202.0, 2.0]))
    torch.testing.assert_close(v.mean(0), exact.mean.double(), atol=5e-3, rtol=0)
    torch.testing.assert_close(weights().probs[:3], torch.from_numpy(counts[:3] / 1000), atol=5e-3, rtol=0)
    assert weights().probs.sum().item() == pytest.approx(1)
    weights.initialize(np.full(4, 0.25), 0)  # before any data: the prior's own mean and variance
    torch.testing.assert_close(weights.loc, torch.full_like(weights.loc, -1.0))


def test_empty_clusters_are_no_surprise_to_a_dirichlet_process(blobs):
    config = config_of(priors.FullGaussian(weights="stick_breaking"), 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeadClustersWarning)
        fitted = mf.fit(blobs[0], config, seed=0, progress=False)
    assert fitted.history[-1].alive[0] < 10


@pytest.mark.parametrize("kind", [priors.StickBreaking, priors.LogisticNormal])
def test_bad_weights(kind):
    with pytest.raises(ValueError, match=r"got -1\.0, expected a positive number"):
        kind(-1.0)
    with pytest.raises(ValueError, match="weights: got 'dirichlet', expected one of"):
        priors.Laplace(weights="dirichlet")
    with pytest.raises(TypeError, match="weights: got 3"):
        priors.Vamp(weights=3)


# The families one by one


def test_a_standard_normal_has_no_clusters():
    with pytest.raises(ValueError, match=r"clusters: got 3 .*expected 1"):
        MFCVAE(config_of(STANDARD, 3), (6,))


def test_bad_sizes():
    with pytest.raises(ValueError, match=r"latent_dim: got 1 for a flow"):
        MFCVAE(config_of("flow", 3, D=1), (6,))
    with pytest.raises(ValueError, match=r"rank: got 3 in 2 dimensions"):
        MFCVAE(config_of(priors.LowRankGaussian(rank=3), 3), (6,))
    with pytest.raises(ValueError, match="rank: got 0"):
        priors.LowRankGaussian(rank=0)
    with pytest.raises(ValueError, match="layers: got 0"):
        priors.Flow(layers=0)


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_a_new_flow_is_the_identity_and_invertible(layers):
    factory = priors.Flow(layers=layers)
    prior = factory(3, 5)
    c = torch.arange(3)
    gaussian = super(type(prior), prior).component(c)
    z = torch.randn(3, 5)
    torch.testing.assert_close(prior.component(c).log_prob(z), gaussian.log_prob(z))
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    x = z
    for layer in prior.transforms():
        x = layer(x)
    for layer in reversed(prior.transforms()):
        x = layer.inv(x)
    torch.testing.assert_close(x, z, atol=1e-4, rtol=1e-4)


def test_low_rank_covariances_are_taken():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(3, 4, 1))
    covariances = factor @ factor.transpose(0, 2, 1) + 0.2 * np.eye(4)
    prior = priors.LowRankGaussian()(3, 4).double()
    prior.set_covariances(covariances)
    found = prior.component(torch.arange(3)).covariance_matrix.detach().numpy()
    np.testing.assert_allclose(found, covariances, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "shape"), [("spherical_gaussian", (3, 1)), ("tied_gaussian", (1, 2))])
def test_what_covariances_share(name, shape, blobs):
    prior = prior_of(name)
    assert prior.raw_scale.shape == shape
    prior.initialize(np.random.default_rng(0).normal(size=(200, 2)) * [1, 3], seed=0)
    variance = prior.component(torch.arange(3)).variance.detach()
    torch.testing.assert_close(
        *([variance[:, 0], variance[:, 1]] if shape[1] == 1 else [variance[0], variance[2]])
    )


def test_a_vamp_prior_starts_at_data_and_is_the_encoders_posterior(blobs):
    model = MFCVAE(config_of("vamp", 5), (6,))
    prior = model.facet_priors[0]
    x = torch.from_numpy(blobs[0])
    embedding = model.encode(x)[0].mean.detach().numpy()
    prior.initialize_from_data(x, embedding, seed=0)
    same = (prior.pseudo_inputs.unsqueeze(1) == x).all(-1)  # (K, N)
    assert same.any(1).all()
    assert len(same.int().argmax(1).unique()) == 5
    q = model.encode(prior.pseudo_inputs)[0]
    component = prior.component(torch.arange(5))
    torch.testing.assert_close(component.mean, q.mean)
    torch.testing.assert_close(component.stddev, q.stddev)
    assert [key for key in prior.state_dict() if "encoder" in key] == []
    with pytest.raises(RuntimeError, match="VampPrior needs the encoder"):
        priors.Vamp()(3, 2).component(torch.arange(3))


# Priors of the user's own


class Ring(mf.priors.FacetPrior):
    """Components on a circle, whose radius is learned."""

    def __init__(self, clusters, latent_dim):
        super().__init__(clusters, latent_dim)
        self.radius = torch.nn.Parameter(torch.tensor(2.0))

    def weights(self):
        return dist.Categorical(logits=self.radius.new_zeros(self.clusters))

    def component(self, c):
        angle = 2 * torch.pi * c / self.clusters
        loc = self.radius * torch.stack([angle.cos(), angle.sin()], -1)
        return dist.Normal(loc, 0.3).to_event(1)


def mixture(K, D, distribution=torch.distributions, learned=True):
    loc = torch.randn(K, D, requires_grad=learned)
    components = distribution.Independent(distribution.Normal(loc, torch.ones(K, D)), 1)
    return distribution.MixtureSameFamily(distribution.Categorical(torch.ones(K) / K), components)


@pytest.mark.parametrize(
    "prior", [Ring, mixture, lambda K, D: mixture(K, D, dist), lambda K, D: mixture(K, D, learned=False)]
)
def test_a_class_or_a_function_is_a_prior(prior, blobs, tmp_path):
    config = config_of(prior, 3)
    fitted = mf.fit(blobs[0], config, seed=0, progress=False)
    assert fitted.history[-1].loss < fitted.history[1].loss
    assert fitted.predict(blobs[0]).shape == (300, 1)
    assert np.isfinite(fitted.sample(4, temperature=0.5)).all()
    fitted.save(tmp_path / "model")
    again = mf.load(tmp_path / "model", config=config)
    np.testing.assert_array_equal(again.predict_proba(blobs[0])[0], fitted.predict_proba(blobs[0])[0])


def test_the_tensors_of_a_distribution_become_parameters_within_their_constraints():
    K, D = 4, 3
    loc = torch.randn(K, D)
    factor = (torch.randn(K, D, D).tril() + 3 * torch.eye(D)).requires_grad_()
    logits = torch.randn(K)
    d = torch.distributions
    for components in (
        d.MultivariateNormal(loc, scale_tril=factor),
        d.MultivariateNormal(loc, covariance_matrix=(factor @ factor.mT)),
        d.LowRankMultivariateNormal(loc, factor[:, :, :1], torch.ones(K, D)),
        d.Independent(d.StudentT(5.0, loc, factor.diagonal(dim1=-2, dim2=-1).abs()), 1),
        dist.Laplace(loc, torch.ones(D)).to_event(1),
    ):
        given = d.MixtureSameFamily(d.Categorical(logits=logits), components)
        prior = priors.DistributionPrior(given)
        z = torch.randn(6, D)
        torch.testing.assert_close(log_prob(prior, z), given.log_prob(z), rtol=1e-4, atol=1e-4)
        assert bool(list(prior.parameters())) == any(
            t.requires_grad for t in (components.mean, components.variance)
        )
        with torch.no_grad():
            for parameter in prior.parameters():
                parameter.copy_(torch.randn_like(parameter))
        with pyro.validation_enabled():
            prior.component(torch.arange(K))


@pytest.mark.parametrize(
    ("prior", "error", "message"),
    [
        (
            lambda K, D: None,
            TypeError,
            r"the factory returned None, expected a FacetPrior, or a MixtureSameFamily of 3",
        ),
        (lambda K, D: dist.Normal(0.0, 1.0), TypeError, "expected a FacetPrior"),
        (lambda K, D: mixture(K + 1, D), ValueError, "4 clusters in 2 dimensions, expected 3 in 2"),
        (lambda K, D: Ring(K, D + 1), ValueError, "3 clusters in 3 dimensions, expected 3 in 2"),
        (lambda K, D: prior_with_batch(K, D), ValueError, "batch shape"),
        (lambda K, D: prior_of_flows(K, D), TypeError, "write a subclass of FacetPrior"),
    ],
)
def test_what_else_a_factory_may_not_return(prior, error, message):
    with pytest.raises(error, match=message):
        MFCVAE(config_of(prior, 3), (6,))


def test_components_of_another_dimension():
    message = r"^prior: the components of Ring have event shape \(2,\), expected \(3,\), as the facet has"
    with pytest.raises(ValueError, match=message):
        MFCVAE(config_of(Ring, 3, D=3), (6,))


def prior_with_batch(K, D):
    components = dist.Normal(torch.zeros(5, K, D), 1.0).to_event(1)
    return torch.distributions.MixtureSameFamily(dist.Categorical(torch.ones(5, K)), components)


def prior_of_flows(K, D):
    base = dist.Normal(torch.zeros(K, D), 1.0).to_event(1)
    components = torch.distributions.TransformedDistribution(
        base, [dist.transforms.AffineTransform(1.0, 2.0, event_dim=1)]
    )
    return torch.distributions.MixtureSameFamily(dist.Categorical(torch.ones(K)), components)


def test_every_name_is_there():
    assert priors.available()[:2] == ("diagonal_gaussian", "full_gaussian")
    for name in priors.available():
        assert dataclasses.is_dataclass(priors.FACTORIES[name])
