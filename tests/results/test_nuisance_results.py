"""What a user holds of a model with a latent without clusters."""

import numpy as np
import pytest
import torch

from pyro_mfcvae import FittedMFCVAE, fit, load


@pytest.fixture(scope="module")
def fitted(blobs, make_config):
    return fit(blobs[0], make_config(K=(4, 3), D=(2, 1), nuisance=3, epochs=2), progress=False)


@pytest.fixture(scope="module")
def x(blobs):
    return blobs[0][:20]


@pytest.fixture(scope="module")
def q(fitted, x):
    with torch.no_grad():
        return [q_j.mean for q_j in fitted.model.encode(torch.from_numpy(x))]


def decoded(fitted, z):
    with torch.no_grad():
        return fitted.model.likelihood.mean(fitted.model.decode(z)).numpy()


def test_it_is_not_numbered_among_the_facets(fitted, x):
    assert (fitted.num_facets, fitted.clusters) == (2, (4, 3))
    assert fitted.predict(x).shape == (20, 2)
    assert [r.shape for r in fitted.predict_proba(x)] == [(20, 4), (20, 3)]
    assert [z.shape for z in fitted.transform(x)] == [(20, 2), (20, 1)]
    assert "2 facets: 4 clusters in 2 dimensions, 3 clusters in 1 dimensions; nuisance in 3" in repr(fitted)


def test_its_means(fitted, x, q):
    np.testing.assert_allclose(fitted.nuisance(x), q[2], atol=1e-6)


def test_a_model_without_one(make_model, x):
    fitted = FittedMFCVAE(make_model(), [])
    assert "nuisance" not in repr(fitted)
    with pytest.raises(ValueError, match="nuisance: got a model without one, expected one with a nuisance"):
        fitted.nuisance(x)


def test_reconstructions_have_it(fitted, x, q):
    np.testing.assert_allclose(fitted.reconstruct(x), decoded(fitted, q), atol=1e-6)
    assert not np.allclose(fitted.reconstruct(x), decoded(fitted, [*q[:2], torch.zeros_like(q[2])]))


def test_samples_draw_it_with_their_temperature(fitted):
    cold = fitted.sample(4, {0: 1, 1: 2}, temperature=0)
    z = [
        prior.component(torch.tensor([k])).mean
        for prior, k in zip(fitted.model.facet_priors, (1, 2), strict=True)
    ]
    np.testing.assert_allclose(cold, np.repeat(decoded(fitted, [*z, torch.zeros(1, 3)]), 4, 0), atol=1e-6)
    drawn = []
    handle = fitted.model.decoder.register_forward_hook(lambda _, inputs, __: drawn.append(inputs[0][2]))
    fitted.sample(4_000, temperature=0.5)
    handle.remove()
    torch.testing.assert_close(torch.cat(drawn).std(0), torch.full((3,), 0.5), atol=0.03, rtol=0)


def test_compositions_take_it_from_the_first_or_the_last_input(fitted, x, q):
    inputs, orders = (
        [x, x[::-1], np.roll(x, 3, 0)],
        [np.arange(20), np.arange(20)[::-1], np.roll(np.arange(20), 3)],
    )
    z = [q_j[order.copy()] for q_j, order in zip(q, orders, strict=True)]
    np.testing.assert_allclose(fitted.compose(inputs), decoded(fitted, z), atol=1e-6)
    np.testing.assert_allclose(fitted.compose(inputs[:2]), decoded(fitted, [*z[:2], q[2]]), atol=1e-6)
    with pytest.raises(ValueError, match="x: got 1 inputs, expected one for each of 2 facets, or one more"):
        fitted.compose(inputs[:1])
    with pytest.raises(ValueError, match=r"x: got inputs of lengths \[20, 20, 5\]"):
        fitted.compose([x, x, x[:5]])


def test_scores_count_it(fitted, x):
    """The ELBO is below log p(x), and both know the nuisance."""
    bounds = fitted.bounds(x, num_particles=400)
    assert (bounds.elbo < bounds.log_likelihood + 0.5).all()
    assert bounds.elbo.mean() == pytest.approx(np.mean([fitted.score(x, seed=s) for s in range(50)]), abs=0.2)


def test_saved_and_loaded(fitted, x, tmp_path):
    fitted.save(tmp_path / "model.mfcvae")
    loaded = load(tmp_path / "model.mfcvae")
    assert loaded.config == fitted.config
    assert loaded.history == fitted.history
    assert np.array_equal(loaded.nuisance(x), fitted.nuisance(x))
    assert np.array_equal(loaded.sample(3), fitted.sample(3))


def test_missing_entries_are_filled_in(make_model, x):
    fitted = FittedMFCVAE(make_model(nuisance=2, likelihood="mixed"), [])
    holes = np.where(np.eye(20, 6, dtype=bool), np.nan, x)
    filled = fitted.impute(holes)
    assert np.array_equal(filled[~np.isnan(holes)], x[~np.isnan(holes)])
    assert np.isfinite(filled).all()


def test_it_has_no_mixture_to_draw(fitted, x):
    with pytest.raises(ValueError, match=r"facet: got 2, expected one of 0 .. 1"):
        fitted.sample_mixture(2, x)
