import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import pyro_mfcvae as mf
from pyro_mfcvae.sklearn import MultiFacetClustering

pytestmark = pytest.mark.filterwarnings(
    "ignore::pyro_mfcvae.training.UnmixingWarning", "ignore::pyro_mfcvae.training.DeadClustersWarning"
)


@parametrize_with_checks([MultiFacetClustering(2, steps=(40, 5))])
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


X, Y = make_blobs(90, n_features=3, centers=3, cluster_std=0.5, random_state=0)
QUICK = MultiFacetClustering((3, 2), steps=(20, 10), random_state=0)
TABLE = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "kind": np.array(["u", "v", "w"])[Y]}, index=range(5, 95))


@pytest.fixture(scope="module")
def fitted():
    return clone(QUICK).fit(X)


def test_facets(fitted):
    assert isinstance(fitted.fitted_, mf.FittedMFCVAE)
    assert fitted.facet_labels_.shape == (90, 2)
    np.testing.assert_array_equal(fitted.labels_, fitted.facet_labels_[:, 0])
    np.testing.assert_array_equal(fitted.predict_facets(X), fitted.facet_labels_)
    np.testing.assert_array_equal(fitted.facet_labels_, fitted.fitted_.predict(X))
    second = clone(QUICK).set_params(facet=1).fit(X)
    np.testing.assert_array_equal(second.labels_, fitted.facet_labels_[:, 1])
    assert fitted.predict_proba(X).shape == (90, 3)
    assert second.predict_proba(X).shape == (90, 2)
    with pytest.raises(ValueError, match=r"^facet: got 2, expected an integer from 0 to 1"):
        clone(QUICK).set_params(facet=2).fit(X)


def test_latents_have_names(fitted):
    names = fitted.get_feature_names_out()
    dims = [facet.latent_dim for facet in fitted.fitted_.config.facets]
    assert names.tolist() == [f"facet_{j}_z_{d}" for j, D in enumerate(dims) for d in range(D)]
    assert fitted.transform(X).shape == (90, sum(dims))
    frame = clone(fitted).set_output(transform="pandas").fit(TABLE).transform(TABLE)
    assert frame.index.equals(TABLE.index)
    assert frame.columns[0] == "facet_0_z_0"


def test_tables_have_categories_and_missing_values():
    table = TABLE.copy()
    table.iloc[3, 0] = table.iloc[4, 2] = None
    found = clone(QUICK).fit(table)
    assert found.feature_names_in_.tolist() == ["a", "b", "kind"]
    assert found.fitted_.config.schema.names == ("a", "b", "kind")
    np.testing.assert_array_equal(found.predict(table), found.labels_)
    with pytest.raises(ValueError, match="The feature names should match"):
        found.predict(table[["b", "a", "kind"]])


def test_a_seed_gives_the_same():
    first, second = (clone(QUICK).fit_predict(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    state = clone(QUICK).set_params(random_state=np.random.RandomState(3)).fit(X)
    assert state.fitted_.seed == np.random.RandomState(3).randint(2**31 - 1)


def test_a_row_gives_the_same_whatever_is_beside_it(fitted):
    np.testing.assert_array_equal(fitted.transform(X[7:8]), fitted.transform(X)[7:8])


def test_a_configuration_of_ones_own():
    config = mf.presets.tabular(clusters=4, latent_dims=2, schedule=mf.Schedule.progressive(1, epochs=1))
    found = MultiFacetClustering(config=config, random_state=0).fit(X)
    assert found.fitted_.config == config
    auto = MultiFacetClustering("auto")._configuration(X)
    assert auto == mf.presets.tabular(facets="auto")
    poisson = MultiFacetClustering(3, likelihood="poisson", latent_dims=2)._configuration(X)
    assert poisson == mf.presets.tabular(clusters=3, latent_dims=2, likelihood="poisson")


def test_it_is_part_of_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), clone(QUICK))
    assert pipeline.fit_predict(X).shape == (90,)
    assert pipeline[:-1].transform(X).shape == X.shape
    assert np.isfinite(pipeline.score(X))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_it_is_searched_over(n_jobs):
    search = GridSearchCV(clone(QUICK), {"n_clusters": [2, (3, 2)]}, cv=2, n_jobs=n_jobs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of models that are hardly trained
        search.fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.labels_.shape == (90,)


def test_optuna_tunes_it():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial):
        K = trial.suggest_int("n_clusters", 2, 4)
        return clone(QUICK).set_params(n_clusters=K).fit(X).score(X)

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
    study.optimize(objective, n_trials=2)
    assert np.isfinite(study.best_value)


def test_it_finds_clusters():
    found = MultiFacetClustering(3, steps=(100, 50), random_state=0).fit(X)
    assert adjusted_rand_score(Y, found.labels_) > 0.9


def test_a_number_of_clusters_is_no_text():
    with pytest.raises(ValueError, match=r"^n_clusters: got '3', expected one of \('auto',\); give numbers"):
        MultiFacetClustering("3").fit(np.random.default_rng(0).normal(size=(50, 3)))
