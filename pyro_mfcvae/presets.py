"""Configurations that work: functions that take the fields of ``MFCVAEConfig`` as overrides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pyro_mfcvae.config import Facet, MFCVAEConfig
from pyro_mfcvae.likelihoods import Bernoulli, Gaussian, LikelihoodFactory
from pyro_mfcvae.networks import FullyConnectedLadder, NetworkFactory
from pyro_mfcvae.schedule import Schedule, Stage


def mnist(**overrides: Any) -> MFCVAEConfig:
    """Grey images in [0, 1]: two facets of 25 clusters, the paper's ladder, a fast schedule.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`.

    Returns:
        The configuration; its schedule has one stage for each facet.
    """
    return _preset(
        overrides,
        facets=(Facet(clusters=25, latent_dim=5), Facet(clusters=25, latent_dim=10)),
        likelihood=Bernoulli(),
        network=lambda J: FullyConnectedLadder(gate=1.0),
        first={"epochs": 20, "warm_up_epochs": 10},
        later={
            "epochs": 7,
            "warm_up_epochs": 4,
            "fade_in_steps": 200,
            "learning_rate": 1e-3,
            "decay_after": 0.5,
        },
    )


def shapes(**overrides: Any) -> MFCVAEConfig:
    """Colour images of rendered shapes: a facet of 60 clusters and a deeper one of 20.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`.

    Returns:
        The configuration; its schedule has one stage for each facet.
    """
    steps = {"batch_size": 96, "learning_rate": 1e-3}
    return _preset(
        overrides,
        facets=(Facet(clusters=60, latent_dim=8), Facet(clusters=20, latent_dim=2)),
        likelihood=Gaussian(sigma=0.2),
        network=lambda J: FullyConnectedLadder(widths=(500,) * J, gate=1.0),
        first={"epochs": 15, "warm_up_epochs": 7, **steps},
        later={
            "epochs": 80,
            "warm_up_epochs": 7,
            # Less would let a new facet repeat what the deeper one knows already.
            "warm_up_kl_weight": 1.0,
            "fade_in_steps": 40,
            "decay_after": 0.5,
            **steps,
        },
    )


def tabular(**overrides: Any) -> MFCVAEConfig:
    """Real vectors of any scale: two facets of 10 clusters, each column standardised.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`.

    Returns:
        The configuration; its schedule has one stage for each facet.
    """
    stage = {"epochs": 100, "warm_up_epochs": 20, "batch_size": 128, "learning_rate": 1e-3}
    return _preset(
        overrides,
        facets=(Facet(clusters=10, latent_dim=3), Facet(clusters=10, latent_dim=3)),
        likelihood=Gaussian(sigma=0.3, standardize=True),
        network=lambda J: FullyConnectedLadder(widths=(128,) * J),
        first=stage,
        later=stage,
    )


def for_data(x_shape: Sequence[int], is_unit_interval: bool, **overrides: Any) -> MFCVAEConfig:
    """What ``fit`` takes when it is given no configuration.

    Args:
        x_shape: shape of one datum.
        is_unit_interval: whether all values are in [0, 1].
        **overrides: fields of :class:`MFCVAEConfig`.

    Returns:
        :func:`tabular` for vectors, :func:`mnist` for grey images in [0, 1], :func:`shapes` for others.
    """
    if len(x_shape) == 1:
        return tabular(**overrides)
    is_grey = len(x_shape) == 2 or x_shape[0] == 1
    if is_grey and is_unit_interval:
        return mnist(**overrides)
    if is_unit_interval:
        return shapes(**overrides)
    return shapes(**{"likelihood": Gaussian(sigma=0.3, standardize=True), **overrides})


def _preset(
    overrides: dict[str, Any],
    *,
    facets: tuple[Facet, ...],
    likelihood: LikelihoodFactory,
    network: Callable[[int], NetworkFactory],
    first: dict[str, Any],
    later: dict[str, Any],
) -> MFCVAEConfig:
    """Configuration of defaults and overrides; network and schedule follow the number of facets.

    Args:
        overrides: fields of :class:`MFCVAEConfig`.
        facets: default facets.
        likelihood: default likelihood.
        network: default network, for the number of facets J.
        first: fields of the first stage, which introduces the deepest facet.
        later: fields of the other stages, which introduce one facet each.
    """
    J = len(overrides.get("facets", facets))
    stages = [Stage((J - 1,), **first), *(Stage((j,), **later) for j in reversed(range(J - 1)))]
    defaults: dict[str, Any] = {
        "facets": facets,
        "likelihood": likelihood,
        "network": network(J),
        "schedule": Schedule(tuple(stages)),
    }
    return MFCVAEConfig(**defaults | overrides)
