"""What is particular to one family of likelihoods; what holds for all is in test_likelihoods.py."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from pyro_mfcvae.likelihoods import (
    Bernoulli,
    BetaBinomial,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogistic,
    ElementwiseLikelihood,
    Gaussian,
    Likelihood,
    LogNormal,
    Mixed,
    NegativeBinomial,
    Poisson,
    ZeroInflatedNegativeBinomial,
)

SHAPES = [(3,), (2, 4), (1, 4, 4), (2, 3, 5)]


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def log_prob(factory, features, x):
    """Of a single element, for features and x (N,)."""
    return factory((1,)).double()(features.unsqueeze(1)).log_prob(x.unsqueeze(1))


# Bernoulli


@pytest.mark.parametrize("x_shape", SHAPES)
def test_bernoulli_equals_the_formula_for_soft_targets(x_shape):
    features = draw(5, *x_shape)
    x = torch.rand(5, *x_shape, dtype=torch.float64)
    x.view(-1)[:2] = torch.tensor([0.0, 1.0])
    y = 1 / (1 + (-features).exp())
    expected = (x * y.log() + (1 - x) * (1 - y).log()).flatten(1).sum(1)
    likelihood = Bernoulli()(x_shape)
    torch.testing.assert_close(likelihood(features).log_prob(x), expected)
    torch.testing.assert_close(likelihood.mean(features), y)
    assert torch.equal(likelihood.preprocess(x), x)


def test_bernoulli_is_finite_for_extreme_logits():
    features = torch.tensor([[-200.0, 200.0, 200.0]]).requires_grad_()
    log_prob = Bernoulli()((3,))(features).log_prob(torch.tensor([[1.0, 0.0, 1.0]]))
    log_prob.sum().backward()
    assert log_prob.item() == pytest.approx(-400)
    assert features.grad.tolist() == [[1.0, -1.0, 0.0]]


# Continuous Bernoulli


def normaliser(logit):
    """Log of the integral of exp(x logit) over [0, 1], from its power series."""
    return np.log(np.sum([logit**n / math.factorial(n + 1) for n in range(60)]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_continuous_bernoulli_is_accurate_near_one_half(dtype):
    """Probabilities near 1/2 have logits near 0, where its usual form is 0 / 0."""
    logits = torch.tensor([0.0, 1e-30, 1e-8, -1e-4, 1e-2, -0.3, 0.4999, 0.5001, -0.7, 3.0, -8.0], dtype=dtype)
    logits.requires_grad_()
    x = torch.full_like(logits, 0.3)
    p = ContinuousBernoulli()((1,)).to(dtype)(logits.unsqueeze(1)).log_prob(x.unsqueeze(1))
    p.sum().backward()
    precise = logits.detach().double().numpy()
    expected = 0.3 * precise - [normaliser(logit) for logit in precise]
    step = 1e-4
    slopes = [(normaliser(logit + step) - normaliser(logit - step)) / (2 * step) for logit in precise]
    tolerance = 1e-6 if dtype == torch.float32 else 1e-8
    np.testing.assert_allclose(p.detach().numpy(), expected, atol=tolerance)
    np.testing.assert_allclose(logits.grad.numpy(), 0.3 - np.array(slopes), atol=tolerance)
    mean = ContinuousBernoulli()((1,)).mean(logits.detach())
    np.testing.assert_allclose(mean.numpy(), slopes, atol=tolerance)


@given(st.floats(-15, 15))
def test_continuous_bernoulli_equals_torch_where_that_is_stable(logit):
    logits = torch.tensor([logit], dtype=torch.float64)
    x = torch.linspace(0, 1, 7, dtype=torch.float64)
    reference = torch.distributions.ContinuousBernoulli(logits=logits)
    p = log_prob(ContinuousBernoulli(), logits.expand(7), x)
    torch.testing.assert_close(p, reference.log_prob(x), atol=1e-5, rtol=1e-5)


# Gaussian


@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("x_shape", SHAPES)
def test_gaussian_equals_scipy(x_shape, sigma):
    features, x = draw(5, *x_shape), draw(5, *x_shape, seed=1)
    likelihood = Gaussian(sigma)(x_shape)
    expected = scipy.stats.norm.logpdf(x.numpy(), features.numpy(), sigma).reshape(5, -1).sum(1)
    np.testing.assert_allclose(likelihood(features).log_prob(x).numpy(), expected, rtol=1e-10)
    assert torch.equal(likelihood.mean(features), features)
    assert torch.equal(likelihood.preprocess(x), x)


@pytest.mark.parametrize("learn", [None, "decoder"])
def test_the_mean_may_be_a_sigmoid(learn):
    plain, likelihood = (Gaussian(0.3, learn=learn, sigmoid=s)((2,)) for s in (False, True))
    features, x = draw(5, *likelihood.features_shape), draw(5, 2, seed=1).sigmoid()
    mean = features.reshape(5, -1, 2).clone()
    mean[:, 0] = mean[:, 0].sigmoid()
    expected = plain(mean.reshape(features.shape)).log_prob(x)
    torch.testing.assert_close(likelihood(features).log_prob(x), expected)
    torch.testing.assert_close(likelihood.mean(features), mean[:, 0])
    with pytest.raises(ValueError, match=r"^sigmoid: got True with standardize=True, expected at most one"):
        Gaussian(0.3, standardize=True, sigmoid=True)


@pytest.mark.parametrize("missing", [False, True])
def test_standardized_gaussian_is_a_change_of_variables(missing):
    """log p(x) = log p(standardised x) - sum_d log scale_d."""
    x_shape = (2, 3)
    x = 5 * draw(50, *x_shape) * torch.arange(1.0, 7).view(x_shape) + 100
    likelihood = Gaussian(0.5, standardize=True, missing=missing)(x_shape).double()
    likelihood.calibrate(x)
    loc, scale = x.numpy().mean(0), x.numpy().std(0)
    np.testing.assert_allclose(likelihood.loc.numpy(), loc)
    np.testing.assert_allclose(likelihood.scale.numpy(), scale)
    standardised = (x.numpy() - loc) / scale
    np.testing.assert_allclose(likelihood.encode(x).numpy(), standardised, atol=1e-12)

    features = draw(50, *x_shape, seed=1)
    expected = scipy.stats.norm.logpdf(standardised, features.numpy(), 0.5) - np.log(scale)
    np.testing.assert_allclose(
        likelihood(features).log_prob(x).numpy(), expected.reshape(50, -1).sum(1), rtol=1e-10
    )
    np.testing.assert_allclose(likelihood.mean(features).numpy(), loc + scale * features.numpy())


def test_gaussian_samples_have_its_moments():
    likelihood = Gaussian(0.5, standardize=True)((2,))
    likelihood.calibrate(torch.tensor([[0.0, 10.0], [4.0, 10.0]]))  # scales 2 and, constant, 1
    features = torch.tensor([[1.0, -1.0]])
    torch.manual_seed(0)
    samples = likelihood(features).sample((50_000,))[:, 0]
    torch.testing.assert_close(samples.mean(0), torch.tensor([4.0, 9.0]).double(), atol=0.03, rtol=0)
    torch.testing.assert_close(samples.std(0), torch.tensor([1.0, 0.5]).double(), atol=0.03, rtol=0)
    torch.testing.assert_close(likelihood.mean(features), torch.tensor([[4.0, 9.0]]).double())


@pytest.mark.parametrize("value", [0.0, 10.0, 0.1, 1e6])
@pytest.mark.parametrize("missing", [False, True])
def test_a_constant_column_is_left_at_scale_one(value, missing):
    """Also where rounding of the mean makes the deviation not quite zero."""
    x = torch.stack([torch.full((1_001,), value), torch.arange(1_001.0)], 1)
    if missing:
        x[3] = math.nan
    likelihood = Gaussian(0.5, standardize=True, missing=missing)((2,))
    likelihood.calibrate(x)
    assert likelihood.scale[0].item() == pytest.approx(1)
    assert likelihood.preprocess(x).abs().max() < 3


def test_what_is_learned_or_of_the_data_is_part_of_the_saved_state():
    assert set(Gaussian(0.5, standardize=True)((2,)).state_dict()) == {"loc", "scale"}
    assert not Gaussian(0.5)((2,)).state_dict()
    assert Gaussian(0.5, learn="shared")((2,)).state_dict()["sigma.raw"].shape == ()
    assert Gaussian(0.5, learn="element")((2,)).state_dict()["sigma.raw"].shape == (2,)
    assert not Gaussian(0.5, learn="decoder")((2,)).state_dict()


@pytest.mark.parametrize("learn", [None, "shared", "element", "decoder"])
def test_a_learned_scale_starts_where_it_is_told_and_stays_above_its_floor(learn):
    likelihood = Gaussian(0.7, learn=learn, floor=0.1)((3,))
    features = torch.zeros(1, *likelihood.features_shape)
    scale = likelihood(features).base_dist.scale
    torch.testing.assert_close(scale, torch.full((1, 3), 0.7))
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.fill_(-100.0)
    if learn:
        features.view(1, -1, 3)[:, 1:] = -100.0
        torch.testing.assert_close(likelihood(features).base_dist.scale, torch.full((1, 3), 0.1))


# Discretised logistic


@settings(deadline=None)
@given(
    levels=st.sampled_from([2, 3, 16, 256]),
    loc=st.floats(-2, 3),
    scale=st.floats(0.0, 2.0),
)
def test_bins_of_a_logistic_distribution(levels, loc, scale):
    """As scipy has them, adding up to one whatever the parameters."""
    scale += 0.5 / (levels - 1)
    x = torch.arange(levels, dtype=torch.float64) / (levels - 1)
    likelihood = DiscretizedLogistic(levels, scale, None)((1,)).double()
    p = likelihood(torch.full((levels, 1), loc, dtype=torch.float64)).log_prob(x.unsqueeze(1)).exp().numpy()
    edges = (np.arange(levels + 1) - 0.5) / (levels - 1)
    edges[[0, -1]] = -np.inf, np.inf
    cdf = scipy.stats.logistic.cdf(edges, loc, scale)
    np.testing.assert_allclose(p, np.diff(cdf), atol=1e-12)
    assert p.sum() == pytest.approx(1, abs=1e-9)
    mean = likelihood.mean(torch.tensor([[loc]], dtype=torch.float64)).item()
    assert mean == pytest.approx(p @ x.numpy(), abs=0.01 / (levels - 1))


def test_pictures_of_8_bits_are_levels():
    pictures = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    x = pictures.float() / 255
    DiscretizedLogistic()((16, 16)).check(x, "x")
    DiscretizedLogistic()((16, 16)).check(x.double().sqrt().square().float(), "x")  # rounding of float32


# Categories


def test_categorical_equals_the_softmax_of_its_planes():
    likelihood = Categorical(3)((2, 4, 4))
    assert likelihood.features_shape == likelihood.input_shape == (6, 4, 4)
    features = draw(5, 6, 4, 4)
    x = torch.randint(3, (5, 2, 4, 4), generator=torch.Generator().manual_seed(0))
    logits = features.view(5, 3, 2, 4, 4)
    expected = -F.cross_entropy(logits, x, reduction="none").flatten(1).sum(1)
    torch.testing.assert_close(likelihood(features).log_prob(x.double()), expected)
    assert torch.equal(likelihood.mean(features), logits.argmax(1).double())
    shown = likelihood.preprocess(x.double()).view(5, 3, 2, 4, 4)
    assert torch.equal(shown, F.one_hot(x, 3).movedim(-1, 1).double())


def test_an_unknown_category_is_no_category_to_the_encoder():
    assert not Categorical(3)((2,)).preprocess(torch.tensor([[3.0, 7.0]])).any()


@pytest.mark.parametrize(
    ("x_shape", "expected"),
    [((5,), (15,)), ((4, 6), (3, 4, 6)), ((1, 4, 6), (3, 4, 6)), ((2, 4, 6), (6, 4, 6))],
)
def test_planes_are_channels_to_a_convolution(x_shape, expected):
    assert Categorical(3)(x_shape).features_shape == expected
    assert Gaussian(missing=True)(x_shape).features_shape == x_shape


# Counts


def test_counts_equal_scipy():
    """Rates relative to the mean of the data, and for the negative binomial a variance of m + m^2 / r."""
    x = torch.arange(30, dtype=torch.float64)
    features = draw(30)
    for factory in (Poisson(), NegativeBinomial(3.0, learn=None)):
        likelihood = factory((1,)).double()
        likelihood.calibrate(x.unsqueeze(1))
        m = likelihood.mean(features.unsqueeze(1))[:, 0].numpy()
        assert likelihood.mean(torch.zeros(1, 1, dtype=torch.float64)).item() == pytest.approx(14.5, rel=1e-5)
        reference = (
            scipy.stats.poisson(m)
            if isinstance(factory, Poisson)
            else scipy.stats.nbinom(3.0, 3.0 / (3.0 + m))
        )
        p = likelihood(features.unsqueeze(1)).log_prob(x.unsqueeze(1))
        np.testing.assert_allclose(p.numpy(), reference.logpmf(x.numpy()), rtol=1e-9)
    np.testing.assert_allclose(reference.var(), m + m**2 / 3, rtol=1e-9)


@pytest.mark.parametrize("factory", [Poisson(), NegativeBinomial()])
def test_a_column_without_a_count_is_possible_later(factory):
    likelihood = factory((2,))
    likelihood.calibrate(torch.tensor([[0.0, 3.0], [0.0, 5.0]]))
    p = likelihood(torch.zeros(1, 2)).log_prob(torch.tensor([[4.0, 4.0]]))
    assert p.isfinite().all()
    assert likelihood.preprocess(torch.tensor([[4.0, -1.0]])).isfinite().all()


@given(st.floats(-60, 60), st.floats(-4, 4), st.integers(0, 20), st.floats(0.1, 20))
def test_zero_inflation_equals_scipy(gate, y, x, r):
    likelihood = ZeroInflatedNegativeBinomial(r, learn=None)((1,)).double()
    features = torch.tensor([[y, gate]], dtype=torch.float64)
    rate = likelihood.rate(features).item()
    pi = scipy.special.expit(gate - 2)
    of_rest = scipy.stats.nbinom(r, r / (r + rate))
    expected = scipy.special.expit(2 - gate) * of_rest.pmf(x) + (pi if x == 0 else 0.0)
    p = likelihood(features).log_prob(torch.tensor([[float(x)]], dtype=torch.float64)).item()
    assert p == pytest.approx(np.log(expected), rel=1e-7, abs=1e-9)
    assert likelihood.mean(features).item() == pytest.approx(scipy.special.expit(2 - gate) * rate)


@pytest.mark.parametrize("gate", [-2e3, -40.0, 40.0, 2e3])
def test_extreme_gates_keep_their_digits(gate):
    """In float32 as in float64, where sums of large numbers that cancel would lose them."""
    values, gradients = [], []
    for dtype in (torch.float32, torch.float64):
        likelihood = ZeroInflatedNegativeBinomial(2.0, None)((1,)).to(dtype)
        features = torch.tensor([[0.3, gate]] * 3, dtype=dtype).requires_grad_()
        p = likelihood(features).log_prob(torch.tensor([[0.0], [1.0], [7.0]], dtype=dtype))
        p.sum().backward()
        values.append(p.detach().double())
        gradients.append(features.grad.double())
    torch.testing.assert_close(*values, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)
    if gate < 0:  # no extra zeros
        plain = NegativeBinomial(2.0, None)((1,)).double()
        x = torch.tensor([[0.0], [1.0], [7.0]], dtype=torch.float64)
        torch.testing.assert_close(values[1], plain(torch.full((3, 1), 0.3).double()).log_prob(x))


def test_the_decoder_gives_the_gate_last():
    likelihood = ZeroInflatedNegativeBinomial(learn="decoder")((2, 4, 4))
    assert likelihood.features_shape == (6, 4, 4)
    features = torch.zeros(1, 6, 4, 4)
    features[:, 4:] = 100.0
    assert likelihood(features).log_prob(torch.zeros(1, 2, 4, 4)).item() == pytest.approx(0)
    assert likelihood.mean(features).abs().max() < 1e-20


# Counts out of a known number


@given(st.integers(1, 40), st.floats(-6, 6), st.floats(0.2, 1e3), st.data())
def test_beta_binomial_equals_scipy(n, y, kappa, data):
    x = data.draw(st.integers(0, n))
    likelihood = BetaBinomial(n, kappa, None)((1,)).double()
    features = torch.tensor([[y]], dtype=torch.float64)
    mu = 1e-6 + (1 - 2e-6) * scipy.special.expit(y)
    reference = scipy.stats.betabinom(n, kappa * mu, kappa * (1 - mu))
    p = likelihood(features).log_prob(torch.tensor([[float(x)]], dtype=torch.float64)).item()
    assert p == pytest.approx(reference.logpmf(x), rel=1e-6, abs=1e-7)
    assert likelihood.mean(features).item() == pytest.approx(reference.mean(), rel=1e-9)


def test_shares_are_relative_to_those_in_the_data():
    x = torch.tensor([[0.0, 4.0, 1.0], [0.0, 4.0, 3.0], [0.0, 4.0, 1.0]])
    likelihood = BetaBinomial(4)((3,))
    likelihood.calibrate(x)
    mean = likelihood.mean(torch.zeros(1, 3))[0]
    torch.testing.assert_close(mean, torch.tensor([1 / 4, 4 - 1 / 4, 5 / 3]), rtol=1e-4, atol=1e-4)
    never = torch.tensor([[4.0, 0.0, 4.0]])
    assert likelihood(torch.zeros(1, 3)).log_prob(never).isfinite().all()
    assert likelihood.preprocess(never).isfinite().all()


# Positive numbers


@given(st.floats(-3, 3), st.floats(1e-20, 1e20))
def test_log_normal_equals_scipy(y, x):
    data = np.exp(draw(200, 1).numpy()) * 7
    likelihood = LogNormal(0.4, None)((1,)).double()
    likelihood.calibrate(torch.from_numpy(data))
    loc, scale = np.log(data).mean(), np.log(data).std()
    features = torch.tensor([[y]], dtype=torch.float64)
    reference = scipy.stats.lognorm(0.4 * scale, scale=np.exp(loc + scale * y))
    p = likelihood(features).log_prob(torch.tensor([[x]], dtype=torch.float64)).item()
    assert p == pytest.approx(reference.logpdf(x), rel=1e-6)
    assert likelihood.mean(features).item() == pytest.approx(reference.mean(), rel=1e-6)
    shown = likelihood.preprocess(torch.tensor([[x]], dtype=torch.float64)).item()
    assert shown == pytest.approx((np.log(x) - loc) / scale, rel=1e-6, abs=1e-9)


def test_units_of_positive_numbers_do_not_matter():
    """But for the change of variables."""
    x, features = draw(50, 2).exp(), draw(50, 2, seed=1)
    values = []
    for unit in (1.0, 1e-9, 1e12):
        likelihood = LogNormal(0.5, None)((2,)).double()
        likelihood.calibrate(unit * x)
        values.append(likelihood(features).log_prob(unit * x) + 2 * math.log(unit))
    torch.testing.assert_close(values[0], values[1], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(values[0], values[2], rtol=1e-5, atol=1e-4)


# Tables


def test_mixed_is_the_product_of_its_columns():
    factory = Mixed({"categorical": {3: 3, 0: 3}, "poisson": [1], Gaussian(0.5): [4, 2]}, missing=False)
    likelihood = factory((5,)).double()
    assert likelihood.features_shape == likelihood.input_shape == (2 * 3 + 1 + 2,)
    x = torch.tensor([[2.0, 5.0, -0.3, 1.0, 0.7], [0.0, 0.0, 1.5, 2.0, 0.1]], dtype=torch.float64)
    features = draw(2, 9)
    parts = [
        (Categorical(3), features[:, :6], x[:, [3, 0]]),
        (Poisson(), features[:, 6:7], x[:, [1]]),
        (Gaussian(0.5), features[:, 7:], x[:, [4, 2]]),
    ]
    expected = sum(part((v.shape[1],)).double()(f).log_prob(v) for part, f, v in parts)
    torch.testing.assert_close(likelihood(features).log_prob(x), expected)
    means = [part((v.shape[1],)).double().mean(f) for part, f, v in parts]
    mean = likelihood.mean(features)
    for columns, part_mean in zip(([3, 0], [1], [4, 2]), means, strict=True):
        torch.testing.assert_close(mean[:, columns], part_mean)
    shown = likelihood.preprocess(x)
    torch.testing.assert_close(shown[:, :6], Categorical(3)((2,)).preprocess(x[:, [3, 0]]))
    torch.testing.assert_close(shown[:, 7:], x[:, [4, 2]])


@settings(deadline=None, max_examples=50)
@given(st.permutations(range(6)), st.integers(0, 6), st.integers(0, 1_000))
def test_the_order_of_columns_makes_no_difference(order, listed, seed):
    """The same columns in other places have the same probability."""
    kinds = ["poisson", "gaussian", "bernoulli", "poisson", "negative_binomial", "gaussian"]
    x = torch.cat(
        [
            torch.poisson(2 * torch.ones(4, 1).double()) if k != "bernoulli" else torch.ones(4, 1)
            for k in kinds
        ],
        1,
    ).double()
    features = draw(4, 6, seed=seed)

    def of(places):
        columns = {}
        for kind, place in list(zip(kinds, places, strict=True))[:listed]:
            columns.setdefault(kind, []).append(place)
        factory = Mixed(columns, others=Gaussian(0.5))
        moved = torch.empty_like(x)
        moved[:, list(places)] = x
        likelihood = factory((6,)).double()
        likelihood.calibrate(moved)
        likelihood.check(moved, "x")
        # Features are in the order of the parts, and then of what is not listed.
        source = [places.index(c) for part in likelihood._columns for c in part.tolist()]
        return likelihood(features[:, source]).log_prob(moved)

    torch.testing.assert_close(of(list(order)), of(list(range(6))))


def test_by_name_all_columns_are_real():
    likelihood = Mixed()((3,))
    assert likelihood.allows_missing
    assert likelihood.features_shape == (3,)
    assert likelihood.input_shape == (6,)
    likelihood.check(torch.tensor([[-7.0, 1e6, math.nan]]), "x")


def test_a_part_leaves_missing_entries_to_the_whole():
    likelihood = Mixed({Gaussian(missing=True): [0, 1]}, missing=False)((2,))
    assert not likelihood.allows_missing
    assert likelihood.input_shape == (2,)


class WholeLikelihood(Likelihood):
    """Not one of single elements."""

    def forward(self, features):
        return torch.distributions.MultivariateNormal(features, torch.eye(2))

    def mean(self, features):
        return features


def test_parts_must_be_elementwise():
    with pytest.raises(TypeError, match=r"columns: the likelihood of \[0, 1\] is a WholeLikelihood"):
        Mixed({WholeLikelihood: [0, 1]})((2,))


class Laplace(ElementwiseLikelihood):
    """One of the user's own, with the least that it takes."""

    def elements(self, features):
        import pyro.distributions as dist

        return dist.Laplace(features, 1.0)

    def mean(self, features):
        return features


def test_a_likelihood_of_ones_own_takes_missing_entries_and_columns():
    features, x = draw(2, 3), torch.tensor([[0.5, math.nan, 1.0], [math.nan] * 3], dtype=torch.float64)
    own = Laplace((3,), missing=True)
    expected = scipy.stats.laplace.logpdf([0.5, 1.0], features[0, [0, 2]].numpy()).sum()
    torch.testing.assert_close(own(features).log_prob(x), torch.tensor([expected, 0.0], dtype=torch.float64))
    mixed = Mixed({Laplace: [0, 1, 2]})((3,))
    torch.testing.assert_close(mixed(features).log_prob(x), own(features).log_prob(x))
