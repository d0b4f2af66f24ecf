"""Coordinates that depend on each other are put together, and no others."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from pyro_mfcvae.training.grouping import assign_groups, dependence_matrix, merge_groups

CORNERS = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])


def alignment(a, b):
    """The formula, entry by entry: the mean of products of U-centred kernels."""
    N = len(a)
    centred = []
    for x in (a, b):
        distances = np.array([[np.linalg.norm(m - n) for n in x] for m in x])
        median = np.median([distances[m, n] for m in range(N) for n in range(m)])
        K = np.exp(-distances / median)
        C = np.zeros((N, N))
        for m in range(N):
            for n in range(N):
                if m != n:
                    row = sum(K[m, i] for i in range(N) if i != m) / (N - 2)
                    column = sum(K[i, n] for i in range(N) if i != n) / (N - 2)
                    every = sum(K[i, j] for i in range(N) for j in range(N) if i != j) / ((N - 1) * (N - 2))
                    C[m, n] = K[m, n] - row - column + every
        centred.append(C)
    A, B = centred
    return max(0.0, (A * B).sum() / np.sqrt((A**2).sum() * (B**2).sum()))


def dependence(a, b):
    s = np.concatenate([a, b], 1)
    D = a.shape[1]
    return dependence_matrix(s, (tuple(range(D)), tuple(range(D, s.shape[1]))))[0, 1]


def standardized(s):
    return (s - s.mean(0)) / s.std(0)


@pytest.mark.parametrize("dims", [(1, 1), (1, 2), (3, 2)])
def test_it_is_the_alignment_of_centred_kernels(dims):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(16, dims[0]))
    b = rng.normal(size=(16, dims[1])) + a[:, :1]
    assert dependence(a, b) == pytest.approx(alignment(a, b), abs=1e-5)
    assert dependence(a, b) > 0.05


@pytest.mark.parametrize("dims", [(1, 1), (1, 8), (12, 12)])
def test_independent_groups_of_any_size_have_none_on_average(dims):
    """Without the unbiased centring large groups would seem to depend on each other."""
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        found.append(dependence(rng.normal(size=(100, dims[0])), rng.normal(size=(100, dims[1]))))
    # What is below zero is cut off, so about half of them are zero.
    assert np.mean(found) < 0.02
    assert 2 < sum(value == 0 for value in found) < 18


@settings(max_examples=15)
@given(
    st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-100, 100), st.integers(2, 4), st.integers(4, 60)
)
def test_it_does_not_change_with_shifts_scales_and_rotations_within_a_group(seed, scale, shift, dim, N):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(N, dim))
    b = np.sin(2 * a[:, :2]) + 0.3 * rng.normal(size=(N, 2))
    turned = scale * a @ ortho_group.rvs(dim, random_state=seed) + shift
    assert dependence(turned, b) == pytest.approx(dependence(a, b), abs=1e-4)
    assert dependence(b, a) == pytest.approx(dependence(a, b), abs=1e-6)
    assert 0 <= dependence(a, b) <= 1
    assert dependence(a, turned) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("N", [1, 2, 3, 4])
def test_few_data_tell_no_dependence(N):
    s = np.random.default_rng(0).normal(size=(N, 3))
    found = dependence_matrix(s, ((0,), (1, 2)))
    assert np.isfinite(found).all()
    assert len(merge_groups(s)[-1].groups) == 1
    if N < 4:
        assert found[0, 1] == 0


def test_constant_coordinates_depend_on_nothing():
    s = np.random.default_rng(0).normal(size=(50, 2)) * [1.0, 0.0]
    np.testing.assert_array_equal(dependence_matrix(s, ((0,), (1,))), np.eye(2))


def test_a_ring_is_one_group():
    """Its cosine, sine and harmonic do not correlate, but depend on each other."""
    rng = np.random.default_rng(0)
    turn = rng.uniform(0, 2 * np.pi, 800)
    ring = np.stack([np.cos(turn), np.sin(turn), np.cos(2 * turn)], 1)
    s = standardized(np.concatenate([rng.normal(size=(800, 2)), ring], 1))
    assert np.abs(np.corrcoef(s.T) - np.eye(5)).max() < 0.15
    merges = merge_groups(s)
    assert any((2, 3, 4) in merge.groups for merge in merges)
    together = next(merge for merge in merges if (2, 3, 4) in merge.groups)
    assert together.groups[:2] == ((0,), (1,))
    assert all(merge.dependence < 0.02 for merge in merges[merges.index(together) + 1 :])


def test_a_tetrahedron_is_one_group():
    """Of its coordinates every two are independent, so only three at once can tell."""
    rng = np.random.default_rng(1)
    corners = np.concatenate([CORNERS[rng.integers(4, size=800)] for _ in range(2)], 1)
    s = standardized(corners + 0.1 * rng.normal(size=corners.shape))
    singles, *merges = merge_groups(s)
    assert singles.groups == tuple((i,) for i in range(6))
    assert singles.dependence == 1
    assert sorted(merges[1].groups) == [(0, 1, 2), (3, 4, 5)]
    assert min(merges[0].dependence, merges[1].dependence) > 0.3
    assert merges[2].dependence < 0.02


def test_every_merge_is_coarser():
    s = np.random.default_rng(0).normal(size=(60, 5))
    merges = merge_groups(s)
    for finer, coarser in itertools.pairwise(merges):
        assert len(coarser.groups) < len(finer.groups)
        assert sorted(i for group in coarser.groups for i in group) == list(range(5))
        assert all(any(set(g) <= set(G) for G in coarser.groups) for g in finer.groups)
    assert merges[-1].groups == ((0, 1, 2, 3, 4),)


def test_a_facet_gets_the_group_with_its_clusters():
    rng = np.random.default_rng(0)
    three = np.array([-1.2, 0, 1.2])[rng.integers(3, size=600)]
    two = np.array([-1.0, 1.0])[rng.integers(2, size=600)]
    s = np.stack([rng.normal(size=600), two, three], 1) + 0.05 * rng.normal(size=(600, 3))
    groups = ((0,), (1,), (2,))
    gains = {}
    chosen, gain = assign_groups(standardized(s), groups, (3, 2), 0, gains)
    assert chosen == ((2,), (1,))
    assert gain == pytest.approx(gains[3, (2,)] + gains[2, (1,)])
    assert set(gains) == {(K, group) for K in (2, 3) for group in groups}
    assert gains[2, (0,)] < 0.1 < gains[2, (1,)]
