"""Configurations that work: functions that take the fields of ``MFCVAEConfig`` as overrides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal, Unpack, cast

from pyro_mfcvae._utils.checks import integers
from pyro_mfcvae.config.mfcvae import ConfigFields, Facet, MFCVAEConfig, check_facets, configured
from pyro_mfcvae.config.paper import paper_mnist, paper_shapes3d_floor, paper_shapes3d_wall, paper_svhn
from pyro_mfcvae.config.schedule import Schedule
from pyro_mfcvae.config.stage import Stage, StageFields, StageOptions
from pyro_mfcvae.likelihoods import Bernoulli, Gaussian, LikelihoodFactory
from pyro_mfcvae.networks import (
    ConvolutionalLadder,
    FullyConnectedLadder,
    FullyConnectedShared,
    NetworkFactory,
)
from pyro_mfcvae.priors import FullGaussian

__all__ = [
    "for_data",
    "images",
    "mnist",
    "paper_mnist",
    "paper_shapes3d_floor",
    "paper_shapes3d_wall",
    "paper_svhn",
    "shapes3d",
    "shapes3d_ladder",
    "svhn",
    "tabular",
]

LATENT_DIM = 16  # of all facets together, where they are counted: with too few, factors share directions
MIN_NUISANCE = 4
MOST_CENTRES = 8  # of a facet's, which span its latent
MOST_CLUSTERS = 50  # of a facet, where they are counted
COUNTED = Facet(MOST_CLUSTERS, LATENT_DIM, FullGaussian())  # what facets that are counted start from


class SizedFields(ConfigFields, total=False):
    """The fields of :class:`MFCVAEConfig`, and sizes in place of its facets."""

    clusters: int | Sequence[int]
    latent_dims: int | Sequence[int]


class PresetFields(SizedFields, total=False):
    """The fields of :class:`MFCVAEConfig`, where facets may be left to the data."""

    facets: tuple[Facet, ...] | Literal["auto"]  # type: ignore[misc]


class UnmixedFields(StageOptions, total=False):
    """Keywords of :meth:`Schedule.unmixed`."""

    epochs: Sequence[int]
    steps: Sequence[int]


def mnist(**overrides: Unpack[SizedFields]) -> MFCVAEConfig:
    """Configure grey images in [0, 1]: two facets of 25 clusters, the paper's ladder, a fast schedule.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`, and ``clusters`` and ``latent_dims`` of the facets.

    Returns:
        The configuration; its schedule has one stage for each facet.
    """
    return _preset(
        overrides,
        # Full covariances follow the digits' shapes in the latent space, which diagonal ones cut up.
        # Two dimensions are enough for the style that all digits share, and too few for the digit.
        facets=(Facet(25, 2, FullGaussian()), Facet(25, 10, FullGaussian(initialization="neighbours"))),
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


def shapes3d(**overrides: Unpack[PresetFields]) -> MFCVAEConfig:
    """Configure colour images of rendered scenes: facets, and clusters, as many as there are.

    One latent is trained and unmixed; see :mod:`pyro_mfcvae.training.unmixing`.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`, and ``clusters`` and ``latent_dims`` of the facets;
            ``facets`` may be ``"auto"``, which is the default.

    Returns:
        The configuration, for any number of facets; its schedule has two stages.
    """
    return _unmixed(
        overrides,
        facets="auto",
        likelihood=Gaussian(sigma=0.2),
        # A second hidden layer would bend the latent, so that no linear basis separates the factors.
        network=FullyConnectedShared(widths=(500,)),
        schedule={"epochs": (40, 20), "batch_size": 96, "learning_rate": 1e-3, "decay_after": 0.5},
    )


def shapes3d_ladder(**overrides: Unpack[SizedFields]) -> MFCVAEConfig:
    """Configure colour images of rendered shapes, in a ladder: a facet of 60 clusters and a deeper one of 20.

    The paper's way, with stages for the facets in turn. :func:`shapes3d` is steadier.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`, and ``clusters`` and ``latent_dims`` of the facets.

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


def svhn(**overrides: Unpack[SizedFields]) -> MFCVAEConfig:
    """Configure house numbers in colour: facets of 200 and 50 clusters in a convolutional ladder.

    The schedule is that of the other presets in a tenth of the paper's epochs. It is not tuned on SVHN.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`, and ``clusters`` and ``latent_dims`` of the facets.

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


def tabular(**overrides: Unpack[PresetFields]) -> MFCVAEConfig:
    """Configure real vectors of any scale: two facets of 10 clusters, each column standardised.

    One latent is trained and unmixed; see :mod:`pyro_mfcvae.training.unmixing`.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`, and ``clusters`` and ``latent_dims`` of the facets;
            ``facets="auto"`` makes as many as there are.

    Returns:
        The configuration, for any number of facets; its schedule has two stages, of 600 and 400 steps.
    """
    return _side_by_side(overrides, Gaussian(sigma=0.3, standardize=True))


def images(**overrides: Unpack[PresetFields]) -> MFCVAEConfig:
    """Configure pictures of any scale: two facets of 10 clusters, each pixel standardised.

    Where one thing has several characteristics that are no clusters, as the style of a digit, take
    :func:`mnist`. One latent is trained and unmixed; see :mod:`pyro_mfcvae.training.unmixing`.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`, and ``clusters`` and ``latent_dims`` of the facets;
            ``facets="auto"`` makes as many as there are.

    Returns:
        The configuration, for any number of facets; its schedule has two stages, of 600 and 400 steps.
    """
    return _side_by_side(overrides, Gaussian(sigma=1.0, standardize=True))


def for_data(
    x_shape: Sequence[int],
    is_unit_interval: bool,
    *,
    has_missing: bool = False,
    **overrides: Unpack[SizedFields],
) -> MFCVAEConfig:
    """Choose the preset that ``fit`` takes when it is given no configuration.

    Args:
        x_shape: shape of one datum.
        is_unit_interval: whether all values are in [0, 1].
        has_missing: whether entries are missing.
        **overrides: fields of :class:`MFCVAEConfig`, and ``clusters`` and ``latent_dims``.

    Returns:
        :func:`tabular` for vectors, with the likelihood ``"mixed"`` where entries are missing, or columns of
        a ``schema`` are no real numbers; :func:`mnist` for grey images in [0, 1]; else :func:`shapes3d`.
    """
    likelihood: SizedFields = {}
    if len(x_shape) == 1:
        schema = overrides.get("schema")
        is_real = schema is None or len(schema.of_kind("real")) == len(schema.columns)
        if has_missing or not is_real:
            likelihood["likelihood"] = "mixed"
        return tabular(**(likelihood | overrides))
    is_grey = len(x_shape) == 2 or x_shape[0] == 1
    if is_grey and is_unit_interval:
        return mnist(**overrides)
    if not is_unit_interval:
        likelihood["likelihood"] = Gaussian(sigma=0.3, standardize=True)
    return shapes3d(**(likelihood | overrides))


def _facets(
    overrides: PresetFields, default: tuple[Facet, ...] | Literal["auto"]
) -> tuple[Facet, ...] | Literal["auto"]:
    """Take facets, or their sizes, out of the overrides.

    Raises:
        ValueError: for facets and sizes, or sizes that do not suit each other.
    """
    clusters, latent_dims = overrides.pop("clusters", None), overrides.pop("latent_dims", None)
    given = overrides.pop("facets", default)
    if clusters is None and latent_dims is None:
        return given
    if given is not default:
        raise ValueError(
            f"facets: got {given!r} with clusters={clusters!r} and latent_dims={latent_dims!r}, expected one "
            "or the other; leave one out"
        )
    if default == "auto" and clusters is None:
        raise ValueError(
            f"latent_dims: got {latent_dims!r} where facets are counted, expected clusters, too; give both"
        )
    like = (COUNTED,) if isinstance(default, str) else default
    sizes = [facet.clusters for facet in like] if clusters is None else _sizes("clusters", clusters)
    # Where a preset has fewer facets, the others are like its last one.
    like = tuple(like[min(j, len(like) - 1)] for j in range(len(sizes)))
    dims = [facet.latent_dim for facet in like] if latent_dims is None else _sizes("latent_dims", latent_dims)
    dims = dims * len(sizes) if len(dims) == 1 else dims
    if len(dims) != len(sizes):
        raise ValueError(
            f"latent_dims: got {len(dims)} numbers, expected 1 or {len(sizes)}, one for each facet; give as "
            "many"
        )
    each = zip(like, sizes, dims, strict=True)
    return tuple(replace(facet, clusters=K, latent_dim=D) for facet, K, D in each)


def _sizes(name: str, values: int | Sequence[int]) -> list[int]:
    """Return one size, or several, as a list."""
    return list(integers(name, values if isinstance(values, Iterable) else [values]))


def _preset(
    overrides: SizedFields,
    *,
    facets: tuple[Facet, ...],
    likelihood: LikelihoodFactory,
    network: Callable[[int], NetworkFactory],
    first: StageFields,
    later: StageFields,
) -> MFCVAEConfig:
    """Configure by defaults and overrides; network and schedule follow the number of facets.

    Args:
        overrides: fields of :class:`MFCVAEConfig`, and sizes of facets.
        facets: default facets.
        likelihood: default likelihood.
        network: default network, for the number of latents: J facets, and a nuisance if there is one.
        first: fields of the first stage, which introduces the deepest facet.
        later: fields of the other stages, which introduce one facet each.
    """
    facets = check_facets(_facets(cast(PresetFields, overrides), facets))
    J = len(facets)
    stages = [Stage((J - 1,), **first), *(Stage((j,), **later) for j in reversed(range(J - 1)))]
    defaults: ConfigFields = {
        "facets": facets,
        "likelihood": likelihood,
        "network": network(J + bool(overrides.get("nuisance"))),
        "schedule": Schedule(tuple(stages)),
    }
    return configured(defaults, cast(ConfigFields, overrides))


def _side_by_side(overrides: PresetFields, likelihood: LikelihoodFactory) -> MFCVAEConfig:
    """Configure partitions that lie side by side, in few steps."""
    return _unmixed(
        overrides,
        facets=(Facet(10, 3, FullGaussian()),) * 2,
        likelihood=likelihood,
        network=FullyConnectedShared(widths=(64,)),
        # Steps, so that a small data set is trained on as long as a large one.
        schedule={"steps": (600, 400), "batch_size": 100, "decay_after": 0.5},
    )


def _unmixed(
    overrides: PresetFields,
    *,
    facets: tuple[Facet, ...] | Literal["auto"],
    likelihood: LikelihoodFactory,
    network: NetworkFactory,
    schedule: UnmixedFields,
) -> MFCVAEConfig:
    """Configure a latent that is unmixed into facets.

    Args:
        overrides: fields of :class:`MFCVAEConfig`.
        facets: default facets.
        likelihood: default likelihood.
        network: default network.
        schedule: keywords of :meth:`Schedule.unmixed`.
    """
    given = _facets(overrides, facets)
    is_auto = isinstance(given, str) and given == "auto"
    chosen = (COUNTED,) if is_auto else check_facets(given)
    # K centres span at most K - 1 dimensions; those that data make no use of cost little.
    needed = MIN_NUISANCE + sum(min(facet.clusters - 1, MOST_CENTRES) for facet in chosen)
    left = needed - sum(facet.latent_dim for facet in chosen)
    given_schedule = overrides.get("schedule")
    unmixes = given_schedule is None or any(stage.unmix for stage in given_schedule.stages)
    defaults: ConfigFields = {
        "facets": chosen,
        "likelihood": likelihood,
        "network": network,
        "schedule": Schedule.unmixed(len(chosen), unmix="auto" if is_auto else True, **schedule),
        "nuisance": max(left, MIN_NUISANCE) if unmixes and not is_auto else 0,
    }
    return configured(defaults, cast(ConfigFields, overrides))
