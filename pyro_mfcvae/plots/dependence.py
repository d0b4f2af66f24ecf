"""A picture of how independent components were grouped into facets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyro_mfcvae.plots.style import figure_of, new_figure
from pyro_mfcvae.results.fitted import FittedMFCVAE

if TYPE_CHECKING:  # matplotlib is slow to import, and only needed when a plot is made
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL, FRAME = 0.38, 1.9  # inches


def dependence(fitted: FittedMFCVAE, *, ax: Axes | None = None) -> Figure:
    r"""Draw the dependence between the components of an unmixed latent, with a frame around each facet.

    A cell is the alignment of two components' kernels, in [0, 1], as of :func:`merge_groups`. A facet shows
    as a block; what is dark outside of the frames is dependence that is left between facets.

    Args:
        fitted: a model that a stage with ``unmix`` has trained.
        ax: axes to draw in; None makes a figure.

    Returns:
        The figure.

    Raises:
        ValueError: if the model's latents were not unmixed.
    """
    from matplotlib.patches import Rectangle

    found = fitted.history.unmixing
    if found is None:
        raise ValueError(
            "fitted: got a model whose latents were not unmixed, expected one trained with a stage that "
            "unmixes; use Schedule.unmixed(...)"
        )
    D = len(found.components)
    if ax is None:
        side = FRAME + CELL * D
        ax = new_figure(side, side, layout="constrained").subplots()
    shown = np.where(np.eye(D, dtype=bool), np.nan, found.components)
    image = ax.imshow(shown, cmap="Blues", vmin=0.0, vmax=max(0.3, float(np.nanmax(shown, initial=0.0))))
    figure = figure_of(ax)
    figure.colorbar(image, ax=ax, shrink=0.7, label="kernel alignment")
    names = [f"facet {j}" for j in range(len(found.latent_dims))]
    dims = [*found.latent_dims]
    if found.nuisance:
        names.append("nuisance")
        dims.append(found.nuisance)
    edges = np.cumsum([0, *dims]) - 0.5
    for name, first, size in zip(names, edges, dims, strict=False):
        style = ":" if name == "nuisance" else "-"
        ax.add_patch(Rectangle((first, first), size, size, fill=False, linestyle=style, linewidth=1.5))
    middles = (edges[:-1] + edges[1:]) / 2
    ax.set_xticks(middles, names, rotation=45, ha="right")
    ax.set_yticks(middles, names)
    ax.tick_params(length=0)
    ax.set_title("Dependence between components", fontsize=10)
    return figure
