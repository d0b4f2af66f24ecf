"""A stage while it trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pyro_mfcvae._utils.fields import checked
from pyro_mfcvae.training.early_stopping import EarlyStopping
from pyro_mfcvae.training.plan import StagePlan


@dataclass
class StageRun:
    """A stage while it trains.

    Attributes:
        index: index of the stage.
        plan: its steps, and what they weigh.
        past: facets that earlier stages have introduced.
        optimizer: optimiser of all parameters.
        early_stopping: the parameters to go back to when the stage is over.
        is_warming_up: whether the mixtures of the new facets are yet to be fitted.
        step: number of steps so far.
        epoch: number of epochs so far.
        is_over: whether there is no epoch to come.
        retreats: how many times it went back, and on with a lower learning rate.
    """

    index: int
    plan: StagePlan
    past: frozenset[int]
    optimizer: torch.optim.Optimizer
    early_stopping: EarlyStopping
    is_warming_up: bool
    step: int = 0
    epoch: int = 0
    is_over: bool = False
    retreats: int = 0

    @property
    def active(self) -> frozenset[int]:
        """Facets that take part."""
        return self.past | set(self.plan.stage.introduces)

    def state_dict(self) -> dict[str, Any]:
        """Return what the rest of the stage depends on, beside the model."""
        return {
            "index": self.index,
            "step": self.step,
            "epoch": self.epoch,
            "is_warming_up": self.is_warming_up,
            "is_over": self.is_over,
            "retreats": self.retreats,
            "early_stopping": self.early_stopping.state_dict(),
            "optimizer": {str(i): moments for i, moments in self.optimizer.state_dict()["state"].items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned.

        Raises:
            ValueError: if it is not what a run of this plan returned.
        """
        self.step, self.epoch, self.retreats = (
            checked(state[name], int, name) for name in ("step", "epoch", "retreats")
        )
        self.is_warming_up, self.is_over = (
            checked(state[name], bool, name) for name in ("is_warming_up", "is_over")
        )
        if not 0 <= self.step <= self.plan.total_steps or min(self.epoch, self.retreats) < 0:
            raise ValueError(f"step {self.step} and epoch {self.epoch} of {self.plan.total_steps} steps")
        self.early_stopping.load_state_dict(state["early_stopping"])
        moments = {int(i): dict(moments) for i, moments in state["optimizer"].items()}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
