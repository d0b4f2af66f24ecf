r"""The paper's own settings: those of the authors' code, and what that code does.

The mixtures' weights are uniform at the start. Their means are fitted once, from one start, to the means of
q(z | x) of all facets before any training, their standard deviations are 0.1, and one Adam trains all
stages. The first of the 201 (or 101) epochs of the authors' first stage only evaluates, so one less trains.
For colour pictures, pre-activations start with a deviation of 0.1, but for the encoder's convolutions: they
have weight normalisation, by which that code's change of them is lost, and start at 0.2 to 0.55 or so. The
picture is the output of a hidden layer, with activation and batch normalisation; for SVHN, its sigmoid.

What differs still, for every preset:

- Scales are the softplus of their parameter. That of q(z | x) is :math:`\log \sigma^2` in the authors' code,
  so q starts at a standard deviation of 0.69 instead of 1; those of the mixtures are
  :math:`\mathrm{softplus}_{10}` of a variance, or of the diagonal of a Cholesky factor, which moves five to
  seven times as fast at the start.
- The data that are left when an epoch is cut into batches are not a batch of their own.
- The mixtures are fitted to at most 20,000 of the data, where the authors take all.
- A facet that takes no part yet keeps the averages of its batch normalisation.
- Networks for colour pictures are initialised by at most 1,000 data, and not by one batch of 150; the encoder
  comes first, and the decoder then sees samples of its q(z | x).
- The entropy of q(c | x) has no clamp at 1e-6.
- Clusters are predicted by the optimal q(c | x), and not by p(c | z) at the mean of q(z | x).

References:
    F. Falck, H. Zhang, M. Willetts, G. Nicholson, C. Yau, C. Holmes (2021). Multi-Facet Clustering
    Variational Autoencoders. Their code: https://github.com/FabianFalck/mfcvae.
"""

from __future__ import annotations

import dataclasses
from typing import TypedDict, Unpack

from pyro_mfcvae.config.mfcvae import ConfigFields, DataInit, Facet, MFCVAEConfig, configured
from pyro_mfcvae.config.schedule import Schedule
from pyro_mfcvae.likelihoods import Bernoulli, Gaussian, LikelihoodFactory
from pyro_mfcvae.networks import ConvolutionalLadder, FullyConnectedLadder, NetworkFactory
from pyro_mfcvae.priors import DiagonalGaussian, FullGaussian, PriorFactory


class _PaperColour(TypedDict):
    """Fields that the paper's settings for colour pictures share."""

    prior: PriorFactory
    network: NetworkFactory
    data_init: DataInit
    epochs: tuple[int, ...]
    batch_size: int


_PAPER_COLOUR: _PaperColour = {
    "prior": FullGaussian(scale=0.1, weights="uniform", initialization="untrained"),
    "network": ConvolutionalLadder(activation="elu", batch_norm=True, as_published=True),
    "data_init": "as_published",
    "epochs": (100, 301),
    "batch_size": 150,
}


def paper_mnist(**overrides: Unpack[ConfigFields]) -> MFCVAEConfig:
    """Configure the paper's setting for MNIST: two facets of 25 clusters, diagonal covariances, 401 epochs.

    What differs from the authors' code is said in :mod:`pyro_mfcvae.config.paper`.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`.

    References:
        Falck et al. (2021), table 1 and appendix; hyper-parameters as in the authors' configuration.
    """
    return _paper(
        overrides,
        prior=DiagonalGaussian(scale=0.1, initialization="untrained"),
        sizes=((25, 5), (25, 5)),
        likelihood=Bernoulli(),
        network=FullyConnectedLadder(),
        epochs=(200, 201),
        fade_in_steps=15_000,
        batch_size=512,
        learning_rate=5e-4,
    )


def paper_shapes3d_floor(**overrides: Unpack[ConfigFields]) -> MFCVAEConfig:
    """Configure the paper's setting for 3D Shapes: facets of 60 and 20 clusters, full covariances.

    The data vary in floor hue, scale, shape and orientation. What differs from the authors' code is said in
    :mod:`pyro_mfcvae.config.paper`.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`.

    References:
        Falck et al. (2021), table 1 and appendix; hyper-parameters as in the authors' configuration.
    """
    return _paper(
        overrides,
        sizes=((60, 20), (20, 2)),
        likelihood=Gaussian(sigma=0.6),
        fade_in_steps=2_000,
        learning_rate=3e-4,
        **_PAPER_COLOUR,
    )


def paper_shapes3d_wall(**overrides: Unpack[ConfigFields]) -> MFCVAEConfig:
    """Configure the paper's second setting for 3D Shapes: as the first, for data that vary in wall hue.

    What differs from the authors' code is said in :mod:`pyro_mfcvae.config.paper`.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`.

    References:
        Falck et al. (2021), table 1 and appendix; hyper-parameters as in the authors' configuration.
    """
    return paper_shapes3d_floor(**overrides)


def paper_svhn(**overrides: Unpack[ConfigFields]) -> MFCVAEConfig:
    """Configure the paper's setting for SVHN: facets of 200 and 50 clusters, full covariances, 401 epochs.

    What differs from the authors' code is said in :mod:`pyro_mfcvae.config.paper`.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`.

    References:
        Falck et al. (2021), table 1 and appendix; hyper-parameters as in the authors' configuration.
    """
    return _paper(
        overrides,
        sizes=((200, 22), (50, 7)),
        likelihood=Gaussian(sigma=0.3, sigmoid=True),
        fade_in_steps=15_000,
        learning_rate=5e-4,
        **_PAPER_COLOUR,
    )


def _paper(
    overrides: ConfigFields,
    *,
    prior: PriorFactory,
    sizes: tuple[tuple[int, int], ...],
    epochs: tuple[int, ...],
    fade_in_steps: int,
    batch_size: int,
    learning_rate: float,
    likelihood: LikelihoodFactory,
    network: NetworkFactory,
    data_init: DataInit = False,
) -> MFCVAEConfig:
    """Configure as the paper does: one sample per facet term, a constant learning rate, one optimiser.

    Args:
        overrides: fields of :class:`MFCVAEConfig`.
        prior: factory of all facets' priors.
        sizes: clusters and latent dimension of each facet.
        epochs: number of epochs of each stage, in the order of training.
        fade_in_steps: length of the fade-in of all stages but the first.
        batch_size: batch size of all stages.
        learning_rate: learning rate of all stages.
        likelihood: default likelihood.
        network: default network.
        data_init: whether the networks are initialised by a batch of the data.
    """
    schedule = Schedule.progressive(
        len(sizes),
        epochs=epochs,
        fade_in_steps=fade_in_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        decay_after=1.0,
    )
    defaults: ConfigFields = {
        "facets": tuple(Facet(K, D, prior) for K, D in sizes),
        "likelihood": likelihood,
        "network": network,
        "elbo": "monte_carlo",  # with one sample, the estimator of the authors' code
        "schedule": dataclasses.replace(schedule, keep_optimizer=True),
        "data_init": data_init,
    }
    return configured(defaults, overrides)
