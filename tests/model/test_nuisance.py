"""A latent without clusters, in the model, in its programs and in every objective."""

import dataclasses

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, TraceEnum_ELBO, infer_discrete

from pyro_mfcvae import MFCVAE, Facet, FacetELBO, MFCVAEConfig
from pyro_mfcvae.likelihoods import Gaussian
from pyro_mfcvae.model import FacetWeights
from pyro_mfcvae.model.loss import ClosedFormLoss, ProgramLoss, make_loss
from pyro_mfcvae.model.objectives import OBJECTIVES

CASES = [
    {"J": 1, "K": 1, "D": 1, "nuisance": 1, "x_shape": (6,)},
    {"J": 2, "K": (3, 4), "D": (2, 1), "nuisance": 3, "x_shape": (6,)},
    {"J": 2, "K": (3, 4), "D": (2, 1), "nuisance": 3, "x_shape": (1, 4, 4)},
]


def data(model, N=5):
    return torch.rand(N, *model.x_shape, generator=torch.Generator().manual_seed(1))


def loss_and_gradients(loss, x, weights, model):
    model.zero_grad(set_to_none=True)
    torch.manual_seed(3)
    value = loss(x, weights)
    value.backward()
    return value.detach(), {n: p.grad for n, p in model.named_parameters()}, torch.rand(1)


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_last_latent_and_no_facet(make_model, case):
    model = make_model(**case)
    J, D = case["J"], case["nuisance"]
    assert len(model.facet_priors) == J
    assert model.config.latent_dims == (*(f.latent_dim for f in model.config.facets), D)
    assert model.latent_sites == (*(f"z_{j}" for j in range(J)), "z_nuisance")
    x = data(model)
    q = model.encode(x)
    assert [q_j.event_shape[0] for q_j in q] == list(model.config.latent_dims)
    assert [r.shape[1] for r in model.responsibilities(q)] == [f.clusters for f in model.config.facets]
    terms = model.elbo_terms(x)
    assert len(terms.facets) == len(terms.responsibilities) == J
    torch.testing.assert_close(terms.elbo, terms.log_likelihood + sum(terms.facets) + terms.nuisance)


def test_without_one_nothing_tells_of_it(make_model):
    model = make_model()
    assert model.nuisance is None
    assert model.latent_priors == model.facet_priors
    assert model.elbo_terms(data(model)).nuisance is None
    assert "z_nuisance" not in poutine.trace(model.model).get_trace(data(model)).nodes


def test_it_has_no_parameters_of_a_prior(make_model):
    """And so no part in a file of the model beside its networks."""
    names = {name.split(".")[0] for name in make_model(nuisance=2).state_dict()}
    assert names == {"encoder", "decoder", "priors"}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("beta", [1.0, 0.3, 0.0])
def test_both_losses_are_the_same(make_model, case, objective, beta):
    """With their gradients, and the random numbers that follow unless something is left out."""
    model = make_model(**case, elbo=objective, num_kl_samples=2)
    assert isinstance(make_loss(model), ClosedFormLoss)
    weights = FacetWeights((0.5,) * case["J"] + (1.0,), (0.7,) * case["J"] + (beta,))
    x = data(model)
    (value, gradients, following), (other, others, follow) = (
        loss_and_gradients(kind(model), x, weights, model) for kind in (ClosedFormLoss, ProgramLoss)
    )
    torch.testing.assert_close(value, other)
    assert beta == 0 or torch.equal(following, follow)
    for name, gradient in gradients.items():
        expected = others[name]
        if gradient is None or expected is None:
            assert not any(g is not None and g.any() for g in (gradient, expected)), name
        else:
            torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_the_loss_agrees_with_brute_force(make_model, case):
    """In float64, value and gradient: every normalised joint written out, all clusters summed over."""
    model = make_model(**case).double()
    x, beta = data(model).double(), 0.6
    weights = FacetWeights((1.0,) * case["J"] + (1.0,), (1.0,) * case["J"] + (beta,))
    value, gradients, _ = loss_and_gradients(ProgramLoss(model), x, weights, model)

    model.zero_grad(set_to_none=True)
    torch.manual_seed(3)
    statistics = model.encoder(model.likelihood.preprocess(x))
    z = [m + s * torch.randn(m.shape, dtype=m.dtype) for m, s in statistics]
    p = model.decode(z).sigmoid()
    total = (x * p.log() + (1 - x) * (1 - p).log()).sum()
    for prior, (m, s) in zip(model.facet_priors, statistics, strict=False):
        pi = prior.mixing.logits.exp() / prior.mixing.logits.exp().sum()
        sigma = prior.component(torch.arange(prior.clusters)).variance.sqrt()
        for n in range(len(x)):
            kl = [
                (
                    (sigma[k] / s[n]).log()
                    + (s[n] ** 2 + (m[n] - prior.loc[k]) ** 2) / (2 * sigma[k] ** 2)
                    - 0.5
                )
                for k in range(prior.clusters)
            ]
            total = total + sum(pi[k] * (-kl[k].sum()).exp() for k in range(prior.clusters)).log()
    m, s = statistics[-1]
    total = total - beta * 0.5 * (m**2 + s**2 - 1 - 2 * s.log()).sum()
    expected = -total / len(x)
    expected.backward()
    torch.testing.assert_close(value, expected.detach(), rtol=1e-10, atol=1e-10)
    for name, parameter in model.named_parameters():
        if name.endswith("mixing.logits"):  # their gradient may lack a zero
            continue
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-8, atol=1e-10, msg=name)


def test_stock_elbo_is_the_marginal_objective(make_model):
    model = make_model(nuisance=2)
    x, losses = data(model), []
    for elbo in (TraceEnum_ELBO(max_plate_nesting=1), FacetELBO("marginal", max_plate_nesting=1)):
        torch.manual_seed(3)
        losses.append(elbo.differentiable_loss(model.model, model.guide, x))
    torch.testing.assert_close(*losses)


def test_its_divergence_has_no_noise(make_model):
    """The loss depends on the sample of z by the likelihood only."""
    model = make_model(nuisance=2)
    weights = FacetWeights((0.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    x = data(model)
    losses = [ProgramLoss(model)(x, weights) for _ in range(2)]
    with torch.no_grad():
        expected = -(model.elbo_terms(x, weights).log_likelihood + model.elbo_terms(x).nuisance).mean()
    torch.testing.assert_close(losses, [expected] * 2)


def test_particles_lie_to_the_left(make_model):
    model = make_model(nuisance=2, num_particles=4, x_shape=(2, 3))
    assert isinstance(make_loss(model), ProgramLoss)
    assert make_loss(model)(data(model), model.full_weights).isfinite()


def test_programs_draw_from_the_prior_and_the_guide(make_model):
    model = make_model(nuisance=3)
    prior = Predictive(model.model, num_samples=4)(data_size=7)
    assert prior["z_nuisance"].shape == (4, 7, 3)
    x = data(model)
    posterior = Predictive(model.model, guide=model.guide, num_samples=2, return_sites=["z_nuisance", "x"])(x)
    assert posterior["z_nuisance"].shape == (2, 5, 3)
    trace = poutine.trace(model.guide).get_trace(x)
    given = {site: trace.nodes[site]["value"].detach() for site in model.latent_sites}
    inferred = infer_discrete(poutine.condition(model.model, data=given), first_available_dim=-2)
    sites = poutine.trace(inferred).get_trace(x).nodes
    assert sites["c_1"]["value"].shape == (5,)
    assert sites["z_nuisance"]["value"].shape == (5, 3)


def test_svi_trains_it(make_model):
    model = make_model(nuisance=2)
    x = data(model, 20)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    svi = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 0.01}), loss=FacetELBO(max_plate_nesting=1))
    losses = [svi.step(x) for _ in range(40)]
    assert sum(losses[-10:]) < sum(losses[:10])
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_latents_and_weights_are_counted(make_model):
    model = make_model(nuisance=2)
    z = [torch.zeros(5, 2)] * 3
    with pytest.raises(ValueError, match=r"z: got 2, expected one .* 3 latents, z_0, z_1, z_nuisance"):
        model.decode(z[:2])
    with pytest.raises(ValueError, match="weights: got 2, expected one"):
        model.decode(z, FacetWeights.full(2))


@pytest.mark.parametrize(
    "network",
    [
        "fully_connected_ladder",
        "fully_connected_separate_encoders",
        "fully_connected_additive",
        "fully_connected_shared",
        "convolutional_ladder",
        "convolutional_separate_encoders",
        "convolutional_additive",
        "convolutional_shared",
    ],
)
def test_every_network_has_room_for_it(network):
    config = MFCVAEConfig((Facet(3, 2), Facet(2, 1)), Gaussian(), network, nuisance=4)
    config = dataclasses.replace(config, network=_small(config.network))
    model = MFCVAE(config, (1, 8, 8))
    x = data(model, 6)
    _, gradients, _ = loss_and_gradients(ClosedFormLoss(model), x, model.full_weights, model)
    for name, gradient in gradients.items():
        assert name.startswith("priors.") or gradient.any(), name
    z = [q.mean for q in model.encode(x)]
    moved = model.decode([*z[:2], z[2] + 1.0])
    assert not torch.allclose(moved, model.decode(z))


def _small(network):
    """The same kind of network, small."""
    if hasattr(network, "channels"):
        return dataclasses.replace(network, channels=2)
    widths = (8,) * (3 if hasattr(network, "gate") else 2)
    return dataclasses.replace(network, widths=widths)
