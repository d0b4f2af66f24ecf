import itertools
import math
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDelta, AutoNormal

from pyro_mfcvae import FacetELBO
from pyro_mfcvae.model import kl as kl_module
from pyro_mfcvae.model.objectives import OBJECTIVES, facet_responsibilities, facet_term, facet_value

SHAPES = [(J, K, D, N) for J, K, D, N in itertools.product((1, 2, 3), (1, 3), (1, 2), (1, 4))]
ENUMERATE = {"enumerate": "parallel"}
COLLAPSE = {"collapse_kl": True}


@pytest.fixture(params=["direct", "product"])
def form(request, monkeypatch):
    """The two forms of the KL divergences, which are chosen by size otherwise."""
    monkeypatch.setattr(kl_module, "DIRECT_SIZE", {"direct": math.inf, "product": -1}[request.param])
    return request.param


class Program:
    """A hand-written Pyro program: J facets, a linear-Gaussian likelihood, a free posterior.

    Its parameters are ``pyro.param``s, so that the gradients of all three loss methods can be read.
    """

    def __init__(self, J=2, K=3, D=2, N=4, dtype=torch.float64, betas=None, size=None, masks=None, seed=0):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        self.J, self.K, self.N, self.D = J, K, N, D
        self.betas = betas or [1.0] * J
        self.masks = masks or [None] * J
        self.size = size or N
        self.x = draw(N, 3)
        self.values = {}
        for j in range(J):
            self.values |= {
                f"logits_{j}": draw(K),
                f"mu_{j}": draw(K, D),
                f"log_sigma_{j}": 0.5 * draw(K, D),
                f"loading_{j}": draw(D, 3),
                f"m_{j}": draw(N, D),
                f"log_s_{j}": 0.5 * draw(N, D) - 1,
            }

    def param(self, name, j):
        return pyro.param(f"{name}_{j}", lambda: self.values[f"{name}_{j}"].clone())

    def plate(self):
        subsample = torch.arange(self.N) if self.size > self.N else None
        return pyro.plate("data", self.size, subsample=subsample)

    def weighted(self, j):
        mask = self.masks[j]
        return poutine.scale(scale=self.betas[j]) if mask is None else poutine.mask(mask=mask)

    def model(self):
        with self.plate():
            mean = 0.0
            for j in range(self.J):
                with self.weighted(j):
                    prior = dist.Categorical(logits=self.param("logits", j))
                    c = pyro.sample(f"c_{j}", prior, infer=ENUMERATE)
                    mu, sigma = self.param("mu", j)[c], self.param("log_sigma", j).exp()[c]
                    z = pyro.sample(f"z_{j}", dist.Normal(mu, sigma).to_event(1))
                mean = mean + z @ self.param("loading", j)
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=self.x)

    def guide(self):
        with self.plate():
            for j in range(self.J):
                with self.weighted(j):
                    q = dist.Normal(self.param("m", j), self.param("log_s", j).exp())
                    pyro.sample(f"z_{j}", q.to_event(1), infer=COLLAPSE)

    # What follows is written without the package: loops over k, no log-sum-exp, no Pyro.

    def kl(self, p, j):
        """KL(q(z_j|x_n) || p(z_j|c_j=k)), shape (N, K)."""
        m, s = p[f"m_{j}"], p[f"log_s_{j}"].exp()
        columns = []
        for k in range(self.K):
            mu, sigma = p[f"mu_{j}"][k], p[f"log_sigma_{j}"][k].exp()
            columns.append(
                ((sigma / s).log() + (s**2 + (m - mu) ** 2) / (2 * sigma**2) - 0.5).sum(1)  # (N,)
            )
        return torch.stack(columns, 1)

    def pi(self, p, j):
        weights = p[f"logits_{j}"].exp()
        return weights / weights.sum()

    def facet_terms(self, p, j):
        """Facet term of each datum, (N,)."""
        kl, pi, total = self.kl(p, j), self.pi(p, j), 0.0
        for k in range(self.K):
            total = total + pi[k] * (-kl[:, k]).exp()
        return total.log()

    def log_likelihood(self, p, sample_shape=()):
        """Sum over the data, at a sample of z that is drawn as the guide draws it."""
        mean = 0.0
        for j in range(self.J):
            z = torch.distributions.Normal(p[f"m_{j}"], p[f"log_s_{j}"].exp()).rsample(sample_shape)
            mean = mean + z @ p[f"loading_{j}"]
        return (-0.5 * (self.x - mean) ** 2 - 0.5 * math.log(2 * math.pi)).sum()

    def leaves(self):
        return {name: value.clone().requires_grad_() for name, value in self.values.items()}

    def explicit_elbo(self, p):
        elbo = self.log_likelihood(p)
        for j in range(self.J):
            term, mask = self.facet_terms(p, j), self.masks[j]
            term = term * (1.0 if mask is None else torch.as_tensor(mask).to(term.dtype))
            elbo = elbo + self.betas[j] * term.sum()
        return self.size / self.N * elbo


def run(elbo, program, method="differentiable_loss", seed=1):
    """Loss and the gradients of all parameters; None where there is none."""
    pyro.clear_param_store()
    torch.manual_seed(seed)
    loss = getattr(elbo, method)(program.model, program.guide)
    if isinstance(loss, torch.Tensor):
        loss.backward()
        loss = loss.item()
    return loss, {name: p.grad for name, p in pyro.get_param_store().named_parameters()}


def assert_same_gradients(left, right, **tolerance):
    assert left.keys() == right.keys()
    for name in left:
        pair = [torch.zeros(()) if g is None else g for g in (left[name], right[name])]
        torch.testing.assert_close(
            *torch.broadcast_tensors(*pair), msg=lambda m, n=name: f"{n}: {m}", check_dtype=False, **tolerance
        )


# --- the theorem --------------------------------------------------------------------------------


@pytest.mark.parametrize(("J", "K", "D", "N"), SHAPES)
def test_analytic_is_the_maximum_over_all_categorical_posteriors(J, K, D, N, form):
    """In value, in its maximiser and, by the envelope theorem, in its gradients."""
    program = Program(J, K, D, N)
    responsibilities = FacetELBO(max_plate_nesting=1).responsibilities(program.model, program.guide)
    loss, gradients = run(FacetELBO(max_plate_nesting=1), program)

    torch.manual_seed(1)
    leaves = program.leaves()
    elbo = program.log_likelihood(leaves)
    for j in range(J):
        terms = program.pi(leaves, j).log() - program.kl(leaves, j)
        log_joint = terms.detach()
        logits = torch.zeros(N, K, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [logits],
            max_iter=500,
            tolerance_grad=1e-12,
            tolerance_change=1e-16,
            line_search_fn="strong_wolfe",
        )

        def negative_elbo(logits=logits, log_joint=log_joint, optimizer=optimizer):
            optimizer.zero_grad()
            log_q = logits.log_softmax(1)
            loss = -(log_q.exp() * (log_joint - log_q)).sum()
            loss.backward()
            return loss

        optimizer.step(negative_elbo)
        q = logits.detach().softmax(1)
        elbo = elbo + (q * (terms - q.log())).sum()
        assert responsibilities[f"c_{j}"].shape == (N, K)
        torch.testing.assert_close(responsibilities[f"c_{j}"], q, atol=1e-4, rtol=0)
    assert -loss == pytest.approx(elbo.item(), abs=1e-7)
    (-elbo).backward()
    assert_same_gradients(gradients, {name: p.grad for name, p in leaves.items()}, atol=1e-3, rtol=1e-3)


def assert_explicit(program, loss, gradients):
    """Loss and gradients are those of the formula, written out."""
    leaves = program.leaves()
    torch.manual_seed(1)
    elbo = program.explicit_elbo(leaves)
    (-elbo).backward()
    assert loss == pytest.approx(-elbo.item(), rel=1e-12)
    assert_same_gradients(
        gradients, {name: leaf.grad for name, leaf in leaves.items()}, atol=1e-10, rtol=1e-9
    )


@pytest.mark.parametrize("method", ["differentiable_loss", "loss_and_grads"])
@pytest.mark.parametrize(("J", "K", "D", "N"), SHAPES)
def test_value_and_gradients_equal_the_explicit_formula(J, K, D, N, method, form):
    program = Program(J, K, D, N)
    loss, gradients = run(FacetELBO(max_plate_nesting=1), program, method)
    assert_explicit(program, loss, gradients)


def test_second_derivatives_are_those_of_the_formula(form):
    program = Program(J=1)
    torch.manual_seed(1)
    loss = FacetELBO(max_plate_nesting=1).differentiable_loss(program.model, program.guide)
    parameters = dict(pyro.get_param_store().named_parameters())
    leaves = program.leaves()
    torch.manual_seed(1)
    explicit = -program.explicit_elbo(leaves)
    results = []
    for value, variables in ((loss, parameters), (explicit, leaves)):
        names = sorted(variables)
        first = torch.autograd.grad(value, [variables[n] for n in names], create_graph=True)
        squares = sum((g**2).sum() for g in first)
        results.append(torch.autograd.grad(squares, [variables[n] for n in names], materialize_grads=True))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=1e-8)


# --- the relatives ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["differentiable_loss", "loss_and_grads"])
@pytest.mark.parametrize(("J", "K", "D", "N"), SHAPES)
def test_marginal_equals_stock_enumeration(J, K, D, N, method):
    program = Program(J, K, D, N)
    ours, our_gradients = run(FacetELBO("marginal", max_plate_nesting=1), program, method)
    stock, stock_gradients = run(TraceEnum_ELBO(max_plate_nesting=1), program, method)
    assert ours == pytest.approx(stock, rel=1e-12)
    assert_same_gradients(our_gradients, stock_gradients, atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize("objective", ["monte_carlo", "vade"])
@pytest.mark.parametrize(("J", "K", "D", "N"), [(1, 3, 1, 4), (2, 3, 2, 4), (3, 1, 2, 1)])
def test_one_sample_relatives_are_the_same_number(J, K, D, N, objective):
    program = Program(J, K, D, N)
    ours, our_gradients = run(FacetELBO(objective, max_plate_nesting=1), program)
    marginal, marginal_gradients = run(FacetELBO("marginal", max_plate_nesting=1), program)
    assert ours == pytest.approx(marginal, rel=1e-10)
    assert_same_gradients(our_gradients, marginal_gradients, atol=1e-9, rtol=1e-8)
    analytic, _ = run(FacetELBO(max_plate_nesting=1), program)
    assert ours != pytest.approx(analytic, rel=1e-3)  # they are estimates, it is exact


def test_monte_carlo_converges_to_analytic():
    program = Program(J=2)
    analytic, gradients = run(FacetELBO(max_plate_nesting=1), program)
    errors = []
    for L in (10, 40_000):
        estimate = FacetELBO("monte_carlo", num_kl_samples=L, max_plate_nesting=1)
        loss, estimated = run(estimate, program)
        errors.append(abs(loss - analytic))
    assert errors[1] < 0.05 < errors[0]
    assert_same_gradients(estimated, gradients, atol=0.1, rtol=0.05)


class Stratified(torch.distributions.Normal):
    """A Normal that samples its own quantiles: estimates become expectations."""

    def rsample(self, sample_shape=()):
        (L,) = sample_shape
        nodes = (torch.arange(1, L + 1, dtype=torch.float64) + 0.5) / (L + 1)
        return self.icdf(nodes.unsqueeze(-1))

    def first(self, L):
        return self.icdf(torch.tensor([0.5 / L], dtype=torch.float64))


def quadrature(m, s, pi, mu, sigma):
    """Exact vade and E[marginal] of a facet in one dimension, on a dense grid."""
    z = np.linspace(m - 12 * s, m + 12 * s, 40_001)
    q = np.exp(-0.5 * ((z - m) / s) ** 2) / (s * math.sqrt(2 * math.pi))
    q /= q.sum()
    with np.errstate(divide="ignore"):
        log_p = -0.5 * ((z[:, None] - mu) / sigma) ** 2 - np.log(sigma) - 0.5 * math.log(2 * math.pi)
        log_joint = np.log(pi) + log_p  # (Z, K)
        log_mixture = np.logaddexp.reduce(log_joint, axis=1)
        r = q @ np.exp(log_joint - log_mixture[:, None])
        entropy = 0.5 * math.log(2 * math.pi * math.e * s**2)
        gap = np.where(r > 0, q @ log_joint + entropy - np.log(np.maximum(r, 1e-300)), 0.0)
    return float(r @ gap), float(q @ log_mixture + entropy), r


@st.composite
def mixtures(draw):
    K = draw(st.integers(1, 4))

    def numbers(low, high, n=K):
        return np.array(draw(st.lists(st.floats(low, high), min_size=n, max_size=n)))

    weights = numbers(0.05, 1)
    m, s, x = numbers(-3, 3, 1)[0], numbers(0.1, 2, 1)[0], numbers(-4, 4, 1)[0]
    return weights / weights.sum(), numbers(-3, 3), numbers(0.3, 2), m, s, x


@settings(max_examples=60)
@given(mixtures())
def test_order_of_the_relatives_in_exact_expectation(case):
    pi, mu, sigma, m, s, x = case
    q = Stratified(*torch.tensor([[m], [s]], dtype=torch.float64))
    p = dist.Normal(torch.from_numpy(mu).unsqueeze(-1), torch.from_numpy(sigma).unsqueeze(-1))
    log_pi = torch.from_numpy(pi).log().unsqueeze(-1)
    L = 4_000
    terms = {}
    for objective in OBJECTIVES:
        term, r = facet_term(q, p, log_pi, dim=-2, objective=objective, value=q.first(L), num_samples=L)
        terms[objective] = term.item()
        assert r.sum(-1).item() == pytest.approx(1, abs=1e-9)
    vade, marginal, vade_r = quadrature(m, s, pi, mu, sigma)
    tolerance = 1e-9 * (1 + abs(vade))
    assert vade <= terms["analytic"] + tolerance
    assert terms["analytic"] <= marginal + tolerance

    # log p(x) of x = 0.7 z + noise of deviation 0.5
    log_likelihood = -0.5 * ((x - 0.7 * m) ** 2 + (0.7 * s) ** 2) / 0.25 - 0.5 * math.log(2 * math.pi * 0.25)
    variance = (0.7 * sigma) ** 2 + 0.25
    log_p = -0.5 * (x - 0.7 * mu) ** 2 / variance - 0.5 * np.log(2 * math.pi * variance)
    evidence = np.logaddexp.reduce(np.log(pi) + log_p)
    assert log_likelihood + marginal <= evidence + tolerance

    # The estimates, at samples that are quantiles, are those expectations.
    scale = 2e-3 * (1 + (s / sigma.min()) ** 2 + abs(s * (np.abs(mu).max() + 3) / sigma.min() ** 2))
    assert terms["vade"] == pytest.approx(vade, abs=scale)
    assert terms["marginal"] == pytest.approx(marginal, abs=scale)
    assert terms["monte_carlo"] == pytest.approx(terms["analytic"], abs=scale)
    np.testing.assert_allclose(r.numpy().ravel(), vade_r, atol=2e-3)


@settings(max_examples=25)
@given(
    K=st.integers(1, 4),
    full=st.tuples(st.booleans(), st.booleans()),
    spread=st.floats(0.3, 3),
    width=st.floats(0.3, 1.5),
    seed=st.integers(0, 10_000),
)
def test_order_of_the_relatives_in_two_dimensions(K, full, spread, width, seed):
    """On a grid, for diagonal and full covariances of the posterior and of the components."""
    rng = np.random.default_rng(seed)

    def gaussians(n, scale, spread, is_full):
        factors = np.tril(rng.uniform(-0.5, 0.5, (n, 2, 2)), -1) * is_full
        factors += np.eye(2) * rng.uniform(0.6, 1.4, (n, 1, 2))
        return rng.normal(scale=spread, size=(n, 2)), scale * factors

    def as_distribution(loc, factor, is_full):
        loc, factor = torch.from_numpy(loc), torch.from_numpy(factor)
        if is_full:
            return dist.MultivariateNormal(loc, scale_tril=factor)
        return dist.Normal(loc, factor.diagonal(dim1=-2, dim2=-1)).to_event(1)

    def log_density(z, loc, factor):
        """Of points (..., 2), without torch."""
        residual = np.linalg.solve(factor, (z - loc)[..., None])[..., 0]
        return -0.5 * (residual**2).sum(-1) - np.log(np.diag(factor)).sum() - np.log(2 * np.pi)

    pi = rng.dirichlet(np.ones(K))
    m, s = gaussians(1, width, 1.0, full[0])
    mu, sigma = gaussians(K, 0.7, spread, full[1])
    analytic, r = facet_term(
        as_distribution(m, s, full[0]),
        as_distribution(mu[:, None], sigma[:, None], full[1]),
        torch.from_numpy(pi).log().unsqueeze(-1),
        dim=-2,
    )
    assert r.sum().item() == pytest.approx(1)

    nodes = np.linspace(-8, 8, 161)
    eps = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2)
    weights = np.exp(-0.5 * (eps**2).sum(-1))
    weights /= weights.sum()
    z = m[0] + eps @ s[0].T
    log_joint = np.log(pi) + np.stack([log_density(z, mu[k], sigma[k]) for k in range(K)], -1)
    log_mixture = np.logaddexp.reduce(log_joint, axis=1)
    entropy = -weights @ log_density(z, m[0], s[0])
    posterior = weights @ np.exp(log_joint - log_mixture[:, None])
    vade = posterior @ (weights @ log_joint + entropy - np.log(np.maximum(posterior, 1e-300)))
    marginal = weights @ log_mixture + entropy
    assert vade <= analytic.item() + 1e-6
    assert analytic.item() <= marginal + 1e-6

    loading, x = rng.normal(size=(2, 2)), rng.normal(size=2)  # x = loading z + noise of deviation 0.5
    log_likelihood = weights @ log_density(x, z @ loading.T, 0.5 * np.eye(2))
    covariances = [loading @ f @ f.T @ loading.T + 0.25 * np.eye(2) for f in sigma]
    evidence = np.logaddexp.reduce(
        [
            np.log(pi[k]) + log_density(x, loading @ mu[k], np.linalg.cholesky(covariances[k]))
            for k in range(K)
        ]
    )
    assert log_likelihood + marginal <= evidence + 1e-6
    if K == 1:
        assert vade == pytest.approx(analytic.item(), abs=1e-6)
        assert marginal == pytest.approx(analytic.item(), abs=1e-6)


def test_responsibilities_of_vade_lose_where_the_posterior_is_broad():
    """A posterior wider than the components: VaDE splits it, although one component is far cheaper."""
    q = dist.Normal(torch.tensor([0.3], dtype=torch.float64), 1.5)
    p = dist.Normal(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), 0.5)
    log_pi = torch.tensor([[0.5], [0.5]], dtype=torch.float64).log()
    analytic, r = facet_term(q, p, log_pi, dim=-2)
    vade, vade_r = facet_term(q, p, log_pi, dim=-2, objective="vade", num_samples=20_000)
    exact, _, exact_r = quadrature(
        0.3, 1.5, np.array([0.5, 0.5]), np.array([-1.0, 1.0]), np.array([0.5, 0.5])
    )
    assert exact < analytic.item() - 0.1
    assert vade.item() < analytic.item() - 0.1
    assert vade.item() == pytest.approx(exact, abs=0.2)
    np.testing.assert_allclose(vade_r[0].numpy(), exact_r, atol=0.01)
    # KL_0 - KL_1 = ((0.3 + 1)^2 - (0.3 - 1)^2) / (2 * 0.25) = 2.4
    assert r[0, 1].item() == pytest.approx(1 / (1 + math.exp(-2.4)), abs=1e-9)
    assert r[0, 1] - vade_r[0, 1] > 0.3


def test_gradients_of_analytic_vary_less_than_those_of_one_sample():
    program = Program(J=1, N=4)
    spread = {}
    for objective in ("analytic", "monte_carlo"):
        elbo = FacetELBO(objective, max_plate_nesting=1)
        samples = [run(elbo, program, seed=seed)[1] for seed in range(60)]
        spread[objective] = {
            name: torch.stack([s[name] for s in samples]).var(0).sum().item() for name in samples[0]
        }
    for name in ("mu_0", "logits_0", "log_sigma_0"):
        assert spread["analytic"][name] < 1e-20 < spread["monte_carlo"][name]
    assert spread["analytic"]["m_0"] < spread["monte_carlo"]["m_0"]


# --- as a Pyro ELBO -----------------------------------------------------------------------------


@pytest.mark.parametrize("num_kl_samples", [1, 3])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_three_losses_agree(objective, num_kl_samples):
    program = Program(betas=[0.5, 2.0], size=10)
    elbo = FacetELBO(objective, num_kl_samples=num_kl_samples, max_plate_nesting=1)
    loss, gradients = run(elbo, program, "differentiable_loss")
    again, same = run(elbo, program, "loss_and_grads")
    only, none = run(elbo, program, "loss")
    assert loss == pytest.approx(again, rel=1e-12)
    assert loss == pytest.approx(only, rel=1e-12)
    assert_same_gradients(gradients, same, atol=1e-12, rtol=1e-12)
    assert all(gradient is None for gradient in none.values())


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"betas": [0.25, 3.0]}, True),
        ({"betas": [1.0, 1e-3], "size": 12}, True),
        ({"size": 40}, True),
        ({"masks": [False, None]}, True),
        ({"masks": [False, False]}, True),
        ({"masks": [None, torch.tensor([True, False, True, False])]}, True),
        ({"masks": [True, None]}, False),
    ],
)
def test_weights_scales_and_masks_stay_outside_the_log_sum_exp(options, difference):
    program = Program(**options)
    loss, gradients = run(FacetELBO(max_plate_nesting=1), program)
    assert_explicit(program, loss, gradients)
    plain, _ = run(FacetELBO(max_plate_nesting=1), Program())
    assert (abs(plain - loss) > 1e-3) == difference


@pytest.mark.parametrize("method", ["loss", "differentiable_loss", "loss_and_grads"])
@pytest.mark.parametrize("side", ["model", "guide"])
@pytest.mark.parametrize("mask", [False, torch.tensor([True, False, True, False])])
def test_a_mask_on_one_side_masks_the_whole_facet_term(mask, side, method):
    """A term is a divergence between both, and so cannot lose only one of its sides."""

    class OneSided(Program):
        masked = False

        def weighted(self, j):
            return super().weighted(j) if self.masked else poutine.scale(scale=1.0)

        def model(self):
            self.masked = side == "model"
            super().model()

        def guide(self):
            self.masked = side == "guide"
            super().guide()

    elbo = FacetELBO(max_plate_nesting=1)
    loss, gradients = run(elbo, OneSided(masks=[mask, None]), method)
    expected, others = run(elbo, Program(masks=[mask, None]), method)
    assert loss == pytest.approx(expected)
    assert loss != pytest.approx(run(elbo, Program(), method)[0])
    assert_same_gradients(gradients, others)


def test_a_masked_facet_has_no_gradient_at_all():
    _, gradients = run(FacetELBO(max_plate_nesting=1), Program(masks=[False, None]))
    for name in ("logits_0", "mu_0", "log_sigma_0"):
        assert gradients[name] is None or not gradients[name].any()
    assert gradients["m_0"].any()  # through the likelihood
    assert gradients["mu_1"].any()


@pytest.mark.parametrize("mask", [False, torch.tensor([False] * 4), torch.tensor([True, False, True, False])])
def test_responsibilities_do_not_depend_on_the_kl_weight(mask):
    """Masking with False, the KL weight of zero, and with a tensor must not tell different stories."""
    elbo = FacetELBO(max_plate_nesting=1)
    expected = elbo.responsibilities(Program().model, Program().guide)
    for program in (Program(masks=[mask, None]), Program(betas=[0.1, 5.0])):
        actual = elbo.responsibilities(program.model, program.guide)
        for name in ("c_0", "c_1"):
            torch.testing.assert_close(actual[name], expected[name])


@pytest.mark.parametrize("objective", ["analytic", "marginal"])
def test_sequential_particles_are_averaged(objective):
    program = Program()
    loss, _ = run(FacetELBO(objective, num_particles=2, max_plate_nesting=1), program)
    pyro.clear_param_store()
    torch.manual_seed(1)
    single = FacetELBO(objective, max_plate_nesting=1)
    singles = [single.loss(program.model, program.guide) for _ in range(2)]
    assert loss == pytest.approx(sum(singles) / 2, rel=1e-12)
    assert singles[0] != pytest.approx(singles[1], rel=1e-3)


@pytest.mark.parametrize("betas", [[1.0, 1.0], [0.5, 2.0]])
def test_vectorized_particles_follow_the_formula(betas):
    P, program = 5, Program(betas=betas)
    elbo = FacetELBO(num_particles=P, vectorize_particles=True, max_plate_nesting=1)
    loss, gradients = run(elbo, program)
    leaves = program.leaves()
    torch.manual_seed(1)
    expected = program.log_likelihood(leaves, (P,)) / P
    expected = expected + sum(betas[j] * program.facet_terms(leaves, j).sum() for j in range(2))
    (-expected).backward()
    assert loss == pytest.approx(-expected.item(), rel=1e-12)
    assert_same_gradients(
        gradients, {name: leaf.grad for name, leaf in leaves.items()}, atol=1e-10, rtol=1e-9
    )


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_vectorized_and_sequential_particles_agree_in_expectation(objective):
    program = Program(J=1)
    program.values["log_s_0"] -= 1
    options = {"num_particles": 2_000, "num_kl_samples": 2, "max_plate_nesting": 1}
    vectorized, _ = run(FacetELBO(objective, vectorize_particles=True, **options), program)
    options["num_particles"] = 400
    sequential, _ = run(FacetELBO(objective, **options), program, "loss")
    assert vectorized == pytest.approx(sequential, rel=0.02)


def test_marginal_with_vectorized_particles_equals_stock():
    program = Program()
    options = {"num_particles": 3, "vectorize_particles": True, "max_plate_nesting": 1}
    ours, gradients = run(FacetELBO("marginal", **options), program)
    stock, stock_gradients = run(TraceEnum_ELBO(**options), program)
    assert ours == pytest.approx(stock, rel=1e-12)
    assert_same_gradients(gradients, stock_gradients, atol=1e-10, rtol=1e-9)


def test_the_number_of_plates_may_be_guessed():
    program = Program()
    given, _ = run(FacetELBO(max_plate_nesting=1), program)
    elbo = FacetELBO()
    run(elbo, program)  # the guess costs a run of the model
    guessed, _ = run(elbo, program)
    assert elbo.max_plate_nesting == 1
    assert guessed == given


def test_svi_learns_a_hand_written_model():
    program = Program(J=1, N=20)
    svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": 0.05}), FacetELBO(max_plate_nesting=1))
    losses = [svi.step() for _ in range(100)]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    for name, start in program.values.items():
        assert not torch.equal(pyro.param(name), start), name


def test_without_validation_the_loss_is_the_same():
    program = Program(betas=[0.5, 2.0])
    loss, _ = run(FacetELBO(max_plate_nesting=1), program)
    with pyro.validation_enabled(False):
        assert run(FacetELBO(max_plate_nesting=1), program)[0] == loss


def test_stock_refuses_what_unequal_weights_need():
    """If Pyro comes to allow it, `marginal` should be compared with it for unequal weights, too."""
    with pytest.raises(ValueError, match=r"common poutine\.scale"):
        run(TraceEnum_ELBO(max_plate_nesting=1), Program(betas=[0.5, 2.0]))


X = torch.tensor([-2.0, -1.0, 0.5, 1.0, 3.0], dtype=torch.float64)


def global_model():
    mu = pyro.sample("mu", dist.Normal(torch.zeros(2, dtype=X.dtype), 2.0).to_event(1))
    with pyro.plate("data", len(X)):
        c = pyro.sample("c", dist.Categorical(torch.tensor([0.3, 0.7], dtype=X.dtype)), infer=ENUMERATE)
        z = pyro.sample("z", dist.Normal(mu[c], 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=X)


@pytest.mark.parametrize("autoguide", [AutoNormal, AutoDelta])
def test_global_latents_stay_with_their_autoguide(autoguide):
    start = {"mu": torch.tensor([-1.0, 1.5], dtype=X.dtype)}
    auto = autoguide(
        poutine.block(global_model, expose=["mu"]),
        init_loc_fn=lambda site: start[site["name"]],
    )
    auto()  # its parameters are made on the first call, which draws

    def guide():
        auto()
        with pyro.plate("data", len(X)):
            pyro.sample("z", dist.Normal(0.8 * X, 0.4), infer=COLLAPSE)

    losses = {}
    for objective in ("analytic", "marginal"):
        torch.manual_seed(3)
        losses[objective] = FacetELBO(objective, max_plate_nesting=1).loss(global_model, guide)
    torch.manual_seed(3)
    assert losses["marginal"] == pytest.approx(
        TraceEnum_ELBO(max_plate_nesting=1).loss(global_model, guide), rel=1e-12
    )

    torch.manual_seed(3)
    trace = poutine.trace(guide).get_trace()
    trace.compute_log_prob()
    mu, z = trace.nodes["mu"]["value"].detach(), trace.nodes["z"]["value"]
    elbo = dist.Normal(z, 0.5).log_prob(X).sum() + dist.Normal(0.0, 2.0).log_prob(mu).sum()
    if autoguide is AutoNormal:  # it samples "mu_unconstrained", and "mu" is a Delta there
        elbo -= trace.nodes["mu_unconstrained"]["log_prob_sum"].detach()
    for x in X:
        kl = [math.log(1 / 0.4) + (0.16 + (0.8 * x - mu_k) ** 2) / 2 - 0.5 for mu_k in mu]
        elbo += (0.3 * (-kl[0]).exp() + 0.7 * (-kl[1]).exp()).log()
    assert losses["analytic"] == pytest.approx(-elbo.item(), rel=1e-6)


def test_a_facet_without_components_is_a_plain_vae():
    loading = torch.tensor([1.0, -2.0], dtype=X.dtype)

    def model():
        with pyro.plate("data", len(X)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2, dtype=X.dtype), 1.5).to_event(1))
            pyro.sample("x", dist.Normal(z @ loading, 1.0), obs=X)

    def guide():
        m = pyro.param("m", torch.stack([X, -X], 1))
        with pyro.plate("data", len(X)):
            pyro.sample("z", dist.Normal(m, 0.3).to_event(1), infer=COLLAPSE)

    results = []
    for elbo in (FacetELBO(max_plate_nesting=1), TraceMeanField_ELBO()):
        pyro.clear_param_store()
        torch.manual_seed(0)
        loss = elbo.differentiable_loss(model, guide)
        loss.backward()
        results.append((loss.detach(), pyro.param("m").grad))
    torch.testing.assert_close(results[0], results[1], atol=1e-10, rtol=1e-10)
    assert FacetELBO(max_plate_nesting=1).responsibilities(model, guide) == {}


def test_without_the_mark_it_is_stock():
    """Enumerated in the model and in the guide; nothing is collapsed."""

    def model():
        with pyro.plate("data", len(X)):
            a = pyro.sample("a", dist.Categorical(torch.tensor([0.2, 0.8], dtype=X.dtype)))
            c = pyro.sample("c", dist.Categorical(torch.tensor([0.3, 0.7], dtype=X.dtype)), infer=ENUMERATE)
            loc = torch.tensor([-1.0, 1.0], dtype=X.dtype)[c] + a
            z = pyro.sample("z", dist.Normal(loc, 1.0))
            pyro.sample("x", dist.Normal(z, 0.5), obs=X)

    def guide():
        m = pyro.param("m", 0.8 * X)
        with pyro.plate("data", len(X)):
            pyro.sample("a", dist.Categorical(torch.tensor([0.6, 0.4], dtype=X.dtype)), infer=ENUMERATE)
            pyro.sample("z", dist.Normal(m, 0.4))

    results = []
    for elbo in (FacetELBO(max_plate_nesting=1), TraceEnum_ELBO(max_plate_nesting=1)):
        pyro.clear_param_store()
        torch.manual_seed(0)
        loss = elbo.differentiable_loss(model, guide)
        loss.backward()
        results.append((loss.detach(), pyro.param("m").grad))
    torch.testing.assert_close(results[0], results[1], atol=0, rtol=0)


@pytest.mark.parametrize("collapse", [True, False])
def test_a_collapsed_facet_beside_one_that_is_only_enumerated(collapse):
    """A second discrete site without a latent of its own is summed out as ever."""

    def model():
        with pyro.plate("data", len(X)):
            c = pyro.sample("c", dist.Categorical(torch.tensor([0.3, 0.7], dtype=X.dtype)), infer=ENUMERATE)
            z = pyro.sample("z", dist.Normal(torch.tensor([-1.0, 1.0], dtype=X.dtype)[c], 1.0))
            b = pyro.sample("b", dist.Categorical(torch.tensor([0.6, 0.4], dtype=X.dtype)), infer=ENUMERATE)
            pyro.sample("x", dist.Normal(z + torch.tensor([0.0, 2.0], dtype=X.dtype)[b], 0.5), obs=X)

    def guide():
        with pyro.plate("data", len(X)):
            pyro.sample("z", dist.Normal(0.8 * X, 0.4), infer={"collapse_kl": collapse})

    torch.manual_seed(0)
    loss = FacetELBO(max_plate_nesting=1).loss(model, guide)
    torch.manual_seed(0)
    z = dist.Normal(0.8 * X, 0.4).sample()
    elbo = (
        0.6 * dist.Normal(z, 0.5).log_prob(X).exp() + 0.4 * dist.Normal(z + 2, 0.5).log_prob(X).exp()
    ).log()
    if collapse:
        kl = [math.log(1 / 0.4) + (0.16 + (0.8 * X - mu) ** 2) / 2 - 0.5 for mu in (-1, 1)]
        elbo = elbo + (0.3 * (-kl[0]).exp() + 0.7 * (-kl[1]).exp()).log()
    else:
        log_p = [dist.Normal(mu, 1.0).log_prob(z) for mu in (-1.0, 1.0)]
        elbo = elbo + (0.3 * log_p[0].exp() + 0.7 * log_p[1].exp()).log()
        elbo = elbo - dist.Normal(0.8 * X, 0.4).log_prob(z)
    assert loss == pytest.approx(-elbo.sum().item(), rel=1e-12)


@pytest.mark.parametrize("num_kl_samples", [1, 50_000])
def test_monte_carlo_takes_over_where_no_closed_form_is_registered(num_kl_samples):
    loc = torch.tensor([-1.0, 2.0], dtype=X.dtype)

    def model():
        with pyro.plate("data", len(X)):
            c = pyro.sample("c", dist.Categorical(torch.tensor([0.3, 0.7], dtype=X.dtype)), infer=ENUMERATE)
            z = pyro.sample("z", dist.StudentT(torch.tensor(4.0, dtype=X.dtype), loc[c], 1.0))
            pyro.sample("x", dist.Normal(z, 0.5), obs=X)

    def guide():
        with pyro.plate("data", len(X)):
            pyro.sample("z", dist.Normal(0.8 * X, 0.4), infer=COLLAPSE)

    torch.manual_seed(0)
    elbo = FacetELBO(num_kl_samples=num_kl_samples, max_plate_nesting=1)
    loss = elbo.loss(model, guide)
    torch.manual_seed(0)
    q = dist.Normal(0.8 * X, 0.4)
    z = q.sample()
    if num_kl_samples == 1:
        ratios = [dist.StudentT(4.0, mu, 1.0).log_prob(z) - q.log_prob(z) for mu in loc]
        tolerance = 1e-10
    else:  # exact, on a grid
        grid = torch.linspace(-6, 6, 20_001, dtype=X.dtype).unsqueeze(-1) * 0.4 + 0.8 * X
        weights = q.log_prob(grid).exp()
        weights = weights / weights.sum(0)
        ratios = [
            (weights * (dist.StudentT(4.0, mu, 1.0).log_prob(grid) - q.log_prob(grid))).sum(0) for mu in loc
        ]
        tolerance = 0.02
    term = (0.3 * ratios[0].exp() + 0.7 * ratios[1].exp()).log()
    expected = (dist.Normal(z, 0.5).log_prob(X) + term).sum().item()
    assert -loss == pytest.approx(expected, abs=tolerance)


# --- several plates -----------------------------------------------------------------------------

MU, PI = (
    torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64),
    torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64),
)


def facet_site(name, K=3):
    """c and z of a facet with the first K components, all of deviation 0.7."""
    c = pyro.sample(f"c_{name}", dist.Categorical(PI[:K] / PI[:K].sum()), infer=ENUMERATE)
    return pyro.sample(f"z_{name}", dist.Normal(MU[:K][c], 0.7))


def explicit_term(loc, scale, K=3):
    """Facet term and responsibilities of ``facet_site`` for q = Normal(loc, scale)."""
    kl = math.log(0.7 / scale) + (scale**2 + (loc.unsqueeze(-1) - MU[:K]) ** 2) / (2 * 0.49) - 0.5
    log_joint = (PI[:K] / PI[:K].sum()).log() - kl
    return log_joint.logsumexp(-1), log_joint.softmax(-1)


@pytest.mark.parametrize("outer_size", [2, 10])
@pytest.mark.parametrize("inner_size", [4, 6])
def test_nested_plates_with_a_facet_at_each_level(form, outer_size, inner_size):
    """One per group, one per datum of a group, both plates subsampled; a datum depends on both."""
    a = torch.tensor([0.3, -1.2], dtype=torch.float64)
    b = torch.arange(8, dtype=torch.float64).reshape(4, 2) / 4 - 1  # data to the left of groups
    x = torch.linspace(-2, 2, 8, dtype=torch.float64).reshape(4, 2)

    def plates():
        return (
            pyro.plate("groups", outer_size, subsample=torch.arange(2), dim=-1),
            pyro.plate("data", inner_size, subsample=torch.arange(4), dim=-2),
        )

    def model():
        groups, data = plates()
        with groups:
            z_a = facet_site("a", K=2)
            with data:
                pyro.sample("x", dist.Normal(z_a + facet_site("b"), 1.0), obs=x)

    def guide():
        groups, data = plates()
        with groups:
            pyro.sample("z_a", dist.Normal(a, 0.3), infer=COLLAPSE)
            with data:
                pyro.sample("z_b", dist.Normal(b, 0.4), infer=COLLAPSE)

    elbo = FacetELBO(max_plate_nesting=2)
    torch.manual_seed(0)
    loss = elbo.loss(model, guide)
    torch.manual_seed(0)
    z_a, z_b = dist.Normal(a, 0.3).sample(), dist.Normal(b, 0.4).sample()
    (term_a, r_a), (term_b, r_b) = explicit_term(a, 0.3, K=2), explicit_term(b, 0.4)
    per_datum = dist.Normal(z_a + z_b, 1.0).log_prob(x) + term_b
    expected = outer_size / 2 * (term_a.sum() + inner_size / 4 * per_datum.sum())
    assert -loss == pytest.approx(expected.item(), rel=1e-12)
    r = elbo.responsibilities(model, guide)
    torch.testing.assert_close(r["c_a"], r_a)
    torch.testing.assert_close(r["c_b"], r_b)
    torch.testing.assert_close(elbo.compute_marginals(model, guide)["c_b"].probs, r_b)


def test_plates_side_by_side_and_a_facet_outside_all(form):
    """Each plate has a scale of its own; stock TraceEnum_ELBO refuses that, the formula does not care."""
    a, b = torch.linspace(-1, 1, 3, dtype=torch.float64), torch.linspace(0, 2, 5, dtype=torch.float64)
    g, zero = torch.tensor([0.4, 0.0], dtype=torch.float64)

    def plates():
        return (
            pyro.plate("left", 12, subsample=torch.arange(3)),
            pyro.plate("right", 10, subsample=torch.arange(5)),
        )

    def model():
        z_g = facet_site("g")
        for plate, name in zip(plates(), "ab", strict=True):
            with plate:
                pyro.sample(
                    f"x_{name}", dist.Normal(z_g + facet_site(name), 1.0), obs=torch.zeros(()).double()
                )

    def guide():
        pyro.sample("z_g", dist.Normal(g, 0.2), infer=COLLAPSE)
        for plate, name, loc in zip(plates(), "ab", (a, b), strict=True):
            with plate:
                pyro.sample(f"z_{name}", dist.Normal(loc, 0.5), infer=COLLAPSE)

    elbo = FacetELBO(max_plate_nesting=1)
    torch.manual_seed(0)
    loss = elbo.loss(model, guide)
    torch.manual_seed(0)
    z_g = dist.Normal(g, 0.2).sample()
    expected = explicit_term(g, 0.2)[0]
    for scale, loc in ((4, a), (2, b)):
        z = dist.Normal(loc, 0.5).sample()
        per_datum = dist.Normal(z_g + z, 1.0).log_prob(zero)
        expected = expected + scale * (per_datum + explicit_term(loc, 0.5)[0]).sum()
    assert -loss == pytest.approx(expected.item(), rel=1e-12)
    r = elbo.responsibilities(model, guide)
    for name, loc, scale in (("g", g, 0.2), ("a", a, 0.5), ("b", b, 0.5)):
        torch.testing.assert_close(r[f"c_{name}"].squeeze(), explicit_term(loc, scale)[1])


def test_components_of_a_plate_of_their_own():
    """Groups with a mixture each: the components then vary with the datum's group, not by c alone."""
    mu = torch.tensor([[-1.0, 0.0], [1.0, 3.0]], dtype=torch.float64)  # (K, groups)
    loc = torch.tensor([[0.2, 0.5], [0.7, 2.5], [-0.3, 1.0]], dtype=torch.float64)  # (data, groups)

    def model():
        with pyro.plate("groups", 2, dim=-1) as g, pyro.plate("data", 3, dim=-2):
            c = pyro.sample("c", dist.Categorical(PI[:2] / PI[:2].sum()), infer=ENUMERATE)
            pyro.sample("z", dist.Normal(mu[c, g], 0.7))

    def guide():
        with pyro.plate("groups", 2, dim=-1), pyro.plate("data", 3, dim=-2):
            pyro.sample("z", dist.Normal(loc, 0.5), infer=COLLAPSE)

    kl = math.log(0.7 / 0.5) + (0.25 + (loc.unsqueeze(-1) - mu.T) ** 2) / (2 * 0.49) - 0.5
    log_joint = (PI[:2] / PI[:2].sum()).log() - kl
    elbo = FacetELBO(max_plate_nesting=2)
    for size in (-1, math.inf):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kl_module, "DIRECT_SIZE", size)
            assert -elbo.loss(model, guide) == pytest.approx(log_joint.logsumexp(-1).sum().item())
            torch.testing.assert_close(elbo.responsibilities(model, guide)["c"], log_joint.softmax(-1))


# --- what it refuses ----------------------------------------------------------------------------


def mixture_model(*, other=False, second=False, plates="data", two=False, c_scale=1.0, z_scale=1.0):
    """The smallest facet, with something wrong about it."""
    weights, loc = torch.ones(2) / 2, torch.tensor([-1.0, 1.0])

    def model():
        if plates == "c outside":
            c = pyro.sample("c", dist.Categorical(weights), infer=ENUMERATE)
        with pyro.plate("data", 3):
            if plates == "data":
                with poutine.scale(scale=c_scale):
                    c = pyro.sample("c", dist.Categorical(weights), infer=ENUMERATE)
            shift = 0.0
            if two:
                shift = pyro.sample("b", dist.Categorical(weights), infer=ENUMERATE)
            with poutine.scale(scale=z_scale):
                z = pyro.sample("z", dist.Normal(loc[c] + shift, 1.0))
            if second:
                pyro.sample("y", dist.Normal(loc[c], 1.0))
            pyro.sample("x", dist.Normal(z + (loc[c] if other else 0.0), 1.0), obs=torch.zeros(3))

    return model


def mixture_guide(*, second=False, distribution=None, name="z", scale=1.0):
    def guide():
        with pyro.plate("data", 3), poutine.scale(scale=scale):
            q = dist.Normal(torch.zeros(3), 1.0) if distribution is None else distribution
            pyro.sample(name, q, infer=COLLAPSE)
            if second:
                pyro.sample("y", dist.Normal(torch.zeros(3), 1.0), infer=COLLAPSE)

    return guide


@pytest.mark.parametrize(
    ("model", "guide", "message"),
    [
        (mixture_model(two=True), mixture_guide(), r"'z'.*several enumerated sites: \['[bc]', '[bc]'\]"),
        (mixture_model(other=True), mixture_guide(), r"'x' depends on the enumerated site 'c'.*'z'"),
        (mixture_model(second=True), mixture_guide(second=True), r"'z' and 'y'.*'c'"),
        (mixture_model(plates="c outside"), mixture_guide(), r"'c' and 'z' must be inside the same plates"),
        (mixture_model(c_scale=0.5), mixture_guide(), r"share one scale.*'z \(guide\)'"),
        (mixture_model(z_scale=0.5), mixture_guide(), r"share one scale.*'z \(model\)': 0\.5"),
        (mixture_model(), mixture_guide(scale=0.5), r"share one scale.*'z \(guide\)': 0\.5"),
        (mixture_model(), mixture_guide(name="w"), r"'w' is marked collapse_kl .* not a latent site"),
        (mixture_model(), mixture_guide(name="x"), r"'x' is marked collapse_kl .* not a latent site"),
        (
            mixture_model(),
            mixture_guide(distribution=dist.Normal(torch.zeros(3), 1.0).has_rsample_(False)),
            r"'z' is marked collapse_kl.*reparametrised.*Normal",
        ),
        (
            mixture_model(),
            mixture_guide(distribution=dist.Poisson(torch.ones(3))),
            r"'z' is marked collapse_kl.*reparametrised.*Poisson",
        ),
    ],
)
def test_broken_assumptions_are_named(model, guide, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pyro also warns of a site that only one of the two has
        with pytest.raises(ValueError, match=message):
            FacetELBO(max_plate_nesting=1).loss(model, guide)


@pytest.mark.parametrize("validate", [True, False])
def test_dependence_on_a_collapsed_site_is_an_error_even_without_validation(validate):
    """Else the objective would silently be another."""
    with pyro.validation_enabled(validate), pytest.raises(ValueError, match=r"'x' depends on"):
        FacetELBO(max_plate_nesting=1).loss(mixture_model(other=True), mixture_guide())


def test_the_smallest_facet_itself_is_fine():
    assert math.isfinite(FacetELBO(max_plate_nesting=1).loss(mixture_model(), mixture_guide()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "exact"}, r"objective: got 'exact'.*analytic"),
        ({"num_kl_samples": 0}, r"num_kl_samples: got 0"),
        ({"num_kl_samples": -3}, r"num_kl_samples: got -3"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        FacetELBO(**options)


def test_responsibilities_want_one_particle():
    program = Program()
    with pytest.raises(ValueError, match="num_particles: got 2"):
        FacetELBO(num_particles=2, max_plate_nesting=1).responsibilities(program.model, program.guide)


# --- responsibilities ---------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("N", [1, 4])
def test_responsibilities_are_probabilities(N, K, dtype, objective, form):
    program = Program(J=3, K=K, N=N, dtype=dtype)
    elbo = FacetELBO(objective, num_kl_samples=2, max_plate_nesting=1)
    responsibilities = elbo.responsibilities(program.model, program.guide)
    assert set(responsibilities) == {"c_0", "c_1", "c_2"}
    for r in responsibilities.values():
        assert r.shape == (N, K)
        assert r.dtype == dtype
        assert (r >= 0).all()
        torch.testing.assert_close(r.sum(1), torch.ones(N, dtype=dtype))
    marginals = elbo.compute_marginals(program.model, program.guide)
    assert set(marginals) == set(responsibilities)
    assert marginals["c_0"].probs.shape == (N, K)


def test_marginal_responsibilities_equal_those_of_stock():
    program = Program()
    results = []
    for elbo in (FacetELBO("marginal", max_plate_nesting=1), TraceEnum_ELBO(max_plate_nesting=1)):
        pyro.clear_param_store()
        torch.manual_seed(0)
        results.append(elbo.compute_marginals(program.model, program.guide))
    for name, stock in results[1].items():
        torch.testing.assert_close(results[0][name].probs, stock.probs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("scales", [(1e-4, 1e4), (1e-4, 1e-4), (1e4, 1e4), (1.0, 1e-4)])
def test_extreme_components_have_finite_values_and_gradients(scales, objective, dtype, form):
    program = Program(J=1, K=2, D=3, dtype=dtype)
    program.values["log_sigma_0"] = torch.tensor(scales, dtype=dtype).log().unsqueeze(1).expand(2, 3).clone()
    elbo = FacetELBO(objective, num_kl_samples=2, max_plate_nesting=1)
    loss, gradients = run(elbo, program)
    assert math.isfinite(loss)
    for name, gradient in gradients.items():
        assert gradient.isfinite().all(), name
    r = elbo.responsibilities(program.model, program.guide)["c_0"]
    assert r.isfinite().all()
    if scales == (1e-4, 1e4):
        torch.testing.assert_close(r, torch.tensor([[0.0, 1.0]], dtype=dtype).expand(4, 2))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("empty", [0, 2])
def test_a_component_of_weight_zero_gets_nothing(empty, objective, form):
    program = Program(J=1, K=3)
    program.values["logits_0"][empty] = -math.inf
    elbo = FacetELBO(objective, num_kl_samples=2, max_plate_nesting=1)
    loss, gradients = run(elbo, program)
    assert math.isfinite(loss)
    for name, gradient in gradients.items():
        assert gradient.isfinite().all(), name
    assert not gradients["mu_0"][empty].any()
    assert not elbo.responsibilities(program.model, program.guide)["c_0"][:, empty].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distance", [10.0, 1e3, 1e6])
def test_a_far_point_belongs_to_the_nearer_component(distance, dtype, form):
    """Probabilities that underflow before they are normalised would give (0.5, 0.5) or NaN."""
    program = Program(J=1, K=2, D=1, N=1, dtype=dtype)
    program.values |= {
        "logits_0": torch.zeros(2, dtype=dtype),
        "mu_0": torch.tensor([[-1.0], [1.0]], dtype=dtype),
        "log_sigma_0": torch.full((2, 1), -3.0, dtype=dtype),
        "m_0": torch.tensor([[distance]], dtype=dtype),
    }
    r = FacetELBO(max_plate_nesting=1).responsibilities(program.model, program.guide)["c_0"]
    torch.testing.assert_close(r, torch.tensor([[0.0, 1.0]], dtype=dtype), atol=1e-12, rtol=0)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_half_of_a_facet_term_alone(objective):
    q = dist.Normal(torch.randn(5, 2), 0.5).to_event(1)
    p = dist.Normal(torch.randn(3, 1, 2), 1.0).to_event(1)
    log_pi = torch.tensor([0.2, 0.3, 0.5]).log().unsqueeze(-1)
    options = {"dim": -2, "objective": objective, "value": q.sample()}
    term, responsibilities = facet_term(q, p, log_pi, **options)
    assert torch.equal(facet_value(q, p, log_pi, **options), term)
    assert torch.equal(facet_responsibilities(q, p, log_pi, **options), responsibilities)


def test_facet_term_draws_a_sample_where_none_is_given():
    q, p = dist.Normal(torch.zeros(3), 1.0), dist.Normal(torch.tensor([[-1.0], [1.0]]), 1.0)
    log_pi = torch.tensor([[0.5], [0.5]]).log()
    torch.manual_seed(0)
    term, r = facet_term(q, p, log_pi, dim=-2, objective="marginal")
    torch.manual_seed(0)
    z = q.rsample()
    expected = (0.5 * p.log_prob(z).exp()).sum(0).log() - q.log_prob(z)
    torch.testing.assert_close(term[0], expected)
    assert r.shape == (3, 2)


def test_marginals_of_sites_that_are_not_collapsed_are_those_of_stock_pyro() -> None:
    """One facet collapsed, one left to TraceEnum_ELBO; the guide's latents are nearly certain."""
    loc = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    x = torch.tensor([0.3, -0.2], dtype=torch.float64)

    def model(x):
        with pyro.plate("data", len(x)):
            for name in ("a", "b"):
                c = pyro.sample(f"c_{name}", dist.Categorical(logits=loc), infer={"enumerate": "parallel"})
                pyro.sample(f"z_{name}", dist.Normal(loc[c], 1.0))

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z_a", dist.Normal(x, 1e-6), infer={"collapse_kl": True})
            pyro.sample("z_b", dist.Normal(x, 1e-6))

    marginals = FacetELBO(max_plate_nesting=1).compute_marginals(model, guide, x)
    assert sorted(marginals) == ["c_a", "c_b"]
    expected = (loc + dist.Normal(loc, 1.0).log_prob(x[:, None])).softmax(-1)
    for marginal in marginals.values():
        assert torch.allclose(marginal.probs, expected, atol=1e-5)
