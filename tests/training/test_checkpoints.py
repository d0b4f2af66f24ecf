"""Training that is interrupted and goes on is training without interruption."""

import copy
import dataclasses
import warnings

import numpy as np
import pytest
import torch

from pyro_mfcvae import MFCVAE, Facet, FittedMFCVAE, MFCVAEConfig, Schedule, fit, priors
from pyro_mfcvae.networks import FullyConnectedLadder
from pyro_mfcvae.training import DeadClustersWarning, Trainer, checkpoints
from pyro_mfcvae.training.callbacks import as_callback
from pyro_mfcvae.training.checkpoints import Checkpoint, CheckpointWarning
from pyro_mfcvae.training.monitor import Monitor
from pyro_mfcvae.training.step import Stepper

N = 96


class Interrupted(Exception):  # noqa: N818
    """As if the machine had gone down."""


@pytest.fixture
def x():
    return torch.randn(N, 6, generator=torch.Generator().manual_seed(0))


def make_config(J=2, prior="diagonal_gaussian", patience=None, **stage):
    defaults = {"epochs": 4, "warm_up_epochs": 2, "batch_size": 32, "fade_in_steps": 4}
    stages = Schedule.progressive(J, **{**defaults, **stage}).stages
    return MFCVAEConfig(
        facets=tuple(Facet(3, 2, prior) for _ in range(J)),
        likelihood="gaussian",
        network=FullyConnectedLadder((8,) * J, dropout=0.1, batch_norm=True),
        schedule=Schedule([dataclasses.replace(s, patience=patience) for s in stages], held_out=0.25),
        data_init=True,
    )


def run(x, config, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeadClustersWarning)
        return fit(x, config, **{"progress": False, "workers": 1, **options})


def interrupt(monkeypatch, after):
    """Raise at the end of the epoch after so many."""
    epochs, record = [], Monitor.record

    def spy(self, **fields):
        if len(epochs) == after:
            raise Interrupted
        epochs.append(self)
        return record(self, **fields)

    monkeypatch.setattr(Monitor, "record", spy)


def run_until(monkeypatch, after, *arguments, **options):
    with monkeypatch.context() as patch:
        interrupt(patch, after)
        with pytest.raises(Interrupted):
            run(*arguments, **options)


def assert_same(fitted, expected):
    state, others = fitted.model.state_dict(), expected.model.state_dict()
    assert state.keys() == others.keys()
    assert all(torch.equal(state[name], others[name]) for name in state)
    for record, other in zip(fitted.history, expected.history, strict=True):
        values, others = vars(record) | {"seconds": 0}, vars(other) | {"seconds": 0}
        assert values == others
    seconds = [record.seconds for record in fitted.history]
    assert seconds == sorted(seconds)


@pytest.mark.portable
@pytest.mark.parametrize("after", range(9))
def test_goes_on_bit_for_bit(x, after, monkeypatch, tmp_path):
    """From every epoch: in the warm-up, at its end, between stages, and when all is done."""
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    config = make_config()
    expected = run(x, config)
    with monkeypatch.context() as patch:
        interrupt(patch, after)
        if after < 8:
            with pytest.raises(Interrupted):
                run(x, config, checkpoint_dir=tmp_path)
        else:
            assert_same(run(x, config, checkpoint_dir=tmp_path), expected)
    trained = []
    step = Stepper.__call__
    monkeypatch.setattr(Stepper, "__call__", lambda self, *batch: (trained.append(1), step(self, *batch))[1])
    torch.manual_seed(after)  # of the caller, and none of fit's business
    assert_same(run(x, config, checkpoint_dir=tmp_path), expected)
    assert len(trained) == (8 - after) * (72 // 32)
    assert [path.name for path in tmp_path.iterdir()] == ["seed_0.checkpoint"]


def test_with_a_nuisance(x, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    network = FullyConnectedLadder((8, 8))
    config = dataclasses.replace(make_config(J=1), nuisance=2, network=network)
    expected = run(x, config)
    run_until(monkeypatch, 3, x, config, checkpoint_dir=tmp_path)
    assert_same(run(x, config, checkpoint_dir=tmp_path), expected)


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop", "sgd"])
@pytest.mark.parametrize("prior", ["student_t", "vamp", "bayesian_gaussian"])
def test_of_every_kind(x, optimizer, prior, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    config = make_config(J=1, prior=prior, optimizer=optimizer, learning_rate=1e-3)
    expected = run(x, config)
    run_until(monkeypatch, 3, x, config, checkpoint_dir=tmp_path)
    assert_same(run(x, config, checkpoint_dir=tmp_path), expected)


def test_patience_goes_on_as_well(x, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    config = make_config(J=1, epochs=40, patience=2, fade_in_steps=0, learning_rate=0.03)
    expected = run(x, config)
    assert 6 < len(expected.history) < 40
    for after in (len(expected.history) - 1, len(expected.history)):
        with monkeypatch.context() as patch:
            interrupt(patch, after)
            folder = tmp_path / str(after)
            try:
                run(x, config, checkpoint_dir=folder)
            except Interrupted:
                assert after < len(expected.history)
        assert_same(run(x, config, checkpoint_dir=folder), expected)


def test_several_seeds_have_a_file_each(x, tmp_path):
    config = make_config(J=1)
    folder = tmp_path / "new" / "folder"
    runs = run(x, config, seeds=(0, 5), checkpoint_dir=folder)
    assert sorted(path.name for path in folder.iterdir()) == ["seed_0.checkpoint", "seed_5.checkpoint"]
    for fitted, expected in zip(run(x, config, seeds=(0, 5), checkpoint_dir=folder), runs, strict=True):
        assert_same(fitted, expected)


def test_it_is_written_once_a_minute_and_at_the_end_of_a_stage(x, monkeypatch, tmp_path):
    written = []
    monkeypatch.setattr(checkpoints, "write_tensors", lambda path, kind, header, _: written.append(header))
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    record = Monitor.record

    def slowly(self, **fields):
        now[0] += 25.0
        return record(self, **fields)

    monkeypatch.setattr(Monitor, "record", slowly)
    run(x, make_config(), checkpoint_dir=tmp_path)
    stages = [header["state"]["stage"] for header in written]
    assert [(stage["index"], stage["epoch"], stage["is_over"]) for stage in stages] == [
        (0, 3, False),
        (0, 4, True),
        (1, 3, False),
        (1, 4, True),
    ]


def test_a_prior_of_ones_own(x, monkeypatch, tmp_path):
    """Whose factory JSON does not know."""
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    config = make_config(J=1, prior=lambda K, D: priors.LaplaceMixture(K, D))
    expected = run(x, config)
    run_until(monkeypatch, 1, x, config, checkpoint_dir=tmp_path)
    assert_same(run(x, config, checkpoint_dir=tmp_path), expected)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"config": make_config(J=1, epochs=5)}, "configuration"),
        ({"precision": "bfloat16"}, r"precision \(float32, here bfloat16\)"),
        ({"x": torch.zeros(N, 6)}, "data"),
        ({"x": torch.zeros(N + 2, 6)}, r"number of data \(96, here 98\), data"),
    ],
)
def test_another_run(x, change, what, tmp_path):
    arguments = {"x": x, "config": make_config(J=1), "precision": "float32"}
    run(**arguments, checkpoint_dir=tmp_path)
    before = (tmp_path / "seed_0.checkpoint").read_bytes()
    with pytest.raises(
        ValueError, match=rf"checkpoint_dir: .*seed_0.checkpoint is of a run that differs in {what};"
    ):
        run(**{**arguments, **change}, checkpoint_dir=tmp_path)
    assert (tmp_path / "seed_0.checkpoint").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_broken_file(x, content, tmp_path):
    path = tmp_path / "seed_0.checkpoint"
    config = make_config(J=1)
    if content is None:
        run(x, config).save(path)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint_dir: .* is not a whole checkpoint .*delete it"):
        run(x, config, checkpoint_dir=tmp_path)


def test_another_version(x, monkeypatch, tmp_path):
    run(x, make_config(J=1), checkpoint_dir=tmp_path)
    monkeypatch.setattr(checkpoints, "VERSION", 4)
    with pytest.raises(ValueError, match=r"not a whole checkpoint \(version 3, expected 4\); delete it"):
        run(x, make_config(J=1), checkpoint_dir=tmp_path)


def test_a_file_in_the_way(x, tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    for folder in (path, path / "below"):
        with pytest.raises(ValueError, match=r"checkpoint_dir: got '.*', where a file is in the way"):
            run(x, make_config(J=1), checkpoint_dir=folder)


def test_nothing_is_left_of_a_checkpoint_that_could_not_be_written(x, monkeypatch, tmp_path):
    def fail(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr("pyro_mfcvae._utils.tensors.save", fail)
    with pytest.warns(CheckpointWarning, match="could not be written .*no space.* the run goes on"):
        fitted = run(x, make_config(J=1), checkpoint_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert_same(fitted, run(x, make_config(J=1)))


def test_a_finished_run_predicts(x, tmp_path):
    config = make_config()
    expected = run(x, config, checkpoint_dir=tmp_path)
    again = run(x, config, checkpoint_dir=tmp_path)
    assert isinstance(again, FittedMFCVAE)
    np.testing.assert_array_equal(again.predict(x), expected.predict(x))
    assert Checkpoint(tmp_path / "other", {}).read() is None


def test_a_trainer_goes_on_from_its_state(x):
    """Without a file: the state is plain data, and another trainer takes it over."""
    config = make_config()
    torch.manual_seed(3)
    first = Trainer(MFCVAE(config, (6,)), x, seed=3)
    states = []
    first.callbacks.append(
        as_callback(lambda trainer, record: states.append(copy.deepcopy(trainer.state_dict())))
    )
    first.run(progress=False)
    assert len(states) == 8
    for state in states:
        second = Trainer(MFCVAE(config, (6,)), x, seed=3)
        second.load_state_dict(state)
        assert len(second.history) == len(state["history"])
        second.run(progress=False)
        for name, value in first.model.state_dict().items():
            assert torch.equal(value, second.model.state_dict()[name]), name
        losses = [[record.loss for record in trainer.history] for trainer in (first, second)]
        assert losses[0] == losses[1]
