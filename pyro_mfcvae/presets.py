"""Configurations that work: functions that take the fields of ``MFCVAEConfig`` as overrides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pyro_mfcvae.config import Facet, MFCVAEConfig
from pyro_mfcvae.likelihoods import Bernoulli, Gaussian, LikelihoodFactory
from pyro_mfcvae.networks import FullyConnectedLadder
from pyro_mfcvae.schedule import Schedule


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
        first=_Epochs(18, warm_up=8),
        later=_Epochs(8, warm_up=4),
        fade_in_steps=200,
    )


def shapes(**overrides: Any) -> MFCVAEConfig:
    """Colour images of rendered shapes: a facet of 60 clusters and a deeper one of 20.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`.

    Returns:
        The configuration; its schedule has one stage for each facet.
    """
    return _preset(
        overrides,
        facets=(Facet(clusters=60, latent_dim=8), Facet(clusters=20, latent_dim=2)),
        likelihood=Gaussian(sigma=0.2),
        width=500,
        first=_Epochs(20, warm_up=8),
        later=_Epochs(60, warm_up=8),
        fade_in_steps=40,
        batch_size=96,
        learning_rate=1e-3,
    )


def tabular(**overrides: Any) -> MFCVAEConfig:
    """Real vectors of any scale: two facets of 10 clusters, each column standardised.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`.

    Returns:
        The configuration; its schedule has one stage for each facet.
    """
    return _preset(
        overrides,
        facets=(Facet(clusters=10, latent_dim=3), Facet(clusters=10, latent_dim=3)),
        likelihood=Gaussian(sigma=0.3, standardize=True),
        width=128,
        first=_Epochs(100, warm_up=20),
        later=_Epochs(100, warm_up=20),
        batch_size=128,
        learning_rate=1e-3,
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


class _Epochs(NamedTuple):
    """Epochs of a stage, and how many of them are its warm-up."""

    total: int
    warm_up: int


def _preset(
    overrides: dict[str, Any],
    *,
    facets: tuple[Facet, ...],
    likelihood: LikelihoodFactory,
    first: _Epochs,
    later: _Epochs,
    width: int | None = None,
    **options: Any,
) -> MFCVAEConfig:
    """Configuration of defaults and overrides; network and schedule follow the number of facets.

    Args:
        overrides: fields of :class:`MFCVAEConfig`.
        facets: default facets.
        likelihood: default likelihood.
        first: epochs of the first stage.
        later: epochs of the others.
        width: of the ladder at every facet's level; None is the paper's.
        **options: of all stages.
    """
    J = len(overrides.get("facets", facets))
    each = (first,) + (later,) * (J - 1)
    fields: dict[str, Any] = {
        "facets": facets,
        "likelihood": likelihood,
        "network": FullyConnectedLadder(None if width is None else (width,) * J),
        "schedule": Schedule.progressive(
            J,
            epochs=[epochs.total for epochs in each],
            warm_up_epochs=[epochs.warm_up for epochs in each],
            **options,
        ),
    }
    return MFCVAEConfig(**fields | overrides)
