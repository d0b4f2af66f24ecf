"""FacetELBO on programs whose discrete sites depend on each other, repeat, are masked or forgotten."""

import math
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO

from pyro_mfcvae import FacetELBO

ENUMERATE = {"enumerate": "parallel"}
COLLAPSE = {"collapse_kl": True}
X = torch.tensor([-2.0, 0.3, 1.1, 4.0], dtype=torch.float64)
LOC = torch.tensor([-2.0, 0.5, 3.0], dtype=torch.float64)
TOP = torch.tensor([0.2, 0.8], dtype=torch.float64)  # p(a)
BELOW = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], dtype=torch.float64)  # p(c | a)
MIDDLE = torch.tensor([[0.9, 0.1], [0.25, 0.75]], dtype=torch.float64)  # p(b | a)
SCALE = 0.6  # of q(z | x) = Normal(x / 2, SCALE)


def guide(x, size=None, names=("z",)):
    with pyro.plate("data", size or len(x), subsample=torch.arange(len(x))):
        for name in names:
            pyro.sample(name, dist.Normal(x / 2, SCALE), infer=COLLAPSE)


def kl(x):
    """KL(q(z | x) || p(z | c = k)), shape (N, 3)."""
    return -math.log(SCALE) + (SCALE**2 + (x[:, None] / 2 - LOC) ** 2) / 2 - 0.5


def discrete(name, probs):
    return pyro.sample(name, dist.Categorical(probs), infer=ENUMERATE)


# Each of these samples what is above c, and has the joint log p(above, c) of a datum, and what it adds to
# the evidence, with one dim for each site and c last.


def two_levels():
    return BELOW[discrete("a", TOP)]


def three_levels():
    return BELOW[discrete("b", MIDDLE[discrete("a", TOP)])]


def two_parents():
    a, b = discrete("a", TOP), discrete("b", MIDDLE[0])
    return (BELOW[a] + BELOW[b]) / 2


PROGRAMS = {
    "two levels": (two_levels, TOP[:, None] * BELOW),
    "three levels": (three_levels, TOP[:, None, None] * MIDDLE[:, :, None] * BELOW),
    "two parents": (
        two_parents,
        TOP[:, None, None] * MIDDLE[0][:, None] * (BELOW[:, None] + BELOW[None]) / 2,
    ),
}


@pytest.fixture(params=PROGRAMS)
def above(request):
    return PROGRAMS[request.param]


def model_of(sample_above, names=("z",), evidence=None, size=None):
    """z selects its component by c, which depends on the sites above; ``evidence`` depends on a."""

    def model(x, size=size):
        with pyro.plate("data", size or len(x), subsample=torch.arange(len(x))):
            probs = sample_above()
            total = 0.0
            for name in names:
                c = discrete(f"c_{name}", probs)
                total = total + pyro.sample(name, dist.Normal(LOC[c], 1.0))
            pyro.sample("x", dist.Normal(total, 1.0), obs=x)

    return model


def log_likelihood(x, num_latents=1):
    total = sum(dist.Normal(x / 2, SCALE).sample() for _ in range(num_latents))
    return dist.Normal(total, 1.0).log_prob(x)


@pytest.mark.parametrize("N", [1, 4])
@pytest.mark.parametrize("size", [None, 12])
def test_a_facet_below_other_discrete_sites(above, N, size):
    """The loss sums them out, and q(c | x) is a marginal of the joint."""
    sample_above, joint = above
    x = X[:N]
    elbo, programs = FacetELBO(max_plate_nesting=1), (model_of(sample_above), guide)
    torch.manual_seed(0)
    loss = elbo.loss(*programs, x, size=size)
    torch.manual_seed(0)
    log_joint = joint.log() - kl(x).reshape(N, *(1,) * (joint.dim() - 1), 3)
    terms = log_likelihood(x) + log_joint.flatten(1).logsumexp(1)
    assert -loss == pytest.approx((terms.sum() * (size or N) / N).item(), rel=1e-12)

    expected = log_joint.flatten(1).softmax(1).reshape(N, -1, 3).sum(1)
    r = elbo.responsibilities(*programs, x, size=size)
    assert list(r) == ["c_z"]
    torch.testing.assert_close(r["c_z"], expected)
    with torch.no_grad():
        torch.testing.assert_close(elbo.responsibilities(*programs, x, size=size)["c_z"], expected)
    if N > 1:  # stock Pyro loses a plate of size one
        marginals = elbo.compute_marginals(*programs, x, size=size)
        torch.testing.assert_close(marginals["c_z"].probs, expected)
        top = log_joint.flatten(1).softmax(1).reshape(N, 2, -1).sum(2)
        torch.testing.assert_close(marginals["a"].probs, top)


def test_two_facets_below_one_site():
    """What the one says of the site above, the other hears."""
    names = ("y", "z")
    programs = model_of(two_levels, names), lambda x: guide(x, names=names)
    elbo = FacetELBO(max_plate_nesting=1)
    torch.manual_seed(0)
    loss = elbo.loss(*programs, X)
    torch.manual_seed(0)
    log_c = BELOW.log() - kl(X)[:, None]  # (N, a, c)
    log_a = TOP.log() + 2 * log_c.logsumexp(2)
    assert -loss == pytest.approx((log_likelihood(X, 2) + log_a.logsumexp(1)).sum().item(), rel=1e-12)
    expected = (log_a.softmax(1)[:, :, None] * log_c.softmax(2)).sum(1)
    for r in elbo.responsibilities(*programs, X).values():
        torch.testing.assert_close(r, expected)


@pytest.mark.parametrize("mask", [False, torch.tensor([True, False, True, True])])
def test_a_masked_facet_says_nothing_of_the_site_above(mask):
    """Its own q(c | x) is then the mean over the prior of that site, where it is masked."""

    def masked(x):
        with poutine.mask(mask=mask):
            model_of(two_levels)(x)

    def masked_guide(x):
        with poutine.mask(mask=mask):
            guide(x)

    r = FacetELBO(max_plate_nesting=1).responsibilities(masked, masked_guide, X)["c_z"]
    log_c = BELOW.log() - kl(X)[:, None]
    told = torch.as_tensor(mask).to(X.dtype).expand(4)
    log_a = TOP.log() + told[:, None] * log_c.logsumexp(2)
    torch.testing.assert_close(r, (log_a.softmax(1)[:, :, None] * log_c.softmax(2)).sum(1))


def test_other_evidence_on_the_site_above():
    y = torch.tensor([0.1, -0.4, 1.3, 0.6], dtype=torch.float64)
    loc = torch.tensor([-1.0, 1.0], dtype=torch.float64)

    def model(x):
        with pyro.plate("data", len(x)):
            a = discrete("a", TOP)
            pyro.sample("y", dist.Normal(loc[a], 1.0), obs=y)
            z = pyro.sample("z", dist.Normal(LOC[discrete("c_z", BELOW[a])], 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    r = FacetELBO(max_plate_nesting=1).responsibilities(model, guide, X)["c_z"]
    log_c = BELOW.log() - kl(X)[:, None]
    log_a = TOP.log() + dist.Normal(loc, 1.0).log_prob(y[:, None]) + log_c.logsumexp(2)
    torch.testing.assert_close(r, (log_a.softmax(1)[:, :, None] * log_c.softmax(2)).sum(1))


# --- pyro.markov --------------------------------------------------------------------------------


def markov_programs(depends, length=5):
    def model(x):
        with pyro.plate("data", len(x)):
            c = None
            for t in pyro.markov(range(length)):
                probs = MIDDLE[c] if depends and c is not None else TOP
                c = discrete(f"c_{t}", probs)
                z = pyro.sample(f"z_{t}", dist.Normal(LOC[c], 1.0))
                pyro.sample(f"x_{t}", dist.Normal(z, 1.0), obs=x)

    return model, lambda x: guide(x, names=[f"z_{t}" for t in range(length)])


@pytest.mark.parametrize("validate", [True, False])
def test_a_chain_of_clusters_is_refused_by_name(validate):
    message = r"'c_1' depends on the enumerated site 'c_0', which belongs to 'z_0' alone"
    with pyro.validation_enabled(validate), pytest.raises(ValueError, match=message):
        FacetELBO(max_plate_nesting=1).loss(*markov_programs(depends=True), X)


def test_facets_that_repeat_in_time_use_dims_again():
    programs, elbo = markov_programs(depends=False), FacetELBO(max_plate_nesting=1)
    torch.manual_seed(0)
    loss = elbo.loss(*programs, X)
    torch.manual_seed(0)
    log_joint = TOP.log() - kl(X)[:, :2]
    expected = sum((log_likelihood(X) + log_joint.logsumexp(1)).sum() for _ in range(5))
    assert -loss == pytest.approx(expected.item(), rel=1e-12)
    r = elbo.responsibilities(*programs, X)
    assert list(r) == [f"c_{t}" for t in range(5)]
    for probs in r.values():
        torch.testing.assert_close(probs, log_joint.softmax(1))


def test_a_chain_without_latents_beside_a_facet():
    """What is not collapsed is as with TraceEnum_ELBO, on whose dims the facet's own follow."""
    length, loc = 4, torch.tensor([-1.0, 1.0], dtype=torch.float64)

    def model(x, has_facet=True):
        with pyro.plate("data", len(x)):
            b = discrete("b_0", TOP)
            for t in pyro.markov(range(1, length)):
                b = discrete(f"b_{t}", MIDDLE[b])
                pyro.sample(f"y_{t}", dist.Normal(loc[b], 1.0), obs=x)
            if has_facet:
                z = pyro.sample("z", dist.Normal(LOC[discrete("c_z", BELOW[0])], 1.0))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    torch.manual_seed(0)
    loss = FacetELBO(max_plate_nesting=1).loss(model, guide, X)
    torch.manual_seed(0)
    facet = log_likelihood(X) + (BELOW[0].log() - kl(X)).logsumexp(1)
    chain = TraceEnum_ELBO(max_plate_nesting=1).loss(lambda x: model(x, False), lambda x: None, X)
    assert loss == pytest.approx(chain - facet.sum().item(), rel=1e-12)


# --- what is forgotten --------------------------------------------------------------------------


def forgetful(infer=None, **options):
    def model(x):
        with pyro.plate("data", len(x)):
            with poutine.mask(**options) if options else poutine.scale(scale=1.0):
                c = pyro.sample("c", dist.Categorical(TOP), infer=infer)
            z = pyro.sample("z", dist.Normal(LOC[c], 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    return model


@pytest.mark.parametrize("infer", [None, {"enumerate": "sequential"}])
@pytest.mark.parametrize("validate", [True, False])
def test_a_site_that_is_not_enumerated_is_named(infer, validate):
    message = r"site 'c' is in the model only and is not enumerated.*infer={'enumerate': 'parallel'}"
    with pyro.validation_enabled(validate), pytest.raises(ValueError, match=message):
        FacetELBO(max_plate_nesting=1).loss(forgetful(infer), guide, X)


def test_a_site_that_the_guide_samples_needs_no_enumeration():
    def with_c(x):
        with pyro.plate("data", len(x)):
            pyro.sample("c", dist.Categorical(TOP))
            pyro.sample("z", dist.Normal(x / 2, SCALE), infer=COLLAPSE)

    assert math.isfinite(FacetELBO(max_plate_nesting=1).loss(forgetful(), with_c, X))


def test_without_a_collapsed_site_it_is_for_pyro_to_say():
    def plain(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, SCALE))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        FacetELBO(max_plate_nesting=1).loss(forgetful(), plain, X)
    assert any("vars in model but not guide" in str(w.message) for w in caught)


# --- masks in the model alone -------------------------------------------------------------------


@pytest.mark.parametrize("method", ["loss", "differentiable_loss", "loss_and_grads"])
@pytest.mark.parametrize("mask", [False, torch.tensor([True, False, True, False])])
@pytest.mark.parametrize("where", ["c", "z", "x"])
def test_a_mask_on_a_single_site_of_the_model(where, mask, method):
    """On c or z it takes the whole facet term, on x the likelihood; the responsibilities stay."""

    def masked(name):
        return poutine.mask(mask=mask if name == where else True)

    def model(x):
        with pyro.plate("data", len(x)):
            with masked("c"):
                c = discrete("c", TOP * pyro.param("one", torch.ones(())))
            with masked("z"):
                z = pyro.sample("z", dist.Normal(LOC[c], 1.0))
            with masked("x"):
                pyro.sample("x", dist.Normal(z + pyro.param("shift", torch.zeros(())), 1.0), obs=x)

    elbo = FacetELBO(max_plate_nesting=1)
    torch.manual_seed(0)
    loss = torch.as_tensor(getattr(elbo, method)(model, guide, X)).item()
    torch.manual_seed(0)
    log_joint = TOP.log() - kl(X)[:, :2]
    kept = torch.as_tensor(mask).to(X.dtype)
    weights = {"facet": 1.0, "x": kept} if where == "x" else {"facet": kept, "x": 1.0}
    expected = weights["x"] * log_likelihood(X) + weights["facet"] * log_joint.logsumexp(1)
    assert -loss == pytest.approx(expected.sum().item(), rel=1e-6)
    torch.testing.assert_close(elbo.responsibilities(model, guide, X)["c"], log_joint.softmax(1))


# --- samples of the posterior -------------------------------------------------------------------


def test_samples_of_the_posterior_are_those_of_stock_pyro():
    def model(x):
        with pyro.plate("data", len(x)):
            c = discrete("c", BELOW[0])
            z = pyro.sample("z", dist.Normal(LOC[c], 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)
            return c, z

    elbo = FacetELBO(max_plate_nesting=1)
    c, z = elbo.sample_posterior(model, lambda x: guide(x), X.repeat(500))
    expected = (BELOW[0].log() + dist.Normal(LOC, 1.0).log_prob(z[:, None])).softmax(1)
    often = torch.stack([(c == k).double().mean() for k in range(3)])
    torch.testing.assert_close(often, expected.mean(0), atol=0.05, rtol=0)
    assert (often - BELOW[0]).abs().max() > 0.1  # they are not those of the prior
