"""Encoders and decoders that the factories assemble, whatever their layers are.

What belongs to facet j alone is ``facet_modules.j``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_mfcvae.networks.base import Decoder, Encoder, Weight, is_active

MIN_SCALE = 1e-4  # of q(z|x): keeps KL divergences and their gradients finite


class LadderEncoder(Encoder):
    """A backbone that goes up; from its level j a module leads to q(z_j | x).

    Args:
        input_shape: shape of a datum for the first level; data are reshaped to it.
        backbone: the levels, one for each facet.
        facet_modules: layers from the features of level j to 2 D_j statistics, one for each facet.
    """

    def __init__(
        self, input_shape: Sequence[int], backbone: Iterable[nn.Module], facet_modules: Iterable[nn.Module]
    ) -> None:
        super().__init__()
        self.input_shape = tuple(input_shape)
        self.backbone = nn.ModuleList(backbone)
        self.facet_modules = nn.ModuleList(facet_modules)

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return location and standard deviation (N, D_j) of q(z_j | x), for each facet."""
        h = x.reshape(-1, *self.input_shape)
        statistics = []
        for level, module in zip(self.backbone, self.facet_modules, strict=True):
            h = level(h)
            # Autocast ends here: what follows is in the precision of the data, and of the parameters.
            loc, scale = module(h).to(x.dtype).chunk(2, -1)
            statistics.append((loc, F.softplus(scale) + MIN_SCALE))
        return statistics


def separate_encoders(input_shape: Sequence[int], encoders: Iterable[nn.Module]) -> LadderEncoder:
    """Make one encoder for each facet, from x to 2 D_j statistics, on a backbone without layers."""
    encoders = tuple(encoders)
    return LadderEncoder(input_shape, (nn.Identity() for _ in encoders), encoders)


def shared_encoder(input_shape: Sequence[int], body: nn.Module, heads: Iterable[nn.Module]) -> LadderEncoder:
    """Make one encoder for all facets, whose facet modules are all at its top."""
    heads = tuple(heads)
    return LadderEncoder(input_shape, (body, *(nn.Identity() for _ in heads[1:])), heads)


class LadderDecoder(Decoder):
    r"""A backbone that goes down from the deepest facet; the modules of the other facets are merged into it.

    .. math::
        b_{J-1} = f_{J-1}(\alpha_{J-1} z_{J-1}), \qquad
        b_j = \mathrm{merge}(f_j(b_{j+1}),\; g\, \alpha_j \, \mathrm{module}_j(z_j)), \qquad x = f(b_0)

    with gate g and fade-in alpha_j, where a merge is a sum or a concatenation.

    Args:
        x_shape: shape of one datum.
        backbone: f_j, one for each facet.
        facet_modules: layers for each facet but the deepest; they make features of the shape of f_j's.
        output: layers f from the features at facet 0's level to x.
        gate: constant g.
        concatenate: whether to concatenate, along the features or channels, rather than add.
    """

    def __init__(
        self,
        x_shape: Sequence[int],
        backbone: Iterable[nn.Module],
        facet_modules: Iterable[nn.Module],
        output: nn.Module,
        *,
        gate: float,
        concatenate: bool,
    ) -> None:
        super().__init__()
        self.x_shape = tuple(x_shape)
        self.gate = gate
        self.concatenate = concatenate
        self.backbone = nn.ModuleList(backbone)
        self.facet_modules = nn.ModuleList(facet_modules)
        self.output = output

    def forward(self, z: Sequence[Tensor], fade_in: Sequence[Weight]) -> Tensor:
        r"""Merge the latents z_j (N, D_j), with weights ``fade_in``, into (N, *x_shape)."""
        deepest = len(self.backbone) - 1
        h = self.backbone[deepest](z[deepest] * fade_in[deepest])
        for j in reversed(range(deepest)):
            h = self.backbone[j](h)
            if is_active(fade_in[j]):  # exact and free while a facet has no part
                module = self.gate * fade_in[j] * self.facet_modules[j](z[j])
                h = torch.cat((h, module), 1) if self.concatenate else h + module
            elif self.concatenate:
                h = torch.cat((h, torch.zeros_like(h)), 1)
        return cast(Tensor, self.output(h).reshape(-1, *self.x_shape))


class SharedDecoder(Decoder):
    r"""One decoder of all latents, :math:`x = f(\alpha_0 z_0, \ldots, \alpha_{J-1} z_{J-1})`.

    Args:
        x_shape: shape of one datum.
        body: network f, which takes all sum_j D_j latents.
    """

    def __init__(self, x_shape: Sequence[int], body: nn.Module) -> None:
        super().__init__()
        self.x_shape = tuple(x_shape)
        self.facet_modules = nn.ModuleList()
        self.body = body

    def forward(self, z: Sequence[Tensor], fade_in: Sequence[Weight]) -> Tensor:
        r"""Merge the latents z_j (N, D_j), with weights ``fade_in``, into (N, *x_shape)."""
        weighted = [z_j * alpha for z_j, alpha in zip(z, fade_in, strict=True)]
        return cast(Tensor, self.body(torch.cat(weighted, 1)).reshape(-1, *self.x_shape))


class AdditiveDecoder(Decoder):
    r"""The sum of one decoder for each facet, :math:`x = \sum_j \alpha_j f_j(z_j)`.

    For characteristics that lie side by side, in different parts or subspaces of the data.

    Args:
        x_shape: shape of one datum.
        decoders: f_j, one for each facet.
    """

    def __init__(self, x_shape: Sequence[int], decoders: Iterable[nn.Module]) -> None:
        super().__init__()
        self.x_shape = tuple(x_shape)
        self.facet_modules = nn.ModuleList(decoders)

    def forward(self, z: Sequence[Tensor], fade_in: Sequence[Weight]) -> Tensor:
        r"""Add up what the latents z_j (N, D_j) make, with weights ``fade_in``; (N, *x_shape)."""
        x = z[0].new_zeros(len(z[0]), math.prod(self.x_shape))
        for module, z_j, alpha in zip(self.facet_modules, z, fade_in, strict=True):
            if is_active(alpha):  # exact and free while a facet has no part
                x = x + alpha * module(z_j).flatten(1)
        return cast(Tensor, x.unflatten(1, self.x_shape))
