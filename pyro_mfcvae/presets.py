"""Configurations that work: functions that take the fields of ``MFCVAEConfig`` as overrides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyro_mfcvae.config import Facet, MFCVAEConfig
from pyro_mfcvae.likelihoods import Gaussian
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
        facets=(Facet(clusters=25, latent_dim=5), Facet(clusters=25, latent_dim=5)),
        epochs=20,
        warm_up_epochs=5,
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
        facets=(Facet(clusters=60, latent_dim=8), Facet(clusters=20, latent_dim=8)),
        likelihood=Gaussian(sigma=0.2),
        epochs=60,
        warm_up_epochs=10,
        batch_size=64,
        learning_rate=1e-3,
    )


def tabular(**overrides: Any) -> MFCVAEConfig:
    """Real vectors of any scale: two facets of 10 clusters, each column standardised.

    Args:
        **overrides: fields of :class:`MFCVAEConfig`.

    Returns:
        The configuration; its schedule has one stage for each facet.
    """
    facets = overrides.get("facets", ())
    return _preset(
        overrides,
        facets=(Facet(clusters=10, latent_dim=3), Facet(clusters=10, latent_dim=3)),
        likelihood=Gaussian(sigma=0.3, standardize=True),
        network=FullyConnectedLadder(widths=(128,) * (len(facets) or 2)),
        epochs=100,
        warm_up_epochs=20,
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


def _preset(overrides: dict[str, Any], **defaults: Any) -> MFCVAEConfig:
    """Configuration of ``defaults`` and ``overrides``; what is no field of it is for the schedule."""
    fields: dict[str, Any] = {
        name: defaults.pop(name) for name in ("facets", "likelihood", "network") if name in defaults
    }
    fields |= overrides
    fields.setdefault("schedule", Schedule.progressive(len(fields["facets"]), **defaults))
    return MFCVAEConfig(**fields)
