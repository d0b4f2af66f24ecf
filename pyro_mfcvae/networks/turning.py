"""Another basis for the latents of a network, without a change of the function that it computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from pyro_mfcvae.networks.modules import MIN_SCALE, LadderEncoder, SharedDecoder, shared_encoder

MIN_PENALTY = 1e-6  # of the regression, for the mean square of a feature


def check_can_turn(encoder: nn.Module, decoder: nn.Module) -> None:
    """Raise a ValueError unless :func:`turn_latents` can change these networks.

    Args:
        encoder: its facet modules must be linear maps of the same features.
        decoder: it must begin with a linear map of all latents.

    Raises:
        ValueError: for networks that are not so.
    """
    are_heads = (
        type(encoder) is LadderEncoder  # others may do more than it does
        and all(isinstance(level, nn.Identity) for level in encoder.backbone[1:])
        and all(_is_affine(module) for module in encoder.facet_modules)
    )
    if not (are_heads and type(decoder) is SharedDecoder and _first_layer(decoder) is not None):
        raise ValueError(
            f"unmix: got {type(encoder).__name__} and {type(decoder).__name__}, whose latents do not enter "
            "and leave through one linear map; use network=networks.FullyConnectedShared(...)"
        )


@torch.no_grad()
def turn_latents(
    encoder: nn.Module,
    decoder: nn.Module,
    x: Tensor,
    directions: Tensor,
    center: Tensor,
    latent_dims: Sequence[int],
) -> LadderEncoder:
    r"""Give a network's latents another basis, and deal them out anew to its facets.

    .. math::
        z = T^\top (u - m), \qquad q(z_i \mid x) = N\bigl(z_i;\, t_i^\top (\mu(x) - m),\,
        \textstyle\sum_l T_{li}^2 \sigma_l^2(x)\bigr)

    for the latents u so far. The means are turned by the last layer of the encoder, and back by the first
    one of the decoder, so that the reconstruction of the means stays the same. What turns a diagonal
    covariance is not diagonal: its diagonal is what the new heads are fitted to, by least squares for the
    pre-activations of the standard deviations, on the features of x.

    Args:
        encoder: encoder whose facets share all but their heads.
        decoder: decoder of all latents together; it is changed in place.
        x: what the encoder sees, shape (N, *input_shape).
        directions: T, shape (D, D), invertible.
        center: m, shape (D,).
        latent_dims: new dimensions D_j, whose sum is D.

    Returns:
        An encoder with the same body and new heads.

    Raises:
        ValueError: for networks that are not of this kind.
    """
    check_can_turn(encoder, decoder)
    encoder, layer = cast(LadderEncoder, encoder), cast(nn.Linear, _first_layer(cast(SharedDecoder, decoder)))
    body = encoder.backbone[0]
    T, m = (value.to(layer.weight.device, torch.float64) for value in (directions, center))
    h = body(x.reshape(-1, *encoder.input_shape)).flatten(1).double()
    W, b = _locations(encoder)
    W, b = T.T @ W, T.T @ (b - m)
    variances = torch.cat([scale for _, scale in encoder(x)], 1).double().square() @ T.square()
    softplus = (variances.sqrt() - MIN_SCALE).clamp(min=MIN_SCALE)
    V, c = _regression(h, _inverse_softplus(softplus))
    heads = []
    for rows in torch.arange(len(T)).split(list(latent_dims)):
        head = nn.Linear(h.shape[1], 2 * len(rows)).to(layer.weight)
        head.weight.copy_(torch.cat([W[rows], V[rows]]))
        head.bias.copy_(torch.cat([b[rows], c[rows]]))
        heads.append(head)
    A = layer.weight.double()
    layer.bias.add_((A @ m).to(layer.bias))
    layer.weight.copy_(torch.linalg.solve(T, A.T).T)  # A T^-T
    return shared_encoder(encoder.input_shape, body, heads)


def _first_layer(decoder: SharedDecoder) -> nn.Linear | None:
    """Return the first layer of a decoder, if it is linear and has a bias."""
    first = decoder.body
    while isinstance(first, nn.Sequential) and len(first):
        first = first[0]
    return cast(nn.Linear, first) if _is_affine(first) else None


def _is_affine(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and module.bias is not None


def _locations(encoder: LadderEncoder) -> tuple[Tensor, Tensor]:
    """Return weight (D, H) and bias (D,) of the map from features to the means of all latents."""
    heads = [cast(nn.Linear, module) for module in encoder.facet_modules]
    halves = [head.out_features // 2 for head in heads]
    weights = [head.weight[:d].double() for head, d in zip(heads, halves, strict=True)]
    biases = [head.bias[:d].double() for head, d in zip(heads, halves, strict=True)]
    return torch.cat(weights), torch.cat(biases)


def _regression(h: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Fit y (N, D) by features h (N, H), a little shrunk: weight (D, H) and bias (D,)."""
    means = h.mean(0), y.mean(0)
    h, y = h - means[0], y - means[1]
    penalty = MIN_PENALTY * h.square().sum() / h.shape[1] + math.ulp(1.0)
    gram = h.T @ h + penalty * torch.eye(h.shape[1], dtype=h.dtype, device=h.device)
    weight = torch.linalg.solve(gram, h.T @ y).T
    return weight, means[1] - weight @ means[0]


def _inverse_softplus(y: Tensor) -> Tensor:
    return y + torch.log(-torch.expm1(-y))
