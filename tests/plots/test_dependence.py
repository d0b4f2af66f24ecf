"""The picture of components, with a frame around each facet; and curves of facets that were found."""

import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

from pyro_mfcvae import Facet, Schedule, fit, plots, presets
from pyro_mfcvae.training import History, Unmixing, UnmixingWarning


@pytest.fixture(scope="module")
def fitted(blobs):
    schedule = Schedule.unmixed(1, steps=(4, 4), batch_size=150, unmix="auto")
    config = presets.tabular(facets=(Facet(2, 5, "full_gaussian"),), schedule=schedule, nuisance=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnmixingWarning)
        return fit(blobs[0], config, progress=False)


def as_if_found(fitted, dims, nuisance):
    D = sum(dims) + nuisance
    components = np.eye(D) + 0.1 * (1 - np.eye(D))
    between = np.eye(len(dims) + bool(nuisance))
    found = Unmixing(np.eye(D), np.zeros(D), dims, (2,) * len(dims), components, between)
    other = object.__new__(type(fitted))
    other.__dict__.update(fitted.__dict__)
    other.history = History(fitted.history, fitted.history.environment, found)
    return other


@pytest.mark.parametrize(("dims", "nuisance"), [((2, 1), 2), ((3,), 0), ((1, 1, 1), 1)])
def test_facets_have_frames(fitted, dims, nuisance, nothing_global):
    figure = plots.dependence(as_if_found(fitted, dims, nuisance))
    assert isinstance(figure, Figure)
    ax = figure.axes[0]
    frames = [(patch.get_xy(), patch.get_width(), patch.get_height()) for patch in ax.patches]
    sizes = [*dims, *([nuisance] if nuisance else [])]
    edges = np.cumsum([0, *sizes[:-1]]) - 0.5
    assert frames == [((e, e), size, size) for e, size in zip(edges, sizes, strict=True)]
    names = [f"facet {j}" for j in range(len(dims))] + ["nuisance"] * bool(nuisance)
    assert [label.get_text() for label in ax.get_xticklabels()] == names
    shown = ax.images[0].get_array()
    assert shown.shape == (sum(sizes),) * 2
    assert np.isnan(np.diag(np.ma.filled(shown, np.nan))).all()


def test_in_given_axes(fitted):
    figure = Figure()
    ax = figure.subplots()
    assert plots.dependence(fitted, ax=ax) is figure
    assert ax.images


def test_a_single_component(fitted, nothing_global):
    assert plots.dependence(as_if_found(fitted, (1,), 0)).axes[0].patches[0].get_width() == 1


def test_of_a_model_that_was_not_unmixed(fitted):
    other = as_if_found(fitted, (1,), 0)
    other.history = History(fitted.history)
    with pytest.raises(ValueError, match=r"whose latents were not unmixed.*use Schedule.unmixed"):
        plots.dependence(other)


def test_curves_of_more_facets_than_there_were():
    """The first stage has trained one latent, and its records are of no facet that was found."""
    rng = np.random.default_rng(0)
    x = np.repeat([[0.0, 0], [0, 1], [1, 0], [1, 1]], 50, 0) * 4 + 0.1 * rng.normal(size=(200, 2))
    schedule = Schedule.unmixed(1, steps=(100, 2), learning_rate=0.02, unmix="auto")
    config = presets.tabular(facets=(Facet(6, 3, "full_gaussian"),), schedule=schedule, nuisance=0)
    fitted = fit(x, config, progress=False)
    assert fitted.num_facets == 2
    panels = plots.training_curves(fitted).axes
    stages = [record.stage for record in fitted.history]
    since = stages.index(1) + 1
    lines = [line for line in panels[1].lines if line.get_label().startswith("facet")]
    assert [list(line.get_xdata()) for line in lines] == [list(range(since, len(stages) + 1))] * 2
    weights = {line.get_label(): len(line.get_xdata()) for line in panels[2].lines}
    assert weights[r"facet 0: KL weight $\beta$"] == len(stages)
    assert weights[r"facet 1: KL weight $\beta$"] == weights[r"facet 1: fade-in $\alpha$"] == stages.count(1)
