import copy
import dataclasses
import pickle
import sys

import numpy as np
import pandas as pd
import pytest

import pyro_mfcvae as mf
from pyro_mfcvae import Facet, Schedule, presets
from pyro_mfcvae.training.history import History

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)

pytestmark = pytest.mark.filterwarnings(
    "ignore::pyro_mfcvae.training.UnmixingWarning", "ignore::pyro_mfcvae.training.DeadClustersWarning"
)


@pytest.fixture(scope="module")
def history():
    schedule = dataclasses.replace(Schedule.unmixed(2, steps=(4, 3)), held_out=0.2)
    config = presets.tabular(facets=(Facet(3, 2), Facet(2, 2)), schedule=schedule)
    return mf.fit(X, config, progress=False).history


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda h: pickle.loads(pickle.dumps(h))])
def test_a_copy_knows_what_it_was_trained_in(history, again):
    twin = again(history)
    assert type(twin) is History
    assert twin == history
    assert twin.environment == history.environment
    assert str(twin.unmixing) == str(history.unmixing)


def test_a_table(history):
    table = history.to_pandas()
    assert len(table) == len(history)
    assert table["loss"].tolist() == [record.loss for record in history]
    assert table["held_out_elbo"].tolist() == [record.held_out_elbo for record in history]
    assert table["alive_1"].tolist() == [record.alive[1] for record in history]
    assert table["facet_term_0"].tolist() == [record.facet_terms[0] for record in history]
    assert {"kl_weight_0", "fade_in_1", "stage", "steps", "nuisance_term"} <= set(table.columns)
    assert table.dtypes.map(pd.api.types.is_numeric_dtype).all()


def test_without_pandas_the_error_says_what_to_install(history, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"^pandas is not installed, expected any version; run pip install"):
        history.to_pandas()


def test_a_picture(history):
    figure = history.plot()
    (ax,) = figure.axes
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(drawn["ELBO"], [record.elbo for record in history])
    assert len(ax.patches) == 2  # a shade for each stage
    from matplotlib.figure import Figure

    own = Figure().subplots()
    assert history.plot(own) is own.figure
    with pytest.raises(ValueError, match=r"^history: got no epochs, expected at least one"):
        History().plot()


def test_it_is_a_table_in_a_notebook(history):
    html = history._repr_html_()
    assert html.count("<tr>") == 3  # titles, and the last epoch of each stage
    assert f"{history[-1].elbo:.2f}" in html
    assert "7 epochs" in html
    assert str(history.environment) in html
    assert History()._repr_html_() == "<p>no epochs</p>"
