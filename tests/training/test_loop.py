import copy
import dataclasses
import fnmatch
import itertools
import math
import random
import sys
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_mfcvae import MFCVAE, Facet, MFCVAEConfig, Schedule, Stage, fit
from pyro_mfcvae.likelihoods import Gaussian
from pyro_mfcvae.model.objectives import OBJECTIVES
from pyro_mfcvae.networks import FullyConnectedLadder
from pyro_mfcvae.priors import DiagonalGaussianMixture
from pyro_mfcvae.training import DeadClustersWarning, DivergenceWarning, Trainer, train
from pyro_mfcvae.training.callbacks import as_callback
from pyro_mfcvae.training.monitor import Monitor
from pyro_mfcvae.training.optimizers import OPTIMIZERS, drop_vanished_moments
from pyro_mfcvae.training.step import Stepper
from pyro_mfcvae.training.warm_start import initialize_mixtures

N, BATCH = 100, 32
STEPS = N // BATCH  # of an epoch


def data(n=N, D=6):
    return torch.rand(n, D, generator=torch.Generator().manual_seed(1))


def trained(config, x=None, seed=0):
    """A model trained on the data, and what it was before."""
    x = data() if x is None else x
    torch.manual_seed(seed)
    model = MFCVAE(config, x.shape[1:])
    before = copy.deepcopy(model.state_dict())
    history = train(model, x, seed=seed, progress=False)
    return model, before, history


def noted_batches(monkeypatch):
    """All batches that are trained on from here on."""
    seen, step = [], Stepper.__call__
    monkeypatch.setattr(
        Stepper, "__call__", lambda self, x, *others: (seen.append(x), step(self, x, *others))[1]
    )
    return seen


def made_up(monkeypatch, elbos, states=None):
    """Let the ELBO of held-out data be these numbers, epoch by epoch."""
    record = Monitor.record

    def spy(self, **fields):
        if states is not None:
            states.append(copy.deepcopy(self.model.state_dict()))
        return dataclasses.replace(record(self, **fields), held_out_elbo=next(elbos))

    monkeypatch.setattr(Monitor, "record", spy)


def moved(model, before):
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


def names(model, *prefixes):
    return {name for name, _ in model.named_parameters() if name.startswith(prefixes)}


def ignored_warnings():
    return warnings.catch_warnings(action="ignore")


def in_stages(make_config, J, *stages):
    return make_config(J=J, schedule=Schedule(stages))


def test_only_what_is_introduced_trains(make_config):
    """What later facets own does not move before they come, here not at all, as their stage freezes it."""
    first = Stage((2,), 2, BATCH)
    config = in_stages(make_config, 3, first, Stage((0, 1), 1, BATCH, freeze=("encoder.*", "decoder.*")))
    model, before, _ = trained(config)
    own = (
        "priors.0.",
        "priors.1.",
        *(f"{c}.facet_modules.{j}." for c in ("encoder", "decoder") for j in (0, 1)),
    )
    # what is fitted to the embedding changes even if it does not train
    fitted = names(model, "priors.0.", "priors.1.")
    assert moved(model, before) == (names(model, "") - names(model, *own)) | fitted


@pytest.mark.parametrize("num_particles", [1, 2])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_everything(make_config, objective, num_particles):
    """And what the loop minimises is the loss of FacetELBO, per datum."""
    options = {"num_kl_samples": 3, "num_particles": num_particles}
    # A weight of zero would do, but leave the numbers drawn for its facet to the others.
    schedule = Schedule.joint(2, epochs=2, batch_size=N)
    config = make_config(J=2, elbo=objective, schedule=schedule, **options)
    losses = []

    def spy(self, batch, weights, optimizer, step=Stepper.__call__):
        model = self.loss.model
        torch.manual_seed(len(losses))
        expected = model.elbo().loss(model.model, model.guide, batch, weights=weights) / len(batch)
        torch.manual_seed(len(losses))
        losses.append((step(self, batch, weights, optimizer).item(), expected))
        return torch.tensor(losses[-1][0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stepper, "__call__", spy)
        model, before, history = trained(config)
    assert moved(model, before) == names(model, "")
    assert len(losses) == 2
    for loss, expected in losses:
        assert loss == pytest.approx(expected, rel=1e-6)
    assert [record.loss for record in history] == pytest.approx([loss for loss, _ in losses])


def test_with_all_stages_everything_trains(make_config):
    model, before, _ = trained(make_config(J=3))
    assert moved(model, before) == names(model, "")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "pattern",
    [
        "encoder.*",
        "decoder.facet_modules.0.*",
        "*.facet_modules.*",
        "priors.1.loc",
        "*.weight",
        "encoder.backbone.?.0.bias",
    ],
)
def test_frozen_parameters_stay_bit_for_bit(make_config, pattern, optimizer):
    """In the second stage, after the optimiser has moved all of them in the first."""
    rate = 1e-4 if optimizer == "sgd" else 2e-3
    options = {"batch_size": BATCH, "optimizer": optimizer, "learning_rate": rate}
    stages = (Stage((0, 1), 2, **options), Stage((), 2, freeze=(pattern,), **options))
    one, _, _ = trained(in_stages(make_config, 2, stages[0]))
    two, _, history = trained(in_stages(make_config, 2, *stages))
    frozen = {name for name in names(two, "") if fnmatch.fnmatchcase(name, pattern)}
    assert frozen
    assert moved(two, one.state_dict()) == names(two, "") - frozen
    assert all(p.requires_grad for p in two.parameters())
    assert len(history) == 4


def test_running_averages_of_frozen_batch_normalisation_stay(make_config):
    """They are no parameters, and would follow every batch that they see in training mode."""
    network = FullyConnectedLadder(widths=(8, 8), batch_norm=True)
    stages = (Stage((0, 1), 2, BATCH), Stage((), 2, BATCH, freeze=("encoder.*",)))
    one, two = (
        trained(make_config(J=2, schedule=Schedule(stages[:n]), network=network))[0].state_dict()
        for n in (1, 2)
    )
    running = {name for name in one if "running" in name or "num_batches" in name}
    assert len(running) > 6
    for name in running:
        assert torch.equal(one[name], two[name]) == name.startswith("encoder."), name
    assert all(torch.equal(one[name], two[name]) for name in one if name.startswith("encoder."))


@pytest.mark.parametrize(("data_init", "deviation"), [(True, 1.0), ("as_published", 0.1), (False, None)])
def test_networks_may_be_initialised_by_the_data(make_config, data_init, deviation):
    """What they make of the data before the first step then has a mean of zero and a given deviation."""
    config = make_config(J=2, data_init=data_init)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stepper, "__call__", lambda self, batch, *_: torch.zeros(()))  # no step moves anything
        x = data()
        torch.manual_seed(0)
        model = MFCVAE(config, x.shape[1:])
        before = copy.deepcopy(model.encoder.state_dict())
        trainer = Trainer(model, x, seed=0)
        trainer.run(progress=False)
    spread = model.encoder.backbone[0][0](trainer.sample).std(0, correction=0)
    if deviation:
        torch.testing.assert_close(spread, torch.full_like(spread, deviation), rtol=1e-3, atol=0)
    changed = {n for n, value in model.encoder.state_dict().items() if not torch.equal(value, before[n])}
    assert bool(changed) == bool(data_init)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_momentum_does_not_move_what_is_frozen_within_a_stage(make_config, optimizer):
    """A prior is frozen until its warm-up is over, and the same optimiser goes on then."""
    stage = Stage((0,), 3, BATCH, warm_up_epochs=2, optimizer=optimizer, learning_rate=1e-4)
    config = in_stages(make_config, 1, stage)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DiagonalGaussianMixture, "initialize", lambda prior, *_: seen.append(prior.loc.clone()))
        model, _, _ = trained(config)
    assert len(seen) == 1
    assert not seen[0].any()
    assert model.facet_priors[0].loc.any()


@pytest.mark.parametrize(
    ("group", "frozen"),
    [
        ("facet 0", ("priors.0.", "encoder.facet_modules.0.", "decoder.facet_modules.0.")),
        ("facet 1", ("priors.1.", "encoder.facet_modules.1.")),
        ("past facets", ("priors.1.", "encoder.facet_modules.1.")),
        ("networks", ("encoder.", "decoder.")),
    ],
)
def test_groups_of_parameters_may_be_frozen(make_config, group, frozen):
    """A group is the same as the patterns that it stands for."""
    results = []
    for freeze in ((group,), tuple(f"{prefix}*" for prefix in frozen)):
        stages = (Stage((1,), 1, BATCH), Stage((0,), 1, BATCH, freeze=freeze))
        results.append(trained(in_stages(make_config, 2, *stages))[0].state_dict())
    before = trained(in_stages(make_config, 2, Stage((1,), 1, BATCH), Stage((0,), 1, BATCH)))[0].state_dict()
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())
    assert any(not torch.equal(value, before[name]) for name, value in results[0].items())


def test_a_stage_may_last_a_number_of_steps(make_config):
    config = in_stages(make_config, 1, Stage((0,), steps=2 * STEPS + 1, batch_size=BATCH, decay_after=0.0))
    _, _, history = trained(config)
    assert [record.steps for record in history] == [STEPS, 2 * STEPS, 2 * STEPS + 1]
    progress = 2 * STEPS / (2 * STEPS + 1)
    assert history[-1].learning_rate == pytest.approx(config.stages[0].learning_rate_at(progress))


def test_a_warm_up_longer_than_the_steps_is_an_error(make_config):
    stage = Stage((0,), steps=2 * STEPS, batch_size=BATCH, warm_up_epochs=2)
    with pytest.raises(ValueError, match=r"warm_up_epochs: got 2, expected fewer than the 2 epochs that 6"):
        trained(in_stages(make_config, 1, stage))
    stage = Stage((0,), 2, batch_size=BATCH, warm_up_steps=2 * STEPS)
    with pytest.raises(ValueError, match=r"warm_up_steps: got 6, expected fewer than the 6 steps that 2"):
        trained(in_stages(make_config, 1, stage))


@pytest.mark.parametrize("length", [{"epochs": 2}, {"steps": 2 * STEPS}])
@pytest.mark.parametrize("warm_up_steps", [0, 1, STEPS, STEPS + 1])
def test_a_warm_up_may_last_a_number_of_steps(make_config, length, warm_up_steps):
    """It ends with an epoch, which is shorter if need be, and then the mixture is fitted."""
    weights = {"warm_up_kl_weight": 0.5, "kl_weight": 2.0}
    stage = Stage((0,), **length, batch_size=BATCH, warm_up_steps=warm_up_steps, **weights)
    _, _, history = trained(in_stages(make_config, 1, stage))
    steps = [record.steps for record in history]
    assert steps[-1] == 2 * STEPS
    assert warm_up_steps in (0, *steps)
    assert [record.kl_weights[0] for record in history] == [0.5 if n <= warm_up_steps else 2.0 for n in steps]


def test_the_kl_weight_rises_apart_from_the_fade_in(make_config):
    stage = Stage((0,), 2, BATCH, fade_in_steps=STEPS, kl_fade_in_steps=4 * STEPS, kl_weight=2.0)
    _, _, history = trained(in_stages(make_config, 1, stage))
    assert [r.fade_in for r in history] == [((STEPS - 1) / STEPS,), (1.0,)]
    expected = [2 * (STEPS - 1) / (4 * STEPS), 2 * (2 * STEPS - 1) / (4 * STEPS)]
    assert [r.kl_weights[0] for r in history] == pytest.approx(expected)


def test_past_facets_may_have_a_weight_of_their_own(make_config):
    stages = (
        Stage((1,), 1, BATCH, kl_weight=0.5, past_kl_weight=9.0),
        Stage((0,), 2, BATCH, warm_up_epochs=1, kl_weight=2.0, past_kl_weight=3.0),
        Stage((), 1, BATCH, past_kl_weight=0.0),
    )
    _, _, history = trained(in_stages(make_config, 2, *stages))
    assert [r.kl_weights for r in history] == [(0.0, 0.5), (0.1, 3.0), (2.0, 3.0), (0.0, 0.0)]


def test_pre_training_moves_the_encoder_of_a_facet_that_takes_no_part(make_config):
    """Towards its prior; neither its prior nor its part of the decoder moves."""
    stages = (
        Stage((1,), 3, BATCH, pre_training_kl_weight=0.5),
        Stage((0,), 1, BATCH, freeze=("*.facet_modules.0.*",)),
    )
    model, before, history = trained(in_stages(make_config, 2, *stages))
    assert {n for n in moved(model, before) if ".facet_modules.0." in n} == names(
        model, "encoder.facet_modules.0."
    )
    assert [r.kl_weights[0] for r in history] == [0.5, 0.5, 0.5, 1.0]
    assert [r.fade_in[0] for r in history] == [0.0, 0.0, 0.0, 1.0]
    assert history[2].facet_terms[0] > history[0].facet_terms[0]


# --- held-out data ------------------------------------------------------------------------------


def test_held_out_data_are_not_trained_on(make_config, monkeypatch):
    seen = noted_batches(monkeypatch)
    x = torch.arange(100.0).unsqueeze(1).expand(100, 6) / 100
    schedule = Schedule((Stage((0,), 4, 8),), held_out=0.2)
    _, _, history = trained(make_config(J=1, schedule=schedule), x)
    assert len(torch.cat(seen)[:, 0].unique()) == 80
    assert all(math.isfinite(record.held_out_elbo) for record in history)
    _, _, without = trained(make_config(J=1), x)
    assert {record.held_out_elbo for record in without} == {None}


def test_the_held_out_elbo_is_that_of_the_model(make_config):
    x = data(40)
    schedule = Schedule((Stage((0,), 2, 8),), held_out=0.25)
    model, _, history = trained(make_config(J=1, schedule=schedule), x)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    draws = [model.elbo_terms(x[order[:10]]).elbo.mean().item() for _ in range(200)]
    assert history[-1].held_out_elbo == pytest.approx(np.mean(draws), abs=5 * np.std(draws))


def test_patience_ends_a_stage_at_its_best(make_config, monkeypatch):
    """By a made-up ELBO that is best in the third epoch, the second after the warm-up."""
    elbos = iter([9.0, 1.0, 3.0, 2.0, 2.5, 99.0, 98.0])
    states = []

    made_up(monkeypatch, elbos, states)
    stage = Stage((0,), 50, BATCH, patience=2, warm_up_epochs=1)
    model, _, history = trained(make_config(J=1, schedule=Schedule((stage,), held_out=0.1)))
    assert [record.held_out_elbo for record in history] == [9.0, 1.0, 3.0, 2.0, 2.5]
    assert all(torch.equal(value, states[2][name]) for name, value in model.state_dict().items())


def test_the_warning_points_to_the_call_of_fit(make_config):
    with pytest.warns(DeadClustersWarning) as caught:
        fit(torch.zeros(50, 6), make_config(J=1, K=20, epochs=1), progress=False)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("fades", [{"fade_in_steps": 2 * STEPS}, {"kl_fade_in_steps": 2 * STEPS}])
def test_patience_waits_until_all_weights_are_up(make_config, monkeypatch, fades):
    """The ELBO of the first epoch, the best of all, is that of weights that are still rising."""
    elbos = iter([9.0, 1.0, 3.0, 2.0, 99.0])
    made_up(monkeypatch, elbos)
    stage = Stage((0,), 50, BATCH, patience=1, **fades)
    schedule = Schedule((stage,), held_out=0.04)  # as many steps an epoch as without
    _, _, history = trained(make_config(J=1, schedule=schedule))
    assert [record.held_out_elbo for record in history] == [9.0, 1.0, 3.0, 2.0]


@pytest.mark.parametrize("held_out", [1e-6, 0.999])
def test_too_few_data_to_hold_out(make_config, held_out):
    config = make_config(J=1, schedule=Schedule((Stage((0,), 1),), held_out=held_out))
    with pytest.raises(ValueError, match=r"held_out: got .* of 100 data, that is .* expected some"):
        trained(config)


@pytest.mark.parametrize("dead", [0, 1])
def test_dead_clusters_are_reported(make_config, dead):
    """By name of the facet, with what to do."""
    config = make_config(J=2, K=(4, 4), epochs=1)
    torch.manual_seed(0)
    model = MFCVAE(config, (6,))
    monitor = Monitor(model, data(), None)
    with torch.no_grad():
        for j, prior in enumerate(model.facet_priors):
            z = torch.cat([model.encode(data())[j].mean])
            prior.loc.copy_(z[torch.linspace(0, 99, 4).long()])
            if j == dead:
                prior.loc.fill_(1e3)
                prior.loc[2] = z.mean(0)
    with pytest.warns(
        DeadClustersWarning, match=f"facet {dead}: only 1 of 4 clusters are in use.*warm_up_ep"
    ) as w:
        monitor.warn_of_dead_clusters()
    assert len(w) == 1


def test_of_facets_that_were_unmixed_dead_clusters_are_said_without_a_ladder(make_config):
    config = make_config(J=1, K=(4,), schedule=Schedule.unmixed(1, epochs=(1, 1)))
    model = MFCVAE(config, (6,))
    with torch.no_grad():
        model.facet_priors[0].loc.fill_(1e3)
        model.facet_priors[0].loc[2] = 0
    with pytest.warns(DeadClustersWarning, match=r"only 1 of 4 clusters .*\. Give the facet fewer clusters$"):
        Monitor(model, data(), None).warn_of_dead_clusters()


def test_mixtures_are_fitted_to_samples_of_the_posteriors(make_model, monkeypatch):
    """To means alone they would be too narrow by the width of q(z | x)."""
    model, seen = make_model(J=2, D=(2, 3)), []

    def encode(x):
        return [dist.Normal(torch.full((len(x), D), 3.0), 2.0).to_event(1) for D in (2, 3)]

    monkeypatch.setattr(model, "encode", encode)
    monkeypatch.setattr(
        DiagonalGaussianMixture, "initialize", lambda self, embedding, seed: seen.append(embedding)
    )
    initialize_mixtures(model, data(2500), (0, 1), seed=0)
    assert [embedding.shape for embedding in seen] == [(2500, 2), (2500, 3)]
    for embedding in seen:
        np.testing.assert_allclose(embedding.mean(0), 3.0, atol=0.2)
        np.testing.assert_allclose(embedding.std(0), 2.0, rtol=0.1)


def test_the_prior_is_standard_normal_during_the_warm_up(make_config, monkeypatch):
    """Then the mixture is fitted, once for each facet and after the stage's own warm-up."""
    events = []
    initialize = DiagonalGaussianMixture.initialize

    def spy(prior, embedding, seed):
        components = prior.component(torch.arange(prior.clusters))
        unit = torch.allclose(components.variance, torch.ones(()))
        standard = unit and not components.mean.any() and not prior.mixing.logits.any()
        events.append((standard, embedding.shape, seed))
        initialize(prior, embedding, seed)

    monkeypatch.setattr(DiagonalGaussianMixture, "initialize", spy)
    config = make_config(J=2, D=(2, 3), epochs=4, warm_up_epochs=2)
    model = MFCVAE(config, (6,))
    with torch.no_grad():  # it is reset even if it was something else
        model.facet_priors[1].loc.fill_(3.0)
    history = train(model, data(), seed=5, progress=False)
    assert events == [(True, (N, 3), 5), (True, (N, 2), 5)]
    betas = [record.kl_weights for record in history]
    assert betas == [(0.0, 0.1)] * 2 + [(0.0, 1.0)] * 2 + [(0.1, 1.0)] * 2 + [(1.0, 1.0)] * 2


def test_without_a_warm_up_the_mixture_is_fitted_first(make_config, monkeypatch):
    fits = []
    monkeypatch.setattr(
        DiagonalGaussianMixture, "initialize", lambda prior, *_: fits.append(prior.raw_scale.clone())
    )
    model, before, _ = trained(make_config(J=1))
    assert len(fits) == 1
    assert {"priors.0.loc", "priors.0.raw_scale"} <= moved(model, before)  # learned from the first step on


def test_weights_follow_the_schedule(make_config):
    stages = (
        Stage((1,), 2, BATCH, kl_weight=0.5, decay_after=0.0, learning_rate=1e-3),
        Stage((0,), 4, BATCH, fade_in_steps=2 * STEPS, kl_weight=2.0, warm_up_epochs=1),
    )
    _, _, history = trained(in_stages(make_config, 2, *stages))
    assert [(r.stage, r.epoch) for r in history] == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3)]
    # at the last step of each epoch, of index 2, 5, 8, ...
    half, most = (STEPS - 1) / (2 * STEPS), (2 * STEPS - 1) / (2 * STEPS)
    assert [r.fade_in[0] for r in history] == pytest.approx([0, 0, half, most, 1, 1])
    assert [r.fade_in[1] for r in history] == [1.0] * 6
    assert [r.kl_weights[0] for r in history] == pytest.approx([0, 0, 0.1 * half, 2 * most, 2, 2])
    assert [r.kl_weights[1] for r in history] == [0.5, 0.5, 2.0, 2.0, 2.0, 2.0]
    expected = [
        stages[0].learning_rate_at((STEPS - 1) / (2 * STEPS)),
        stages[0].learning_rate_at((2 * STEPS - 1) / (2 * STEPS)),
    ]
    assert [r.learning_rate for r in history[:2]] == pytest.approx(expected)
    assert history[2].learning_rate == 2e-3


def test_records_are_consistent(make_config):
    config = make_config(J=2, epochs=3, fade_in_steps=4)
    model, _, history = trained(config)
    assert [r.steps for r in history] == [STEPS * (i + 1) for i in range(6)]
    assert [r.stage for r in history] == [0, 0, 0, 1, 1, 1]
    seconds = [r.seconds for r in history]
    assert sorted(seconds) == seconds
    for record in history:
        active = [1] if record.stage == 0 else [0, 1]
        assert record.elbo == pytest.approx(
            record.log_likelihood + sum(record.facet_terms[j] for j in active), rel=1e-6
        )
        assert all(1 <= alive <= 3 for alive in record.alive)
        assert all(math.isfinite(v) for v in (record.loss, record.elbo, *record.facet_terms))
        assert record.loss > 0
    assert history[2].loss < history[0].loss
    assert dataclasses.is_dataclass(history[0])
    assert not model.training


def test_the_record_is_that_of_the_model(make_config):
    """The last record, taken again from the trained model; the samples of z differ."""
    x = data(50)
    model, _, history = trained(make_config(J=2, batch_size=50, epochs=5), x)
    terms = model.elbo_terms(x)
    for j in range(2):
        assert history[-1].facet_terms[j] == pytest.approx(terms.facets[j].mean().item(), rel=1e-5)
        alive = len(terms.responsibilities[j].argmax(-1).unique())
        assert history[-1].alive[j] == alive
    assert history[-1].log_likelihood == pytest.approx(terms.log_likelihood.mean().item(), rel=0.05)


def test_a_batch_larger_than_the_data_is_all_of_them(make_config):
    model, before, history = trained(make_config(J=1, batch_size=1000, epochs=3), data(10))
    assert [r.steps for r in history] == [1, 2, 3]
    assert moved(model, before) == names(model, "")


def test_all_data_are_seen_in_every_order(make_config, monkeypatch):
    """Three full batches of an epoch do not repeat a datum."""
    seen = noted_batches(monkeypatch)
    x = torch.arange(100.0).unsqueeze(1).expand(100, 6) / 100
    trained(make_config(J=1, epochs=2), x)
    epochs = [torch.cat(seen[:3])[:, 0], torch.cat(seen[3:])[:, 0]]
    assert len(seen) == 6
    assert [len(epoch.unique()) for epoch in epochs] == [96, 96]
    assert not torch.equal(*epochs)


@pytest.mark.portable
def test_the_same_seed_gives_the_same_parameters_bit_for_bit(make_config):
    config = make_config(J=2, epochs=2, warm_up_epochs=1, fade_in_steps=3)
    x = data().numpy()

    def state(seed):
        torch.manual_seed(random.randrange(1000))  # what was there before does not matter
        fitted = fit(x, config, seed=seed, device="cpu", precision="float32", progress=False)
        return fitted.model.state_dict(), [dataclasses.replace(r, seconds=0) for r in fitted.history]

    (first, history), (again, same), (other, _) = state(0), state(0), state(1)
    assert history == same
    for name, value in first.items():
        assert torch.equal(value, again[name]), name
        assert not torch.equal(value, other[name]), name


def test_nothing_global_is_left_changed(make_config):
    def state():
        return (
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002
            random.getstate(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            pyro.infer.util.is_validation_enabled(),
            torch.distributions.Distribution._validate_args,
            len(pyro.get_param_store()),
        )

    for validate in (True, False):
        with pyro.validation_enabled(validate):
            before = state()
            fit(data().numpy(), make_config(warm_up_epochs=1), progress=False)
            assert state() == before
    assert len(pyro.get_param_store()) == 0


def test_validation_comes_back_even_after_an_error(make_config):
    config = make_config(J=1, learning_rate=1e30, likelihood="gaussian", epochs=5)
    with ignored_warnings(), pytest.raises(FloatingPointError):
        trained(config)
    assert pyro.infer.util.is_validation_enabled()


def test_divergence_is_an_error(make_config):
    """After a few warnings that say what was tried, and no others."""
    config = make_config(J=1, learning_rate=1e30, likelihood="gaussian", epochs=5)
    with (
        pytest.warns(DivergenceWarning, match="going on from epoch 0 with a learning rate of 1e") as warned,
        pytest.raises(
            FloatingPointError,
            match=r"training diverged in stage 0, epoch 0: its loss is .*, with a learning rate of 1e\+27 as",
        ),
    ):
        trained(config)
    assert [str(w.message).rpartition(" ")[2] for w in warned] == ["1e+29", "1e+28", "1e+27"]


def test_units_that_no_learning_rate_mends_are_an_error_at_once(make_config):
    config = make_config(J=1, likelihood="gaussian", epochs=5)
    with pytest.raises(FloatingPointError, match=r"cannot begin: .* values up to 1e\+30; give them in other"):
        trained(config, 1e30 * torch.ones(N, 6))


def diverging(monkeypatch, is_bad, loss=math.nan):
    """A loss that is bad where ``is_bad(learning rate, step)`` says so."""
    steps, step = itertools.count(), Stepper.__call__

    def spy(self, batch, weights, optimizer):
        good = step(self, batch, weights, optimizer)
        bad = is_bad(optimizer.param_groups[0]["lr"], next(steps))
        return good.new_tensor(loss) if bad else good

    monkeypatch.setattr(Stepper, "__call__", spy)


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e25, -1e25])
def test_a_stage_that_diverges_goes_on_with_a_lower_learning_rate(make_config, monkeypatch, loss):
    """From the last good epoch; the stage after it has its own learning rate again."""
    monkeypatch.setattr("pyro_mfcvae.training.loop.REMEMBERED_STEPS", 1)
    rates = ((0, 2e-3), (1, 1e-4))
    stages = [Stage((j,), epochs=4, batch_size=N // 3, learning_rate=rate) for j, rate in rates]
    config = in_stages(make_config, 2, *stages)
    _, _, expected = trained(config)
    diverging(monkeypatch, lambda rate, step: step in (9, 10), loss)
    with pytest.warns(DivergenceWarning, match=r"stage 0, epoch 3: .*from epoch 3 with a learning rate"):
        _, _, history = trained(config)
    assert [(r.stage, r.epoch, r.steps) for r in history] == [(r.stage, r.epoch, r.steps) for r in expected]
    for r, other in zip(history, expected, strict=True):
        assert r.learning_rate == pytest.approx(other.learning_rate * (0.1 if r.steps == 12 else 1))


def test_what_was_good_is_kept_when_all_diverges(make_config, monkeypatch):
    monkeypatch.setattr("pyro_mfcvae.training.loop.REMEMBERED_STEPS", 1)
    config = make_config(J=1, epochs=5, batch_size=N // 3, warm_up_epochs=1)
    torch.manual_seed(3)
    trainer = Trainer(MFCVAE(config, (6,)), data(), seed=3)
    states = []
    trainer.callbacks.append(
        as_callback(lambda trainer, _: states.append(copy.deepcopy(trainer.model.state_dict())))
    )
    trainer.run(progress=False)
    diverging(monkeypatch, lambda rate, step: step >= 6)
    with ignored_warnings(), pytest.raises(FloatingPointError) as caught:
        fit(data().numpy(), config, seed=3, progress=False)
    fitted = caught.value.fitted
    assert [(r.epoch, r.steps) for r in fitted.history] == [(0, 3), (1, 6)]
    assert fitted.seed == 3
    for name, value in states[1].items():
        assert torch.equal(fitted.model.state_dict()[name], value), name


@pytest.mark.parametrize("warm_up_epochs", [0, 1])
def test_divergence_in_the_last_step_of_an_epoch_is_an_error(make_config, warm_up_epochs):
    """The loss of the epoch's only step is finite; the parameters after it are not usable."""
    config = make_config(
        J=1,
        learning_rate=1e30,
        likelihood="gaussian",
        epochs=1 + warm_up_epochs,
        warm_up_epochs=warm_up_epochs,
        batch_size=N,
    )
    with ignored_warnings(), pytest.raises(FloatingPointError, match="training diverged"):
        trained(config)


def test_training_raises_the_elbo(make_config, blobs):
    x = torch.from_numpy(blobs[0])
    config = make_config(
        J=1, width=32, epochs=20, learning_rate=5e-3, warm_up_epochs=5, likelihood=Gaussian(0.1)
    )
    _, _, history = trained(config, x)
    assert history[-1].elbo > history[0].elbo + 20
    assert history[-1].loss < history[0].loss - 20
    assert history[-1].loss == pytest.approx(-history[-1].elbo, abs=1.0)


@pytest.mark.parametrize("progress", [True, False])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_shown_if_wanted_and_where_there_is_a_terminal(
    make_config, capsys, monkeypatch, progress, is_terminal
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    fit(data().numpy(), make_config(J=2), progress=progress)
    output = capsys.readouterr()
    assert ("stage 2/2" in output.err) == (progress and is_terminal)
    assert output.out == ""


def test_vanished_moments_become_zero_before_they_are_denormal() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.Adam([parameter])
    parameter.grad = torch.tensor([1.0, 1e-18, 1e-30])
    optimizer.step()
    expected = optimizer.state[parameter]["exp_avg"].clone()
    expected[2] = 0.0
    drop_vanished_moments(optimizer)
    assert torch.equal(optimizer.state[parameter]["exp_avg"], expected)
    assert expected[:2].min() > 0


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (
            ("encoder.*", "enoder.*"),
            r"freeze: got \['enoder\.\*'\], which no parameter's name matches; the groups are 'facet 0'",
        ),
        (("*",), r"freeze: got \('\*',\), which leaves nothing to train"),
    ],
)
def test_what_freezes_nothing_or_everything_is_an_error(freeze: tuple[str, ...], message: str) -> None:
    config = MFCVAEConfig(
        facets=(Facet(2, 1),),
        network=FullyConnectedLadder(widths=(4,)),
        schedule=Schedule((Stage((0,), 1, freeze=freeze),)),
    )
    with pytest.raises(ValueError, match=message):
        train(MFCVAE(config, (3,)), torch.rand(10, 3), seed=0, progress=False)
