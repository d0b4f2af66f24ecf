"""The progressive training schedule, as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stage:
    r"""One step of the progressive schedule: a run of one optimiser.

    A facet takes part from the stage that introduces it; before, its fade-in alpha_j and its KL weight
    beta_j are zero and its parameters are frozen. In its first stage,

    .. math::
        \alpha_j = \min(1, t / T), \qquad \beta_j = \alpha_j \times
        (\text{warm\_up\_kl\_weight or } \text{kl\_weight})

    at step t, with T = ``fade_in_steps``. During the first ``warm_up_epochs`` the prior of a new facet
    is a fixed standard normal, or what the prior makes of ``reset``; then its mixture is fitted to
    the embedding, and learned from there on.

    Attributes:
        introduces: facets that take part from this stage on.
        epochs: passes through the data.
        batch_size: data per step; a data set smaller than it is one batch.
        learning_rate: of Adam.
        decay_after: fraction of the stage after which the learning rate falls to zero along a cosine.
        warm_up_epochs: of the stage's epochs, those before the new facets' mixtures are fitted.
        warm_up_kl_weight: beta_j of the new facets during the warm-up.
        kl_weight: beta_j of every facet that takes part, else.
        fade_in_steps: T, steps over which new facets fade in; 0 is at once.
        freeze: names of parameters that do not change, with shell wildcards, as in ``"encoder.*"``.

    Raises:
        ValueError: for a value outside its range, by the attribute's name.
    """

    introduces: tuple[int, ...]
    epochs: int
    batch_size: int = 256
    learning_rate: float = 2e-3
    decay_after: float = 0.7
    warm_up_epochs: int = 0
    warm_up_kl_weight: float = 0.1
    kl_weight: float = 1.0
    fade_in_steps: int = 0
    freeze: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "introduces", tuple(self.introduces))
        object.__setattr__(self, "freeze", _patterns(self.freeze))
        _at_least("epochs", self.epochs, 1)
        _at_least("batch_size", self.batch_size, 1)
        _at_least("warm_up_epochs", self.warm_up_epochs, 0)
        _at_least("fade_in_steps", self.fade_in_steps, 0)
        for name in ("warm_up_kl_weight", "kl_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}: got {value}, expected a number of at least 0")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate: got {self.learning_rate}, expected a positive number")
        if not 0 <= self.decay_after <= 1:
            raise ValueError(f"decay_after: got {self.decay_after}, expected a number in [0, 1]")
        if self.warm_up_epochs >= self.epochs:
            raise ValueError(
                f"warm_up_epochs: got {self.warm_up_epochs}, expected fewer than epochs="
                f"{self.epochs}, since the mixtures are fitted after the warm-up"
            )

    def fade(self, step: int) -> float:
        """alpha_j in [0, 1] of the facets that this stage introduces, at its 0-based ``step``."""
        return 1.0 if step >= self.fade_in_steps else step / self.fade_in_steps

    def decay(self, progress: float) -> float:
        """Factor in [0, 1] of the learning rate, at a fraction ``progress`` of the stage."""
        if progress <= self.decay_after:
            return 1.0
        remaining = (progress - self.decay_after) / (1 - self.decay_after)
        return 0.5 * (1 + math.cos(math.pi * remaining))


@dataclass(frozen=True)
class Schedule:
    """The stages of training, in order; each facet is introduced by exactly one.

    Attributes:
        stages: the stages.

    Raises:
        ValueError: if a facet is introduced twice or not at all.

    Example:
        >>> schedule = Schedule.progressive(2, epochs=(30, 10))
        >>> [stage.introduces for stage in schedule.stages]
        [(1,), (0,)]
    """

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        if not self.stages:
            raise ValueError("stages: got none, expected at least one Stage")
        introduced = sorted(j for stage in self.stages for j in stage.introduces)
        if introduced != list(range(len(introduced))) or not introduced:
            raise ValueError(
                f"stages: they introduce the facets {introduced}, expected each of 0 .. J-1 once"
            )

    @property
    def num_facets(self) -> int:
        """Number of facets J that the stages introduce."""
        return sum(len(stage.introduces) for stage in self.stages)

    @classmethod
    def progressive(
        cls,
        num_facets: int,
        *,
        epochs: int | Sequence[int] = 30,
        warm_up_epochs: int | Sequence[int] = 0,
        fade_in_steps: int = 0,
        **options: Any,
    ) -> Schedule:
        """The paper's order: the deepest facet first, then the others one by one.

        Args:
            num_facets: J.
            epochs: of each stage, in the order of training; one number serves all.
            warm_up_epochs: of each stage; one number serves all.
            fade_in_steps: of all stages but the first, which has nothing to fade into.
            **options: other fields of :class:`Stage`, for all stages.

        Returns:
            A schedule of J stages.

        Raises:
            ValueError: if there are not J numbers of epochs.
        """
        each = zip(
            reversed(range(num_facets)),
            _for_each("epochs", epochs, num_facets),
            _for_each("warm_up_epochs", warm_up_epochs, num_facets),
            [0] + [fade_in_steps] * (num_facets - 1),
            strict=True,
        )
        return cls(
            tuple(
                Stage((j,), n, warm_up_epochs=warm_up, fade_in_steps=fade, **options)
                for j, n, warm_up, fade in each
            )
        )

    @classmethod
    def joint(cls, num_facets: int, *, epochs: int = 30, **options: Any) -> Schedule:
        """All facets at once, in a single stage with the given fields of :class:`Stage`."""
        return cls((Stage(tuple(range(num_facets)), epochs, **options),))


def _at_least(name: str, value: int, minimum: int) -> None:
    if not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name}: got {value!r}, expected an integer of at least {minimum}")


def _for_each(name: str, values: int | Sequence[int], count: int) -> list[int]:
    each = [values] * count if isinstance(values, int) else list(values)
    if len(each) != count:
        raise ValueError(f"{name}: got {each}, expected one for each of {count} facets")
    return each


def _patterns(freeze: Sequence[str] | str) -> tuple[str, ...]:
    if isinstance(freeze, str):
        raise TypeError(f"freeze: got the string {freeze!r}, expected a tuple of strings")
    return tuple(freeze)
