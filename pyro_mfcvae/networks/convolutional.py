"""Convolutional networks for pictures: a variational ladder autoencoder (VLAE), and networks without one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import nn

from pyro_mfcvae._utils.checks import flag, integer, set_checked
from pyro_mfcvae.networks.layers import LadderOptions, LayerOptions, WeightNormConv2d
from pyro_mfcvae.networks.modules import (
    AdditiveDecoder,
    LadderDecoder,
    LadderEncoder,
    SharedDecoder,
    separate_encoders,
    shared_encoder,
)

Size = tuple[int, int]


@dataclass(frozen=True)
class _Level:
    """Shape of the features at one level of a pyramid.

    Attributes:
        size: height and width.
        channels: number of channels of the encoder's backbone.
        module_channels: number of channels of a facet module, and of the decoder where it is merged.
    """

    size: Size
    channels: int
    module_channels: int


class _Pyramid:
    """Layers between a picture and its levels, each of half the size and twice the channels.

    Level 0 is the first below the picture. A side of one pixel is halved no more, and where neither side
    is, the channels stay.

    Args:
        options: options of the hidden layers.
        x_shape: shape of a picture, (C, H, W) or (H, W).
        channels: number of channels of level 0.
        num_levels: number of levels.
        as_published: as in :class:`ConvolutionalLadder`.
    """

    def __init__(
        self,
        options: LayerOptions,
        x_shape: tuple[int, ...],
        channels: int,
        num_levels: int,
        *,
        as_published: bool = False,
    ) -> None:
        if len(x_shape) not in (2, 3):
            raise ValueError(
                f"x_shape: got {x_shape}, expected that of a picture, (C, H, W) or (H, W); reshape the data, "
                "or use a fully connected network"
            )
        self.options = options
        self.as_published = as_published
        self.picture = (1, *x_shape) if len(x_shape) == 2 else x_shape
        self.levels: list[_Level] = []
        size = _size(self.picture[1:])
        for j in range(num_levels):
            half = _size(max(1, n // 2) for n in size)
            if j > 0 and half != size:
                channels *= 2
            self.levels.append(_Level(half, channels, channels if j == 0 else 2 * channels))
            size = half

    def backbone(self) -> list[nn.Module]:
        """Make the encoder's layers, from the picture to the last level."""
        inputs, size = self.picture[0], _size(self.picture[1:])
        layers: list[nn.Module] = []
        for level in self.levels:
            layers.append(self.options.hidden(self._convolution(inputs, level.channels, size, 2)[0]))
            inputs, size = level.channels, level.size
        return layers

    def encoder_module(self, j: int, latent_dim: int) -> nn.Sequential:
        """Make the layers from the features of level j to 2 D_j statistics."""
        level = self.levels[j]
        first, size = self._convolution(level.channels, level.channels, level.size, 2)
        # Facet 0 is for what is small and local: its module halves only once.
        second, size = self._convolution(level.channels, level.module_channels, size, 1 if j == 0 else 2)
        return nn.Sequential(
            self.options.hidden(first),
            self.options.hidden(second),
            nn.Flatten(),
            nn.Linear(level.module_channels * math.prod(size), 2 * latent_dim),
        )

    def decoder_module(self, j: int, latent_dim: int) -> nn.Sequential:
        """Make the layers from latents to features of level j."""
        level = self.levels[j]
        features = (level.module_channels, *level.size)
        options = self.options
        if not self.as_published:
            options = dataclasses.replace(options, batch_norm=False)
        return nn.Sequential(
            options.hidden(nn.Linear(latent_dim, math.prod(features))), nn.Unflatten(1, features)
        )

    def up(self, j: int, inputs: int) -> nn.Sequential:
        """Make the layers from level j, with ``inputs`` channels, to the level above it."""
        level, above = self.levels[j], self.levels[j - 1]
        return nn.Sequential(
            self.options.hidden(_transposed(inputs, level.channels, level.size, above.size)),
            self.options.hidden(_transposed(level.channels, above.module_channels, above.size, above.size)),
        )

    def output(self, inputs: int) -> nn.Module:
        """Make the layer from level 0, with ``inputs`` channels, to the picture."""
        channels, *size = self.picture
        layer = _transposed(inputs, channels, self.levels[0].size, _size(size))
        return self.options.hidden(layer) if self.as_published else layer

    def _convolution(self, inputs: int, outputs: int, size: Size, stride: int) -> tuple[nn.Conv2d, Size]:
        kind = WeightNormConv2d if self.as_published else nn.Conv2d
        return _convolution(kind, inputs, outputs, size, stride)

    def encoder(self, latent_dim: int) -> nn.Sequential:
        """Make the layers from the picture to 2 D statistics, through all levels."""
        return nn.Sequential(*self.backbone(), self.encoder_module(len(self.levels) - 1, latent_dim))

    def decoder(self, latent_dim: int) -> nn.Sequential:
        """Make the layers from latents to the picture, through all levels."""
        deepest = len(self.levels) - 1
        ups = (self.up(j, self.levels[j].module_channels) for j in range(deepest, 0, -1))
        return nn.Sequential(
            self.decoder_module(deepest, latent_dim), *ups, self.output(self.levels[0].module_channels)
        )


def _size(sides: Iterable[int]) -> Size:
    height, width = sides
    return height, width


def _convolution(
    kind: type[nn.Conv2d], inputs: int, outputs: int, size: Size, stride: int
) -> tuple[nn.Conv2d, Size]:
    """Make a convolution over 4 pixels, and tell the size that it leaves: a half (stride 2), or one less."""
    # A side of one pixel stays: with its padding it has room for a kernel of 3, once.
    kernel = _size(4 if n > 1 else 3 for n in size)
    strides = _size(stride if n > 1 else 1 for n in size)
    left = _size((n + 2 - k) // s + 1 for n, k, s in zip(size, kernel, strides, strict=True))
    return kind(inputs, outputs, kernel, strides, padding=1), left


def _transposed(inputs: int, outputs: int, size: Size, target: Size) -> nn.ConvTranspose2d:
    """Make a convolution to the target's size: the same, twice that, or one more."""
    sides = tuple(zip(size, target, strict=True))
    return nn.ConvTranspose2d(
        inputs,
        outputs,
        kernel_size=_size(3 if n == m else 4 for n, m in sides),
        stride=_size(1 if n == m else 2 for n, m in sides),
        padding=1,
        output_padding=_size(0 if n == m else m - 2 * n for n, m in sides),
    )


@dataclass(frozen=True)
class ConvolutionalLadder(LadderOptions):
    r"""Factory of a convolutional ladder; further attributes are those of :class:`LadderOptions`.

    Level j has :math:`2^j` times the channels and :math:`2^{-(j+1)}` times the sides of the picture. Its
    strided convolutions have kernels of 4 pixels, and the decoder's transposed ones mirror them.
    With ``activation="elu"``, ``batch_norm=True`` and ``as_published=True``, for two facets and pictures
    (3, 32, 32), this is the paper's network for SVHN and 3D Shapes.

    Attributes:
        channels: number of channels of the backbone at facet 0's level; the paper has 64.
        as_published: whether the encoder's convolutions have weight normalisation, and the decoder's first
            layers and its very last one are hidden layers as the others are, with activation and batch
            normalisation, as in the authors' code.
        merge: as in :class:`LadderOptions`, here by default ``"concatenate"``, along the channels.

    References:
        Li, Murkute, Gyawali, Wang (2020), Progressive Learning and Disentanglement of Hierarchical
        Representations; Falck et al. (2021), appendix on the architectures.
    """

    channels: int = 64
    merge: str = field(default="concatenate", kw_only=True)
    as_published: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, integer, "channels", least=1)
        set_checked(self, flag, "as_published")

    def __call__(self, x_shape: tuple[int, ...], latent_dims: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
        r"""Build encoder and decoder for pictures (N, *x_shape) and latents (N, D_j)."""
        return self._encoder(x_shape, latent_dims), self._decoder(x_shape, latent_dims)

    def _encoder(self, x_shape: tuple[int, ...], latent_dims: tuple[int, ...]) -> nn.Module:
        pyramid = self._pyramid(x_shape, len(latent_dims))
        facet_modules = [pyramid.encoder_module(j, d) for j, d in enumerate(latent_dims)]
        return LadderEncoder(pyramid.picture, pyramid.backbone(), facet_modules)

    def _decoder(self, x_shape: tuple[int, ...], latent_dims: tuple[int, ...]) -> nn.Module:
        J = len(latent_dims)
        pyramid = self._pyramid(x_shape, J)
        merged = [
            self.merged(level.module_channels, is_deepest=j == J - 1)
            for j, level in enumerate(pyramid.levels)
        ]
        backbone = [pyramid.up(j, merged[j]) for j in range(1, J)]
        backbone.append(pyramid.decoder_module(J - 1, latent_dims[-1]))
        facet_modules = [pyramid.decoder_module(j, d) for j, d in enumerate(latent_dims[:-1])]
        return LadderDecoder(
            x_shape,
            backbone,
            facet_modules,
            pyramid.output(merged[0]),
            gate=self.module_weight,
            concatenate=self.concatenates,
        )

    def _pyramid(self, x_shape: tuple[int, ...], num_levels: int) -> _Pyramid:
        return _Pyramid(self, x_shape, self.channels, num_levels, as_published=self.as_published)


@dataclass(frozen=True)
class ConvolutionalSeparateEncoders(ConvolutionalLadder):
    """Factory of one encoder for each facet, and the decoder of :class:`ConvolutionalLadder`.

    Attributes:
        levels: number of times an encoder halves the picture before its facet module; None is the number of
            facets, with which every encoder is that of the ladder's deepest facet.
    """

    levels: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, integer, "levels", least=1, or_none=True)

    def _encoder(self, x_shape: tuple[int, ...], latent_dims: tuple[int, ...]) -> nn.Module:
        pyramid = self._pyramid(x_shape, self.levels or len(latent_dims))
        return separate_encoders(pyramid.picture, [pyramid.encoder(d) for d in latent_dims])


@dataclass(frozen=True)
class ConvolutionalAdditive(LayerOptions):
    r"""Factory of one encoder and one decoder for each facet, :math:`x = \sum_j \alpha_j f_j(z_j)`.

    Further attributes are those of :class:`LayerOptions`.

    Attributes:
        channels: number of channels at the first level.
        levels: number of times an encoder halves the picture before its module, and a decoder doubles it.
    """

    channels: int = 32
    levels: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, integer, "channels", "levels", least=1)

    def __call__(self, x_shape: tuple[int, ...], latent_dims: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
        r"""Build encoder and decoder for pictures (N, *x_shape) and latents (N, D_j)."""
        pyramid = _Pyramid(self, x_shape, self.channels, self.levels)
        encoders = [pyramid.encoder(d) for d in latent_dims]
        decoders = [pyramid.decoder(d) for d in latent_dims]
        return separate_encoders(pyramid.picture, encoders), AdditiveDecoder(x_shape, decoders)


@dataclass(frozen=True)
class ConvolutionalShared(LayerOptions):
    """Factory of one encoder and one decoder for all facets; further attributes as :class:`LayerOptions`.

    Attributes:
        channels: number of channels at the first level.
        levels: number of times the encoder halves the picture before its modules, and the decoder doubles it.
    """

    channels: int = 64
    levels: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, integer, "channels", "levels", least=1)

    def __call__(self, x_shape: tuple[int, ...], latent_dims: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
        r"""Build encoder and decoder for pictures (N, *x_shape) and latents (N, D_j)."""
        pyramid = _Pyramid(self, x_shape, self.channels, self.levels)
        encoder = self._encoder(pyramid, latent_dims)
        return encoder, SharedDecoder(x_shape, pyramid.decoder(sum(latent_dims)))

    def _encoder(self, pyramid: _Pyramid, latent_dims: tuple[int, ...]) -> nn.Module:
        body = nn.Sequential(*pyramid.backbone())
        heads = [pyramid.encoder_module(self.levels - 1, d) for d in latent_dims]
        return shared_encoder(pyramid.picture, body, heads)


@dataclass(frozen=True)
class ConvolutionalSharedDecoder(ConvolutionalShared):
    """Factory of one encoder for each facet, and one decoder for all.

    The attributes are those of :class:`ConvolutionalShared`; every encoder has these channels and levels.
    """

    def _encoder(self, pyramid: _Pyramid, latent_dims: tuple[int, ...]) -> nn.Module:
        return separate_encoders(pyramid.picture, [pyramid.encoder(d) for d in latent_dims])
