"""Pictures of what a fitted model found.

Every function returns a :class:`matplotlib.figure.Figure` that belongs to nobody else: pyplot does not
know it and no setting changes. A notebook shows it; ``figure.savefig("file.png")`` writes it.
"""

from __future__ import annotations

import functools
import io
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pyro_mfcvae.data.inputs import as_tensor
from pyro_mfcvae.fitted import FittedMFCVAE
from pyro_mfcvae.likelihoods import GaussianLikelihood

if TYPE_CHECKING:  # matplotlib is slow to import, and only needed when a plot is made
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "cluster_examples",
    "cluster_samples",
    "compositions",
    "reconstructions",
    "save_all",
    "training_curves",
]

Array = npt.NDArray[Any]

# Okabe and Ito's colours without the yellow, which is too light for a line: told apart by the colour-blind.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")
GREY, PALE = "#666666", "#F0F0F0"

# In inches.
CELL = 0.5  # height of one image
MARGIN = 0.12
CHARACTER = 0.066  # of a label of 8 points; generous, so that no label is cut
HEADING = 0.55
MIN_WIDTH = 6.0
DPI = 150  # of the files that save_all writes

ROWS_PER_COLUMN = 20
MAX_PIXELS = 96  # side of an image; larger ones are thinned out
MAX_BARS = 24  # longer vectors are drawn as lines
MAX_COMPOSED = 40
COMPOSED = 8  # rows and columns that save_all composes


def cluster_examples(
    fitted: FittedMFCVAE, x: Any, facet: int, *, num_examples: int = 8, max_clusters: int = 60
) -> Figure:
    r"""The data that each cluster of a facet is surest of.

    One row for each cluster that is alive, labelled with its index and its number of data, the largest
    first; clusters without data are only counted. From left to right the examples are ever less certain
    by q(c_j | x); equally certain ones come in a fixed random order.

    Args:
        fitted: the model.
        x: data (N, *x_shape); not necessarily those it was trained on.
        facet: index of the facet, 0 .. J-1.
        num_examples: examples of a cluster, at most.
        max_clusters: clusters shown, at most.

    Returns:
        The figure.

    Raises:
        ValueError: if the data do not suit the model, there is no such facet, or a number is below one.
    """
    facet = _facet(fitted, facet, "facet")
    _positive("num_examples", num_examples)
    _positive("max_clusters", max_clusters)
    images = _images(fitted, x)
    return _examples(fitted, images, facet, fitted.predict_proba(images)[facet], num_examples, max_clusters)


def cluster_samples(
    fitted: FittedMFCVAE,
    facet: int,
    *,
    num_samples: int = 8,
    temperature: float = 0.7,
    seed: int = 0,
    clusters: Sequence[int] | None = None,
) -> Figure:
    r"""Data that the model generates for each cluster of a facet.

    One row for each cluster, labelled with its index and its mixture weight in percent. Within a column
    the draws of everything else are shared, so that rows differ by this facet's cluster only.

    Args:
        fitted: the model.
        facet: index of the facet, 0 .. J-1.
        num_samples: samples of a cluster.
        temperature: factor of the deviations of z from the mean of its component; 0 is the mean.
        seed: of the draws.
        clusters: which clusters, from top to bottom; None takes the 60 of largest weight, in this order.

    Returns:
        The figure.

    Raises:
        ValueError: for a facet or cluster that does not exist, or a number outside its range.
    """
    facet = _facet(fitted, facet, "facet")
    _positive("num_samples", num_samples)
    weights = _host(fitted.model.facet_priors[facet].weights().probs)
    if clusters is None:
        clusters = np.argsort(-weights, kind="stable")[:60].tolist()
    elif len(clusters) == 0:
        raise ValueError("clusters: got none, expected at least one; None shows all")
    rows = [
        fitted.sample(num_samples, {facet: k}, temperature=temperature, seed=seed)
        for k in map(operator.index, clusters)
    ]
    labels = [f"{k} ({100 * weights[k]:.1f} %)" for k in clusters]
    heading = f"Facet {facet}: {len(rows)} of {fitted.clusters[facet]} clusters, generated"
    below = "Rows: cluster (mixture weight). Columns share the draws of all else."
    return _rows_figure(_Cells.of(fitted, *rows), rows, labels, heading, below)


def compositions(
    fitted: FittedMFCVAE, x_rows: Any, x_columns: Any, *, row_facet: int = 0, column_facet: int = 1
) -> Figure:
    r"""One facet from each of some inputs, combined with another facet of each of other inputs.

    The first column shows the inputs that give ``row_facet``, the first row those that give
    ``column_facet``, and the cells between what :meth:`FittedMFCVAE.compose` makes of the two. Facets
    that are neither come from the input on the left.

    Args:
        fitted: the model, of at least two facets.
        x_rows: data (R, *x_shape), at most 40.
        x_columns: data (C, *x_shape), at most 40.
        row_facet: index of the facet that the data on the left give.
        column_facet: index of the facet that the data on top give.

    Returns:
        The figure.

    Raises:
        ValueError: if the model has one facet only, the two facets are the same or do not exist, or the
            data are too many or do not suit the model.
    """
    if fitted.num_facets < 2:
        raise ValueError("fitted: it has 1 facet, expected at least 2 to combine")
    row_facet = _facet(fitted, row_facet, "row_facet")
    column_facet = _facet(fitted, column_facet, "column_facet")
    if row_facet == column_facet:
        raise ValueError(f"column_facet: got {column_facet}, which is row_facet too; expected another")
    left, top = _images(fitted, x_rows, "x_rows"), _images(fitted, x_columns, "x_columns")
    for name, given in (("x_rows", left), ("x_columns", top)):
        if len(given) > MAX_COMPOSED:
            raise ValueError(
                f"{name}: got {len(given)} data, expected at most {MAX_COMPOSED}; choose some, as in x[:8]"
            )
    R, C = len(left), len(top)
    sources = [np.repeat(left, C, 0)] * fitted.num_facets
    sources[column_facet] = np.concatenate([top] * R)
    composed = fitted.compose(sources)
    grid = np.full((R + 1, C + 1, *fitted.model.x_shape), np.nan, np.float32)
    grid[1:, 0], grid[0, 1:] = left, top
    grid[1:, 1:] = composed.reshape(R, C, *fitted.model.x_shape)

    cells = _Cells.of(fitted, left, top, composed)
    lead = 4 * cells.gap  # sets the inputs apart
    height, width = (cells.extent(n, axis, lead) for n, axis in ((R + 1, 0), (C + 1, 1)))
    rest = "" if fitted.num_facets == 2 else " and all others"
    below = f"Facet {row_facet}{rest} of the input on the left, facet {column_facet} of the input above."
    figure = _figure(width + 0.4 + 2 * MARGIN, max(height, 1.2) + HEADING + 0.25 + MARGIN)
    _heading(figure, "Compositions", below)
    axes = _axes(figure, MARGIN + 0.35, HEADING + 0.22, width, height)
    cells.draw(axes, grid, lead)
    axes.set_title(f"inputs for facet {column_facet}", fontsize=8, pad=4, color=GREY)
    axes.set_ylabel(f"inputs for facet {row_facet}", fontsize=8, color=GREY)
    return figure


def reconstructions(fitted: FittedMFCVAE, x: Any, *, num: int = 16) -> Figure:
    r"""Data above what the model makes of them: E[x | z] at the means of q(z | x).

    Args:
        fitted: the model.
        x: data (N, *x_shape).
        num: how many of them, spread evenly over x; sixteen to a line.

    Returns:
        The figure.

    Raises:
        ValueError: if the data do not suit the model, or ``num`` is below one.
    """
    _positive("num", num)
    images = _images(fitted, x)
    chosen = images[np.linspace(0, len(images) - 1, min(num, len(images))).round().astype(int)]
    outputs = fitted.reconstruct(chosen)
    rows, labels = [], []
    for start in range(0, len(chosen), 16):
        for label, data in (("input", chosen), ("output", outputs)):
            rows.append(data[start : start + 16])
            labels.append(label)
    below = f"{len(chosen)} of {len(images):,} data, spread evenly"
    return _rows_figure(_Cells.of(fitted, chosen, outputs), rows, labels, "Reconstructions", below)


def training_curves(fitted: FittedMFCVAE) -> Figure:
    """How ELBO, log-likelihood, facet terms and clusters alive went, epoch by epoch.

    The figures are those of :class:`EpochRecord`: in nats per datum, without KL weights, on a sample of the
    training data. Stages are shaded; a dotted line is where a stage's mixtures were fitted after its
    warm-up. A facet is drawn from the stage that introduces it. Very low values of the first epochs may
    lie outside the picture.

    Args:
        fitted: the model.

    Returns:
        The figure.

    Raises:
        ValueError: if the model has no history.
    """
    history = fitted.history
    if not history:
        raise ValueError("fitted: its history is empty, expected at least one epoch")
    J = fitted.num_facets
    stages = [record.stage for record in history]
    epochs = np.arange(1, len(history) + 1)
    introduced = {j: s for s, stage in enumerate(fitted.model.config.stages) for j in stage.introduces}
    figure = _figure(8.0, 7.5, layout="constrained")
    top, middle, bottom = figure.subplots(3, sharex=True)

    fit = [record.elbo for record in history]
    likelihood = [record.log_likelihood for record in history]
    top.plot(epochs, likelihood, color=COLORS[4], linestyle="--", label="log-likelihood")
    top.plot(epochs, fit, color=COLORS[0], label="ELBO")
    _clip_below(top, fit, likelihood)
    top.set_ylabel("nats per datum")
    terms = []
    for j in range(J):
        style = {
            "color": COLORS[j % len(COLORS)],
            "linestyle": DASHES[j % len(DASHES)],
            "marker": "." if len(history) < 3 else "",
        }
        since = [i for i, stage in enumerate(stages) if stage >= introduced[j]]
        terms.append([history[i].facet_terms[j] for i in since])
        middle.plot(epochs[since], terms[-1], label=f"facet {j}", **style)
        alive = [history[i].alive[j] for i in since]
        bottom.plot(epochs[since], alive, label=f"facet {j} (of {fitted.clusters[j]})", **style)
    _clip_below(middle, *terms)
    middle.set_ylabel("facet terms, nats")
    bottom.set_ylabel("clusters alive")
    bottom.set_ylim(0, 1.06 * max(fitted.clusters))
    bottom.locator_params(axis="both", integer=True)
    seconds = f"{history[-1].seconds:,.0f} s"
    bottom.set_xlabel(f"epoch ({seconds} for all {len(history)})")
    for axes in (top, middle, bottom):
        _shade_stages(axes, fitted, stages, has_label=axes is not top)
        axes.margins(x=0)
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    for s in sorted(set(stages)):
        facets = ", ".join(map(str, fitted.model.config.stages[s].introduces))
        middle_of = (stages.index(s) + len(stages) - stages[::-1].index(s)) / 2 + 0.5
        top.text(
            middle_of,
            1.02,
            f"stage {s + 1}\nfacet {facets}",
            transform=top.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=8,
            color=GREY,
        )
    return figure


def save_all(fitted: FittedMFCVAE, x: Any, out_dir: str | Path) -> list[Path]:
    r"""Write every picture as a PNG file; files of the same names are replaced.

    They are ``examples_facet_{j}.png`` and ``samples_facet_{j}.png`` for every facet, rows in the same
    order, ``compositions.png`` if there are two facets or more, ``reconstructions.png`` and
    ``training.png``. The inputs of the compositions are the surest data of clusters that are large and
    far from each other.

    Args:
        fitted: the model.
        x: data (N, *x_shape).
        out_dir: folder, made if it is not there.

    Returns:
        The files written.

    Raises:
        ValueError: if the data do not suit the model.
        OSError: if the files cannot be written.
    """
    images = _images(fitted, x)
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    posteriors = fitted.predict_proba(images)
    figures: dict[str, Figure] = {}
    for j, r in enumerate(posteriors):
        clusters, sizes = _by_size(r)
        order = clusters[: min(60, int((sizes > 0).sum()))].tolist()
        figures[f"examples_facet_{j}"] = _examples(fitted, images, j, r, 8, 60)
        figures[f"samples_facet_{j}"] = cluster_samples(fitted, j, clusters=order)
    if fitted.num_facets > 1:
        latents = fitted.transform(images)
        left, top = (images[_distinct(posteriors[j], latents[j], COMPOSED)] for j in (0, 1))
        figures["compositions"] = compositions(fitted, left, top)
    figures["reconstructions"] = reconstructions(fitted, images)
    if fitted.history:
        figures["training"] = training_curves(fitted)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=DPI)
    return paths


# Choosing what to show


def _by_size(r: Array) -> tuple[Array, Array]:
    """Clusters by their number of data, largest first, and that number of each, both (K,)."""
    sizes = np.bincount(r.argmax(-1), minlength=r.shape[1])
    return np.argsort(-sizes, kind="stable"), sizes


def _surest(r: Array, k: int, num: int) -> Array:
    """Indices of the data of cluster k, surest first; r is (N, K)."""
    members = np.flatnonzero(r.argmax(-1) == k)
    # Many posteriors are exactly one, and data often come sorted: do not just show the first of them.
    members = np.random.default_rng(0).permutation(members)
    chosen: Array = members[np.argsort(-r[members, k], kind="stable")][:num]
    return chosen


def _distinct(r: Array, z: Array, num: int) -> Array:
    """Indices of the surest data of clusters that are large and far apart, largest cluster first."""
    order, sizes = _by_size(r)
    candidates = np.array([_surest(r, k, 1)[0] for k in order[: 2 * num] if sizes[k]])
    chosen = [0]
    distance = np.full(len(candidates), np.inf)
    while len(chosen) < min(num, len(candidates)):
        latest = z[candidates[chosen[-1]]]
        distance = np.minimum(distance, np.square(z[candidates] - latest).sum(-1))
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
    indices: Array = candidates[chosen]
    return indices


def _examples(
    fitted: FittedMFCVAE, images: Array, facet: int, r: Array, num_examples: int, max_clusters: int
) -> Figure:
    order, sizes = _by_size(r)
    alive = int((sizes > 0).sum())
    order = order[: min(alive, max_clusters)]
    rows = [images[_surest(r, k, num_examples)] for k in order]
    labels = [f"{k} ({sizes[k]:,})" for k in order]
    heading = f"Facet {facet}: {alive} of {r.shape[1]} clusters alive"
    if alive > len(order):
        heading += f", the {len(order)} largest shown"
    below = f"Rows: cluster (how many of {len(images):,} data). Surest examples first."
    return _rows_figure(_Cells.of(fitted, images), rows, labels, heading, below)


# Drawing


@dataclass(frozen=True)
class _Cells:
    """How data of one shape are drawn in a grid of cells.

    Attributes:
        x_shape: shape of a datum.
        low: value at the bottom of a profile, or of black; a number or (*x_shape).
        high: value at the top of a profile, or of full brightness.
        zero: value that bars start from.
    """

    x_shape: tuple[int, ...]
    low: Array
    high: Array
    zero: Array

    @classmethod
    def of(cls, fitted: FittedMFCVAE, *data: Array) -> _Cells:
        """Cells for these data, each (N, *x_shape): on one scale for all, unless columns have their own."""
        x_shape, likelihood = fitted.model.x_shape, fitted.model.likelihood
        is_standardized = isinstance(likelihood, GaussianLikelihood) and likelihood.standardize
        if is_standardized and not _is_image(x_shape):
            loc, scale = _host(cast(Tensor, likelihood.loc)), _host(cast(Tensor, likelihood.scale))
            return cls(x_shape, loc - 2.5 * scale, loc + 2.5 * scale, loc)
        values = np.concatenate([d.ravel() for d in data])
        low, high = np.nanpercentile(values, (0.5, 99.5))
        if low >= -0.2 and high <= 1.2 and (_is_image(x_shape) or low >= 0):
            low, high = 0.0, 1.0
        if high <= low:
            high = low + 1.0
        return cls(x_shape, np.asarray(low), np.asarray(high), np.clip(0.0, low, high))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a cell, in pixels."""
        if not _is_image(self.x_shape):
            return 24, 48
        height, width = (-(-side // self._thinning) for side in self.x_shape[-2:])
        return height, width

    @property
    def gap(self) -> int:
        """Pixels between cells."""
        return max(1, round(0.07 * max(self.size)))

    @property
    def _thinning(self) -> int:
        return -(-max(self.x_shape[-2:]) // MAX_PIXELS)

    def offsets(self, n: int, axis: int, lead: int = 0) -> Array:
        """First pixel of each of n cells along an axis, with ``lead`` pixels more after the first."""
        return np.arange(n) * (self.size[axis] + self.gap) + lead * (np.arange(n) > 0)

    def extent(self, n: int, axis: int, lead: int = 0) -> float:
        """Inches that n cells take along an axis."""
        height, width = self.size
        inches = CELL * min(1.0, 2.0 * height / width) * (1.0 if _is_image(self.x_shape) else 0.7)
        return float(self.offsets(n, axis, lead)[-1] + self.size[axis]) * inches / height

    def draw(self, axes: Axes, grid: Array, lead: int = 0) -> None:
        """Draw data (R, C, *x_shape); cells of NaN stay empty. Pixel (0, 0) is centred at the origin."""
        R, C = grid.shape[:2]
        y, x = self.offsets(R, 0, lead), self.offsets(C, 1, lead)
        height, width = y[-1] + self.size[0], x[-1] + self.size[1]
        scaled = np.clip((grid - self.low) / (self.high - self.low), 0.0, 1.0)
        if _is_image(self.x_shape):
            axes.imshow(self._montage(scaled, y, x, height, width), aspect="auto")
        else:
            self._profiles(axes, scaled.reshape(R, C, -1), y, x)
        axes.set_xlim(-0.5, width - 0.5)
        axes.set_ylim(height - 0.5, -0.5)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)

    def _montage(self, scaled: Array, y: Array, x: Array, height: int, width: int) -> Array:
        """One image (height, width, 3) in [0, 1]."""
        R, C = scaled.shape[:2]
        pixels = scaled[..., :: self._thinning, :: self._thinning]
        pixels = pixels.reshape(R, C, -1, *self.size)  # (R, C, 1 or 3, H, W)
        pixels = np.where(np.isnan(pixels), 1.0, pixels).transpose(0, 1, 3, 4, 2)
        montage = np.ones((height, width, 3), np.float32)
        H, W = self.size
        for i, top in enumerate(y):
            for k, left in enumerate(x):
                montage[top : top + H, left : left + W] = pixels[i, k]
        return montage

    def _profiles(self, axes: Axes, scaled: Array, y: Array, x: Array) -> None:
        """Bars from zero for short vectors (R, C, D), else lines."""
        from matplotlib.collections import LineCollection, PolyCollection

        (H, W), D = self.size, scaled.shape[-1]
        rows, columns = np.nonzero(~np.isnan(scaled).any(-1))
        values = scaled[rows, columns]  # (n, D)
        left, bottom = x[columns][:, None] - 0.5, y[rows][:, None] + H - 0.5
        zero = np.broadcast_to((self.zero - self.low) / (self.high - self.low), self.x_shape).ravel()
        heights, base = bottom - H * values, bottom - H * zero  # (n, D)
        corners = np.array([[0, 0], [0, H], [W, H], [W, 0]])
        frames = np.stack([left, bottom - H], -1) + corners  # (n, 4, 2)
        axes.add_collection(PolyCollection(list(frames), facecolors=PALE, edgecolors="none"))
        if D <= MAX_BARS:
            start = left + W * (np.arange(D) + 0.1) / D
            end = left + W * (np.arange(D) + 0.9) / D
            corner = [(start, base), (start, heights), (end, heights), (end, base)]
            bars = np.stack([np.stack(np.broadcast_arrays(*xy), -1) for xy in corner], -2)  # (n, D, 4, 2)
            bars = bars.reshape(-1, 4, 2)
            axes.add_collection(PolyCollection(list(bars), facecolors=COLORS[0], edgecolors="none"))
        else:
            along = np.broadcast_to(left + W * (np.arange(D) + 0.5) / D, heights.shape)
            lines = list(np.stack([along, heights], -1))
            axes.add_collection(LineCollection(lines, colors=COLORS[0], linewidths=0.6))


def _rows_figure(
    cells: _Cells, rows: Sequence[Array], labels: Sequence[str], heading: str, below: str
) -> Figure:
    """Labelled rows of data, in as many columns of rows as keep the figure's height in bounds."""
    num_columns = -(-len(rows) // ROWS_PER_COLUMN)
    R = -(-len(rows) // num_columns)
    C = max(1, *(len(row) for row in rows))
    label_width = CHARACTER * max(map(len, labels)) + 0.08
    width, height = cells.extent(C, 1), cells.extent(R, 0)
    step = MARGIN + label_width + width
    figure = _figure(num_columns * step + 2 * MARGIN, height + HEADING + MARGIN)
    _heading(figure, heading, below)
    for column in range(num_columns):
        part = slice(column * R, (column + 1) * R)
        grid = np.full((R, C, *cells.x_shape), np.nan, np.float32)
        for i, row in enumerate(rows[part]):
            grid[i, : len(row)] = row
        axes = _axes(figure, MARGIN + column * step + label_width, HEADING, width, height)
        cells.draw(axes, grid)
        centres = cells.offsets(len(rows[part]), 0) + (cells.size[0] - 1) / 2
        axes.set_yticks(centres, labels[part], fontsize=8)
        axes.tick_params(axis="y", length=0, pad=3)
    return figure


def _figure(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """An empty figure of a size in inches that a notebook shows even where pyplot is not imported."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(width, MIN_WIDTH), height), layout=layout, facecolor="white")
    figure._repr_png_ = functools.partial(_png, figure)  # type: ignore[attr-defined]
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()


def _heading(figure: Figure, heading: str, below: str) -> None:
    width, height = figure.get_size_inches()
    figure.text(MARGIN / width, 1 - 0.08 / height, heading, fontsize=11, va="top")
    figure.text(MARGIN / width, 1 - 0.29 / height, below, fontsize=8, va="top", color=GREY)


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the figure's upper left corner."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))


def _clip_below(axes: Axes, *curves: Sequence[float]) -> None:
    """Leave the depths of the first epochs out, where they would flatten all that follows."""
    values = np.concatenate([np.asarray(curve) for curve in curves if len(curve)])
    typical = np.percentile(values, 10)
    high = values.max()
    low = max(values.min(), typical - 1.0 * (high - typical))
    room = 0.05 * (high - low) or 1.0
    axes.set_ylim(low - room, high + room)


def _shade_stages(axes: Axes, fitted: FittedMFCVAE, stages: Sequence[int], has_label: bool) -> None:
    for s in sorted(set(stages)):
        first, last = stages.index(s) + 1, len(stages) - stages[::-1].index(s)
        axes.axvspan(first - 0.5, last + 0.5, color=("#F3F3F3", "#E4E8EE")[s % 2], linewidth=0, zorder=0)
        warm_up = _warm_up_epochs(fitted, s)
        if warm_up:
            label = None if has_label else "mixtures fitted"
            has_label = True
            place = first + warm_up - 0.5
            axes.axvline(place, color=GREY, linestyle=":", linewidth=1, zorder=1, label=label)


def _warm_up_epochs(fitted: FittedMFCVAE, s: int) -> int:
    """How many of stage s."""
    stage = fitted.model.config.stages[s]
    if stage.warm_up_steps is None:
        return stage.warm_up_epochs
    start = max((record.steps for record in fitted.history if record.stage < s), default=0)
    steps = [record.steps - start for record in fitted.history if record.stage == s]
    return sum(n <= stage.warm_up_steps for n in steps)


# Arguments


def _images(fitted: FittedMFCVAE, x: Any, name: str = "x") -> Array:
    """Data (N, *x_shape), a missing channel of size one added."""
    allow_missing = fitted.model.likelihood.allows_missing
    tensor, shape = as_tensor(x, name=name, allow_missing=allow_missing), fitted.model.x_shape
    if tensor.ndim == len(shape) and shape[0] == 1 and tensor.shape[1:] == shape[1:]:
        tensor = tensor.unsqueeze(1)
    if tensor.shape[1:] != shape:
        raise ValueError(
            f"{name}: got data of shape {tuple(tensor.shape)}, expected (N, {', '.join(map(str, shape))}); "
            "for a single datum add a dimension, as in x[None]"
        )
    return tensor.numpy()


def _facet(fitted: FittedMFCVAE, facet: int, name: str) -> int:
    J = fitted.num_facets
    if operator.index(facet) not in range(J):
        raise ValueError(f"{name}: got {facet}, expected one of the {J} facets, 0 .. {J - 1}")
    return operator.index(facet)


def _positive(name: str, value: int) -> None:
    if operator.index(value) < 1:
        raise ValueError(f"{name}: got {value}, expected an integer of at least 1")


def _is_image(x_shape: Sequence[int]) -> bool:
    return len(x_shape) == 2 or (len(x_shape) == 3 and x_shape[0] in (1, 3))


def _host(tensor: Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return array
