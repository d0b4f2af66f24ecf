"""Models with a prior, likelihood or network of one's own, in files."""

import dataclasses
import re

import numpy as np
import pyro.distributions as dist
import pytest
import torch

import pyro_mfcvae as mf
from pyro_mfcvae import Facet, FittedRuns, MFCVAEConfig, Schedule, presets
from pyro_mfcvae.likelihoods import Gaussian, Mixed
from pyro_mfcvae.networks import FullyConnectedShared

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
SHORT = Schedule.progressive(2, epochs=1)

pytestmark = pytest.mark.filterwarnings(
    "ignore::pyro_mfcvae.training.UnmixingWarning", "ignore::pyro_mfcvae.training.DeadClustersWarning"
)


@dataclasses.dataclass(frozen=True)
class Laplaces:
    """Components of independent Laplace distributions, with learned places."""

    scale: float = 1.0

    def __call__(self, clusters, latent_dim):
        return LaplaceMixture(clusters, latent_dim, self.scale)


class LaplaceMixture(mf.priors.FacetPrior):
    def __init__(self, clusters, latent_dim, scale):
        super().__init__(clusters, latent_dim)
        self.loc, self.scale = torch.nn.Parameter(torch.randn(clusters, latent_dim)), scale

    def weights(self):
        return dist.Categorical(logits=self.loc.new_zeros(self.clusters))

    def component(self, c):
        return dist.Laplace(self.loc[c], self.scale).to_event(1)


def likelihood(x_shape):
    return Gaussian(sigma=0.5, standardize=True)(x_shape)


def network(shape, latent_dims):
    return FullyConnectedShared(widths=(8,))(shape, latent_dims)


FACETS = (Facet(3, 2), Facet(2, 2, Laplaces(0.5)))
CONFIGS = {
    "prior": MFCVAEConfig(FACETS, likelihood="gaussian", schedule=SHORT),
    "likelihood": MFCVAEConfig((Facet(3, 2), Facet(2, 2)), likelihood=likelihood, schedule=SHORT),
    "network": MFCVAEConfig(FACETS, likelihood="gaussian", network=network, schedule=SHORT),
    "column": presets.tabular(
        clusters=(3, 2), likelihood=Mixed({lambda shape: Gaussian()(shape): [0]}), schedule=SHORT
    ),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_they_come_back_with_their_configuration(tmp_path, config):
    path = tmp_path / "model"
    fitted = mf.fit(X, config, progress=False)
    fitted.save(path)
    again = mf.load(path, config=config)
    np.testing.assert_array_equal(again.predict_proba(X)[1], fitted.predict_proba(X)[1])
    np.testing.assert_array_equal(again.reconstruct(X), fitted.reconstruct(X))
    assert again.config == fitted.config
    with pytest.raises(ValueError, match=r"^config: got None for .*, which no file can hold, expected"):
        mf.load(path)


def test_what_was_unmixed_has_the_dimensions_of_the_file(tmp_path):
    schedule = Schedule.unmixed(2, steps=(5, 5))
    config = presets.tabular(facets=(Facet(3, 3, Laplaces()), Facet(2, 3, Laplaces())), schedule=schedule)
    fitted = mf.fit(X, config, progress=False)
    fitted.save(tmp_path / "model")
    again = mf.load(tmp_path / "model", config=config)
    assert again.config.latent_dims == fitted.config.latent_dims
    np.testing.assert_array_equal(again.transform(X)[0], fitted.transform(X)[0])


def test_another_configuration_does_not_fit(tmp_path):
    mf.fit(X, CONFIGS["prior"], progress=False).save(tmp_path / "model")
    other = dataclasses.replace(CONFIGS["prior"], facets=(Facet(3, 2), Facet(2, 2, "full_gaussian")))
    with pytest.raises(ValueError, match=r"its tensor .* expected"):
        mf.load(tmp_path / "model", config=other)


def test_a_file_that_has_all_needs_none(tmp_path):
    config = MFCVAEConfig((Facet(3, 2), Facet(2, 2)), likelihood="gaussian", schedule=SHORT)
    mf.fit(X, config, progress=False).save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"^config: got one for .*, which has its own, expected None"):
        mf.load(tmp_path / "model", config=config)


def test_several_runs(tmp_path):
    runs = mf.fit(X, CONFIGS["prior"], seeds=(0, 1), workers=1, progress=False)
    runs.save(tmp_path / "runs")
    again = FittedRuns.load(tmp_path / "runs", config=CONFIGS["prior"])
    np.testing.assert_array_equal(again[1].predict(X), runs[1].predict(X))


@pytest.mark.parametrize("of", ["facet", "schedule", "config", "fitted"])
def test_tables_in_notebooks(of):
    config = dataclasses.replace(CONFIGS["prior"], nuisance=2)
    shown = {
        "facet": config.facets[1],
        "schedule": config.schedule,
        "config": config,
        "fitted": mf.fit(X, config, progress=False),
    }[of]
    html = shown._repr_html_()
    assert html.count("<table>") == html.count("</table>") >= 1
    if of != "schedule":
        assert "Laplaces(scale=0.5)" in html
    if of in ("config", "fitted"):
        assert "nuisance: 2" in html
        assert "facet 1" in html  # of the schedule
    if of == "fitted":
        assert "x_shape=(4,)" in html


def test_what_is_shown_is_escaped():
    class Hostile:
        def __call__(self, clusters, latent_dim):
            return LaplaceMixture(clusters, latent_dim, 1.0)

        def __repr__(self):
            return "<script>alert(1)</script>"

    html = Facet(2, 2, Hostile())._repr_html_()
    assert not re.search("<script>", html)
    assert "&lt;script&gt;" in html
