"""A stage while it trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

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
            "early_stopping": self.early_stopping.state_dict(),
            "optimizer": {str(i): moments for i, moments in self.optimizer.state_dict()["state"].items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` returned."""
        self.step, self.epoch = state["step"], state["epoch"]
        self.is_warming_up, self.is_over = state["is_warming_up"], state["is_over"]
        self.early_stopping.load_state_dict(state["early_stopping"])
        moments = {int(i): dict(moments) for i, moments in state["optimizer"].items()}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
