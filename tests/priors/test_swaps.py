"""Priors swapped in one line where they are used for real: minutes, so marked slow."""

import os
import warnings

import numpy as np
import pytest

import pyro_mfcvae as mf
from pyro_mfcvae import Facet, Schedule, priors
from pyro_mfcvae.training import DeadClustersWarning

pytestmark = pytest.mark.slow

SCHEDULE = Schedule.joint(2, epochs=10, warm_up_epochs=2, batch_size=64, learning_rate=1e-3)
N = 20 * 64  # 200 steps in all


def digits():
    root = os.environ.get("PYRO_MFCVAE_DATA")
    if not root:
        pytest.skip("PYRO_MFCVAE_DATA does not name the folder of MNIST")
    return mf.data.mnist(root).x[:N]


def shapes():
    every = mf.data.RenderedShapes()
    chosen = np.random.default_rng(0).choice(len(every.images), N, replace=False)
    return every.images[chosen]


@pytest.fixture(scope="module", params=["mnist", "shapes3d"])
def pictures(request):
    """Data, and the preset for them."""
    return (digits() if request.param == "mnist" else shapes()), getattr(mf.presets, request.param)


@pytest.mark.parametrize("name", priors.available())
def test_another_prior_is_one_line(name, pictures, tmp_path):
    x, preset = pictures
    K = 1 if name == "standard_normal" else 10
    config = preset(facets=(Facet(K, 3, prior=name), Facet(K, 5, prior=name)), schedule=SCHEDULE)
    fitted = mf.fit(x, config, seed=0, progress=False)
    losses = [record.loss for record in fitted.history]
    assert fitted.history[-1].steps == 200
    assert np.isfinite(losses).all()
    assert losses[1] < losses[0]
    assert losses[-1] < losses[2]  # both with the whole KL, which comes with the end of the warm-up
    assert np.isfinite(fitted.score(x[:100]))
    assert np.isfinite(fitted.sample(4)).all()
    fitted.save(tmp_path / "model")
    np.testing.assert_array_equal(mf.load(tmp_path / "model").predict(x[:100]), fitted.predict(x[:100]))


@pytest.mark.parametrize("seed", range(5))
def test_a_dirichlet_process_finds_the_number_of_clusters(seed):
    """Five of at most fifty; counted are those that are the most probable one for 1 % of the data."""
    data = mf.data.make_facets((5,), n=2000, extra_dims=4, seed=seed)
    prior = priors.FullGaussian(weights="stick_breaking")
    config = mf.presets.tabular(
        facets=(Facet(clusters=50, latent_dim=2, prior=prior),),
        schedule=Schedule.progressive(1, epochs=25, warm_up_epochs=15, batch_size=128, learning_rate=1e-3),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeadClustersWarning)
        fitted = mf.fit(data.x, config, seed=seed, progress=False)
    counts = np.bincount(fitted.predict(data.x)[:, 0], minlength=50)
    assert abs((counts >= 0.01 * len(data.x)).sum() - 5) <= 1
    assert fitted.evaluate(data.x, data.labels, data.label_names).score(0, "facet 0", "ari") > 0.9
