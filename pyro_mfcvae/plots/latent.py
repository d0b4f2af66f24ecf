"""Pictures of the latents of facets: the data in them, and the components of the prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch

from pyro_mfcvae.plots.arguments import (
    check_positive,
    data_of,
    facet_of,
    facets_of,
    labels_of,
    on_host,
)
from pyro_mfcvae.plots.choosing import at_random
from pyro_mfcvae.plots.panels import draw_points, lay_out
from pyro_mfcvae.plots.projection import Components, principal, separating
from pyro_mfcvae.plots.style import COLORS, GREY, Array, figure_of, look, write_numbers
from pyro_mfcvae.priors import FacetPrior
from pyro_mfcvae.results.fitted import FittedMFCVAE

if TYPE_CHECKING:  # matplotlib is slow to import, and only needed when a plot is made
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_POINTS = 5_000
Method = Literal["pca", "tsne"]
GRID = 400  # points that a density is evaluated at
PANELS_PER_ROW = 3


def latent_space(
    fitted: FittedMFCVAE,
    x: object,
    *,
    facets: int | Sequence[int] | None = None,
    labels: object = None,
    max_points: int = MAX_POINTS,
    seed: int = 0,
    ax: Axes | None = None,
) -> Figure:
    r"""Draw the latent of each facet: data, and the components of the prior that sort them.

    Points are means of q(z_j | x), coloured by cluster; ellipses are one and two standard deviations of the
    components, the heavier the thicker, and grey where no datum of x is in the cluster. Components that
    are not Gaussian are drawn by their covariance, and left out if that is infinite. Of a latent of more
    than two dimensions the panel shows the two directions that separate the components best, in standard
    deviations within components; the axes say how much of the separation is along them. A latent of one
    dimension is a histogram under the densities :math:`\pi_k p(z | c = k)`.

    Args:
        fitted: the model.
        x: data (N, *x_shape).
        facets: indices of facets, or one of them; None shows all.
        labels: classes (N,), of any kind that `FittedMFCVAE.evaluate` takes: a second panel for each facet is
            coloured by them.
        max_points: number of data that are drawn; of more, a random sample.
        seed: seed of the sample.
        ax: axes to draw in, for a single facet without labels; None makes a figure of its own.

    Returns:
        The figure.

    Raises:
        ValueError: if the data do not suit the model, there is no such facet, labels have another length,
            or ``ax`` would have to hold several panels.
        TypeError: if labels are no classes.

    References:
        Fisher (1936), The use of multiple measurements in taxonomic problems, for the directions.
    """
    chosen = facets_of(fitted, facets)
    if ax is not None and (len(chosen) > 1 or labels is not None):
        also = "" if labels is None else " and labels"
        raise ValueError(
            f"ax: got one for {len(chosen)} facets{also}, expected a single panel; give facets=0 and no "
            "labels, or leave ax out"
        )
    data = data_of(fitted, x)
    return draw_latent_space(
        fitted,
        fitted.transform(data),
        fitted.predict(data),
        chosen,
        labels,
        max_points=max_points,
        seed=seed,
        ax=ax,
    )


def draw_latent_space(
    fitted: FittedMFCVAE,
    latents: Sequence[Array],
    clusters: Array,
    facets: Sequence[int],
    labels: object = None,
    *,
    max_points: int = MAX_POINTS,
    seed: int = 0,
    ax: Axes | None = None,
) -> Figure:
    """Draw the figure of :func:`latent_space`, given means (N, D_j) of q(z_j | x) and clusters (N, J)."""
    check_positive("max_points", max_points)
    N = len(clusters)
    names, y = _classes(labels, clusters)
    shown = at_random(N, max_points, seed)
    kinds = 1 if y is None else 2
    if ax is None:
        colouring = "by cluster" if y is None else "by cluster and by label"
        lines = "1 and 2 standard deviations"
        if any(latents[j].shape[1] == 1 for j in facets):
            lines += ", or densities"
        below = (
            f"{len(shown):,} of {N:,} data, means of q(z | x), {colouring}.\n"
            f"Components of the prior, thick by weight, dashed without data: {lines}."
        )
        columns = kinds if kinds > 1 else min(len(facets), PANELS_PER_ROW)
        panels = lay_out("Latent space", below, kinds * len(facets), columns, names)
    else:
        panels = [ax]
    for j, panel, of_labels in zip(facets, panels[::kinds], panels[kinds - 1 :: kinds], strict=True):
        prior, z, c = fitted.model.facet_priors[j], latents[j][shown], clusters[:, j]
        is_alive = np.bincount(c, minlength=fitted.clusters[j]) > 0
        panel.set_title(f"Facet {j}: {is_alive.sum()} of {len(is_alive)} clusters", fontsize=10)
        of_clusters = fitted.levels[j].clusters
        is_alive = is_alive[of_clusters]
        _draw_facet(panel, prior, z, c[shown], of_clusters, is_alive)
        if y is not None:
            of_labels.set_title(f"Facet {j} by label", fontsize=10)
            _draw_facet(of_labels, prior, z, y[shown], of_clusters, is_alive, names)
    return figure_of(panels[0])


def embedding(
    fitted: FittedMFCVAE,
    x: object,
    facet: int,
    *,
    labels: object = None,
    method: Method = "pca",
    max_points: int = MAX_POINTS,
    seed: int = 0,
    ax: Axes | None = None,
) -> Figure:
    r"""Draw the means of q(z_j | x) of one facet by cluster and, beside it, by label.

    Of a latent of more than two dimensions, ``"pca"`` shows the first two principal components, in
    which distances are at most those in the latent space. ``"tsne"`` keeps neighbours together, and
    distances between groups mean little; 5,000 data take it half a minute. A latent of one dimension is a
    histogram.

    Args:
        fitted: the model.
        x: data (N, *x_shape).
        facet: index of the facet, 0 .. J-1.
        labels: classes (N,), of any kind that `FittedMFCVAE.evaluate` takes.
        method: ``"pca"`` or ``"tsne"``.
        max_points: number of data that are drawn; of more, a random sample.
        seed: seed of the sample, and of t-SNE.
        ax: axes to draw in, without labels; None makes a figure of its own.

    Returns:
        The figure.

    Raises:
        ValueError: if the data do not suit the model, there is no such facet or method, labels have another
            length, or come with ``ax``.
        TypeError: if labels are no classes.

    References:
        van der Maaten, Hinton (2008), Visualizing data using t-SNE.
    """
    facet = facet_of(fitted, facet)
    if ax is not None and labels is not None:
        raise ValueError(
            "ax: got one and labels, expected no labels, which need a second panel; leave one out"
        )
    data = data_of(fitted, x)
    z, c = fitted.transform(data)[facet], fitted.predict(data)[:, facet]
    return draw_embedding(fitted, z, c, facet, labels, method=method, max_points=max_points, seed=seed, ax=ax)


def draw_embedding(
    fitted: FittedMFCVAE,
    z: Array,
    c: Array,
    facet: int,
    labels: object = None,
    *,
    method: Method = "pca",
    max_points: int = MAX_POINTS,
    seed: int = 0,
    ax: Axes | None = None,
) -> Figure:
    """Draw the figure of :func:`embedding`, given means z (N, D) of q(z | x) and clusters c (N,)."""
    if method not in get_args(Method):
        raise ValueError(f"method: got {method!r}, expected one of {get_args(Method)}; choose one")
    check_positive("max_points", max_points)
    names, y = _classes(labels, z)
    shown = at_random(len(z), max_points, seed)
    heading = f"Facet {facet}: {len(np.unique(c))} of {fitted.clusters[facet]} clusters"
    colourings = [("by cluster", c, [str(k) for k in range(fitted.clusters[facet])])]
    if y is not None:
        colourings.append(("by label", y, names))
    if ax is None:
        below = f"{len(shown):,} of {len(z):,} data: means of q(z | x)"
        axes = lay_out(heading, below, len(colourings), len(colourings), names)
    else:
        ax.set_title(heading, fontsize=10)
        axes = [ax]
    places, axis_labels = _flat(z[shown], method, seed)
    for panel, (title, index, numbers) in zip(axes, colourings, strict=True):
        if ax is None:
            panel.set_title(title, fontsize=10)
        draw_points(panel, places, index[shown], axis_labels, numbers)
    return figure_of(axes[0])


def _classes(labels: object, x: Array) -> tuple[list[str], Array | None]:
    """Return the names of the classes and the class (N,) of every datum, if there are labels."""
    if labels is None:
        return [], None
    y = labels_of(labels, x)
    return list(y.classes[0]), y.columns[0].codes


def _flat(z: Array, method: Method, seed: int) -> tuple[Array, tuple[str, str]]:
    """Compute one or two coordinates (n, 1 or 2) of latents (n, D), and label their axes."""
    if z.shape[1] == 1:
        return z, ("latent", "density")
    if z.shape[1] == 2:
        return z, ("latent, dimension 0", "latent, dimension 1")
    if method == "pca":
        projection = principal(z)
        return z @ projection.directions, projection.labels
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # for the same sums in the same order
        tsne = TSNE(perplexity=min(30.0, max(1.0, (len(z) - 1) / 3)), init="pca", random_state=seed)
        return tsne.fit_transform(z), ("t-SNE, dimension 0", "t-SNE, dimension 1")


def _draw_facet(
    ax: Axes,
    prior: FacetPrior,
    z: Array,
    index: Array,
    clusters: Array,
    is_alive: Array,
    names: Sequence[str] = (),
) -> None:
    """Draw latents z (n, D) coloured by an index, over components of clusters (K,) alive or not, (K,).

    Given names, the index is of classes, and the components are grey.
    """
    components = Components.of(prior)
    if z.shape[1] == 1:
        low, high = _limits(z, components, is_alive)
        span = (low.item(), high.item())
        draw_points(ax, z, index, ("latent", "density"), span=span)
        ax.set_xlim(span)
        _draw_densities(ax, prior, clusters, is_alive, is_grey=bool(names))
        return
    projection = separating(components, z)
    places, flat = z @ projection.directions, components.projected(projection.directions)
    low, high = _limits(places, flat, is_alive)
    if z.shape[1] > 2:  # one unit for both axes
        half = (high - low).max() / 2
        low, high = (low + high) / 2 - half, (low + high) / 2 + half
        ax.set_aspect("equal", adjustable="box")
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    draw_points(ax, places, index, projection.labels, names)
    _draw_ellipses(ax, flat, clusters, is_alive, is_grey=bool(names))
    if not names:
        order = np.argsort(-components.weights, kind="stable")
        order = order[(components.has_moments & is_alive)[order]]
        write_numbers(ax, flat.means[order], [str(c) for c in clusters[order]])


def _limits(places: Array, components: Components, is_alive: Array) -> tuple[Array, Array]:
    """Find corners for nearly all points, and for one standard deviation of components with data."""
    shown = components.has_moments & is_alive
    means, covariances = components.means[shown], components.covariances[shown]
    reach = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
    low, high = np.percentile(places, (0.2, 99.8), axis=0)
    low, high = np.vstack([low, means - reach]).min(0), np.vstack([high, means + reach]).max(0)
    room = np.maximum(0.05 * (high - low), 1e-6)
    return low - room, high + room


def _draw_ellipses(
    ax: Axes, components: Components, clusters: Array, is_alive: Array, *, is_grey: bool
) -> None:
    """Draw one and two standard deviations of components in two dimensions."""
    from matplotlib.collections import EllipseCollection

    for kind, style in ((is_alive, "-"), (~is_alive, "--")):
        shown = np.flatnonzero(components.has_moments & kind)
        if not len(shown):
            continue
        variances, axes = np.linalg.eigh(components.covariances[shown])  # (k, 2), (k, 2, 2)
        lengths = 2 * np.sqrt(np.maximum(variances, 0.0))
        widths = components.weights[shown] / components.weights.max()
        is_plain = is_grey or kind is not is_alive
        for deviations in (1, 2):
            ax.add_collection(
                EllipseCollection(
                    deviations * lengths[:, 1],
                    deviations * lengths[:, 0],
                    np.degrees(np.arctan2(axes[:, 1, 1], axes[:, 0, 1])),
                    units="xy",
                    offsets=components.means[shown],
                    offset_transform=ax.transData,
                    facecolors="none",
                    edgecolors=GREY if is_plain else [look(int(c))[0] for c in clusters[shown]],
                    linewidths=(0.3 + 1.7 * widths) / deviations * (0.5 if is_plain else 1.0),
                    linestyles=style,
                    alpha=1.0 if deviations == 1 else 0.6,
                    zorder=3,
                ),
                autolim=False,
            )


@torch.no_grad()
def _draw_densities(ax: Axes, prior: FacetPrior, clusters: Array, is_alive: Array, *, is_grey: bool) -> None:
    """Draw the density of every component of a latent of one dimension, times its weight."""
    weights = prior.weights().probs
    component = prior.component(torch.arange(prior.clusters, device=weights.device))
    grid = np.linspace(*ax.get_xlim(), GRID)
    z = torch.as_tensor(grid, dtype=weights.dtype, device=weights.device)
    densities = on_host(weights * component.log_prob(z[:, None, None]).exp())  # (GRID, K)
    pi = on_host(weights)
    for k in range(prior.clusters):
        color = look(int(clusters[k]))[0] if is_alive[k] and not is_grey else GREY
        style = "-" if is_alive[k] else "--"
        ax.plot(grid, densities[:, k], color=color, linestyle=style, linewidth=0.3 + 1.7 * pi[k] / pi.max())
    ax.plot(grid, densities.sum(1), color=COLORS[-1], linewidth=0.8, linestyle=":", label="all components")
    ax.set_xlim(grid[0], grid[-1])
    ax.set_ylim(0, None)
    if not is_grey:
        order = np.argsort(-pi, kind="stable")
        order = order[is_alive[order]]
        peaks = densities.argmax(0)[order]
        write_numbers(
            ax, np.stack([grid[peaks], densities[peaks, order]], -1), [str(c) for c in clusters[order]]
        )
