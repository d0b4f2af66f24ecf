"""Weights of the facets in one evaluation of the model, and the precision of its networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_mfcvae._utils.devices import Precision
from pyro_mfcvae.networks.base import Weight, is_active

_precision: ContextVar[Precision] = ContextVar("precision", default="float32")
declares_parameters: ContextVar[bool] = ContextVar("declares_parameters", default=True)


@dataclass(frozen=True)
class FacetWeights:
    r"""Weights of the J facets: :math:`\alpha_j` in the decoder, :math:`\beta_j` in the objective.

    Of a model with a nuisance, both kinds have its weight as their last.

    Attributes:
        fade_in: alpha_j in [0, 1], the weight with which facet j's latent enters the decoder.
        kl: beta_j >= 0, the weight of facet j's whole term.
        redundancy: what a redundancy of one between facets with a fade-in above zero costs, in nats per
            datum; see :func:`pyro_mfcvae.model.redundancy.redundancy`.

    Raises:
        ValueError: if there are not as many of both.

    References:
        Falck et al. (2021), section 3.3, for the fade-in.
    """

    fade_in: tuple[Weight, ...]
    kl: tuple[Weight, ...]
    redundancy: Weight = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "fade_in", tuple(self.fade_in))
        object.__setattr__(self, "kl", tuple(self.kl))
        if len(self.fade_in) != len(self.kl):
            raise ValueError(
                f"kl: got {len(self.kl)} weights with {len(self.fade_in)} of fade_in, expected one of "
                "each for every facet"
            )

    @classmethod
    def full(cls, num_latents: int) -> FacetWeights:
        """Weigh every latent by one, as in the model itself."""
        return cls((1.0,) * num_latents, (1.0,) * num_latents)

    @property
    def all(self) -> tuple[Weight, ...]:
        """Fade-ins, KL weights, and the weight of redundancy."""
        return (*self.fade_in, *self.kl, self.redundancy)

    def replace_active(self, tensors: Sequence[Tensor]) -> FacetWeights:
        """Put a tensor in the place of every weight above zero; those of zero leave something out.

        Args:
            tensors: as :attr:`all`, 2 J + 1 scalars.
        """
        each = [t if is_active(w) else 0.0 for w, t in zip(self.all, tensors, strict=True)]
        J = len(self.fade_in)
        return FacetWeights(tuple(each[:J]), tuple(each[J:-1]), each[-1])


def kl_weight(beta: Weight) -> AbstractContextManager[Any]:
    """Weight the terms of the sites within by beta >= 0; zero leaves them out of the objective."""
    if not is_active(beta):  # poutine.scale takes positive numbers only
        return cast(AbstractContextManager[Any], poutine.mask(mask=False))
    return cast(AbstractContextManager[Any], poutine.scale(scale=beta))


@contextmanager
def network_precision(precision: Precision) -> Iterator[None]:
    """Let networks compute in this precision within, in this thread only.

    Densities, divergences and parameters stay in the parameters' own precision.

    Args:
        precision: ``"float32"``, which is that of the parameters, or ``"bfloat16"``.
    """
    token = _precision.set(precision)
    try:
        yield
    finally:
        _precision.reset(token)


@contextmanager
def undeclared_parameters() -> Iterator[None]:
    """Spare the programs, within, to tell Pyro of their parameters, which an optimiser has already."""
    token = declares_parameters.set(False)
    try:
        yield
    finally:
        declares_parameters.reset(token)


def autocast(model: nn.Module) -> AbstractContextManager[Any]:
    """Run a model's networks, within, in the precision of :func:`network_precision`."""
    if _precision.get() == "float32":
        return nullcontext()
    return torch.autocast(next(model.parameters()).device.type, dtype=torch.bfloat16)
