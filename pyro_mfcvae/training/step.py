"""One step of the optimiser, compiled where that pays."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pyro
import torch
from torch import Tensor

from pyro_mfcvae.model.loss import Loss
from pyro_mfcvae.model.weights import FacetWeights
from pyro_mfcvae.networks.base import is_active
from pyro_mfcvae.training.compiled import Compile, GradientProgram

# Steps of a phase from which on "auto" compiles. By tests/benchmarks/compiling.py, on a processor a program
# has paid for itself after 1,700 to 5,000 steps, and a phase with a fade-in needs two. It is a count and no
# measurement in the run, because a compiled step rounds differently, and the same seed shall give the
# same parameters.
MIN_STEPS = 10_000

_log = logging.getLogger("pyro_mfcvae")


class CompileWarning(UserWarning):
    """A step could not be compiled, and runs as it is."""


class Stepper:
    """Steps of an optimiser on the loss of a model.

    Args:
        loss: loss of a batch and the facets' weights; its model's gradients and parameters change.
        compile: as in :func:`pyro_mfcvae.fit`.
    """

    def __init__(self, loss: Loss, compile: Compile = False) -> None:
        self.loss = loss
        self.compile = compile
        self._compiles = False
        self._programs: dict[tuple[object, ...], GradientProgram] = {}

    def begin(self, steps: int) -> None:
        """Begin a phase of so many steps, in which the same parameters train towards the same objective."""
        self._programs.clear()
        self._compiles = steps >= MIN_STEPS if self.compile == "auto" else bool(self.compile)
        if self.compile == "auto" and not self._compiles:
            _log.info("compile off: %d steps, which pays from %d on", steps, MIN_STEPS)

    def __call__(self, batch: Tensor, weights: FacetWeights, optimizer: torch.optim.Optimizer) -> Tensor:
        """Take one step on the data (N, *x_shape); returns the loss, without gradient."""
        optimizer.zero_grad(set_to_none=True)  # a gradient of zero would still move what is frozen
        loss = self._backward(batch, weights)
        optimizer.step()
        return loss

    def _backward(self, batch: Tensor, weights: FacetWeights) -> Tensor:
        if self._compiles:
            loss = self._compiled_backward(batch, weights)
            if loss is not None:
                return loss
        loss = self.loss(batch, weights)
        if loss.requires_grad:  # it may not, while all facets' weights are zero
            loss.backward()
        return loss.detach()

    def _compiled_backward(self, batch: Tensor, weights: FacetWeights) -> Tensor | None:
        """The loss, and its gradients in the parameters; None if it cannot be compiled."""
        key = (batch.shape, batch.dtype, *(is_active(weight) for weight in weights.all))
        program = self._programs.get(key)
        if program is not None:
            return program(batch, weights)
        start = time.perf_counter()
        try:
            with warnings.catch_warnings(action="ignore"):  # PyTorch's compiler warns of its own code
                program = GradientProgram(
                    self.loss, batch, weights, cuda_graphs=self.compile == "reduce-overhead"
                )
                loss = program(batch, weights)
        except Exception as error:  # whatever it is: the uncompiled step is as good
            self._give_up(error)
            return None
        self._programs[key] = program
        _log.info("compiled a step in %.1f s", time.perf_counter() - start)
        return loss

    def _give_up(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        if self.compile == "auto":
            _log.info("compile off: %s", reason)
        else:
            warnings.warn(
                f"compile: the step could not be compiled ({reason}), and runs as it is, with the same "
                "result; compile=False does not try",
                CompileWarning,
                stacklevel=2,
            )
        self.compile = self._compiles = False


@contextmanager
def without_validation() -> Iterator[None]:
    """Spare Pyro's checks of every distribution and trace, which would cost time in every step.

    A loss that is not finite is an error at the end of the epoch; Pyro need not warn of it before.
    """
    with pyro.validation_enabled(False):
        yield
