"""Clusters that are apart are counted."""

import numpy as np
import pytest

from pyro_mfcvae.priors.joining import count_clusters


def standardized(z):
    return (z - z.mean(0)) / z.std(0)


@pytest.mark.parametrize("K", [1, 2, 5])
def test_blobs(K):
    rng = np.random.default_rng(K)
    centres = 10.0 * np.stack([np.cos(2 * np.pi * np.arange(K) / K), np.sin(2 * np.pi * np.arange(K) / K)], 1)
    z = standardized(centres[rng.integers(K, size=600)] + rng.normal(size=(600, 2)))
    assert count_clusters(z, 5, 0) == K


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
