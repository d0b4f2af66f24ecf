"""Components that start from the clusters of a graph of nearest neighbours."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, pairwise_distances_argmin

from pyro_mfcvae import priors
from pyro_mfcvae.priors import neighbours
from pyro_mfcvae.priors.initialization import MIN_VARIANCE, find_components
from pyro_mfcvae.priors.neighbours import neighbour_labels

TYPES = ("full", "tied", "diag", "spherical")


def find(z, K, *, initialization="neighbours", covariance_type="full", concentration=None, seed=0):
    return find_components(
        z,
        K,
        initialization=initialization,
        covariance_type=covariance_type,
        concentration=concentration,
        seed=seed,
    )


def matrices(covariances):
    return covariances if covariances.ndim == 3 else covariances[:, :, None] * np.eye(covariances.shape[1])


def assign(z, start):
    """Clusters of the data by the components that were found."""
    c = torch.distributions.MultivariateNormal(
        torch.from_numpy(start.means), torch.from_numpy(matrices(start.covariances))
    )
    log_weights = torch.from_numpy(np.log(start.weights))
    return (c.log_prob(torch.from_numpy(z).unsqueeze(1)) + log_weights).argmax(1).numpy()


def rings(N, radii=(1.0, 2.0), seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(N) % len(radii)
    angle = rng.uniform(0, 2 * np.pi, N)
    z = np.array(radii)[y, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return z + 0.05 * rng.normal(size=(N, 2)), y


def arcs(N, seed=0):
    """Two half circles that reach into each other."""
    rng = np.random.default_rng(seed)
    y = np.arange(N) % 2
    angle = rng.uniform(0, np.pi, N)
    z = np.stack([np.cos(angle) + y, np.where(y, 0.4 - np.sin(angle), np.sin(angle))], 1)
    return z + 0.05 * rng.normal(size=(N, 2)), y


def blobs(N, weights, seed=0):
    rng = np.random.default_rng(seed)
    K = len(weights)
    y = rng.choice(K, N, p=weights)
    angle = 2 * np.pi * np.arange(K) / K
    centres = 2 * K * np.stack([np.cos(angle), np.sin(angle)], 1)
    return centres[y] + rng.normal(size=(N, 2)), y, centres


@pytest.mark.parametrize("make", [rings, arcs])
def test_bent_clusters_are_told_apart(make):
    z, y = make(400)
    assert adjusted_rand_score(y, neighbour_labels(z, 2, 0)) == 1
    scores = [
        adjusted_rand_score(y, assign(z, find(z, 2, initialization=name)))
        for name in ("neighbours", "mixture")
    ]
    assert scores[0] > scores[1] + 0.05


def test_components_have_the_moments_of_the_clusters():
    """Of rings about the same centre, which differ in their covariances only."""
    N, K, D = 400, 2, 2
    z, y = rings(N)
    own = [z[y == k] - z[y == k].mean(0) for k in range(K)]
    pooled = sum(r.T @ r for r in own) / (N - K) + MIN_VARIANCE * np.eye(D)
    full = [(r.T @ r + (D + 1) * pooled) / (len(r) + D + 1) for r in own]
    expected = {
        "full": full,
        "tied": [pooled] * K,
        "diag": [np.diag(c) for c in full],
        "spherical": [np.full(D, np.trace(c) / D) for c in full],
    }
    first = int(neighbour_labels(z, K, 0)[y == 0][0])
    for covariance_type in TYPES:
        found = find(z, K, covariance_type=covariance_type)
        order = [first, 1 - first]
        np.testing.assert_allclose(found.means[order], [z[y == k].mean(0) for k in range(K)], atol=1e-12)
        added = MIN_VARIANCE * np.eye(D) if covariance_type in ("full", "tied") else MIN_VARIANCE
        np.testing.assert_allclose(found.covariances[order], np.array(expected[covariance_type]) + added)
        np.testing.assert_allclose(found.weights, [0.5, 0.5])


@pytest.mark.parametrize("weights", [[0.2] * 5, [0.9, 0.05, 0.05], [0.5, 0.2, 0.1, 0.1, 0.06, 0.04]], ids=str)
def test_blobs_of_any_sizes_are_found_as_by_a_mixture(weights):
    z, y, centres = blobs(800, weights)
    found = find(z, len(weights))
    assert adjusted_rand_score(y, assign(z, found)) > 0.99
    order = pairwise_distances_argmin(centres, found.means)
    np.testing.assert_allclose(found.means[order], centres, atol=0.5)
    np.testing.assert_allclose(found.weights[order], weights, atol=0.03)


def test_the_best_of_several_starts_is_kept(monkeypatch):
    """By how much one end of an edge tells of the other; a start alone may join clusters and cut others."""
    z = np.random.default_rng(0).normal(size=(300, 2))
    information = []
    join = neighbours._join

    def spy(*args):
        information.append(join(*args))
        return information[-1]

    monkeypatch.setattr(neighbours, "_join", spy)
    labels = neighbour_labels(z, 6, 0)
    values = [value for value, _ in information]
    assert len(values) == 2 * neighbours.STARTS - 1
    assert len(set(values)) > 1
    np.testing.assert_array_equal(labels, information[int(np.argmax(values))][1])


def test_merging_against_brute_force():
    """Always the pair with the most edges for its sizes, and the smallest of those without any."""
    rng = np.random.default_rng(0)
    for M, K in ((7, 2), (9, 3), (12, 1)):
        half = np.triu(rng.uniform(size=(M, M)) * (rng.uniform(size=(M, M)) < 0.4))
        weights = half + half.T + np.diag(rng.uniform(1, 2, M))
        groups = [{i} for i in range(M)]

        def closeness(a, b, weights=weights):
            a, b = sorted(a), sorted(b)
            between = weights[np.ix_(a, b)].sum() + neighbours.NO_EDGE * len(a) * len(b)
            return between / (weights[a].sum() * weights[b].sum())

        while len(groups) > K:
            pairs = [(a, b) for i, a in enumerate(groups) for b in groups[:i]]
            a, b = max(pairs, key=lambda pair: closeness(*pair))
            groups = [g for g in groups if g not in (a, b)] + [a | b]
        labels = neighbours._merge(weights, K)
        found = {frozenset(np.flatnonzero(labels == k).tolist()) for k in range(K)}
        assert found == {frozenset(group) for group in groups}


@settings(max_examples=25)
@given(data=st.data())
def test_it_is_a_mixture(data):
    """Of any data: hardly more than clusters, of one dimension, duplicates, all the same, in far clumps."""
    K = data.draw(st.integers(1, 6))
    N, D = data.draw(st.integers(K, 90)), data.draw(st.integers(1, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    scale, distinct = data.draw(st.sampled_from([0.0, 1e-3, 1.0, 1e3])), data.draw(st.integers(1, N))
    z = (scale * rng.normal(size=(distinct, D)))[rng.integers(0, distinct, N)].astype(np.float32)
    covariance_type, concentration = (
        data.draw(st.sampled_from(TYPES)),
        data.draw(st.sampled_from([None, 1.0])),
    )
    found, again = (
        find(z, K, covariance_type=covariance_type, concentration=concentration) for _ in range(2)
    )
    for name in ("weights", "means", "covariances"):
        np.testing.assert_array_equal(getattr(found, name), getattr(again, name))
    assert found.means.shape == (K, D)
    assert found.covariances.shape == ((K, D, D) if covariance_type in ("full", "tied") else (K, D))
    assert found.weights.sum() == pytest.approx(1)
    assert (found.weights > 0).all()
    assert np.isfinite(found.means).all()
    assert np.linalg.eigvalsh(matrices(found.covariances)).min() > MIN_VARIANCE / 100
    if concentration is not None:
        assert (np.diff(found.weights) <= 0).all()


def test_many_equal_data_have_a_variance():
    z = np.repeat([[0.0, 0.0], [1.0, 1.0]], 500, 0)
    found = find(z, 2)
    assert np.linalg.eigvalsh(found.covariances).min() >= MIN_VARIANCE


def test_more_separate_clusters_than_components():
    """The graph falls into twelve parts, and five components share them."""
    z, y, _ = blobs(480, [1 / 12] * 12)
    labels = neighbour_labels(z, 5, 0)
    assert sorted(set(labels)) == list(range(5))
    assert all(len(np.unique(labels[y == k])) == 1 for k in range(12))


def test_it_is_found_in_a_sample_of_many_data(monkeypatch):
    sizes = []
    graph = neighbours.neighbour_graph

    def spy(z):
        sizes.append(len(z))
        return graph(z)

    monkeypatch.setattr(neighbours, "neighbour_graph", spy)
    monkeypatch.setattr("pyro_mfcvae.priors.initialization.NEIGHBOURS_SIZE", 400)
    z, y, _ = blobs(20_000, [0.3, 0.3, 0.4])
    found = find(z, 3)
    assert sizes == [400]
    assert adjusted_rand_score(y, assign(z, found)) > 0.99


@pytest.mark.parametrize("name", [name for name in priors.available() if name != "standard_normal"])
def test_every_family_takes_it(name):
    x, _, centres = blobs(300, [0.3, 0.3, 0.4])
    z = x.astype(np.float32)
    prior = priors.FACTORIES[name](initialization="neighbours")(3, 2)
    prior.bind_encoder(lambda x: dist.Normal(x, 0.1).to_event(1), (2,))
    prior.initialize_from_data(torch.from_numpy(z), z, seed=0)
    torch.manual_seed(0)
    found = prior.component(torch.arange(3)).sample((200,)).mean(0).numpy()
    order = pairwise_distances_argmin(centres, found)
    np.testing.assert_allclose(found[order], centres, atol=0.7)


@pytest.mark.parametrize("name", ["bayesian_gaussian", "vamp", "full_gaussian"])
def test_an_unknown_start_is_refused(name):
    with pytest.raises(ValueError, match=r"initialization: got 'umap', expected one of .*'neighbours'"):
        priors.FACTORIES[name](initialization="umap")
