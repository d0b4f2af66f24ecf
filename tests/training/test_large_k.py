"""Thousands of clusters: where they start, and that nothing grows with N x K but what is asked for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import cluster, mixture
from sklearn.metrics import pairwise_distances_argmin

from pyro_mfcvae import Facet, Schedule, fit, presets
from pyro_mfcvae.priors import BayesianGaussian, DiagonalGaussian, FullGaussian, StickBreaking
from pyro_mfcvae.priors import initialization as start
from pyro_mfcvae.priors.estimators import KMEANS_ITERATIONS
from pyro_mfcvae.results.predictor import Predictor
from pyro_mfcvae.training import DeadClustersWarning, Trainer
from pyro_mfcvae.training.grouping import MAX_CLUSTERS, MIXTURE_SIZE
from pyro_mfcvae.training.loop import EMBEDDING_SIZE
from pyro_mfcvae.training.monitor import Monitor
from pyro_mfcvae.training.subspaces import independent_subspaces

TYPES = ("full", "tied", "diag", "spherical")


@pytest.fixture
def always_k_means(monkeypatch):
    monkeypatch.setattr(start, "EM_SIZE", 0)


def find(z, K, covariance_type="full", concentration=None):
    return start.find_components(
        z,
        K,
        initialization="mixture",
        covariance_type=covariance_type,
        concentration=concentration,
        seed=0,
    )


def matrices(covariances):
    return covariances if covariances.ndim == 3 else covariances[:, :, None] * np.eye(covariances.shape[1])


@pytest.mark.parametrize("concentration", [None, 1.0])
@pytest.mark.parametrize("covariance_type", TYPES)
@given(data=st.data())
def test_it_is_a_mixture(covariance_type, concentration, data):
    """Of any data: few, in clumps that leave clusters empty, of any scale, all the same."""
    K = data.draw(st.integers(1, 12))
    N, D = data.draw(st.integers(K, 60)), data.draw(st.integers(1, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    scale, distinct = data.draw(st.sampled_from([0.0, 1e-3, 1.0, 1e3])), data.draw(st.integers(1, N))
    z = (scale * rng.normal(size=(distinct, D)))[rng.integers(0, distinct, N)].astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "EM_SIZE", 0)
        found = find(z, K, covariance_type, concentration)
    assert found.weights.shape == (K,)
    assert found.means.shape == (K, D)
    assert found.covariances.shape == ((K, D, D) if covariance_type in ("full", "tied") else (K, D))
    assert found.weights.sum() == pytest.approx(1)
    assert (found.weights > 0).all()
    assert np.isfinite(found.means).all()
    assert np.linalg.eigvalsh(matrices(found.covariances)).min() > start.MIN_VARIANCE / 100
    if concentration is not None:
        assert (np.diff(found.weights) <= 0).all()


@pytest.mark.usefixtures("always_k_means")
@pytest.mark.parametrize("covariance_type", TYPES)
def test_covariances_are_drawn_to_those_within_clusters(covariance_type):
    rng = np.random.default_rng(0)
    N, K, D = 200, 7, 3
    z = rng.normal(size=(N, D)) @ rng.normal(size=(D, D))
    found = find(z, K, covariance_type)
    labels = pairwise_distances_argmin(z, found.means)
    scatters, counts = [], np.bincount(labels, minlength=K)
    for k in range(K):
        r = z[labels == k] - found.means[k]
        scatters.append(sum(np.outer(a, a) for a in r))
    pooled = sum(scatters) / (N - K) + start.MIN_VARIANCE * np.eye(D)
    own = [(S + (D + 1) * pooled) / (n + D + 1) for S, n in zip(scatters, counts, strict=True)]
    expected = {
        "full": own,
        "tied": [pooled] * K,
        "diag": [np.diag(c) for c in own],
        "spherical": [np.full(D, np.trace(c) / D) for c in own],
    }
    np.testing.assert_allclose(found.covariances, expected[covariance_type], rtol=1e-6)
    np.testing.assert_allclose(found.weights, (counts + 1) / (N + K))


@pytest.mark.usefixtures("always_k_means")
def test_clusters_that_are_apart_are_found():
    rng = np.random.default_rng(0)
    covariance = np.array([[0.02, 0.01], [0.01, 0.03]])
    grid = np.stack(np.meshgrid(np.arange(5.0), np.arange(4.0)), -1).reshape(-1, 2)
    z = np.repeat(2 * grid, 400, 0) + rng.multivariate_normal(np.zeros(2), covariance, 8000)
    found = find(z, 20)
    order = pairwise_distances_argmin(2 * grid, found.means)
    np.testing.assert_allclose(found.means[order], 2 * grid, atol=0.05)
    np.testing.assert_allclose(found.covariances, np.tile(covariance, (20, 1, 1)), atol=0.01)
    np.testing.assert_allclose(found.weights, 0.05, atol=0.001)


def test_few_clusters_start_as_ever():
    """Bit for bit what expectation maximisation gives, up to the documented size."""
    z = np.random.default_rng(0).normal(size=(300, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "EM_SIZE", 300 * 5)
        few, fitted = find(z, 5), start.fit_mixture(z, 5, "full", 0)
        assert not np.array_equal(find(z, 6).means, start.fit_mixture(z, 6, "full", 0).means_)
    for name in ("weights", "means", "covariances"):
        np.testing.assert_array_equal(getattr(few, name), getattr(fitted, f"{name}_"))


@pytest.mark.parametrize(
    "factory", [FullGaussian(weights=StickBreaking()), BayesianGaussian(covariance="full")], ids=str
)
def test_the_cost_is_bounded(factory, monkeypatch):
    """Where it counts, no mixture is fitted, and there are few passes over N x K."""
    passes = []

    class Counted(cluster.KMeans):
        def fit(self, z):
            super().fit(z)
            passes.append((self.n_init, self.n_iter_))
            return self

    def too_long(self, z):
        raise AssertionError("expectation maximisation of thousands of clusters")

    monkeypatch.setattr(cluster, "KMeans", Counted)
    for kind in (mixture.GaussianMixture, mixture.BayesianGaussianMixture):
        monkeypatch.setattr(kind, "fit", too_long)
    N, K, D = 6000, 2000, 2
    assert N * K > start.EM_SIZE
    z = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
    prior = factory(K, D)
    prior.initialize(z, seed=0)
    ((starts, iterations),) = passes
    assert starts == 1
    assert iterations <= KMEANS_ITERATIONS
    assert all(p.isfinite().all() for p in prior.parameters())


def test_there_are_a_few_data_for_each_of_many_clusters(make_model):
    sizes = [start.embedding_size(K, EMBEDDING_SIZE) for K in (1, 25, 4_000, 10_000)]
    assert sizes == [20_000, 20_000, 20_000, 50_000]
    for K, size in ((3, 20_000), (5_000, 25_000)):
        model = make_model(J=2, K=(2, K), x_shape=(2,))
        assert len(Trainer(model, torch.rand(26_000, 2), seed=0).sample) == size


def test_subspaces_of_many_clusters(monkeypatch):
    """As for the most clusters that so few data can tell apart."""
    sizes = set()

    def fit_small(z, clusters, *_args, **_options):
        sizes.add(clusters)
        assert len(z) <= MIXTURE_SIZE
        return mixture.GaussianMixture(1).fit(z)

    monkeypatch.setattr(start, "fit_mixture", fit_small)
    x = np.random.default_rng(0).normal(size=(3000, 4))
    subspaces = independent_subspaces(x, (3000, 2500))
    assert sizes == {1, MAX_CLUSTERS}
    assert all(len(u) == 4 and u.shape[1] for u in subspaces)


@pytest.mark.parametrize(("N", "alive", "warns"), [(60, 40, False), (60, 14, True), (30, 14, False)])
def test_dead_clusters_are_told_from_data_that_are_too_few(make_model, monkeypatch, recwarn, N, alive, warns):
    """60 data of 60 equally likely clusters show 38 of them, 30 data 24."""
    K = 60
    model = make_model(J=1, K=K, x_shape=(2,))
    monitor = Monitor(model, torch.rand(N, 2), None)
    clusters = torch.nn.functional.one_hot(torch.arange(N) % alive, K).float()
    monkeypatch.setattr(type(model), "responsibilities", lambda self, q: [clusters])
    monitor.warn_of_dead_clusters()
    assert [w.category for w in recwarn] == [DeadClustersWarning] * warns


def test_predictions_do_not_keep_responsibilities(make_model, monkeypatch):
    predictor, x = (
        Predictor(make_model(K=(40, 30), x_shape=(5,))),
        np.random.default_rng(0).normal(size=(1100, 5)),
    )
    expected = np.stack([r.argmax(1) for r in predictor.predict_proba(x)], 1)
    shapes, blocks = [], Predictor._blocks

    def spy(self, x, function):
        results = blocks(self, x, function)
        shapes.extend(result.shape for result in results)
        return results

    monkeypatch.setattr(Predictor, "_blocks", spy)
    np.testing.assert_array_equal(predictor.predict(x), expected)
    assert shapes == [(1100, 2)]


def grid_of_facets(K, N, seed=0):
    """Data (N, 32) with two independent partitions into K clusters each, in subspaces of three dimensions."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, K, (N, 2))
    side = round(K ** (1 / 3) + 0.5)
    centres = np.stack(np.unravel_index(np.arange(K), (side,) * 3), -1) / side
    axes = np.linalg.qr(rng.normal(size=(32, 6)))[0].T
    x = np.concatenate([centres[y[:, 0]], centres[y[:, 1]]], 1) @ axes
    return (x + 0.005 * rng.normal(size=(N, 32))).astype(np.float32), y


@pytest.mark.parametrize("prior", [DiagonalGaussian(), FullGaussian()], ids=str)
def test_two_thousand_clusters(make_config, prior):
    K, N = 2_000, 5_100
    x, _ = grid_of_facets(K, N)
    schedule = Schedule.joint(2, epochs=2, warm_up_epochs=1, batch_size=1700)
    config = make_config(K=(3, K), D=2, prior=prior, likelihood="gaussian", schedule=schedule)
    fitted = fit(x, config, progress=False)
    assert all(p.isfinite().all() for p in fitted.model.parameters())
    assert 0 <= fitted.predict(x)[:, 1].min() <= fitted.predict(x)[:, 1].max() < K
    assert np.isfinite(fitted.score(x[:100]))


@pytest.mark.slow
@pytest.mark.parametrize("N", [20_000, 100_000])
def test_ten_thousand_clusters(N):
    K = 10_000
    x, _ = grid_of_facets(K, N)
    config = presets.tabular(
        facets=(Facet(K, 3, FullGaussian()), Facet(K, 3)),
        schedule=Schedule.joint(2, epochs=None, steps=60, warm_up_steps=30, batch_size=100),
    )
    fitted = fit(x, config, progress=False)
    found = fitted.predict(x)
    assert found.shape == (N, 2)
    assert all(len(np.unique(c)) > K / 4 for c in found.T)
