"""The training loop: it reads the schedule, and the model knows nothing of it."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import pyro
import torch
from pyro.distributions import Distribution
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm.auto import tqdm

from pyro_mfcvae.freezing import check_patterns, expand, matches, of_facet
from pyro_mfcvae.history import EpochRecord
from pyro_mfcvae.model import MFCVAE
from pyro_mfcvae.networks import initialize_from_data, look_at_subspaces
from pyro_mfcvae.priors.initialization import embedding_size
from pyro_mfcvae.schedule import Stage
from pyro_mfcvae.subspaces import independent_subspaces

MONITOR_SIZE = 2_000  # data that the history's figures are taken on
EMBEDDING_SIZE = 20_000  # data that a mixture is fitted to, or a few for each of very many clusters
EVALUATION_BATCH = 1_000
INITIALIZATION_BATCH = 1_000  # data that networks are initialised by
SUBSPACE_BATCH = 2_000  # data in which independent subspaces are looked for
VANISHED = 1e-20  # of a gradient; an update from it is far below the precision of a parameter
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
    "rmsprop": torch.optim.RMSprop,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}


class DeadClustersWarning(UserWarning):
    """Fewer than half of a facet's clusters are the most probable one for any datum."""


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
        ValueError: if a stage freezes a name that no parameter has, or everything, if it ends before its
            warm-up, or if too few data are left to hold out.

    Warns:
        DeadClustersWarning: if fewer than half of a facet's clusters are used in the end.
    """
    stages = model.config.stages
    run = _Run(model, x, seed)
    for stage in stages:
        check_patterns(stage, model)
        run.check_length(stage)
    total = sum(run.total_steps(stage) for stage in stages)
    if model.config.data_init:
        run.initialize_networks()
    model.declares_parameters = False  # the optimiser has them from the module
    try:
        with _no_validation(), tqdm(total=total, disable=not progress, unit="step") as bar:
            for index, stage in enumerate(stages):
                bar.set_description(f"stage {index + 1}/{len(stages)}")
                run.stage(index, stage, bar)
    finally:
        model.declares_parameters = True
        model.requires_grad_(True).eval()
    run.warn_of_dead_clusters()
    return run.history


class _Run:
    """One training run: what lives longer than a stage."""

    def __init__(self, model: MFCVAE, x: Tensor, seed: int) -> None:
        self.model = model
        self.x, self.held_out = _split(x, model.config.held_out, seed)
        self.seed = seed
        self.elbo = model.elbo()
        self.order = torch.Generator(device=x.device).manual_seed(seed)
        size = embedding_size(max(facet.clusters for facet in model.config.facets), EMBEDDING_SIZE)
        chosen = torch.randperm(len(self.x), generator=self.order, device=x.device)[:size]
        self.sample = self.x[chosen]
        self.is_static = model.is_static
        # What all data share counts once for all of them.
        has_globals = any(prior.has_globals for prior in model.facet_priors)
        self.data_size = len(self.x) if has_globals else None  # None is that of a batch
        self.active: set[int] = set()
        self.history: list[EpochRecord] = []
        self.steps = 0
        self.start = time.perf_counter()

    def steps_per_epoch(self, stage: Stage) -> int:
        """A last batch that is not full is left to the next epoch's order."""
        return max(1, len(self.x) // stage.batch_size)

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
        """Train one stage."""
        model, new = self.model, stage.introduces
        past = set(self.active)
        self.active |= set(new)
        for j in new:
            model.facet_priors[j].reset()
        warm_up = self.warm_up_steps(stage)
        warming = warm_up > 0
        if not warming:
            self._initialize_priors(new)
        self._freeze(stage, past, warming)
        optimizer = OPTIMIZERS[stage.optimizer](model.parameters(), lr=stage.learning_rate)
        best = _Best(stage.patience)

        steps_per_epoch, total = self.steps_per_epoch(stage), self.total_steps(stage)
        step = epoch = 0
        while step < total:
            if warming and step == warm_up:
                warming = False
                self._initialize_priors(new)
                self._freeze(stage, past, warming)
            _train_mode(model)
            loss_sum = torch.zeros((), device=self.x.device)
            count = min(steps_per_epoch, (warm_up if warming else total) - step)
            for batch in self._batches(stage.batch_size, count):
                self._set_weights(stage, step, warming)
                for group in optimizer.param_groups:
                    group["lr"] = stage.learning_rate_at(step / total)
                loss_sum += self._step(batch, optimizer)
                step += 1
                bar.update()
            self.steps += count
            _drop_vanished_moments(optimizer)
            record = self._record(index, epoch, loss_sum, count, optimizer)
            self.history.append(record)
            bar.set_postfix(loss=f"{record.loss:.2f}", alive=record.alive)
            epoch += 1
            # Before all weights are up, the ELBO is one of another model.
            is_up = not warming and stage.fade_in(step) == stage.kl_fade_in(step) == 1
            if is_up and best.is_over(record.held_out_elbo, model):
                bar.total -= total - step
                break
        best.restore(model)

    def _step(self, batch: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
        """One step of the optimiser; the loss in nats per datum."""
        optimizer.zero_grad(set_to_none=True)  # a gradient of zero would still move what is frozen
        model, size = self.model, self.data_size or len(batch)
        if self.is_static:
            loss = -model.objective(batch) / size
        else:
            loss = self.elbo.differentiable_loss(model.model, model.guide, batch, data_size=size) / size
        loss.backward()
        optimizer.step()
        return loss.detach()

    def _batches(self, batch_size: int, count: int) -> Iterator[Tensor]:
        order = torch.randperm(len(self.x), generator=self.order, device=self.x.device)
        for i in range(count):
            yield self.x[order[i * batch_size : (i + 1) * batch_size]]

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

    def _freeze(self, stage: Stage, past: set[int], warming: bool) -> None:
        """What does not train has no gradient at all: a zero gradient would let the optimiser drift on."""
        J = len(self.model.facet_priors)
        frozen = expand(stage.freeze, past, J)
        for j in range(J):
            if j not in self.active:
                pre_trains = stage.pre_training_kl_weight > 0
                frozen += [p for p in of_facet(j) if not (pre_trains and p.startswith("encoder."))]
            elif j in stage.introduces and warming:
                frozen += [f"priors.{j}.*"]
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not matches(name, frozen))
            if not parameter.requires_grad:
                parameter.grad = None

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
            terms = self.model.elbo_terms(batch)
            total += (terms.log_likelihood + sum(terms.facets[j] for j in self.active)).sum().item()
        return total / len(x)

    def warn_of_dead_clusters(self) -> None:
        """A facet that lost its clusters is not worth much, whatever the ELBO says."""
        model, n = self.model, len(self.sample)
        used = [torch.zeros(prior.clusters, device=self.x.device) for prior in model.facet_priors]
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


class _Best:
    """The parameters at the best ELBO of the held-out data, if there is patience to wait for better."""

    def __init__(self, patience: int | None) -> None:
        self.patience = patience
        self.elbo = -math.inf
        self.state: dict[str, Tensor] = {}
        self.age = 0

    def is_over(self, elbo: float | None, model: MFCVAE) -> bool:
        """Take note of another epoch; whether it was one too many without a gain."""
        if self.patience is None or elbo is None:
            return False
        self.age += 1
        if elbo > self.elbo:
            self.elbo, self.age = elbo, 0
            self.state = {name: value.clone() for name, value in model.state_dict().items()}
        return self.age >= self.patience

    def restore(self, model: MFCVAE) -> None:
        """Go back to the best."""
        if self.state:
            model.load_state_dict(self.state)


def _train_mode(model: MFCVAE) -> None:
    """Training mode for all but frozen batch normalisation, whose running averages would move."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not any(p.requires_grad for p in module.parameters()):
            module.eval()


def _split(x: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor | None]:
    """Data to train on, and data to hold out."""
    if fraction == 0:
        return x, None
    count = round(fraction * len(x))
    if not 0 < count < len(x):
        raise ValueError(
            f"held_out: got {fraction} of {len(x)} data, which leaves none to hold out or none to train on"
        )
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)
    return x[order[count:]], x[order[:count]]


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
