"""Pictures of data beside each other: examples, samples, compositions and reconstructions."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyro_mfcvae.plots.arguments import check_positive, data_of, facet_of
from pyro_mfcvae.plots.cells import Cells, draw_rows
from pyro_mfcvae.plots.choosing import by_size, most_confident
from pyro_mfcvae.plots.style import (
    GREY,
    HEADING,
    LINE,
    MARGIN,
    Array,
    figure_of,
    new_figure,
    place_axes,
    write_heading,
)
from pyro_mfcvae.results.fitted import FittedMFCVAE

if TYPE_CHECKING:  # matplotlib is slow to import, and only needed when a plot is made
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_COMPOSED = 40
PER_LINE = 16  # reconstructions


def cluster_examples(
    fitted: FittedMFCVAE,
    x: object,
    facet: int,
    *,
    num_examples: int = 8,
    max_clusters: int = 60,
    ax: Axes | None = None,
) -> Figure:
    r"""Draw the data that each cluster of a facet is most confident of.

    One row for each cluster that is alive, labelled with its index and its number of data, the largest
    first; clusters without data are only counted. From left to right the examples are ever less certain
    by q(c_j | x); equally certain ones come in a fixed random order.

    Args:
        fitted: the model.
        x: data (N, *x_shape); not necessarily those it was trained on.
        facet: index of the facet, 0 .. J-1.
        num_examples: number of examples of a cluster, at most.
        max_clusters: number of clusters shown, at most.
        ax: axes to draw in; None makes a figure of its own.

    Returns:
        The figure.

    Raises:
        ValueError: if the data do not suit the model, there is no such facet, or a number is below one.

    References:
        Falck et al. (2021), figure 3.
    """
    facet = facet_of(fitted, facet)
    check_positive("num_examples", num_examples)
    check_positive("max_clusters", max_clusters)
    images = data_of(fitted, x)
    r = fitted.predict_proba(images)[facet]
    return draw_examples(fitted, images, facet, r, num_examples, max_clusters, ax)


def draw_examples(
    fitted: FittedMFCVAE,
    images: Array,
    facet: int,
    r: Array,
    num_examples: int = 8,
    max_clusters: int = 60,
    ax: Axes | None = None,
) -> Figure:
    """Draw the figure of :func:`cluster_examples`, given the facet's posteriors r, (N, K)."""
    order, sizes = by_size(r)
    alive = int((sizes > 0).sum())
    order = order[: min(alive, max_clusters)]
    rows = [images[most_confident(r, k, num_examples)] for k in order]
    labels = [f"{k} ({sizes[k]:,})" for k in order]
    heading = f"Facet {facet}: {alive} of {r.shape[1]} clusters alive"
    if alive > len(order):
        heading += f", the {len(order)} largest shown"
    below = f"Rows: cluster (how many of {len(images):,} data). Most confident examples first."
    return draw_rows(Cells.of(fitted, images), rows, labels, heading, below, ax)


def cluster_samples(
    fitted: FittedMFCVAE,
    facet: int,
    *,
    num_samples: int = 8,
    temperature: float = 0.7,
    seed: int = 0,
    clusters: Sequence[int] | None = None,
    ax: Axes | None = None,
) -> Figure:
    r"""Draw data that the model generates for each cluster of a facet.

    One row for each cluster, labelled with its index and its mixture weight in percent. Within a column
    the draws of everything else are shared, so that rows differ by this facet's cluster only.

    Args:
        fitted: the model.
        facet: index of the facet, 0 .. J-1.
        num_samples: number of samples of a cluster.
        temperature: factor of the deviations of z from the mean of its component; 0 is the mean.
        seed: seed of the draws.
        clusters: indices of clusters, from top to bottom; None takes the 60 of largest weight, in this order.
        ax: axes to draw in; None makes a figure of its own.

    Returns:
        The figure.

    Raises:
        ValueError: for a facet or cluster that does not exist, or a number outside its range.
    """
    facet = facet_of(fitted, facet)
    check_positive("num_samples", num_samples)
    weights = fitted.weights[facet]
    if clusters is None:
        clusters = np.argsort(-weights, kind="stable")[:60].tolist()
    elif len(clusters) == 0:
        raise ValueError("clusters: got none, expected at least one; give None for the largest")
    rows = [
        fitted.sample(num_samples, {facet: k}, temperature=temperature, seed=seed)
        for k in map(operator.index, clusters)
    ]
    labels = [f"{k} ({100 * weights[k]:.1f} %)" for k in clusters]
    heading = f"Facet {facet}: {len(rows)} of {fitted.clusters[facet]} clusters, generated"
    below = "Rows: cluster (mixture weight). Columns share the draws of all else."
    return draw_rows(Cells.of(fitted, *rows), rows, labels, heading, below, ax)


def compositions(
    fitted: FittedMFCVAE,
    x_rows: object,
    x_columns: object,
    *,
    row_facet: int = 0,
    column_facet: int = 1,
    ax: Axes | None = None,
) -> Figure:
    r"""Combine one facet of each of some inputs with another facet of each of other inputs.

    The first column shows the inputs that give ``row_facet``, the first row those that give
    ``column_facet``, and the cells between what :meth:`FittedMFCVAE.compose` makes of the two. Facets
    that are neither, and a nuisance, come from the input on the left.

    Args:
        fitted: the model, of at least two facets.
        x_rows: data (R, *x_shape), at most 40.
        x_columns: data (C, *x_shape), at most 40.
        row_facet: index of the facet that the data on the left give.
        column_facet: index of the facet that the data on top give.
        ax: axes to draw in; None makes a figure of its own.

    Returns:
        The figure.

    Raises:
        ValueError: if the model has one facet only, the two facets are the same or do not exist, or the
            data are too many or do not suit the model.
    """
    if fitted.num_facets < 2:
        raise ValueError("fitted: got 1 facet, expected at least 2 to combine; train a model with more")
    row_facet = facet_of(fitted, row_facet, "row_facet")
    column_facet = facet_of(fitted, column_facet, "column_facet")
    if row_facet == column_facet:
        raise ValueError(f"column_facet: got {column_facet}, expected another than row_facet; change one")
    left, top = data_of(fitted, x_rows, "x_rows"), data_of(fitted, x_columns, "x_columns")
    for name, given in (("x_rows", left), ("x_columns", top)):
        if len(given) > MAX_COMPOSED:
            raise ValueError(
                f"{name}: got {len(given)} data, expected at most {MAX_COMPOSED}; choose some, as in x[:8]"
            )
    R, C = len(left), len(top)
    sources = [np.repeat(left, C, 0)] * len(fitted.config.latent_dims)
    sources[column_facet] = np.concatenate([top] * R)
    composed = fitted.compose(sources).reshape(R, C, *fitted.model.x_shape)
    rows = [[None, *top], *([given, *row] for given, row in zip(left, composed, strict=True))]

    cells = Cells.of(fitted, left, top, composed)
    lead = 4 * cells.gap  # sets the inputs apart
    if ax is None:
        height, width = (cells.extent(n, axis, lead) for n, axis in ((R + 1, 0), (C + 1, 1)))
        rest = "" if len(sources) == 2 else " and all others"
        below = f"Facet {row_facet}{rest} of the input on the left, facet {column_facet} of the input above."
        space = HEADING + LINE if cells.note else HEADING
        figure = new_figure(width + 0.4 + 2 * MARGIN, max(height, 1.2) + space + 0.25 + MARGIN)
        write_heading(figure, "Compositions", f"{below}\n{cells.note}")
        ax = place_axes(figure, MARGIN + 0.35, space + 0.22, width, height)
        cells.draw(ax, rows, lead)
    else:
        cells.draw(ax, rows, lead)
        ax.set_aspect("equal", adjustable="box")
    ax.set_title(f"inputs for facet {column_facet}", fontsize=8, pad=4, color=GREY)
    ax.set_ylabel(f"inputs for facet {row_facet}", fontsize=8, color=GREY)
    return figure_of(ax)


def reconstructions(fitted: FittedMFCVAE, x: object, *, num: int = 16, ax: Axes | None = None) -> Figure:
    r"""Draw data above their reconstructions: E[x | z] at the means of q(z | x).

    Args:
        fitted: the model.
        x: data (N, *x_shape).
        num: number of data, spread evenly over x; sixteen to a line.
        ax: axes to draw in; None makes a figure of its own.

    Returns:
        The figure.

    Raises:
        ValueError: if the data do not suit the model, or ``num`` is below one.
    """
    check_positive("num", num)
    images = data_of(fitted, x)
    chosen = images[np.linspace(0, len(images) - 1, min(num, len(images))).round().astype(int)]
    outputs = fitted.reconstruct(chosen)
    rows, labels = [], []
    for start in range(0, len(chosen), PER_LINE):
        for label, data in (("input", chosen), ("output", outputs)):
            rows.append(data[start : start + PER_LINE])
            labels.append(label)
    below = f"{len(chosen)} of {len(images):,} data, spread evenly"
    return draw_rows(Cells.of(fitted, chosen, outputs), rows, labels, "Reconstructions", below, ax)
