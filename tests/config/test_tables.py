import numpy as np
import pandas as pd
import pytest

from pyro_mfcvae import MFCVAE, Facet, MFCVAEConfig, presets
from pyro_mfcvae.config.tables import described
from pyro_mfcvae.data import Schema
from pyro_mfcvae.likelihoods import Bernoulli, Categorical, Gaussian, Mixed, NegativeBinomial, Poisson

TABLE = pd.DataFrame(
    {
        "mass": [1.5, 2.5, 3.0],
        "visits": [0, 1, 3],
        "smokes": [True, False, True],
        "island": ["a", "b", "c"],
        "day": pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"]),
    }
)
SCHEMA = Schema.infer(TABLE)
GAUSSIAN = presets.tabular().likelihood  # of real columns, be they alone or beside others
LEARNED = Gaussian(sigma=0.5, standardize=True, learn="element", floor=0.1)


def kinds(config):
    """The factory of every column."""
    return {column: factory for factory, columns in config.likelihood.columns for column in columns}


def config(likelihood="mixed", **fields):
    return presets.tabular(clusters=2, likelihood=likelihood, **fields)


def test_columns_are_what_their_kind_says():
    found = described(config(), SCHEMA)
    assert kinds(found) == {
        0: GAUSSIAN,
        1: NegativeBinomial(),
        2: Bernoulli(),
        3: Categorical(3),
        4: GAUSSIAN,
    }
    assert found.schema == SCHEMA
    assert found.likelihood.missing


def test_columns_that_are_named():
    likelihood = Mixed({"poisson": ["visits"], "categorical": ["island"]}, missing=False)
    found = described(config(likelihood), SCHEMA)
    assert kinds(found) == {0: GAUSSIAN, 1: Poisson(), 2: Bernoulli(), 3: Categorical(3), 4: GAUSSIAN}
    assert not found.likelihood.missing
    by_number = described(config(Mixed({"poisson": [1]}, missing=False)), SCHEMA)
    assert by_number == found


def test_all_others_are_what_is_said_of_them():
    found = described(config(Mixed({Poisson(): ("visits",)}, others="gaussian")), SCHEMA)
    assert kinds(found) == {0: LEARNED, 1: Poisson(), 2: LEARNED, 3: LEARNED, 4: LEARNED}


def test_it_is_written_as_json():
    found = described(config(), SCHEMA)
    assert MFCVAEConfig.from_json(found.to_json()) == found
    assert MFCVAEConfig.from_json(config().to_json()).schema is None


def test_a_column_that_the_table_has_not():
    with pytest.raises(ValueError, match=r"^columns: got 'visit', expected columns of the table, \('mass"):
        described(config(Mixed({"poisson": ["visit"]})), SCHEMA)
    with pytest.raises(ValueError, match=r"^columns: got 5, expected columns of the table"):
        described(config(Mixed({"poisson": [5]})), SCHEMA)


def test_names_need_a_table():
    with pytest.raises(ValueError, match=r"^columns: got the name 'visits' for data without names"):
        Mixed({"poisson": ["visits"]})((3,))
    with pytest.raises(ValueError, match=r"^columns: got \['a', 'a'\], expected numbers from 0 or names"):
        Mixed({"poisson": ["a", "a"]})
    with pytest.raises(TypeError, match=r"^columns: got 'visits', expected a list of numbers from 0"):
        Mixed({"poisson": "visits"})


def test_a_likelihood_without_categories_is_refused():
    with pytest.raises(ValueError, match=r"^likelihood: got Gaussian for a table whose column 'island'"):
        described(presets.tabular(), SCHEMA)
    two = Schema.infer(TABLE.assign(island=["a", "b", "b"]))
    assert described(presets.tabular(), two).likelihood == presets.tabular().likelihood


def test_the_preset_for_tables():
    mixed = presets.for_data((5,), False, schema=SCHEMA)
    assert (mixed.schema, type(mixed.likelihood)) == (SCHEMA, Mixed)
    real = Schema.infer(TABLE[["mass"]])
    assert presets.for_data((1,), False, schema=real) == presets.tabular(schema=real)
    assert type(presets.for_data((1,), False, schema=real, has_missing=True).likelihood) is Mixed
    assert presets.for_data((1,), False, likelihood="poisson", has_missing=True).likelihood == Poisson()


def test_a_schema_is_of_the_data():
    found = described(config(), SCHEMA)
    with pytest.raises(ValueError, match=r"^x_shape: got \(3,\) with a schema of 5 columns, expected"):
        MFCVAE(found, (3,))
    with pytest.raises(
        TypeError, match=r"^schema: got a DataFrame, expected a Schema; use data.Schema.infer"
    ):
        MFCVAEConfig((Facet(2, 2),), schema=TABLE)


@pytest.mark.parametrize("kind", ["real", "count", "boolean", "category", "date"])
def test_every_kind_has_a_density(kind):
    column = SCHEMA.columns[SCHEMA.of_kind(kind)[0]]
    table = TABLE[[column.name]]
    schema = Schema.infer(table)
    likelihood = described(config(), schema).likelihood((1,))
    x = schema.encode(table)
    likelihood.calibrate(x)
    likelihood.check(x, "x")
    features = x.new_zeros(3, *likelihood.features_shape).float()
    assert np.isfinite(likelihood(features).log_prob(x).detach().numpy()).all()
