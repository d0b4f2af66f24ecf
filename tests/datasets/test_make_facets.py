"""Generated data: their partitions are independent, as far apart as asked for, and can be recovered."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mfcvae.data import LabelledData, as_labelled, make_facets
from pyro_mfcvae.metrics import nmi

KINDS = ["subspaces", "patches"]


def effects(data):
    """What each label adds to x, as least squares has it: the mean and for each facet (K, D), centred."""
    x = data.x.flatten(1).numpy().astype(np.float64)
    columns = [np.eye(y.max() + 1)[y] for y in data.labels.numpy().T]
    design = np.concatenate([np.ones((len(x), 1)), *columns], axis=1)
    solution = np.linalg.lstsq(design, x, rcond=None)[0]
    parts = np.split(solution[1:], np.cumsum([c.shape[1] for c in columns])[:-1])
    return x, [part - part.mean(0) for part in parts]


def distances(centres):
    return [np.linalg.norm(a - b) for a, b in itertools.combinations(centres, 2)]


def accuracy(data, test, size):
    """Of the nearest centre, within the subspace that each facet's centres span."""
    _, found = effects(data)
    x = test.x.flatten(1).numpy() - data.x.flatten(1).numpy().mean(0)
    scores = []
    for j, centres in enumerate(found):
        axes = np.linalg.svd(centres, full_matrices=False)[2][: min(size, len(centres) - 1)]
        from_each = np.linalg.norm((x @ axes.T)[:, None] - centres @ axes.T, axis=2)
        scores.append((from_each.argmin(1) == test.labels[:, j].numpy()).mean())
    return scores


@settings(max_examples=30)
@given(
    clusters=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    more=st.integers(0, 40),
    dims=st.lists(st.integers(1, 4), min_size=5, max_size=5),
    extra_dims=st.integers(0, 5),
    seed=st.integers(0, 2**32),
)
def test_vectors(clusters, more, dims, extra_dims, seed):
    J, n = len(clusters), max(clusters) + more
    data = make_facets(clusters, n, size=dims[:J], extra_dims=extra_dims, seed=seed)
    assert data.x.shape == (n, sum(dims[:J]) + extra_dims)
    check(data, clusters, n)


@settings(max_examples=30)
@given(
    clusters=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    more=st.integers(0, 40),
    side=st.integers(3, 9),
    seed=st.integers(0, 2**32),
)
def test_images(clusters, more, side, seed):
    J, n = len(clusters), max(clusters) + more
    data = make_facets(clusters, n, kind="patches", size=side, separation=8.0, seed=seed)
    width = side * math.ceil(math.sqrt(J))
    assert data.x.shape == (n, 1, width, width)
    assert data.x.min() >= 0.0
    assert data.x.max() <= 1.0
    check(data, clusters, n)


def check(data, clusters, n):
    assert isinstance(data, LabelledData)
    assert data.x.dtype == torch.float32
    assert data.x.isfinite().all()
    assert data.labels.shape == (n, len(clusters))
    assert data.labels.dtype == torch.int64
    assert data.label_names == tuple(f"facet {j}" for j in range(len(clusters)))
    for y, K in zip(data.labels.T, clusters, strict=True):
        counts = y.bincount(minlength=K)
        assert len(counts) == K
        assert counts.min() >= 1
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind):
    one, same, other = (make_facets((4, 3), 50, kind=kind, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.x, same.x)
    assert torch.equal(one.labels, same.labels)
    assert not torch.equal(one.x, other.x)
    assert not torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("kind", KINDS)
def test_more_data_have_the_same_centres(kind):
    few, many = (effects(make_facets((4, 3), n, kind=kind, seed=5))[1] for n in (400, 700))
    for a, b in zip(few, many, strict=True):
        assert abs(a - b).max() < 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_independent(kind):
    labels = make_facets(
        (8, 5, 3), 20_000, kind=kind, size=6 if kind == "patches" else 1, separation=4.0
    ).labels
    for a, b in itertools.combinations(labels.numpy().T, 2):
        assert nmi(a, b) < 0.003


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("separation", "noise"), [(1000.0, 1e-4), (2000.0, 1e-3)])
def test_centres_are_as_far_apart_as_asked_for(kind, separation, noise):
    data = make_facets((6, 3, 2), 600, kind=kind, separation=separation, noise=noise)
    _, found = effects(data)
    for centres in found:
        assert min(distances(centres)) == pytest.approx(separation * noise, rel=0.02)
    # Facets do not overlap, in spite of the rotation.
    for a, b in itertools.combinations(found, 2):
        cosine = a @ b.T / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
        assert abs(cosine).max() < 0.05


def test_a_subspace_has_the_dimension_asked_for():
    data = make_facets((9, 9), 900, size=(3, 1), extra_dims=2, noise=1e-3, separation=100.0)
    for centres, rank in zip(effects(data)[1], (3, 1), strict=True):
        values = np.linalg.svd(centres)[1]
        assert values[rank - 1] > 50 * values[rank]
    # Every column shows every facet: the whole is turned.
    assert all((abs(centres).max(0) > 0.005).all() for centres in effects(data)[1])


def test_a_patch_shows_its_own_facet():
    data = make_facets((3, 4, 2), 2000, kind="patches", size=8, separation=40.0, noise=0.01)
    cells = [(slice(0, 8), slice(0, 8)), (slice(0, 8), slice(8, 16)), (slice(8, 16), slice(0, 8))]
    empty = data.x[:, 0, 8:, 8:]
    assert empty.std() == pytest.approx(0.01, rel=0.02)
    assert empty.mean() == pytest.approx(0.5, abs=1e-3)
    for centres, cell in zip(effects(data)[1], cells, strict=True):
        image = np.abs(centres).max(0).reshape(16, 16)
        assert image[cell].max() > 0.03
        image[cell] = 0.0
        assert image.max() < 0.005


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("clusters", [(4, 3), (10,), (2, 5, 7), (12, 2, 3, 6)])
def test_the_partitions_can_be_recovered(kind, clusters):
    train, test = make_facets(clusters, 3000, kind=kind, seed=3).split(0.3)
    assert min(accuracy(train, test, 2 if kind == "subspaces" else 256)) > 0.99


def test_errors_are_as_frequent_as_the_separation_says():
    for separation, expected in ((2.0, 0.1587), (4.0, 0.0228)):
        train, test = make_facets((2, 2), 20_000, separation=separation).split(0.5)
        for score in accuracy(train, test, 1):
            assert 1.0 - score == pytest.approx(expected, abs=0.01)


def test_data_can_be_fitted_and_split():
    data = make_facets((3, 2), 100)
    x, y = as_labelled(data)
    assert torch.equal(x, data.x)
    assert torch.equal(y, data.labels)
    train, test = data.split(0.25, seed=1)
    assert (len(train), len(test)) == (75, 25)
    assert train.label_names == test.label_names == data.label_names
    rows = torch.cat([part.x for part in (train, test)])
    assert {tuple(row) for row in rows.tolist()} == {tuple(row) for row in data.x.tolist()}
    assert torch.equal(data.split(0.25, seed=1)[1].labels, test.labels)
    assert not torch.equal(data.split(0.25, seed=2)[1].x, test.x)
    with pytest.raises(
        ValueError, match=r"^test_fraction: got 0.001, which of 100 leaves 100 .* or more data"
    ):
        data.split(0.001)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"clusters": 3}, TypeError, "clusters: got 3, expected integers from 1 to"),
        ({"clusters": ()}, ValueError, "clusters: got (), expected integers from 1 to 1048576, at least one"),
        ({"clusters": (3, 0)}, ValueError, "clusters: got (3, 0), expected integers from 1 to 1048576; give"),
        ({"clusters": (3, 2.0)}, TypeError, "clusters: got (3, 2.0), expected integers from 1 to"),
        ({"n": 3}, ValueError, "n: got 3, expected an integer from 4 to"),
        ({"n": "many"}, TypeError, "n: got 'many', expected an integer from 4 to"),
        ({"kind": "blobs"}, ValueError, "kind: got 'blobs', expected one of ('subspaces', 'patches')"),
        ({"size": 0}, ValueError, "size: got 0, expected an integer from 1 to"),
        ({"size": (2, 2, 2)}, ValueError, "size: got (2, 2, 2), expected 1 number or 2, one for each facet"),
        ({"size": 2.5}, TypeError, "size: got 2.5, expected an integer from 1 to"),
        (
            {"size": 1, "kind": "patches"},
            ValueError,
            "size: got 1, expected an integer from 2 to 256; pass the side",
        ),
        ({"size": (8, 8), "kind": "patches"}, TypeError, "size: got (8, 8), expected an integer from 2"),
        ({"extra_dims": -1}, ValueError, "extra_dims: got -1, expected an integer from 0 to"),
        (
            {"extra_dims": 2, "kind": "patches"},
            ValueError,
            "extra_dims: got 2 with kind='patches', expected 0",
        ),
        ({"noise": 0.0}, ValueError, "noise: got 0.0, expected a positive number; try 0.05"),
        ({"noise": True}, TypeError, "noise: got True, expected a positive number"),
        (
            {"separation": float("nan")},
            ValueError,
            "separation: got nan, expected a positive number; try 10.0",
        ),
        ({"separation": "far"}, TypeError, "separation: got 'far', expected a positive number"),
        (
            {"noise": 1.0, "kind": "patches"},
            ValueError,
            "separation: got 30 after multiplying it by noise, expected at most",
        ),
        ({"seed": -1}, ValueError, "seed: got -1, expected an integer from 0 to"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make_facets(**arguments)
