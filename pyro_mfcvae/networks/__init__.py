"""Encoders and decoders.

What a configuration holds is a factory: any callable ``(shape, latent_dims) -> (encoder, decoder)``,
such as the frozen dataclass :class:`FullyConnectedLadder`, or its name. The shape is that of a datum, which
the encoder takes and the decoder makes. Where a likelihood shows the encoder more than the datum, or needs
more of the decoder, the factory is called for either shape, and gives one of the two each time. The latent
dimensions are those of the facets and, last, that of the nuisance if the model has one: to a network it is
one facet more, in a ladder the deepest.

There are five kinds, each fully connected and convolutional: a ladder, a ladder's decoder under one encoder
for each facet, one encoder and one decoder for each facet whose outputs add up, one encoder and one decoder
for all, and one decoder for all under one encoder for each facet.
"""

from __future__ import annotations

from pyro_mfcvae.networks.base import Decoder, Encoder, NetworkFactory
from pyro_mfcvae.networks.convolutional import (
    ConvolutionalAdditive,
    ConvolutionalLadder,
    ConvolutionalSeparateEncoders,
    ConvolutionalShared,
    ConvolutionalSharedDecoder,
)
from pyro_mfcvae.networks.fully_connected import (
    FullyConnectedAdditive,
    FullyConnectedLadder,
    FullyConnectedSeparateEncoders,
    FullyConnectedShared,
    FullyConnectedSharedDecoder,
)
from pyro_mfcvae.networks.initialization import initialize_from_data, look_at_subspaces
from pyro_mfcvae.networks.layers import LadderOptions, LayerOptions
from pyro_mfcvae.networks.modules import AdditiveDecoder, LadderDecoder, LadderEncoder, SharedDecoder

__all__ = [
    "AdditiveDecoder",
    "ConvolutionalAdditive",
    "ConvolutionalLadder",
    "ConvolutionalSeparateEncoders",
    "ConvolutionalShared",
    "ConvolutionalSharedDecoder",
    "Decoder",
    "Encoder",
    "FullyConnectedAdditive",
    "FullyConnectedLadder",
    "FullyConnectedSeparateEncoders",
    "FullyConnectedShared",
    "FullyConnectedSharedDecoder",
    "LadderDecoder",
    "LadderEncoder",
    "LadderOptions",
    "LayerOptions",
    "NetworkFactory",
    "SharedDecoder",
    "available",
    "initialize_from_data",
    "look_at_subspaces",
]


FACTORIES: dict[str, type] = {
    "fully_connected_ladder": FullyConnectedLadder,
    "fully_connected_separate_encoders": FullyConnectedSeparateEncoders,
    "fully_connected_additive": FullyConnectedAdditive,
    "fully_connected_shared": FullyConnectedShared,
    "fully_connected_shared_decoder": FullyConnectedSharedDecoder,
    "convolutional_ladder": ConvolutionalLadder,
    "convolutional_separate_encoders": ConvolutionalSeparateEncoders,
    "convolutional_additive": ConvolutionalAdditive,
    "convolutional_shared": ConvolutionalShared,
    "convolutional_shared_decoder": ConvolutionalSharedDecoder,
}


def available() -> tuple[str, ...]:
    """List the names that ``MFCVAEConfig(network=...)`` takes."""
    return tuple(FACTORIES)
