"""Mixtures of Gaussians with a covariance of low rank plus a diagonal one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_mfcvae._utils.checks import integer, set_checked
from pyro_mfcvae.priors.mixture import (
    LocationScaleFactory,
    LocationScaleMixture,
    LocationScaleOptions,
    positive,
    unconstrained,
)


class LowRankGaussianMixture(LocationScaleMixture):
    r"""Mixture of factor analysers.

    .. math::
        p(z \mid c = k) = N(z; \mu_k, W_k W_k^\top + \mathrm{diag}(\sigma_k^2)), \qquad
        W_k \in \mathbb{R}^{D \times R}

    Args:
        clusters: number of components K.
        latent_dim: dimension D of the latent.
        rank: rank R of W_k, from 1 to D.
        **options: those of :class:`LocationScaleMixture`.

    Raises:
        ValueError: for a rank above the dimension.

    References:
        Z. Ghahramani, G. E. Hinton (1996). The EM algorithm for mixtures of factor analyzers.
    """

    covariance_type = "full"

    def __init__(
        self, clusters: int, latent_dim: int, *, rank: int = 1, **options: Unpack[LocationScaleOptions]
    ) -> None:
        super().__init__(clusters, latent_dim, **options)
        rank = integer("rank", rank, least=1)
        if rank > latent_dim:
            raise ValueError(
                f"rank: got {rank} in {latent_dim} dimensions, expected at most that many; use "
                "'full_gaussian' for covariances of full rank"
            )
        self.rank = rank
        self.factor = nn.Parameter(torch.zeros(clusters, latent_dim, rank))
        self.raw_scale = nn.Parameter(torch.zeros(clusters, latent_dim))
        self.set_covariances(np.ones((clusters, latent_dim)))

    def component(self, c: Tensor) -> dist.Distribution:
        """Return p(z | c): batch shape of ``c``, event shape (D,)."""
        variance = positive(self.raw_scale).square()
        loc, factor, variance = (self.of(p, c) for p in (self.loc, self.factor, variance))
        return dist.LowRankMultivariateNormal(loc, factor, variance)

    @torch.no_grad()
    def set_covariances(self, covariances: np.ndarray) -> None:
        """Approximate covariances, shape (K, D, D), or take variances, shape (K, D), exactly.

        The factors are the first principal axes, and all variances are kept. They are never zero, where
        their gradient would be zero too.
        """
        if covariances.ndim == 2:
            variances = covariances
            factors = 0.5 * np.sqrt(covariances)[:, :, None] * np.eye(self.latent_dim, self.rank)
        else:
            variances = np.diagonal(covariances, axis1=1, axis2=2)
            values, axes = np.linalg.eigh(covariances)
            split = self.latent_dim - self.rank
            noise = values[:, :split].mean(1, keepdims=True) if split else 0.5 * values[:, :1]
            signal = np.sqrt(np.maximum(values[:, split:] - noise, 1e-3 * values[:, split:]))
            factors = axes[:, :, split:] * signal[:, None, :]
        rest = np.maximum(variances - np.square(factors).sum(2), 1e-2 * variances)
        self.factor.copy_(torch.from_numpy(factors))
        self.raw_scale.copy_(torch.from_numpy(unconstrained(np.sqrt(rest))))


@dataclass(frozen=True)
class LowRankGaussian(LocationScaleFactory):
    """Factory of a :class:`LowRankGaussianMixture`; the other attributes are those of its base.

    Attributes:
        rank: rank of the covariances, besides their diagonal.

    Raises:
        ValueError: for a rank below 1.
    """

    prior = LowRankGaussianMixture

    rank: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, integer, "rank", least=1)
