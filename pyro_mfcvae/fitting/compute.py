"""Where and how runs compute, as one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from pyro_mfcvae._utils.devices import Precision, resolve_device, resolve_precision
from pyro_mfcvae.training.compiled import Compile, check_compile

Workers = int | Literal["auto"]


@dataclass(frozen=True)
class Compute:
    """Options of the computation, which :func:`pyro_mfcvae.fit` explains, resolved from their names.

    Attributes:
        device: where to compute.
        precision: precision of the networks.
        compile: whether to compile steps.
        workers: number of processes at a time.
    """

    device: torch.device
    precision: Precision
    compile: Compile
    workers: Workers

    @classmethod
    def resolve(
        cls, device: str | torch.device, precision: str, compile: Compile, workers: Workers
    ) -> Compute:
        """Resolve names, such as ``"auto"``, to what they mean here; the arguments are those of ``fit``.

        Raises:
            ValueError: for a device that is not there, or an option that is not known.
        """
        check_compile(compile)
        return cls(resolve_device(device), resolve_precision(precision), compile, workers)
