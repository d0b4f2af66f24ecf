"""Generated data: their partitions are independent, as far apart as asked for, and can be recovered."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import f_oneway, kstest

from pyro_mfcvae.data import LabelledData, as_labelled, make_facets
from pyro_mfcvae.metrics import nmi
from pyro_mfcvae.metrics.evaluation import evaluate

KINDS = ["subspaces", "patches"]
CLEAN = {"separation": 1e5, "noise": 1e-5}  # a distance of one, and next to no noise
RECORDED = {  # before anything could be added: labels and values of the first data, sum of squares
    "subspaces": (
        [[1, 1, 2], [2, 1, 2], [0, 0, 0], [3, 1, 2], [3, 1, 2]],
        [0.060657, -0.2635279, 0.4111532, -0.2579129],
        15.6758,
    ),
    "patches": (
        [[2, 0, 0], [4, 1, 1], [4, 1, 2], [3, 0, 1], [2, 0, 1]],
        [0.5387931, 0.4268332, 0.5306768, 0.5437081],
        15483.02004,
    ),
}


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
    nuisance=st.integers(0, 3),
    correlation=st.floats(0, 0.99),
    tails=st.none() | st.floats(2.1, 50),
    heteroscedastic=st.floats(1, 20),
    bend=st.floats(0, 0.99),
    seed=st.integers(0, 2**32),
)
def test_vectors(clusters, more, dims, extra_dims, nuisance, bend, seed, **of_noise):
    J, n = len(clusters), max(clusters) + more
    more_dims = {"extra_dims": extra_dims, "nuisance": nuisance}
    data = make_facets(clusters, n, size=dims[:J], bend=bend, seed=seed, **more_dims, **of_noise)
    assert data.x.shape == (n, sum(dims[:J]) + 2 * nuisance + extra_dims)
    check(data, clusters, n, nuisance)


@settings(max_examples=30)
@given(
    clusters=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    more=st.integers(0, 40),
    side=st.integers(3, 9),
    nuisance=st.integers(0, 3),
    correlation=st.floats(0, 0.99),
    tails=st.none() | st.floats(2.1, 50),
    heteroscedastic=st.floats(1, 20),
    seed=st.integers(0, 2**32),
)
def test_images(clusters, more, side, nuisance, seed, **of_noise):
    J, n = len(clusters), max(clusters) + more
    options = {"kind": "patches", "size": side, "nuisance": nuisance, "seed": seed}
    data = make_facets(clusters, n, separation=8.0, **options, **of_noise)
    width = side * math.ceil(math.sqrt(J + nuisance))
    assert data.x.shape == (n, 1, width, width)
    assert data.x.min() >= 0.0
    assert data.x.max() <= 1.0
    check(data, clusters, n, nuisance)


def check(data, clusters, n, nuisance):
    assert isinstance(data, LabelledData)
    assert data.x.dtype == torch.float32
    assert data.x.isfinite().all()
    assert data.labels.shape == (n, len(clusters))
    assert data.labels.dtype == torch.int64
    assert data.nuisance.shape == (n, nuisance)
    assert data.nuisance.dtype == torch.float32
    assert ((data.nuisance >= 0) & (data.nuisance <= 1)).all()
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


@pytest.mark.parametrize("kind", KINDS)
def test_data_with_nothing_added_stay_the_same(kind):
    data = make_facets((5, 2, 3), 60, kind=kind, separation=8.0, seed=7)
    labels, values, squares = RECORDED[kind]
    assert data.labels[:5].tolist() == labels
    assert data.x[0].flatten()[:4].tolist() == pytest.approx(values, abs=1e-5)
    assert data.x.double().square().sum().item() == pytest.approx(squares, rel=1e-6)


def parts(data):
    """The ring of each nuisance factor (L, 2, D), the facets' centres, and what is left of x."""
    x = data.x.flatten(1).numpy().astype(np.float64)
    turns = 2 * np.pi * data.nuisance.numpy().astype(np.float64)
    waves = np.stack([np.cos(turns), np.sin(turns)], axis=2).reshape(len(x), -1)
    columns = [np.eye(y.max() + 1)[y] for y in data.labels.numpy().T]
    design = np.concatenate([waves, *columns], axis=1)
    solution = np.linalg.lstsq(design, x, rcond=None)[0]
    ends = np.cumsum([waves.shape[1], *(c.shape[1] for c in columns)])
    rings, *centres = np.split(solution, ends[:-1])
    return rings.reshape(-1, 2, x.shape[1]), [m - m.mean(0) for m in centres], x - design @ solution


@pytest.mark.parametrize("kind", KINDS)
def test_nuisance_factors_move_the_data_round_rings(kind):
    data = make_facets((4, 3), 500, kind=kind, nuisance=2, seed=2, **CLEAN)
    rings, centres, left = parts(data)
    assert abs(left).max() < 1e-4
    spread = np.mean([(m**2).sum(1).mean() for m in centres])
    for i, ring in enumerate(rings):
        assert (ring**2).sum() / 2 == pytest.approx(spread, rel=1e-3)
        for other in (*rings[:i], *centres):
            assert abs(ring @ other.T).max() < 1e-4
        if kind == "subspaces":  # a circle: the two have one length, and a right angle
            assert ring @ ring.T == pytest.approx(spread * np.eye(2), abs=1e-4)


def test_a_wave_is_in_a_patch_of_its_own_and_varies_continuously():
    data = make_facets((1, 1), 400, kind="patches", size=8, nuisance=1, separation=2e5, noise=1e-5)
    patches = data.x.reshape(400, 2, 8, 2, 8).transpose(2, 3)
    assert (patches[:, [0, 0, 1], [0, 1, 1]] - 0.5).abs().max() < 1e-4
    order = data.nuisance[:, 0].argsort()
    wave, u = patches[order, 1, 0], data.nuisance[order, 0]
    assert wave.std(0).min() > 0.2 / 2**0.5  # every pixel moves
    contrast = (wave - 0.5).abs().max()
    assert contrast == pytest.approx(2.0 * 2**0.5 / 8, rel=0.01)  # a norm of two, from 64 pixels
    steps = (wave.diff(dim=0)).abs().amax((1, 2))
    assert (steps <= 2 * math.pi * contrast * u.diff() + 1e-3).all()


def test_waves_stay_in_range():
    x = make_facets((1,), 500, kind="patches", size=8, nuisance=1, separation=1e6, noise=1e-5).x
    assert x.min() == pytest.approx(0.0, abs=1e-3)
    assert x.max() == pytest.approx(1.0, abs=1e-3)
    assert ((x < 1e-3) | (x > 1 - 1e-3)).float().mean() < 0.05  # nothing is cut off


def test_nuisance_factors_are_uniform_and_independent():
    data = make_facets((4, 3), 20_000, nuisance=2)
    u = data.nuisance.numpy().astype(np.float64)
    for column in u.T:
        assert kstest(column, "uniform").pvalue > 1e-3
        for y in data.labels.numpy().T:
            assert f_oneway(*(column[y == k] for k in range(y.max() + 1))).pvalue > 1e-3
    assert abs(np.corrcoef(u.T)[0, 1]) < 0.03


def noise_of(n=50_000, D=6, noise=0.5, **options):
    """Data that are noise only."""
    return make_facets((1,), n, size=D, noise=noise, **options).x.numpy().astype(np.float64)


def test_correlated_noise_has_two_common_factors():
    covariance = np.cov(noise_of(correlation=0.6).T)
    assert np.diag(covariance) == pytest.approx(np.full(6, 0.25), rel=0.03)
    values = np.linalg.eigvalsh(covariance) / 0.25
    assert values[:4] == pytest.approx(np.full(4, 0.4), rel=0.05)  # what columns have for themselves
    assert values[4] > 0.5


def test_noise_levels_differ_by_column():
    data = [noise_of(heteroscedastic=8.0, correlation=share, D=40) for share in (0.0, 0.6)]
    for x in data:
        variances = x.var(0)
        assert variances.mean() == pytest.approx(0.25, rel=0.02)
        assert 4.0 < (variances.max() / variances.min()) ** 0.5 < 8.0 * 1.02
    assert data[0].std(0) == pytest.approx(data[1].std(0), rel=0.03)


@pytest.mark.parametrize("tails", [3.0, 8.0])
def test_student_noise_has_the_tails_asked_for(tails):
    """The squared length of a multivariate Student's t has an F distribution."""
    x = noise_of(n=5000, tails=tails)
    squares = (x**2).mean(1) / 0.25 * tails / (tails - 2)
    assert kstest(squares, "f", (6, tails)).pvalue > 1e-3
    assert kstest(squares, "f", (6, 100.0)).pvalue < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_other_noise_leaves_labels_and_centres(kind):
    plain = {"n": 300, "kind": kind, "nuisance": 1, "seed": 4, **CLEAN}
    real = make_facets(**plain, correlation=0.5, tails=5, heteroscedastic=3.0)
    plain = make_facets(**plain)
    assert torch.equal(real.labels, plain.labels)
    assert torch.equal(real.nuisance, plain.nuisance)
    assert not torch.equal(real.x, plain.x)
    assert (real.x - plain.x).abs().max() < 1e-3


def test_more_data_have_the_same_structure():
    options = {"nuisance": 1, "heteroscedastic": 4.0, "correlation": 0.5, "seed": 3, **CLEAN}
    few, many = (make_facets(n=n, **options) for n in (200, 300))
    for a, b in zip(parts(few)[0], parts(many)[0], strict=True):
        assert abs(a - b).max() < 1e-4
    few, many = (noise_of(n, heteroscedastic=4.0, correlation=0.5) for n in (20_000, 30_000))
    assert np.cov(few.T) == pytest.approx(np.cov(many.T), abs=0.02)


@pytest.mark.parametrize("bend", [0.5, 0.9])
def test_bending_can_be_inverted(bend):
    """Distances shrink and grow by the factors of three layers, each 1 - bend to 1 + bend."""
    straight, bent = (make_facets((4, 3), 300, bend=b, nuisance=1, seed=1) for b in (0.0, bend))
    assert torch.equal(straight.labels, bent.labels)
    ratio = torch.pdist(bent.x.double()) / torch.pdist(straight.x.double())
    assert ratio.min() >= (1 - bend) ** 3
    assert ratio.max() <= (1 + bend) ** 3
    assert ratio.std() > 0.1


def test_bent_data_are_no_sums_of_facets():
    shares = {}
    for bend in (0.0, 0.5, 0.9):
        variances = []
        for seed in range(5):
            data = make_facets((4, 3), 240, extra_dims=2, bend=bend, seed=seed, **CLEAN)
            left = parts(data)[2]
            variances.append(left.var(0).sum() / data.x.numpy().var(0).sum())
        shares[bend] = np.mean(variances)
    assert shares[0.0] < 1e-6
    assert 0.02 < shares[0.5] < shares[0.9] - 0.02


@pytest.mark.parametrize("bend", [0.0, 0.9])
def test_real_data_can_be_told_apart(bend):
    """Of the nearest neighbour in the training set, for the clusters of both facets together."""
    options = {"extra_dims": 2, "nuisance": 1, "correlation": 0.3, "tails": 5, "heteroscedastic": 2.0}
    train, test = make_facets((4, 3), 3000, bend=bend, seed=1, **options).split(0.2)
    nearest = torch.cdist(test.x, train.x).argmin(1)
    assert (train.labels[nearest] == test.labels).all(1).float().mean() > 0.95


def test_a_split_keeps_the_nuisance_of_each_datum():
    data = make_facets((4, 3), 100, nuisance=2)
    known = dict(zip(map(tuple, data.x.tolist()), data.nuisance.tolist(), strict=True))
    for part in data.split(0.25):
        assert [known[tuple(x)] for x in part.x.tolist()] == part.nuisance.tolist()
    unknown = LabelledData(data.x, data.labels, data.label_names)
    assert [part.nuisance for part in unknown.split(0.25)] == [None, None]


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
        (
            {"bend": 0.5, "kind": "patches"},
            ValueError,
            "bend: got 0.5 with kind='patches', expected 0; leave it out, or use kind='subspaces'",
        ),
        ({"bend": 1.0}, ValueError, "bend: got 1.0, expected a number in [0, 1); try 0.5"),
        ({"nuisance": -1}, ValueError, "nuisance: got -1, expected an integer from 0 to"),
        ({"nuisance": 1.5}, TypeError, "nuisance: got 1.5, expected an integer from 0 to"),
        ({"correlation": 1.0}, ValueError, "correlation: got 1.0, expected a number in [0, 1); try"),
        ({"tails": 2}, ValueError, "tails: got 2, expected a number above 2; try 4, or None for Gaussian"),
        ({"heteroscedastic": 0.5}, ValueError, "heteroscedastic: got 0.5, expected a number of at least 1"),
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


def test_classes_may_have_names():
    x, labels = torch.zeros(4, 2), torch.tensor([[0, 5], [1, 6], [1, 5], [0, 6]])
    assert LabelledData(x, labels, ("sex", "age")).names == {"sex": None, "age": None}
    data = LabelledData(x, labels, ("sex", "age"), class_names=(("female", "male"), None))
    assert data.names == {"sex": ("female", "male"), "age": None}
    assert data.split(0.5)[1].names == data.names
    result = evaluate(labels[:, :1], data.labels, data.names)
    assert result.label_names == ("sex", "age")
    assert result.score(0, "sex") == 1
