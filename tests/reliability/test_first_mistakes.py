"""What a newcomer does wrong first, and what the package says."""

import numpy as np
import pandas as pd
import pytest
import torch

import pyro_mfcvae as mf
from pyro_mfcvae import Facet, Schedule, presets
from pyro_mfcvae.likelihoods import Gaussian, Mixed
from pyro_mfcvae.sklearn import MultiFacetClustering

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
TABLE = pd.DataFrame({"mass": X[:, 0], "island": ["Dream", "Biscoe", "Torgersen"] * 20})
SHORT = Schedule.progressive(1, epochs=1)
CONFIG = presets.tabular(clusters=3, latent_dims=2, schedule=SHORT)
MIXED = presets.tabular(clusters=3, latent_dims=2, likelihood="mixed", schedule=SHORT)


def fit(data=X, config=CONFIG, **options):
    return mf.fit(data, config, progress=False, **options)


@pytest.fixture(scope="module")
def fitted():
    return fit()


@pytest.fixture(scope="module")
def of_table():
    return fit(TABLE, MIXED)


FITTING = {
    "a preset that is not called": (
        lambda: fit(config=presets.tabular),
        r"^config: got tabular itself, expected an MFCVAEConfig, such as .*; call it",
    ),
    "a preset by its name": (lambda: fit(config="tabular"), r"^config: got str, expected an MFCVAEConfig"),
    "a dict for a configuration": (lambda: fit(config={"clusters": 3}), r"^config: got dict, expected"),
    "one feature": (lambda: fit(X[:, 0]), r"^dataset: got shape \(60,\), expected .* use reshape\(-1, 1\)"),
    "a series": (lambda: fit(TABLE["mass"]), r"^dataset: got shape \(60,\), expected"),
    "a dict of columns": (lambda: fit({"a": [1, 2]}), r"^dataset: got a dict, expected a NumPy array"),
    "a generator": (lambda: fit(row for row in X), r"^dataset: got a generator, expected a NumPy array"),
    "labels first": (lambda: fit((np.arange(60), X)), r"^dataset: got shape \(60,\), expected"),
    "a path with a typo": (lambda: fit("rowz.npy"), r"^dataset: got 'rowz.npy', where there is no file"),
    "names of the rows": (
        lambda: fit(TABLE.assign(id=[f"bird {i}" for i in range(60)]), MIXED),
        r"^dataset: got column 'id' of texts, 60 different ones in .*; leave the column out",
    ),
    "categories as numbers of any scale": (
        lambda: fit(TABLE),
        r"^likelihood: got Gaussian for a table whose column 'island' has categories, .*likelihood='mixed'",
    ),
    "more clusters than data": (
        lambda: mf.fit(X, clusters=100),
        r"^dataset: got 60 data, expected at least as many as a facet has clusters, 100",
    ),
    "clusters as the command line has them": (
        lambda: mf.fit(X, clusters="10,5"),
        r"^clusters: got '10,5', expected positive integers",
    ),
    "clusters twice": (
        lambda: fit(clusters=3),
        r"^clusters: got 3, and latent_dims=None, with a",
    ),
    "a number of seeds": (lambda: fit(seeds=3), r"^seeds: got 3, expected different integers .*range\(5\)"),
    "half precision": (lambda: fit(precision="fp16"), r"^precision: got 'fp16', expected one of \('auto'"),
    "one callback": (lambda: fit(callbacks=print), r"^callbacks: got <built-in .*; give it in a list"),
    "channels last": (
        lambda: fit(np.zeros((9, 28, 28, 3), np.float32)),
        r"^dataset: got data of shape \(N, 28, 28, 3\), whose channels seem to be last",
    ),
    "Bernoulli for any numbers": (
        lambda: fit(config=presets.tabular(clusters=3, likelihood="bernoulli", schedule=SHORT)),
        r"^dataset: values from -.* needs values in \[0, 1\]; rescale the data",
    ),
}
CONFIGURING = {
    "a prior with a typo": (lambda: Facet(3, 2, "gausian"), r"^prior: got 'gausian', expected one of \("),
    "a prior that is not called": (
        lambda: Facet(3, 2, mf.priors.FullGaussian),
        r"^prior: got the class FullGaussian, expected an object of it; call it, as in FullGaussian\(\)",
    ),
    "a likelihood that is not called": (
        lambda: presets.tabular(likelihood=Gaussian),
        r"^likelihood: got the class Gaussian, expected an object of it; call it",
    ),
    "a likelihood by another name": (
        lambda: presets.tabular(likelihood="normal"),
        r"^likelihood: got 'normal', expected one of \('bernoulli', 'gaussian'",
    ),
    "facets as tuples": (
        lambda: presets.tabular(facets=((3, 2),)),
        r"^facets: got \(\(3, 2\),\), expected",
    ),
    "a keyword with a typo": (lambda: presets.tabular(cluster=3), r"^cluster: got 3 for no field of MFCVAEC"),
    "epochs of a preset": (lambda: presets.tabular(epochs=5), r"^epochs: got 5 for no field of MFCVAEConfig"),
    "a schedule for fewer facets": (
        lambda: presets.tabular(clusters=(3, 2), schedule=SHORT),
        r"^schedule: its stages introduce 1 facets, but there are 2; use Schedule.progressive\(2",
    ),
    "too many numbers of epochs": (
        lambda: Schedule.progressive(2, epochs=[1, 2, 3]),
        r"^epochs: got \[1, 2, 3\], expected one for each of 2 facets",
    ),
    "a kind of column with a typo": (
        lambda: Mixed({"poison": [0]}),
        r"^columns: got 'poison', expected",
    ),
    "the estimator's facet": (
        lambda: MultiFacetClustering(3, facet=3, steps=(2, 2)).fit(X),
        r"^facet: got 3, expected an integer from 0 to 0",
    ),
}
USING = {
    "another width": (
        lambda f, t: f.predict(X[:, :3]),
        r"^x: got data of shape \(60, 3\), expected",
    ),
    "one row": (lambda f, t: f.predict(X[0]), r"^x: got shape \(4,\), expected .* reshape\(1, -1\) for one"),
    "texts for a model of numbers": (
        lambda f, t: f.predict(TABLE),
        r"^x: got column 'island' of String, expected real numbers in every column",
    ),
    "a column that is missing": (
        lambda f, t: t.predict(TABLE[["mass"]]),
        r"^x: got no column 'island', expected the 2 columns that were trained on",
    ),
    "a category that is new": (
        lambda f, t: t.predict(TABLE.assign(island="Gotland")),
        r"^x: got column 'island' with the category 'Gotland', expected one of 'Biscoe', 'Dream'",
    ),
    "a cluster that there is not": (
        lambda f, t: f.sample(3, {0: 7}),
        r"^clusters: got \{0: 7\}, expected a facet of 0 .. 0 and one of its clusters",
    ),
    "a cluster without its facet": (
        lambda f, t: f.sample(3, clusters=1),
        r"^clusters: got 1, expected clusters by facet; give cluster 3 of facet 1 as \{1: 3\}",
    ),
    "one input to recombine": (
        lambda f, t: f.compose([X, X]),
        r"^x: got 2 inputs, expected one",
    ),
    "fewer labels than data": (
        lambda f, t: f.evaluate(X, np.zeros(5, int)),
        r"^clusters: got 60 rows and 5 of labels, expected one of each for every datum",
    ),
    "labels that are not known": (
        lambda f, t: f.evaluate(X, [None] * 60),
        r"^labels: got none in row 0, the first of 60 such, .*; leave out data where it is unknown",
    ),
    "labels that are no classes": (
        lambda f, t: f.evaluate(X, X[:, 0]),
        r"^labels: got .* in row 0, expected integers, whole numbers, booleans or text; cut what",
    ),
    "data before the model": (
        lambda f, t: mf.plots.cluster_examples(X, f, 0),
        r"^fitted: got a ndarray, expected a fitted model, and then the data; give what fit returned",
    ),
    "facets counted from one": (
        lambda f, t: mf.plots.cluster_examples(f, X, 1),
        r"^facet: got 1, expected one of the 1 facets, 0 .. 0; count from 0",
    ),
    "models in a list": (lambda f, t: mf.compare([f], X), r"^entries: got a list, expected models by name"),
}


def cases(table):
    return pytest.mark.parametrize(("does", "message"), table.values(), ids=table)


@cases(FITTING)
def test_fitting(does, message):
    with pytest.raises((TypeError, ValueError, FileNotFoundError), match=message):
        does()


@cases(CONFIGURING)
def test_configuring(does, message):
    with pytest.raises((TypeError, ValueError), match=message):
        does()


@cases(USING)
def test_using(fitted, of_table, does, message):
    with pytest.raises((TypeError, ValueError), match=message):
        does(fitted, of_table)


def test_files(fitted, tmp_path):
    torch.save({"a": 1}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"^path: .*other.pt is not a whole pyro_mfcvae model .*; load what"):
        mf.load(tmp_path / "other.pt")
    with pytest.raises(FileNotFoundError, match=r"^path: there is no file .*model"):
        mf.load(tmp_path / "model")
    with pytest.raises(FileNotFoundError, match=r"^path: the folder .* does not exist; create it first"):
        fitted.save(tmp_path / "no" / "model")
