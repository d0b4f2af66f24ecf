"""What holds for every likelihood, and what is particular to one."""

import json
import math
from dataclasses import dataclass

import pytest
import torch
from calls import Calls

from pyro_mfcvae import Facet, MFCVAEConfig, likelihoods
from pyro_mfcvae.likelihoods import (
    Bernoulli,
    BetaBinomial,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogistic,
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


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def real(*shape, seed=0):
    return 3 * draw(*shape, seed=seed) + 2


def codes(C):
    return lambda *shape, seed=0: (C * uniform(*shape, seed=seed)).floor()


def counts(*shape, seed=0):
    return torch.poisson(4 * torch.ones(shape, dtype=torch.float64), torch.Generator().manual_seed(seed))


def levels(L):
    return lambda *shape, seed=0: (L * uniform(*shape, seed=seed)).floor() / (L - 1)


def points(low, high, n=20_001):
    """Nodes and weights of the trapezoidal rule."""
    x = torch.linspace(low, high, n, dtype=torch.float64)
    weights = torch.full_like(x, (high - low) / (n - 1))
    weights[[0, -1]] /= 2
    return x, weights


def positive(*shape, seed=0):
    return (0.7 * draw(*shape, seed=seed) + 1).exp()


def positive_points(low, high):
    """Nodes that are equally far apart in the logarithm."""
    u, weights = points(low, high)
    return u.exp(), weights * u.exp()


def atoms(n, spacing=1.0):
    return torch.arange(n, dtype=torch.float64) * spacing, torch.ones(n, dtype=torch.float64)


@dataclass(frozen=True)
class Family:
    """A factory, data for it, and its support as nodes with weights."""

    factory: object
    data: object
    support: object = None


FAMILIES = {
    "bernoulli": Family(Bernoulli(), codes(2), atoms(2)),
    "continuous_bernoulli": Family(ContinuousBernoulli(), uniform, points(0, 1)),
    "gaussian": Family(Gaussian(0.5), real, points(-40, 40)),
    "gaussian-standardized": Family(Gaussian(0.5, standardize=True), real, points(-40, 40)),
    "gaussian-sigmoid": Family(Gaussian(0.5, sigmoid=True), real, points(-40, 40)),
    "gaussian-shared": Family(Gaussian(0.5, learn="shared"), real, points(-40, 40)),
    "gaussian-element": Family(Gaussian(0.5, True, "element"), real, points(-40, 40)),
    "gaussian-decoder": Family(Gaussian(0.5, True, "decoder"), real, points(-60, 60)),
    "discretized_logistic": Family(DiscretizedLogistic(), levels(256), atoms(256, 1 / 255)),
    "discretized_logistic-decoder": Family(
        DiscretizedLogistic(9, 0.2, "decoder"), levels(9), atoms(9, 1 / 8)
    ),
    "discretized_logistic-fixed": Family(
        DiscretizedLogistic(256, 0.01, None), levels(256), atoms(256, 1 / 255)
    ),
    "categorical": Family(Categorical(4), codes(4), atoms(4)),
    "poisson": Family(Poisson(), counts, atoms(200)),
    "negative_binomial": Family(NegativeBinomial(), counts, atoms(4_000)),
    "negative_binomial-decoder": Family(NegativeBinomial(2.0, "decoder"), counts, atoms(8_000)),
    "zero_inflated_negative_binomial": Family(ZeroInflatedNegativeBinomial(), counts, atoms(4_000)),
    "zero_inflated_negative_binomial-decoder": Family(
        ZeroInflatedNegativeBinomial(2.0, "decoder"), counts, atoms(8_000)
    ),
    "beta_binomial": Family(BetaBinomial(6), codes(7), atoms(7)),
    "beta_binomial-decoder": Family(BetaBinomial(6, 3.0, "decoder"), codes(7), atoms(7)),
    "log_normal": Family(LogNormal(), positive, positive_points(-30, 40)),
    "log_normal-decoder": Family(LogNormal(0.3, "decoder"), positive, positive_points(-40, 60)),
}
MIXED = Mixed(
    {
        "categorical": {3: 4, 0: 4, 6: 2},
        "poisson": [1],
        NegativeBinomial(learn="decoder"): [4],
        "bernoulli": [2],
        "beta_binomial": {7: 6},
        "log_normal": [8],
        "zero_inflated_negative_binomial": [9],
    },
    missing=False,
)
MIXED_DATA = (codes(4), counts, codes(2), codes(4), counts, real, codes(2), codes(7), positive, counts)


def mixed_data(N, D, seed=0):
    return torch.cat([MIXED_DATA[d](N, 1, seed=seed + d) for d in range(D)], 1)


CASES = [pytest.param(f, shape, id=f"{n}-{shape}") for n, f in FAMILIES.items() for shape in SHAPES]
CASES.append(pytest.param(Family(MIXED, mixed_data), (10,), id="mixed"))
each_case = pytest.mark.parametrize(("family", "x_shape"), CASES)
each_single = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def built(family, x_shape, *, missing=False, seed=9):
    """A likelihood in float64, calibrated by data, whose learned parameters are not as initialised."""
    import dataclasses

    likelihood = dataclasses.replace(family.factory, missing=missing)(x_shape).double()
    likelihood.calibrate(family.data(50, *x_shape, seed=seed))
    with torch.no_grad():
        for i, parameter in enumerate(likelihood.parameters()):
            parameter.add_(0.05 * draw(*parameter.shape, seed=i))
    return likelihood


# All of them


@each_case
def test_shapes(family, x_shape):
    likelihood = built(family, x_shape)
    assert isinstance(likelihood, Likelihood)
    assert not likelihood.allows_missing
    for leading in [(5,), (1,), (3, 5)]:
        features = draw(*leading, *likelihood.features_shape)
        p = likelihood(features)
        assert p.batch_shape == leading
        assert p.event_shape == x_shape
        assert p.sample().shape == (*leading, *x_shape)
        assert p.sample((2,)).dtype == torch.float64
        x = family.data(leading[-1], *x_shape)
        assert p.log_prob(x).shape == leading
        torch.testing.assert_close(p.expand((2, *leading)).log_prob(x)[1], p.log_prob(x))
        mean = likelihood.mean(features)
        assert mean.shape == (*leading, *x_shape)
        assert mean.dtype == torch.float64
    assert likelihood.preprocess(x).shape == (len(x), *likelihood.input_shape)
    assert likelihood.preprocess(x).isfinite().all()


@each_case
def test_its_own_samples_are_valid_data(family, x_shape):
    likelihood = built(family, x_shape)
    x = likelihood(draw(20, *likelihood.features_shape)).sample()
    likelihood.check(x, "x")
    likelihood.check(family.data(20, *x_shape).float(), "x")
    assert likelihood(draw(20, *likelihood.features_shape)).log_prob(x).isfinite().all()


@each_single
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_probabilities_add_up_to_one_with_the_mean_that_is_given(family, scale):
    likelihood = built(family, (1,))
    x, weights = family.support
    for seed in range(3):
        features = scale * draw(1, *likelihood.features_shape, seed=seed)
        p = weights * likelihood(features).log_prob(x.unsqueeze(1)).exp()
        assert p.sum().item() == pytest.approx(1, abs=2e-5)
        mean = likelihood.mean(features).item()
        if isinstance(family.factory, Categorical):
            assert mean == p.argmax()
        else:
            spacing = (x[1] - x[0]).item() if isinstance(family.factory, DiscretizedLogistic) else 1
            assert mean == pytest.approx((p @ x).item(), abs=5e-3 * spacing, rel=1e-3)


@each_single
def test_samples_follow_the_density(family):
    """Their mean, and their mean log probability, which is the negative entropy."""
    likelihood = built(family, (1,))
    x, weights = family.support
    features = draw(1, *likelihood.features_shape, seed=3)
    p = likelihood(features)
    log_p = p.log_prob(x.unsqueeze(1))
    torch.manual_seed(0)
    samples = p.sample((20_000,)).squeeze(1)
    measured = torch.stack([samples[:, 0], p.log_prob(samples)])
    probabilities = weights * log_p.exp()
    expected = torch.stack([probabilities @ x, torch.special.xlogy(probabilities, log_p.exp()).sum()])
    error = measured.std(1) / math.sqrt(len(samples))
    assert ((measured.mean(1) - expected).abs() <= 4.5 * error + 1e-6).all()


@each_case
def test_gradients_equal_finite_differences(family, x_shape):
    likelihood = built(family, x_shape)
    x = family.data(2, *x_shape)
    names, parameters = zip(*[("", None), *likelihood.named_parameters()], strict=True)
    features = draw(2, *likelihood.features_shape).requires_grad_()

    def log_prob(features, *parameters):
        state = dict(zip(names[1:], parameters, strict=True))
        return torch.func.functional_call(likelihood, state, (features,)).log_prob(x)

    assert torch.autograd.gradcheck(log_prob, (features, *parameters[1:]), fast_mode=True)


@each_case
@pytest.mark.parametrize("size", [50.0, 2e3])
def test_extreme_features_give_finite_numbers(family, x_shape, size):
    likelihood = built(family, x_shape).float()
    x = family.data(40, *x_shape).float()
    signs = torch.where(draw(40, *likelihood.features_shape) > 0, 1.0, -1.0)
    features = (size * signs).requires_grad_()
    log_prob = likelihood(features).log_prob(x)
    log_prob.sum().backward()
    assert log_prob.isfinite().all()
    assert features.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in likelihood.parameters())
    mean = likelihood.mean(features.detach())
    assert mean.isfinite().all()


@each_case
def test_missing_entries_are_left_out(family, x_shape):
    """As if they were not there: neither the value nor a gradient of log p(x|z), nor what is encoded."""
    complete = built(family, x_shape)
    likelihood = built(family, x_shape, missing=True)
    likelihood.load_state_dict(complete.state_dict())
    assert likelihood.allows_missing
    x = family.data(6, *x_shape)
    missing = uniform(6, *x_shape, seed=5) < 0.4
    missing[0], missing[1] = True, False
    x_missing = torch.where(missing, math.nan, x)
    features = draw(6, *likelihood.features_shape).requires_grad_()
    parameters = (features, *likelihood.parameters())

    log_prob = likelihood(features).log_prob(x_missing)
    single = complete.elements(features.detach()).log_prob(x)
    torch.testing.assert_close(
        log_prob, torch.where(missing, 0.0, single).flatten(1).sum(1), rtol=1e-10, atol=1e-10
    )
    assert log_prob[0] == 0
    gradients = torch.autograd.grad(log_prob.sum(), parameters)
    single = complete.elements(features).log_prob(x)
    observed = torch.where(missing, 0.0, single).sum()
    of_complete = (features, *complete.parameters())
    for gradient, expected in zip(gradients, torch.autograd.grad(observed, of_complete), strict=True):
        torch.testing.assert_close(gradient, expected)
    assert not gradients[0][0].any()

    code = likelihood.preprocess(x_missing)
    assert code.isfinite().all()
    assert not code[0].any()
    torch.testing.assert_close(code.flatten(1)[:, -missing[0].numel() :], (~missing).double().flatten(1))
    assert torch.equal(
        likelihood.preprocess(x)[1].flatten()[: -missing[0].numel()], complete.preprocess(x)[1].flatten()
    )


@each_case
def test_calibration_goes_by_what_is_observed(family, x_shape):
    """Each element by its own data, as if the missing ones were not there."""
    x = family.data(40, *x_shape)
    x.flatten(1)[:15, 0] = math.nan
    likelihood, complete = built(family, x_shape, missing=True), built(family, x_shape)
    likelihood.calibrate(x)
    complete.calibrate(x[15:])
    likelihood.check(x, "x")
    features = draw(1, *likelihood.features_shape)
    torch.testing.assert_close(
        likelihood.mean(features).flatten()[0],
        complete.mean(features).flatten()[0],
        rtol=2e-3 if "average" in " ".join(likelihood.state_dict()) else 1e-7,
        atol=0,
    )
    assert likelihood(features).log_prob(x[-1:]).isfinite().all()
    x[:] = math.nan
    likelihood.check(x, "x")
    likelihood.calibrate(x)  # of nothing
    assert likelihood(features).log_prob(x).eq(0).all()
    assert likelihood.mean(features).isfinite().all()


@each_case
def test_types_follow_the_module(family, x_shape):
    for dtype in (torch.float32, torch.float64):
        likelihood = built(family, x_shape, missing=True).to(dtype)
        x = family.data(3, *x_shape).to(dtype)
        features = draw(3, *likelihood.features_shape).to(dtype)
        results = likelihood(features).log_prob(x), likelihood.mean(features), likelihood.preprocess(x)
        assert {result.dtype for result in results} == {dtype}
        assert likelihood(features).sample().dtype == dtype


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each_case
def test_the_device_makes_no_difference(family, x_shape):
    likelihood = built(family, x_shape, missing=True)
    x, features = family.data(3, *x_shape), draw(3, *likelihood.features_shape)
    x.flatten(1)[0] = math.nan
    expected = likelihood(features).log_prob(x)
    likelihood.cuda()
    torch.testing.assert_close(likelihood(features.cuda()).log_prob(x.cuda()).cpu(), expected)
    assert likelihood(features.cuda()).sample().is_cuda
    assert likelihood.mean(features.cuda()).is_cuda


@each_case
@pytest.mark.parametrize("missing", [False, True])
def test_factories_are_plain_data(family, x_shape, missing):
    import dataclasses

    factory = dataclasses.replace(family.factory, missing=missing)
    config = MFCVAEConfig((Facet(3, 2),), likelihood=factory)
    again = MFCVAEConfig.from_json(config.to_json())
    assert again == config
    assert hash(again.likelihood) == hash(factory)
    json.loads(config.to_json())
    one, other = factory(x_shape), again.likelihood(x_shape)
    assert str(one) == str(other)
    other.load_state_dict(one.state_dict())


def test_every_name_builds_a_likelihood():
    assert set(likelihoods.available()) >= {name for name in FAMILIES if "-" not in name}
    for name in likelihoods.available():
        likelihood = likelihoods.FACTORIES[name]()((2,))
        assert likelihood(torch.zeros(3, *likelihood.features_shape)).batch_shape == (3,)
        assert MFCVAEConfig((Facet(3, 2),), likelihood=name).likelihood == likelihoods.FACTORIES[name]()


@pytest.mark.parametrize(
    ("factory", "value", "message"),
    [
        (
            Bernoulli(),
            -0.01,
            r"dataset: values from -0.01 .*Bernoulli likelihood needs .*\[0, 1\].*'gaussian'",
        ),
        (Bernoulli(missing=True), 255.0, r"dataset: values from .* to 255.*\[0, 1\]"),
        (ContinuousBernoulli(), 1.01, r"dataset: values .* to 1.01.*continuous Bernoulli .*'gaussian'"),
        (DiscretizedLogistic(), 0.5, r"dataset: got 0.5, among 1 of 3 .*1/255 .*levels=.*'gaussian'"),
        (DiscretizedLogistic(), 1 + 1 / 255, r"dataset: got 1.00392, .*multiples of 1/255"),
        (DiscretizedLogistic(), -1 / 255, r"dataset: got -0.0039"),
        (DiscretizedLogistic(16), 1 / 255, r"dataset: got 0.0039.*1/15"),
        (Categorical(3), 3.0, r"dataset: values up to 3, .*0 to 2; use Categorical\(4\)"),
        (Categorical(3), -1.0, r"dataset: got -1, .*number the categories from 0"),
        (Categorical(3), 0.5, r"dataset: got 0.5, .*int64"),
        (Poisson(), -1.0, r"dataset: got -1, among 1 of 3 .*Poisson .* counts, .*'gaussian'.*int64"),
        (Poisson(missing=True), 1 / 255, r"dataset: got 0.0039"),
        (NegativeBinomial(), 2.5, r"dataset: got 2.5, .*negative binomial"),
        (ZeroInflatedNegativeBinomial(), 2.5, r"dataset: got 2.5, .*zero-inflated negative binomial"),
        (BetaBinomial(3), 4.0, r"dataset: values up to 4, .* 0 to 3; use BetaBinomial\(4\)"),
        (BetaBinomial(3), 0.5, r"dataset: got 0.5, .* counts out of 3"),
        (Mixed({"beta_binomial": {2: 4}}), 5.0, r"dataset, column 2: values up to 5"),
        (Mixed({"poisson": [0, 2]}), 2.5, r"dataset, column 2: got 2.5"),
        (Mixed({"categorical": {2: 4}}), 7.0, r"dataset, column 2: values up to 7, .*Categorical\(8\)"),
    ],
)
def test_data_outside_the_support_are_refused(factory, value, message):
    likelihood = factory((3,))
    x = torch.tensor([[1.0, 0.0, value]])
    with pytest.raises(ValueError, match=message):
        likelihood.check(x, "dataset")
    likelihood.check(torch.tensor([[1.0, 0.0, 1.0]]), "dataset")


@pytest.mark.parametrize("value", [0.0, -2.0])
def test_zero_is_not_positive(value):
    likelihood = LogNormal(missing=True)((3,))
    with pytest.raises(ValueError, match=rf"^x: got {value:g}, among 1 of 2 values, .* zero is none; use"):
        likelihood.check(torch.tensor([[1.0, value, math.nan]]), "x")
    likelihood.check(torch.tensor([[1.0, 1e-30, math.nan]]), "x")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        *((lambda s=s: Gaussian(s), "sigma: got") for s in (0.0, -1.0, math.nan, math.inf)),
        (lambda: Gaussian(0.3, learn="all"), r"learn: got 'all', expected one of \(None, 'shared'"),
        (lambda: Gaussian(0.03, learn="shared"), "sigma: got 0.03 to start learning from, .* 0.05"),
        (lambda: Gaussian(0.3, learn="shared", floor=0.0), "sigma: got 0.3"),
        (lambda: DiscretizedLogistic(1), "levels: got 1, expected an integer of at least 2"),
        (lambda: DiscretizedLogistic(scale=1e-3), "scale: got 0.001"),
        (lambda: DiscretizedLogistic(scale=1e-3, learn=None), "scale: got 0.001"),
        (lambda: Categorical(1), "categories: got 1, expected an integer of at least 2"),
        (lambda: Categorical(2.5), "categories: got 2.5"),
        (lambda: NegativeBinomial(-1.0), "total_count: got -1"),
        (lambda: NegativeBinomial(learn="none"), "learn: got 'none'"),
        (lambda: BetaBinomial(0), "total_count: got 0, expected an integer of at least 1"),
        (lambda: BetaBinomial(2, 0.05), "concentration: got 0.05 to start learning from"),
        (
            lambda: LogNormal(0.05),
            "sigma: got 0.05 to start learning from, .* 0.1",
        ),
        (lambda: LogNormal(-1.0, None), "sigma: got -1"),
        (lambda: Mixed({"cauchy": [0]}), "columns: got 'cauchy', expected one of .*'gaussian'"),
        (lambda: Mixed(others="cauchy"), "others: got 'cauchy'"),
        (lambda: Mixed({"poisson": [0, 1], "gaussian": [1]}), r"columns: got \[0, 1, 1\]"),
        (lambda: Mixed({"poisson": [-1]}), r"columns: got \[-1\]"),
        (lambda: Mixed({"poisson": {0: 3}}), "columns: got {'poisson': {0: 3}}, expected a list"),
        (lambda: Mixed({"poisson": [5]})((3,)), r"columns: got 5, expected columns of the data, 0 \.\. 2"),
        (lambda: Mixed()((3, 4)), r"likelihood: mixed columns need data of shape \(N, D\), got .*\(3, 4\)"),
    ],
)
def test_bad_factories_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("columns", [{3: [0]}, {"poisson": [0.5]}])
def test_bad_types_are_refused(columns):
    with pytest.raises(TypeError):
        Mixed(columns)


def test_complete_data_are_checked_without_indices():
    """Which would be many times the data; those that are there are checked among missing ones."""
    likelihood, x = Bernoulli(missing=True)((4,)), torch.rand(5, 4)
    with Calls() as calls:
        likelihood.check(x, "x")
    assert not calls.names & {"index", "nonzero", "masked_select"}
    x[0, 0] = torch.nan
    likelihood.check(x, "x")
    x[1, 1] = 2
    with pytest.raises(ValueError, match=r"x: values from .* to 2"):
        likelihood.check(x, "x")
