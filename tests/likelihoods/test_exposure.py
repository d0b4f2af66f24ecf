"""Counts whose exposure, their total, is taken for known: how much was counted of a datum does not matter."""

import math

import numpy as np
import pyro.poutine as poutine
import pytest
import scipy.stats
import torch

import pyro_mfcvae as mf
from pyro_mfcvae.likelihoods import Mixed, NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from pyro_mfcvae.networks import FullyConnectedLadder

FACTORIES = {
    "poisson": Poisson(exposure="total"),
    "negative_binomial": NegativeBinomial(3.0, None, exposure="total"),
    "zero_inflated": ZeroInflatedNegativeBinomial(3.0, None, exposure="total"),
}
each_family = pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def counts(N, D, seed=0):
    """Of a total that differs a hundredfold."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(
        rng.poisson(np.geomspace(1, 100, N)[:, None] * rng.gamma(2, size=D)).astype(float)
    )


def built(factory, x):
    likelihood = factory(tuple(x.shape[1:])).double()
    likelihood.calibrate(x)
    return likelihood


@each_family
def test_densities_are_those_of_rates_times_the_exposure(factory):
    x = counts(20, 4)
    likelihood = built(factory, x)
    features = draw(20, *likelihood.features_shape)
    s = (x.sum(1) / x.sum(1).mean()).numpy()[:, None]
    rate = likelihood.rate(features).numpy() * s  # of the likelihood itself, at the mean exposure
    np.testing.assert_allclose(likelihood.given(x).rate(features).numpy(), rate)
    np.testing.assert_allclose(
        likelihood.given(x).mean(features).numpy(), likelihood.mean(features).numpy() * s, rtol=1e-9
    )
    p = likelihood.given(x)(features).log_prob(x).numpy()
    if isinstance(factory, NegativeBinomial):
        reference = scipy.stats.nbinom(3.0, 3.0 / (3.0 + rate))
    else:
        reference = scipy.stats.poisson(rate)
    expected = reference.pmf(x.numpy())
    if isinstance(factory, ZeroInflatedNegativeBinomial):
        pi = 1 / (1 + np.exp(2 - features.numpy()[:, 4:]))
        expected = (1 - pi) * expected + pi * (x.numpy() == 0)
    np.testing.assert_allclose(p, np.log(expected).sum(1), rtol=1e-7)
    assert likelihood.given(None) is likelihood


@each_family
def test_how_much_was_counted_does_not_matter(factory):
    """Neither to the encoder nor, but for the factor, to what is expected."""
    x = counts(20, 4)
    likelihood = built(factory, x)
    features = draw(20, *likelihood.features_shape)
    torch.testing.assert_close(likelihood.preprocess(7 * x), likelihood.preprocess(x))
    expected = 7 * likelihood.given(x).mean(features)
    torch.testing.assert_close(likelihood.given(7 * x).mean(features), expected)
    without = type(factory)()((4,)).double()
    assert without.given(x) is without


@each_family
def test_exposure_goes_by_what_is_observed(factory):
    x = counts(30, 5)
    likelihood = built(factory, x)
    m = likelihood.average
    x[0, 2:] = math.nan
    x[1] = math.nan
    x[2] = 0.0
    ones = torch.zeros(30, *likelihood.features_shape, dtype=torch.float64)
    s = (likelihood.given(x).rate(ones) / likelihood.rate(ones))[:, 0]
    expected = [(x[0, :2].sum() / m[:2].sum()).item(), 1.0, (1 / m.sum()).item()]  # nothing is that of one
    np.testing.assert_allclose(s[:3].numpy(), expected)


@each_family
def test_gradients_equal_finite_differences(factory):
    x = counts(3, 4)
    likelihood = built(factory, x).given(x)
    features = draw(3, *likelihood.features_shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: likelihood(f).log_prob(x), features, fast_mode=True)


@pytest.mark.parametrize("gaps", [False, True])
def test_columns_of_counts_have_the_total_of_their_kind(gaps):
    x = torch.cat([counts(10, 4), draw(10, 1)], 1)
    if gaps:
        x[3, 1] = x[4, :4] = math.nan
    mixed = built(Mixed({FACTORIES["poisson"]: [3, 0, 1], "negative_binomial": [2]}), x)
    alone = built(Poisson(missing=True, exposure="total"), x[:, [3, 0, 1]])
    features = draw(10, *mixed.features_shape)
    expected = alone.given(x[:, [3, 0, 1]]).mean(features[:, :3])
    torch.testing.assert_close(mixed.given(x).mean(features)[:, [3, 0, 1]], expected)
    torch.testing.assert_close(mixed.mean(features)[:, [3, 0, 1]], alone.mean(features[:, :3]))
    shown = alone.preprocess(x[:, [3, 0, 1]])[:, :3]
    torch.testing.assert_close(mixed.preprocess(x)[:, :3], shown)
    assert mixed.given(x)(features).log_prob(x).isfinite().all()
    plain = built(Mixed({"poisson": [0]}), x)
    assert plain.given(x) is plain


def test_model_and_loss_know_the_exposure(make_model):
    x = counts(12, 6).float()
    model = make_model(likelihood=FACTORIES["poisson"])
    model.likelihood.calibrate(x)
    trace = poutine.trace(model.model).get_trace(x)
    z = [trace.nodes[site]["value"] for site in model.latent_sites]
    expected = model.likelihood.given(x)(model.decode(z)).log_prob(x)
    torch.testing.assert_close(trace.nodes["x"]["fn"].log_prob(x), expected)
    torch.manual_seed(0)
    objective = model.objective(x)
    torch.manual_seed(0)
    torch.testing.assert_close(-objective, model.elbo().differentiable_loss(model.model, model.guide, x))
    torch.manual_seed(0)
    z = [q.rsample() for q in model.encode(x)]
    expected = model.likelihood.given(x)(model.decode(z)).log_prob(x)
    assert not torch.allclose(expected, model.likelihood(model.decode(z)).log_prob(x))
    generated = model.model(data_size=5)
    assert generated.shape == (5, 6)


def library(N=400, D=12):
    """Counts of two groups that differ in their composition, of totals that differ a hundredfold."""
    rng = np.random.default_rng(1)
    group = rng.integers(0, 2, N)
    profile = np.where((np.arange(D) < D // 2) == (group[:, None] == 0), 1.5, 0.5)
    size = np.exp(rng.uniform(0, np.log(100), N))
    return rng.poisson(2 * size[:, None] * profile), group


def test_groups_are_found_whatever_was_counted_of_each(tmp_path):
    x, group = library()
    config = mf.MFCVAEConfig(
        facets=(mf.Facet(2, 2),),
        likelihood=NegativeBinomial(exposure="total", missing=True),
        network=FullyConnectedLadder(widths=(16,)),
        schedule=mf.Schedule.progressive(1, epochs=12, warm_up_epochs=8, batch_size=50, learning_rate=1e-2),
    )
    assert mf.MFCVAEConfig.from_json(config.to_json()) == config
    fitted = mf.fit(x, config, progress=False, precision="float32")
    assert mf.metrics.purity(fitted.predict(x)[:, 0], group) > 0.95
    totals = fitted.reconstruct(x).sum(1)
    assert np.corrcoef(np.log(totals), np.log(x.sum(1)))[0, 1] > 0.99  # at the exposure of each
    assert np.abs(np.log(totals / x.sum(1))).mean() < 0.1
    generated = fitted.sample(50).sum(1)
    np.testing.assert_allclose(generated, x.sum(1).mean(), rtol=0.3)  # at the mean exposure
    gaps = x.astype(float)
    gaps[:, 0] = np.nan
    filled = fitted.impute(gaps)[:, 0]
    assert np.corrcoef(np.log(filled), np.log(x.sum(1)))[0, 1] > 0.9
    fitted.save(tmp_path / "model.mfcvae")
    np.testing.assert_array_equal(mf.load(tmp_path / "model.mfcvae").reconstruct(x), fitted.reconstruct(x))
    replicated = fitted.to_inference_data(x[:40], num_draws=30).posterior_predictive["x"].values
    mean = replicated.reshape(-1, 40, 12).mean(0).sum(1)
    assert np.corrcoef(np.log(mean), np.log(x[:40].sum(1)))[0, 1] > 0.98
    assert np.isfinite(fitted.log_likelihood(x[:40], num_particles=30)).all()


def test_exposures_that_are_refused():
    for build in (Poisson, NegativeBinomial, ZeroInflatedNegativeBinomial):
        with pytest.raises(ValueError, match=r"^exposure: got 'size', expected one of \(None, 'total'\)"):
            build(exposure="size")
        with pytest.raises(ValueError, match=r"^exposure: got 'total' with data of shape \(1,\), .* None"):
            build(exposure="total")((1,))


def hours_and_counts(N=60, seed=0):
    """Hours of observation, which differ by a factor of ten, two counts by the hour, and a number."""
    rng = np.random.default_rng(seed)
    hours = rng.uniform(1, 10, N)
    visits = rng.poisson(hours[:, None] * np.array([0.5, 4.0]))
    return torch.from_numpy(np.column_stack([visits[:, 0], hours, rng.normal(size=N), visits[:, 1]]))


def test_a_column_is_the_exposure():
    x = hours_and_counts()
    likelihood = built(Mixed({"poisson": [0, 3]}, others="gaussian", exposure=1), x)
    assert likelihood.features_shape == (3,)
    features = draw(len(x), 3)
    counted, number = built(Poisson(), x[:, [0, 3]]), built(mf.likelihoods.mixed.KINDS["gaussian"], x[:, [2]])
    s = (x[:, 1] / x[:, 1].mean())[:, None]
    rate = counted.rate(features[:, :2]) * s
    expected = torch.distributions.Poisson(rate).log_prob(x[:, [0, 3]]).sum(1)
    expected += number(features[:, 2:]).log_prob(x[:, [2]])
    given = likelihood.given(x)
    torch.testing.assert_close(given(features).log_prob(x), expected)
    mean = given.mean(features)
    torch.testing.assert_close(mean[:, [0, 3]], rate)
    torch.testing.assert_close(mean[:, 1], x[:, 1])
    torch.testing.assert_close(given(features).sample()[:, 1], x[:, 1])
    assert (likelihood(features).sample()[:, 1] == x[:, 1].mean()).all()
    # Of several draws of z at once, as for importance weights.
    several = draw(5, len(x), 3)
    assert given(several).log_prob(x).shape == (5, len(x))


def test_twice_the_time_and_twice_the_counts_are_the_same_to_the_encoder():
    x = hours_and_counts()
    likelihood = built(Mixed(others="poisson", exposure=1), x[:, [0, 1, 3]])
    twice = 2 * x[:, [0, 1, 3]]
    torch.testing.assert_close(likelihood.preprocess(twice), likelihood.preprocess(x[:, [0, 1, 3]]))
    logs = (x[:, [0, 3]] * x[:, 1].mean() / x[:, [1]]).log1p()  # of counts at the mean exposure
    expected = (logs - logs.mean(0)) / logs.std(0, correction=0)
    torch.testing.assert_close(likelihood.preprocess(x[:, [0, 1, 3]])[:, :2], expected)
    missing = x[:, [0, 1, 3]].clone()
    missing[0, 1] = math.nan
    at_mean = missing.clone()
    at_mean[0, 1] = x[:, 1].mean()
    features = draw(len(x), 2)
    torch.testing.assert_close(
        likelihood.given(missing)(features).log_prob(missing)[0],
        likelihood.given(at_mean)(features).log_prob(at_mean)[0],
    )


def test_a_table_says_its_exposure_by_name(tmp_path):
    pd = pytest.importorskip("pandas")
    x = hours_and_counts(120, seed=1)
    table = pd.DataFrame(x.numpy(), columns=["finches", "hours", "mass", "tits"])
    likelihood = Mixed({"negative_binomial": ["finches", "tits"]}, exposure="hours")
    config = mf.MFCVAEConfig(
        facets=(mf.Facet(2, 2),),
        likelihood=likelihood,
        network=mf.networks.FullyConnectedShared(widths=(16,)),
        schedule=mf.Schedule((mf.Stage((0,), 2, batch_size=40),)),
    )
    fitted = mf.fit(table, config, seed=0, device="cpu", progress=False)
    assert fitted.config.likelihood.exposure == 1
    swapped = table[["tits", "mass", "hours", "finches"]]
    np.testing.assert_array_equal(fitted.predict(swapped), fitted.predict(table))
    rebuilt = fitted.reconstruct(table, as_frame=True)
    np.testing.assert_allclose(rebuilt["hours"], table["hours"], rtol=1e-6)
    np.testing.assert_allclose(fitted.sample(3, as_frame=True)["hours"], table["hours"].mean(), rtol=1e-6)
    fitted.save(tmp_path / "model.mfcvae")
    again = mf.load(tmp_path / "model.mfcvae")
    np.testing.assert_array_equal(again.log_likelihood(table), fitted.log_likelihood(table))
    with pytest.raises(ValueError, match=r"^x, column 'hours': got the exposure 0, expected positive"):
        fitted.score(table.assign(hours=0.0))


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda: Mixed({"poisson": [0, 1]}, exposure=1), r"^exposure: got 1, which is one of the columns"),
        (lambda: Mixed(exposure=-1), r"^exposure: got -1, expected an integer of at least 0"),
        (lambda: Mixed(exposure=1)((3,)), r"^exposure: got column 1, expected columns of counts beside it"),
        (lambda: Mixed(others="poisson", exposure=7)((3,)), r"^columns: got 7, expected columns of the"),
        (lambda: Mixed(others="poisson", exposure="h")((3,)), r"^columns: got the name 'h' for data with"),
        (
            lambda: Mixed(others=Poisson(exposure="total"), exposure=0)((3,)),
            r"^exposure: got column 0 beside the 'total' of the counts \[1, 2\], expected one of them",
        ),
        (
            lambda: Mixed(others="poisson", exposure="hour").for_columns(["hours", "n"], [Poisson()] * 2),
            r"^exposure: got 'hour', expected one of \('hours', 'n'\); look at the spelling",
        ),
    ],
)
def test_exposures_that_cannot_be(factory, message):
    with pytest.raises(ValueError, match=message):
        factory()
