import math
import subprocess
import sys

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import kl_divergence

from pyro_mfcvae import FacetELBO
from pyro_mfcvae.model import kl
from pyro_mfcvae.model.kl import component_kl

KINDS = [("diagonal", "diagonal"), ("diagonal", "full"), ("full", "full"), ("full", "diagonal")]


def gaussian(kind, loc, scale):
    """``scale`` is a Cholesky factor, of which a diagonal Gaussian takes the diagonal."""
    if kind == "full":
        return dist.MultivariateNormal(loc, scale_tril=scale)
    return dist.Normal(loc, scale.diagonal(dim1=-2, dim2=-1)).to_event(1)


def draw(*batch, D, dtype=torch.float64, seed=0):
    """A location and a Cholesky factor for each of a batch of Gaussians."""
    generator = torch.Generator().manual_seed(seed)
    loc = torch.randn(*batch, D, generator=generator, dtype=torch.float64)
    factor = 0.5 * torch.randn(*batch, D, D, generator=generator, dtype=torch.float64)
    diagonal = (0.5 * torch.randn(*batch, D, generator=generator, dtype=torch.float64)).exp()
    return loc.to(dtype), (factor.tril(-1) + diagonal.diag_embed()).to(dtype)


def as_full(d):
    """The same Gaussian as a torch.distributions.MultivariateNormal."""
    covariance = d.covariance_matrix if hasattr(d, "covariance_matrix") else d.variance.diag_embed()
    return torch.distributions.MultivariateNormal(d.mean, covariance)


@pytest.fixture(params=["direct", "product"])
def form(request, monkeypatch):
    monkeypatch.setattr(kl, "DIRECT_SIZE", {"direct": math.inf, "product": -1}[request.param])
    return request.param


@pytest.mark.parametrize(("q_kind", "p_kind"), KINDS)
@given(
    K=st.integers(1, 5),
    D=st.integers(1, 4),
    plates=st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple),
    gap=st.integers(0, 2),
    expand=st.booleans(),
    seed=st.integers(0, 100),
)
@settings(max_examples=25)
def test_every_divergence_is_that_of_the_pair(q_kind, p_kind, K, D, plates, gap, expand, seed):
    """For any plates, any place of the enumeration dim, with components expanded by plates or not."""
    q = gaussian(q_kind, *draw(*plates, D=D, seed=seed))
    dim = -1 - len(plates) - gap
    loc, scale = draw(K, D=D, seed=seed + 1)
    ones = (1,) * (-1 - dim)
    p = gaussian(p_kind, loc.reshape(K, *ones, D), scale.reshape(K, *ones, D, D))
    if expand:
        p = p.expand((K, *(1,) * gap, *plates))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kl, "DIRECT_SIZE", -1)
        result = component_kl(q, p, dim=dim)
    assert result.shape == (K, *(1,) * gap, *plates)
    for k in range(K):
        each = kl_divergence(as_full(q), as_full(gaussian(p_kind, loc[k], scale[k])))
        torch.testing.assert_close(result[k].reshape(plates), each, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("q_kind", "p_kind"), KINDS)
def test_gradients_are_exact(q_kind, p_kind, form):
    """Against finite differences, in float64, first and second derivatives."""
    leaves = [t.requires_grad_() for t in (*draw(3, D=2), *draw(4, D=2, seed=1))]

    def divergences(m, s, mu, sigma):
        p = gaussian(p_kind, mu.unsqueeze(1), sigma.tril().unsqueeze(1)).expand((4, 3))
        return component_kl(gaussian(q_kind, m, s.tril()), p, dim=-2)

    with pyro.validation_enabled(False):
        assert torch.autograd.gradcheck(divergences, leaves)
        assert torch.autograd.gradgradcheck(divergences, leaves)


@pytest.mark.parametrize("p_kind", ["diagonal", "full"])
@pytest.mark.parametrize("deviation", [1e-4, 1e-2, 1.0, 1e2, 1e4])
def test_products_of_float32_are_exact_but_for_rounding(p_kind, deviation, monkeypatch):
    m, s = draw(64, D=6, dtype=torch.float32)
    mu, sigma = draw(20, D=6, dtype=torch.float32, seed=1)
    errors = {}
    for size in (-1, math.inf):
        monkeypatch.setattr(kl, "DIRECT_SIZE", size)
        scale = deviation * sigma.unsqueeze(1)
        result = component_kl(gaussian("diagonal", m, s), gaussian(p_kind, mu.unsqueeze(1), scale), dim=-2)
        exact = kl_divergence(
            gaussian("diagonal", m.double(), s.double()),
            gaussian(p_kind, mu.double().unsqueeze(1), scale.double()),
        )
        assert result.dtype == torch.float32
        errors[size] = ((result - exact) / exact).abs().max().item()
    assert errors[-1] <= 6.1e-8  # half a unit in the last place
    assert errors[math.inf] > 2 * errors[-1]


def test_an_offset_costs_accuracy_as_documented(form):
    """Clusters 1e4 away from each other and of deviation 1e-2: an error of up to 1e-4 nats."""
    mu = torch.tensor([[-1e4], [1e4]], dtype=torch.float64)
    sigma = torch.full((2, 1), 1e-2, dtype=torch.float64)
    m = mu[1] + sigma[1] * torch.linspace(-3, 3, 7, dtype=torch.float64).unsqueeze(1)
    result = component_kl(
        dist.Normal(m, 5e-3).to_event(1),
        dist.Normal(mu.unsqueeze(1), sigma.unsqueeze(1)).to_event(1),
        dim=-2,
    )
    exact = math.log(2) + 0.5 * 0.25 - 0.5 + 0.5 * torch.linspace(-3, 3, 7, dtype=torch.float64) ** 2
    bound = 1e-16 * 2 * (1e4 / 1e-2) ** 2 if form == "product" else 1e-8
    torch.testing.assert_close(result[1], exact, rtol=0, atol=5 * bound)


def test_where_the_whole_mixture_lies_does_not_matter(form):
    """A common offset of 1e8 deviations would cost a whole nat if the products were not centred."""
    (m, s), (mu, sigma) = draw(7, D=3), draw(5, D=3, seed=1)
    q = [gaussian("diagonal", m + offset, s) for offset in (0.0, 1e8)]
    p = [gaussian("diagonal", (mu + offset).unsqueeze(1), sigma.unsqueeze(1)) for offset in (0.0, 1e8)]
    near, far = (component_kl(q_i, p_i, dim=-2) for q_i, p_i in zip(q, p, strict=True))
    torch.testing.assert_close(far, near, rtol=0, atol=1e-5)


def test_size_decides_the_form():
    """Small problems are torch's own number to the bit; large ones are more accurate than that."""
    for N, same in ((10, True), (3_000, False)):
        m, s = draw(N, D=2, dtype=torch.float32)
        mu, sigma = draw(5, D=2, dtype=torch.float32, seed=1)
        q, p = gaussian("diagonal", m, s), gaussian("diagonal", mu.unsqueeze(1), sigma.unsqueeze(1))
        assert torch.equal(component_kl(q, p, dim=-2), kl_divergence(q, p)) is same


def test_components_that_depend_on_the_datum_take_the_direct_form(monkeypatch):
    monkeypatch.setattr(kl, "DIRECT_SIZE", -1)
    q = gaussian("diagonal", *draw(4, D=2))
    for kind in ("diagonal", "full"):
        p = gaussian(kind, *draw(3, 4, D=2, seed=1))
        assert torch.equal(component_kl(q, p, dim=-2), kl_divergence(q, p))


def test_a_component_shared_by_all_data_may_still_be_a_slice_of_more(monkeypatch):
    """The expanded view is undone where it lies in its storage, with the gradient at its place."""
    monkeypatch.setattr(kl, "DIRECT_SIZE", -1)
    q = gaussian("diagonal", *draw(4, D=2))
    loc = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    results = []
    for expand in (True, False):
        part = loc[1, :, 1:3].unsqueeze(1)
        p = dist.Normal(part.expand(3, 4, 2) if expand else part, 0.7).to_event(1)
        divergences = component_kl(q, p, dim=-2)
        results.append((divergences, *torch.autograd.grad(divergences.logsumexp(0).sum(), loc)))
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right)
    assert results[0][1][1, :, 1:3].all()
    assert results[0][1].count_nonzero() == 6


def test_transformed_functions_differentiate_it(monkeypatch):
    monkeypatch.setattr(kl, "DIRECT_SIZE", -1)
    q = gaussian("diagonal", *draw(4, D=2))
    mu, _ = draw(2, 3, D=2, seed=1)  # two mixtures

    def term(loc):
        p = dist.Normal(loc.unsqueeze(1), 0.7).to_event(1).expand((3, 4))
        return (-component_kl(q, p, dim=-2)).logsumexp(0).sum()

    leaf = mu.clone().requires_grad_()
    (expected,) = torch.autograd.grad(term(leaf[0]) + term(leaf[1]), leaf)
    with pyro.validation_enabled(False):
        torch.testing.assert_close(torch.vmap(torch.func.grad(term))(mu), expected)


def test_batches_broadcast_as_in_torch(form):
    """A posterior without plates of its own, and one that varies with c as well."""
    p = gaussian("diagonal", *draw(3, 1, D=2, seed=1)).expand((3, 4))
    for batch in ((), (1,), (3, 4)):
        q = gaussian("diagonal", *draw(*batch, D=2))
        result = component_kl(q, p, dim=-2)
        assert result.shape == (3, 4)
        torch.testing.assert_close(result, kl_divergence(q, p))


def test_one_dimension_without_event(form):
    q = dist.Normal(torch.tensor([0.3, -1.0]), 0.5)
    p = dist.Normal(torch.tensor([[-1.0], [0.0], [2.0]]), 1.5)
    result = component_kl(q, p, dim=-2)
    torch.testing.assert_close(result, kl_divergence(q, p), check_stride=False)
    assert result.shape == (3, 2)


def test_latents_of_several_event_dims(form):
    q = dist.Normal(torch.randn(4, 2, 3), 0.5).to_event(2)
    p = dist.Normal(torch.randn(5, 1, 2, 3), 1.5).to_event(2)
    torch.testing.assert_close(component_kl(q, p, dim=-2), kl_divergence(q, p))


def test_other_families_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(kl, "DIRECT_SIZE", -1)
    q, p = dist.Laplace(torch.zeros(4), 1.0), dist.Laplace(torch.ones(3, 1), 2.0)
    assert torch.equal(component_kl(q, p, dim=-2), kl_divergence(q, p))
    with pytest.raises(NotImplementedError):
        component_kl(dist.Normal(torch.zeros(4), 1.0), dist.StudentT(3.0, torch.zeros(3, 1), 1.0), dim=-2)
    q, p = dist.Normal(torch.zeros(4), 1.0), dist.Normal(torch.ones(4), 1.0)
    assert torch.equal(component_kl(q, p, dim=None), kl_divergence(q, p))


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_a_full_posterior_in_the_elbo(kind, form):
    """Both forms of both kinds of components, under a guide whose covariance is full."""
    m, factor = draw(4, D=2)
    mu, sigma = draw(3, D=2, seed=1)
    pi = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)

    def model():
        with pyro.plate("data", 4):
            c = pyro.sample("c", dist.Categorical(pi), infer={"enumerate": "parallel"})
            pyro.sample("z", gaussian(kind, mu[c], sigma[c]))

    def guide():
        with pyro.plate("data", 4):
            pyro.sample("z", gaussian("full", m, factor), infer={"collapse_kl": True})

    divergences = torch.stack(
        [
            kl_divergence(as_full(gaussian("full", m, factor)), as_full(gaussian(kind, mu[k], sigma[k])))
            for k in range(3)
        ],
        1,
    )
    elbo = FacetELBO(max_plate_nesting=1)
    assert -elbo.loss(model, guide) == pytest.approx((pi * (-divergences).exp()).sum(1).log().sum().item())
    r = (pi.log() - divergences).softmax(1)
    torch.testing.assert_close(elbo.responsibilities(model, guide)["c"], r)


MEMORY = """
import re, sys, torch, pyro, pyro.distributions as dist
from pyro_mfcvae import FacetELBO
K, N, D = 10_000, 512, 32
full = sys.argv[1] == "full"
torch.set_num_threads(1)
leaves = [torch.zeros(K)] + [draw(n, D) + 0.1 for n in (K, N) for draw in (torch.randn, torch.rand)]
if full:
    leaves[2] = leaves[2].diag_embed()
logits, loc, scale, m, s = (leaf.requires_grad_() for leaf in leaves)

def model():
    with pyro.plate("data", N):
        c = pyro.sample("c", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
        if full:
            pyro.sample("z", dist.MultivariateNormal(loc[c], scale_tril=scale[c]))
        else:
            pyro.sample("z", dist.Normal(loc[c], scale[c]).to_event(1))

def guide():
    with pyro.plate("data", N):
        pyro.sample("z", dist.Normal(m, s).to_event(1), infer={"collapse_kl": True})

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024

with pyro.validation_enabled(False):
    before = peak()
    FacetELBO(max_plate_nesting=1).differentiable_loss(model, guide).backward()
assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in (logits, loc, scale, m, s))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_ten_thousand_components_fit_in_one_gibibyte(kind):
    """K x N x D is 0.6 GiB for one tensor of diagonal components, 20 GiB for full ones."""
    command = [sys.executable, "-c", MEMORY, kind]
    mebibytes = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert 20 < mebibytes < 1024  # the K x N matrix itself is 20 MiB
