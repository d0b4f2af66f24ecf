r"""Loss and gradients of a step as one compiled program.

The objective runs once on tensors without data, with its derivative, and every tensor operation of both is
recorded: what comes out is a single graph, whatever the Python is that made it. PyTorch's compiler fuses
its operations. What the graph cannot know is fixed in it: the shape of a batch, which parameters train,
which facets take part, and any Python value that is no tensor. So a program is for one phase of training,
in which only the data, the parameters and the size of the weights above zero change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_mfcvae.model.loss import Loss
from pyro_mfcvae.model.weights import FacetWeights
from pyro_mfcvae.networks.base import Weight

Compile = bool | Literal["auto", "reduce-overhead"]
COMPILE = ("auto", True, False, "reduce-overhead")


def check_compile(compile: object) -> None:
    """Raise a ValueError unless it is one of ``COMPILE``."""
    if not any(compile is known or (isinstance(compile, str) and compile == known) for known in COMPILE):
        raise ValueError(f"compile: got {compile!r}, expected one of {COMPILE}")


class GradientProgram:
    """A compiled function from a batch to the loss and the gradients of all parameters that train.

    The model keeps its modules as they are. Random numbers are those of the uncompiled step.

    Args:
        loss: the loss of a batch (N, *x_shape) and the facets' weights, a scalar that runs its model.
        batch: an example, of the shape and on the device of all that follow.
        weights: an example; which of them are zero is fixed in the program.
        cuda_graphs: whether to replay the program's kernels as one CUDA graph; without a GPU it does
            nothing.

    Raises:
        Exception: of many kinds, if the loss reads the value of a tensor, or where there is no compiler;
            the first call may raise as well.
    """

    def __init__(
        self, loss: Loss, batch: Tensor, weights: FacetWeights, *, cuda_graphs: bool = False
    ) -> None:
        model = loss.model
        self._cuda_graphs = cuda_graphs
        self._trained = [p for p in model.parameters() if p.requires_grad]
        self._state = [*model.parameters(), *model.buffers()]
        self._weights = [torch.zeros((), device=batch.device) for _ in weights.all]
        self._values: list[Weight] = [0.0] * len(self._weights)
        trace = make_fx(_gradients(_Forward(loss), weights), tracing_mode="fake", _allow_non_fake_inputs=True)
        graph = trace(self._state, self._weights, batch)
        self._compiled = _compile(graph, cuda_graphs)

    @torch.no_grad()
    def __call__(self, batch: Tensor, weights: FacetWeights) -> Tensor:
        """Set the gradients of the parameters that train; the loss."""
        values = list(weights.all)
        if values != self._values:  # filling a tensor does not wait for the device, as copying would
            for weight, value in zip(self._weights, values, strict=True):
                weight.fill_(value)
            self._values = values
        if self._cuda_graphs:  # results of the last step are overwritten from here on
            torch.compiler.cudagraph_mark_step_begin()
        loss, gradients = self._compiled(self._state, self._weights, batch)
        for parameter, gradient in zip(self._trained, gradients, strict=True):
            parameter.grad = gradient
        return loss.clone() if self._cuda_graphs else loss  # type: ignore[no-any-return]


class _Forward(nn.Module):
    """The loss as the forward of a module, whose state can then be given with the data."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.model = loss.model
        self.loss = loss

    def forward(self, batch: Tensor, weights: FacetWeights) -> Tensor:
        return self.loss(batch, weights)


def _compile(graph: nn.Module, cuda_graphs: bool) -> Callable[..., Any]:
    options: dict[str, Any] = {
        "fallback_random": True,  # PyTorch's own random numbers
        "triton.cudagraphs": cuda_graphs,
    }
    return torch.compile(graph, fullgraph=True, dynamic=False, options=options)


def _gradients(
    forward: _Forward, example: FacetWeights
) -> Callable[..., tuple[Tensor, Sequence[Tensor | None]]]:
    """The function that is traced: from state, weights and batch to loss and gradients."""
    names = [name for group in (forward.named_parameters(), forward.named_buffers()) for name, _ in group]
    trained = [name for name, parameter in forward.named_parameters() if parameter.requires_grad]

    def gradients(
        state: Sequence[Tensor], weights: Sequence[Tensor], batch: Tensor
    ) -> tuple[Tensor, Sequence[Tensor | None]]:
        by_name = dict(zip(names, state, strict=True))
        loss = functional_call(forward, by_name, (batch, example.replace_active(weights)))
        if not loss.requires_grad:  # while all facets' weights are zero
            return loss, [None] * len(trained)
        return loss, torch.autograd.grad(loss, [by_name[name] for name in trained], allow_unused=True)

    return gradients
