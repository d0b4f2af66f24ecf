"""The variational mixture of posteriors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_mfcvae.priors.mixture import MixtureFactory, MixtureOptions, MixturePrior, standard_normal


class VampPriorMixture(MixturePrior):
    r"""VampPrior: the components are the encoder's posteriors at K learned pseudo-inputs.

    .. math:: p(z \mid c = k) = q(z \mid x = u_k)

    A cluster is then described by what the encoder sees of a datum, as the likelihood prepares it. The
    pseudo-inputs start at the data nearest to the components of a mixture fitted to the embedding.
    Gradients reach them and the encoder. To batch normalisation they are a batch of their own. The paper
    has ``weights="uniform"``.

    Args:
        clusters: number of components K.
        latent_dim: dimension D of the latent.
        **options: those of :class:`MixturePrior`.

    References:
        J. M. Tomczak, M. Welling (2018). VAE with a VampPrior. AISTATS, arXiv:1705.07120.
    """

    pseudo_inputs: Tensor  # (K, *input_shape)

    def __init__(self, clusters: int, latent_dim: int, **options: Unpack[MixtureOptions]) -> None:
        super().__init__(clusters, latent_dim, **options)
        self.register_parameter("pseudo_inputs", None)
        self._encode: Callable[[Tensor], dist.Distribution] | None = None

    def bind_encoder(self, encode: Callable[[Tensor], dist.Distribution], input_shape: Sequence[int]) -> None:
        """Take the encoder, and make pseudo-inputs at random in [0, 1]."""
        self._encode = encode
        self.pseudo_inputs = nn.Parameter(torch.rand(self.clusters, *input_shape))

    def component(self, c: Tensor) -> dist.Distribution:
        """Return p(z | c): batch shape of ``c``, event shape (D,).

        Raises:
            RuntimeError: before :meth:`bind_encoder`.
        """
        if self._encode is None:
            raise RuntimeError(
                "component: a VampPrior needs the encoder of its model; build it by "
                "Facet(..., prior='vamp') in a configuration of MFCVAE, or call bind_encoder(...)"
            )
        if self.is_standard:
            like = self.pseudo_inputs.new_empty(self.latent_dim)
            return standard_normal(c, like)
        q = self._encode(self.pseudo_inputs).base_dist
        return dist.Normal(q.loc[c], q.scale[c]).to_event(1)

    @torch.no_grad()
    def initialize_from_data(self, x: Tensor, embedding: np.ndarray, seed: int) -> None:
        """Start the pseudo-inputs at the data nearest to the components in the embedding.

        Args:
            x: what the encoder sees of data, shape (N, *input_shape), N >= K.
            embedding: their latents, shape (N, D).
            seed: seed of the fit.
        """
        means = self._start(embedding, seed).means
        rows: list[int] = []
        for mean in means:
            distance = np.square(embedding - mean).sum(1)
            distance[rows] = np.inf  # two equal pseudo-inputs would stay equal
            rows.append(int(distance.argmin()))
        self.pseudo_inputs.copy_(x[rows])


@dataclass(frozen=True)
class Vamp(MixtureFactory):
    """Factory of a :class:`VampPriorMixture`; the attributes are those of its base."""

    prior = VampPriorMixture
