"""Devices and precision, their description, and numbers of threads."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]
PRECISIONS = ("auto", "float32", "bfloat16")
PACKAGES = ("pyro-mfcvae", "pyro-ppl", "numpy", "scikit-learn")  # that the result depends on, beside torch


@dataclass(frozen=True)
class Environment:
    """Environment that a model was trained in: in another one the same seed gives another model.

    Attributes:
        precision: precision of the networks, ``"float32"`` or ``"bfloat16"``.
        device: PyTorch's name of the device, such as ``"cpu"`` or ``"cuda:0"``.
        processor: name of the processor or the GPU.
        instructions: processor instructions that PyTorch's own kernels use, such as ``"AVX2"``.
        threads: number of processor threads.
        versions: versions of Python and of the packages that compute, by name.
    """

    precision: Precision
    device: str
    processor: str
    instructions: str
    threads: int
    versions: Mapping[str, str]

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        return f"{self.precision} on {self.device} ({self.processor}, {self.instructions}, {threads})"


def describe_environment(device: torch.device, precision: Precision) -> Environment:
    """Describe the environment that computes here and now.

    Args:
        device: device where the networks compute.
        precision: precision of the networks.
    """
    return Environment(
        precision=precision,
        device=str(device),
        processor=torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name(),
        instructions=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        # PyTorch's own says which build it is, too
        versions={
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            **_package_versions(),
        },
    )


@functools.cache
def processor_name() -> str:
    """Name the processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor() or platform.machine()])[0]


@functools.cache
def _package_versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # a source tree that is on the path only
            continue
    return versions


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device that a name means; ``"auto"`` is CUDA where there is one, else the CPU.

    Args:
        device: ``"auto"``, or what PyTorch calls the device.

    Raises:
        ValueError: if PyTorch knows no such device, it is not there, or does not compute in float64.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        # Divergences, and the units of data, need float64, which not every device has.
        torch.ones(1, dtype=torch.float64, device=resolved).sum().item()
    except Exception as error:  # backends raise whatever they like
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"device: {device!r} is not available here ({reason:.100}); use one of {', '.join(_devices())}"
        ) from error
    return resolved


def is_same_device(a: torch.device, b: torch.device) -> bool:
    """Tell whether two devices are one; ``cuda`` without a number is the current GPU."""

    def numbered(device: torch.device) -> torch.device:
        return torch.device("cuda", torch.cuda.current_device()) if str(device) == "cuda" else device

    return numbered(a) == numbered(b)


def _devices() -> list[str]:
    return ["'auto'", "'cpu'", *(f"'cuda:{i}'" for i in range(torch.cuda.device_count()))]


def resolve_precision(precision: str) -> Precision:
    """Return the precision of the networks that a name means; ``"auto"`` is float32, on every device.

    Args:
        precision: ``"auto"``, ``"float32"`` or ``"bfloat16"``.

    Raises:
        ValueError: for another name.
    """
    if precision == "bfloat16":
        return "bfloat16"
    if precision in ("auto", "float32"):
        return "float32"
    raise ValueError(f"precision: got {precision!r}, expected one of {PRECISIONS}")


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
