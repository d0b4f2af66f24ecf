"""Configurations that work: functions that take the fields of ``MFCVAEConfig`` as overrides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict, Unpack

from pyro_mfcvae._utils.checks import WrongTypeError
from pyro_mfcvae.config.mfcvae import ConfigFields, Facet, MFCVAEConfig, check_facets
from pyro_mfcvae.config.schedule import Schedule
from pyro_mfcvae.config.stage import Stage, StageFields
from pyro_mfcvae.likelihoods import Bernoulli, Gaussian, LikelihoodFactory
from pyro_mfcvae.networks import (
    ConvolutionalLadder,
    FullyConnectedAdditive,
    FullyConnectedLadder,
    NetworkFactory,
)
from pyro_mfcvae.priors import DiagonalGaussian, FullGaussian, PriorFactory


class _PaperColour(TypedDict):
    """Fields that the paper's settings for colour pictures share."""

    prior: PriorFactory
    network: NetworkFactory
    data_init: bool
    epochs: tuple[int, ...]
    batch_size: int


_PAPER_COLOUR: _PaperColour = {
    "prior": FullGaussian(scale=0.1, weights="uniform"),
    "network": ConvolutionalLadder(activation="elu", batch_norm=True),
    "data_init": True,
    "epochs": (101, 301),
    "batch_size": 150,
}


def mnist(**overrides: Unpack[ConfigFields]) -> MFCVAEConfig:
    """Configure grey images in [0, 1]: two facets of 25 clusters, the paper's ladder, a fast schedule.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`.

    Returns:
        The configuration; its schedule has one stage for each facet.
    """
    return _preset(
        overrides,
        # Full covariances follow the digits' shapes in the latent space, which diagonal ones cut up.
        # Two dimensions are enough for the style that all digits share, and too few for the digit.
        facets=(Facet(25, 2, FullGaussian()), Facet(25, 10, FullGaussian())),
        likelihood=Bernoulli(),
        network=lambda levels: FullyConnectedLadder(gate=1.0),
        first={"epochs": 20, "warm_up_epochs": 8, "decay_after": 0.5},
        later={
            "epochs": 10,
            "warm_up_epochs": 5,
            # Style moves to the new facet, where it is cheaper; the digit stays.
            "past_kl_weight": 3.0,
            "fade_in_steps": 200,
            "learning_rate": 1e-3,
            "decay_after": 0.5,
        },
    )


def shapes3d(**overrides: Unpack[ConfigFields]) -> MFCVAEConfig:
    """Configure colour images of rendered shapes: a facet of 60 clusters and a deeper one of 20.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`.

    Returns:
        The configuration; its schedule has one stage for each facet.
    """
    steps: StageFields = {"batch_size": 96, "learning_rate": 1e-3}
    return _preset(
        overrides,
        facets=(Facet(clusters=60, latent_dim=8), Facet(clusters=20, latent_dim=2)),
        likelihood=Gaussian(sigma=0.2),
        network=lambda levels: FullyConnectedLadder(widths=(500,) * levels, gate=1.0),
        first={"epochs": 15, "warm_up_epochs": 7, **steps},
        later={
            "epochs": 80,
            "warm_up_epochs": 7,
            # Less would let a new facet repeat what the deeper one knows already.
            "warm_up_kl_weight": 1.0,
            # What is not of the floor's clusters is cheaper to keep in the new facet.
            "past_kl_weight": 3.0,
            "fade_in_steps": 40,
            "decay_after": 0.5,
            **steps,
        },
    )


def svhn(**overrides: Unpack[ConfigFields]) -> MFCVAEConfig:
    """Configure house numbers in colour: facets of 200 and 50 clusters in a convolutional ladder.

    The schedule is that of the other presets in a tenth of the paper's epochs. It is not tuned on SVHN.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`.

    Returns:
        The configuration; its schedule has one stage for each facet.
    """
    steps: StageFields = {"batch_size": 150, "learning_rate": 1e-3, "decay_after": 0.5}
    return _preset(
        overrides,
        facets=(Facet(200, 22, FullGaussian()), Facet(50, 7, FullGaussian())),
        likelihood=Gaussian(sigma=0.3),
        network=lambda levels: ConvolutionalLadder(activation="elu", batch_norm=True),
        first={"epochs": 15, "warm_up_epochs": 5, **steps},
        later={"epochs": 25, "warm_up_epochs": 8, "fade_in_steps": 500, **steps},
    )


def tabular(**overrides: Unpack[ConfigFields]) -> MFCVAEConfig:
    """Configure real vectors of any scale: two facets of 10 clusters, each column standardised.

    Made for independent partitions side by side. The directions that a facet's encoder looks at are found
    before training and stay. One run mostly finds the partitions; ``fit(..., restarts=2)`` keeps the
    better of two.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`.

    Returns:
        The configuration, for any number of facets; its schedule has one stage, of 600 steps.
    """
    return _side_by_side(overrides, Gaussian(sigma=0.3, standardize=True))


def images(**overrides: Unpack[ConfigFields]) -> MFCVAEConfig:
    """Configure pictures that show several things side by side: two facets of 10 clusters.

    Made for independent partitions of different parts of a picture; where one thing has several
    characteristics, as a digit has class and style, take :func:`mnist` or :func:`shapes3d`. The directions
    that a facet's encoder looks at are found before training and stay. One run mostly finds the
    partitions; ``fit(..., restarts=2)`` keeps the better of two.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`.

    Returns:
        The configuration, for any number of facets; its schedule has one stage, of 600 steps.
    """
    return _side_by_side(overrides, Gaussian(sigma=1.0, standardize=True))


def paper_mnist(**overrides: Unpack[ConfigFields]) -> MFCVAEConfig:
    """Configure the paper's setting for MNIST: two facets of 25 clusters, diagonal covariances, 402 epochs.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`.

    References:
        Falck et al. (2021), table 1 and appendix; hyper-parameters as in the authors' configuration.
    """
    return _paper(
        overrides,
        prior=DiagonalGaussian(scale=0.1),
        sizes=((25, 5), (25, 5)),
        likelihood=Bernoulli(),
        network=FullyConnectedLadder(),
        epochs=(201, 201),
        fade_in_steps=15_000,
        batch_size=512,
        learning_rate=5e-4,
    )


def paper_shapes3d_floor(**overrides: Unpack[ConfigFields]) -> MFCVAEConfig:
    """Configure the paper's setting for 3D Shapes: facets of 60 and 20 clusters, full covariances.

    The data vary in floor hue, scale, shape and orientation.

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

    Args:
        **overrides: fields of :class:`MFCVAEConfig`.

    References:
        Falck et al. (2021), table 1 and appendix; hyper-parameters as in the authors' configuration.
    """
    return paper_shapes3d_floor(**overrides)


def paper_svhn(**overrides: Unpack[ConfigFields]) -> MFCVAEConfig:
    """Configure the paper's setting for SVHN: facets of 200 and 50 clusters, full covariances, 402 epochs.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`.

    References:
        Falck et al. (2021), table 1 and appendix; hyper-parameters as in the authors' configuration.
    """
    return _paper(
        overrides,
        sizes=((200, 22), (50, 7)),
        likelihood=Gaussian(sigma=0.3),
        fade_in_steps=15_000,
        learning_rate=5e-4,
        **_PAPER_COLOUR,
    )


def for_data(
    x_shape: Sequence[int], is_unit_interval: bool, **overrides: Unpack[ConfigFields]
) -> MFCVAEConfig:
    """Choose the preset that ``fit`` takes when it is given no configuration.

    Args:
        x_shape: shape of one datum.
        is_unit_interval: whether all values are in [0, 1].
        **overrides: fields of :class:`MFCVAEConfig`.

    Returns:
        :func:`tabular` for vectors, :func:`mnist` for grey images in [0, 1], :func:`shapes3d` for others.
    """
    if len(x_shape) == 1:
        return tabular(**overrides)
    is_grey = len(x_shape) == 2 or x_shape[0] == 1
    if is_grey and is_unit_interval:
        return mnist(**overrides)
    if is_unit_interval:
        return shapes3d(**overrides)
    likelihood: ConfigFields = {"likelihood": Gaussian(sigma=0.3, standardize=True)}
    return shapes3d(**(likelihood | overrides))


def _preset(
    overrides: ConfigFields,
    *,
    facets: tuple[Facet, ...],
    likelihood: LikelihoodFactory,
    network: Callable[[int], NetworkFactory],
    first: StageFields,
    later: StageFields,
) -> MFCVAEConfig:
    """Configure by defaults and overrides; network and schedule follow the number of facets.

    Args:
        overrides: fields of :class:`MFCVAEConfig`.
        facets: default facets.
        likelihood: default likelihood.
        network: default network, for the number of latents: J facets, and a nuisance if there is one.
        first: fields of the first stage, which introduces the deepest facet.
        later: fields of the other stages, which introduce one facet each.
    """
    facets = check_facets(overrides.pop("facets", facets))
    J = len(facets)
    stages = [Stage((J - 1,), **first), *(Stage((j,), **later) for j in reversed(range(J - 1)))]
    defaults: ConfigFields = {
        "facets": facets,
        "likelihood": likelihood,
        "network": network(J + bool(overrides.get("nuisance"))),
        "schedule": Schedule(tuple(stages)),
    }
    return _configured(defaults, overrides)


def _side_by_side(overrides: ConfigFields, likelihood: LikelihoodFactory) -> MFCVAEConfig:
    """Configure partitions that lie side by side: facets with networks of their own, all at once."""
    facets = check_facets(overrides.pop("facets", (Facet(10, 3, FullGaussian()),) * 2))
    J = len(facets)
    stage = Stage(
        tuple(range(J)),
        # Steps, so that a small data set is trained on as long as a large one.
        steps=600,
        warm_up_steps=200,
        batch_size=100,
        decay_after=0.5,
        # The first layers, or encoders soon look at all of the data again.
        freeze=("encoder.facet_modules.*.0.0.*",),
    )
    defaults: ConfigFields = {
        "facets": facets,
        "likelihood": likelihood,
        "network": FullyConnectedAdditive(widths=(64, 64)),
        "schedule": Schedule((stage,)),
        # From any other start, a facet mostly ends with parts of several partitions.
        "data_init": "subspaces",
    }
    return _configured(defaults, overrides)


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
    data_init: bool = False,
) -> MFCVAEConfig:
    """Configure as the paper does: one sample per facet term, a constant learning rate, no warm-up.

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
        "schedule": schedule,
        "data_init": data_init,
    }
    return _configured(defaults, overrides)


def _configured(defaults: ConfigFields, overrides: ConfigFields) -> MFCVAEConfig:
    known = tuple(ConfigFields.__annotations__)
    for name, value in overrides.items():
        if name not in known:
            raise WrongTypeError(
                f"{name}: got {value!r} for no field of MFCVAEConfig, expected some of {known}"
            )
    return MFCVAEConfig(**(defaults | overrides))
