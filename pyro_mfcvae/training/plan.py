"""The arithmetic of a stage: how many steps it has, and what each of them weighs."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass
from typing import cast

from pyro_mfcvae.config.schedule import Stage
from pyro_mfcvae.model.weights import FacetWeights


@dataclass(frozen=True)
class StagePlan:
    """A stage with so many data.

    Attributes:
        stage: the stage.
        num_data: number of data that are trained on.
    """

    stage: Stage
    num_data: int

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps of an epoch; a last batch that is not full is left to the next epoch's order."""
        return max(1, self.num_data // self.stage.batch_size)

    @property
    def total_steps(self) -> int:
        """Number of steps of the whole stage, unless it ends early."""
        return self.stage.steps or cast(int, self.stage.epochs) * self.steps_per_epoch

    @property
    def warm_up_steps(self) -> int:
        """Number of steps before the new facets' mixtures are fitted."""
        if self.stage.warm_up_steps is not None:
            return self.stage.warm_up_steps
        return self.stage.warm_up_epochs * self.steps_per_epoch

    @property
    def num_epochs(self) -> int:
        """Number of epochs, the last of which may be shorter, unless the stage ends early."""
        return math.ceil(self.total_steps / self.steps_per_epoch)

    def phase_end(self, is_warming_up: bool) -> int:
        """Return the step at which the warm-up or, after it, the stage is over."""
        return self.warm_up_steps if is_warming_up else self.total_steps

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return self.stage.learning_rate_at(step / self.total_steps)

    def is_faded_in(self, step: int) -> bool:
        """Tell whether all weights are up, so that the ELBO is that of the model itself."""
        return min(self.stage.fade_in(step), self.stage.kl_fade_in(step)) == 1

    def weights(
        self, step: int, *, is_warming_up: bool, past: Set[int], num_facets: int, has_nuisance: bool = False
    ) -> FacetWeights:
        """Weigh every latent in one step.

        Args:
            step: step of the stage, counted from 0.
            is_warming_up: whether the mixtures of the new facets are yet to be fitted.
            past: facets that earlier stages have introduced.
            num_facets: number of facets J.
            has_nuisance: whether there is a nuisance.

        Returns:
            Alpha and beta of every facet, where those of new facets fade in and those of later ones
            pre-train, and last of the nuisance; and the stage's weight of redundancy.
        """
        stage = self.stage
        fade_in, kl = [], []
        for j in range(num_facets):
            if j in stage.introduces:
                weight = stage.warm_up_kl_weight if is_warming_up else stage.kl_weight
                fade_in.append(stage.fade_in(step))
                kl.append(weight * stage.kl_fade_in(step))
            elif j in past:
                fade_in.append(1.0)
                kl.append(stage.kl_weight if stage.past_kl_weight is None else stage.past_kl_weight)
            else:
                fade_in.append(0.0)
                kl.append(stage.pre_training_kl_weight)
        if has_nuisance:
            fade_in.append(1.0)
            kl.append(stage.kl_weight if stage.nuisance_kl_weight is None else stage.nuisance_kl_weight)
        return FacetWeights(tuple(fade_in), tuple(kl), stage.redundancy_weight)

    def check(self) -> None:
        """Raise a ValueError if the stage ends before its warm-up, which depends on the number of data."""
        total, warm_up = self.total_steps, self.warm_up_steps
        if warm_up < total:
            return
        if self.stage.warm_up_steps is not None:
            raise ValueError(
                f"warm_up_steps: got {warm_up}, expected fewer than the {total} steps that "
                f"{self.stage.epochs} epochs of these data are; raise epochs"
            )
        raise ValueError(
            f"warm_up_epochs: got {self.stage.warm_up_epochs}, expected fewer than the {self.num_epochs} "
            f"epochs that {total} steps of these data are; raise steps, or give warm_up_steps instead"
        )
