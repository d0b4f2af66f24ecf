import itertools
import tracemalloc

import numpy as np
import pytest
import scipy.stats
import sklearn.linear_model
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mfcvae.metrics import (
    affine_r2,
    agreement,
    align_facets,
    alive_clusters,
    ari,
    best_per_label,
    calibration,
    class_weighted_purity,
    confusion,
    effective_clusters,
    entropy_of_use,
    homogeneity,
    hungarian_accuracy,
    matched_agreement,
    matched_confusion,
    matching,
    mean_confidence,
    nmi,
    one_to_one,
    purity,
    redundancy,
    score_table,
    sharpness,
    variation_of_information,
)

quick = settings(max_examples=40)

SCORES = {
    "purity": purity,
    "hungarian_accuracy": hungarian_accuracy,
    "nmi": nmi,
    "ari": ari,
    "class_weighted_purity": class_weighted_purity,
    "homogeneity": homogeneity,
    "variation_of_information": variation_of_information,
}


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


def entropy_of(*arrays):
    """Of the rows that several arrays have together, from their shares."""
    _, counts = np.unique(np.stack(arrays, 1), axis=0, return_counts=True)
    return scipy.stats.entropy(counts)


def brute_ari(clusters, labels):
    n, m = np.triu_indices(len(labels), 1)
    in_cluster, in_class = clusters[n] == clusters[m], labels[n] == labels[m]
    if (in_cluster == in_class).all():
        return 1.0
    chance = in_cluster.sum() * in_class.sum() / len(n)
    return ((in_cluster & in_class).sum() - chance) / ((in_cluster.sum() + in_class.sum()) / 2 - chance)


@quick
@given(clusterings())
def test_definitions(pair):
    """Entropies of shares, and all pairs of data one by one."""
    H_c, H_y, H = entropy_of(pair[0]), entropy_of(pair[1]), entropy_of(*pair)
    mutual = H_c + H_y - H
    assert nmi(*pair) == pytest.approx(2 * mutual / (H_c + H_y) if H_c + H_y else 1.0, abs=1e-9)
    assert homogeneity(*pair) == pytest.approx(mutual / H_y if H_y else 1.0, abs=1e-9)
    assert variation_of_information(*pair) == pytest.approx(2 * H - H_c - H_y, abs=1e-9)
    assert ari(*pair) == pytest.approx(brute_ari(*pair), abs=1e-9)
    assert entropy_of_use(pair[0]) == pytest.approx(H_c)
    assert effective_clusters(pair[0]) == pytest.approx(np.exp(H_c))
    assert (confusion(*pair) == sklearn.metrics.cluster.contingency_matrix(*pair)).all()


@quick
@given(clusterings(), st.integers(-1000, 1000), st.randoms(use_true_random=False))
def test_names_of_clusters_and_classes_do_not_matter(pair, shift, random):
    names = list(range(6))
    random.shuffle(names)
    c, y = pair
    renamed = np.array(names)[c] * 10**15 + shift, np.array(names)[y] - shift
    extreme = np.array(names)[c] * 2**61 - 2**62, np.array(names, dtype=np.uint64)[y] + np.uint64(2**64 - 6)
    small = (np.array(names)[c] * 50 - 128).astype(np.int8), (np.array(names)[y] * 50).astype(np.uint8)
    for score in SCORES.values():
        for other in (renamed, extreme, small):
            assert score(*other) == pytest.approx(score(c, y), abs=1e-12)


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
    assert 0 < class_weighted_purity(c, y) <= 1
    assert 0 <= homogeneity(c, y) <= 1
    assert 0 <= variation_of_information(c, y) <= np.log(len(c)) + 1e-12
    for name, score in SCORES.items():
        assert score(c, c) == (name != "variation_of_information")
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
    adjusted = redundancy(facets, "ami")
    assert (adjusted <= 1).all()
    assert adjusted[0, 1] == pytest.approx(
        sklearn.metrics.adjusted_mutual_info_score(facets[:, 0], facets[:, 1])
    )
    variation = redundancy(facets, "variation_of_information")
    assert (variation == variation.T).all()
    assert (np.diag(variation) == 0).all()
    assert variation[1, 2] == pytest.approx(variation_of_information(facets[:, 1], facets[:, 2]))
    assert (variation[0, 1] + variation[1, 2] - variation[0, 2]) > -1e-12  # it is a metric
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
    with pytest.raises(ValueError, match=r"^clusters: got 3 rows and 2 of labels, expected one of each"):
        score([0, 1, 2], [0, 1])
    with pytest.raises(ValueError, match=r"^clusters: got no data, shape \(0,\)"):
        score(np.array([], dtype=int), np.array([], dtype=int))
    with pytest.raises(TypeError, match=r"^labels: got 0.5 in row 1, expected integers.*np\.digitize"):
        score([0, 1], [0.0, 0.5])
    with pytest.raises(TypeError, match=r"^clusters: got dtype <U1, expected integers.*np\.unique"):
        score(["a", "b"], [0, 1])
    with pytest.raises(ValueError, match=r"^labels: got shape \(2, 2\), expected one kind of label"):
        score([0, 1], [[0, 1], [1, 1]])
    with pytest.raises(ValueError, match=r"^clusters: got shape \(2, 1\), expected \(N,\); select"):
        score([[0], [1]], [0, 1])


def test_single_clusterings_that_are_refused():
    with pytest.raises(ValueError, match=r"^facets: got shape \(3,\), expected \(N, columns\); use"):
        redundancy([0, 1, 2])
    with pytest.raises(TypeError, match=r"^facets: got dtype float64"):
        redundancy([[0.0]])
    with pytest.raises(ValueError, match=r"^clusters: got shape \(\), expected \(N,\)"):
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


# mean over the classes


def brute_class_weighted_purity(clusters, labels):
    """Recall of every class under the majority classes, in plain Python."""
    size = {label: int(np.sum(labels == label)) for label in set(labels.tolist())}
    stands_for = {}
    for k in set(clusters.tolist()):
        members = labels[clusters == k].tolist()
        stands_for[k] = max(set(members), key=lambda label: (members.count(label), -size[label], -label))
    recall = []
    for label, n in size.items():
        right = [stands_for[k] == label for k in clusters[labels == label].tolist()]
        recall.append(sum(right) / n)
    return sum(recall) / len(recall)


@quick
@given(clusterings())
def test_class_weighted_purity_is_the_mean_recall(pair):
    assert class_weighted_purity(*pair) == pytest.approx(brute_class_weighted_purity(*pair))


@quick
@given(clusterings())
def test_equal_classes_have_equal_weight_anyway(pair):
    c = pair[0]
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(3), len(c)))
    c = np.tile(c, 3)
    assert class_weighted_purity(c, y) == pytest.approx(purity(c, y))


def test_a_rare_class_counts_as_much():
    labels = np.repeat([0, 1], [99, 1])
    assert purity(np.zeros(100, int), labels) == 0.99
    assert class_weighted_purity(np.zeros(100, int), labels) == 0.5
    assert class_weighted_purity([0, 0], [0, 1]) == 0.5


# one to one


@quick
@given(clusterings())
def test_matched_confusion_is_the_confusion_in_another_order(pair):
    c, y = pair[0] * 3 - 7, pair[1] * 2
    matched = matched_confusion(c, y)
    for i, j in itertools.product(range(len(matched.clusters)), range(len(matched.classes))):
        expected = np.sum((c == matched.clusters[i]) & (y == matched.classes[j]))
        assert matched.counts[i, j] == expected
    assert matched.counts.sum() == len(c)
    assert matched.accuracy == pytest.approx(hungarian_accuracy(c, y))
    pairs = min(matched.counts.shape)
    for rest in (matched.clusters[pairs:], matched.classes[:pairs], matched.classes[pairs:]):
        assert (np.diff(rest) > 0).all()


def test_tables_that_no_memory_holds_are_refused():
    names = np.arange(20_000)
    for score in (hungarian_accuracy, confusion, matched_confusion):
        with pytest.raises(
            ValueError, match=r"^clusters: got 20,000 different values and 20,000 of labels, expected a table"
        ):
            score(names, names)
    assert nmi(names, names) == purity(names, names) == ari(names, names) == 1  # which need none


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("J", "F"), [(1, 1), (1, 3), (3, 1), (3, 3), (4, 2), (2, 4)])
def test_one_to_one_is_the_best_of_all_matchings(seed, J, F):
    table = np.random.default_rng(seed).random((J, F))
    facets = [*range(J), *[None] * F]
    best = max(
        sum(table[j, f] for f, j in enumerate(assigned) if j is not None)
        for assigned in itertools.permutations(facets, F)
    )
    assert one_to_one(table) == pytest.approx(best / F)
    pairs = matching(table)
    assert len({j for j, _ in pairs}) == len(pairs) == min(J, F)
    assert [f for _, f in pairs] == sorted({f for _, f in pairs})
    assert sum(table[pair] for pair in pairs) / F == pytest.approx(best / F)
    assert best_per_label(table) == pytest.approx(sum(max(column) for column in table.T) / F)
    assert best_per_label(table) >= one_to_one(table) - 1e-12


@quick
@given(clusterings(columns=5))
def test_score_table(columns):
    facets, labels = np.stack(columns[:3], 1), np.stack(columns[3:], 1)
    for name, score in SCORES.items():
        table = score_table(facets, labels, name)
        expected = [[score(facets[:, j], labels[:, f]) for f in range(2)] for j in range(3)]
        np.testing.assert_array_equal(table, expected)
        np.testing.assert_array_equal(score_table(facets, labels, score), expected)
    assert score_table(columns[0], columns[3]).shape == (1, 1)


def test_tables_that_are_refused():
    with pytest.raises(
        ValueError, match=r"^score: got 'accuracy', expected one of purity, hungarian_accuracy"
    ):
        score_table([[0]], [[0]], "accuracy")
    with pytest.raises(ValueError, match=r"^facets: got 2 rows and 1 of labels, expected one of each"):
        score_table([[0], [1]], [0])
    with pytest.raises(ValueError, match=r"^score: got 'purity', expected one of nmi, ari, variation"):
        redundancy([[0]], "purity")
    for table in ([0.5], [[]], [[np.nan]]):
        for function in (matching, one_to_one, best_per_label):
            with pytest.raises(ValueError, match=r"^table: got shape .*, expected finite scores \(J, F\)"):
                function(table)


# between runs


def test_agreement():
    rng = np.random.default_rng(0)
    runs = [rng.integers(0, 4, (50, 2)) for _ in range(3)]
    matrices = agreement(runs)
    assert matrices.shape == (2, 3, 3)
    for j, r, s in itertools.product(range(2), range(3), range(3)):
        expected = sklearn.metrics.adjusted_rand_score(runs[r][:, j], runs[s][:, j])
        assert matrices[j, r, s] == pytest.approx(expected)
    assert agreement([run[:, 0] for run in runs]).shape == (1, 3, 3)
    with pytest.raises(ValueError, match=r"^runs: got shapes \[\(2, 1\), \(3, 1\)\], expected one for all"):
        agreement([[0, 1], [0, 1, 2]])
    with pytest.raises(TypeError, match=r"^runs\[1\]: got dtype float64"):
        agreement([[0], [0.5]])


@settings(max_examples=8)
@given(st.integers(0, 10_000))
def test_facets_are_aligned_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    runs = [rng.integers(0, 3, (20, J)) for J in rng.integers(1, 4, 3)]
    most = max(run.shape[1] for run in runs)

    def best(one, other):
        """The largest sum, over all ways to give each facet of the one with fewer one of the other."""
        if one.shape[1] > other.shape[1]:
            one, other = other, one
        return max(
            sum(ari(one[:, j], other[:, k]) for j, k in enumerate(order))
            for order in itertools.permutations(range(other.shape[1]), one.shape[1])
        )

    matrix = matched_agreement(runs)
    for r, s in itertools.product(range(3), repeat=2):
        expected = 1 if r == s else best(runs[r], runs[s]) / max(runs[r].shape[1], runs[s].shape[1])
        assert matrix[r, s] == pytest.approx(expected)
    facets = align_facets(runs)
    assert facets.shape == (3, most)
    for run, chosen in zip(runs, facets, strict=True):
        assert sorted(chosen[chosen >= 0]) == list(range(run.shape[1]))
    matrices = agreement(runs, facets)
    in_order = [r for r in range(3) if (facets[r] == np.arange(most)).all()]
    assert any(  # one of them is what all were matched to
        all(np.nansum(matrices[:, r, s]) == pytest.approx(best(runs[r], runs[s])) for s in range(3) if s != r)
        for r in in_order
    )
    for j, r, s in itertools.product(range(most), range(3), range(3)):
        one, other = facets[r, j], facets[s, j]
        if min(one, other) >= 0:
            assert matrices[j, r, s] == pytest.approx(ari(runs[r][:, one], runs[s][:, other]))
        else:
            np.testing.assert_equal(matrices[j, r, s], np.nan if max(one, other) < 0 else 0)


def test_agreement_of_runs_that_are_refused():
    with pytest.raises(ValueError, match=r"^runs: got shapes .*, expected one for all.*use align_facets"):
        agreement([[[0, 1], [1, 0]], [0, 1]])
    for function in (align_facets, matched_agreement):
        assert function([[[0, 1], [1, 0]], [0, 1]]).shape == (2, 2)
        with pytest.raises(ValueError, match=r"^runs: got shapes .*; give the clusters of the same data$"):
            function([[0, 1, 2], [0, 1]])
    for facets in ([[0]], [[0], [1]], [[-2], [0]]):
        with pytest.raises(ValueError, match=r"^facets: got .*, expected for each of 2 runs some of its"):
            agreement([[0, 1], [0, 1]], facets)


def test_affine_r2():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 3))
    A = rng.normal(size=(3, 3))
    assert affine_r2(z, z @ A + 1) == pytest.approx(1)
    assert affine_r2(z @ A - 2, z) == pytest.approx(1)
    assert affine_r2(z, rng.normal(size=(500, 2))) < 0.03
    assert affine_r2(z, z[:, :2]) == pytest.approx(2 / 3, abs=0.02)  # one of three is not known
    noisy = z[:, :1] + rng.normal(size=(500, 1))
    expected = sklearn.linear_model.LinearRegression().fit(z, noisy).score(z, noisy)
    assert affine_r2(noisy, z) == pytest.approx(expected)
    unused = np.concatenate([z, 0.01 * rng.normal(size=(500, 2))], 1)  # as of a latent that the model ignores
    assert affine_r2(unused, z) == pytest.approx(1)
    assert affine_r2(np.ones((5, 2)), np.ones((5, 2))) == 0
    with pytest.raises(ValueError, match=r"^z: got 3 rows and 2 of other, expected one of each"):
        affine_r2(np.eye(3), np.eye(2))
    for wrong in ([0.0, 1.0], [[np.nan], [1.0]], [[1.0]], np.ones((3, 0))):
        with pytest.raises(ValueError, match=r"^other: got shape .*, expected finite latents \(N, D\)"):
            affine_r2(np.eye(3), wrong)


# without labels, and confidence


def test_sharpness():
    rng = np.random.default_rng(0)
    r = rng.dirichlet([0.3] * 4, size=50)
    total, left = scipy.stats.entropy(r.mean(0)), np.mean([scipy.stats.entropy(row) for row in r])
    assert sharpness(r) == pytest.approx((total - left) / np.log(4))
    assert sharpness(np.eye(3)[[0, 1, 2, 0, 1, 2]]) == pytest.approx(1)
    assert sharpness(np.eye(4)[[0, 1, 0, 1]]) == pytest.approx(0.5)  # two of four are empty
    assert sharpness(np.tile(r[:1], (9, 1))) == pytest.approx(0, abs=1e-12)
    one = np.array([[1.0, 1e-9]] * 5, dtype=np.float32)
    assert sharpness(one) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match=r"^responsibilities: got shape \(2,\)"):
        sharpness([0.5, 0.5])


def responsibilities_of(N, K, seed=0):
    r = np.random.default_rng(seed).random((N, K)) ** 4
    return r / r.sum(1, keepdims=True)


def test_use_of_responsibilities():
    r = responsibilities_of(200, 5)
    assert entropy_of_use(r) == pytest.approx(scipy.stats.entropy(r.mean(0)))
    assert effective_clusters(torch.from_numpy(r)) == pytest.approx(np.exp(scipy.stats.entropy(r.mean(0))))
    assert entropy_of_use([3, 3]) == 0
    assert effective_clusters(np.eye(4)) == pytest.approx(4)
    assert mean_confidence(r) == pytest.approx(np.mean([max(row) for row in r]))


def brute_calibration_error(confidence, right, bins):
    error = 0.0
    for b in range(bins):
        inside = [(p, a) for p, a in zip(confidence, right, strict=True) if b / bins < p <= (b + 1) / bins]
        if inside:
            error += abs(sum(p - a for p, a in inside)) / len(confidence)
    return error


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bins", [1, 8])
def test_calibration(seed, bins):
    """Against a loop over the data, judged by the other half."""
    r = responsibilities_of(300, 4, seed)
    rng = np.random.default_rng(seed)
    c, confidence = r.argmax(1), r.max(1)
    y = np.where(rng.random(300) < 0.7, c % 3, rng.integers(0, 3, 300)) * 11 - 5
    half = np.random.default_rng(seed + 9).permutation(300) % 2
    right = []
    for n in range(300):
        members = y[(half != half[n]) & (c == c[n])].tolist()
        assert len(members) > 0
        right.append(max(set(members), key=members.count) == y[n])
    result = calibration(r, y, bins=bins, seed=seed + 9)
    assert result.error == pytest.approx(brute_calibration_error(confidence, right, bins))
    assert result.accuracy == pytest.approx(np.mean(right))
    assert result.confidence == pytest.approx(mean_confidence(r))
    assert result.bin_counts.sum() == 300
    np.testing.assert_allclose(result.edges, np.arange(bins + 1) / bins)
    some = result.bin_counts > 0
    assert np.isnan(result.bin_accuracy[~some]).all()
    assert np.isnan(result.bin_confidence[~some]).all()
    inside = (result.bin_confidence >= result.edges[:-1]) & (result.bin_confidence <= result.edges[1:])
    assert inside[some].all()
    shares = result.bin_counts[some] / 300
    assert shares @ result.bin_accuracy[some] == pytest.approx(result.accuracy)
    gaps = abs(result.bin_accuracy - result.bin_confidence)[some]
    assert shares @ gaps == pytest.approx(result.error)


def test_right_confidence_is_calibrated():
    """Classes drawn from the responsibilities themselves."""
    N, K = 40_000, 3
    r = responsibilities_of(N, K)
    y = (np.random.default_rng(1).random((N, 1)) > r.cumsum(1)).sum(1)
    assert calibration(r, y).error < 0.01
    assert calibration(np.eye(K)[r.argmax(1)], y).error > 0.2


def test_accuracy_of_calibration_is_not_that_of_chance():
    """Clusters without meaning, with few data each: the purity is optimistic, the other half is not."""
    rng = np.random.default_rng(0)
    c, y = rng.integers(0, 500, 2_000), rng.integers(0, 10, 2_000)
    assert purity(c, y) > 0.3
    assert 0.05 < calibration(np.eye(500, dtype=np.float32)[c], y).accuracy < 0.12


def test_calibration_of_one_datum():
    result = calibration([[0.75, 0.25]], [3])
    assert (result.accuracy, result.confidence, result.error) == (0, 0.75, 0.75)


def test_probabilities_that_are_refused():
    with pytest.raises(ValueError, match=r"^responsibilities: got shape \(2,\), expected \(N, K\)"):
        mean_confidence([0.5, 0.5])
    for values in ([[0.5, 0.6]], [[-0.5, 1.5]], [[np.nan, 1.0]]):
        with pytest.raises(
            ValueError, match=r"^responsibilities: got values .*, expected probabilities that sum"
        ):
            mean_confidence(values)
    with pytest.raises(TypeError, match=r"^responsibilities: got dtype <U1"):
        mean_confidence([["a", "b"]])
    with pytest.raises(ValueError, match=r"^clusters: got values .*, expected probabilities that sum to 1"):
        entropy_of_use([[2, 1], [0, 3]])
    with pytest.raises(
        ValueError, match=r"^responsibilities: got 1 rows and 2 of labels, expected one of each"
    ):
        calibration([[1.0]], [0, 1])
    with pytest.raises(ValueError, match=r"^bins: got 0, expected an integer of at least 1"):
        calibration([[1.0]], [0], bins=0)


@pytest.mark.parametrize("c", [[0], [5, 5, 5]])
def test_one_datum_one_cluster_or_one_class(c):
    c = np.array(c)
    for name, score in SCORES.items():
        assert score(c, c + 1) == (name != "variation_of_information")
    assert redundancy(c[:, None]).tolist() == [[1]]
    assert agreement([c, c]).tolist() == [[[1, 1], [1, 1]]]
    assert alive_clusters(c) == effective_clusters(c) == 1
    y = np.arange(len(c))
    if len(c) > 1:
        assert nmi(c, y) == homogeneity(c, y) == ari(c, y) == 0
        assert variation_of_information(c, y) == pytest.approx(np.log(3))
