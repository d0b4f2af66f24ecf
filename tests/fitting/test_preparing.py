import numpy as np
import pandas as pd
import pytest

import pyro_mfcvae as mf
from pyro_mfcvae import Schedule, presets
from pyro_mfcvae.fitting.preparing import prepare
from pyro_mfcvae.likelihoods import Mixed

X = np.random.default_rng(0).normal(size=(60, 4))
TABLE = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": ["u", "v", "w"] * 20})


def prepared(dataset, config=None, **options):
    return prepare(dataset, config, "auto", **options)[1]


def test_sizes_in_place_of_a_configuration():
    assert prepared(X, clusters=(10, 5), latent_dims=2) == presets.tabular(clusters=(10, 5), latent_dims=2)
    assert prepared(X, clusters=7).facets == presets.tabular(clusters=7).facets
    assert prepared(X) == presets.tabular()
    images = np.random.default_rng(0).random((60, 1, 8, 8))
    assert prepared(images, clusters=(4, 3)) == presets.mnist(clusters=(4, 3))


def test_they_train_a_model(monkeypatch):
    short = Schedule.progressive(2, epochs=1)
    tabular = presets.tabular
    monkeypatch.setattr(presets, "tabular", lambda **fields: tabular(**fields, schedule=short))
    fitted = mf.fit(X, clusters=(3, 2), latent_dims=2, progress=False)
    assert fitted.clusters == (3, 2)
    fitted = mf.fit(TABLE, clusters=(3, 2), latent_dims=2, progress=False)
    assert isinstance(fitted.config.likelihood, Mixed)


def test_sizes_beside_a_configuration_are_refused():
    with pytest.raises(ValueError, match=r"^clusters: got 3, and latent_dims=None, with a configuration"):
        mf.fit(X, presets.tabular(), clusters=3)
    with pytest.raises(ValueError, match=r"^clusters: got None, and latent_dims=3, with a configuration"):
        mf.fit(X, presets.tabular(), latent_dims=3)


def test_what_was_chosen_is_said(capsys):
    prepare(TABLE, None, "auto", clusters=(3, 2), latent_dims=2, says=True)
    line = (
        "fit: 60 data of 3: real: a, b; category: c; Mixed likelihood, FullyConnectedShared network; "
        "facets: 3 clusters in 2 dimensions, 2 clusters in 2 dimensions\n"
    )
    assert capsys.readouterr() == ("", line)
    prepare(np.repeat(X.reshape(60, 1, 2, 2), 3, 1), None, "auto", says=True)
    assert capsys.readouterr().err.endswith("facets: as many facets and clusters as there are\n")
    prepare(X, presets.tabular(), "auto", says=True)
    prepare(X, None, "auto")
    assert capsys.readouterr() == ("", "")


def test_a_schema_of_ones_own_serves():
    schema = mf.data.Schema.infer(TABLE, {"a": "real", "c": "category"})
    config = prepared(TABLE[["c", "a", "b"]], presets.tabular(schema=schema, likelihood="mixed"))
    assert config.schema == schema
    codes = schema.encode(TABLE).numpy()
    assert prepared(codes, presets.tabular(schema=schema, likelihood="mixed")) == config


def test_missing_entries_of_an_array_are_not_guessed_about():
    x = X.copy()
    x[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"likelihood='mixed'"):
        prepared(x)
