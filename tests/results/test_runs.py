"""Several runs: what they return, that each is the run of its seed alone, and how they fail."""

import dataclasses
import itertools
import json
import os
import random
import sys
import threading

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

import pyro_mfcvae as mf
from pyro_mfcvae import FittedRuns, fit, load
from pyro_mfcvae._utils.tensors import read_tensors, write_tensors
from pyro_mfcvae.data.sources import HELD_OUT_SEED, InMemory
from pyro_mfcvae.fitting import parallel
from pyro_mfcvae.likelihoods import Gaussian
from pyro_mfcvae.networks import FullyConnectedAdditive
from pyro_mfcvae.results.choosing import Figures, RunScore

OPTIONS = {"device": "cpu", "precision": "float32", "progress": False}


def sequential(x, config, **options):
    return fit(x, config, **{"workers": 1, **OPTIONS, **options})


def diverging(*seeds):
    """A factory with which these seeds diverge; a closure, which plain pickle would refuse."""

    def factory(x_shape):
        if torch.initial_seed() in seeds:
            raise FloatingPointError("training diverged: the loss is nan")
        return Gaussian(0.3)(x_shape)

    return factory


def assert_same(a, b):
    """Bit for bit, and in all but the time it took."""
    assert a.seed == b.seed
    state = b.model.state_dict()
    assert a.model.state_dict().keys() == state.keys()
    for name, value in a.model.state_dict().items():
        assert torch.equal(value, state[name]), name
    for first, second in zip(a.history, b.history, strict=True):
        assert {**vars(first), "seconds": 0} == {**vars(second), "seconds": 0}


@pytest.fixture(scope="module")
def config(make_config):
    return make_config(J=2, K=(4, 3), likelihood=Gaussian(0.3))


@pytest.fixture(scope="module")
def runs(blobs, config):
    return sequential(blobs[0], config, seeds=(4, 0, 2))


@pytest.fixture(scope="module")
def random_runs(make_model):
    """Not trained, but with clusters that agree somewhat."""
    models = [make_model(J=2, K=(4, 3), seed=seed) for seed in (4, 0, 2)]
    return FittedRuns([mf.FittedMFCVAE(model, []) for model in models], (4, 0, 2), (-2.0, -1.0, -3.0))


# --- what they are ------------------------------------------------------------------------------


def test_a_run_is_that_of_its_seed_alone(runs, blobs, config):
    assert isinstance(runs, FittedRuns)
    assert runs.seeds == (4, 0, 2)
    assert [fitted.seed for fitted in runs] == [4, 0, 2]
    assert runs.diverged == ()
    for fitted in runs:
        assert_same(fitted, fit(blobs[0], config, seed=fitted.seed, **OPTIONS))
    assert not torch.equal(*(fitted.model.facet_priors[0].loc for fitted in runs[:2]))


def test_runs_are_a_sequence(runs):
    assert len(runs) == 3
    assert list(runs) == [runs[0], runs[1], runs[-1]]
    assert runs[1] in runs
    some = runs[:2]
    assert isinstance(some, FittedRuns)
    assert (some.seeds, some.scores) == ((4, 0), runs.scores[:2])
    with pytest.raises(IndexError):
        runs[3]


def test_a_slice_has_what_is_its_own(runs):
    whole = FittedRuns(runs, runs.seeds, runs.scores, diverged=(7,))
    assert whole[:2].diverged == ()  # nobody knows where seed 7 would have been
    none = whole[3:]
    assert isinstance(none, FittedRuns)
    assert (len(none), none.seeds, none.scores, none.diverged) == (0, (), (), ())
    assert repr(none) == "FittedRuns(0 runs)"
    assert "there is no run" in str(none)
    for ask in (lambda: none.best, lambda: none.evaluate(np.zeros((3, 6)), [0, 1, 0])):
        with pytest.raises(ValueError, match="runs: got none, expected at least one"):
            ask()
    with pytest.raises(ValueError, match="agreement: got 0 runs, expected at least 2"):
        none.agreement(np.zeros((3, 6)))


@pytest.mark.portable
def test_processes_give_the_bits_of_one_thread(blobs, make_config):
    """All that needs other processes, since they take seconds to start."""
    config = make_config(J=2, K=(4, 3), likelihood=diverging(3))
    x = np.tile(blobs[0], (1, 200))  # beyond a megabyte: mapped, not copied
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        environment, state = dict(os.environ), torch.get_rng_state()
        with pytest.warns(RuntimeWarning, match="seed 3 is left out: training diverged"):
            runs = fit(x, config, seeds=(3, 1, 0), workers=2, **OPTIONS)
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.get_rng_state(), state)
        assert dict(os.environ) == environment
        torch.set_num_threads(1)
        alone = sequential(x, config, seeds=(1, 0))
    finally:
        torch.set_num_threads(before)
    assert (runs.seeds, runs.diverged) == ((1, 0), (3,))
    assert runs.scores == alone.scores
    for fitted, expected in zip(runs, alone, strict=True):
        assert_same(fitted, expected)
        assert fitted.model.config is config
    np.testing.assert_array_equal(runs.best.predict(x[:9]), alone.best.predict(x[:9]))

    lock = threading.Lock()
    unwilling = make_config(J=1, likelihood=lambda x_shape: lock and Gaussian()(x_shape))
    assert len(sequential(blobs[0], unwilling, seeds=(0, 1))) == 2
    with pytest.raises(
        ValueError, match=r"workers: the configuration or the data set cannot be passed to 2 .*workers=1"
    ):
        fit(blobs[0], unwilling, seeds=(0, 1), workers=2, **OPTIONS)


# --- which is best ------------------------------------------------------------------------------


def test_scores_are_the_mean_elbo_of_one_sample(runs, blobs, config, monkeypatch):
    for fitted, score in zip(runs, runs.scores, strict=True):
        draws = [fitted.score(blobs[0], seed=draw) for draw in range(100, 110)]
        assert score == pytest.approx(np.mean(draws), abs=4 * np.std(draws) + 1e-3)
    monkeypatch.setattr(parallel, "SCORE_SIZE", 40)
    monkeypatch.setattr(parallel, "SCORE_DRAWS", 2)
    seen = []
    score = mf.FittedMFCVAE.score
    monkeypatch.setattr(
        mf.FittedMFCVAE, "score", lambda self, x, seed: (seen.append((x, seed)), score(self, x, seed=seed))[1]
    )
    some = sequential(blobs[0], config, seeds=(4, 0))
    assert [seed for _, seed in seen] == [0, 1, 0, 1]
    assert all(len(x) == 40 and torch.equal(x, seen[0][0]) for x, _ in seen)
    assert some.scores[1] == np.mean([score(some[1], seen[0][0], seed=draw) for draw in (0, 1)])


def test_the_elbo_is_that_of_held_out_data(blobs, make_config):
    """Of those that no run has seen: the same for all seeds."""
    x = blobs[0]
    config = make_config(J=2, K=(4, 3), likelihood=Gaussian(0.3))
    config = dataclasses.replace(config, schedule=dataclasses.replace(config.schedule, held_out=0.2))
    runs = sequential(x, config, seeds=(4, 0))
    _, rows = InMemory(torch.from_numpy(x)).hold_out(0.2, HELD_OUT_SEED)
    for fitted, score in zip(runs, runs.scores, strict=True):
        assert score == np.mean([fitted.score(rows, seed=draw) for draw in range(parallel.SCORE_DRAWS)])
        last = fitted.history[-1].held_out_elbo
        draws = [fitted.score(rows, seed=draw) for draw in range(100, 110)]
        assert last == pytest.approx(np.mean(draws), abs=6 * np.std(draws) + 1e-3)


def test_figures_are_those_of_the_metrics(runs, blobs):
    """With fewer data than the sample has, they are those of all data."""
    x = blobs[0]
    clusters = [fitted.predict(x) for fitted in runs]
    for r, (seed, run) in enumerate(runs.restarts.items()):
        assert (seed, run.elbo) == (runs.seeds[r], runs.scores[r])
        matched = [
            max(
                np.mean([adjusted_rand_score(clusters[r][:, j], other[:, k]) for j, k in enumerate(order)])
                for order in itertools.permutations(range(2))
            )
            for s, other in enumerate(clusters)
            if s != r
        ]
        assert run.agreement == pytest.approx(np.mean(matched))
        shared = adjusted_mutual_info_score(*clusters[r].T)
        assert run.redundancy == pytest.approx(shared, abs=1e-12)
        sharp = [mf.metrics.sharpness(r_j) for r_j in runs[r].predict_proba(x)]
        assert run.sharpness == pytest.approx(np.mean(sharp), abs=1e-6)
        assert run.score == run.sharpness - run.redundancy


def figures(agreement, sharpness, redundancy):
    return Figures(np.array(agreement), np.array(sharpness), np.array(redundancy))


def test_the_best_has_the_highest_score(runs):
    assert runs.best is runs[int(np.argmax([run.score for run in runs.restarts.values()]))]

    def best(sharpness, redundancy):
        R = len(sharpness)
        found = figures(np.full((R, R), 0.5), sharpness, redundancy)
        chosen = FittedRuns(runs[:R], (4, 0, 2)[:R], (-3.0, -1.0, -2.0)[:R], figures=found)
        assert f"best, by sharpness - redundancy: seed {chosen.best.seed}" in str(chosen)
        return chosen.best.seed

    assert best([0.9, 0.8, 0.8], [0.0, 0.0, 0.0]) == 4
    assert best([0.9, 0.7, 0.8], [0.2, 0.0, 0.0]) == 2
    assert best([0.9, 0.9, 0.9], [0.1, 0.1, 0.1]) == 0  # of equal ones that with the higher ELBO
    assert best([0.9, 0.8], [0.0, 0.0]) == 4
    assert best([0.9], [0.0]) == 4


def test_the_best_of_runs_that_were_not_compared(runs):
    unknown = FittedRuns(list(runs), (4, 0, 2), (-3.0, -1.0, -2.0))
    assert unknown.best is runs[1]
    assert "best, by ELBO: seed 0" in str(unknown)
    assert "sharpness" not in str(unknown)
    two = figures(np.eye(2), [0.9, 0.8], [0.0, 0.0])
    with pytest.raises(ValueError, match="figures: got that of 2 models, expected that of 3"):
        FittedRuns(list(runs), (4, 0, 2), (-3.0, -1.0, -2.0), figures=two)


def test_a_slice_is_compared_within_itself(runs):
    three = figures([[1, 0.2, 0.8], [0.2, 1, 0.4], [0.8, 0.4, 1]], [0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    runs = FittedRuns(list(runs), (4, 0, 2), (-3.0, -1.0, -2.0), figures=three)
    assert list(runs[1:].restarts.values()) == [RunScore(-1.0, 0.4, 0.2, 0.5), RunScore(-2.0, 0.4, 0.3, 0.6)]
    assert list(runs[::-2].restarts) == [2, 4]
    assert runs[::-2].restarts[4] == RunScore(-3.0, 0.8, 0.1, 0.4)


def test_restarts_keep_the_best(blobs, config):
    best = sequential(blobs[0], config, seed=3, restarts=3)
    runs = sequential(blobs[0], config, seeds=range(3, 6))
    assert best.restarts == runs.restarts
    assert [run.elbo for run in best.restarts.values()] == list(runs.scores)
    assert best.seed == max(best.restarts, key=lambda seed: best.restarts[seed].score)
    assert_same(best, runs.best)
    assert runs.best.restarts == {}
    assert list(sequential(blobs[0], config, restarts=1).restarts) == [0]


def test_labels_have_no_part_in_it(blobs, config):
    x, y = blobs
    a, b = (sequential(data, config, restarts=2) for data in (x, (x, y)))
    assert a.restarts == b.restarts
    assert_same(a, b)


# --- what they say together ---------------------------------------------------------------------


def test_agreement(random_runs, blobs):
    x = 30 * (blobs[0] - 0.5)
    agreement = random_runs.agreement(x)
    clusters = [fitted.predict(x) for fitted in random_runs]
    for j in range(2):
        pairs = [adjusted_rand_score(a[:, j], b[:, j]) for a, b in itertools.combinations(clusters, 2)]
        np.testing.assert_allclose(agreement.pairs[j], pairs)
        assert agreement.mean[j] == pytest.approx(np.mean(pairs))
        assert agreement.sd[j] == pytest.approx(np.std(pairs, ddof=1))
        line = str(agreement).splitlines()[1 + j].split()
        assert line[:4] == [str(j), f"{np.mean(pairs):z.3f}", "+-", f"{np.std(pairs, ddof=1):.3f}"]
        assert 0.005 < agreement.mean[j] < 0.98
    assert agreement.matrices.shape == (2, 3, 3)
    np.testing.assert_array_equal(agreement.matrices, agreement.matrices.transpose(0, 2, 1))
    np.testing.assert_array_equal(agreement.matrices[:, range(3), range(3)], 1)
    assert "3 pairs of 3 runs (seeds 4, 0, 2)" in str(agreement)
    np.testing.assert_array_equal(agreement.facets, [[0, 1]] * 3)  # a ladder's facets have an order
    assert "matched" not in str(agreement)
    z = [np.concatenate(fitted.transform(x), 1) for fitted in random_runs]
    r2 = [[mf.metrics.affine_r2(a, b) for b in z] for a in z]
    np.testing.assert_allclose(agreement.affine_r2, r2)
    assert 0.05 < r2[0][1] < 0.999
    assert agreement._repr_html_().startswith("<table>")


def test_agreement_of_a_pair(runs, blobs):
    same = FittedRuns([runs[0], runs[0]], (4, 4), (0.0, 0.0)).agreement(blobs[0])
    np.testing.assert_array_equal(same.mean, [1, 1])
    assert np.isnan(same.sd).all()
    assert "1 pair of 2 runs" in str(same)
    np.testing.assert_allclose(same.affine_r2, 1)
    assert "affine R^2 1.000" in str(same)
    with pytest.raises(ValueError, match="agreement: got 1 runs, expected at least 2"):
        runs[:1].agreement(blobs[0])


def additive(make_model, J, seed, order=None):
    """A model without an order of facets, and with those of another in another order."""
    network = FullyConnectedAdditive(widths=(8,))
    model = make_model(J=J, K=(4, 3, 2)[:J], D=2, seed=seed, network=network)
    if order is None:
        return mf.FittedMFCVAE(model, [])
    K = [(4, 3, 2)[j] for j in order]
    other = make_model(J=len(order), K=K, D=2, seed=seed + 1, network=network)
    with torch.no_grad():
        for here, there in enumerate(order):
            for ours, theirs in (
                (other.encoder.facet_modules, model.encoder.facet_modules),
                (other.facet_priors, model.facet_priors),
            ):
                ours[here].load_state_dict(theirs[there].state_dict())
    return mf.FittedMFCVAE(other, [])


def test_facets_without_an_order_are_matched(make_model):
    x = 5 * np.random.default_rng(0).normal(size=(300, 6))
    first, turned = additive(make_model, 3, 3), additive(make_model, 3, 3, (2, 0, 1))
    fewer = additive(make_model, 3, 3, (1, 0))
    agreement = FittedRuns([first, turned], (0, 1), (0.0, 0.0)).agreement(x)
    np.testing.assert_array_equal(agreement.facets, [[0, 1, 2], [1, 2, 0]])
    np.testing.assert_array_equal(agreement.mean, 1)
    np.testing.assert_allclose(agreement.affine_r2, 1)
    assert "facets matched between runs: seed 0: 0 1 2; seed 1: 1 2 0" in str(agreement)

    runs = FittedRuns([fewer, first, fewer], (0, 1, 2), (0.0, 0.0, 0.0))
    agreement = runs.agreement(x)
    np.testing.assert_array_equal(agreement.facets, [[1, 0, -1], [0, 1, 2], [1, 0, -1]])
    np.testing.assert_array_equal(agreement.matrices[:2], 1)
    np.testing.assert_array_equal(
        agreement.matrices[2], [[np.nan, 0, np.nan], [0, 1, 0], [np.nan, 0, np.nan]]
    )
    np.testing.assert_array_equal(agreement.mean, [1, 1, 0])
    assert "seed 0: 1 0 -; seed 1: 0 1 2" in str(agreement)
    assert "nan" not in str(agreement)
    with pytest.raises(ValueError, match="evaluate: got runs with 2, 3 facets, expected the same number"):
        runs.evaluate(x, np.zeros(300, int))


def test_the_nuisance_is_a_latent(blobs, make_model):
    """What moved from a facet to the nuisance is still known."""
    models = [make_model(J=2, nuisance=2, seed=seed) for seed in (0, 1)]
    runs = FittedRuns([mf.FittedMFCVAE(model, []) for model in models], (0, 1), (0.0, 0.0))
    z = [np.concatenate([*fitted.transform(blobs[0]), fitted.nuisance(blobs[0])], 1) for fitted in runs]
    assert runs.agreement(blobs[0]).affine_r2[0, 1] == pytest.approx(mf.metrics.affine_r2(*z))


def test_evaluation(random_runs, blobs):
    x, y = 30 * (blobs[0] - 0.5), blobs[1]
    table = random_runs.evaluate(x, y, names=["first", "second"])
    each = [fitted.evaluate(x, y, ["first", "second"]) for fitted in random_runs]
    for score in ("purity", "hungarian_accuracy", "nmi", "ari"):
        for j, (f, name) in itertools.product(range(2), enumerate(("first", "second"))):
            values = [evaluation.score(j, name, score) for evaluation in each]
            np.testing.assert_array_equal(table.scores[score][:, j, f], values)
            assert table.mean[score][j, f] == pytest.approx(np.mean(values))
            assert table.sd[score][j, f] == pytest.approx(np.std(values, ddof=1))
            assert f"{np.mean(values):z.3f} +- {np.std(values, ddof=1):.3f}" in str(table)
    assert "300 data; mean +- standard deviation over 3 runs (seeds 4, 0, 2)" in str(table)
    assert "of 4, facet 1 " in str(table)
    assert "<th>purity</th>" in table._repr_html_()


def test_one_run_has_no_deviation(runs, blobs):
    table = runs[:1].evaluate(*blobs)
    assert np.isnan(table.sd["nmi"]).all()
    assert "+-" not in str(table)
    assert "nan" not in str(table)
    assert "nan" not in str(runs[:1])


def test_runs_print(runs):
    best = runs.best.seed
    assert repr(runs) == f"FittedRuns(3 runs: seeds 4, 0, 2; the best is seed {best})"
    text = str(runs)
    for seed, run in runs.restarts.items():
        line = next(line.split() for line in text.splitlines() if line.split()[0] == str(seed))
        figures = (run.sharpness, run.redundancy, run.score, run.agreement)
        assert line[:6] == [str(seed), f"{run.elbo:.2f}", *(f"{value:z.3f}" for value in figures)]
    assert f"highest for seed {runs.seeds[int(np.argmax(runs.scores))]}" in text
    assert f"best, by sharpness - redundancy: seed {best}" in text
    assert "diverged" not in text
    for column in (
        "sharpness: 1 where",
        "redundancy: adjusted mutual information",
        "agreement: adjusted Rand",
    ):
        assert column in text
    assert "diverged, and left out: seeds 7" in str(FittedRuns([runs[0]], (4,), (0.0,), (7,)))
    assert "<td>4</td>" in runs._repr_html_()


def test_a_progress_bar_counts_the_runs(blobs, config, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    sequential(blobs[0], config, seeds=(0, 1), progress=True)
    shown = capsys.readouterr().err
    assert "2/2" in shown
    assert "best ELBO" in shown
    assert "step" not in shown


def test_nothing_global_is_changed(blobs, config):
    def state():
        legacy = np.random.get_state()[1].tolist()  # noqa: NPY002
        streams = random.getstate(), legacy, torch.get_rng_state().tolist()
        return streams, torch.get_num_threads(), torch.get_default_dtype(), dict(os.environ)

    before = state()
    sequential(blobs[0], config, seeds=(0, 1)).agreement(blobs[0])
    assert state() == before


# --- on disk ------------------------------------------------------------------------------------


def test_save_and_load(runs, blobs, tmp_path):
    runs = FittedRuns(list(runs), runs.seeds, runs.scores, (9,), runs.figures)
    runs.save(tmp_path / "a" / "b")
    again = FittedRuns.load(tmp_path / "a" / "b")
    assert (again.seeds, again.scores, again.diverged) == (runs.seeds, runs.scores, (9,))
    assert again.restarts == runs.restarts
    for a, b in zip(again, runs, strict=True):
        assert_same(a, b)
    best = load(tmp_path / f"a/b/seed_{runs.best.seed}.mfcvae")
    np.testing.assert_array_equal(best.predict(blobs[0]), runs.best.predict(blobs[0]))


def test_runs_and_restarts_of_earlier_versions_have_the_elbo_alone(runs, tmp_path):
    runs.save(tmp_path)
    index = json.loads((tmp_path / "runs.json").read_text())
    del index["figures"]
    (tmp_path / "runs.json").write_text(json.dumps(index))
    again = FittedRuns.load(tmp_path)
    assert again.scores == runs.scores
    assert again.best.seed == runs.seeds[int(np.argmax(runs.scores))]
    assert all(np.isnan(run.score) for run in again.restarts.values())

    best = runs[0]
    best.restarts = {4: RunScore(-1.0), 5: RunScore(-2.0, 0.5, 0.25, 0.125)}
    best.save(tmp_path / "best")
    header, state = read_tensors(tmp_path / "best", "pyro_mfcvae")
    assert header["restarts"] == {"4": -1.0, "5": -2.0}  # which earlier versions read
    loaded = load(tmp_path / "best").restarts
    assert loaded[5] == best.restarts[5]
    assert str(loaded[4]) == "ELBO -1.00 nats per datum"
    del header["figures"]
    write_tensors(tmp_path / "old", "pyro_mfcvae", header, state)
    assert {seed: run.elbo for seed, run in load(tmp_path / "old").restarts.items()} == {4: -1.0, 5: -2.0}
    best.restarts = {}


def test_load_refuses_other_folders(runs, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*runs\.json"):
        FittedRuns.load(tmp_path)
    runs.save(tmp_path)
    index = json.loads((tmp_path / "runs.json").read_text())
    (tmp_path / "seed_0.mfcvae").unlink()
    with pytest.raises(FileNotFoundError, match=r"seed_0\.mfcvae"):
        FittedRuns.load(tmp_path)
    for content in ("", "[]", "{}", json.dumps({**index, "version": 9}), json.dumps({**index, "scores": 3})):
        (tmp_path / "runs.json").write_text(content)
        with pytest.raises(ValueError, match=r"is not what FittedRuns\.save wrote"):
            FittedRuns.load(tmp_path)


# --- how they fail ------------------------------------------------------------------------------


def test_a_run_that_diverges_is_left_out(blobs, make_config):
    config = make_config(likelihood=diverging(1, 2))
    with pytest.warns(RuntimeWarning, match="seed [12] is left out: training diverged") as told:
        runs = sequential(blobs[0], config, seeds=range(4))
    ours = [warning for warning in told if warning.category is RuntimeWarning]
    assert [warning.filename for warning in ours] == [__file__] * 2
    assert (runs.seeds, runs.diverged) == ((0, 3), (1, 2))
    with pytest.warns(RuntimeWarning, match="seed 1 is left out"):
        assert list(sequential(blobs[0], config, restarts=2).restarts) == [0]
    with pytest.raises(FloatingPointError, match="all 2 runs diverged; seed 1: training diverged"):
        sequential(blobs[0], config, seeds=(1, 2))


def test_a_model_without_an_elbo_has_diverged(blobs, config, monkeypatch):
    monkeypatch.setattr(mf.FittedMFCVAE, "score", lambda *_, **__: float("nan"))
    with pytest.raises(FloatingPointError, match="the ELBO of the trained model is nan"):
        sequential(blobs[0], config, restarts=1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"seeds": []}, ValueError, r"seeds: got \[\], expected different integers"),
        ({"seeds": [1, 2, 1]}, ValueError, r"seeds: got \[1, 2, 1\], expected different integers"),
        ({"seeds": [0, -1]}, ValueError, "seeds: got -1, expected an integer from 0"),
        ({"seeds": [0, 2**32]}, ValueError, "seeds: got 4294967296, expected an integer from 0"),
        ({"seeds": [0, 1.5]}, TypeError, "seeds: got 1.5, expected an integer"),
        ({"seeds": "12"}, TypeError, "seeds: got '12', expected different integers"),
        ({"seeds": 3}, TypeError, "seeds: got 3, expected different integers .* restarts"),
        ({"seeds": [1], "seed": 0}, ValueError, "seed: got 0 together with seeds"),
        ({"seeds": [1], "restarts": 2}, ValueError, "restarts: got 2 together with seeds"),
        ({"restarts": 0}, ValueError, "restarts: got 0, expected an integer from 1 to 10000"),
        ({"restarts": True}, ValueError, "restarts: got True, expected an integer from 1 to 10000"),
        ({"restarts": 2.0}, ValueError, "restarts: got 2.0, expected an integer from 1 to 10000"),
        ({"restarts": 2, "seed": 2**32 - 1}, ValueError, "seed: got 4294967296, expected an integer from"),
        ({"seed": "a"}, TypeError, "seed: got 'a', expected an integer"),
        ({"seed": True}, TypeError, "seed: got True, expected an integer"),
        ({"seed": -1}, ValueError, "seed: got -1, expected an integer from 0"),
        ({"restarts": 2, "workers": 0}, ValueError, "workers: got 0, expected 'auto' or an integer"),
        ({"seeds": [1], "workers": "all"}, ValueError, "workers: got 'all', expected 'auto' or an integer"),
    ],
)
def test_bad_options_are_refused(blobs, config, options, error, message):
    with pytest.raises(error, match=message):
        fit(blobs[0], config, **OPTIONS, **options)


def test_integers_of_any_kind_are_seeds(blobs, config):
    assert parallel.as_seeds(np.arange(2)) == parallel.as_seeds(iter([0, 1])) == (0, 1)
    assert sequential(blobs[0], config, seeds={np.int64(5)}).seeds == (5,)
    assert len(sequential(blobs[0], config, restarts=np.int64(2)).restarts) == 2
    assert parallel.as_workers(np.int64(2), 3, torch.device("cpu")) == 2


def test_workers(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    assert [parallel.as_workers("auto", n, cpu) for n in (1, 3, 9)] == [1, 3, 4]
    assert [parallel.as_workers(8, n, cpu) for n in (1, 3, 9)] == [1, 3, 8]
    assert parallel.as_workers("auto", 9, cuda) == parallel.as_workers(1, 9, cuda) == 1
    with pytest.raises(ValueError, match="workers: got 2 with the device cuda"):
        parallel.as_workers(2, 9, cuda)


def test_an_interruption_ends_the_processes(blobs, config, monkeypatch):
    """Closing the generator is what ends them."""
    closed = []

    def outcomes(run, x, seeds, workers):
        try:
            yield seeds[0], parallel._outcome(run, x, seeds[0])
            raise KeyboardInterrupt
        finally:
            closed.append(workers)

    monkeypatch.setattr(parallel, "_outcomes", outcomes)
    with pytest.raises(KeyboardInterrupt):
        fit(blobs[0], config, seeds=(0, 1), workers=2, **OPTIONS)
    assert closed == [2]
