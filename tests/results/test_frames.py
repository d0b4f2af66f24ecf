import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import pyro_mfcvae as mf
from pyro_mfcvae import Schedule, presets
from pyro_mfcvae.data import Schema
from pyro_mfcvae.likelihoods import Mixed

N = 60
RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {
        "mass": RNG.normal(4000, 500, N),
        "length": RNG.normal(40, 5, N),
        "visits": RNG.poisson(2, N),
        "smokes": RNG.random(N) < 0.5,
        "island": RNG.choice(["Dream", "Biscoe", "Torgersen"], N),
        "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(RNG.integers(0, 90, N), unit="D"),
    },
    index=[f"bird {i}" for i in range(N)],
)
TABLE.loc["bird 3", ["mass", "island", "day"]] = None
SHORT = Schedule.progressive(2, epochs=1)


@pytest.fixture(scope="module")
def fitted():
    config = presets.tabular(clusters=(3, 2), latent_dims=2, likelihood="mixed", schedule=SHORT)
    return mf.fit(TABLE, config, progress=False)


def test_the_schema_is_kept(fitted, tmp_path):
    assert fitted.config.schema == Schema.infer(TABLE)
    fitted.save(tmp_path / "table.model")
    loaded = mf.load(tmp_path / "table.model")
    assert loaded.config == fitted.config
    np.testing.assert_array_equal(loaded.predict(TABLE), fitted.predict(TABLE))


def test_columns_in_another_order_give_the_same(fitted):
    shuffled = TABLE[TABLE.columns[::-1]]
    for method in ("predict", "reconstruct", "impute", "score", "log_likelihood"):
        np.testing.assert_array_equal(getattr(fitted, method)(shuffled), getattr(fitted, method)(TABLE))
    for method in ("predict_proba", "transform"):
        np.testing.assert_array_equal(getattr(fitted, method)(shuffled)[1], getattr(fitted, method)(TABLE)[1])


@pytest.mark.parametrize("convert", [pl.from_pandas, lambda t: pa.Table.from_pandas(t, preserve_index=False)])
def test_another_library_gives_the_same(fitted, convert):
    np.testing.assert_array_equal(fitted.predict(convert(TABLE)), fitted.predict(TABLE))


def test_codes_do_as_well(fitted):
    codes = fitted.config.schema.encode(TABLE).numpy()
    np.testing.assert_array_equal(fitted.predict(codes), fitted.predict(TABLE))


def test_answers_are_tables(fitted):
    clusters = fitted.predict(TABLE, as_frame=True)
    assert list(clusters.columns) == ["facet_0", "facet_1"]
    assert clusters.index.equals(TABLE.index)
    np.testing.assert_array_equal(clusters.to_numpy(), fitted.predict(TABLE))
    first, second = fitted.predict_proba(TABLE, as_frame=True)
    assert (list(first.columns), second.shape) == (["cluster_0", "cluster_1", "cluster_2"], (N, 2))
    np.testing.assert_array_equal(first.to_numpy(), fitted.predict_proba(TABLE)[0])
    assert list(fitted.transform(TABLE, as_frame=True)[1].columns) == ["z_0", "z_1"]
    assert isinstance(fitted.predict(pl.from_pandas(TABLE), as_frame=True), pl.DataFrame)
    assert isinstance(
        fitted.predict(pa.Table.from_pandas(TABLE, preserve_index=False), as_frame=True), pa.Table
    )
    codes = fitted.config.schema.encode(TABLE)
    assert isinstance(fitted.predict(codes, as_frame=True), pd.DataFrame)


def test_what_is_imputed_has_names_and_values(fitted):
    whole = fitted.impute(TABLE, as_frame=True)
    assert list(whole.columns) == list(TABLE.columns)
    assert whole.index.equals(TABLE.index)
    assert not whole.isna().any().any()
    seen = TABLE.notna().all(axis=1)
    pd.testing.assert_frame_equal(whole[seen], TABLE[seen], check_dtype=False)
    assert whole.loc["bird 3", "island"] in ("Dream", "Biscoe", "Torgersen")
    assert set(fitted.reconstruct(TABLE, as_frame=True)["island"]) <= {"Dream", "Biscoe", "Torgersen"}


def test_what_is_generated_has_names_and_values(fitted):
    drawn = fitted.sample(5, {0: 1}, as_frame=True)
    assert list(drawn.columns) == list(TABLE.columns)
    assert set(drawn["island"]) <= {"Dream", "Biscoe", "Torgersen"}
    fitted.predict(drawn)
    np.testing.assert_allclose(drawn["mass"], fitted.sample(5, {0: 1})[:, 0])


def test_a_table_of_numbers_is_the_array():
    x = TABLE[["length", "visits"]].astype(float)
    x = x.assign(visits=x["visits"] + 0.5)
    config = presets.tabular(clusters=(3, 2), latent_dims=2, schedule=SHORT)
    of_table, of_array = mf.fit(x, config, progress=False), mf.fit(x.to_numpy(), config, progress=False)
    assert of_table.config.likelihood == of_array.config.likelihood
    for a, b in zip(of_table.model.parameters(), of_array.model.parameters(), strict=True):
        assert a.equal(b)
    np.testing.assert_array_equal(of_table.predict(x), of_array.predict(x.to_numpy()))
    of_array.predict(x, as_frame=True)  # a model that knows no names goes by places


def test_pictures_have_no_table(make_config):
    fitted = mf.fit(np.random.default_rng(0).random((20, 1, 3, 3)), make_config(), progress=False)
    with pytest.raises(ValueError, match=r"^as_frame: got data of shape \(1, 3, 3\), expected vectors"):
        fitted.sample(2, as_frame=True)


def test_names_in_pictures_the_report_and_arviz(fitted, tmp_path):
    figure = mf.plots.reconstructions(fitted, TABLE)
    texts = [text.get_text() for text in figure.texts]
    assert any("Columns from the left: mass, length, visits, smokes, island, day." in text for text in texts)
    page = fitted.report(tmp_path / "report.html", TABLE).read_text()
    assert "Columns from the left: mass, length, visits, smokes, island, day." in page
    data = fitted.to_inference_data(TABLE, num_draws=2)
    groups = [data[name] for name in ("observed_data", "posterior_predictive", "prior_predictive")]
    for group in groups:
        assert group["x"].coords["x_dim_0"].values.tolist() == list(TABLE.columns)
    assert "x_dim_0" not in data["log_likelihood"].coords


def test_restarts_compare_and_runs_take_tables():
    config = presets.tabular(
        clusters=(3, 2), latent_dims=2, likelihood=Mixed({"poisson": ["visits"]}), schedule=SHORT
    )
    runs = mf.fit(TABLE, config, seeds=range(2), workers=1, progress=False)
    assert str(runs.agreement(TABLE[TABLE.columns[::-1]])) == str(runs.agreement(TABLE))
    assert runs.evaluate(TABLE, np.arange(N) % 3)
    comparison = mf.compare({"a": config, "b": config}, TABLE, num_particles=5, progress=False)
    assert comparison["a"].elbo.shape == (1, N // 5)
    other = mf.compare({"runs": runs}, None, test=TABLE[TABLE.columns[::-1]], num_particles=5, progress=False)
    assert other["runs"].elbo.shape == (2, N)


def test_a_value_that_its_column_cannot_have_is_named(fitted):
    with pytest.raises(ValueError, match=r"^x, column 'visits': got -1, among 1 of 60 values"):
        fitted.score(TABLE.assign(visits=[-1, *TABLE["visits"][1:]]))
    with pytest.raises(ValueError, match=r"^dataset, column 'visits': got -1, among 60 of 60 values"):
        mf.fit(TABLE.assign(visits=-1), fitted.config, progress=False)
