"""The schedule of training, as data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, Unpack, cast

from pyro_mfcvae._utils.checks import WrongTypeError, flag, integer, number, set_checked
from pyro_mfcvae._utils.tables import html_table, text_table
from pyro_mfcvae.config.stage import Stage, StageOptions

T = TypeVar("T")
DEFAULT_EPOCHS = 30  # of a stage, where neither epochs nor steps are given
UNMIXED_EPOCHS = (40, 20)  # of the two stages, likewise


@dataclass(frozen=True)
class Schedule:
    """The stages of training, in order; each facet is introduced by exactly one.

    Attributes:
        stages: the stages.
        held_out: fraction in [0, 1) of the data that is not trained on, the same whatever the seed; the
            history then has its ELBO.
        keep_optimizer: whether one optimiser trains all stages, with the moments that it has at the end of
            each, as in the paper's code; else every stage has a new one.

    Raises:
        ValueError: if a facet is introduced twice or not at all, a stage with ``patience`` has no
            held-out data to look at, or stages that keep an optimiser name different ones, or unmix.

    Example:
        >>> schedule = Schedule.progressive(2, epochs=(30, 10))
        >>> [stage.introduces for stage in schedule.stages]
        [(1,), (0,)]
        >>> print(schedule)
        1  facet 1  30 epochs  batch 256  adam 0.002, cosine decay after 70 %  KL weight 1
        2  facet 0  10 epochs  batch 256  adam 0.002, cosine decay after 70 %  KL weight 1
    """

    stages: tuple[Stage, ...]
    held_out: float = 0.0
    keep_optimizer: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.stages, Iterable):
            raise WrongTypeError(f"stages: got {self.stages!r}, expected at least one Stage, in a tuple")
        object.__setattr__(self, "stages", tuple(self.stages))
        if not self.stages:
            raise ValueError("stages: got none, expected at least one Stage")
        for stage in self.stages:
            if not isinstance(stage, Stage):
                raise WrongTypeError(f"stages: got {stage!r} among them, expected each to be a Stage")
        introduced = sorted(j for stage in self.stages for j in stage.introduces)
        if introduced != list(range(len(introduced))) or not introduced:
            raise ValueError(
                f"stages: they introduce the facets {introduced}, expected each of 0 .. J-1 once"
            )
        set_checked(self, number, "held_out", least=0, below=1, expected="a fraction in [0, 1)")
        set_checked(self, flag, "keep_optimizer")
        optimizers = sorted({stage.optimizer for stage in self.stages})
        if self.keep_optimizer and (len(optimizers) > 1 or self.stages[0].unmix):
            raise ValueError(
                f"keep_optimizer: got True for optimizers {optimizers} and unmix={self.stages[0].unmix!r}, "
                "expected the same optimizer in all stages, and none that unmixes, which makes new parameters"
            )
        weights = [stage.redundancy_weight for stage in self.stages]
        if self.num_facets == 1 and self.stages[0].unmix != "auto" and any(weights):
            raise ValueError(f"redundancy_weight: got {weights} with one facet, expected 0 or two facets")
        if any(stage.unmix for stage in self.stages[1:]) or (
            self.stages[0].unmix and len(self.stages[0].introduces) != len(introduced)
        ):
            raise ValueError(
                f"unmix: got {[stage.unmix for stage in self.stages]} for the stages, expected it of the "
                "first one only, which must introduce all facets"
            )
        if self.held_out == 0 and any(stage.patience is not None for stage in self.stages):
            raise ValueError("held_out: got 0, expected a positive fraction, since a stage has patience")

    def _rows(self) -> list[list[str]]:
        """Describe the stages, a row each; without columns that say nothing."""
        rows = [(str(i), *stage._cells()) for i, stage in enumerate(self.stages, start=1)]
        columns = [column for column in zip(*rows, strict=True) if any(column)]
        return [list(row) for row in zip(*columns, strict=True)]

    def _notes(self) -> list[str]:
        kept = [f"one {self.stages[0].optimizer} for all stages"] if self.keep_optimizer else []
        return [*kept, *([f"held out: {100 * self.held_out:g} % of the data"] if self.held_out else [])]

    def __str__(self) -> str:
        """List the stages in a table, a line each."""
        rows = self._rows()
        return "\n".join([text_table(rows, left=range(len(rows[0]))), *self._notes()])

    def _repr_html_(self) -> str:
        rows = self._rows()
        return html_table([["stage", *[""] * (len(rows[0]) - 1)], *rows], self._notes())

    @property
    def num_facets(self) -> int:
        """Number of facets J that the stages introduce."""
        return sum(len(stage.introduces) for stage in self.stages)

    @classmethod
    def progressive(
        cls,
        num_facets: int,
        *,
        epochs: int | Sequence[int] | None = None,
        steps: int | Sequence[int] | None = None,
        warm_up_epochs: int | Sequence[int] = 0,
        fade_in_steps: int = 0,
        **options: Unpack[StageOptions],
    ) -> Schedule:
        """Train in the paper's order: the deepest facet first, then the others one by one.

        Args:
            num_facets: number of facets J.
            epochs: number of epochs of each stage, in the order of training; one number serves all. None
                is 30, unless ``steps`` are given.
            steps: number of steps of each stage, in place of ``epochs``; one number serves all.
            warm_up_epochs: number of epochs of each stage's warm-up; one number serves all.
            fade_in_steps: length of the fade-in of all stages but the first, which has nothing to fade into.
            **options: other fields of :class:`Stage`, for all stages.

        Returns:
            A schedule of J stages.

        Raises:
            ValueError: if both epochs and steps are given, or there are not J numbers of one of them.
        """
        J = integer("num_facets", num_facets, least=1)
        if epochs is None and steps is None:
            epochs = DEFAULT_EPOCHS
        each = zip(
            reversed(range(J)),
            _for_each("epochs", epochs, J),
            _for_each("steps", steps, J),
            _for_each("warm_up_epochs", warm_up_epochs, J),
            [0] + [fade_in_steps] * (J - 1),
            strict=True,
        )
        return cls(
            tuple(
                Stage((j,), e, steps=s, warm_up_epochs=w, fade_in_steps=fade, **options)
                for j, e, s, w, fade in each
            )
        )

    @classmethod
    def joint(
        cls,
        num_facets: int,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        warm_up_epochs: int = 0,
        fade_in_steps: int = 0,
        **options: Unpack[StageOptions],
    ) -> Schedule:
        """Train all facets at once, in a single stage.

        Args:
            num_facets: number of facets J.
            epochs: number of epochs; None is 30, unless ``steps`` are given.
            steps: number of steps, in place of ``epochs``.
            warm_up_epochs: number of epochs of the warm-up.
            fade_in_steps: length of the fade-in.
            **options: other fields of :class:`Stage`.

        Returns:
            A schedule of one stage.

        Raises:
            ValueError: if both epochs and steps are given.
        """
        if epochs is None and steps is None:
            epochs = DEFAULT_EPOCHS
        stage = Stage(
            tuple(range(integer("num_facets", num_facets, least=1))),
            epochs,
            steps=steps,
            warm_up_epochs=warm_up_epochs,
            fade_in_steps=fade_in_steps,
            **options,
        )
        return cls((stage,))

    @classmethod
    def unmixed(
        cls,
        num_facets: int,
        *,
        epochs: int | Sequence[int] | None = None,
        steps: int | Sequence[int] | None = None,
        unmix: Literal[True, "auto"] = True,
        **options: Unpack[StageOptions],
    ) -> Schedule:
        """Train one latent of all facets, unmix it, and train all facets together from there.

        Args:
            num_facets: number of facets J; 1 for ``unmix="auto"``.
            epochs: number of epochs of the two stages; None is 40 and 20, unless ``steps`` are given.
            steps: number of steps of the two stages, in place of ``epochs``.
            unmix: True or ``"auto"``, as in :class:`Stage`.
            **options: other fields of :class:`Stage`, for both stages; the learning rate is that of the
                first, and the second has half of it.

        Returns:
            A schedule of two stages.

        Raises:
            ValueError: if both epochs and steps are given, or there are not two numbers of one of them.
        """
        if epochs is None and steps is None:
            epochs = UNMIXED_EPOCHS
        facets = tuple(range(integer("num_facets", num_facets, least=1)))
        (first, later), (first_steps, later_steps) = (
            _for_each("epochs", epochs, 2, "stages"),
            _for_each("steps", steps, 2, "stages"),
        )
        rate = options.get("learning_rate", Stage.learning_rate)
        slower: StageOptions = {**options, "learning_rate": rate / 2}
        return cls(
            (
                Stage(facets, first, steps=first_steps, unmix=unmix, **options),
                Stage((), later, steps=later_steps, **slower),
            )
        )


def _for_each(name: str, values: T | Sequence[T], count: int, of: str = "facets") -> list[T]:
    """List one value for each stage, which checks it."""
    is_one = isinstance(values, str) or not isinstance(values, Iterable)
    each = [cast(T, values)] * count if is_one else list(cast(Sequence[T], values))
    if len(each) != count:
        raise ValueError(f"{name}: got {each}, expected one for each of {count} {of}")
    return each
