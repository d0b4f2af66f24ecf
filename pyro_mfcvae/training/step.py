"""One step of the optimiser, compiled where that pays."""

from __future__ import annotations

import logging
import time
import warnings

import torch
from torch import Tensor

from pyro_mfcvae.model.mfcvae import MFCVAE
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
    """Steps of an optimiser on minus the ELBO, in nats per datum.

    Args:
        model: the model, whose gradients and parameters are changed.
        data_size: number of data that a batch is a subsample of; None is that of the batch.
        compile: as in :func:`pyro_mfcvae.fit`.
    """

    def __init__(self, model: MFCVAE, data_size: int | None, compile: Compile = False) -> None:
        self.model = model
        self.data_size = data_size
        self.compile = compile
        self.elbo = model.elbo()
        self.is_static = model.is_static
        self._compiles = False
        self._programs: dict[tuple[object, ...], GradientProgram] = {}

    def begin(self, steps: int) -> None:
        """Begin a phase of so many steps, in which the same parameters train towards the same objective."""
        self._programs.clear()
        self._compiles = steps >= MIN_STEPS if self.compile == "auto" else bool(self.compile)
        if self.compile == "auto" and not self._compiles:
            _log.info("compile off: %d steps, which pays from %d on", steps, MIN_STEPS)

    def __call__(self, batch: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
        """One step on the data (N, *x_shape); the loss, without gradient."""
        optimizer.zero_grad(set_to_none=True)  # a gradient of zero would still move what is frozen
        loss = self._backward(batch)
        optimizer.step()
        return loss

    def loss(self, batch: Tensor) -> Tensor:
        """Minus the ELBO of the data (N, *x_shape), weighted, in nats per datum; a scalar."""
        model, size = self.model, self.data_size or len(batch)
        if self.is_static:
            return -model.objective(batch) / size
        loss: Tensor = self.elbo.differentiable_loss(model.model, model.guide, batch, data_size=size) / size
        return loss

    def _backward(self, batch: Tensor) -> Tensor:
        if self._compiles:
            loss = self._compiled_backward(batch)
            if loss is not None:
                return loss
        loss = self.loss(batch)
        if loss.requires_grad:  # it may not, while all facets' weights are zero
            loss.backward()
        return loss.detach()

    def _compiled_backward(self, batch: Tensor) -> Tensor | None:
        """The loss, and its gradients in the parameters; None if it cannot be compiled."""
        weights = (*self.model.fade_in, *self.model.kl_weights)
        key = (batch.shape, batch.dtype, *(weight > 0 for weight in weights))
        program = self._programs.get(key)
        if program is not None:
            return program(batch)
        start = time.perf_counter()
        try:
            with warnings.catch_warnings(action="ignore"):  # PyTorch's compiler warns of its own code
                program = GradientProgram(
                    self.model, self.loss, batch, cuda_graphs=self.compile == "reduce-overhead"
                )
                loss = program(batch)
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
