import copy
import pickle

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO
from pyro.infer.enum import config_enumerate

from pyro_mfcvae import MFCVAE, Facet, FacetELBO, MFCVAEConfig, priors
from pyro_mfcvae.likelihoods import Gaussian
from pyro_mfcvae.model import FacetWeights, network_precision
from pyro_mfcvae.model.loss import ClosedFormLoss, ProgramLoss, has_closed_form, make_loss
from pyro_mfcvae.model.objectives import OBJECTIVES
from pyro_mfcvae.training import train

CASES = [
    {"J": 1, "K": 1, "D": 1, "x_shape": (1,)},
    {"J": 1, "K": 4, "D": 2, "x_shape": (6,)},
    {"J": 2, "K": (3, 5), "D": (1, 4), "x_shape": (6,)},
    {"J": 2, "K": (3, 1), "D": (2, 2), "x_shape": (1, 4, 4)},
    {"J": 3, "K": (2, 3, 4), "D": (3, 1, 2), "x_shape": (3, 4, 5)},
]


def data(model, N=5):
    return torch.rand(N, *model.x_shape, generator=torch.Generator().manual_seed(1))


def loss_of(model, x, elbo=None, seed=3, **kwargs):
    torch.manual_seed(seed)
    elbo = elbo or FacetELBO(max_plate_nesting=1)
    return elbo.differentiable_loss(model.model, model.guide, x, **kwargs)


def gradients(model, loss):
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters()}


def weighted(*kl, fade_in=None):
    """Weights of the facets, with a fade-in of one unless it is given."""
    return FacetWeights((1.0,) * len(kl) if fade_in is None else fade_in, kl)


def assert_same_objective(model, x, weights=None):
    """Without Pyro's handlers: the loss, the gradients and the random numbers that follow."""
    assert has_closed_form(model)
    loss = loss_of(model, x, model.elbo(), weights=weights)
    expected, following = gradients(model, loss), torch.rand(1)
    torch.manual_seed(3)
    objective = model.objective(x, weights)
    torch.testing.assert_close(-objective, loss)
    actual = gradients(model, -objective)
    assert torch.equal(torch.rand(1), following)
    for name, gradient in expected.items():
        if gradient is None:  # of what takes no part; the handlers leave it out or give it zeros
            assert actual[name] is None or not actual[name].any(), name
        else:
            given = torch.zeros_like(gradient) if actual[name] is None else actual[name]
            torch.testing.assert_close(given, gradient, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("num_kl_samples", [1, 3])
def test_the_objective_is_that_of_the_programs(make_model, case, objective, num_kl_samples):
    model = make_model(**case, elbo=objective, num_kl_samples=num_kl_samples)
    assert_same_objective(model, data(model))
    assert_same_objective(model, data(model, 1))
    weights = weighted(*(0.5 + j for j in range(case["J"])), fade_in=[0.3] * case["J"])
    assert_same_objective(model, data(model), weights)


@pytest.mark.parametrize("prior", sorted(set(priors.available()) - {"bayesian_gaussian"}))
@pytest.mark.parametrize("weights", [(1.0, 0.2), (0.0, 1.0)])
def test_the_objective_is_that_of_the_programs_for_every_prior(make_model, prior, weights):
    K = 1 if prior == "standard_normal" else 3
    model = make_model(J=2, K=K, prior=prior)
    assert_same_objective(model, data(model), weighted(*weights))


def test_programs_that_differ_are_run(make_model):
    class OtherGuide(MFCVAE):
        def guide(self, x, **kwargs):
            return super().guide(x, **kwargs)

    class OtherELBO(MFCVAE):
        def elbo(self, **options):
            return super().elbo(**options)

    model = make_model()
    assert isinstance(make_loss(model), ClosedFormLoss)
    others = [kind(model.config, model.x_shape) for kind in (OtherGuide, OtherELBO)]
    others += [make_model(num_particles=2), make_model(prior="bayesian_gaussian")]
    for other in others:
        assert isinstance(make_loss(other), ProgramLoss)


@pytest.mark.parametrize("data_size", [None, 50])
def test_both_losses_are_the_same(make_model, data_size):
    model, weights = make_model(), weighted(0.5, 2.0, fade_in=(0.25, 1.0))
    x = data(model)
    losses = []
    for kind in (ClosedFormLoss, ProgramLoss):
        torch.manual_seed(3)
        losses.append(kind(model, data_size)(x, weights))
    if data_size is None:
        torch.testing.assert_close(*losses)
    assert losses[1] == loss_of(model, x, model.elbo(), weights=weights, data_size=data_size) / (
        data_size or 5
    )


def test_an_elbo_of_ones_own_is_what_trains(make_config):
    """And not the closed form beside it."""

    class Doubled(FacetELBO):
        def differentiable_loss(self, *arguments, **options):
            return 2 * super().differentiable_loss(*arguments, **options)

    class Other(MFCVAE):
        def elbo(self, **options):
            return Doubled(max_plate_nesting=1)

    losses = []
    for kind in (MFCVAE, Other):
        torch.manual_seed(0)
        model = kind(make_config(J=1, epochs=1, batch_size=40), (6,))
        losses.append(train(model, torch.rand(40, 6), seed=0, progress=False)[0].loss)
    assert losses[1] == pytest.approx(2 * losses[0], rel=1e-5)


def test_weights_that_do_not_belong_together():
    with pytest.raises(ValueError, match="kl: got 1 weights with 2 of fade_in, expected one of each"):
        FacetWeights((1.0, 1.0), (1.0,))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("N", [1, 5])
def test_shapes_of_the_sites(make_model, case, N):
    model = make_model(**case)
    x = data(model, N)
    guide_trace = poutine.trace(model.guide).get_trace(x)
    enumerated = poutine.enum(config_enumerate(model.model), first_available_dim=-2)
    trace = poutine.trace(poutine.replay(enumerated, trace=guide_trace)).get_trace(x)
    trace.compute_log_prob()
    for j, facet in enumerate(model.config.facets):
        K, D, ones = facet.clusters, facet.latent_dim, (1,) * j
        assert guide_trace.nodes[f"z_{j}"]["value"].shape == (N, D)
        assert guide_trace.nodes[f"z_{j}"]["infer"]["collapse_kl"]
        assert trace.nodes[f"c_{j}"]["value"].shape == (K, *ones, 1)
        assert trace.nodes[f"z_{j}"]["log_prob"].shape == (K, *ones, N)
    assert trace.nodes["x"]["log_prob"].shape == (N,)
    assert trace.nodes["x"]["value"] is x
    names = [n for n, site in trace.nodes.items() if site["type"] == "sample" and n != "data"]
    assert names == [f"{site}_{j}" for j in range(case["J"]) for site in "cz"] + ["x"]


@pytest.mark.parametrize("case", CASES)
def test_loss_is_minus_the_sum_of_the_elbo_terms(make_model, case):
    model = make_model(**case)
    x = data(model)
    loss = loss_of(model, x)
    torch.manual_seed(3)
    terms = model.elbo_terms(x)
    assert terms.log_likelihood.shape == (5,)
    assert [term.shape for term in terms.facets] == [(5,)] * case["J"]
    torch.testing.assert_close(loss, -terms.elbo.sum())
    torch.testing.assert_close(loss_of(model, x, data_size=50), -10 * terms.elbo.sum())
    weights = weighted(*(0.5 + j for j in range(case["J"])))
    expected = terms.log_likelihood.sum() + sum((0.5 + j) * term.sum() for j, term in enumerate(terms.facets))
    torch.testing.assert_close(loss_of(model, x, weights=weights), -expected)


@pytest.mark.parametrize("case", CASES)
def test_parts_agree_with_direct_formulae(make_model, case):
    """Every term again, in float64, from the statistics alone."""
    model = make_model(**case).double()
    x = data(model).double()
    torch.manual_seed(3)
    terms = model.elbo_terms(x)
    torch.manual_seed(3)
    z = []
    for j, (q, prior) in enumerate(zip(model.encode(x), model.facet_priors, strict=True)):
        m, v = q.mean, q.variance
        z.append(m + v.sqrt() * torch.randn(m.shape, dtype=m.dtype))
        mu, sigma2 = prior.loc, prior.component(torch.arange(prior.clusters)).variance
        pi = prior.mixing.logits.exp() / prior.mixing.logits.exp().sum()
        kl = 0.5 * ((sigma2[:, None] / v).log() + (v + (m - mu[:, None]) ** 2) / sigma2[:, None] - 1).sum(
            -1
        )  # (K, N)
        joint = pi[:, None] * (-kl).exp()
        torch.testing.assert_close(terms.facets[j], joint.sum(0).log())
        torch.testing.assert_close(terms.responsibilities[j], (joint / joint.sum(0)).T)
    p = model.decode(z).sigmoid()
    expected = (x * p.log() + (1 - x) * (1 - p).log()).flatten(1).sum(1)
    torch.testing.assert_close(terms.log_likelihood, expected)
    torch.testing.assert_close(terms.elbo, expected + sum(terms.facets))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("beta", [1.0, 0.1])
def test_elbo_and_module_give_the_same_responsibilities(make_model, case, beta):
    model = make_model(**case)
    weights = weighted(*[beta] * case["J"])
    x = data(model)
    from_elbo = FacetELBO(max_plate_nesting=1).responsibilities(model.model, model.guide, x, weights=weights)
    for j, r in enumerate(model.responsibilities(model.encode(x))):
        assert r.shape == (5, model.config.facets[j].clusters)
        torch.testing.assert_close(from_elbo[f"c_{j}"], r)


def test_responsibilities_with_a_kl_weight_of_zero_are_unchanged(make_model):
    """The design: they do not depend on beta_j."""
    model = make_model()
    x = data(model)
    expected = model.responsibilities(model.encode(x))
    weights = weighted(0.0, 1.0)
    actual = FacetELBO(max_plate_nesting=1).responsibilities(model.model, model.guide, x, weights=weights)
    torch.testing.assert_close([actual["c_0"], actual["c_1"]], list(expected))


@pytest.mark.parametrize("facet", [0, 1, 2])
def test_a_kl_weight_of_zero_leaves_the_prior_out(make_model, facet):
    model = make_model(J=3)
    x = data(model)
    weights = weighted(*(float(j != facet) for j in range(3)))
    loss = loss_of(model, x, weights=weights)
    grads = gradients(model, loss)
    own = [name for name in grads if name.startswith(f"priors.{facet}.")]
    assert len(own) == 3
    for name, gradient in grads.items():
        if name in own:
            assert gradient is None or not gradient.any(), name
        else:
            assert gradient.any(), name
    with torch.no_grad():
        for parameter in model.facet_priors[facet].parameters():
            parameter.mul_(3.0).add_(1.0)
    assert loss_of(model, x, weights=weights) == loss


@pytest.mark.parametrize("facet", [0, 1])
def test_a_facet_with_neither_fade_in_nor_weight_has_no_influence(make_model, facet):
    model = make_model(J=3)
    x = data(model)
    on = tuple(float(j != facet) for j in range(3))
    weights = FacetWeights(on, on)
    loss = loss_of(model, x, weights=weights)
    grads = gradients(model, loss)
    own = (f"priors.{facet}.", f"encoder.facet_modules.{facet}.", f"decoder.facet_modules.{facet}.")
    for name, gradient in grads.items():
        if name.startswith(own):
            assert gradient is None or not gradient.any(), name
        else:
            assert gradient.any(), name
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(own):
                parameter.mul_(3.0).add_(1.0)
    assert loss_of(model, x, weights=weights) == loss


@pytest.mark.parametrize("case", CASES[1:])
def test_a_gradient_reaches_every_parameter(make_model, case):
    model = make_model(**case, width=16)
    lone = [f"priors.{j}.mixing.logits" for j, facet in enumerate(model.config.facets) if facet.clusters == 1]
    for name, gradient in gradients(model, loss_of(model, data(model, 20))).items():
        if name in lone:  # a single weight is one whatever its logit
            assert gradient is None or not gradient.any(), name
        else:
            assert gradient.isfinite().all(), name
            assert gradient.any(), name


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("N", [1, 7])
def test_prior_predictive(make_model, case, N):
    model = make_model(**case)
    torch.manual_seed(0)
    trace = poutine.trace(model.model).get_trace(None, data_size=N)
    x = trace.nodes["x"]["value"]
    assert x.shape == (N, *case["x_shape"])
    assert set(x.unique().tolist()) <= {0.0, 1.0}
    for j, facet in enumerate(model.config.facets):
        c = trace.nodes[f"c_{j}"]["value"]
        assert c.shape == (N,)
        assert c.max() < facet.clusters
        assert trace.nodes[f"z_{j}"]["value"].shape == (N, facet.latent_dim)


def test_prior_predictive_needs_a_size(make_model):
    with pytest.raises(ValueError, match="data_size"):
        make_model().model()


@pytest.mark.parametrize("beta", [1.0, 0.0])
def test_svi_of_pyro_trains_it_without_the_parameter_store(make_model, beta):
    model = make_model(J=2)
    weights = weighted(beta, 1.0)
    before = copy.deepcopy(model.state_dict())
    x = data(model, 20)
    svi = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 0.01}), loss=FacetELBO(max_plate_nesting=1))
    losses = [svi.step(x, weights=weights) for _ in range(100)]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert len(pyro.get_param_store()) == 0
    for name, parameter in model.named_parameters():
        moved = not torch.equal(parameter, before[name])
        assert moved == (beta > 0 or not name.startswith("priors.0.")), name


def test_svi_leaves_frozen_parameters_alone(make_model):
    model = make_model()
    model.encoder.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    svi = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 0.01}), loss=FacetELBO(max_plate_nesting=1))
    for _ in range(3):
        svi.step(data(model))
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == name.startswith("encoder."), name


def test_two_models_never_touch(make_model):
    first, second = make_model(seed=1), make_model(seed=2)
    x = data(first)
    alone = copy.deepcopy(first)
    before = copy.deepcopy(second.state_dict())

    def train(model, other=None):
        elbo = FacetELBO(max_plate_nesting=1)
        svi = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 0.01}), loss=elbo)
        for step in range(5):
            torch.manual_seed(step)
            svi.step(x)
            if other is not None:
                elbo.differentiable_loss(other.model, other.guide, x)

    train(first, second)
    train(alone)
    for name, parameter in first.state_dict().items():
        assert torch.equal(parameter, alone.state_dict()[name]), name
        assert torch.equal(second.state_dict()[name], before[name]), name
    assert all(parameter.grad is None for parameter in second.parameters())


def test_a_used_model_can_be_copied_and_pickled(make_model):
    """Workers of a process pool, joblib and copy.deepcopy need this."""
    model = make_model()
    x = data(model)
    loss = loss_of(model, x)
    assert loss_of(copy.deepcopy(model), x) == loss
    assert loss_of(pickle.loads(pickle.dumps(model)), x) == loss


@pytest.mark.parametrize("case", CASES)
def test_double_precision(make_model, case):
    model = make_model(**case)
    single = loss_of(model, data(model))
    model.double()
    torch.manual_seed(3)
    terms = model.elbo_terms(data(model).double())
    for tensor in (terms.elbo, *terms.facets, *terms.responsibilities):
        assert tensor.dtype == torch.float64
    loss = loss_of(model, data(model).double())
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(single.item(), rel=0.5)  # float64 has a random stream of its own


@pytest.mark.parametrize("likelihood", ["bernoulli", Gaussian(0.3), Gaussian(0.3, standardize=True)])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_loss_is_finite_for_every_objective(make_model, objective, likelihood):
    model = make_model(elbo=objective, likelihood=likelihood)
    assert model.elbo().objective == objective
    loss = loss_of(model, data(model), model.elbo(num_kl_samples=2))
    assert all(g.isfinite().all() for g in gradients(model, loss).values())


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("x_shape", [(6,), (2, 3, 4)])
def test_samples_are_those_of_the_configuration(make_model, objective, x_shape):
    """Particles lie to the left of the data, through the decoder and the likelihood."""
    model = make_model(elbo=objective, num_kl_samples=3, num_particles=4, x_shape=x_shape)
    elbo = model.elbo()
    assert (elbo.num_kl_samples, elbo.num_particles) == (3, 4)
    x = data(model)
    shapes = []
    model.decoder.register_forward_hook(lambda _module, _args, output: shapes.append(output.shape))
    loss_of(model, x, elbo)
    assert shapes == [(4 * len(x), *x_shape)]
    many = loss_of(model, x, model.elbo(num_particles=3_000)).item()
    one_by_one = [
        loss_of(model, x, model.elbo(num_particles=1, num_kl_samples=3), seed=s).item() for s in range(300)
    ]
    assert many == pytest.approx(np.mean(one_by_one), abs=5 * np.std(one_by_one) / 300**0.5)


def test_parameters_are_declared(make_model):
    model = make_model()
    trace = poutine.trace(model.model).get_trace(data(model))
    assert set(trace.param_nodes) == {name for name, _ in model.named_parameters()}


def test_decode_takes_latents_of_any_batch_shape(make_model):
    model = make_model(x_shape=(2, 3))
    z = [torch.randn(5, 4, 2) for _ in range(2)]
    out = model.decode(z)
    assert out.shape == (5, 4, 2, 3)
    torch.testing.assert_close(out[3], model.decode([z_j[3] for z_j in z]))


@pytest.mark.parametrize("case", CASES)
def test_stock_elbos_run_on_it(make_model, case):
    """And what stock TraceEnum_ELBO computes is our marginal objective."""
    model = make_model(**case)
    x = data(model)
    stock = loss_of(model, x, TraceEnum_ELBO(max_plate_nesting=1))
    marginal = loss_of(model, x, FacetELBO("marginal", max_plate_nesting=1))
    torch.testing.assert_close(stock, marginal)
    others = gradients(model, marginal)
    for name, gradient in gradients(model, stock).items():
        if others[name] is None:  # the weight of a single component
            assert not gradient.any(), name
        else:
            torch.testing.assert_close(gradient, others[name], atol=1e-4, rtol=1e-3)


def test_bfloat16_networks_give_float32_densities(make_model):
    model = make_model(x_shape=(16,), width=32)
    x = data(model)
    exact = model.elbo_terms(x)
    with network_precision("bfloat16"):
        q = model.encode(x)
        assert all(q_j.mean.dtype == q_j.variance.dtype == torch.float32 for q_j in q)
        assert model.decode([q_j.mean for q_j in q]).dtype == torch.float32
        torch.manual_seed(0)
        rough = model.elbo_terms(x)
        loss = loss_of(model, x)
        assert all(g.dtype == torch.float32 for g in gradients(model, loss).values())
    torch.manual_seed(0)
    exact = model.elbo_terms(x)
    for a, b in zip((rough.elbo, *rough.facets), (exact.elbo, *exact.facets), strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.1)
        assert not torch.equal(a, b)  # it did compute in bfloat16


@pytest.mark.parametrize("x_shape", [6, (), (0,), (3, -1), None])
def test_bad_shapes(make_config, x_shape):
    with pytest.raises((TypeError, ValueError), match="x_shape"):
        MFCVAE(make_config(), x_shape)


def test_the_shape_may_be_a_torch_size(make_config):
    assert MFCVAE(make_config(), torch.Size([2, 3])).x_shape == (2, 3)


def test_all_parameters_are_there_from_the_start():
    """With the names that Stage.freeze relies on."""
    model = MFCVAE(MFCVAEConfig(facets=(Facet(2, 2), Facet(2, 2))), (6,))
    names = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert names == {"encoder", "decoder", "priors"}
    assert not any(isinstance(p, torch.nn.UninitializedParameter) for p in model.parameters())
    facet_modules = {n.rsplit(".", 1)[0] for n, _ in model.named_parameters() if ".facet_modules." in n}
    assert facet_modules == {
        "encoder.facet_modules.0",
        "encoder.facet_modules.1",
        "decoder.facet_modules.0.0",
    }
