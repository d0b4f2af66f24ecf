"""Fully connected networks: a variational ladder autoencoder (VLAE), and networks without a ladder."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from pyro_mfcvae._utils.checks import integers, set_checked
from pyro_mfcvae.networks.layers import LadderOptions, LayerOptions
from pyro_mfcvae.networks.modules import (
    AdditiveDecoder,
    LadderDecoder,
    LadderEncoder,
    SharedDecoder,
    separate_encoders,
    shared_encoder,
)


def _hidden(options: LayerOptions, widths: Sequence[int]) -> list[nn.Module]:
    """Make hidden layers from the first width to the last."""
    return [options.hidden(nn.Linear(i, o)) for i, o in itertools.pairwise(widths)]


def _network(options: LayerOptions, widths: Sequence[int]) -> nn.Sequential:
    """Make hidden layers, and a linear map to the last width."""
    return nn.Sequential(*_hidden(options, widths[:-1]), nn.Linear(widths[-2], widths[-1]))


@dataclass(frozen=True)
class FullyConnectedLadder(LadderOptions):
    """Factory of a fully connected ladder; further attributes are those of :class:`LadderOptions`.

    Attributes:
        widths: width of the backbone at each facet's level, from facet 0 to the deepest, and then at the
            level of the nuisance, if the model has one; None takes 2000 for the last of them and 500 for the
            others, which for two facets is the paper's network.

    References:
        Zhao, Song, Ermon (2017), Learning Hierarchical Features from Generative Models; Falck et al.
        (2021), section 3.3.
    """

    widths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, integers, "widths", or_none=True)

    def __call__(self, x_shape: tuple[int, ...], latent_dims: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
        r"""Build encoder and decoder for data (N, *x_shape) and latents (N, D_j)."""
        return self._encoder(x_shape, latent_dims), self._decoder(x_shape, latent_dims)

    def _encoder(self, x_shape: tuple[int, ...], latent_dims: tuple[int, ...]) -> nn.Module:
        inputs = math.prod(x_shape)
        widths = self._widths(len(latent_dims))
        backbone = _hidden(self, (inputs, *widths))
        facet_modules = [nn.Linear(w, 2 * d) for w, d in zip(widths, latent_dims, strict=True)]
        return LadderEncoder((inputs,), backbone, facet_modules)

    def _decoder(self, x_shape: tuple[int, ...], latent_dims: tuple[int, ...]) -> nn.Module:
        J = len(latent_dims)
        widths = self._widths(J)
        merged = [self.merged(w, is_deepest=j == J - 1) for j, w in enumerate(widths)]
        inputs = (*merged[1:], latent_dims[-1])
        backbone = [self.hidden(nn.Linear(i, w)) for i, w in zip(inputs, widths, strict=True)]
        facet_modules = [
            self.hidden(nn.Linear(d, w)) for d, w in zip(latent_dims[:-1], widths[:-1], strict=True)
        ]
        output = _network(self, (merged[0], widths[0], math.prod(x_shape)))
        return LadderDecoder(
            x_shape, backbone, facet_modules, output, gate=self.module_weight, concatenate=self.concatenates
        )

    def _widths(self, J: int) -> tuple[int, ...]:
        widths = (500,) * (J - 1) + (2000,) if self.widths is None else self.widths
        if len(widths) != J:
            raise ValueError(
                f"widths: got {widths}, expected one for each of the {J} facets, a nuisance counted among "
                "them as the last"
            )
        return widths


@dataclass(frozen=True)
class FullyConnectedSeparateEncoders(FullyConnectedLadder):
    """Factory of one encoder for each facet, and the decoder of :class:`FullyConnectedLadder`.

    Attributes:
        widths: width of the decoder's backbone at each facet's level.
        encoder_widths: widths of the hidden layers of every encoder, from the data on.
    """

    encoder_widths: tuple[int, ...] = (500, 500)

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, integers, "encoder_widths")

    def _encoder(self, x_shape: tuple[int, ...], latent_dims: tuple[int, ...]) -> nn.Module:
        inputs = math.prod(x_shape)
        return separate_encoders(
            (inputs,), (_network(self, (inputs, *self.encoder_widths, 2 * d)) for d in latent_dims)
        )


@dataclass(frozen=True)
class FullyConnectedAdditive(LayerOptions):
    r"""Factory of one encoder and one decoder for each facet, :math:`x = \sum_j \alpha_j f_j(z_j)`.

    Further attributes are those of :class:`LayerOptions`.

    Attributes:
        widths: widths of the hidden layers of every encoder, from the data on; decoders mirror them.
    """

    widths: tuple[int, ...] = (128, 128)

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, integers, "widths")

    def __call__(self, x_shape: tuple[int, ...], latent_dims: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
        r"""Build encoder and decoder for data (N, *x_shape) and latents (N, D_j)."""
        inputs = math.prod(x_shape)
        encoders = [_network(self, (inputs, *self.widths, 2 * d)) for d in latent_dims]
        decoders = [_network(self, (d, *reversed(self.widths), inputs)) for d in latent_dims]
        return separate_encoders((inputs,), encoders), AdditiveDecoder(x_shape, decoders)


@dataclass(frozen=True)
class FullyConnectedShared(LayerOptions):
    """Factory of one encoder and one decoder for all facets; further attributes as :class:`LayerOptions`.

    Attributes:
        widths: widths of the encoder's hidden layers, from the data on; the decoder mirrors them.
    """

    widths: tuple[int, ...] = (500, 2000)

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, integers, "widths")

    def __call__(self, x_shape: tuple[int, ...], latent_dims: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
        r"""Build encoder and decoder for data (N, *x_shape) and latents (N, D_j)."""
        encoder = self._encoder(math.prod(x_shape), latent_dims)
        decoder = _network(self, (sum(latent_dims), *reversed(self.widths), math.prod(x_shape)))
        return encoder, SharedDecoder(x_shape, decoder)

    def _encoder(self, inputs: int, latent_dims: tuple[int, ...]) -> nn.Module:
        body = nn.Sequential(*_hidden(self, (inputs, *self.widths)))
        return shared_encoder((inputs,), body, [nn.Linear(self.widths[-1], 2 * d) for d in latent_dims])


@dataclass(frozen=True)
class FullyConnectedSharedDecoder(FullyConnectedShared):
    """Factory of one encoder for each facet, and one decoder for all.

    The attributes are those of :class:`FullyConnectedShared`; every encoder has these widths.
    """

    def _encoder(self, inputs: int, latent_dims: tuple[int, ...]) -> nn.Module:
        return separate_encoders(
            (inputs,), (_network(self, (inputs, *self.widths, 2 * d)) for d in latent_dims)
        )
