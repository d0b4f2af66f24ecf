"""Pictures of latents and of scores: what the axes hold, of a model whose every number is known."""

import re

import matplotlib
import matplotlib.figure
import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from hand_made import CENTRES, WEIGHTS, hand_made
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.collections import EllipseCollection, PathCollection

from pyro_mfcvae import FittedMFCVAE, plots
from pyro_mfcvae.plots.choosing import matched
from pyro_mfcvae.plots.projection import Components, principal, separating
from pyro_mfcvae.plots.style import look
from pyro_mfcvae.priors import FacetPrior

pytestmark = pytest.mark.usefixtures("nothing_global")


@pytest.fixture(scope="module")
def model():
    return hand_made()


def points(ax):
    """Places (n, 2) of all points."""
    scatters = [c for c in ax.collections if isinstance(c, PathCollection)]
    return [np.asarray(scatter.get_offsets()) for scatter in scatters]


def ellipses(ax):
    return [c for c in ax.collections if isinstance(c, EllipseCollection)]


def numbers(ax):
    return {text.get_text(): np.array(text.get_position()) for text in ax.texts}


def test_each_facet_has_a_panel(model):
    fitted, x, _ = model
    figure = plots.latent_space(fitted, x)
    assert [ax.get_title() for ax in figure.axes] == ["Facet 0: 5 of 6 clusters", "Facet 1: 3 of 3 clusters"]
    assert len(plots.latent_space(fitted, x, facets=1).axes) == 1
    assert len(plots.latent_space(fitted, x, facets=[1, 0], labels=np.arange(300) % 2).axes) == 4


def test_two_dimensions_are_drawn_as_they_are(model):
    fitted, x, y = model
    ax = plots.latent_space(fitted, x, facets=1).axes[0]
    z = fitted.transform(x)[1]
    for k, group in enumerate(points(ax)):
        np.testing.assert_allclose(group, z[y[:, 1] == k], atol=1e-6)
    for k, place in numbers(ax).items():
        np.testing.assert_allclose(place, CENTRES[1][int(k)], atol=1e-6)


def test_ellipses_are_standard_deviations(model):
    """On the ellipse, the Mahalanobis distance is 1 or 2."""
    fitted, x, _ = model
    ax = plots.latent_space(fitted, x, facets=1).axes[0]
    precision = np.linalg.inv(fitted.model.facet_priors[1].covariance.numpy())
    for deviations, ellipse in zip((1, 2), ellipses(ax), strict=True):
        np.testing.assert_allclose(ellipse.get_offsets(), CENTRES[1], atol=1e-6)
        for width, height, angle in zip(
            ellipse.get_widths(), ellipse.get_heights(), np.radians(ellipse.get_angles()), strict=True
        ):
            t = np.linspace(0, 2 * np.pi, 9)
            on_axes = np.stack([width / 2 * np.cos(t), height / 2 * np.sin(t)])
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            d = turn @ on_axes
            np.testing.assert_allclose(np.einsum("in,ij,jn->n", d, precision, d), deviations**2, rtol=1e-4)
        widths = ellipse.get_linewidths()
        assert (np.argsort(widths) == np.argsort(WEIGHTS[1])).all()


def test_components_without_data_are_dashed_and_not_numbered(model):
    fitted, x, _ = model
    ax = plots.latent_space(fitted, x, facets=0).axes[0]
    assert [len(ellipse.get_offsets()) for ellipse in ellipses(ax)] == [5, 5, 1, 1]
    assert set(numbers(ax)) == {"0", "1", "2", "3", "4"}


def test_the_directions_separate_best(model):
    """Scikit-learn's linear discriminant analysis finds the same plane in a large sample of the prior."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    prior = model[0].model.facet_priors[0]
    c = prior.weights().sample(torch.Size([40_000]))
    z = prior.component(c).sample().detach().numpy()
    projection = separating(Components.of(prior), z)
    lda = LinearDiscriminantAnalysis(solver="eigen", n_components=2).fit(z, c.numpy())
    ours, theirs = np.linalg.qr(projection.directions)[0], np.linalg.qr(lda.scalings_[:, :2])[0]
    assert np.linalg.svd(ours.T @ theirs)[1].min() > 0.999
    shares = [int(re.search(r"(\d+) %", label)[1]) for label in projection.labels]
    np.testing.assert_allclose(shares, 100 * lda.explained_variance_ratio_[:2], atol=1.5)
    within = prior.covariance.numpy()
    np.testing.assert_allclose(projection.directions.T @ within @ projection.directions, np.eye(2), atol=1e-4)


def test_principal_components_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    z = np.random.default_rng(0).normal(size=(200, 4)) * [1, 3, 2, 0.5]
    projection, pca = principal(z), PCA(2).fit(z)
    np.testing.assert_allclose(abs(np.diag(pca.components_ @ projection.directions)), 1, rtol=1e-6)
    shares = [int(re.search(r"(\d+) %", label)[1]) for label in projection.labels]
    np.testing.assert_allclose(shares, 100 * pca.explained_variance_ratio_, atol=0.51)


class Heavy(FacetPrior):
    """Student's t: the first component has no variance, the others do."""

    def weights(self):
        return dist.Categorical(torch.ones(3) / 3)

    def component(self, c):
        df, loc = torch.tensor([1.5, 8.0, 8.0]), torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
        return dist.MultivariateStudentT(df[c], loc[c], torch.eye(2))


@pytest.mark.parametrize("prior", ["laplace", "vamp", "low_rank_gaussian", "standard_normal"])
def test_moments_are_those_of_samples(make_model, prior):
    K = 1 if prior == "standard_normal" else 3
    facet_prior = make_model(J=1, K=K, D=2, prior=prior).facet_priors[0]
    components = Components.of(facet_prior)
    with torch.no_grad():
        z = facet_prior.component(torch.arange(K)).sample(torch.Size([40_000])).numpy()
    sd = z.std(0)
    np.testing.assert_allclose(components.means, z.mean(0), atol=0.06 * sd.max())
    for k in range(K):
        np.testing.assert_allclose(components.covariances[k], np.cov(z[:, k].T), atol=0.15 * sd[k].max() ** 2)


def test_tails_are_not_left_to_samples(make_model):
    prior = make_model(J=1, K=3, D=2, prior="student_t").facet_priors[0]
    components = Components.of(prior)
    with torch.no_grad():
        component = prior.component(torch.arange(3))
        df, scale = component.df[:, None], component.scale_tril.diagonal(dim1=1, dim2=2)
        expected = (scale.square() * df / (df - 2)).numpy()
    np.testing.assert_allclose(components.means, prior.loc.detach())
    np.testing.assert_allclose(components.covariances.diagonal(axis1=1, axis2=2), expected, rtol=1e-5)


def test_components_without_a_variance_have_no_ellipse():
    components = Components.of(Heavy(3, 2))
    assert components.has_moments.tolist() == [False, True, True]
    np.testing.assert_allclose(components.covariances[1:], np.stack([8 / 6 * np.eye(2)] * 2), atol=0.15)
    assert not np.isfinite(components.covariances[0]).any()


@pytest.mark.parametrize("prior", ["flow", Heavy])
def test_priors_of_any_kind_are_drawn(make_model, prior):
    fitted = FittedMFCVAE(make_model(J=1, K=3, D=2, prior=prior), [])
    x = np.random.default_rng(0).normal(size=(40, 6))
    ax = plots.latent_space(fitted, x).axes[0]
    assert sum(map(len, points(ax))) == 40
    known = 3 if prior == "flow" else 2
    assert sum(len(ellipse.get_offsets()) for ellipse in ellipses(ax)) == 2 * known


def test_one_dimension_is_a_histogram_under_densities(make_model):
    model = make_model(J=1, K=3, D=1)
    x = np.random.default_rng(0).normal(size=(40, 6))
    ax = plots.latent_space(FittedMFCVAE(model, []), x).axes[0]
    prior = model.facet_priors[0]
    for k, line in enumerate(ax.lines[:3]):
        with torch.no_grad():
            z = torch.tensor(line.get_xdata(), dtype=torch.float32)[:, None]
            expected = prior.weights().probs[k] * prior.component(torch.tensor(k)).log_prob(z).exp()
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(ax.lines[3].get_ydata(), sum(line.get_ydata() for line in ax.lines[:3]))
    assert sum(bar.get_height() * bar.get_width() for bar in ax.patches) == pytest.approx(1)
    assert len(plots.embedding(FittedMFCVAE(model, []), x, 0).axes) == 1


def test_a_sample_of_many_data_is_drawn(model):
    fitted, x, _ = model
    for figure in (
        plots.latent_space(fitted, x, facets=0, max_points=50),
        plots.embedding(fitted, x, 0, max_points=50),
    ):
        assert sum(map(len, points(figure.axes[0]))) == 50
        assert "50 of 300" in figure.texts[1].get_text()
    first, again, other = (
        np.concatenate(points(plots.embedding(fitted, x, 1, max_points=50, seed=seed).axes[0]))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_embedding_stands_beside_its_labels(model):
    fitted, x, y = model
    names = np.array(["flat", "round"])[y[:, 1] % 2]
    by_cluster, by_label = plots.embedding(fitted, x, 1, labels=names).axes
    assert [len(group) for group in points(by_cluster)] == [100, 100, 100]
    assert [len(group) for group in points(by_label)] == [200, 100]
    assert [text.get_text() for text in by_label.get_legend().get_texts()] == ["flat", "round"]
    assert set(numbers(by_cluster)) == {"0", "1", "2"}
    every = {tuple(place) for group in points(by_cluster) for place in group}
    assert all(tuple(place) in every for place in numbers(by_cluster).values())


def test_tsne_keeps_clusters_together(model):
    fitted, x, _ = model
    ax = plots.embedding(fitted, x[:100], 0, method="tsne").axes[0]
    groups = points(ax)
    centres = np.array([group.mean(0) for group in groups])
    for k, group in enumerate(groups):
        nearest = np.square(group[:, None] - centres).sum(-1).argmin(1)
        assert (nearest == k).mean() > 0.9


def test_fifty_clusters_look_different():
    assert len({look(k) for k in range(63)}) == 63
    assert all(look(k)[0] != look(k + 1)[0] for k in range(63))


# Scores


@given(arrays(int, st.tuples(st.integers(1, 9), st.integers(1, 6)), elements=st.integers(0, 20)))
def test_clusters_are_matched_to_classes(counts):
    order, classes, is_match = matched(counts)
    assert sorted(order) == list(range(len(counts)))
    assert len(set(classes[is_match])) == is_match.sum()
    left = ~is_match
    assert (classes[left] == counts.argmax(1)[left]).all()
    assert (np.diff(classes[order]) >= 0).all()
    for l in set(classes):  # noqa: E741
        block = [k for k in order if classes[k] == l]
        assert not is_match[block[1:]].any()
        sizes = counts.sum(1)[[k for k in block if not is_match[k]]]
        assert (np.diff(sizes) <= 0).all()


def test_a_confusion_matrix_holds_shares(model):
    fitted, x, y = model
    labels = np.where(y[:, 0] >= 3, 3, y[:, 0])  # clusters 3 and 4 share a class
    ax = plots.confusion_matrix(fitted, x, labels, 0).axes[0]
    shown = np.asarray(ax.images[0].get_array())
    assert shown.shape == (5, 4)
    np.testing.assert_allclose(shown.sum(1), 1)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["0 (60)", "1 (60)", "2 (60)", "3 (60)", "4 (60)"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "1", "2", "3"]
    assert [text.get_text() for text in ax.texts] == ["100"] * 5
    frames = sorted(patch.get_xy() for patch in ax.patches)
    assert frames == [(-0.5, -0.5), (0.5, 0.5), (1.5, 1.5), (2.5, 2.5)]
    heading, below = (text.get_text() for text in ax.figure.texts)
    assert heading == "Facet 0 against label: 5 of 6 clusters alive"
    for part in ("Purity 1.000", "Hungarian accuracy 0.800", "NMI", "ARI"):
        assert part in below


def test_the_longer_side_is_upright(model):
    fitted, x, _ = model
    labels = np.arange(300) % 15
    ax = plots.confusion_matrix(fitted, x, labels, 1, counts=True, name="kind").axes[0]
    shown = np.asarray(ax.images[0].get_array())
    assert shown.shape == (15, 3)
    np.testing.assert_allclose(shown.sum(0), 1)
    assert "Rows: kind. Columns: cluster (number of data)." in ax.figure.texts[1].get_text()
    assert [text.get_text() for text in ax.texts] == ["20"] * 15


def test_sizes_are_sorted_and_dead_clusters_marked(model):
    fitted, x, y = model
    keep = (y[:, 0] != 3) | (np.arange(300) < 100)
    ax = plots.cluster_sizes(fitted, x[keep], 0).axes[0]
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == sorted(heights, reverse=True)
    assert sum(heights) == pytest.approx(100)
    order = [int(t.get_text()) for t in ax.get_xticklabels()]
    assert order == [0, 2, 4, 1, 3, 5]
    weights, dead = ax.lines
    np.testing.assert_allclose(weights.get_ydata(), 100 * np.array(WEIGHTS[0])[order], rtol=1e-5)
    assert dead.get_xdata().tolist() == [5]


def test_many_clusters_are_drawn(make_model):
    fitted = FittedMFCVAE(make_model(J=1, K=200, D=3), [])
    x = np.random.default_rng(0).normal(size=(50, 6))
    figure = plots.cluster_sizes(fitted, x, 0)
    assert figure.get_size_inches()[0] < 18
    assert len(figure.axes[0].patches) == 200
    assert len(figure.axes[0].get_xticklabels()) == 67
    assert plots.confusion_matrix(fitted, x, np.arange(50), 0).get_size_inches()[1] < 13


# What all have in common


DRAW = {
    "latent_space": lambda f, x, **o: plots.latent_space(f, x, facets=0, **o),
    "embedding": lambda f, x, **o: plots.embedding(f, x, 0, **o),
    "confusion_matrix": lambda f, x, **o: plots.confusion_matrix(f, x, np.arange(300) % 4, 0, **o),
    "cluster_sizes": lambda f, x, **o: plots.cluster_sizes(f, x, 0, **o),
}


@pytest.mark.parametrize("name", DRAW)
def test_pictures_go_where_they_are_asked_to(model, name):
    fitted, x, _ = model
    figure = matplotlib.figure.Figure(layout="constrained")
    left, right = figure.subplots(1, 2)
    assert DRAW[name](fitted, x, ax=right) is figure
    assert figure.axes == [left, right]
    assert not left.has_data()
    assert right.has_data()
    assert right.get_title().startswith("Facet 0")
    figure.canvas.draw()


@pytest.mark.parametrize("name", DRAW)
def test_nothing_is_cut_off(model, name):
    fitted, x, _ = model
    figure = DRAW[name](fitted, x)
    figure.canvas.draw()
    box = figure.get_tightbbox()  # in inches
    width, height = figure.get_size_inches()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f, x: plots.latent_space(f, x, facets=2), ValueError, "facets: got 2, expected one of the 2"),
        (lambda f, x: plots.latent_space(f, x, facets=[]), ValueError, "facets: got none"),
        (lambda f, x: plots.latent_space(f, x, max_points=0), ValueError, "max_points: got 0"),
        (
            lambda f, x: plots.latent_space(f, x, ax=object()),
            ValueError,
            "ax: got one for 2 facets",
        ),
        (
            lambda f, x: plots.latent_space(f, x, facets=0, labels=[0] * 300, ax=object()),
            ValueError,
            "ax: got one for 1 facets and labels, expected a single panel",
        ),
        (
            lambda f, x: plots.latent_space(f, x, labels=[1, 2]),
            ValueError,
            "x: got 300 rows and 2 of labels",
        ),
        (lambda f, x: plots.latent_space(f, x, labels=np.zeros((300, 2), int)), ValueError, "labels[:, 0]"),
        (
            lambda f, x: plots.embedding(f, x, 0, labels=np.full(300, 0.5)),
            TypeError,
            "labels: got 0.5 in row 0, expected integers",
        ),
        (lambda f, x: plots.embedding(f, x, 5), ValueError, "facet: got 5"),
        (
            lambda f, x: plots.embedding(f, x, 0, method="umap"),
            ValueError,
            "method: got 'umap'",
        ),
        (lambda f, x: plots.embedding(f, x, 0, max_points=0), ValueError, "max_points: got 0"),
        (
            lambda f, x: plots.embedding(f, x, 0, labels=[0] * 300, ax=object()),
            ValueError,
            "ax: got one and labels",
        ),
        (lambda f, x: plots.confusion_matrix(f, x, [0], 0), ValueError, "x: got 300 rows and 1 of"),
        (lambda f, x: plots.confusion_matrix(f, x, [0] * 300, 3), ValueError, "facet: got 3"),
        (lambda f, x: plots.cluster_sizes(f, x, -1), ValueError, "facet: got -1"),
        (lambda f, x: plots.cluster_sizes(f, x[:, :, :5], 0), ValueError, "x: got data of shape"),
    ],
)
def test_errors_say_what_is_wrong(model, call, error, message):
    fitted, x, _ = model
    with pytest.raises(error, match=re.escape(message)):
        call(fitted, x)


def test_names_of_classes_are_drawn(model):
    fitted, x, y = model
    names = pd.Series(np.array(["cat", "dog", "eel"])[y[:, 1]], name="animal")
    for figure in (
        plots.confusion_matrix(fitted, x, names, 0),
        plots.embedding(fitted, x, 0, labels=names),
        plots.latent_space(fitted, x, labels=names),
    ):
        assert {"cat", "dog", "eel"} <= {text.get_text() for text in figure.findobj(matplotlib.text.Text)}
    figure = plots.confusion_matrix(fitted, x, names, 0)
    assert any("against animal" in text.get_text() for text in figure.findobj(matplotlib.text.Text))
