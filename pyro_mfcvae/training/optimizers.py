"""The optimisers that a stage may name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}
# One kernel for all parameters. That of SGD fails where a parameter joins in after the first step.
_FUSED = {"adam", "adamw"}
_FUSED_DEVICES = {"cpu", "cuda"}
VANISHED = 1e-20  # of a gradient; an update from it is far below the precision of a parameter


def make_optimizer(
    name: str, parameters: Iterable[nn.Parameter], learning_rate: float
) -> torch.optim.Optimizer:
    """The optimiser of that name, with the fastest kernels that PyTorch has for it on this device.

    The others are PyTorch's choice: several parameters at a time on a GPU. On a processor that took 0.7
    times as long for small networks, and 1.9 times for large ones.

    Args:
        name: a key of ``OPTIMIZERS``.
        parameters: all on one device.
        learning_rate: at the start.
    """
    parameters = list(parameters)
    if name in _FUSED and parameters[0].device.type in _FUSED_DEVICES:
        return OPTIMIZERS[name](parameters, lr=learning_rate, fused=True)
    return OPTIMIZERS[name](parameters, lr=learning_rate)


def catch_up(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Let an optimiser go on as if what has been frozen so far had had gradients of zero.

    Only Adam makes a difference: it corrects its moments for the number of steps. Without that number, the
    first step of such a parameter is a third of the one that it takes with it.
    """
    counts = [state["step"] for state in optimizer.state.values() if "exp_avg_sq" in state]
    if counts:
        most = max(counts)
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p not in optimizer.state:
                    zeros = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
                    optimizer.state[p] = {"step": most.clone(), **zeros}
    return optimizer


@torch.no_grad()
def drop_vanished_moments(optimizer: torch.optim.Optimizer) -> None:
    """Set first moments to zero where they have vanished.

    A unit of a network that no longer responds has no gradient, and its moments would decay until they
    are denormal numbers and stay so: processors are slow with those, and a step of MNIST took 1.5 times
    as long from the third epoch on.
    """
    for state in optimizer.state.values():
        for name in ("exp_avg", "momentum_buffer"):
            if isinstance(state.get(name), Tensor):
                state[name].masked_fill_(state[name].abs() < VANISHED, 0.0)
