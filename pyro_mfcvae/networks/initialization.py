"""Initialisation of a network by the data that it will see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pyro_mfcvae.networks.layers import WeightNormConv2d

Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
PUBLISHED_DEVIATION = 0.1  # of pre-activations, in the authors' code
Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | Transposed


@torch.no_grad()
def initialize_from_data(module: nn.Module, *inputs: object, as_published: bool = False) -> None:
    r"""Give every unit's pre-activation a mean of zero and a variance of one on a batch.

    .. math::
        w \leftarrow w / s, \qquad b \leftarrow (b - m) / s

    for every linear and convolutional layer, with the mean m and the standard deviation s of its output
    over the batch and, for a convolution, over positions. Layers are changed in the order in which they
    run, each on what the changed ones before it make. A unit that is constant is only shifted, a layer
    without a bias only scaled; a layer that does not run, such as a facet module that is faded out, stays.

    The authors' code of the paper aims at a standard deviation of 0.1, from weights that are drawn anew (He's
    normal) and biases of zero. What it does to the weights of a layer with weight normalisation is undone by
    the next forward pass; there only the biases change.

    Args:
        module: network, in training or evaluation as it will be used next; it is changed in place.
        *inputs: arguments of its call, such as ``x`` for an encoder and ``z, fade_in`` for a decoder.
        as_published: whether to do what the authors' code does.

    Raises:
        ValueError: if no linear or convolutional layer runs.

    References:
        Salimans, Kingma (2016), Weight Normalization; Mishkin, Matas (2016), All You Need is a Good Init;
        Falck et al. (2021), whose code takes this from github.com/addtt/boiler-pytorch.

    Example:
        >>> from pyro_mfcvae.networks import FullyConnectedLadder
        >>> encoder, _ = FullyConnectedLadder(widths=(8, 8))((6,), (2, 2))
        >>> x = torch.rand(100, 6)
        >>> initialize_from_data(encoder, x)
        >>> encoder.backbone[0][0](x).std(0, correction=0).round(decimals=3)
        tensor([1., 1., 1., 1., 1., 1., 1., 1.], grad_fn=<RoundBackward1>)
    """
    handles: dict[nn.Module, RemovableHandle] = {}

    def standardize(layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        handles.pop(layer).remove()  # a layer that runs twice is changed by its first run
        return _standardize(cast(Layer, layer), output, as_published)

    for layer in module.modules():
        if isinstance(layer, Layer):
            if as_published:
                _draw_anew(layer)
            handles[layer] = layer.register_forward_hook(standardize)
    found = len(handles)
    try:
        module(*inputs)
    finally:
        for handle in handles.values():
            handle.remove()
    if len(handles) == found:
        raise ValueError(
            f"module: {type(module).__name__} runs none of its {found} linear and convolutional layers; "
            "expected at least one"
        )


@torch.no_grad()
def look_at_subspaces(encoder: nn.Module, subspaces: Sequence[np.ndarray]) -> None:
    r"""Let the encoder of each facet see one subspace of the data, at the start of training.

    .. math::
        W_j \leftarrow G_j U_j^\top, \qquad G_j \sim \mathrm{Normal}(0, 1 / p_j)

    for the weight of the first layer of facet j's encoder, and :math:`U_j^\top x` the coordinates of x in
    the facet's subspace. What the layer looks at later, training decides.

    Args:
        encoder: network with an encoder of its own for each facet, ``facet_modules``; it is changed in place.
        subspaces: U_j, shape (D, p_j), for each facet and data (N, D); a facet with p_j = 0 sees nothing.

    Raises:
        ValueError: if the facets' encoders do not begin with a linear layer of D inputs.
    """
    backbone, own = getattr(encoder, "backbone", ()), getattr(encoder, "facet_modules", ())
    layers = [next((m for m in module.modules() if isinstance(m, Layer)), None) for module in own]
    are_own = all(isinstance(level, nn.Identity) for level in backbone) and len(layers) == len(subspaces)
    if not are_own:
        layers = [None] * len(subspaces)
    for layer, basis in zip(layers, subspaces, strict=True):
        if not (isinstance(layer, nn.Linear) and layer.in_features == len(basis)):
            raise ValueError(
                f"data_init: got 'subspaces' with {type(encoder).__name__}, expected an encoder whose "
                "facet_modules are encoders of the facets with a linear layer first, such as that of "
                "FullyConnectedAdditive; or data_init=True"
            )
        gain = torch.randn(layer.out_features, basis.shape[1]) / basis.shape[1] ** 0.5
        layer.weight.copy_(gain @ torch.from_numpy(basis.T).to(gain))
        if layer.bias is not None:
            layer.bias.zero_()


def _draw_anew(layer: Layer) -> None:
    """Draw weights by He's normal, where they are not normalised, and set biases to zero."""
    if not isinstance(layer, WeightNormConv2d):
        nn.init.kaiming_normal_(layer.weight)
    if layer.bias is not None:
        layer.bias.zero_()


def _standardize(layer: Layer, output: Tensor, as_published: bool) -> Tensor:
    """Standardise a layer's output, and change its parameters so that it is what the layer makes."""
    units = -1 if isinstance(layer, nn.Linear) else 1
    flat = output.to(layer.weight.dtype).movedim(units, 0).flatten(1)  # (units, batch and positions)
    scale, mean = torch.std_mean(flat, 1, correction=0)
    # What rounding leaves of a constant is no deviation.
    scale = torch.where(scale > 1e-6 * flat.abs().amax(1), scale, 1.0)
    if as_published:
        scale = scale / PUBLISHED_DEVIATION
    if layer.bias is None:
        mean = torch.zeros_like(mean)
    else:
        _assign(layer, "bias", (layer.bias - mean) / scale)
    if isinstance(layer, WeightNormConv2d):
        if not as_published:
            layer.gain.div_(_per_weight(layer, scale))
    else:
        _assign(layer, "weight", layer.weight / _per_weight(layer, scale))
    shape = [1] * output.dim()
    shape[units] = -1
    return ((output - mean.view(shape)) / scale.view(shape)).to(output.dtype)


def _per_weight(layer: Layer, scale: Tensor) -> Tensor:
    """Return the scale of each unit, in a shape that broadcasts with the layer's weight."""
    positions = (1,) * (layer.weight.dim() - 2)
    if not isinstance(layer, Transposed):
        return scale.view(-1, 1, *positions)
    # A weight (inputs, outputs of a group, ...): inputs of the same group share their outputs' scales.
    groups = scale.view(layer.groups, -1, *positions)
    return groups.repeat_interleave(layer.in_channels // layer.groups, 0)


def _assign(layer: nn.Module, name: str, value: Tensor) -> None:
    if name in layer._parameters:
        getattr(layer, name).copy_(value)
    else:  # under a parametrisation, such as weight normalisation, which assigning inverts
        setattr(layer, name, value)
