import csv
import logging
import pickle
import sys
import types

import numpy as np
import pandas as pd
import pytest
import torch

import pyro_mfcvae as mf
from pyro_mfcvae import Facet, Schedule, presets
from pyro_mfcvae.training.callbacks import Callback, CSVLogger, TensorBoard, as_row

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
TWO_STAGES = presets.tabular(facets=(Facet(3, 2), Facet(2, 2)), schedule=Schedule.progressive(2, epochs=2))
UNMIXED = presets.tabular(facets=(Facet(3, 2), Facet(2, 2)), schedule=Schedule.unmixed(2, steps=(4, 3)))

pytestmark = pytest.mark.filterwarnings(
    "ignore::pyro_mfcvae.training.UnmixingWarning", "ignore::pyro_mfcvae.training.DeadClustersWarning"
)


def fit(config=TWO_STAGES, **options):
    return mf.fit(X, config, progress=False, **options)


class Diary(Callback):
    """Writes down what it is called for."""

    def __init__(self, stop_at=None):
        self.entries, self.stop_at = [], stop_at

    def on_stage_begin(self, trainer):
        self.entries.append(("stage", trainer.stage.index))

    def on_epoch_end(self, trainer, record):
        assert trainer.history[-1] is record
        self.entries.append(("epoch", record.stage, record.epoch))
        if len(trainer.history) == self.stop_at:
            trainer.stop()

    def on_run_end(self, trainer):
        self.entries.append(("end", trainer.steps))


def weights(fitted):
    return torch.cat([p.detach().flatten() for p in fitted.model.parameters()])


def test_they_are_called_in_order():
    diary, losses = Diary(), []
    fitted = fit(callbacks=[diary, lambda trainer, record: losses.append(record.loss)])
    epochs = [[("stage", s), ("epoch", s, 0), ("epoch", s, 1)] for s in (0, 1)]
    assert diary.entries == [*epochs[0], *epochs[1], ("end", 4)]
    assert losses == [record.loss for record in fitted.history]


def test_training_is_the_same_with_them():
    assert weights(fit(callbacks=[Diary()])).equal(weights(fit()))


def test_one_of_them_may_stop_the_run():
    diary = Diary(stop_at=3)
    fitted = fit(callbacks=[diary])
    assert [(record.stage, record.epoch) for record in fitted.history] == [(0, 0), (0, 1), (1, 0)]
    assert diary.entries[-2:] == [("epoch", 1, 0), ("end", 3)]
    assert fitted.predict(X).shape == (60, 2)
    assert not fitted.model.training


def test_a_run_that_is_stopped_before_it_unmixes_has_the_facets_that_it_began_with():
    fitted = fit(UNMIXED, callbacks=[Diary(stop_at=2)])
    assert len(fitted.history) == 2
    assert fitted.history.unmixing is None
    assert fitted.config == UNMIXED
    assert fit(UNMIXED, callbacks=[Diary()]).history.unmixing is not None


def test_the_same_call_goes_on_after_a_stop(tmp_path):
    whole = fit()
    stopped = fit(checkpoint_dir=tmp_path, callbacks=[Diary(stop_at=1)])
    assert len(stopped.history) == 1
    diary = Diary()
    resumed = fit(checkpoint_dir=tmp_path, callbacks=[diary])
    assert diary.entries[:2] == [("stage", 0), ("epoch", 0, 1)]
    assert weights(resumed).equal(weights(whole))
    assert len(resumed.history) == 4


def test_what_they_raise_comes_with_the_model():
    class PrunedError(Exception):
        pass

    def prune(trainer, record):
        if len(trainer.history) == 2:
            raise PrunedError("enough")

    with pytest.raises(PrunedError, match=r"^enough$") as error:
        fit(callbacks=[prune])
    assert len(error.value.fitted.history) == 2
    assert error.value.fitted.predict(X).shape == (60, 2)


def test_runs_of_this_process_share_them_and_others_have_copies():
    diary = Diary()
    fit(seeds=(0, 1), workers=1, callbacks=[diary])
    assert diary.entries.count(("end", 4)) == 2
    elsewhere = Diary()
    fit(seeds=(0, 1), workers=2, callbacks=[elsewhere])
    assert elsewhere.entries == []


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (Diary, r"^callbacks: got <class .*Diary'>, expected a Callback or a function .*; call it$"),
        (
            3,
            r"^callbacks: got 3, expected a Callback or a function of a trainer and a record; give",
        ),
    ],
)
def test_what_is_no_callback(callback, message):
    with pytest.raises(TypeError, match=message):
        fit(callbacks=[callback])


@pytest.mark.parametrize("config", [TWO_STAGES, UNMIXED], ids=["ladder", "unmixed"])
def test_a_row_of_each_epoch(tmp_path, config):
    path = tmp_path / "history_{seed}.csv"
    runs = fit(config, seeds=(0, 3), workers=1, callbacks=[CSVLogger(path)])
    for seed, fitted in zip(runs.seeds, runs, strict=True):
        with open(tmp_path / f"history_{seed}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [float(row["loss"]) for row in rows] == [record.loss for record in fitted.history]
        assert [row["alive_1"] for row in rows] == [str(record.alive[1]) for record in fitted.history]
        table = fitted.history.to_pandas()
        assert list(rows[0]) == list(table.columns)


def test_a_run_that_goes_on_has_each_epoch_once(tmp_path):
    log = tmp_path / "history.csv"
    fit(checkpoint_dir=tmp_path / "kept", callbacks=[Diary(stop_at=2), CSVLogger(log)])
    assert len(pd.read_csv(log)) == 2
    resumed = fit(checkpoint_dir=tmp_path / "kept", callbacks=[CSVLogger(log)])
    pd.testing.assert_frame_equal(pd.read_csv(log), resumed.history.to_pandas(), check_names=False)


def test_processes_write_files_of_their_own(tmp_path):
    runs = fit(seeds=(0, 1), workers=2, callbacks=[CSVLogger(tmp_path / "{seed}.csv")])
    for seed, fitted in zip(runs.seeds, runs, strict=True):
        assert pd.read_csv(tmp_path / f"{seed}.csv")["loss"].tolist() == pytest.approx(
            [record.loss for record in fitted.history]
        )


def test_tensorboard(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    fitted = fit(seed=2, callbacks=[TensorBoard(tmp_path)])
    read = events.EventAccumulator(str(tmp_path / "seed_2")).Reload()
    scalars = read.Scalars("elbo")
    assert [each.step for each in scalars] == [record.steps for record in fitted.history]
    assert [each.value for each in scalars] == pytest.approx([record.elbo for record in fitted.history])
    pickle.dumps(TensorBoard(tmp_path))


def test_without_tensorboard_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"^callbacks: the package tensorboard is not installed; run pip"):
        fit(callbacks=[TensorBoard(tmp_path)])


def test_optuna_prunes():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial):
        def prune(trainer, record):
            trial.report(record.elbo, len(trainer.history))
            if trial.should_prune():
                raise optuna.TrialPruned

        return fit(seed=trial.number, callbacks=[prune]).score(X)

    pruner = optuna.pruners.ThresholdPruner(upper=-np.inf)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    study.optimize(objective, n_trials=2)
    assert {trial.state for trial in study.trials} == {optuna.trial.TrialState.PRUNED}


@pytest.mark.parametrize(("package", "name"), [("mlflow", "log_metrics"), ("wandb", "log")])
def test_recipes_of_loggers(monkeypatch, package, name):
    """With the module's interface alone, as the recipe uses it."""
    logged = []
    module = types.ModuleType(package)
    setattr(module, name, lambda row, step: logged.append((step, row["elbo"])))
    monkeypatch.setitem(sys.modules, package, module)
    fitted = fit(callbacks=[lambda _, record: getattr(module, name)(as_row(record), step=record.steps)])
    assert logged == [(record.steps, record.elbo) for record in fitted.history]


def test_a_live_plot():
    drawn = []
    fit(callbacks=[lambda trainer, _: drawn.append(trainer.finished_history().plot())])
    assert len(drawn) == 4


def test_the_logger_has_a_line_for_each_epoch(caplog):
    with caplog.at_level(logging.INFO):
        fit()
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("stage ")]
    assert len(lines) == 4
    assert lines[0].startswith("stage 1 of 2, epoch 1 of 2: loss ")
