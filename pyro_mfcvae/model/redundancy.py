"""How much the latents of different facets depend on each other, as a number that has a gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MIN_DATA = 4  # a centred kernel of three data or fewer is zero


def redundancy(latents: Sequence[Tensor]) -> Tensor:
    r"""Measure the dependence between latents: the alignment of their kernels, summed over pairs.

    .. math::
        \sum_{i < j} \frac{\langle \tilde K_i, \tilde K_j \rangle}{\|\tilde K_i\| \, \|\tilde K_j\|},
        \qquad K_j(m, n) = \exp\bigl(-\|z_{jm} - z_{jn}\| / \bar d_j\bigr),

    where :math:`\bar d_j` is the median distance, a constant for the gradient, and the tilde a centring after
    which the inner product of independent latents is zero on average, however few the data. A pair is at
    most one, which it is for latents that are the same up to shift, scale and rotation; by chance it may be
    below zero. A latent that does not vary is aligned with nothing.

    Args:
        latents: z_j of the same N data for each facet, shape (..., N, D_j). Time and memory grow as N^2.

    Returns:
        A sum over pairs, shape (...); zero for one latent, and for fewer than four data.

    References:
        Cortes, Mohri, Rostamizadeh (2012), Algorithms for Learning Kernels Based on Centered Alignment;
        Székely, Rizzo (2014), Partial Distance Correlation with Methods for Dissimilarities (the centring).

    Example:
        >>> z = torch.linspace(0, 1, 50).unsqueeze(-1)
        >>> round(redundancy([z, 3 - 2 * z]).item(), 4)
        1.0
    """
    N = latents[0].shape[-2]
    if N < MIN_DATA:
        return latents[0].new_zeros(latents[0].shape[:-2])
    kernels = torch.stack([_kernel(z) for z in latents], -3)  # (..., J, N, N)
    # The centring is a projection, so inner products can do without what is centred.
    rows, flat = kernels.sum(-1), kernels.flatten(-2)
    totals = rows.sum(-1, keepdim=True)
    products = flat @ flat.mT - 2 / (N - 2) * rows @ rows.mT  # (..., J, J)
    products = products + totals @ totals.mT / ((N - 1) * (N - 2))
    least = torch.finfo(products.dtype).eps * N * (N - 1)  # what rounding leaves of a constant kernel
    scale = products.diagonal(dim1=-2, dim2=-1).clamp_min(least).rsqrt()
    alignments = products * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    return alignments.triu(1).sum((-2, -1))


def _kernel(z: Tensor) -> Tensor:
    """The kernel of z (..., N, D), less its median, without its diagonal, (..., N, N).

    The centring would remove the median as well; without it, sums are more accurate.
    """
    # The products of matrices that cdist would take lose small distances. Its gradient is zero at zero.
    distances = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")
    N = z.shape[-2]
    i, j = torch.triu_indices(N, N, 1, device=z.device)
    median = distances.detach()[..., i, j].median(-1).values[..., None, None]
    bandwidth = torch.where(median > 0, median, 1.0)
    kernel = torch.exp(-distances / bandwidth) - torch.exp(-median / bandwidth)
    return kernel.masked_fill(torch.eye(N, dtype=torch.bool, device=z.device), 0.0)
