"""The tables are what their sources say, and the rivals find what they can be expected to."""

import importlib.util

import numpy as np
import pytest
import real_tables
import rivals
from sklearn.datasets import load_digits, load_wine

from pyro_mfcvae.data import make_facets
from pyro_mfcvae.metrics import ari

needs_penguins = pytest.mark.skipif(
    importlib.util.find_spec("palmerpenguins") is None, reason="the package palmerpenguins is not installed"
)


@needs_penguins
def test_penguins():
    x, labels, names = real_tables.penguins()
    assert (x.shape, x.dtype) == ((333, 4), np.float32)
    assert (labels.shape, labels.dtype, names) == ((333, 2), np.int64, ("species", "sex"))
    assert np.isfinite(x).all()
    assert x[0].tolist() == pytest.approx([39.1, 18.7, 181.0, 3750.0])  # an Adelie, male
    assert labels[0].tolist() == [0, 1]
    assert np.bincount(labels[:, 0]).tolist() == [146, 68, 119]
    assert np.bincount(labels[:, 1]).tolist() == [165, 168]


def test_without_penguins_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install palmerpenguins"):
        real_tables.penguins()


@pytest.mark.parametrize(
    ("table", "source", "name"),
    [(real_tables.digits, load_digits, "digit"), (real_tables.wine, load_wine, "cultivar")],
)
def test_tables_of_scikit_learn(table, source, name):
    x, labels, names = table()
    expected, classes = source(return_X_y=True)
    assert (x.dtype, labels.dtype, names) == (np.float32, np.int64, (name,))
    assert np.array_equal(x, expected.astype(np.float32))
    assert np.array_equal(labels[:, 0], classes)


def test_the_table_has_a_line_for_each_label_and_method(monkeypatch):
    labels = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], 25, axis=0)
    x = labels.astype(np.float32) + 0.01 * np.random.default_rng(0).normal(size=labels.shape)
    monkeypatch.setitem(real_tables.TABLES, "corners", lambda: (x, labels, ("left", "top")))
    monkeypatch.setattr(real_tables, "ours", lambda x, clusters, seed: labels)
    lines = real_tables.compare("corners", [0, 1])
    assert len(lines) == 2 * (1 + len(rivals.RIVALS))
    assert lines[0].startswith(
        "| corners | left | pyro_mfcvae | 2 | 1.000 +- 0.000 (1.000) | 1.000 +- 0.000 (1.000) |"
    )


@pytest.mark.slow
def test_our_model_finds_the_partitions_of_a_table():
    data = make_facets((4, 3), 600, nuisance=1, seed=0)
    found = real_tables.ours(data.x.numpy(), (4, 3), 0)
    assert min(ari(a, b) for a, b in zip(found.T, data.labels.numpy().T, strict=True)) > 0.95


@pytest.mark.parametrize("name", rivals.RIVALS)
def test_rivals_give_a_column_for_each_partition(name):
    data = make_facets((4, 3), 150, extra_dims=2, seed=1)
    found = rivals.RIVALS[name](data.x, (4, 3), 5)
    assert (found.shape, found.dtype) == ((150, 2), np.int64)
    assert [len(np.unique(column)) for column in found.T] == [4, 3]
    assert np.array_equal(found, rivals.RIVALS[name](data.x, (4, 3), 5))


@pytest.mark.parametrize("name", ["k-means", "Gaussian mixture"])
def test_one_partition_is_found_on_all_columns(name):
    data = make_facets((5,), 300, extra_dims=2, seed=3)
    assert ari(rivals.RIVALS[name](data.x, (5,), 0)[:, 0], data.labels[:, 0].numpy()) > 0.99


@pytest.mark.parametrize("name", [name for name in rivals.RIVALS if name.startswith("non-redundant")])
def test_partitions_are_found_in_subspaces(name):
    scores = []
    for seed in range(3):
        data = make_facets((4, 3), 300, extra_dims=2, seed=seed)
        found, known = rivals.RIVALS[name](data.x, (4, 3), 0), data.labels.numpy()
        scores.append(min(ari(a, b) for a, b in zip(found.T, known.T, strict=True)))
    assert np.median(scores) > 0.99
    apart = rivals.RIVALS["k-means"](data.x, (4, 3), 0)
    assert min(ari(a, b) for a, b in zip(apart.T, known.T, strict=True)) < 0.8
