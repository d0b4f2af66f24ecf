"""Where and how runs compute, as one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch

from pyro_mfcvae._utils.devices import Precision, resolve_device, resolve_precision
from pyro_mfcvae.data.choosing import Streaming
from pyro_mfcvae.training.compiled import Compile, check_compile

Workers = int | Literal["auto"]


@dataclass(frozen=True)
class Compute:
    """Options of the computation, which :func:`pyro_mfcvae.fit` explains.

    Attributes:
        device: where to compute; resolved from a name.
        precision: precision of the networks; resolved from ``"auto"``.
        compile: whether to compile steps.
        workers: number of processes.
        in_memory: whether data are collected in memory.

    Raises:
        ValueError: for a device that is not there, or an option that is not known.
    """

    device: str | torch.device = "auto"
    precision: str = "auto"
    compile: Compile = "auto"
    workers: Workers = "auto"
    in_memory: Streaming = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", resolve_device(self.device))
        object.__setattr__(self, "precision", resolve_precision(self.precision))
        check_compile(self.compile)

    @property
    def torch_device(self) -> torch.device:
        """The device, resolved."""
        return cast(torch.device, self.device)

    @property
    def network_precision(self) -> Precision:
        """The precision, resolved."""
        return cast(Precision, self.precision)
