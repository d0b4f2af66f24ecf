"""Every likelihood through the whole job, and tables: columns of several kinds, missing entries."""

import dataclasses
import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_wine
from sklearn.metrics import adjusted_rand_score

import pyro_mfcvae as mf
from pyro_mfcvae.likelihoods import (
    Bernoulli,
    BetaBinomial,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    LogNormal,
    Mixed,
    NegativeBinomial,
    Poisson,
    ZeroInflatedNegativeBinomial,
)
from pyro_mfcvae.networks import ConvolutionalLadder, FullyConnectedLadder

N = 60
GROUP = np.arange(N) % 2
HALVES = 0.2 + 0.6 * np.where(np.arange(6) < 3, GROUP[:, None], 1 - GROUP[:, None])  # (N, 6)
RNG = np.random.default_rng(0)
UNIT = np.clip(HALVES + RNG.normal(scale=0.1, size=HALVES.shape), 0, 1)
COUNTS = RNG.poisson(15 * HALVES)
CODES = (3 * UNIT).astype(int).clip(0, 2)
TABLE = np.stack([40 * UNIT[:, 0], CODES[:, 1], COUNTS[:, 2], UNIT[:, 3] > 0.5, UNIT[:, 4], CODES[:, 5]], 1)
FAMILIES = {
    "bernoulli": (Bernoulli(), UNIT),
    "continuous_bernoulli": (ContinuousBernoulli(), UNIT),
    "gaussian-shared": (Gaussian(0.5, learn="shared"), UNIT),
    "gaussian-decoder": (Gaussian(0.5, True, "decoder"), 100 * UNIT),
    "discretized_logistic": (DiscretizedLogistic(), np.round(255 * UNIT).astype(np.uint8)),
    "categorical": (Categorical(3), CODES),
    "poisson": (Poisson(), COUNTS),
    "negative_binomial": (NegativeBinomial(), COUNTS),
    "zero_inflated": (ZeroInflatedNegativeBinomial(learn="decoder"), COUNTS * (CODES > 0)),
    "beta_binomial": (BetaBinomial(2), CODES),
    "log_normal": (LogNormal(), np.exp(3 * UNIT)),
    "mixed": (Mixed({"categorical": {1: 3, 5: 3}, "poisson": [2], "bernoulli": [3]}), TABLE),
}


def quick(x, likelihood, epochs=11, network=None, **options):
    config = mf.MFCVAEConfig(
        facets=(mf.Facet(2, 2), mf.Facet(2, 2)),
        likelihood=likelihood,
        network=network or FullyConnectedLadder(widths=(16, 16)),
        schedule=mf.Schedule.progressive(
            2, epochs=epochs, warm_up_epochs=epochs - 1, batch_size=20, learning_rate=1e-2
        ),
    )
    return mf.fit(x, config, progress=False, precision="float32", **options)


def with_gaps(x, share=0.2, seed=1):
    """Data as floats, 8-bit ones in [0, 1], and the same with missing entries."""
    x = x / 255 if x.dtype == np.uint8 else x.astype(float)
    missing = np.random.default_rng(seed).random(x.shape) < share
    return x, np.where(missing, np.nan, x).astype(np.float32)


@pytest.mark.parametrize("has_gaps", [False, True])
@pytest.mark.parametrize(("likelihood", "x"), FAMILIES.values(), ids=FAMILIES)
def test_the_whole_job(tmp_path, likelihood, x, has_gaps):
    if has_gaps:
        likelihood = dataclasses.replace(likelihood, missing=True)
        _, x = with_gaps(x)
    fitted = quick(x, likelihood)
    first, warm, last = (fitted.history[i] for i in (0, 9, -1))  # the same objective for ten epochs
    assert warm.loss < first.loss
    assert last.log_likelihood > first.log_likelihood
    assert all(tensor.isfinite().all() for tensor in fitted.model.state_dict().values())

    clusters = fitted.predict(x)
    assert clusters.shape == (N, 2)
    reconstructed, composed = fitted.reconstruct(x), fitted.compose([x, x])
    np.testing.assert_allclose(reconstructed, composed, rtol=1e-4)  # of batches of another size
    generated = fitted.sample(7, clusters={1: 0})
    assert reconstructed.shape == x.shape
    assert generated.shape == (7, 6)
    assert np.isfinite(reconstructed).all()
    assert np.isfinite(generated).all()
    assert math.isfinite(fitted.score(x))
    for i in (0, N - 1):
        alone = x[i : i + 1]
        for j, r in enumerate(fitted.predict_proba(alone)):
            assert r[0, clusters[i, j]] >= r.max() - 1e-4
        np.testing.assert_allclose(fitted.reconstruct(alone)[0], reconstructed[i], rtol=1e-4, atol=1e-5)
        assert math.isfinite(fitted.score(x[i : i + 1]))

    fitted.save(tmp_path / "model.mfcvae")
    again = mf.load(tmp_path / "model.mfcvae")
    assert again.model.config == fitted.model.config
    np.testing.assert_array_equal(again.reconstruct(x), reconstructed)
    np.testing.assert_array_equal(again.predict(x), clusters)
    assert again.score(x) == fitted.score(x)

    imputed = fitted.impute(x)
    if has_gaps:
        np.testing.assert_array_equal(imputed[~np.isnan(x)], x[~np.isnan(x)])
        np.testing.assert_array_equal(imputed[np.isnan(x)], reconstructed[np.isnan(x)])
    else:
        observed = x / 255 if x.dtype == np.uint8 else x
        np.testing.assert_array_equal(imputed, observed.astype(imputed.dtype))


SHARES = 0.15 + 0.7 * (np.arange(8) < 4)  # of columns that one group has much of, and the other little


@pytest.mark.parametrize(
    ("likelihood", "draws"),
    [
        (
            "zero_inflated_negative_binomial",
            lambda rng, share: rng.poisson(20 * share) * (rng.random(share.shape) < 0.7),
        ),
        (BetaBinomial(12), lambda rng, share: rng.binomial(12, share)),
        (Mixed({"beta_binomial": dict.fromkeys(range(8), 12)}), lambda rng, share: rng.binomial(12, share)),
        ("log_normal", lambda rng, share: np.exp(3 * share + 0.5 * rng.normal(size=share.shape))),
    ],
)
def test_two_groups_are_found(likelihood, draws):
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, 300)
    x = draws(rng, np.where(group[:, None] == 0, SHARES, 1 - SHARES))
    config = mf.presets.tabular(
        facets=(mf.Facet(2, 2),),
        likelihood=likelihood,
        schedule=mf.Schedule.progressive(1, epochs=12, warm_up_epochs=6, batch_size=60, learning_rate=5e-3),
    )
    fitted = mf.fit(x, config, progress=False, precision="float32")
    assert mf.metrics.purity(fitted.predict(x)[:, 0], group) > 0.9


def test_reconstructions_are_in_the_units_of_each_column():
    fitted = quick(TABLE, FAMILIES["mixed"][0], epochs=30)
    x = fitted.reconstruct(TABLE)
    assert set(np.unique(x[:, [1, 5]])) <= {0.0, 1.0, 2.0}
    assert (x[:, 2] > 0).all()
    assert ((x[:, 3] > 0) & (x[:, 3] < 1)).all()
    assert np.corrcoef(x[:, 0], TABLE[:, 0])[0, 1] > 0.8
    assert np.mean(x[:, 1] == TABLE[:, 1]) > 0.7


@pytest.mark.parametrize("likelihood", [Categorical(3, missing=True), Gaussian(0.5, learn="decoder")])
@pytest.mark.parametrize("x_shape", [(1, 8, 8), (8, 8), (2, 8, 8)])
def test_pictures_through_a_convolutional_ladder(likelihood, x_shape):
    x = RNG.integers(0, 3, (20, *x_shape)).astype(np.float32)
    if likelihood.missing:
        x.reshape(20, -1)[:, :5] = np.nan
    network = ConvolutionalLadder(channels=4)
    fitted = quick(x, likelihood, epochs=1, network=network)
    assert fitted.reconstruct(x).shape == x.shape
    assert not np.isnan(fitted.impute(x)).any()


def test_a_network_is_asked_for_what_the_likelihood_needs():
    asked = []

    def network(shape, latent_dims):
        asked.append(shape)
        return FullyConnectedLadder(widths=(8,) * len(latent_dims))(shape, latent_dims)

    def of(likelihood):
        asked.clear()
        model = mf.MFCVAE(mf.MFCVAEConfig((mf.Facet(2, 2),), likelihood=likelihood, network=network), (5,))
        z = [q.sample() for q in model.encode(torch.zeros(3, 5))]
        assert model.likelihood(model.decode(z)).event_shape == (5,)
        return list(asked)

    assert of(Gaussian()) == [(5,)]
    assert of(Categorical(4)) == [(20,)]
    assert of(Gaussian(missing=True)) == [(10,), (5,)]
    assert of(Mixed({"categorical": {1: 3}})) == [(7 + 5,), (7,)]


def test_several_particles_take_a_likelihood_with_planes(make_model):
    model = make_model(likelihood=Mixed({"categorical": {1: 3}}), num_particles=4)
    x = torch.rand(5, 6)
    x[:, 1], x[0, 2] = 2.0, math.nan
    loss = model.elbo().differentiable_loss(model.model, model.guide, x)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert model.model(data_size=3).shape == (3, 6)


def test_a_step_with_missing_entries_is_that_of_the_likelihood_of_what_is_there(make_model):
    """Whole gradients of the model, encoder included: finite, and nothing in them of a missing entry."""
    model = make_model(likelihood=Gaussian(0.5, standardize=True, missing=True))
    x = torch.rand(8, 6)
    x[torch.rand(8, 6) < 0.5] = math.nan
    model.likelihood.calibrate(x)
    model.elbo().differentiable_loss(model.model, model.guide, x).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    # A column that nobody has moves nothing in the last layer of the decoder.
    x[:, 2] = math.nan
    model.zero_grad()
    model.elbo().differentiable_loss(model.model, model.guide, x).backward()
    last = model.decoder.output[-1]
    assert not last.weight.grad[2].any()
    assert last.weight.grad[1].any()


def test_missing_entries_need_a_likelihood_that_takes_them(tmp_path):
    x = UNIT.copy()
    x[3, 1] = np.nan
    for config in (None, mf.presets.tabular(), mf.presets.tabular(likelihood="bernoulli")):
        with pytest.raises(ValueError, match=r"dataset: got NaN .* row 3.*likelihood='mixed'.*missing=True"):
            mf.fit(x, config, progress=False)
    fitted = quick(UNIT, Gaussian(), epochs=1)
    for method in (fitted.predict, fitted.reconstruct, fitted.impute, fitted.score):
        with pytest.raises(ValueError, match="x: got NaN"):
            method(x)
    x[3, 1] = np.inf
    with pytest.raises(ValueError, match=r"dataset: got infinity .* row 3"):
        quick(x, Mixed())
    with pytest.raises(ValueError, match="x: got infinity"):
        quick(UNIT, Mixed(), epochs=1).predict(x)


def test_a_masked_array_misses_what_is_masked():
    masked = np.ma.masked_array(UNIT, RNG.random(UNIT.shape) < 0.1)
    fitted = quick(masked, Mixed(), epochs=1)
    expected = quick(np.ma.filled(masked, np.nan), Mixed(), epochs=1)
    np.testing.assert_array_equal(fitted.predict(masked), expected.predict(masked))
    assert not np.isnan(fitted.impute(masked)).any()


def test_several_runs_and_pictures_of_data_with_gaps():
    _, x = with_gaps(TABLE)
    config = quick(x, FAMILIES["mixed"][0], epochs=2).model.config
    runs = mf.fit(x, config, seeds=range(2), workers=1, progress=False)
    assert runs.agreement(x).matrices.shape == (2, 2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mf.plots.cluster_examples(runs.best, x, facet=0)
        mf.plots.reconstructions(runs.best, x)


# Real tables


def wine():
    data = load_wine()
    return data.data, data.target


@pytest.mark.parametrize("likelihood", [Gaussian(1.0, standardize=True), "mixed"])
def test_the_cultivars_of_wine_are_found(likelihood):
    """13 measurements of 178 wines of three cultivars, which nobody tells the model."""
    x, cultivar = wine()
    config = mf.presets.tabular(
        facets=(mf.Facet(3, 2),),
        likelihood=likelihood,
        schedule=mf.Schedule.progressive(1, epochs=150, warm_up_epochs=50, batch_size=60, learning_rate=2e-3),
    )
    if likelihood == "mixed":
        _, x = with_gaps(x, share=0.1)
    fitted = mf.fit(x, config, progress=False, precision="float32")
    assert adjusted_rand_score(cultivar, fitted.predict(x)[:, 0]) > 0.6
    if likelihood == "mixed":
        complete, missing = wine()[0], np.isnan(x)
        scale = complete.std(0)
        error = ((fitted.impute(x) - complete) / scale)[missing]
        naive = ((np.nanmean(x, 0) - complete) / scale)[missing]
        assert np.square(error).mean() < 0.8 * np.square(naive).mean()


@pytest.mark.parametrize(
    ("likelihood", "scale"),
    [
        ("poisson", 1),
        pytest.param("negative_binomial", 1, marks=pytest.mark.slow),
        pytest.param(Categorical(17), 1, marks=pytest.mark.slow),
        pytest.param(DiscretizedLogistic(17, 0.1), 16, marks=pytest.mark.slow),
        pytest.param("continuous_bernoulli", 16, marks=pytest.mark.slow),
    ],
)
def test_digits_are_found_whatever_their_pixels_are_taken_for(likelihood, scale):
    x, digit = load_digits(return_X_y=True)
    config = mf.presets.tabular(
        facets=(mf.Facet(20, 6),),
        likelihood=likelihood,
        schedule=mf.Schedule.progressive(1, epochs=20, warm_up_epochs=10, batch_size=128, learning_rate=3e-3),
    )
    fitted = mf.fit(x / scale, config, progress=False, precision="float32")
    assert mf.metrics.purity(fitted.predict(x / scale)[:, 0], digit) > 0.6
