"""All pictures, as files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyro_mfcvae._utils.files import replacing
from pyro_mfcvae.metrics import score_table
from pyro_mfcvae.metrics.inputs import same_length
from pyro_mfcvae.metrics.labels import Labels, Names
from pyro_mfcvae.plots.arguments import data_of
from pyro_mfcvae.plots.choosing import by_size, distinct
from pyro_mfcvae.plots.dependence import dependence
from pyro_mfcvae.plots.grids import cluster_samples, compositions, draw_examples, reconstructions
from pyro_mfcvae.plots.latent import draw_embedding, draw_latent_space
from pyro_mfcvae.plots.scores import draw_confusion, draw_sizes
from pyro_mfcvae.plots.style import Array
from pyro_mfcvae.plots.training import training_curves
from pyro_mfcvae.results.fitted import FittedMFCVAE

if TYPE_CHECKING:  # matplotlib is slow to import, and only needed when a plot is made
    from matplotlib.figure import Figure

DPI = 150
COMPOSED = 8  # rows and columns
MAX_CLUSTERS = 60  # rows of examples and samples


def save_all(
    fitted: FittedMFCVAE,
    x: object,
    out_dir: str | Path,
    labels: object = None,
    names: Names = None,
) -> list[Path]:
    r"""Write every picture as a PNG file; files of the same names are replaced.

    For every facet they are ``examples_facet_{j}.png`` and ``samples_facet_{j}.png``, rows in the same
    order, ``embedding_facet_{j}.png``, ``cluster_sizes_facet_{j}.png`` and, if there are labels,
    ``confusion_facet_{j}.png``, or ``confusion_facet_{j}_{name}.png`` for each of several kinds. For all of
    them together, ``latent_space.png``, ``compositions.png`` if there are two facets or more,
    ``reconstructions.png`` and, if the model has a history, ``training.png``.

    The inputs of the compositions are the most confident data of clusters that are large and far from each
    other.
    Of several kinds of label an embedding shows the one that agrees best with the facet, by NMI, and the
    latent space none.

    Args:
        fitted: the model.
        x: data (N, *x_shape).
        out_dir: folder of the files, made if it is not there.
        labels: classes, (N,) or (N, F) for F kinds of label, of which the model has seen none; of any kind
            that `FittedMFCVAE.evaluate` takes.
        names: names of the F kinds of label, and of their classes, as `FittedMFCVAE.evaluate` takes them.

    Returns:
        The files written.

    Raises:
        ValueError: if the data do not suit the model, or the labels or names the data.
        TypeError: if labels are no classes.
        OSError: if the files cannot be written.
    """
    data = data_of(fitted, x)
    posteriors = fitted.predict_proba(data)
    y = None
    if labels is not None:
        y = Labels.of(labels, names)
        same_length(data, y, "x")
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in _figures(fitted, data, posteriors, y):
        paths.append(folder / f"{name}.png")
        _write(figure, paths[-1])
    return paths


def _file_part(f: int, kinds: Sequence[Labels]) -> str:
    """Return the part of a file's name for a kind of label; nothing if it is the only one."""
    if len(kinds) == 1:
        return ""
    name = kinds[f].names[0]
    return f"_{name}" if re.fullmatch(r"[\w-]+", name) else f"_label_{f}"


def _figures(
    fitted: FittedMFCVAE, data: Array, posteriors: Sequence[Array], labels: Labels | None
) -> Iterator[tuple[str, Figure]]:
    """Draw names and pictures one after another: all of them at once would take much memory."""
    latents = fitted.transform(data)
    clusters = np.stack([r.argmax(-1) for r in posteriors], 1)
    kinds = [] if labels is None else [labels.kind(f) for f in range(len(labels.names))]
    nmi = None if labels is None else score_table(clusters, labels, "nmi")  # (J, F)
    for j, r in enumerate(posteriors):
        c = clusters[:, j]
        order, sizes = by_size(r)
        order = order[: min(MAX_CLUSTERS, int((sizes > 0).sum()))]
        y = None if nmi is None else kinds[nmi[j].argmax()]
        yield f"examples_facet_{j}", draw_examples(fitted, data, j, r, max_clusters=MAX_CLUSTERS)
        yield f"samples_facet_{j}", cluster_samples(fitted, j, clusters=order.tolist())
        yield f"embedding_facet_{j}", draw_embedding(fitted, latents[j], c, j, y)
        yield f"cluster_sizes_facet_{j}", draw_sizes(fitted, c, j)
        for f, kind in enumerate(kinds):
            yield f"confusion_facet_{j}{_file_part(f, kinds)}", draw_confusion(fitted, c, kind, j)
    only = kinds[0] if len(kinds) == 1 else None
    yield "latent_space", draw_latent_space(fitted, latents, clusters, range(fitted.num_facets), only)
    if fitted.num_facets > 1:
        left, top = (data[distinct(posteriors[j], latents[j], COMPOSED)] for j in (0, 1))
        yield "compositions", compositions(fitted, left, top)
    yield "reconstructions", reconstructions(fitted, data)
    if fitted.history:
        yield "training", training_curves(fitted)
    if fitted.history.unmixing is not None:
        yield "dependence", dependence(fitted)


def _write(figure: Figure, path: Path) -> None:
    """Write a file, or nothing: never half of one."""
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=DPI)
