"""The training loop: it reads the schedule, and the model knows nothing of it."""

from __future__ import annotations

import dataclasses
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from pyro_mfcvae._utils.devices import Precision, describe_environment
from pyro_mfcvae._utils.fields import checked, from_fields
from pyro_mfcvae._utils.progress import LOGGER, Bar
from pyro_mfcvae._utils.tensors import copied
from pyro_mfcvae._utils.turns import Turn
from pyro_mfcvae.config.mfcvae import MFCVAEConfig
from pyro_mfcvae.data.sources import HELD_OUT_SEED, InMemory, Source, Stream, on_device
from pyro_mfcvae.model.loss import make_loss
from pyro_mfcvae.model.mfcvae import MFCVAE
from pyro_mfcvae.model.weights import FacetWeights, network_precision
from pyro_mfcvae.priors.initialization import embedding_size
from pyro_mfcvae.training.callbacks import Callback, as_callback
from pyro_mfcvae.training.compiled import Compile
from pyro_mfcvae.training.early_stopping import EarlyStopping
from pyro_mfcvae.training.freezing import check_patterns, freeze
from pyro_mfcvae.training.history import EpochRecord, History
from pyro_mfcvae.training.monitor import Monitor
from pyro_mfcvae.training.optimizers import catch_up, drop_vanished_moments, make_optimizer
from pyro_mfcvae.training.plan import StagePlan
from pyro_mfcvae.training.stage_run import StageRun
from pyro_mfcvae.training.step import Stepper, without_validation
from pyro_mfcvae.training.unmixing import Unmixing, check_can_unmix, unmix, unmixed_config
from pyro_mfcvae.training.warm_start import (
    check_untrained,
    initialize_mixtures,
    initialize_networks,
    starts_untrained,
)

EMBEDDING_SIZE = 20_000  # data that a mixture is fitted to, or a few for each of very many clusters
REMEMBERED_STEPS = 100  # at least, between two states that a run can go back to
MAX_RETREATS = 3  # of a stage that diverges
NOT_FACTORED: type[Exception] = torch.linalg.LinAlgError  # type: ignore[attr-defined]
RETREAT = 0.1  # of the learning rate, after each


class DivergenceWarning(RuntimeWarning):
    """Training diverged, and goes on from where it had not, with a lower learning rate."""


class Trainer:
    """Trains a model by the stages of its configuration, one epoch after another.

    Args:
        model: the model, on the device where it is trained; it is changed in place.
        x: all data, (N, *x_shape).
        seed: seed of the order of the data and of the mixtures' initialisation.
        precision: precision of the networks.
        compile: as in :func:`pyro_mfcvae.fit`.

    Attributes:
        callbacks: called when a stage begins, an epoch ends, and the run ends.
        history: one record for each epoch.
        steps: number of steps of the optimisers so far.
        stage: the stage that trains; None before the first.
        unmixing: what the latents were unmixed into; None if they were not, or not yet.
        is_stopped: whether a callback has asked to stop.

    Raises:
        ValueError: as :func:`train`.
    """

    def __init__(
        self,
        model: MFCVAE,
        x: Tensor | Source,
        *,
        seed: int,
        precision: Precision = "float32",
        compile: Compile = False,
    ) -> None:
        self.model = model
        self.source = self.all_data = x if isinstance(x, Source) else InMemory(x)
        held_out = None
        if model.config.held_out:
            self.source, held_out = self.source.hold_out(model.config.held_out, HELD_OUT_SEED)
        self.seed = seed
        self.precision = precision
        self.order = torch.Generator(device=model.device).manual_seed(seed)
        size = embedding_size(max(facet.clusters for facet in model.config.facets), EMBEDDING_SIZE)
        self.sample = self.source.sample(size, self.order).to(model.device)
        self.monitor = Monitor(model, self.sample, held_out)
        # What all data share counts once for all of them.
        data_size = len(self.source) if model.shared_priors() else None
        self.stepper = Stepper(make_loss(model, data_size), compile)
        self.callbacks: list[Callback] = [as_callback(_log_progress)]
        self.is_stopped = False
        self.history: list[EpochRecord] = []
        self.steps = 0
        self.stage: StageRun | None = None
        self.unmixing: Unmixing | None = None
        self._remembered: tuple[dict[str, Any], int] | None = None  # a state, and the records until then
        self._start = time.perf_counter()
        self.plans = self._make_plans()
        if any(plan.stage.unmix for plan in self.plans):
            check_can_unmix(model)
        for plan in self.plans:
            check_patterns(plan.stage, model)
            check_untrained(plan.stage, model)
            plan.check()

    def run(self, *, progress: bool = True) -> None:
        """Train all stages, or what is left of them.

        Args:
            progress: whether to show a progress bar.

        Raises:
            FloatingPointError: if training diverges, also with lower learning rates; the model is then as it
                was before.
        """
        if self.stage is None:
            with network_precision(self.precision), without_validation():
                if self.model.config.data_init:
                    initialize_networks(self.model, self.sample, self.seed)
                facets = range(len(self.model.facet_priors))
                initialize_mixtures(self.model, self.sample, facets, self.seed, untrained=True)
                self.monitor.set_reference()
        total = sum(plan.total_steps for plan in self.plans)
        try:
            with (
                network_precision(self.precision),
                without_validation(),
                Bar(total=total, shows=progress, unit="step") as bar,
            ):
                for index, plan in enumerate(self.plans):
                    if self.stage is not None and index < self.stage.index:
                        bar.total -= plan.total_steps
                        continue
                    bar.set_description(f"stage {index + 1}/{len(self.plans)}")
                    self._run_stage(index, bar)
                    if self.is_stopped:
                        break
                for callback in self.callbacks:
                    callback.on_run_end(self)
        finally:
            self.model.requires_grad_(True).eval()

    def stop(self) -> None:
        """End the run after this epoch; a stage that would unmix the latents then leaves them as they are.

        A checkpoint is written, and the same call goes on from there.
        """
        self.is_stopped = True

    def finished_history(self) -> History:
        """Return the records so far, with what the model is trained in."""
        environment = describe_environment(self.model.device, self.precision)
        return History(self.history, environment, self.unmixing)

    @property
    def at_end_of_stage(self) -> bool:
        """True if the stage that trains has no epoch to come."""
        return self.stage is not None and self.stage.is_over

    def state_dict(self) -> dict[str, Any]:
        """Return all that the rest of the run depends on, as nested dicts of tensors and of JSON.

        Attributes of a user's own modules that are neither parameters nor buffers are not in it.
        """
        return {
            **self._state(),
            "config": _as_json(self.model.config),
            "x_shape": list(self.model.x_shape),
            "seed": self.seed,
            "environment": dataclasses.asdict(describe_environment(self.model.device, self.precision)),
            "history": [dataclasses.asdict(record) for record in self.history],
        }

    def _state(self) -> dict[str, Any]:
        random = {"cpu": torch.get_rng_state(), "order": self.order.get_state()}
        if self.model.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.model.device)
        return {
            "model": self.model.state_dict(),
            "unmixing": None if self.unmixing is None else self.unmixing.state_dict(),
            "is_standard": [prior.is_standard for prior in self.model.facet_priors],
            "stage": None if self.stage is None else self.stage.state_dict(),
            "reference": self.monitor.reference,
            "steps": self.steps,
            "seconds": time.perf_counter() - self._start,
            "random": random,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned, PyTorch's global generator included."""
        if state["unmixing"] is not None:
            self.unmixing = Unmixing.from_state_dict(state["unmixing"])
            self.model.reconfigure(unmixed_config(self.model.config, self.unmixing))
            self.plans = self._make_plans()
        self.history[:] = [from_fields(EpochRecord, fields) for fields in state["history"]]
        self._set_state(state)

    def _set_state(self, state: Mapping[str, Any]) -> None:
        model = self.model
        model.load_state_dict(state["model"])
        for prior, is_standard in zip(model.facet_priors, state["is_standard"], strict=True):
            prior.is_standard = is_standard
        if state["stage"] is not None:
            self.stage = self._new_stage(checked(state["stage"]["index"], int, "index"))
            self.stage.load_state_dict(state["stage"])
        self.steps = checked(state["steps"], int, "steps")
        self._start = time.perf_counter() - checked(state["seconds"], float, "seconds")
        self.monitor.reference = checked(state["reference"], float, "reference")
        self.order.set_state(state["random"]["order"])
        torch.set_rng_state(state["random"]["cpu"])
        if model.device.type == "cuda" and "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"], model.device)

    def _make_plans(self) -> list[StagePlan]:
        """Plan the stages of the configuration, which unmixing changes."""
        return [StagePlan(stage, len(self.source)) for stage in self.model.config.stages]

    def _new_stage(self, index: int, optimizer: torch.optim.Optimizer | None = None) -> StageRun:
        plan = self.plans[index]
        past = frozenset(j for earlier in self.plans[:index] for j in earlier.stage.introduces)
        stage = plan.stage
        if optimizer is None:
            optimizer = make_optimizer(stage.optimizer, self.model.parameters(), stage.learning_rate)
        return StageRun(
            index, plan, past, optimizer, EarlyStopping(stage.patience), is_warming_up=plan.warm_up_steps > 0
        )

    def _run_stage(self, index: int, bar: Bar) -> None:
        """Train one stage, or the rest of it."""
        run = self.stage
        if run is None or run.index != index:
            kept = catch_up(run.optimizer) if run and self.model.config.keep_optimizer else None
            run = self.stage = self._new_stage(index, kept)
            for j in run.plan.stage.introduces:
                if not starts_untrained(self.model, j):
                    self.model.facet_priors[j].reset()
            if not run.is_warming_up:
                self._initialize_mixtures(run.plan.stage.introduces)
        self._begin_phase(run)
        bar.update(run.step)
        self._remember()
        for callback in self.callbacks:
            callback.on_stage_begin(self)
        while not (run.is_over or self.is_stopped):
            try:
                self._run_epoch(run, bar)
            except (FloatingPointError, NOT_FACTORED) as error:
                run = self._retreat(run, error, bar)
            else:
                self._remember(REMEMBERED_STEPS)
        bar.total -= run.plan.total_steps - run.step
        run.early_stopping.restore(self.model)
        if run.plan.stage.unmix and not self.is_stopped:
            auto = run.plan.stage.unmix == "auto"
            self.unmixing = unmix(self.model, self.sample, seed=self.seed, auto=auto)
            self.plans = self._make_plans()
            self._initialize_mixtures(range(len(self.model.facet_priors)))

    def _remember(self, steps: int = 0) -> None:
        """Keep the state to go back to, if there were so many steps since the one that is kept."""
        if self._remembered is None or self.steps - self._remembered[0]["steps"] >= steps:
            self._remembered = copied(self._state()), len(self.history)

    def _retreat(self, run: StageRun, error: Exception, bar: Bar) -> StageRun:
        """Go back to the state that is kept, and on with a lower learning rate, a few times in a stage."""
        assert self._remembered is not None
        epoch, retreats, diverged = run.epoch, run.retreats, run.step
        reason = f"training diverged in stage {run.index}, epoch {epoch}: {error}"
        state, records = self._remembered
        self._set_state(copied(state))
        del self.history[records:]
        run = cast(StageRun, self.stage)
        bar.n -= diverged - run.step
        rate = run.plan.stage.learning_rate * RETREAT**retreats
        if retreats == MAX_RETREATS:
            raise FloatingPointError(
                f"{reason}, with a learning rate of {rate:.2g} as with {retreats} higher ones; look at the "
                "data, raise sigma of a Gaussian likelihood, or try another optimizer"
            ) from error
        run.retreats = retreats + 1
        warnings.warn(
            f"{reason}; going on from epoch {run.epoch} with a learning rate of {rate * RETREAT:.2g}",
            DivergenceWarning,
            stacklevel=9,  # where fit is called
        )
        self._begin_phase(run)
        return run

    def _begin_phase(self, run: StageRun) -> None:
        """Settle what trains, and for how many steps, until the warm-up or the stage is over."""
        freeze(self.model, run.plan.stage, run.past, run.is_warming_up)
        begin = 0 if run.is_warming_up else run.plan.warm_up_steps
        self.stepper.begin(run.plan.phase_end(run.is_warming_up) - begin)

    def _run_epoch(self, run: StageRun, bar: Bar) -> None:
        """Train one epoch, or what is left of it before the warm-up or the stage is over."""
        model, plan = self.model, run.plan
        if run.is_warming_up and run.step == plan.warm_up_steps:
            run.is_warming_up = False
            self._initialize_mixtures(run.plan.stage.introduces)
            self._begin_phase(run)
        _train_mode(model)
        loss_sum = torch.zeros((), device=model.device)
        count = min(plan.steps_per_epoch, plan.phase_end(run.is_warming_up) - run.step)
        with closing(self._batches(plan.stage.batch_size, count)) as batches:
            for batch in batches:
                weights = self._weights(run)
                for group in run.optimizer.param_groups:
                    group["lr"] = plan.learning_rate(run.step) * RETREAT**run.retreats
                loss_sum += self.stepper(batch, weights, run.optimizer)
                run.step += 1
                bar.update()
                Turn.give_way()
        self.steps += count
        drop_vanished_moments(run.optimizer)
        record = self.monitor.record(
            stage=run.index,
            epoch=run.epoch,
            steps=self.steps,
            seconds=time.perf_counter() - self._start,
            loss_sum=loss_sum,
            num_steps=count,
            learning_rate=run.optimizer.param_groups[0]["lr"],
            weights=weights,
            active=run.active,
        )
        self.history.append(record)
        bar.set_postfix(loss=f"{record.loss:.2f}", alive=record.alive)
        run.epoch += 1
        run.is_over = run.step >= plan.total_steps
        # Before all weights are up, the ELBO is one of another model.
        if plan.is_faded_in(run.step) and (plan.stage.unmix or not run.is_warming_up):
            run.early_stopping.update(record.held_out_elbo, model)
            run.is_over |= run.early_stopping.should_stop
        for callback in self.callbacks:
            callback.on_epoch_end(self, record)

    def _batches(self, batch_size: int, count: int) -> Stream:
        batches = self.source.batches(batch_size, count, self.order)
        return on_device(self.source, batches, self.model.device)

    def _weights(self, run: StageRun) -> FacetWeights:
        return run.plan.weights(
            run.step,
            is_warming_up=run.is_warming_up,
            past=run.past,
            num_facets=len(self.model.facet_priors),
            has_nuisance=self.model.nuisance is not None,
        )

    def _initialize_mixtures(self, facets: Sequence[int]) -> None:
        initialize_mixtures(self.model, self.sample, facets, self.seed)


def _as_json(config: MFCVAEConfig) -> Any:
    """Write a configuration for JSON; None if it holds factories that JSON does not know."""
    try:
        return json.loads(config.to_json())
    except TypeError:
        return None


def _log_progress(trainer: Trainer, record: EpochRecord) -> None:
    """Log an epoch in one line."""
    LOGGER.info(
        "stage %d of %d, epoch %d of %d: loss %.2f, ELBO %.2f nats per datum, clusters alive %s",
        record.stage + 1,
        len(trainer.plans),
        record.epoch + 1,
        trainer.plans[record.stage].num_epochs,
        record.loss,
        record.elbo,
        ", ".join(map(str, record.alive)),
    )


def _train_mode(model: MFCVAE) -> None:
    """Set training mode for all but frozen batch normalisation, whose running averages would move."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not any(p.requires_grad for p in module.parameters()):
            module.eval()
