"""Joined clusters: which are joined, and that all that is said of them is a sum over their components."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from torch import nn

import pyro_mfcvae as mf
from pyro_mfcvae.priors import FacetPrior
from pyro_mfcvae.priors.joining import by_misclassification, by_modularity
from pyro_mfcvae.priors.neighbours import neighbour_graph
from pyro_mfcvae.results.levels import Level
from tests.hand_made import CENTRES, SCALE, WEIGHTS, hand_made


class Spheres(FacetPrior):
    """Gaussians of standard deviation 0.5 around given centres (K, D), with given weights."""

    def __init__(self, centres, weights):
        super().__init__(*centres.shape)
        self.register_buffer("probs", torch.tensor(weights, dtype=torch.float32))
        self.loc = nn.Parameter(torch.tensor(centres, dtype=torch.float32))

    def weights(self):
        return dist.Categorical(self.probs)

    def component(self, c):
        return dist.Normal(self.loc[c], 0.5).to_event(1)


class Encoder(nn.Module):
    def forward(self, x):
        return [(x, torch.full_like(x, 0.1))]


class Decoder(nn.Module):
    def forward(self, z, fade_in):
        return z[0]


def model_of(centres, weights=None):
    """A model whose latent is the datum."""
    K, D = centres.shape
    weights = np.full(K, 1 / K) if weights is None else weights
    config = mf.MFCVAEConfig(
        facets=(mf.Facet(K, D, lambda K, D: Spheres(centres, weights)),),
        likelihood="gaussian",
        network=lambda shape, latent_dims: (Encoder(), Decoder()),
        schedule=mf.Schedule.progressive(1, epochs=1),
        data_init=False,
    )
    return mf.FittedMFCVAE(mf.MFCVAE(config, (D,)), [])


@pytest.fixture(scope="module")
def over_clustered():
    """Four round groups of 100 data, three components in each, which are 0 4 8, 1 5 9, and so on."""
    rng = np.random.default_rng(0)
    middles = 6 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    directions = np.array([[0.6, 0, 0], [-0.3, 0.5, 0], [-0.3, -0.5, 0]])
    centres = (directions[:, None] + middles).reshape(12, 3)
    labels = np.arange(400) % 4
    x = middles[labels] + rng.normal(scale=0.7, size=(400, 3))
    return model_of(centres), x.astype(np.float32), labels


@pytest.fixture(scope="module")
def several(make_model):
    """A model of two facets that JSON can write, and what its first facet's components are joined to."""
    fitted = mf.FittedMFCVAE(make_model(K=(7, 4), D=2, likelihood="gaussian", seed=4), [], seed=5)
    x = np.random.default_rng(0).normal(scale=3, size=(200, 6)).astype(np.float32)
    return fitted, fitted.merge(0, x, 2), x


@pytest.mark.parametrize("method", ["modularity", "demp"])
def test_groups_that_are_cut_into_components_are_found(over_clustered, method):
    fitted, x, labels = over_clustered
    merged = fitted.merge(0, x, method=method)
    assert merged.clusters == (4,)
    np.testing.assert_array_equal(merged.levels[0].clusters, np.arange(12) % 4)  # by first components
    np.testing.assert_array_equal(merged.predict(x)[:, 0], labels)
    assert merged.levels[0].method == method
    assert len(merged.levels[0].order) == 11


def test_one_number_of_clusters_is_asked_for(over_clustered):
    fitted, x, _ = over_clustered
    found = fitted.merge(0, x).levels[0]
    for number in range(1, 13):
        level = fitted.merge(0, x, number).levels[0]
        assert level.num_clusters == number
        assert level.values == found.values  # the whole curve
    assert not level.is_joined


def test_a_merged_model_is_merged_further(over_clustered):
    fitted, x, _ = over_clustered
    for method in ("modularity", "demp"):
        at_once = fitted.merge(0, x, 2, method=method)
        in_turn = fitted.merge(0, x, 6, method=method).merge(0, x, 2, method=method)
        np.testing.assert_array_equal(at_once.levels[0].clusters, in_turn.levels[0].clusters)
        assert in_turn.levels[0].order == at_once.levels[0].order[-5:]
        np.testing.assert_allclose(in_turn.levels[0].values, at_once.levels[0].values[-6:], atol=1e-6)


def brute_force_modularity(A, r):
    degrees = A.sum(0)
    return np.sum((A - np.outer(degrees, degrees) / A.sum()) * (r @ r.T)) / A.sum()


@given(st.integers(0, 10_000), st.integers(2, 25), st.integers(1, 6), st.booleans())
@settings(max_examples=40)
def test_every_join_has_the_highest_modularity(seed, N, M, hard):
    rng = np.random.default_rng(seed)
    z, r = rng.normal(size=(N, 2)), rng.dirichlet(np.full(M, 0.3), size=N)
    if hard:
        r = np.eye(M)[r.argmax(1)]
    A = neighbour_graph(z).toarray()
    distances = np.linalg.norm(z[:, None] - z, axis=-1)
    ranks = distances.argsort(1).argsort(1)
    is_neighbour = (ranks > 0) & (ranks <= 15)
    np.testing.assert_array_equal(A, (is_neighbour.astype(float) + is_neighbour.T) / 2)
    joins = by_modularity(z, r)
    groups = r
    for step in range(M):
        np.testing.assert_allclose(joins.values[step], brute_force_modularity(A, groups), atol=1e-12)
        if step == M - 1:
            break
        m = M - step
        candidates = []
        for i in range(m):
            for j in range(i + 1, m):
                joined = np.delete(groups, j, 1)
                joined[:, i] += groups[:, j]
                candidates.append(brute_force_modularity(A, joined))
        assert joins.values[step + 1] == pytest.approx(max(candidates), abs=1e-12)
        labels = joins.partition(m - 1)
        groups = np.stack([r[:, labels == k].sum(1) for k in range(m - 1)], 1)


def test_misclassification_is_that_of_draws_from_the_components():
    """The highest of a pair's two probabilities, of a mixture with different weights."""
    rng = np.random.default_rng(0)
    centres, weights = np.array([[0.0, 0.0], [1.2, 0.0], [0.0, 2.5]]), np.array([0.5, 0.2, 0.3])

    def posteriors(z):
        joint = np.stack(
            [w * multivariate_normal(m, 0.25).pdf(z) for w, m in zip(weights, centres, strict=True)], -1
        )
        return joint / joint.sum(-1, keepdims=True)

    taken = np.zeros((3, 3))
    for k, centre in enumerate(centres):
        classes = posteriors(centre + 0.5 * rng.normal(size=(100_000, 2))).argmax(-1)
        taken[k] = np.bincount(classes, minlength=3) / 100_000
    data = centres[rng.choice(3, 100_000, p=weights)] + 0.5 * rng.normal(size=(100_000, 2))
    joins = by_misclassification(posteriors(data))
    highest = np.maximum(taken, taken.T)
    np.testing.assert_allclose(joins.values[0], highest[0, 1], atol=0.005)
    assert joins.order[0] == (0, 1)
    # Of two of them joined, posteriors add up, and so does what their draws are taken for.
    other = posteriors(data)[:, 2]
    of_pair = (1 - other)[other > 0.5].sum() / (1 - other).sum()
    of_other = other[other < 0.5].sum() / other.sum()
    np.testing.assert_allclose(joins.values[1:], [max(of_pair, of_other), 0], atol=1e-9)


def test_the_threshold_says_where_demp_stops(over_clustered):
    fitted, x, _ = over_clustered
    values = np.array(fitted.merge(0, x, method="demp").levels[0].values)
    for threshold in (0.1, 0.2, 0.9):
        number = fitted.merge(0, x, method="demp", threshold=threshold).clusters[0]
        assert values[12 - number] < threshold
        assert (values[: 12 - number] >= threshold).all()


def test_components_without_data_follow_those_that_take_their_draws():
    """The last one of facet 0 has none."""
    fitted, x, _ = hand_made()
    rng = np.random.default_rng(1)
    draws = CENTRES[0][5] + SCALE * rng.normal(size=(1000, 3))
    joint = np.stack(
        [
            np.log(w) - ((draws - m) ** 2).sum(-1) / (2 * SCALE**2)
            for w, m in zip(WEIGHTS[0][:5], CENTRES[0], strict=False)
        ],
        -1,
    )
    host = np.bincount(joint.argmax(-1)).argmax()
    level = fitted.merge(0, x, 5).levels[0]
    np.testing.assert_array_equal(level.clusters, [0, 1, 2, 3, 4, host])
    with pytest.raises(ValueError, match="clusters: got 6, expected at most the 5 that have data here"):
        fitted.merge(0, x, 6)


def test_an_empty_component_may_be_the_first_of_its_cluster():
    """The order names clusters by their first components, and clusters are sorted by them."""
    centres = np.array([[9.0, 9.0], [8.0, 0.0], [0.0, 0.0], [8.0, 8.0]])
    rng = np.random.default_rng(0)
    x = centres[rng.integers(1, 4, 90)] + 0.1 * rng.normal(size=(90, 2))
    level = model_of(centres).merge(0, x.astype(np.float32)).levels[0]
    np.testing.assert_array_equal(level.clusters, [0, 1, 2, 0])
    assert set(level.order) <= {(0, 1), (0, 2), (1, 2)}


def test_what_is_said_of_clusters_is_the_sum_over_components(several):
    fitted, merged, x = several
    components = merged.levels[0].clusters
    assert sorted(set(components)) == [0, 1]
    before, after = fitted.predict_proba(x), merged.predict_proba(x)
    sums = np.stack([before[0][:, components == c].sum(1) for c in range(2)], 1)
    np.testing.assert_allclose(after[0], sums, atol=1e-6)
    np.testing.assert_array_equal(after[1], before[1])
    np.testing.assert_array_equal(merged.predict(x), np.stack([r.argmax(1) for r in after], 1))
    np.testing.assert_allclose(
        merged.weights[0], [fitted.weights[0][components == c].sum() for c in range(2)], rtol=1e-6
    )
    np.testing.assert_array_equal(
        fitted.weights[0], fitted.model.facet_priors[0].weights().probs.detach().numpy()
    )
    assert merged.evaluate(x, np.zeros(200, int)).clusters == (2, 4)
    assert repr(merged) == (
        "FittedMFCVAE(2 facets: 7 clusters, joined to 2, in 2 dimensions, 4 clusters in 2 dimensions; "
        "x_shape=(6,))"
    )


def test_the_model_and_what_was_given_stay_as_they_are(several):
    fitted, merged, x = several
    assert fitted.clusters == (7, 4)
    assert merged.clusters == (2, 4)
    assert merged.model is fitted.model
    assert merged.score(x) == fitted.score(x)
    np.testing.assert_array_equal(merged.log_likelihood(x, 5), fitted.log_likelihood(x, 5))
    np.testing.assert_array_equal(merged.sample(5), fitted.sample(5))
    np.testing.assert_array_equal(merged.sample(5, {1: 2}), fitted.sample(5, {1: 2}))


def test_draws_from_a_cluster_are_from_its_components_by_their_weights():
    centres = np.array([[0.0], [1.0], [5.0], [2.0]])
    fitted = model_of(centres, [0.1, 0.3, 0.4, 0.2])
    fitted.levels = (Level(np.array([0, 0, 1, 0])),)
    draws = fitted.sample(20_000, {0: 0}, temperature=0)
    found = [(draws == centre).mean() for centre in (0.0, 1.0, 2.0, 5.0)]
    np.testing.assert_allclose(found, [1 / 6, 3 / 6, 2 / 6, 0], atol=0.015)
    assert (fitted.sample(20, {0: 1}, temperature=0) == 5).all()
    np.testing.assert_array_equal(draws, fitted.sample(20_000, {0: 0}, temperature=0))
    with pytest.raises(ValueError, match=r"clusters: got \{0: 2\}, expected a facet of 0 \.\. 0"):
        fitted.sample(1, {0: 2})


def test_the_same_seed_draws_the_same_data(over_clustered, tmp_path):
    fitted, x, _ = over_clustered
    one, again, other = (fitted.merge(0, x, num_data=50, seed=seed).levels[0] for seed in (1, 1, 2))
    assert (one.order, one.values) == (again.order, again.values)
    assert one.values != other.values
    np.save(tmp_path / "x.npy", x)
    assert fitted.merge(0, tmp_path / "x.npy", num_data=50, seed=1).levels[0].values == one.values


def test_a_file_keeps_what_was_joined(several, tmp_path):
    fitted, merged, x = several
    merged.merge(1, x, 2).save(tmp_path / "merged")
    loaded = mf.load(tmp_path / "merged")
    assert loaded.clusters == (2, 2)
    assert loaded.seed == 5
    for j in range(2):
        np.testing.assert_array_equal(loaded.predict_proba(x)[j], merged.merge(1, x, 2).predict_proba(x)[j])
    np.testing.assert_array_equal(loaded.levels[0].clusters, merged.levels[0].clusters)
    assert loaded.levels[0].order == merged.levels[0].order
    assert loaded.levels[0].values == merged.levels[0].values
    fitted.save(tmp_path / "plain")
    assert mf.load(tmp_path / "plain").clusters == (7, 4)


def test_arviz_has_the_joined_clusters(several):
    _, merged, x = several
    data = merged.to_inference_data(x[:9], num_draws=2, predictive=False)
    r = data["posterior"]["responsibilities_0"].values
    np.testing.assert_allclose(r[0, 1], merged.predict_proba(x[:9])[0], atol=1e-6)


def test_a_report_and_pictures_show_the_joined_clusters(tmp_path):
    fitted, x, labels = hand_made()
    merged = fitted.merge(0, x, 3)
    page = merged.report(tmp_path / "report.html", x, labels).read_text(encoding="utf-8")
    assert "6, joined to 3" in page
    assert "3 of 3" in page  # clusters in use
    axes = mf.plots.latent_space(merged, x).axes
    assert axes[0].get_title() == "Facet 0: 3 of 3 clusters"
    written = [text.get_text() for text in axes[0].texts]
    assert sorted(written) == sorted(str(c) for c in merged.levels[0].clusters)  # at every component
    heights = [bar.get_height() for bar in mf.plots.cluster_sizes(merged, x, 0).axes[0].patches]
    assert len(heights) >= 3
    assert len(mf.plots.cluster_samples(merged, 0, num_samples=2).texts) > 0
    curves = mf.plots.training_curves(merged)
    legends = [text.get_text() for ax in curves.axes if ax.get_legend() for text in ax.get_legend().texts]
    assert "facet 0 (of 6)" in legends  # training counts components


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"facet": 2}, "facet: got 2, expected an integer from 0 to 1"),
        ({"clusters": 0}, "clusters: got 0, expected an integer from 1 to 7"),
        ({"clusters": 8}, "clusters: got 8, expected an integer from 1 to 7"),
        ({"method": "entropy"}, "method: got 'entropy', expected one of \\('modularity', 'demp'\\)"),
        (
            {"threshold": 0.1},
            "threshold: got 0.1 with method='modularity'.*give it only with method=\"demp\"",
        ),
        (
            {"threshold": 0.1, "method": "demp", "clusters": 2},
            "threshold: got 0.1 .* clusters=2, expected None",
        ),
        ({"threshold": 0.0, "method": "demp"}, "threshold: got 0.0, expected a number in \\(0, 1\\]"),
        ({"num_data": 1}, "num_data: got 1, expected an integer of at least 2"),
        ({"x": np.zeros((1, 6))}, "x: got 1 datum, expected at least 2"),
        ({"x": np.zeros((5, 7))}, "x: .*7"),
    ],
)
def test_errors_say_what_to_do(several, arguments, message):
    fitted, _, x = several
    with pytest.raises(ValueError, match=message):
        fitted.merge(**{"facet": 0, "x": x} | arguments)


def test_a_level_prints_its_clusters_and_the_curve(over_clustered):
    fitted, x, _ = over_clustered
    lines = str(fitted.merge(0, x).levels[0]).splitlines()
    assert lines[0] == "12 components joined to 4 clusters by modularity"
    assert [line.split("  ")[-1] for line in lines[3:7]] == ["0, 4, 8", "1, 5, 9", "2, 6, 10", "3, 7, 11"]
    assert len(lines) == 7 + 2 + 12
    assert next(line for line in lines if line.endswith("<- these")).split()[:2] == ["4", "0.7500"]
    assert str(fitted.levels[0]) == "12 clusters, which are the components"


def test_a_level_has_every_cluster():
    for clusters in ([0, 2], [], [[0]], [1, 1]):
        with pytest.raises(ValueError, match=r"clusters: got .* expected all of 0"):
            Level(np.array(clusters))
    with pytest.raises(ValueError, match="values: got 1 for 1 joins"):
        Level(np.array([0, 0]), "demp", ((0, 1),), (0.5,))
    with pytest.raises(ValueError, match="read-only"):
        Level.whole(3).clusters[0] = 1
