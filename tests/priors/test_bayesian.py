"""Mixtures whose parameters are latent variables that all data share."""

import copy
import math
import pickle

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI
from torch.distributions import biject_to

import pyro_mfcvae as mf
from pyro_mfcvae import FacetELBO
from pyro_mfcvae.model import FacetWeights
from pyro_mfcvae.priors import BayesianGaussian, BayesianGaussianMixture, HyperPriors

FACTORIES = [
    BayesianGaussian(covariance=covariance, guide=guide)
    for covariance in ("diagonal", "full")
    for guide in ("normal", "multivariate_normal")
]
IDS = [f"{factory.covariance}, {factory.guide}" for factory in FACTORIES]
SUPPORTS = {
    "weights": dist.constraints.simplex,
    "means": dist.constraints.real,
    "scales": dist.constraints.positive,
    "correlations": dist.constraints.corr_cholesky,
}


def random_prior(factory, K, D, spread=0.3):
    prior = factory(K, D).double()
    generator = torch.Generator().manual_seed(K + 10 * D)
    with torch.no_grad():
        for parameter in prior.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(spread * noise - (1 if parameter.shape == noise.shape else 0))
    return prior


def samples(prior, count):
    """Draws of the parameters from the approximate posterior, by site."""
    torch.manual_seed(0)
    with pyro.plate("draws", count), poutine.trace() as trace:
        prior.guide("p")
    return {name: trace.trace.nodes[f"p.{name}"]["value"] for name in SUPPORTS if f"p.{name}" in trace.trace}


# --- the objective ------------------------------------------------------------------------------


def explicit_elbo(model, x, guide_trace, data_size, particle):
    """Without the package's ELBO: log p - log q of the parameters, and N/B times what the data have."""
    nodes = guide_trace.nodes
    (prior,) = model.facet_priors
    hyper, K, D = prior.hyper_priors, prior.clusters, prior.latent_dim
    theta, total = {}, 0.0
    names = [name for name in SUPPORTS if f"prior_0.{name}" in nodes]
    for name in names:
        value = nodes[f"prior_0.{name}"]["value"]
        theta[name] = value if particle is None else value[particle, 0]
        unconstrained = biject_to(SUPPORTS[name]).inv(theta[name])
        jacobian = biject_to(SUPPORTS[name]).log_abs_det_jacobian(unconstrained, theta[name])
        total = total + jacobian.sum()  # minus that of log q
    q = prior.posterior
    flat = [biject_to(SUPPORTS[name]).inv(theta[name]).flatten() for name in names]
    if hasattr(q, "locs"):
        for name, value in zip(names, flat, strict=True):
            loc, scale = getattr(q.locs, name).flatten(), getattr(q.scales, name).flatten()
            total = total + (0.5 * ((value - loc) / scale) ** 2 + scale.log() + 0.9189385332046727).sum()
    else:
        factor = q.scale.unsqueeze(1) * q.scale_tril
        log_q = torch.distributions.MultivariateNormal(q.loc, scale_tril=factor).log_prob(torch.cat(flat))
        total = total - log_q
    pi = theta.get("weights", torch.ones(1, dtype=x.dtype))
    if K > 1:
        total = total + torch.distributions.Dirichlet(torch.full_like(pi, hyper.concentration)).log_prob(pi)
    total = total + torch.distributions.Normal(0.0, hyper.mean_scale).log_prob(theta["means"]).sum()
    log_median = torch.full_like(theta["scales"], -math.log(K) / D)
    scale_prior = torch.distributions.LogNormal(log_median, hyper.scale_spread)
    total = total + scale_prior.log_prob(theta["scales"]).sum()
    factors = theta["scales"].diag_embed()
    if "correlations" in theta:
        lkj = torch.distributions.LKJCholesky(D, torch.tensor(hyper.correlation, dtype=x.dtype))
        total = total + lkj.log_prob(theta["correlations"]).sum()
        factors = factors @ theta["correlations"]

    z = nodes["z_0"]["value"] if particle is None else nodes["z_0"]["value"][particle]
    of_data = model.likelihood(model.decode([z])).log_prob(x).sum()
    q_z = model.encode(x)[0].base_dist
    for m, s in zip(q_z.loc, q_z.scale, strict=True):
        evidence = 0.0
        for k in range(K):
            p = torch.distributions.MultivariateNormal(theta["means"][k], scale_tril=factors[k])
            of_point = torch.distributions.MultivariateNormal(m, scale_tril=s.diag())
            evidence = evidence + pi[k] * (-torch.distributions.kl_divergence(of_point, p)).exp()
        of_data = of_data + evidence.log()
    return total + data_size / len(x) * of_data


@pytest.mark.parametrize("particles", [1, 3])
@pytest.mark.parametrize("data_size", [5, 40])
@pytest.mark.parametrize(("K", "D"), [(1, 1), (3, 2)])
@pytest.mark.parametrize("factory", FACTORIES, ids=IDS)
def test_the_objective_is_the_explicit_formula(factory, K, D, data_size, particles, make_model):
    """What all data share enters once, what they do not is scaled up: minibatches are unbiased."""
    model = make_model(J=1, K=K, D=D, prior=factory, num_particles=particles, spread=0.5).double()
    x = torch.rand(5, 6, dtype=torch.float64)
    torch.manual_seed(1)
    loss = model.elbo().differentiable_loss(model.model, model.guide, x, data_size=data_size)
    torch.manual_seed(1)
    with poutine.trace() as trace:
        if particles == 1:
            model.guide(x, data_size=data_size)
        else:
            with pyro.plate("particles", particles, dim=-2):
                model.guide(x, data_size=data_size)
    each = [None] if particles == 1 else range(particles)
    expected = sum(explicit_elbo(model, x, trace.trace, data_size, p) for p in each) / particles
    assert loss.item() == pytest.approx(-expected.item(), rel=1e-9)

    gradients = torch.autograd.grad(loss, list(model.parameters()))
    explicit = torch.autograd.grad(-expected, list(model.parameters()))
    for a, b in zip(gradients, explicit, strict=True):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=1e-7)
        assert a.any()


@pytest.mark.parametrize("factory", FACTORIES, ids=IDS)
def test_a_facet_of_weight_zero_is_left_out(factory, make_model):
    model = make_model(J=2, prior=factory)
    options = {"data_size": 20, "weights": FacetWeights((1.0, 1.0), (0.0, 1.0))}
    loss = model.elbo().differentiable_loss(model.model, model.guide, torch.rand(5, 6), **options)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or not p.grad.any() for p in model.facet_priors[0].parameters())
    assert all(p.grad.any() for p in model.facet_priors[1].parameters())


@pytest.mark.parametrize(("guide", "sizes"), [("normal", (25, 400)), ("multivariate_normal", (100,))])
def test_the_posterior_of_a_mean_contracts_as_the_exact_one(guide, sizes):
    """One component of known width: the posterior of its mean is Normal, with precision N / s^2 + 1 / m^2."""
    known, noise = 0.5, 0.2
    factory = BayesianGaussian(scale_median=known, scale_spread=1e-3, mean_scale=2.0, guide=guide)
    data = torch.from_numpy(np.random.default_rng(0).normal(1.0, known, (400, 1)))
    for N in sizes:
        z, prior = data[:N], factory(1, 1).double()
        prior.initialize(z.numpy(), 0)

        def model(z=z, prior=prior):
            mixture = prior.sample_globals("p")
            with pyro.plate("data", len(z)):
                c = pyro.sample("c", mixture.weights(), infer={"enumerate": "parallel"})
                pyro.sample("z", mixture.component(c))

        def approximate(z=z, prior=prior):
            prior.guide("p")
            with pyro.plate("data", len(z)):
                pyro.sample("z", dist.Normal(z, noise).to_event(1), infer={"collapse_kl": True})

        elbo = FacetELBO(num_particles=32, vectorize_particles=True, max_plate_nesting=1)
        optimizer = torch.optim.Adam(prior.parameters(), lr=0.05)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
        torch.manual_seed(0)
        for _ in range(100):
            optimizer.zero_grad()
            elbo.differentiable_loss(model, approximate).backward()
            optimizer.step()
            schedule.step()
        precision = N / known**2 + 1 / 4
        loc, width = prior._marginals()["means"]
        assert width.item() == pytest.approx(precision**-0.5, rel=0.1)
        exact = z.sum().item() / known**2 / precision
        assert loc.item() == pytest.approx(exact, abs=0.2 * precision**-0.5)


# --- the prior ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("K", "D"), [(1, 1), (1, 2), (4, 3)])
@pytest.mark.parametrize("factory", FACTORIES, ids=IDS)
def test_the_warm_up_is_standard_normal(factory, K, D):
    prior = factory(K, D)
    prior.initialize(np.random.default_rng(0).normal(3, 2, (50, D)), 0)
    prior.reset()
    component = prior.component(torch.arange(K))
    torch.testing.assert_close(component.mean, torch.zeros(K, D))
    torch.testing.assert_close(component.variance, torch.ones(K, D), atol=1e-4, rtol=0)
    torch.testing.assert_close(prior.weights().probs, torch.full((K,), 1 / K))


@pytest.mark.parametrize("factory", FACTORIES, ids=IDS)
def test_it_starts_from_a_mixture_fitted_to_the_embedding(factory):
    rng = np.random.default_rng(0)
    c = rng.integers(0, 2, 1_000)
    z = np.array([[-3.0, 0.0], [3.0, 1.0]])[c] + 0.5 * rng.normal(size=(1_000, 2)) @ [[1, 0.8], [0, 0.6]]
    prior = factory(2, 2)
    prior.initialize(z, 0)
    component = prior.component(torch.arange(2))
    order = component.mean[:, 0].argsort()
    for k in range(2):
        of_k = torch.from_numpy(z[c == k]).float()
        torch.testing.assert_close(component.mean[order[k]], of_k.mean(0), atol=1e-3, rtol=0)
        torch.testing.assert_close(component.variance[order[k]], of_k.var(0), atol=0, rtol=0.02)
        if factory.covariance == "full":
            covariance = component.covariance_matrix[order[k]]
            torch.testing.assert_close(covariance, of_k.T.cov(), atol=0.005, rtol=0.02)
    _, width = prior._marginals()["means"]
    torch.testing.assert_close(width, torch.full((2, 2), 0.5 / 500**0.5), atol=0, rtol=0.15)


@pytest.mark.parametrize("factory", [FACTORIES[0], FACTORIES[2]])
def test_outside_of_inference_it_is_the_posterior_mean(factory):
    prior = random_prior(factory, 4, 2)
    draws = samples(prior, 200_000)
    component = prior.component(torch.arange(4))
    torch.testing.assert_close(prior.weights().probs, draws["weights"].mean(0), atol=2e-3, rtol=0)
    torch.testing.assert_close(component.mean, draws["means"].mean(0), atol=5e-3, rtol=0)
    torch.testing.assert_close(component.variance, draws["scales"].square().mean(0), atol=0, rtol=0.01)


@pytest.mark.parametrize("factory", FACTORIES, ids=IDS)
@pytest.mark.parametrize("shape", [(), (5,), (3, 1), (2, 3, 4)])
def test_components_have_the_shape_of_c(factory, shape):
    prior = random_prior(factory, 4, 2)
    c = torch.randint(0, 4, shape)
    component = prior.component(c)
    assert component.batch_shape == shape
    assert component.event_shape == (2,)
    torch.testing.assert_close(component.mean, prior.component(torch.arange(4)).mean[c])


@pytest.mark.parametrize("factory", FACTORIES, ids=IDS)
def test_its_state_is_whole_from_the_start(factory, make_config, tmp_path):
    """In the module, not in Pyro's store; copied, pickled, cast, saved and loaded, after use as well."""
    state = torch.random.get_rng_state()
    prior = factory(3, 2)
    assert torch.equal(state, torch.random.get_rng_state())
    names = list(prior.state_dict())
    prior.initialize(np.random.default_rng(0).normal(size=(60, 2)), 0)
    prior.guide("p")
    assert list(prior.state_dict()) == names
    assert len(list(prior.parameters())) == len(names)
    other = factory(3, 2)
    other.load_state_dict(prior.state_dict())
    assert not len(pyro.get_param_store())
    copies = [copy.deepcopy(prior), pickle.loads(pickle.dumps(prior)), other]
    before = prior.component(torch.arange(3)).mean.clone()
    torch.manual_seed(0)
    expected = samples(prior, 2)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.zero_()
    for each in copies:
        torch.testing.assert_close(each.component(torch.arange(3)).mean, before)
        assert samples(each, 2)["means"].equal(expected["means"])
        assert samples(each.double(), 2)["scales"].dtype == torch.float64
        with poutine.trace() as trace:
            assert each.sample_globals("p").weights().probs.dtype == torch.float64
        assert {"p.weights", "p.means", "p.scales"} <= set(trace.trace)

    model = mf.MFCVAE(make_config(prior=factory), (6,))
    path = tmp_path / "model.mfcvae"
    fitted = mf.FittedMFCVAE(model, [])
    fitted.save(path)
    x = np.random.default_rng(0).random((9, 6), dtype=np.float32)
    again = mf.load(path)
    assert again.model.config == model.config
    for a, b in zip(fitted.predict_proba(x), again.predict_proba(x), strict=True):
        assert (a == b).all()
    assert fitted.sample(3).shape == (3, 6)


@pytest.mark.parametrize("factory", FACTORIES, ids=IDS)
def test_it_is_fitted_with_the_networks(factory, blobs, make_config, monkeypatch):
    x, _ = blobs
    sizes = set()
    original = FacetELBO.differentiable_loss

    def record(self, *args, data_size=None, **options):
        sizes.add(data_size)
        return original(self, *args, data_size=data_size, **options)

    monkeypatch.setattr(FacetELBO, "differentiable_loss", record)
    config = make_config(prior=factory, epochs=2, warm_up_epochs=1)
    fitted = mf.fit(x, config, seed=0, progress=False, precision="float32")
    assert sizes == {300}
    assert not len(pyro.get_param_store())
    assert all(math.isfinite(record.elbo) for record in fitted.history)
    assert (fitted.predict(x) == fitted.predict(x)).all()
    for prior in fitted.model.facet_priors:
        assert isinstance(prior, BayesianGaussianMixture)
        _, width = prior._marginals()["means"]
        assert ((width > 1e-3) & (width < 1)).all()  # trained, from the widths of the initialisation


def test_it_trains_under_pyros_svi(make_model):
    model = make_model(J=2, prior=BayesianGaussian(covariance="full"))
    before = {name: p.clone() for name, p in model.named_parameters()}
    svi = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 0.01}), loss=model.elbo())
    assert math.isfinite(svi.step(torch.rand(8, 6), data_size=100))
    assert all(not p.equal(before[name]) for name, p in model.named_parameters())
    assert not len(pyro.get_param_store())


def test_names_and_json(make_config):
    config = make_config(prior="bayesian_gaussian")
    assert mf.MFCVAEConfig.from_json(config.to_json()) == config
    factory = BayesianGaussian(concentration=0.5, covariance="full", guide="multivariate_normal")
    config = make_config(prior=factory)
    again = mf.MFCVAEConfig.from_json(config.to_json()).facets[0].prior
    assert again == factory
    assert again(3, 2).hyper_priors == HyperPriors(concentration=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concentration": 0.0}, "concentration: got 0.0, expected a positive number"),
        ({"mean_scale": math.inf}, "mean_scale: got inf"),
        ({"scale_median": -1.0}, "scale_median: got -1.0"),
        ({"covariance": "tied"}, "covariance: got 'tied', expected one of"),
        ({"guide": "delta"}, "guide: got 'delta', expected one of"),
    ],
)
def test_errors_name_the_argument(options, message):
    with pytest.raises(ValueError, match=message):
        BayesianGaussian(**options)
