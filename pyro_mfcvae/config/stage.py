"""A stage of training, as data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

from pyro_mfcvae._utils.checks import WrongTypeError, integer, integers, number, one_of, set_checked

Fade = Literal["linear", "cosine"]
Decay = Literal["cosine", "linear", "exponential"]
Optimizer = Literal["adam", "adamw", "rmsprop", "sgd"]
Unmix = bool | Literal["auto"]
FADES: tuple[str, ...] = get_args(Fade)
DECAYS: tuple[str, ...] = get_args(Decay)
OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)


@dataclass(frozen=True)
class Stage:
    r"""One step of the progressive schedule: a run of one optimiser, unless the schedule keeps one for all.

    A facet takes part from the stage that introduces it; before, its fade-in alpha_j is zero and its
    KL weight beta_j is ``pre_training_kl_weight``, and its parameters are frozen. In its first stage,

    .. math::
        \alpha_j = f(t / T), \qquad \beta_j = f(t / T_{KL}) \times
        (\text{warm\_up\_kl\_weight or } \text{kl\_weight}), \qquad f(u) = \min(1, u)

    at step t, with T = ``fade_in_steps``; f may be half a cosine instead. During the first
    ``warm_up_epochs``, or ``warm_up_steps``, the prior of a new facet is a fixed standard normal, or what
    the prior makes of ``reset``; then its mixture is fitted to the embedding, and learned from there on.
    A nuisance takes part in every stage, with a fade-in of one.

    A stage that unmixes introduces all facets, and trains their latents as the one latent of a plain VAE,
    which is what standard normal priors make of them. At its end the latents are turned, so that every
    facet gets an independent subspace; see :mod:`pyro_mfcvae.training.unmixing`. Its mixtures are fitted
    there, and later stages train all of it.

    Attributes:
        introduces: facets that take part from this stage on.
        epochs: number of passes through the data; None if ``steps`` is given.
        batch_size: number of data per step; a data set smaller than it is one batch.
        learning_rate: learning rate of the optimiser.
        decay_after: fraction of the stage after which the learning rate falls to zero.
        warm_up_epochs: number of the stage's epochs before the new facets' mixtures are fitted.
        warm_up_steps: number of steps, in place of ``warm_up_epochs``; the warm-up's last epoch may
            then be shorter.
        warm_up_kl_weight: beta_j of the new facets during the warm-up.
        kl_weight: beta_j of every facet that takes part, else.
        past_kl_weight: beta_j of the facets of earlier stages; None is ``kl_weight``. If it is larger,
            what does not tell the past facets' clusters apart is cheaper to keep in the new ones.
        nuisance_kl_weight: beta of the nuisance; None is ``kl_weight``.
        redundancy_weight: charge for facets that depend on each other, in nats per datum times the
            alignment of their latents' kernels in the batch, at most one, summed over pairs of the facets
            that take part; see :mod:`pyro_mfcvae.model.redundancy`. Its cost is quadratic in ``batch_size``.
        fade_in_steps: number of steps T over which new facets fade in; 0 is at once.
        freeze: parameters that do not change: their names with shell wildcards, as in ``"encoder.*"``, and
            the groups ``"facet 0"``, ``"facet 1"``, ... (all that belongs to a facet alone), ``"past
            facets"`` (those of earlier stages), ``"nuisance"`` and ``"networks"``.
        steps: number of steps of the optimiser, in place of ``epochs``; the last epoch may then be shorter.
        fade: ``"linear"`` or ``"cosine"``.
        kl_fade_in_steps: number of steps T_KL over which the KL weights of new facets rise; None is T.
        pre_training_kl_weight: beta_j of facets that take no part yet. Above zero their encoders do train.
        optimizer: ``"adam"``, ``"adamw"``, ``"rmsprop"`` or ``"sgd"`` (with a momentum of 0.9).
        decay: ``"cosine"``, ``"linear"`` or ``"exponential"`` (to a hundredth).
        patience: epochs without a better ELBO of the held-out data after which the stage ends, with the
            parameters of its best epoch; None is never. It asks for ``Schedule.held_out``.
        unmix: whether the stage ends with unmixing the latents; with ``"auto"``, into as many facets as
            there are independent subspaces with clusters, and as many clusters as they have: the first
            facet of the configuration stands for all of them, with its prior and at most its clusters.

    Raises:
        ValueError: for a value outside its range, by the attribute's name.

    References:
        Falck et al. (2021), section 3.3; Li, Murkute, Gyawali, Wang (2020), Progressive Learning and
        Disentanglement of Hierarchical Representations (fade-in and pre-training weights).
    """

    introduces: tuple[int, ...]
    epochs: int | None = None
    batch_size: int = 256
    learning_rate: float = 2e-3
    decay_after: float = 0.7
    warm_up_epochs: int = 0
    warm_up_kl_weight: float = 0.1
    kl_weight: float = 1.0
    fade_in_steps: int = 0
    freeze: tuple[str, ...] = ()
    steps: int | None = None
    fade: Fade = "linear"
    kl_fade_in_steps: int | None = None
    past_kl_weight: float | None = None
    pre_training_kl_weight: float = 0.0
    optimizer: Optimizer = "adam"
    decay: Decay = "cosine"
    patience: int | None = None
    warm_up_steps: int | None = None
    unmix: Unmix = False
    nuisance_kl_weight: float | None = None
    redundancy_weight: float = 0.0

    def __post_init__(self) -> None:
        set_checked(self, integers, "introduces", least=None, allow_none=True, expected="indices of facets")
        object.__setattr__(self, "freeze", _patterns(self.freeze))
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                f"epochs: got {self.epochs} with steps={self.steps}, expected one of the two to be given"
            )
        set_checked(self, integer, "epochs", "steps", "patience", least=1, or_none=True)
        set_checked(self, integer, "kl_fade_in_steps", "warm_up_steps", least=0, or_none=True)
        set_checked(self, integer, "batch_size", least=1)
        set_checked(self, integer, "warm_up_epochs", "fade_in_steps", least=0)
        set_checked(self, number, "warm_up_kl_weight", "kl_weight", "pre_training_kl_weight", least=0)
        set_checked(self, number, "past_kl_weight", "nuisance_kl_weight", least=0, or_none=True)
        set_checked(self, number, "redundancy_weight", least=0)
        set_checked(self, number, "learning_rate", above=0)
        set_checked(self, number, "decay_after", least=0, most=1)
        for name, known in (("fade", FADES), ("optimizer", OPTIMIZERS), ("decay", DECAYS)):
            set_checked(self, one_of, name, known=known)
        if not isinstance(self.unmix, bool) and self.unmix != "auto":
            raise ValueError(f"unmix: got {self.unmix!r}, expected False, True or 'auto'")
        if self.unmix and (self.warm_up_epochs or self.warm_up_steps):
            raise ValueError(
                f"unmix: got {self.unmix!r} with a warm-up, expected none, since the whole stage is before "
                "the mixtures are fitted"
            )
        if self.epochs is not None and self.warm_up_epochs >= self.epochs:
            raise ValueError(
                f"warm_up_epochs: got {self.warm_up_epochs}, expected fewer than epochs="
                f"{self.epochs}, since the mixtures are fitted after the warm-up"
            )
        if self.warm_up_steps is not None and self.warm_up_epochs:
            raise ValueError(
                f"warm_up_steps: got {self.warm_up_steps} with warm_up_epochs={self.warm_up_epochs}, "
                "expected at most one of the two"
            )
        if self.steps is not None and (self.warm_up_steps or 0) >= self.steps:
            raise ValueError(
                f"warm_up_steps: got {self.warm_up_steps}, expected fewer than steps={self.steps}, since the "
                "mixtures are fitted after the warm-up"
            )

    def fade_in(self, step: int) -> float:
        """Return alpha_j in [0, 1] of the facets that this stage introduces, at its 0-based ``step``."""
        return self._faded(step, self.fade_in_steps)

    def kl_fade_in(self, step: int) -> float:
        """Return the factor in [0, 1] of their beta_j."""
        return self._faded(
            step, self.fade_in_steps if self.kl_fade_in_steps is None else self.kl_fade_in_steps
        )

    def _faded(self, step: int, steps: int) -> float:
        if step >= steps:
            return 1.0
        return step / steps if self.fade == "linear" else 0.5 * (1 - math.cos(math.pi * step / steps))

    def learning_rate_at(self, progress: float) -> float:
        """Return the learning rate at a fraction ``progress`` of the stage."""
        if progress <= self.decay_after:
            return self.learning_rate
        fallen = (progress - self.decay_after) / (1 - self.decay_after)
        if self.decay == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * fallen))
        if self.decay == "linear":
            return self.learning_rate * (1 - fallen)
        return self.learning_rate * math.pow(0.01, fallen)

    def __str__(self) -> str:
        """Describe this stage in one line."""
        return ", ".join(cell for cell in self._cells() if cell)

    def _cells(self) -> tuple[str, ...]:
        """Describe its new facets, length, batch, optimiser, weights, fade-in and frozen parameters."""
        new = "no new facet"
        if self.introduces:
            new = f"facet{'s' * (len(self.introduces) > 1)} {', '.join(map(str, self.introduces))}"
        if self.unmix == "auto":
            new = "one latent, unmixed into facets"
        elif self.unmix:
            new = f"one latent, unmixed into {new}"
        length = f"{self.steps} steps" if self.epochs is None else f"{self.epochs} epochs"
        if self.patience is not None:
            length += f" or {self.patience} without gain"
        rate = f"{self.optimizer} {self.learning_rate:g}"
        if self.decay_after < 1:
            rate += f", {self.decay} decay after {100 * self.decay_after:.0f} %"
        weight = f"KL weight {self.kl_weight:g}"
        if self.warm_up_epochs or self.warm_up_steps:
            warm_up = f"{self.warm_up_steps} steps" if self.warm_up_steps else f"{self.warm_up_epochs} epochs"
            weight = f"warm-up {warm_up} at KL weight {self.warm_up_kl_weight:g}, then {self.kl_weight:g}"
        if self.past_kl_weight is not None:
            weight += f", of past facets {self.past_kl_weight:g}"
        if self.nuisance_kl_weight is not None:
            weight += f", of the nuisance {self.nuisance_kl_weight:g}"
        if self.redundancy_weight:
            weight += f", redundancy weight {self.redundancy_weight:g}"
        if self.pre_training_kl_weight:
            weight += f", before its stage {self.pre_training_kl_weight:g}"
        fade = ""
        if self.fade_in_steps or self.kl_fade_in_steps:
            fade = f"{self.fade} fade-in {self.fade_in_steps} steps"
            if self.kl_fade_in_steps not in (None, self.fade_in_steps):
                fade += f" (KL {self.kl_fade_in_steps})"
        frozen = f"frozen {', '.join(self.freeze)}" if self.freeze else ""
        return new, length, f"batch {self.batch_size}", rate, weight, fade, frozen


class StageOptions(TypedDict, total=False):
    """Fields of :class:`Stage` that all stages of a schedule may share, as keywords."""

    batch_size: int
    learning_rate: float
    decay_after: float
    warm_up_kl_weight: float
    kl_weight: float
    freeze: tuple[str, ...]
    fade: Fade
    kl_fade_in_steps: int | None
    past_kl_weight: float | None
    pre_training_kl_weight: float
    optimizer: Optimizer
    decay: Decay
    patience: int | None
    warm_up_steps: int | None
    nuisance_kl_weight: float | None
    redundancy_weight: float


class StageFields(StageOptions, total=False):
    """All fields of :class:`Stage` but the facets that it introduces, as keywords."""

    epochs: int | None
    steps: int | None
    warm_up_epochs: int
    fade_in_steps: int
    unmix: Unmix


def _patterns(freeze: Sequence[str] | str) -> tuple[str, ...]:
    if isinstance(freeze, str):
        raise WrongTypeError(f"freeze: got the string {freeze!r}, expected a tuple of strings")
    patterns = tuple(freeze) if isinstance(freeze, Iterable) else (freeze,)
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise WrongTypeError(f"freeze: got {freeze!r}, expected a tuple of strings")
    return patterns
