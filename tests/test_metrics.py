import dataclasses
import itertools
import tracemalloc

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mfcvae.evaluation import Evaluation, evaluate
from pyro_mfcvae.metrics import (
    alive_clusters,
    ari,
    confusion,
    hungarian_accuracy,
    nmi,
    purity,
    redundancy,
)

quick = settings(max_examples=40)

SCORES = {"purity": purity, "hungarian_accuracy": hungarian_accuracy, "nmi": nmi, "ari": ari}


@st.composite
def clusterings(draw, columns=2, max_size=40):
    """Several integer arrays of one length with few or many different values."""
    N = draw(st.integers(1, max_size))
    sizes = [draw(st.integers(1, 6)) for _ in range(columns)]
    return [np.array(draw(st.lists(st.integers(0, size - 1), min_size=N, max_size=N))) for size in sizes]


def brute_purity(clusters, labels):
    best = 0
    for k in set(clusters):
        members = labels[clusters == k].tolist()
        best += max(members.count(label) for label in members)
    return best / len(labels)


def brute_hungarian(clusters, labels):
    k, l = sorted(set(clusters)), sorted(set(labels))  # noqa: E741
    l = l + [None] * len(k)  # noqa: E741
    best = 0
    for assigned in set(itertools.permutations(l, len(k))):
        match = dict(zip(k, assigned, strict=True))
        best = max(best, sum(match[c] == y for c, y in zip(clusters, labels, strict=True)))
    return best / len(labels)


@quick
@given(clusterings())
def test_purity_is_the_share_of_majority_classes(pair):
    assert purity(*pair) == pytest.approx(brute_purity(*pair))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("K", "L"), [(1, 3), (3, 1), (3, 3), (4, 2), (2, 4)])
def test_hungarian_accuracy_is_the_best_of_all_matchings(seed, K, L):
    generator = np.random.default_rng(seed)
    c, y = generator.integers(0, K, 20), generator.integers(0, L, 20)
    assert hungarian_accuracy(c, y) == pytest.approx(brute_hungarian(c, y))


@quick
@given(clusterings())
def test_sklearn_agrees(pair):
    c, y = (array.astype(str) for array in pair)
    assert nmi(*pair) == pytest.approx(sklearn.metrics.normalized_mutual_info_score(y, c))
    assert ari(*pair) == pytest.approx(sklearn.metrics.adjusted_rand_score(y, c))
    counts = sklearn.metrics.cluster.contingency_matrix(c, y)
    assert (confusion(*pair) == counts).all()


@quick
@given(clusterings(), st.integers(-1000, 1000), st.randoms(use_true_random=False))
def test_names_of_clusters_and_classes_do_not_matter(pair, shift, random):
    names = list(range(6))
    random.shuffle(names)
    c, y = pair
    renamed = np.array(names)[c] * 10**15 + shift, np.array(names)[y] - shift
    for score in SCORES.values():
        assert score(*renamed) == pytest.approx(score(c, y))


@quick
@given(clusterings(), st.randoms(use_true_random=False))
def test_order_of_data_does_not_matter(pair, random):
    order = list(range(len(pair[0])))
    random.shuffle(order)
    for score in SCORES.values():
        assert score(pair[0][order], pair[1][order]) == pytest.approx(score(*pair))


@quick
@given(clusterings())
def test_bounds(pair):
    c, y = pair
    majority = np.bincount(y).max() / len(y)
    assert majority - 1e-12 <= purity(c, y) <= 1
    assert 0 < hungarian_accuracy(c, y) <= purity(c, y)
    assert 0 <= nmi(c, y) <= 1
    assert -0.5 - 1e-12 <= ari(c, y) <= 1
    for score in SCORES.values():
        assert score(c, c) == pytest.approx(1)
        assert isinstance(score(c, y), float)


@quick
@given(clusterings())
def test_splitting_a_cluster_never_lowers_purity(pair):
    c, y = pair
    split = 2 * c + np.arange(len(c)) % 2
    assert purity(split, y) >= purity(c, y) - 1e-12


def test_more_clusters_than_classes_are_pure_but_not_matched():
    c, y = np.arange(100), np.arange(100) % 10
    assert purity(c, y) == 1
    assert hungarian_accuracy(c, y) == pytest.approx(0.1)


def test_confusion_counts_what_occurs():
    counts = confusion([-5, 7, 7, 7], [2, 2, 100, 2])
    assert counts.dtype == np.int64
    assert counts.tolist() == [[1, 0], [2, 1]]


def test_alive_clusters():
    assert alive_clusters([3, 3, 24, 0]) == 3
    assert alive_clusters(np.zeros(4, dtype=np.uint8)) == 1


@quick
@given(clusterings(columns=3))
def test_redundancy(columns):
    facets = np.stack(columns, axis=1)
    matrix = redundancy(facets)
    assert matrix.shape == (3, 3)
    assert (matrix == matrix.T).all()
    assert (np.diag(matrix) == 1).all()
    assert matrix[0, 2] == pytest.approx(nmi(facets[:, 0], facets[:, 2]))
    order = [2, 0, 1]
    np.testing.assert_allclose(redundancy(facets[:, order]), matrix[np.ix_(order, order)])


def test_independent_facets_are_not_redundant():
    facets = np.array(list(itertools.product(range(3), range(4))))
    np.testing.assert_allclose(redundancy(facets), np.eye(2), atol=1e-12)


@pytest.mark.parametrize("score", SCORES.values())
def test_lists_tensors_and_booleans_are_taken(score):
    c, y = [0, 0, 1, 1, 1], [True, True, True, False, False]
    expected = score(np.array(c), np.array(y, dtype=int))
    assert score(c, y) == score(torch.tensor(c), torch.tensor(y)) == expected


@pytest.mark.parametrize("score", [*SCORES.values(), confusion])
def test_pairs_that_are_refused(score):
    with pytest.raises(ValueError, match="clusters and labels differ in length, 3 and 2"):
        score([0, 1, 2], [0, 1])
    with pytest.raises(ValueError, match=r"^clusters is empty, shape \(0,\)"):
        score(np.array([], dtype=int), np.array([], dtype=int))
    with pytest.raises(TypeError, match=r"^labels has dtype float64, expected integers.*astype"):
        score([0, 1], [0.0, 1.0])
    with pytest.raises(TypeError, match=r"^labels has dtype <U1, expected integers.*np\.unique"):
        score([0, 1], ["a", "b"])
    with pytest.raises(ValueError, match=r"^clusters has shape \(2, 1\), expected \(N,\): select"):
        score([[0], [1]], [0, 1])


def test_single_clusterings_that_are_refused():
    with pytest.raises(ValueError, match=r"^facets has shape \(3,\), expected \(N, columns\): use"):
        redundancy([0, 1, 2])
    with pytest.raises(TypeError, match=r"^facets has dtype float64"):
        redundancy([[0.0]])
    with pytest.raises(ValueError, match=r"^clusters has shape \(\), expected \(N,\)"):
        alive_clusters(3)


@pytest.mark.parametrize("score", SCORES)
def test_memory_is_linear_in_the_data(score):
    """A few copies of a million data, and nothing of the size of all pairs."""
    generator = np.random.default_rng(0)
    c, y = generator.integers(0, 200, 10**6), generator.integers(0, 10, 10**6)
    tracemalloc.start()
    try:
        SCORES[score](c, y)
        assert tracemalloc.get_traced_memory()[1] < 10 * (c.nbytes + y.nbytes)
    finally:
        tracemalloc.stop()


# the table of facets and labels

CLUSTERS = np.array([[0, 2], [0, 2], [1, 2], [1, 0], [2, 0], [2, 0]])
LABELS = np.array([[5, 0], [5, 0], [6, 0], [6, 1], [7, 1], [7, 1]])


def test_evaluate():
    result = evaluate(CLUSTERS, LABELS, ["hue", "shape"], [25, 4])
    assert isinstance(result, Evaluation)
    for name, score in SCORES.items():
        values = result.scores[name]
        assert values.shape == (2, 2)
        for j, f in itertools.product(range(2), range(2)):
            assert values[j, f] == score(CLUSTERS[:, j], LABELS[:, f])
    assert result.scores.keys() == SCORES.keys()
    assert result.redundancy.tolist() == redundancy(CLUSTERS).tolist()
    assert result.alive.tolist() == [3, 2]
    assert result.clusters == (25, 4)
    assert result.classes == (3, 2)
    assert result.label_names == ("hue", "shape")
    assert result.num_data == 6
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.num_data = 7


def test_scores_by_name():
    result = evaluate(CLUSTERS, LABELS, ["hue", "shape"], [25, 4])
    assert result.best_facet("hue") == 0
    assert result.best_facet("shape") == 1
    assert result.best_facet("shape", score="purity") == 1
    assert result.score(0, "hue") == 1
    assert result.score(-1, "shape", "ari") == 1
    assert result.score(0, "shape") == pytest.approx(5 / 6)
    with pytest.raises(ValueError, match=r"^label_name is 'size', expected one of hue, shape"):
        result.best_facet("size")
    with pytest.raises(ValueError, match=r"^score is 'accuracy', expected one of purity, hung"):
        result.score(0, "hue", "accuracy")
    with pytest.raises(ValueError, match=r"^facet is 2, expected 0 \.\. 1"):
        result.score(2, "hue")


def test_default_names_and_sizes():
    one = evaluate(CLUSTERS, LABELS[:, 0])
    assert one.label_names == ("label",)
    assert one.clusters == (3, 3)
    assert evaluate(CLUSTERS, torch.from_numpy(LABELS)).label_names == ("label_0", "label_1")


def test_table():
    text = str(evaluate(CLUSTERS, LABELS, ["hue", "a longer name"], [25, 4]))
    lines = text.splitlines()
    assert lines == [
        "facet  clusters  label          classes  purity  Hungarian accuracy    NMI    ARI",
        "    0      3/25  hue                  3   1.000               1.000  1.000  1.000",
        "    0      3/25  a longer name        2   0.833               0.667  0.516  0.242",
        "    1       2/4  hue                  3   0.667               0.667  0.516  0.242",
        "    1       2/4  a longer name        2   1.000               1.000  1.000  1.000",
        "redundancy (NMI) between facets: 0-1 0.516",
        "6 data; clusters: alive/all",
    ]


def test_table_of_one_and_of_three_facets():
    one = str(evaluate(CLUSTERS[:, :1], LABELS))
    assert "between facets: none, there is one facet" in one
    three = str(evaluate(CLUSTERS[:, [0, 1, 0]], LABELS))
    assert "between facets: 0-1 0.516, 0-2 1.000, 1-2 0.516" in three


def test_html_escapes_names():
    html = evaluate(CLUSTERS, LABELS[:, 0], ["<hue>"])._repr_html_()
    assert "&lt;hue&gt;" in html
    assert "<hue>" not in html
    assert html.count("<tr>") == 3
    assert "<th>purity</th><th>Hungarian accuracy</th>" in html


def test_evaluations_that_are_refused():
    with pytest.raises(ValueError, match=r"^clusters has shape \(6,\), expected \(N, columns\)"):
        evaluate(CLUSTERS[:, 0], LABELS)
    with pytest.raises(ValueError, match=r"^labels has shape \(1, 6, 2\), expected \(N,\) or \(N,"):
        evaluate(CLUSTERS, LABELS[None])
    with pytest.raises(ValueError, match="clusters and labels differ in length, 6 and 5"):
        evaluate(CLUSTERS, LABELS[:5])
    for names in (["hue"], ["hue", "hue"], "ab"):
        with pytest.raises(ValueError, match=r"^names is .* expected 2 different names"):
            evaluate(CLUSTERS, LABELS, names)
    with pytest.raises(ValueError, match=r"^sizes is \(3,\), expected 2 numbers of clusters"):
        evaluate(CLUSTERS, LABELS, sizes=[3])
    with pytest.raises(ValueError, match=r"values 0 \.\. 2 in facet 1, expected 0 \.\. 1"):
        evaluate(CLUSTERS, LABELS, sizes=[3, 2])
    with pytest.raises(ValueError, match=r"values -1 \.\. 1 in facet 0, expected 0 \.\. 1"):
        evaluate(CLUSTERS - 1, LABELS)
