"""Fully connected ladder networks (a variational ladder autoencoder, VLAE)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

MIN_SCALE = 1e-4  # of q(z|x): keeps KL divergences and their gradients finite


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU())


class LadderEncoder(nn.Module):
    """A backbone that goes up; from its level j a rung leads to q(z_j | x).

    Args:
        x_shape: shape of one datum; it is flattened.
        latent_dims: D_j of each facet.
        widths: width of the backbone at each facet's level.
    """

    def __init__(self, x_shape: tuple[int, ...], latent_dims: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        inputs = (math.prod(x_shape), *widths[:-1])
        self.backbone = nn.ModuleList(_layer(i, w) for i, w in zip(inputs, widths, strict=True))
        self.rungs = nn.ModuleList(nn.Linear(w, 2 * d) for w, d in zip(widths, latent_dims, strict=True))

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Location and standard deviation (N, D_j) of q(z_j | x), for each facet."""
        h = x.flatten(1)
        statistics = []
        for level, rung in zip(self.backbone, self.rungs, strict=True):
            h = level(h)
            # Autocast ends here: what follows is in the parameters' precision.
            loc, scale = rung(h).to(rung.weight.dtype).chunk(2, -1)
            statistics.append((loc, F.softplus(scale) + MIN_SCALE))
        return statistics


class LadderDecoder(nn.Module):
    r"""A backbone that goes down from the deepest facet; the rungs of the others are added to it.

    .. math::
        b_{J-1} = f_{J-1}(z_{J-1}), \qquad b_j = f_j(b_{j+1}) + g\, \alpha_j \, \mathrm{rung}_j(z_j)

    with gate g and fade-in alpha_j, and two more layers from b_0 to x.

    Args:
        x_shape: shape of one datum.
        latent_dims: D_j of each facet.
        widths: width of the backbone at each facet's level.
        gate: constant g of the gated addition.
    """

    def __init__(
        self,
        x_shape: tuple[int, ...],
        latent_dims: Sequence[int],
        widths: Sequence[int],
        gate: float,
    ) -> None:
        super().__init__()
        self.x_shape = x_shape
        self.gate = gate
        inputs = (*widths[1:], latent_dims[-1])
        self.backbone = nn.ModuleList(_layer(i, w) for i, w in zip(inputs, widths, strict=True))
        self.rungs = nn.ModuleList(_layer(d, w) for d, w in zip(latent_dims[:-1], widths[:-1], strict=True))
        self.output = nn.Sequential(_layer(widths[0], widths[0]), nn.Linear(widths[0], math.prod(x_shape)))

    def forward(self, z: Sequence[Tensor], fade_in: Sequence[float]) -> Tensor:
        r"""Merge the latents z_j (N, D_j), with weights ``fade_in``, into (N, *x_shape)."""
        deepest = len(self.backbone) - 1
        h = self.backbone[deepest](z[deepest] * fade_in[deepest])
        for j in reversed(range(deepest)):
            h = self.backbone[j](h)
            if fade_in[j] > 0:  # exact and free while a facet has no part
                h = h + self.gate * fade_in[j] * self.rungs[j](z[j])
        return cast(Tensor, self.output(h).reshape(-1, *self.x_shape))


@dataclass(frozen=True)
class FullyConnectedLadder:
    """Recipe of a fully connected ladder.

    Attributes:
        widths: width of the backbone at each facet's level, from facet 0 to the deepest; None takes
            2000 for the deepest and 500 for the others, which for two facets is the paper's network.
        gate: constant of the gated addition that merges a rung into the decoder's backbone.

    References:
        Zhao, Song, Ermon (2017), Learning Hierarchical Features from Generative Models; Falck et al.
        (2021), section 3.3.
    """

    widths: tuple[int, ...] | None = None
    gate: float = 0.1

    def __post_init__(self) -> None:
        if self.widths is not None:
            object.__setattr__(self, "widths", tuple(self.widths))
            if not self.widths or min(self.widths) < 1:
                raise ValueError(f"widths: got {self.widths}, expected positive integers")

    def __call__(self, x_shape: tuple[int, ...], latent_dims: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
        r"""Build encoder and decoder for data (N, *x_shape) and latents (N, D_j)."""
        J = len(latent_dims)
        widths = (500,) * (J - 1) + (2000,) if self.widths is None else self.widths
        if len(widths) != J:
            raise ValueError(f"widths: got {widths}, expected one for each of the {J} facets")
        encoder = LadderEncoder(x_shape, latent_dims, widths)
        return encoder, LadderDecoder(x_shape, latent_dims, widths, self.gate)
