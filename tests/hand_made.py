"""A model whose every number is written here, with data that it reconstructs exactly: nothing is trained.

An image of 6 x 6 pixels has three bands on the left, two rows each, whose brightness is the latent of facet
0, and on the right, two columns wide, two fields for that of facet 1.
"""

import numpy as np
import pyro.distributions as dist
import torch
from torch import nn

from pyro_mfcvae import MFCVAE, Facet, FittedMFCVAE, MFCVAEConfig, Schedule, Stage
from pyro_mfcvae.priors import FacetPrior
from pyro_mfcvae.training import EpochRecord

CENTRES = (
    # The last component of facet 0 has no data.
    np.array(
        [[-1.5, -1.0, 0.0], [-1.0, 1.2, 0.4], [0.2, 0.0, -1.5], [1.4, 1.0, 0.2], [1.5, -1.0, 1.0], [0, 0, 3]]
    ),
    np.array([[-1.2, -1.0], [0.0, 1.3], [1.3, -0.6]]),
)
WEIGHTS = ([0.3, 0.1, 0.2, 0.2, 0.15, 0.05], [0.5, 0.3, 0.2])
CORRELATIONS = (0.0, 0.6)
SCALE = 0.3
N = 300


class Prior(FacetPrior):
    """Gaussians of one covariance."""

    def __init__(self, clusters, latent_dim):
        super().__init__(clusters, latent_dim)
        facet = 3 - latent_dim
        covariance = SCALE**2 * (
            (1 - CORRELATIONS[facet]) * np.eye(latent_dim) + CORRELATIONS[facet] * np.ones((latent_dim,) * 2)
        )
        self.register_buffer("probs", torch.tensor(WEIGHTS[facet]))
        self.loc = nn.Parameter(torch.tensor(CENTRES[facet], dtype=torch.float32))
        self.register_buffer("covariance", torch.tensor(covariance, dtype=torch.float32))

    def weights(self):
        return dist.Categorical(self.probs)

    def component(self, c):
        return dist.MultivariateNormal(self.loc[c], self.covariance)


class Encoder(nn.Module):
    def forward(self, x):
        left = x[:, 0, :, :4].reshape(-1, 3, 8).mean(-1)
        right = x[:, 0, :, 4:].reshape(-1, 2, 6).mean(-1)
        return [(6 * u - 3, torch.full_like(u, 0.1)) for u in (left, right)]


class Decoder(nn.Module):
    def forward(self, z, fade_in):
        left, right = ((z_j + 3) / 6 for z_j in z)
        image = torch.cat(
            [
                left.repeat_interleave(2, 1)[:, :, None].expand(-1, 6, 4),
                right.repeat_interleave(3, 1)[:, :, None].expand(-1, 6, 2),
            ],
            2,
        )
        return image[:, None]


def hand_made():
    """The model, its data (N, 1, 6, 6), and the cluster of facet 0 and of facet 1 of every datum, (N, 2)."""
    stages = (Stage((1,), 3, warm_up_epochs=1), Stage((0,), 3, fade_in_steps=40, warm_up_epochs=1))
    config = MFCVAEConfig(
        facets=(Facet(6, 3, Prior), Facet(3, 2, Prior)),
        likelihood="gaussian",
        network=lambda shape, latent_dims: (Encoder(), Decoder()),
        schedule=Schedule(stages),
        data_init=False,
    )
    noise = np.random.RandomState(0)  # whose stream is frozen
    labels = np.stack([np.arange(N) % 5, np.arange(N) // 5 % 3], 1)
    left, right = (
        (z[labels[:, j]] + 0.1 * noise.randn(N, z.shape[1]) + 3) / 6 for j, z in enumerate(CENTRES)
    )
    z = [torch.tensor(6 * u - 3) for u in (left, right)]
    x = Decoder()(z, [1.0, 1.0]).numpy().astype(np.float32)
    history = [
        EpochRecord(
            stage=epoch // 3,
            epoch=epoch % 3,
            steps=20 * (epoch + 1),
            seconds=2.0 * (epoch + 1),
            loss=100.0 - 10 * epoch,
            elbo=-90.0 + 12 * epoch - epoch**2,
            log_likelihood=-80.0 + 11 * epoch - epoch**2,
            facet_terms=(-4.0 + 0.3 * epoch, -9.0 + epoch),
            alive=((1, 1, 1, 1, 4, 5)[epoch], (1, 3, 3, 3, 3, 3)[epoch]),
            learning_rate=1e-3,
            fade_in=((0.0, 0.0, 0.0, 0.5, 1.0, 1.0)[epoch], 1.0),
            kl_weights=((0.0, 0.0, 0.0, 0.05, 0.9, 1.0)[epoch], (0.1, 1.0, 1.0, 1.0, 1.0, 1.0)[epoch]),
        )
        for epoch in range(6)
    ]
    return FittedMFCVAE(MFCVAE(config, (1, 6, 6)), history), x, labels
