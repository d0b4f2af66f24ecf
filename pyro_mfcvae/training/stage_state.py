"""What lives as long as one stage of training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_mfcvae.config.schedule import Stage
from pyro_mfcvae.model.mfcvae import MFCVAE


@dataclass
class StageState:
    """How far a stage is.

    Attributes:
        index: of the stage.
        stage: the stage.
        past: facets that earlier stages have introduced.
        optimizer: of all parameters.
        best: the parameters to go back to when the stage is over.
        is_warming_up: whether the mixtures of the new facets are yet to be fitted.
        step: steps of the optimiser in this stage.
        epoch: epochs of this stage.
        is_over: whether there is none to come.
    """

    index: int
    stage: Stage
    past: set[int]
    optimizer: torch.optim.Optimizer
    best: Best
    is_warming_up: bool
    step: int = 0
    epoch: int = 0
    is_over: bool = False


class Best:
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
