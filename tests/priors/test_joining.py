"""Clusters that are apart are counted, whatever their shape."""

import numpy as np
import pytest

from pyro_mfcvae.priors.joining import count_clusters, separate_clusters


def standardized(z):
    return (z - z.mean(0)) / z.std(0)


@pytest.mark.parametrize("K", [1, 2, 5])
def test_blobs(K):
    rng = np.random.default_rng(K)
    centres = 10.0 * np.stack([np.cos(2 * np.pi * np.arange(K) / K), np.sin(2 * np.pi * np.arange(K) / K)], 1)
    z = standardized(centres[rng.integers(K, size=600)] + rng.normal(size=(600, 2)))
    assert count_clusters(z, 5, 0) == K


@pytest.mark.parametrize("noise", [0.05, 0.1])
def test_a_ring_is_one_cluster(noise):
    rng = np.random.default_rng(0)
    turn = rng.uniform(0, 2 * np.pi, 1_000)
    ring = np.stack([np.cos(turn), np.sin(turn)], 1) + noise * rng.normal(size=(1_000, 2))
    assert count_clusters(standardized(ring), 20, 0) == 1


def test_bent_clusters_count_once():
    """Two half rings, each of which takes several Gaussians."""
    rng = np.random.default_rng(0)
    y, turn = rng.integers(2, size=1_500), rng.uniform(0, np.pi, 1_500)
    z = np.stack([np.cos(turn) + 1.0 * y, (1 - 2 * y) * np.sin(turn) + 0.5 * y], 1)
    assert count_clusters(standardized(z + 0.03 * rng.normal(size=z.shape)), 12, 0) == 2


def test_never_more_than_asked_for():
    z = standardized(
        np.repeat(np.arange(6.0), 50)[:, None] + 0.01 * np.random.default_rng(0).normal(size=(300, 1))
    )
    assert [count_clusters(z, most, 0) for most in (1, 6, 30)] == [1, 6, 6]


@pytest.mark.parametrize("N", [2, 9, 19])
def test_few_data_are_one_cluster(N):
    assert count_clusters(np.arange(N, dtype=float)[:, None], 5, 0) == 1


def test_constant_data_are_one_cluster():
    assert count_clusters(np.zeros((100, 2)), 4, 0) == 1


@pytest.mark.parametrize("D", [1, 3])
@pytest.mark.parametrize("draw", ["normal", "standard_t", "gamma"])
def test_few_data_without_clusters_are_one(draw, D):
    rng = np.random.default_rng(0)
    arguments = {"normal": (), "standard_t": (5,), "gamma": (4,)}[draw]
    for seed in range(3):
        z = getattr(rng, draw)(*arguments, size=(200, D))
        assert count_clusters(standardized(z), 3, seed) == 1


def test_outliers_have_no_number():
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(size=(400, 2)) + [[4], [-4]][i] for i in range(2)] + [[[40.0, 40.0]]])
    labels = separate_clusters(standardized(z), 20, 0)
    assert labels[-1] == -1
    first, second = (set(part) for part in (labels[:400], labels[400:-1]))
    assert {frozenset(first), frozenset(second)} == {frozenset([0]), frozenset([1])}
