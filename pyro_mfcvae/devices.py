"""Where and how precisely to compute, and random streams that are put back."""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from pyro_mfcvae.model import Precision

_log = logging.getLogger("pyro_mfcvae")
PRECISIONS = ("auto", "float32", "bfloat16")
# bfloat16 must be this much faster to be worth its rounding. Processors with matrix units are 3 to 4
# times faster with it, those without are slower: for products of matrices it is never a close choice.
MIN_SPEEDUP = 1.5


def resolve_device(device: str | torch.device) -> torch.device:
    """The device that a name means; ``"auto"`` is CUDA where there is one, else the CPU.

    Args:
        device: ``"auto"``, or what PyTorch calls the device.

    Raises:
        ValueError: if PyTorch knows no such device, or it is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device: {device!r} is not available here ({str(error).splitlines()[0]}); "
            "use 'auto', 'cpu' or 'cuda'"
        ) from error
    return resolved


def resolve_precision(
    precision: str, device: torch.device, measure: Callable[[], float] | None = None
) -> Precision:
    """The precision of the networks; ``"auto"`` is bfloat16 where that is ``MIN_SPEEDUP`` times as fast.

    Where it is not for products of matrices, it is for nothing; but where it is, small convolutions may
    be slower all the same.

    Args:
        precision: ``"auto"``, ``"float32"`` or ``"bfloat16"``.
        device: where the networks run.
        measure: how many times as fast the networks themselves are in bfloat16; None takes what holds for
            products of matrices.

    Raises:
        ValueError: for another name.
    """
    if precision == "auto":
        speedup = _matrix_speedup(device.type)
        if speedup > MIN_SPEEDUP and measure is not None:
            speedup = measure()
        chosen: Precision = "bfloat16" if speedup > MIN_SPEEDUP else "float32"
        _log.info("precision %s: bfloat16 is %.2f times as fast on this %s", chosen, speedup, device.type)
        return chosen
    if precision == "bfloat16":
        return "bfloat16"
    if precision == "float32":
        return "float32"
    raise ValueError(f"precision: got {precision!r}, expected one of {PRECISIONS}")


@functools.cache
def _matrix_speedup(device_type: str) -> float:
    """How many times as fast products of matrices of the usual size are in bfloat16."""
    if device_type == "cuda":
        return math.inf if torch.cuda.is_bf16_supported(including_emulation=False) else 0.0
    if device_type != "cpu":
        return 0.0
    # Alternately, and in time of this thread alone: other programs then slow both alike, or neither, and
    # no time is counted in which threads wait for each other.
    seconds = {torch.float32: math.inf, torch.bfloat16: math.inf}
    with threads(1):
        for _ in range(7):
            for dtype, shortest in seconds.items():
                a, b = torch.zeros(256, 1024, dtype=dtype), torch.zeros(1024, 1024, dtype=dtype)
                start = time.thread_time()
                torch.mm(a, b)
                seconds[dtype] = min(shortest, time.thread_time() - start)
    return seconds[torch.float32] / seconds[torch.bfloat16]


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch's generators of the CPU and this device within, and restore them after."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Let PyTorch use this many processor threads within; None leaves their number as it is."""
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
