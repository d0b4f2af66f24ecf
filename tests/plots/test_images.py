"""Pictures of a model made by hand look as they did when a person last looked at them.

They are compared with ``tests/plots/baselines/*.png``, after a blur that takes away what differs between
versions of FreeType and matplotlib. When a change is meant, look at the new pictures:

    PYRO_MFCVAE_BASELINES=write python -m pytest tests/plots/test_images.py
"""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hand_made import hand_made
from PIL import Image
from scipy.ndimage import gaussian_filter

from pyro_mfcvae import plots
from pyro_mfcvae.plots import cells, grids, scores, style

BASELINES = Path(__file__).parent / "baselines"
DPI = 50
BLUR = 6  # pixels, about the height of a letter
# Root of the mean squared difference of the channels, where it is largest; full brightness is 1. Text of
# matplotlib 3.8 and FreeType 2.6 makes up to 0.08 of that of 3.11, and what is tried below more than 0.18.
TOLERANCE = 0.12

FIGURES = {
    "cluster_examples": lambda f, x, y: plots.cluster_examples(f, x, 0, num_examples=4),
    "cluster_sizes": lambda f, x, y: plots.cluster_sizes(f, x, 0),
    "compositions": lambda f, x, y: plots.compositions(f, x[:3], x[[0, 5, 10, 20]]),
    "confusion_matrix": lambda f, x, y: plots.confusion_matrix(f, x, y[:, 0] % 4, 0, name="kind"),
    "embedding": lambda f, x, y: plots.embedding(f, x, 0, labels=y[:, 1]),
    "latent_space": lambda f, x, y: plots.latent_space(f, x),
    "reconstructions": lambda f, x, y: plots.reconstructions(f, x, num=6),
    "training_curves": lambda f, x, y: plots.training_curves(f),
}


@pytest.fixture(scope="module")
def model():
    return hand_made()


def render(figure):
    """A figure as an image."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return Image.open(buffer).convert("RGB")


def difference(a, b):
    """How much two pictures differ where they differ most, after a blur."""
    a, b = (np.asarray(image, dtype=float) / 255 for image in (a, b))
    assert a.shape == b.shape
    return np.sqrt(np.square(gaussian_filter(a - b, (BLUR, BLUR, 0))).mean(-1)).max()


def baseline(name):
    return Image.open(BASELINES / f"{name}.png").convert("RGB")


@pytest.mark.parametrize("name", FIGURES)
def test_pictures_look_as_they_did(model, name):
    picture = render(FIGURES[name](*model))
    if os.environ.get("PYRO_MFCVAE_BASELINES") == "write":
        BASELINES.mkdir(exist_ok=True)
        picture.quantize(64, dither=Image.Dither.NONE).save(BASELINES / f"{name}.png", optimize=True)
    assert difference(picture, baseline(name)) < TOLERANCE


def swap_colors(monkeypatch):
    monkeypatch.setattr(style, "COLORS", (style.COLORS[1], style.COLORS[0], *style.COLORS[2:]))


def swap_rows(monkeypatch):
    def by_size(r):
        order, sizes = original(r)
        return np.r_[order[1], order[0], order[2:]], sizes

    original = grids.by_size
    monkeypatch.setattr(grids, "by_size", by_size)


def shift_a_row(monkeypatch):
    def offsets(self, n, axis, lead=0):
        return original(self, n, axis, lead) + (2 * (np.arange(n) == 1) if axis == 0 and n > 2 else 0)

    original = cells.Cells.offsets
    monkeypatch.setattr(cells.Cells, "offsets", offsets)


def reverse_rows(monkeypatch):
    def matched(counts):
        order, *others = original(counts)
        return order[::-1], *others

    original = scores.matched
    monkeypatch.setattr(scores, "matched", matched)


@pytest.mark.parametrize(
    ("name", "disturb"),
    [
        ("embedding", swap_colors),
        ("latent_space", swap_colors),
        ("cluster_examples", swap_rows),
        ("cluster_examples", shift_a_row),
        ("compositions", shift_a_row),
        ("confusion_matrix", reverse_rows),
    ],
)
def test_what_is_wrong_is_seen(model, name, disturb, monkeypatch):
    disturb(monkeypatch)
    assert difference(render(FIGURES[name](*model)), baseline(name)) > 1.4 * TOLERANCE
