"""Models side by side: the figures are those of the models, on data held out from all of them."""

import builtins
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from pyro_mfcvae import Comparison, FittedMFCVAE, FittedRuns, compare
from pyro_mfcvae._utils.splitting import split_rows
from pyro_mfcvae.likelihoods import Gaussian
from pyro_mfcvae.metrics import effective_clusters
from pyro_mfcvae.results.comparison import match_facets, mean_and_se

MODULE = sys.modules["pyro_mfcvae.fitting.compare"]  # the attribute of this name is the function
OPTIONS = {"num_particles": 30, "workers": 1, "device": "cpu", "precision": "float32", "progress": False}


def compared(entries, data, **options):
    return compare(entries, data, **{**OPTIONS, **options})


@pytest.fixture(scope="module")
def configs(make_config):
    likelihood = Gaussian(0.2)
    return {
        "two facets": make_config(J=2, K=(4, 3), likelihood=likelihood, epochs=3),
        "one": make_config(J=1, K=5, likelihood=likelihood, epochs=3, prior="full_gaussian"),
    }


@pytest.fixture(scope="module")
def comparison(configs, blobs):
    return compared(configs, blobs[0], seeds=[3, 1])


@pytest.fixture(scope="module")
def random_models(make_model):
    """Not trained, and so without history."""
    shapes = {"a": (2, (4, 3)), "b": (3, (2, 5, 3)), "c": (1, (3,))}
    return {
        name: FittedMFCVAE(make_model(J=J, K=K, likelihood=Gaussian(0.4), seed=seed), [])
        for seed, (name, (J, K)) in enumerate(shapes.items())
    }


# --- what it finds -------------------------------------------------------------------------------


def test_configurations_are_fitted_to_one_part_and_scored_on_the_other(comparison, blobs, configs):
    assert isinstance(comparison, Comparison)
    assert list(comparison) == list(configs)
    _, rows = split_rows(300, 0.2, 0, "")
    held_out = blobs[0][rows]
    assert comparison.num_data == 60
    for name, model in comparison.items():
        assert [fitted.seed for fitted in model.fits] == [3, 1]
        for r, fitted in enumerate(model.fits):
            assert fitted.model.config is configs[name]
            bounds = fitted.bounds(held_out, 30)
            np.testing.assert_array_equal(model.elbo[r], bounds.elbo)
            np.testing.assert_array_equal(model.log_likelihood[r], fitted.log_likelihood(held_out, 30))
            np.testing.assert_array_equal(model.pareto_k[r], fitted.pareto_k(held_out, 30))
            np.testing.assert_array_equal(model.clusters[r], fitted.predict(held_out))
            assert model.seconds[r] == fitted.history[-1].seconds
            for j, responsibilities in enumerate(fitted.predict_proba(held_out)):
                assert model.effective_clusters[r, j] == effective_clusters(responsibilities)
    assert not np.array_equal(comparison["one"].elbo[0], comparison["one"].elbo[1])


def test_held_out_data_are_not_trained_on(configs, blobs):
    """What is in them changes the scores, and nothing of the models."""
    x = blobs[0].copy()
    _, rows = split_rows(300, 0.5, 7, "")
    x[rows] = 0.5
    options = {"test_fraction": 0.5, "split_seed": 7}
    one, other = (compared({"one": configs["one"]}, data, **options)["one"] for data in (blobs[0], x))
    np.testing.assert_array_equal(one.fits[0].sample(5), other.fits[0].sample(5))
    assert not np.array_equal(one.elbo, other.elbo)
    given = compared({"one": configs["one"]}, np.delete(blobs[0], rows, 0), test=blobs[0][rows])["one"]
    np.testing.assert_array_equal(one.log_likelihood, given.log_likelihood)


def test_fitted_models_are_scored_as_they_are(random_models, blobs):
    x = blobs[0][:40]
    comparison = compared(random_models, x)
    again = compared({"runs": FittedRuns([random_models["a"]] * 2, (0, 1), (0.0, 0.0))}, None, test=x)
    for name, fitted in random_models.items():
        np.testing.assert_array_equal(comparison[name].log_likelihood[0], fitted.log_likelihood(x, 30))
        assert comparison[name].fits == (fitted,)
        assert np.isnan(comparison[name].seconds).all()
    np.testing.assert_array_equal(again["runs"].elbo, np.repeat(comparison["a"].elbo, 2, 0))


def test_fitted_models_and_configurations_together(configs, random_models, blobs):
    entries = {"config": configs["one"], "fitted": random_models["a"]}
    comparison = compared(entries, blobs[0][:200], test=blobs[0][200:])
    assert comparison.num_data == 100
    assert comparison["config"].fits[0].model.config is configs["one"]
    assert comparison["fitted"].fits == (random_models["a"],)
    assert comparison["config"].fits[0].history


def test_labels_are_dropped(random_models, blobs):
    x, y = (part[:30] for part in blobs)
    one, other = (compared(random_models, data) for data in (x, (x, y)))
    np.testing.assert_array_equal(one["a"].elbo, other["a"].elbo)


# --- figures -------------------------------------------------------------------------------------


def test_summary(comparison):
    best, other = comparison.best, next(name for name in comparison if name != comparison.best)
    for name, model in comparison.items():
        summary = comparison.summary(name)
        for key in ("elbo", "log_likelihood"):
            values = getattr(model, key)
            assert summary[key] == pytest.approx(values.mean())
            assert summary[f"{key}_se"] == pytest.approx(values.mean(0).std(ddof=1) / 60**0.5)
            assert summary[f"{key}_sd"] == pytest.approx(values.mean(1).std(ddof=1))
        assert summary["unreliable"] == pytest.approx((model.pareto_k > 0.7).mean())
        assert summary["effective_clusters_0"] == pytest.approx(model.effective_clusters[:, 0].mean())
        assert summary["seconds"] == pytest.approx(model.seconds.mean())
    difference = (comparison[best].log_likelihood - comparison[other].log_likelihood).mean(0)
    assert comparison.summary(other)["behind"] == pytest.approx(difference.mean())
    assert comparison.summary(other)["behind_se"] == pytest.approx(difference.std(ddof=1) / 60**0.5)
    assert comparison.summary(other)["behind"] > 0
    assert comparison.summary(best)["behind"] == comparison.summary(best)["behind_se"] == 0


def test_effective_clusters():
    assert effective_clusters(np.full((5, 4), 0.25)) == pytest.approx(4)
    assert effective_clusters(np.eye(3)[[0, 0, 0]]) == 1
    assert effective_clusters(np.eye(3)[[0, 0, 1]]) == pytest.approx(3 / 2 ** (2 / 3))  # exp H(2/3, 1/3)
    assert effective_clusters(np.eye(2, dtype=np.float32)) == pytest.approx(2)


def test_agreement_against_brute_force(comparison):
    agreement = comparison.agreement["two facets", "one"]
    a, b = comparison["two facets"].clusters, comparison["one"].clusters
    expected = np.array(
        [
            [np.mean([adjusted_rand_score(a[r][:, i], b[s][:, 0]) for r in range(2) for s in range(2)])]
            for i in range(2)
        ]
    )
    np.testing.assert_allclose(agreement.matrix, expected)
    assert agreement.matches == ((int(expected.argmax()), 0),)
    assert agreement.mean == pytest.approx(expected.max())


def test_facets_are_matched_one_to_one():
    rng = np.random.default_rng(0)
    one = rng.integers(0, 4, (1, 500, 3))
    other = np.stack([one[0][:, 2], rng.integers(0, 4, 500), (one[0][:, 0] + 1) % 4, one[0][:, 2]], -1)[None]
    agreement = match_facets(one, other)
    assert agreement.matrix.shape == (3, 4)
    assert (0, 2) in agreement.matches
    assert any(pair in agreement.matches for pair in ((2, 0), (2, 3)))
    assert len({i for i, _ in agreement.matches}) == len({j for _, j in agreement.matches}) == 3
    rows, columns = linear_sum_assignment(-agreement.matrix)
    assert agreement.mean == pytest.approx(agreement.matrix[rows, columns].mean())
    itself = match_facets(one, one)
    assert itself.matches == ((0, 0), (1, 1), (2, 2))
    assert itself.mean == 1


def test_mean_and_se_of_one():
    mean, se = mean_and_se(np.array([2.0]))
    assert mean == 2
    assert np.isnan(se)


# --- how it shows --------------------------------------------------------------------------------


def test_table(comparison):
    lines = str(comparison).splitlines()
    assert lines[0].split("  ")[0] == "model"
    for title in ("ELBO", "log p(x)", "behind the best", "runs", "sd of runs", "k > 0.7", "seconds"):
        assert title in lines[0]
    ends = {line.rstrip().rfind(" ") >= 0 and len(line) for line in lines[:3]}
    assert len(ends) == 1, "the last column is not aligned"
    for line, name in zip(lines[1:3], comparison, strict=True):
        summary = comparison.summary(name)
        assert line.startswith(name)
        assert f"{summary['elbo']:.2f} +- {summary['elbo_se']:.2f}" in line
        assert ("best" in line) == (name == comparison.best)
    text = "\n".join(lines[3:])
    assert "60 held-out data" in text
    assert "matched facets (ARI), two facets with one: " in text
    assert "different likelihoods" not in text
    assert repr(comparison) == f"Comparison(two facets, one; 60 held-out data; best: {comparison.best})"
    html = comparison._repr_html_()
    assert html.startswith("<table>")
    assert "<td>two facets</td>" in html


def test_table_of_what_is_not_known(random_models, make_model, blobs):
    """Few particles, no history, one run, and likelihoods that do not compare."""
    entries = {"a": random_models["a"], "bernoulli": FittedMFCVAE(make_model(), [])}
    comparison = compared(entries, np.clip(blobs[0], 0, 1), num_particles=3)
    text = str(comparison)
    assert "sd of runs" not in text
    assert "nan" not in text
    assert "different likelihoods (BernoulliLikelihood, GaussianLikelihood)" in text


def test_pandas(comparison, monkeypatch):
    table = comparison.to_pandas()
    assert list(table.index) == list(comparison)
    assert table.index.name == "model"
    for name in comparison:
        for key, value in comparison.summary(name).items():
            assert table.loc[name, key] == value
    assert np.isnan(table.loc["one", "effective_clusters_1"])

    real = builtins.__import__

    def without_pandas(name, *args, **options):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    with pytest.raises(ImportError, match=r"pandas is not installed.*or use summary\(name\)"):
        comparison.to_pandas()


def test_plot(comparison, random_models, blobs):
    before = dict(matplotlib.rcParams)
    figure = comparison.plot()
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == sorted(comparison, key=lambda name: -comparison.summary(name)["log_likelihood"])
    shown = {container.get_label(): container.lines[0].get_xdata(orig=False) for container in axes.containers}
    for key, label in (("log_likelihood", "log p(x)"), ("elbo", "ELBO")):
        np.testing.assert_allclose(shown[label], [comparison.summary(name)[key] for name in names])
    assert figure._repr_png_().startswith(b"\x89PNG")

    own = Figure()
    left, right = own.subplots(1, 2)
    alone = compared({"a": random_models["a"]}, blobs[0][:1], num_particles=2)  # no standard error
    assert alone.plot(ax=right) is own
    assert not left.has_data()
    assert right.has_data()


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "error", "message"),
    [
        ([1], TypeError, r"entries: got a list, expected models by name, as in \{"),
        ({}, ValueError, "entries: got none, expected at least one"),
        ({"a": "mnist"}, TypeError, r"entries\['a'\]: got a str, expected an MFCVAEConfig, a FittedMFCVAE"),
    ],
)
def test_entries_that_are_not_understood(blobs, entries, error, message):
    with pytest.raises(error, match=message):
        compared(entries, blobs[0])


def test_a_fitted_model_may_have_seen_the_data(configs, random_models, blobs):
    with pytest.raises(ValueError, match="test: got None, but 'b' is fitted already, and may have seen"):
        compared({"a": configs["one"], "b": random_models["b"]}, blobs[0])


def test_other_errors_come_before_any_training(configs, blobs, monkeypatch):
    monkeypatch.setattr(MODULE, "fit_source", lambda *args, **options: pytest.fail("it has begun"))
    with pytest.raises(ValueError, match="num_particles: got 0, expected an integer of at least 1"):
        compared(configs, blobs[0], num_particles=0)
    with pytest.raises(ValueError, match=r"test_fraction: got 1\.0, expected a number in \(0, 1\)"):
        compared(configs, blobs[0], test_fraction=1.0)


def test_an_unknown_name(comparison):
    with pytest.raises(KeyError, match="'three'; the names are 'two facets', 'one'"):
        comparison["three"]


def test_a_configuration_that_diverges_is_named(configs, blobs, monkeypatch):
    def diverges(*args, **options):
        raise FloatingPointError("training diverged: the loss is nan")

    monkeypatch.setattr(MODULE, "fit_source", diverges)
    with pytest.raises(FloatingPointError, match=r"entries\['two facets'\]: training diverged"):
        compared(configs, blobs[0])


# --- the options of fit ---------------------------------------------------------------------------


def test_missing_data_are_compared(make_config, blobs):
    x = blobs[0].copy()
    x[::7, 1] = np.nan
    config = make_config(J=1, K=3, likelihood=Gaussian(0.2, missing=True), epochs=2)
    comparison = compared({"missing": config}, x)
    assert np.isfinite(comparison["missing"].log_likelihood).all()
    assert np.isfinite(compared({"missing": config}, x[:200], test=x[200:])["missing"].elbo).all()
    with pytest.raises(ValueError, match="dataset: got NaN or infinity"):
        compared({"complete": make_config(J=1, K=3, epochs=2)}, x)


def test_data_are_streamed(make_config, blobs, tmp_path):
    np.save(tmp_path / "x.npy", blobs[0])
    config = make_config(J=1, K=3, likelihood=Gaussian(0.2), epochs=2)
    comparison = compared({"a": config}, tmp_path / "x.npy", in_memory=False)
    assert comparison.num_data == 60
    assert np.isfinite(comparison["a"].elbo).all()


def test_the_best_of_restarts_is_compared(make_config, blobs):
    config = make_config(J=1, K=3, likelihood=Gaussian(0.2), epochs=2)
    comparison = compared({"a": config}, blobs[0], seeds=[4], restarts=3)
    (best,) = comparison["a"].fits
    assert list(best.restarts) == [4, 5, 6]
    assert best.restarts[best.seed].score == max(run.score for run in best.restarts.values())
    with pytest.raises(ValueError, match="restarts: got 2 with 2 seeds, expected the first one only"):
        compared({"a": config}, blobs[0], seeds=[0, 1], restarts=2)


def test_configurations_have_checkpoints_of_their_own(make_config, blobs, tmp_path):
    config = make_config(J=1, K=3, likelihood=Gaussian(0.2), epochs=2)
    names = ["K = 3", "../up/and away"]
    first = compared(dict.fromkeys(names, config), blobs[0], seeds=[0, 1], checkpoint_dir=tmp_path)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.checkpoint"))
    folders = ("..%2Fup%2Fand away", "K %3D 3")
    assert files == [f"{folder}/seed_{i}.checkpoint" for folder in folders for i in (0, 1)]
    again = compared({names[0]: config}, blobs[0], seeds=[0, 1], checkpoint_dir=tmp_path)
    np.testing.assert_array_equal(again[names[0]].elbo, first[names[0]].elbo)


def test_steps_are_compiled_on_request(make_config, blobs):
    with pytest.raises(ValueError, match="compile: got 'always', expected one of"):
        compared({"a": make_config()}, blobs[0], compile="always")
