"""Mixtures of Gaussians, by what their covariances share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_mfcvae.priors.mixture import (
    DiagonalScaleMixture,
    LocationScaleFactory,
    LocationScaleMixture,
    LocationScaleOptions,
    positive,
    unconstrained,
)


class DiagonalGaussianMixture(DiagonalScaleMixture):
    r"""Mixture of Gaussians with diagonal covariance.

    .. math::
        p(z \mid c = k) = N(z; \mu_k, \mathrm{diag}(\sigma_k^2)), \qquad
        \sigma_k = \mathrm{softplus}(s_k) + 10^{-4}

    The arguments are those of :class:`LocationScaleMixture`.
    """

    def component(self, c: Tensor) -> dist.Distribution:
        """Return p(z | c): batch shape of ``c``, event shape (D,)."""
        return dist.Normal(self.of(self.loc, c), self.of(self.scales(), c)).to_event(1)


class SphericalGaussianMixture(LocationScaleMixture):
    r"""Mixture of Gaussians, each with the same variance in all directions.

    .. math:: p(z \mid c = k) = N(z; \mu_k, \sigma_k^2 I), \qquad \sigma_k = \mathrm{softplus}(s_k) + 10^{-4}

    The arguments are those of :class:`LocationScaleMixture`.
    """

    covariance_type = "spherical"

    def __init__(self, clusters: int, latent_dim: int, **options: Unpack[LocationScaleOptions]) -> None:
        super().__init__(clusters, latent_dim, **options)
        self.raw_scale = nn.Parameter(torch.zeros(clusters, 1))
        self.set_covariances(np.ones((clusters, latent_dim)))

    def component(self, c: Tensor) -> dist.Distribution:
        """Return p(z | c): batch shape of ``c``, event shape (D,)."""
        scale = positive(self.raw_scale).expand(-1, self.latent_dim)
        return dist.Normal(self.of(self.loc, c), self.of(scale, c)).to_event(1)

    @torch.no_grad()
    def set_covariances(self, covariances: np.ndarray) -> None:
        """Take the mean of a component's variances, shape (K, D)."""
        scale = np.sqrt(covariances.mean(1, keepdims=True))
        self.raw_scale.copy_(torch.from_numpy(unconstrained(scale)))


class FullGaussianMixture(LocationScaleMixture):
    r"""Mixture of Gaussians with full covariance.

    .. math::
        p(z \mid c = k) = N(z; \mu_k, L_k L_k^\top), \qquad L_{k,dd} = \mathrm{softplus}(s_{kd}) + 10^{-4}

    with L_k lower triangular. The arguments are those of :class:`LocationScaleMixture`.
    """

    covariance_type = "full"
    is_tied = False

    def __init__(self, clusters: int, latent_dim: int, **options: Unpack[LocationScaleOptions]) -> None:
        super().__init__(clusters, latent_dim, **options)
        covariances = 1 if self.is_tied else clusters
        self.raw_scale = nn.Parameter(torch.zeros(covariances, latent_dim))
        self.lower = nn.Parameter(torch.zeros(covariances, latent_dim, latent_dim))
        self.set_covariances(np.ones((clusters, latent_dim)))

    def component(self, c: Tensor) -> dist.Distribution:
        """Return p(z | c): batch shape of ``c``, event shape (D,)."""
        scale_tril = self.lower.tril(-1) + positive(self.raw_scale).diag_embed()
        if self.is_tied:
            return dist.MultivariateNormal(self.of(self.loc, c), scale_tril=scale_tril[0])
        return dist.MultivariateNormal(self.of(self.loc, c), scale_tril=self.of(scale_tril, c))

    @torch.no_grad()
    def set_covariances(self, covariances: np.ndarray) -> None:
        """Take the components' covariances, shape (K, D, D), or variances, shape (K, D)."""
        if covariances.ndim == 2:
            covariances = covariances[:, :, None] * np.eye(self.latent_dim)
        if self.is_tied:
            covariances = covariances.mean(0, keepdims=True)
        factors = np.linalg.cholesky(covariances)
        self.raw_scale.copy_(torch.from_numpy(unconstrained(np.diagonal(factors, axis1=1, axis2=2))))
        self.lower.copy_(torch.from_numpy(np.tril(factors, -1)))


class TiedGaussianMixture(FullGaussianMixture):
    r"""Mixture of Gaussians that share one full covariance.

    .. math:: p(z \mid c = k) = N(z; \mu_k, L L^\top), \qquad L_{dd} = \mathrm{softplus}(s_d) + 10^{-4}

    Clusters are then told apart by linear boundaries, and none can swallow the others by growing. The
    arguments are those of :class:`LocationScaleMixture`.
    """

    covariance_type = "tied"
    is_tied = True


@dataclass(frozen=True)
class DiagonalGaussian(LocationScaleFactory):
    """Factory of a :class:`DiagonalGaussianMixture`; the attributes are those of its base.

    Example:
        >>> prior = DiagonalGaussian(weights="uniform")(clusters=3, latent_dim=2)
        >>> prior.component(torch.arange(3)).batch_shape
        torch.Size([3])
    """

    prior = DiagonalGaussianMixture


@dataclass(frozen=True)
class SphericalGaussian(LocationScaleFactory):
    """Factory of a :class:`SphericalGaussianMixture`; the attributes are those of its base."""

    prior = SphericalGaussianMixture


@dataclass(frozen=True)
class FullGaussian(LocationScaleFactory):
    """Factory of a :class:`FullGaussianMixture`; the attributes are those of its base."""

    prior = FullGaussianMixture


@dataclass(frozen=True)
class TiedGaussian(LocationScaleFactory):
    """Factory of a :class:`TiedGaussianMixture`; the attributes are those of its base."""

    prior = TiedGaussianMixture
