"""The training loop: it reads the schedule, and the model knows nothing of it."""

from __future__ import annotations

import logging
import math
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import pyro
import torch
from pyro.distributions import Distribution
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm.auto import tqdm

from pyro_mfcvae._utils.devices import describe_environment
from pyro_mfcvae.config.schedule import Stage
from pyro_mfcvae.data.sources import InMemory, Source, Stream, on_device
from pyro_mfcvae.model.mfcvae import MFCVAE
from pyro_mfcvae.networks import initialize_from_data, look_at_subspaces
from pyro_mfcvae.priors.initialization import embedding_size
from pyro_mfcvae.training.checkpoints import Checkpoint
from pyro_mfcvae.training.compiled import Compile
from pyro_mfcvae.training.freezing import check_patterns, freeze
from pyro_mfcvae.training.history import EpochRecord, History
from pyro_mfcvae.training.optimizers import make_optimizer
from pyro_mfcvae.training.stage_state import Best, StageState
from pyro_mfcvae.training.step import Stepper
from pyro_mfcvae.training.subspaces import independent_subspaces

MONITOR_SIZE = 2_000  # data that the history's figures are taken on
EMBEDDING_SIZE = 20_000  # data that a mixture is fitted to, or a few for each of very many clusters
EVALUATION_BATCH = 1_000
INITIALIZATION_BATCH = 1_000  # data that networks are initialised by
SUBSPACE_BATCH = 2_000  # data in which independent subspaces are looked for
VANISHED = 1e-20  # of a gradient; an update from it is far below the precision of a parameter

_log = logging.getLogger("pyro_mfcvae.progress")


class DeadClustersWarning(UserWarning):
    """Fewer than half of a facet's clusters are the most probable one for any datum."""


def train(
    model: MFCVAE,
    x: Tensor | Source,
    *,
    seed: int,
    compile: Compile = False,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> History:
    r"""Train a model by the stages of its configuration.

    Draws from PyTorch's global generator, which the caller seeds; batches have a generator of their own.

    Args:
        model: the model, on the device where it is trained; it is changed in place.
        x: all data, (N, *x_shape); where they are not on the same device, batches are copied to it.
        seed: of the order of the data and of the mixtures' initialisation.
        compile: as in :func:`pyro_mfcvae.fit`.
        checkpoint: file where the run is kept between epochs, and from which it goes on if it is there.
        progress: whether to show a progress bar.

    Returns:
        One record for each epoch, and what the model was trained in.

    Raises:
        FloatingPointError: if the loss is no longer finite.
        ValueError: if a stage freezes a name that no parameter has, or everything, if it ends before its
            warm-up, if too few data are left to hold out, or if the checkpoint is not of this run.

    Warns:
        DeadClustersWarning: if fewer than half of a facet's clusters are used in the end.
    """
    stages = model.config.stages
    run = _Run(model, x, seed, compile)
    for stage in stages:
        check_patterns(stage, model)
        run.check_length(stage)
    total = sum(run.total_steps(stage) for stage in stages)
    if checkpoint is not None:
        run.checkpoint = Checkpoint(checkpoint, run.identity())
    saved = None if run.checkpoint is None else run.checkpoint.stage
    if model.config.data_init and saved is None:
        run.initialize_networks()
    model.declares_parameters = False  # the optimiser has them from the module
    try:
        with _no_validation(), tqdm(total=total, disable=not progress, unit="step") as bar:
            for index, stage in enumerate(stages):
                if saved is not None and index < saved:
                    bar.total -= run.total_steps(stage)
                    continue
                bar.set_description(f"stage {index + 1}/{len(stages)}")
                run.stage(index, stage, bar)
    finally:
        model.declares_parameters = True
        model.requires_grad_(True).eval()
    run.warn_of_dead_clusters()
    return History(run.history, describe_environment(model.device, model.precision))


class _Run:
    """One training run: what lives longer than a stage."""

    def __init__(self, model: MFCVAE, x: Tensor | Source, seed: int, compile: Compile = False) -> None:
        self.model = model
        self.source = x if isinstance(x, Source) else InMemory(x)
        self.held_out: Tensor | None = None
        if model.config.held_out:
            self.source, self.held_out = self.source.hold_out(model.config.held_out, seed)
        self.seed = seed
        self.order = torch.Generator(device=model.device).manual_seed(seed)
        size = embedding_size(max(facet.clusters for facet in model.config.facets), EMBEDDING_SIZE)
        self.sample = self.source.sample(size, self.order).to(model.device)
        # What all data share counts once for all of them.
        has_globals = any(prior.has_globals for prior in model.facet_priors)
        self.stepper = Stepper(model, len(self.source) if has_globals else None, compile)
        self.checkpoint: Checkpoint | None = None
        self.active: set[int] = set()
        self.history: list[EpochRecord] = []
        self.steps = 0
        self.start = time.perf_counter()

    def identity(self) -> dict[str, Any]:
        """What makes this run another than others, as far as it can be told."""
        model = self.model
        try:
            config = model.config.to_json()
        except TypeError:  # of factories that JSON does not know
            config = None
        # Data that are streamed may be others every time.
        seen = self.sample[:INITIALIZATION_BATCH].cpu().numpy() if isinstance(self.source, InMemory) else None
        return {
            "configuration": config,
            "seed": self.seed,
            "precision": model.precision,
            "number of data": len(self.source),
            "shape of a datum": list(model.x_shape),
            "data": None if seen is None else zlib.crc32(seen.tobytes()),
        }

    def steps_per_epoch(self, stage: Stage) -> int:
        """A last batch that is not full is left to the next epoch's order."""
        return max(1, len(self.source) // stage.batch_size)

    def total_steps(self, stage: Stage) -> int:
        """Steps of the optimiser in the whole stage, unless it ends early."""
        return stage.steps or cast(int, stage.epochs) * self.steps_per_epoch(stage)

    def warm_up_steps(self, stage: Stage) -> int:
        """Steps of the optimiser before the new facets' mixtures are fitted."""
        if stage.warm_up_steps is not None:
            return stage.warm_up_steps
        return stage.warm_up_epochs * self.steps_per_epoch(stage)

    def check_length(self, stage: Stage) -> None:
        """How many steps an epoch is depends on the data."""
        total = self.total_steps(stage)
        if self.warm_up_steps(stage) < total:
            return
        if stage.warm_up_steps is not None:
            raise ValueError(
                f"warm_up_steps: got {stage.warm_up_steps}, expected fewer than the {total} steps that "
                f"{stage.epochs} epochs of these data are; raise epochs"
            )
        raise ValueError(
            f"warm_up_epochs: got {stage.warm_up_epochs}, expected fewer than the "
            f"{math.ceil(total / self.steps_per_epoch(stage))} epochs that {total} steps of these data are; "
            "raise steps, or give warm_up_steps instead"
        )

    def stage(self, index: int, stage: Stage, bar: tqdm[None]) -> None:
        """Train one stage, or the rest of it."""
        state = self._begin(index, stage)
        bar.update(state.step)
        while not state.is_over:
            self._epoch(state, bar)
            if self.checkpoint is not None:
                self.checkpoint.write(self, state)
        bar.total -= self.total_steps(stage) - state.step
        state.best.restore(self.model)

    def _begin(self, index: int, stage: Stage) -> StageState:
        """A stage before its first epoch, or where the checkpoint has it."""
        model, new = self.model, stage.introduces
        past = {j for earlier in model.config.stages[:index] for j in earlier.introduces}
        self.active = past | set(new)
        optimizer = make_optimizer(stage.optimizer, model.parameters(), stage.learning_rate)
        state = StageState(
            index, stage, past, optimizer, Best(stage.patience), is_warming_up=self.warm_up_steps(stage) > 0
        )
        if self.checkpoint is not None and self.checkpoint.stage == index:
            self.checkpoint.restore(self, state)
        else:
            for j in new:
                model.facet_priors[j].reset()
            if not state.is_warming_up:
                self._initialize_priors(new)
        self._begin_phase(state)
        return state

    def _begin_phase(self, state: StageState) -> None:
        """What trains, and for how many steps, until the warm-up or the stage is over."""
        freeze(self.model, state.stage, state.past, state.is_warming_up)
        warm_up = self.warm_up_steps(state.stage)
        steps = warm_up if state.is_warming_up else self.total_steps(state.stage) - warm_up
        self.stepper.begin(steps)

    def _epoch(self, state: StageState, bar: tqdm[None]) -> None:
        model, stage, optimizer = self.model, state.stage, state.optimizer
        warm_up, total = self.warm_up_steps(stage), self.total_steps(stage)
        if state.is_warming_up and state.step == warm_up:
            state.is_warming_up = False
            self._initialize_priors(stage.introduces)
            self._begin_phase(state)
        _train_mode(model)
        loss_sum = torch.zeros((), device=model.device)
        last = warm_up if state.is_warming_up else total
        count = min(self.steps_per_epoch(stage), last - state.step)
        with closing(self._batches(stage.batch_size, count)) as batches:
            for batch in batches:
                self._set_weights(stage, state.step, state.is_warming_up)
                for group in optimizer.param_groups:
                    group["lr"] = stage.learning_rate_at(state.step / total)
                loss_sum += self._step(batch, optimizer)
                state.step += 1
                bar.update()
        self.steps += count
        _drop_vanished_moments(optimizer)
        record = self._record(state.index, state.epoch, loss_sum, count, optimizer)
        self.history.append(record)
        bar.set_postfix(loss=f"{record.loss:.2f}", alive=record.alive)
        state.epoch += 1
        _log.info(
            "stage %d of %d, epoch %d of %d: loss %.2f, ELBO %.2f nats per datum, clusters alive %s",
            state.index + 1,
            len(model.config.stages),
            state.epoch,
            math.ceil(total / self.steps_per_epoch(stage)),
            record.loss,
            record.elbo,
            ", ".join(map(str, record.alive)),
        )
        state.is_over = state.step == total
        # Before all weights are up, the ELBO is one of another model.
        fade_in = min(stage.fade_in(state.step), stage.kl_fade_in(state.step))
        if fade_in == 1 and not state.is_warming_up and state.best.is_over(record.held_out_elbo, model):
            state.is_over = True

    def _step(self, batch: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
        """One step of the optimiser; the loss in nats per datum."""
        return self.stepper(batch, optimizer)

    def _batches(self, batch_size: int, count: int) -> Stream:
        batches = self.source.batches(batch_size, count, self.order)
        return on_device(self.source, batches, self.model.device)

    def _set_weights(self, stage: Stage, step: int, warming: bool) -> None:
        """Alpha and beta of every facet: faded in during its own stage, and what pre-trains it before."""
        alpha, beta = [], []
        for j in range(len(self.model.facet_priors)):
            is_new = j in stage.introduces
            weight = stage.warm_up_kl_weight if is_new and warming else stage.kl_weight
            if not is_new and stage.past_kl_weight is not None:
                weight = stage.past_kl_weight
            if j not in self.active:
                alpha.append(0.0)
                beta.append(stage.pre_training_kl_weight)
            else:
                alpha.append(stage.fade_in(step) if is_new else 1.0)
                beta.append(weight * (stage.kl_fade_in(step) if is_new else 1.0))
        self.model.fade_in, self.model.kl_weights = alpha, beta

    @torch.no_grad()
    def initialize_networks(self) -> None:
        """Standardise all pre-activations on a batch of the data, with every facet taking part."""
        model, x = self.model, self.sample[:INITIALIZATION_BATCH]
        model.train()
        if model.config.data_init == "subspaces":
            seen = model.likelihood.preprocess(self.sample[:SUBSPACE_BATCH]).flatten(1)
            clusters = [facet.clusters for facet in model.config.facets]
            look_at_subspaces(model.encoder, independent_subspaces(seen.cpu().numpy(), clusters, self.seed))
        initialize_from_data(model.encoder, model.likelihood.preprocess(x))
        z = [q.sample() for q in model.encode(x)]
        initialize_from_data(model.decoder, z, [1.0] * len(z))

    @torch.no_grad()
    def _initialize_priors(self, facets: tuple[int, ...]) -> None:
        """Fit the mixtures of these facets to samples of the aggregated posterior q(z)."""
        self.model.eval()
        q: list[list[Distribution]] = [
            self.model.encode(batch) for batch in self.sample.split(EVALUATION_BATCH)
        ]
        for j in facets:
            embedding = torch.cat([q_batch[j].sample() for q_batch in q])
            prior = self.model.facet_priors[j]
            prior.initialize_from_data(self.sample, embedding.cpu().numpy(), self.seed)

    @torch.no_grad()
    def _record(
        self,
        stage: int,
        epoch: int,
        loss_sum: Tensor,
        steps: int,
        optimizer: torch.optim.Optimizer,
    ) -> EpochRecord:
        model = self.model.eval()
        loss = loss_sum.item() / steps
        held_out = None if self.held_out is None else self._elbo(self.held_out)
        terms = model.elbo_terms(self.sample[:MONITOR_SIZE])
        if not (loss_sum.isfinite() and terms.elbo.isfinite().all()):
            raise FloatingPointError(
                f"training diverged: the loss is {loss} in stage {stage}, epoch {epoch}; lower "
                "learning_rate, or raise sigma of a Gaussian likelihood"
            )
        log_likelihood = terms.log_likelihood.mean().item()
        facet_terms = tuple(term.mean().item() for term in terms.facets)
        return EpochRecord(
            stage=stage,
            epoch=epoch,
            steps=self.steps,
            seconds=time.perf_counter() - self.start,
            loss=loss,
            elbo=log_likelihood + sum(facet_terms[j] for j in self.active),
            log_likelihood=log_likelihood,
            facet_terms=facet_terms,
            alive=tuple(len(r.argmax(-1).unique()) for r in terms.responsibilities),
            learning_rate=optimizer.param_groups[0]["lr"],
            fade_in=tuple(model.fade_in),
            kl_weights=tuple(model.kl_weights),
            held_out_elbo=held_out,
        )

    def _elbo(self, x: Tensor) -> float:
        """Mean ELBO of the facets that take part, in nats per datum."""
        total = 0.0
        for batch in x.split(EVALUATION_BATCH):
            terms = self.model.elbo_terms(batch.to(self.model.device))
            total += (terms.log_likelihood + sum(terms.facets[j] for j in self.active)).sum().item()
        return total / len(x)

    def warn_of_dead_clusters(self) -> None:
        """A facet that lost its clusters is not worth much, whatever the ELBO says."""
        model, n = self.model, len(self.sample)
        used = [torch.zeros(prior.clusters, device=model.device) for prior in model.facet_priors]
        # Half of those that would be seen in n data if all were equally likely.
        enough = [len(u) * (1 - (1 - 1 / len(u)) ** n) / 2 for u in used]
        with torch.no_grad():
            for batch in self.sample.split(EVALUATION_BATCH):
                for u, r in zip(used, model.responsibilities(model.encode(batch)), strict=True):
                    u[r.argmax(-1)] = 1
                if all(u.sum() >= least for u, least in zip(used, enough, strict=True)):
                    return
        for j, prior in enumerate(model.facet_priors):
            alive, K = int(used[j].sum()), prior.clusters
            if alive < enough[j] and not prior.may_leave_clusters_empty:
                warnings.warn(
                    f"facet {j}: only {alive} of {K} clusters are in use. More warm_up_epochs, a smaller "
                    "warm_up_kl_weight, or a decoder that hears the facet better (a larger gate) keep "
                    "more of them alive; or give the facet fewer clusters",
                    DeadClustersWarning,
                    stacklevel=5,  # where fit is called
                )


def _train_mode(model: MFCVAE) -> None:
    """Training mode for all but frozen batch normalisation, whose running averages would move."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not any(p.requires_grad for p in module.parameters()):
            module.eval()


@torch.no_grad()
def _drop_vanished_moments(optimizer: torch.optim.Optimizer) -> None:
    """Set first moments to zero where they have vanished.

    A unit of a network that no longer responds has no gradient, and its moments would decay until they
    are denormal numbers and stay so: processors are slow with those, and a step of MNIST took 1.5 times
    as long from the third epoch on.
    """
    for state in optimizer.state.values():
        for name in ("exp_avg", "momentum_buffer"):
            if isinstance(state.get(name), Tensor):
                state[name].masked_fill_(state[name].abs() < VANISHED, 0.0)


@contextmanager
def _no_validation() -> Iterator[None]:
    """Pyro's checks of every distribution and trace would cost time in every step.

    A loss that is not finite is an error at the end of the epoch; Pyro need not warn of it before.
    """
    with pyro.validation_enabled(False), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Encountered (NaN|\+?-?inf)")
        yield
