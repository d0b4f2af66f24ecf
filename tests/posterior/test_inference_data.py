"""What ArviZ gets, from whichever version of it is installed.

Python 3.11 has ArviZ 0.23, Python 3.12 and newer has version 1. To test with the other one::

    python3.12 -m venv other && other/bin/pip install -e '.[test]' h5netcdf
    other/bin/python -m pytest tests/posterior
"""

import dataclasses
import importlib
import importlib.metadata
import sys
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from scipy.special import logsumexp

from pyro_mfcvae import MFCVAE, Facet, FittedMFCVAE, MFCVAEConfig, Schedule, fit
from pyro_mfcvae.likelihoods import Gaussian
from pyro_mfcvae.posterior import inference_data
from pyro_mfcvae.posterior.arviz_groups import convert
from pyro_mfcvae.posterior.importance import pareto_k
from pyro_mfcvae.posterior.inference_data import bootstrap
from pyro_mfcvae.priors import DiagonalGaussianMixture

S, N = 60, 8
IS_OLD = int(importlib.metadata.version("arviz").split(".")[0]) < 1


@pytest.fixture(scope="session")
def az():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("arviz")


@pytest.fixture(scope="module")
def fitted(blobs, make_config):
    config = make_config(J=2, K=(4, 3), D=(2, 1), likelihood=Gaussian(0.2), epochs=3)
    return fit(blobs[0], config, device="cpu", precision="float32", progress=False)


def test_a_nuisance_is_one_more_latent(make_model, x):
    fitted = FittedMFCVAE(make_model(J=2, nuisance=3), [])
    data = fitted.to_inference_data(x, num_draws=4)
    assert data.posterior["z_nuisance"].dims == ("chain", "draw", "datum", "z_nuisance_dim")
    assert data.posterior["z_nuisance"].shape == (1, 4, N, 3)
    names = {"z_0", "z_1", "z_nuisance", "responsibilities_0", "responsibilities_1"}
    assert set(data.posterior.data_vars) == names
    assert data.prior_predictive["x"].shape == (1, 4, N, 6)


@pytest.fixture(scope="module")
def x(blobs):
    return blobs[0][:N]


@pytest.fixture(scope="module")
def data(fitted, x):
    return fitted.to_inference_data(x, num_draws=S)


# --- what is in it -------------------------------------------------------------------------------


def test_its_type_is_what_the_installed_arviz_takes(data):
    assert type(data).__name__ == ("InferenceData" if IS_OLD else "DataTree")


def test_groups_dimensions_and_coordinates(data):
    draw = {"chain": 1, "draw": S}
    expected = {
        ("posterior", "z_0"): {**draw, "datum": N, "z_0_dim": 2},
        ("posterior", "z_1"): {**draw, "datum": N, "z_1_dim": 1},
        ("posterior", "responsibilities_0"): {**draw, "datum": N, "cluster_0": 4},
        ("posterior", "responsibilities_1"): {**draw, "datum": N, "cluster_1": 3},
        ("posterior_predictive", "x"): {**draw, "datum": N, "x_dim_0": 6},
        ("prior_predictive", "x"): {**draw, "datum": N, "x_dim_0": 6},
        ("log_likelihood", "x"): {**draw, "datum": N},
        ("sample_stats", "log_weight"): {**draw, "datum": N},
        ("sample_stats", "pareto_k"): {"datum": N},
        ("observed_data", "x"): {"datum": N, "x_dim_0": 6},
    }
    found = {
        (group, name): dict(values.sizes)
        for group in {group for group, _ in expected}
        for name, values in data[group].data_vars.items()
    }
    assert found == expected
    for group, _ in expected:
        for dim, coordinate in data[group].coords.items():
            assert coordinate.values.tolist() == list(range(len(coordinate))), dim
        assert data[group].attrs["creation_library"] == "pyro_mfcvae"


def test_values(data, fitted, x):
    posterior, stats = data["posterior"], data["sample_stats"]
    for j, (r, z) in enumerate(zip(fitted.predict_proba(x), fitted.transform(x), strict=True)):
        responsibilities = posterior[f"responsibilities_{j}"].values
        np.testing.assert_allclose(responsibilities, np.broadcast_to(r, (1, S, *r.shape)), atol=1e-6)
        q = fitted.model.encode(torch.from_numpy(x))[j]
        error = (posterior[f"z_{j}"].values[0] - z) / q.stddev.detach().numpy()
        assert np.abs(error.mean(0)).max() < 5 / S**0.5
        assert 0.7 < error.std() < 1.3
    np.testing.assert_array_equal(data["observed_data"]["x"], x)
    log_weights = stats["log_weight"].values[0]
    np.testing.assert_allclose(stats["pareto_k"], pareto_k(log_weights))
    estimate = logsumexp(log_weights, axis=0) - np.log(S)
    sd = data["log_likelihood"]["x"].std(("chain", "draw")).values
    assert (np.abs(estimate - fitted.log_likelihood(x, 5_000)) < 5 * sd).all()
    assert (np.abs(data["log_likelihood"]["x"].mean(("chain", "draw")) - estimate) < 2 * sd).all()


@torch.no_grad()
def test_log_weights_belong_to_their_latents(data, fitted, x):
    z = [torch.from_numpy(data["posterior"][f"z_{j}"].values[0]) for j in range(2)]
    model, expected = fitted.model, 0
    for prior, q, z_j in zip(model.facet_priors, model.encode(torch.from_numpy(x)), z, strict=True):
        components = prior.component(torch.arange(prior.clusters))
        p = torch.distributions.MixtureSameFamily(prior.weights(), components)
        expected += p.log_prob(z_j) - q.log_prob(z_j)
    expected += model.likelihood(model.decode(z)).log_prob(torch.from_numpy(x))
    np.testing.assert_allclose(data["sample_stats"]["log_weight"].values[0], expected, atol=1e-3)


def test_data_are_drawn_from_the_model(fitted, x):
    """Moments of E[x | z] + 0.2 noise, for z from the posterior and from the prior."""
    data = fitted.to_inference_data(x, num_draws=2_000)
    with torch.no_grad():
        z = [torch.from_numpy(data["posterior"][f"z_{j}"].values[0]) for j in range(2)]
        mean = fitted.model.likelihood.mean(fitted.model.decode(z)).numpy()
    noise = data["posterior_predictive"]["x"].values[0] - mean
    np.testing.assert_allclose(noise.std((0, 1)), 0.2, rtol=0.05)
    np.testing.assert_allclose(noise.mean((0, 1)), 0.0, atol=0.02)
    generated = fitted.sample(20_000)
    prior = data["prior_predictive"]["x"].values.reshape(-1, 6)
    np.testing.assert_allclose(prior.mean(0), generated.mean(0), atol=0.02)
    np.testing.assert_allclose(prior.var(0), generated.var(0) + 0.2**2, rtol=0.1)


def test_training(data, fitted):
    training = data["training"]
    assert dict(training.sizes) == {"epoch": 6, "facet": 2}
    for name in ("loss", "elbo", "log_likelihood", "facet_terms", "alive", "seconds", "kl_weights"):
        np.testing.assert_array_equal(training[name], [getattr(record, name) for record in fitted.history])
    np.testing.assert_array_equal(training["stage"], [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(training["epoch_of_stage"], [0, 1, 2, 0, 1, 2])
    assert "held_out_elbo" not in training
    known = [np.nan if r.redundancy is None else r.redundancy for r in fitted.history]
    np.testing.assert_array_equal(training["redundancy"], known)
    assert np.isnan(known).tolist() == [True] * 3 + [False] * 3  # one facet, and then two


def test_data_held_out_in_training_are_in_its_statistics(blobs, make_config):
    schedule = dataclasses.replace(Schedule.progressive(1, epochs=2), held_out=0.2)
    fitted = fit(blobs[0], make_config(J=1, schedule=schedule), device="cpu", progress=False)
    training = fitted.to_inference_data(blobs[0][:2], num_draws=2)["training"]
    assert training["held_out_elbo"].values.tolist() == [r.held_out_elbo for r in fitted.history]


def test_pictures_and_what_may_be_left_out(make_model):
    fitted = FittedMFCVAE(make_model(J=1, x_shape=(1, 4, 5)), [])
    x = np.random.default_rng(0).random((3, 4, 5))
    data = fitted.to_inference_data(x, num_draws=4)
    assert data["posterior_predictive"]["x"].shape == (1, 4, 3, 1, 4, 5)
    assert set(np.unique(data["posterior_predictive"]["x"])) <= {0, 1}  # Bernoulli
    assert "pareto_k" not in data["sample_stats"]
    small = fitted.to_inference_data(x, num_draws=4, predictive=False)
    names = set(small.groups() if IS_OLD else small.children)
    assert names == {"posterior", "log_likelihood", "sample_stats", "observed_data"}


def test_many_data_are_taken_in_blocks(fitted, blobs):
    x = np.resize(blobs[0], (1_100, 6))
    x[5::512] += 3
    data = fitted.to_inference_data(x, num_draws=3)
    log_weights = data["sample_stats"]["log_weight"].values
    assert set(np.argsort(log_weights.mean((0, 1)))[:3]) == {5, 517, 1_029}
    r = fitted.predict_proba(x)[1]
    np.testing.assert_allclose(data["posterior"]["responsibilities_1"][0, 2], r, atol=1e-6)


def test_seeds_and_random_streams(fitted, x, data):
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    again, other = (fitted.to_inference_data(x, num_draws=S, seed=seed) for seed in (0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002
    for group in ("posterior", "posterior_predictive", "prior_predictive", "log_likelihood"):
        for name, values in data[group].data_vars.items():
            assert np.array_equal(values, again[group][name])
            assert name.startswith("resp") or not np.array_equal(values, other[group][name])


def test_bootstrap():
    """Its draws have the mean of the weights, and the variance that this mean has."""
    log_weights = np.random.default_rng(0).normal(-700, 0.5, size=(4_000, 3))
    weights = np.exp(log_weights + 700)
    draws = np.exp(bootstrap(log_weights, np.random.default_rng(1)) + 700)
    np.testing.assert_allclose(draws.mean(0), weights.mean(0), rtol=1e-3)
    np.testing.assert_allclose(draws.std(0), weights.std(0) / 4_000**0.5, rtol=0.1)


# --- what all data share -------------------------------------------------------------------------


class SharedMean(DiagonalGaussianMixture):
    """Has a site of its own in the guide."""

    has_globals = True

    def guide(self, name):
        pyro.sample(f"{name}_loc", dist.Normal(torch.full((3, 2), 5.0), 0.1).to_event(2))
        pyro.sample(f"{name}_total", dist.Delta(torch.tensor(2.0)))


def test_draws_of_what_all_data_share(make_config, blobs):
    config = make_config(J=2)
    facets = (Facet(3, 2, lambda clusters, latent_dim: SharedMean(clusters, latent_dim)), config.facets[1])
    model = MFCVAE(make_config(J=2, facets=facets), (6,))
    posterior = FittedMFCVAE(model, []).to_inference_data(blobs[0][:2], num_draws=S)["posterior"]
    assert {"prior_0_loc", "prior_0_total"} < set(posterior.data_vars)
    assert dict(posterior["prior_0_loc"].sizes) == {
        "chain": 1, "draw": S, "prior_0_loc_dim_0": 3, "prior_0_loc_dim_1": 2
    }  # fmt: skip
    assert posterior["prior_0_loc"].values.mean() == pytest.approx(5.0, abs=0.1)
    assert posterior["prior_0_loc"].values.std() == pytest.approx(0.1, rel=0.2)
    np.testing.assert_array_equal(posterior["prior_0_total"], np.full((1, S), 2.0))


def test_draws_are_of_the_parameters_and_not_of_what_a_guide_makes_them_from():
    model = MFCVAE(MFCVAEConfig(facets=(Facet(3, 2, "bayesian_gaussian"), Facet(3, 2))), (6,))
    shapes = {name: draws.shape for name, draws in inference_data.global_draws(model, 4).items()}
    expected = {"prior_0.weights": (4, 3), "prior_0.means": (4, 3, 2), "prior_0.scales": (4, 3, 2)}
    assert shapes == expected


def test_point_estimates_share_nothing(fitted):
    assert inference_data.global_draws(fitted.model, 5) == {}


# --- what ArviZ makes of it ----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # ArviZ's own, of constants and of a single chain
def test_summary(az, data):
    table = az.summary(data, var_names=["z_0", "z_1"], round_to=None if IS_OLD else "none")
    means = np.concatenate([data["posterior"][f"z_{j}"].values[0].mean(0).ravel() for j in range(2)])
    np.testing.assert_allclose(table["mean"].astype(float), means, atol=1e-3)
    everything = az.summary(data)
    assert sum("responsibilities_1[" in name for name in everything.index) == N * 3


@pytest.mark.filterwarnings("error")
def test_loo(az, fitted, x):
    """For point estimates, leaving a datum out changes nothing but the Monte Carlo error."""
    data = fitted.to_inference_data(x, num_draws=1_000)
    loo = az.loo(data)
    elpd, p = (loo.elpd_loo, loo.p_loo) if IS_OLD else (loo.elpd, loo.p)
    estimate = logsumexp(data["sample_stats"]["log_weight"].values[0], axis=0) - np.log(1_000)
    assert elpd == pytest.approx(estimate.sum(), abs=0.5)
    assert elpd == pytest.approx(fitted.log_likelihood(x, 5_000).sum(), abs=1.0)
    assert 0 <= p < 0.5


@pytest.mark.filterwarnings("ignore")  # pandas' of what ArviZ asks it
def test_compare(az, fitted, x, data):
    table = az.compare({"one": data, "other": fitted.to_inference_data(x, num_draws=S, seed=1)})
    assert set(table.index) == {"one", "other"}
    assert abs(table["elpd_diff"].astype(float)).max() < 3


@pytest.mark.filterwarnings("ignore")
def test_plots(az, data):
    """What is drawn is the installed ArviZ's matter; that it can be drawn is ours."""
    from matplotlib import pyplot, rc_context

    with rc_context({"backend": "agg"}):
        if IS_OLD:
            az.plot_ppc(data, group="posterior", num_pp_samples=5)
            az.plot_forest(data, var_names=["z_0"], coords={"datum": [0, 3]})
            assert len(pyplot.get_fignums()) == 2
        else:
            az.plot_ppc_dist(data, num_samples=5, backend="matplotlib")
            az.plot_forest(data, var_names=["z_0"], coords={"datum": [0, 3]}, backend="matplotlib")
        pyplot.close("all")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_round_trip_to_a_file(az, data, tmp_path):
    pytest.importorskip("h5netcdf")
    data.to_netcdf(tmp_path / "fitted.nc", engine="h5netcdf")
    again = az.from_netcdf(tmp_path / "fitted.nc", engine="h5netcdf")
    for group in ("posterior", "log_likelihood", "sample_stats", "posterior_predictive", "training"):
        assert set(again[group].data_vars) == set(data[group].data_vars)
        for name, values in data[group].data_vars.items():
            np.testing.assert_array_equal(again[group][name], values)
            assert again[group][name].dims == values.dims


def test_either_kind_from_the_same_groups(fitted, x, data):
    groups = {"posterior": xr.Dataset({"a": ("draw", np.arange(3))})}
    tree = convert(groups, 1)
    assert isinstance(tree, xr.DataTree)
    assert tree["posterior"]["a"].values.tolist() == [0, 1, 2]
    if IS_OLD:
        old = convert(groups, 0)
        assert type(old).__name__ == "InferenceData"
        assert old.posterior["a"].values.tolist() == [0, 1, 2]


# --- quietly -------------------------------------------------------------------------------------


def test_arviz_is_imported_quietly(tmp_path, monkeypatch):
    """Version 0.23 tells of version 1 when it is first imported on a day."""
    source = "import warnings; warnings.warn('a major refactor', FutureWarning); InferenceData = dict"
    (tmp_path / "arviz.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "arviz", raising=False)
    assert convert({"posterior": 1}, 0) == {"posterior": 1}
    with pytest.raises(FutureWarning):
        importlib.reload(sys.modules["arviz"])
    monkeypatch.delitem(sys.modules, "arviz")


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1.5])
def test_an_impossible_number_of_draws(fitted, x, number):
    with pytest.raises(ValueError, match=f"num_draws: got {number}, expected an integer of at least 1"):
        fitted.to_inference_data(x, num_draws=number)


def test_more_draws_than_memory(fitted, x):
    with pytest.raises(ValueError, match=r"num_draws: got 10000000 for 8 data .* or predictive=False"):
        fitted.to_inference_data(x, num_draws=10_000_000)


def test_data_that_do_not_suit(make_model):
    fitted = FittedMFCVAE(make_model(), [])
    with pytest.raises(ValueError, match="x: got data of shape"):
        fitted.to_inference_data(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="Bernoulli likelihood needs"):
        fitted.to_inference_data(np.full((2, 6), 3.0))
