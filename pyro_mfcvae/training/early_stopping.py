"""The end of a stage where the held-out data no longer gain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class EarlyStopping:
    """The parameters at the best ELBO of the held-out data, and for how long there was no better one.

    Args:
        patience: number of epochs without a gain after which to stop; None never stops.
    """

    def __init__(self, patience: int | None) -> None:
        self.patience = patience
        self.elbo = -math.inf
        self.age = 0
        self.best: dict[str, Tensor] = {}

    def update(self, elbo: float | None, model: nn.Module) -> None:
        """Take note of another epoch.

        Args:
            elbo: elbo of the held-out data, nats per datum; None if there are none.
            model: as it is after the epoch.
        """
        if self.patience is None or elbo is None:
            return
        self.age += 1
        if elbo > self.elbo:
            self.elbo, self.age = elbo, 0
            self.best = {name: value.clone() for name, value in model.state_dict().items()}

    @property
    def should_stop(self) -> bool:
        """True if the last epoch was one too many without a gain."""
        return self.patience is not None and self.age >= self.patience

    def restore(self, model: nn.Module) -> None:
        """Put the best parameters back, if there are any."""
        if self.best:
            model.load_state_dict(self.best)

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the patience."""
        return {"elbo": self.elbo, "age": self.age, "best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        self.elbo, self.age, self.best = state["elbo"], state["age"], dict(state["best"])
