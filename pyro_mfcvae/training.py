"""The training loop: it reads the schedule, and the model knows nothing of it."""

from __future__ import annotations

import fnmatch
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import pyro
import torch
from pyro.distributions import Distribution
from torch import Tensor
from tqdm.auto import tqdm

from pyro_mfcvae.model import MFCVAE
from pyro_mfcvae.schedule import Stage

MONITOR_SIZE = 2_000  # data that the history's figures are taken on
EMBEDDING_SIZE = 20_000  # data that a mixture is fitted to
EVALUATION_BATCH = 1_000
VANISHED = 1e-20  # of a gradient; an update from it is far below the precision of a parameter


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch of training came to.

    ELBO, log-likelihood and facet terms are means over a fixed sample of the training data, in nats
    per datum, and without KL weights; ``loss`` is the mean of what was minimised during the epoch.

    Attributes:
        stage: index of the stage.
        epoch: index of the epoch within the stage.
        steps: optimiser steps since the start of training.
        seconds: wall-clock time since the start of training.
        loss: mean loss of the epoch, in nats per datum.
        elbo: log-likelihood plus the terms of the facets that take part.
        log_likelihood: mean of log p(x|z).
        facet_terms: mean of log sum_k pi_k exp(-KL_k), for each facet.
        alive: clusters that are the most probable one for some datum, for each facet.
        learning_rate: at the end of the epoch.
        fade_in: alpha_j at the end of the epoch.
        kl_weights: beta_j at the end of the epoch.
    """

    stage: int
    epoch: int
    steps: int
    seconds: float
    loss: float
    elbo: float
    log_likelihood: float
    facet_terms: tuple[float, ...]
    alive: tuple[int, ...]
    learning_rate: float
    fade_in: tuple[float, ...]
    kl_weights: tuple[float, ...]


def train(model: MFCVAE, x: Tensor, *, seed: int, progress: bool = True) -> list[EpochRecord]:
    r"""Train a model by the stages of its configuration.

    Draws from PyTorch's global generator, which the caller seeds; batches have a generator of their own.

    Args:
        model: the model, on the device where it is trained; it is changed in place.
        x: all data, (N, *x_shape), on the same device.
        seed: of the order of the data and of the mixtures' initialisation.
        progress: whether to show a progress bar.

    Returns:
        One record for each epoch.

    Raises:
        FloatingPointError: if the loss is no longer finite.
        ValueError: if a stage freezes a name that no parameter has, or everything.
    """
    stages = model.config.stages
    for stage in stages:
        _check_patterns(stage, model)
    run = _Run(model, x, seed)
    total = sum(stage.epochs * run.steps_per_epoch(stage) for stage in stages)
    model.declares_parameters = False  # the optimiser has them from the module
    try:
        with _no_validation(), tqdm(total=total, disable=not progress, unit="step") as bar:
            for index, stage in enumerate(stages):
                bar.set_description(f"stage {index + 1}/{len(stages)}")
                run.stage(index, stage, bar)
    finally:
        model.declares_parameters = True
        model.requires_grad_(True).eval()
    return run.history


class _Run:
    """One training run: what lives longer than a stage."""

    def __init__(self, model: MFCVAE, x: Tensor, seed: int) -> None:
        self.model = model
        self.x = x
        self.seed = seed
        self.elbo = model.elbo()
        self.order = torch.Generator(device=x.device).manual_seed(seed)
        chosen = torch.randperm(len(x), generator=self.order, device=x.device)[:EMBEDDING_SIZE]
        self.sample = x[chosen]
        self.active: set[int] = set()
        self.history: list[EpochRecord] = []
        self.steps = 0
        self.start = time.perf_counter()

    def steps_per_epoch(self, stage: Stage) -> int:
        """A last batch that is not full is left to the next epoch's order."""
        return max(1, len(self.x) // stage.batch_size)

    def stage(self, index: int, stage: Stage, bar: tqdm[None]) -> None:
        """Train one stage."""
        model, new = self.model, stage.introduces
        self.active |= set(new)
        for j in new:
            model.facet_priors[j].reset()
        warming = stage.warm_up_epochs > 0
        if not warming:
            self._initialize_priors(new)
        self._freeze(stage, warming)
        optimizer = torch.optim.Adam(model.parameters(), lr=stage.learning_rate, fused=True)

        steps_per_epoch = self.steps_per_epoch(stage)
        total = stage.epochs * steps_per_epoch
        step = 0
        for epoch in range(stage.epochs):
            if warming and epoch == stage.warm_up_epochs:
                warming = False
                self._initialize_priors(new)
                self._freeze(stage, warming)
            model.train()
            loss_sum = torch.zeros((), device=self.x.device)
            for batch in self._batches(stage.batch_size, steps_per_epoch):
                self._set_weights(stage, stage.fade(step), warming)
                for group in optimizer.param_groups:
                    group["lr"] = stage.learning_rate * stage.decay(step / total)
                loss_sum += self._step(batch, optimizer)
                step += 1
                bar.update()
            self.steps += steps_per_epoch
            _drop_vanished_moments(optimizer)
            record = self._record(index, epoch, loss_sum, steps_per_epoch, optimizer)
            self.history.append(record)
            bar.set_postfix(loss=f"{record.loss:.2f}", alive=record.alive)

    def _step(self, batch: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
        """One step of the optimiser; the loss in nats per datum."""
        optimizer.zero_grad(set_to_none=True)  # a gradient of zero would still move what is frozen
        loss = self.elbo.differentiable_loss(self.model.model, self.model.guide, batch) / len(batch)
        loss.backward()
        optimizer.step()
        return cast(Tensor, loss.detach())

    def _batches(self, batch_size: int, count: int) -> Iterator[Tensor]:
        order = torch.randperm(len(self.x), generator=self.order, device=self.x.device)
        for i in range(count):
            yield self.x[order[i * batch_size : (i + 1) * batch_size]]

    def _set_weights(self, stage: Stage, fade: float, warming: bool) -> None:
        """Alpha and beta of every facet: zero before its stage, faded in during it."""
        alpha, beta = [], []
        for j in range(len(self.model.facet_priors)):
            is_new = j in stage.introduces
            weight = stage.warm_up_kl_weight if is_new and warming else stage.kl_weight
            alpha.append((fade if is_new else 1.0) if j in self.active else 0.0)
            beta.append(alpha[-1] * weight)
        self.model.fade_in, self.model.kl_weights = alpha, beta

    def _freeze(self, stage: Stage, warming: bool) -> None:
        """What does not train has no gradient at all: a zero gradient would let Adam drift on."""
        frozen = list(stage.freeze)
        for j in range(len(self.model.facet_priors)):
            if j not in self.active:
                frozen += [f"priors.{j}.*", f"encoder.rungs.{j}.*", f"decoder.rungs.{j}.*"]
            elif j in stage.introduces and warming:
                frozen += [f"priors.{j}.*"]
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not _matches(name, frozen))
            if not parameter.requires_grad:
                parameter.grad = None

    @torch.no_grad()
    def _initialize_priors(self, facets: tuple[int, ...]) -> None:
        """Fit the mixtures of these facets to samples of the aggregated posterior q(z)."""
        self.model.eval()
        q: list[list[Distribution]] = [
            self.model.encode(batch) for batch in self.sample.split(EVALUATION_BATCH)
        ]
        for j in facets:
            embedding = torch.cat([q_batch[j].sample() for q_batch in q])
            self.model.facet_priors[j].initialize(embedding.cpu().numpy(), self.seed)

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
        )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _check_patterns(stage: Stage, model: MFCVAE) -> None:
    names = [name for name, _ in model.named_parameters()]
    unused = [pattern for pattern in stage.freeze if not any(_matches(n, [pattern]) for n in names)]
    if unused:
        raise ValueError(
            f"freeze: got {unused}, which no parameter's name matches; the names are {', '.join(names)}"
        )
    if all(_matches(name, stage.freeze) for name in names):
        raise ValueError(f"freeze: got {stage.freeze}, which leaves nothing to train")


@torch.no_grad()
def _drop_vanished_moments(optimizer: torch.optim.Optimizer) -> None:
    """Set Adam's first moments to zero where they have vanished.

    A unit of a network that no longer responds has no gradient, and its moments would decay until they
    are denormal numbers and stay so: processors are slow with those, and a step of MNIST took 1.5 times
    as long from the third epoch on.
    """
    for state in optimizer.state.values():
        state["exp_avg"].masked_fill_(state["exp_avg"].abs() < VANISHED, 0.0)


@contextmanager
def _no_validation() -> Iterator[None]:
    """Pyro's checks of every distribution and trace would cost time in every step.

    A loss that is not finite is an error at the end of the epoch; Pyro need not warn of it before.
    """
    with pyro.validation_enabled(False), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Encountered (NaN|\+?-?inf)")
        yield
