"""The standard normal: no clusters."""

from __future__ import annotations

from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_mfcvae.priors.base import FacetPrior
from pyro_mfcvae.priors.mixture import standard_normal


class StandardNormalPrior(FacetPrior):
    r"""The standard normal, :math:`p(z) = N(z; 0, I)`: the facet is continuous, as in a ladder VAE.

    Args:
        clusters: number of components, which must be 1.
        latent_dim: dimension D of the latent.

    Raises:
        ValueError: for more than one cluster.

    References:
        S. Zhao, J. Song, S. Ermon (2017). Learning hierarchical features from deep generative models.
    """

    zeros: Tensor

    def __init__(self, clusters: int, latent_dim: int) -> None:
        super().__init__(clusters, latent_dim)
        if clusters != 1:
            raise ValueError(
                f"clusters: got {clusters} for a standard normal prior, expected 1, since it has no "
                "clusters; use Facet(1, ...), or a mixture such as 'diagonal_gaussian'"
            )
        self.register_buffer("zeros", torch.zeros(latent_dim), persistent=False)

    def weights(self) -> dist.Distribution:
        """Return p(c), for which p(c = 0) = 1."""
        return dist.Categorical(logits=self.zeros[:1])

    def component(self, c: Tensor) -> dist.Distribution:
        """Return p(z): batch shape of ``c``, event shape (D,)."""
        return standard_normal(c, self.zeros)


@dataclass(frozen=True)
class StandardNormal:
    """Factory of a :class:`StandardNormalPrior`."""

    def __call__(self, clusters: int, latent_dim: int) -> FacetPrior:
        """Build the prior in D = ``latent_dim`` dimensions; ``clusters`` must be 1."""
        return StandardNormalPrior(clusters, latent_dim)
