"""What the paper's code does in training: mixtures before all, and one optimiser for all stages."""

import dataclasses

import numpy as np
import pytest
import torch

from pyro_mfcvae import MFCVAE, Schedule, Stage, fit
from pyro_mfcvae.priors import DiagonalGaussian, DiagonalGaussianMixture
from pyro_mfcvae.training import checkpoints, train
from pyro_mfcvae.training.monitor import Monitor
from pyro_mfcvae.training.optimizers import catch_up, make_optimizer
from pyro_mfcvae.training.step import Stepper

UNTRAINED = DiagonalGaussian(scale=0.1, initialization="untrained")


def data(n=100, D=6):
    return torch.rand(n, D, generator=torch.Generator().manual_seed(1))


def trained(config, seed=0):
    torch.manual_seed(seed)
    model = MFCVAE(config, (6,))
    history = train(model, data(), seed=seed, progress=False)
    return model.state_dict(), history


@pytest.mark.filterwarnings("ignore::pyro_mfcvae.training.DeadClustersWarning")
def test_mixtures_that_start_untrained_are_fitted_once_before_any_step_to_means(make_config, monkeypatch):
    events = []
    initialize, step = DiagonalGaussianMixture.initialize, Stepper.__call__

    def fitted(prior, embedding, seed):
        initialize(prior, embedding, seed)
        events.append((embedding, seed, prior.loc.detach().clone()))

    def stepped(self, x, weights, optimizer):
        events.append((weights.kl, model.facet_priors[0].loc.detach().clone()))
        return step(self, x, weights, optimizer)

    monkeypatch.setattr(DiagonalGaussianMixture, "initialize", fitted)
    monkeypatch.setattr(Stepper, "__call__", stepped)
    model = MFCVAE(make_config(J=2, D=(2, 3), prior=UNTRAINED, epochs=1), (6,))
    with torch.no_grad():
        means = [q.mean.numpy() for q in model.eval().encode(data())]
    train(model, data(), seed=5, progress=False)
    (first, seed, start), (second, _, _), *steps = events
    assert seed == 5
    for embedding, expected in zip((first, second), means, strict=True):
        np.testing.assert_allclose(np.sort(embedding, 0), np.sort(expected, 0), rtol=1e-5, atol=1e-7)
    assert len(steps) == 2 * (100 // 32)
    # Facet 0 waits for its stage, with the mixture that it was given.
    assert [kl for kl, _ in steps] == [(0.0, 1.0)] * 3 + [(1.0, 1.0)] * 3
    assert all(torch.equal(loc, start) for _, loc in steps[:4])
    assert not torch.equal(steps[4][1], start)


@pytest.mark.parametrize("stage", [{"warm_up_epochs": 1}, {"warm_up_steps": 2}])
def test_a_mixture_that_starts_untrained_has_no_warm_up(make_config, stage):
    config = make_config(J=2, prior=UNTRAINED)
    config = dataclasses.replace(config, schedule=Schedule.progressive(2, epochs=3, **stage))
    with pytest.raises(ValueError, match=r"^initialization: got 'untrained' for the facets \[1\] with a"):
        train(MFCVAE(config, (6,)), data(), seed=0, progress=False)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_two_stages_with_one_optimiser_are_one_stage(make_config, optimizer):
    def stages(*epochs, **schedule):
        first, *others = (
            Stage(introduces, n, 32, 1e-2, decay_after=1.0, optimizer=optimizer)
            for introduces, n in zip(((0, 1), ()), epochs, strict=False)
        )
        return make_config(J=2, schedule=Schedule((first, *others), **schedule))

    (expected, _), (kept, history), (renewed, _) = map(
        trained, (stages(4), stages(2, 2, keep_optimizer=True), stages(2, 2))
    )
    assert [record.stage for record in history] == [0, 0, 1, 1]
    assert all(torch.equal(kept[name], value) for name, value in expected.items())
    assert not torch.equal(renewed["priors.0.loc"], expected["priors.0.loc"])


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_what_was_frozen_goes_on_as_if_its_gradients_had_been_zero(name):
    def run(waits):
        p, frozen = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
        optimizer = make_optimizer(name, [p, frozen], 0.1)
        for step in range(6):
            p.grad = torch.arange(3.0) - step
            frozen.grad = torch.arange(3.0) + 1 if step > 3 else (None if waits else torch.zeros(3))
            if step == 4 and waits:
                catch_up(optimizer)
            optimizer.step()
        return frozen.detach(), p.detach()

    found, expected = run(waits=True), run(waits=False)
    if name != "adamw":  # whose decay of weights moves what has no gradient
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not torch.equal(found[0], torch.ones(3))


class Interrupted(Exception):  # noqa: N818
    """As if the machine had gone down."""


@pytest.mark.parametrize("after", [0, 1, 2, 3])
@pytest.mark.filterwarnings("ignore::pyro_mfcvae.training.DeadClustersWarning")
def test_it_goes_on_bit_for_bit(make_config, after, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    schedule = Schedule.progressive(2, epochs=2, batch_size=32, fade_in_steps=4)
    schedule = dataclasses.replace(schedule, keep_optimizer=True)
    config = make_config(J=2, prior=UNTRAINED, schedule=schedule, likelihood="gaussian")
    expected = fit(data(), config, progress=False).model.state_dict()
    epochs, record = [], Monitor.record

    def interrupting(self, **fields):
        if len(epochs) == after:
            raise Interrupted
        epochs.append(1)
        return record(self, **fields)

    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "record", interrupting)
        with pytest.raises(Interrupted):
            fit(data(), config, progress=False, checkpoint_dir=tmp_path)
    found = fit(data(), config, progress=False, checkpoint_dir=tmp_path).model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
