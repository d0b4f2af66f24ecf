"""The table of facets and labels: its figures are those of the metrics, and it prints what it knows."""

import builtins
import dataclasses
import itertools

import numpy as np
import pytest
import torch

from pyro_mfcvae import FittedMFCVAE, metrics
from pyro_mfcvae.metrics.evaluation import Evaluation, evaluate

SCORES = ("purity", "hungarian_accuracy", "nmi", "ari", "class_weighted_purity", "homogeneity")

CLUSTERS = np.array([[0, 2], [0, 2], [1, 2], [1, 0], [2, 0], [2, 0]])
LABELS = np.array([[5, 0], [5, 0], [6, 0], [6, 1], [7, 1], [7, 1]])


def test_evaluate():
    result = evaluate(CLUSTERS, LABELS, ["hue", "shape"], [25, 4])
    assert isinstance(result, Evaluation)
    for name in SCORES:
        values, score = result.scores[name], getattr(metrics, name)
        assert values.shape == (2, 2)
        for j, f in itertools.product(range(2), range(2)):
            assert values[j, f] == score(CLUSTERS[:, j], LABELS[:, f])
    assert tuple(result.scores) == SCORES
    assert result.redundancy.tolist() == metrics.redundancy(CLUSTERS).tolist()
    variation = metrics.redundancy(CLUSTERS, "variation_of_information")
    assert result.variation.tolist() == variation.tolist()
    assert result.entropy[0] == pytest.approx(np.log(3))
    assert result.effective_clusters.tolist() == [metrics.effective_clusters(c) for c in CLUSTERS.T]
    assert result.confidence is result.calibration is result.calibration_error is None
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
    with pytest.raises(ValueError, match=r"^label_name: got 'size', expected one of hue, shape"):
        result.best_facet("size")
    with pytest.raises(ValueError, match=r"^score: got 'accuracy', expected one of purity, hung"):
        result.score(0, "hue", "accuracy")
    with pytest.raises(ValueError, match=r"^facet: got 2, expected 0 \.\. 1"):
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
        "closest to hue: facet 0 (NMI 1.000)",
        "closest to a longer name: facet 1 (NMI 1.000)",
        "effective clusters: facet 0 3.0, facet 1 2.0",
        "redundancy (NMI) between facets: 0-1 0.516",
        "variation of information between facets: 0-1 0.868 nats",
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
    with pytest.raises(ValueError, match=r"^clusters: got shape \(6,\), expected \(N, columns\)"):
        evaluate(CLUSTERS[:, 0], LABELS)
    with pytest.raises(ValueError, match=r"^labels: got shape \(1, 6, 2\), expected \(N,\) or \(N,"):
        evaluate(CLUSTERS, LABELS[None])
    with pytest.raises(ValueError, match=r"^clusters: got 6 rows and 5 of labels, expected one of each"):
        evaluate(CLUSTERS, LABELS[:5])
    for names in (["hue"], ["hue", "hue"], "ab"):
        with pytest.raises(ValueError, match=r"^names: got .* expected 2 different names"):
            evaluate(CLUSTERS, LABELS, names)
    with pytest.raises(ValueError, match=r"^sizes: got \(3,\), expected 2 numbers of clusters"):
        evaluate(CLUSTERS, LABELS, sizes=[3])
    with pytest.raises(ValueError, match=r"values 0 \.\. 2 in facet 1, expected 0 \.\. 1"):
        evaluate(CLUSTERS, LABELS, sizes=[3, 2])
    with pytest.raises(ValueError, match=r"values -1 \.\. 1 in facet 0, expected 0 \.\. 1"):
        evaluate(CLUSTERS - 1, LABELS)
    with pytest.raises(ValueError, match=r"^labels: got none in row 2, the first of 1 such.*leave out data"):
        evaluate(CLUSTERS, [0, 1, np.nan, 0, 0, 1])


def test_one_to_one_matching():
    both = evaluate(CLUSTERS, LABELS, ["hue", "shape"])
    assert both.matching() == both.matching("ari") == {"hue": 0, "shape": 1}
    assert evaluate(CLUSTERS[:, [1]], LABELS, ["hue", "shape"]).matching() == {"shape": 0}
    alike = evaluate(CLUSTERS, LABELS[:, [0, 0]], ["a", "b"])
    assert (alike.best_facet("a"), alike.best_facet("b")) == (0, 0)
    assert sorted(alike.matching().values()) == [0, 1]
    with pytest.raises(ValueError, match=r"^score: got 'accuracy', expected one of purity"):
        both.matching("accuracy")


@pytest.mark.parametrize("J", [2, 3, 8])
def test_the_text_is_not_wide(J):
    rng = np.random.default_rng(0)
    r = responsibilities((40,) * J, 200)
    labels, names = rng.integers(0, 3, (200, 3)), ["orientation of the object", "hue", "size"]
    result = evaluate(np.stack([r_j.argmax(1) for r_j in r], 1), labels, names, responsibilities=r)
    lines = str(result).splitlines()
    assert max(map(len, lines)) <= 110
    whole = " ".join(line.strip() for line in lines)
    for i, j in itertools.combinations(range(J), 2):
        assert f"{i}-{j} {result.redundancy[i, j]:.3f}" in whole
        assert f"{i}-{j} {result.variation[i, j]:.3f}" in whole


# with responsibilities


def responsibilities(sizes, N, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.dirichlet(np.full(K, 0.3), N).astype(np.float32) for K in sizes]


def test_confidence_and_calibration():
    r = responsibilities((4, 3), 100)
    clusters = np.stack([r_j.argmax(1) for r_j in r], 1)
    labels = np.random.default_rng(1).integers(0, 3, (100, 2))
    result = evaluate(clusters, labels, ["hue", "shape"], (4, 3), r)
    for j in range(2):
        assert result.confidence[j] == pytest.approx(metrics.mean_confidence(r[j]))
        assert result.entropy[j] == metrics.entropy_of_use(r[j])
        for f in range(2):
            expected = metrics.calibration(r[j], labels[:, f])
            assert result.calibration_error[j, f] == expected.error
            for name, value in dataclasses.asdict(expected).items():
                np.testing.assert_array_equal(getattr(result.calibration[j][f], name), value)
    text, html = str(result), result._repr_html_()
    assert repr(result) == text
    assert text.splitlines()[0].endswith("ARI    ECE")
    assert f"mean confidence: facet 0 {result.confidence[0]:.3f}, facet 1 " in text
    assert f"<td>{result.calibration_error[1, 0]:.3f}</td>" in html
    without = evaluate(clusters, labels)
    for output in (str(without), without._repr_html_()):
        assert "ECE" not in output
        assert "confidence" not in output


def test_responsibilities_that_are_refused():
    r = responsibilities((3, 3), 6)
    c = np.stack([r_j.argmax(1) for r_j in r], 1)
    y = LABELS[:, 0]
    with pytest.raises(ValueError, match=r"^responsibilities: got 1 arrays, expected 2, one a facet"):
        evaluate(c, y, sizes=(3, 3), responsibilities=r[:1])
    with pytest.raises(ValueError, match=r"^responsibilities\[1\]: got shape \(6, 3\), expected \(6, 4\)"):
        evaluate(c, y, sizes=(3, 4), responsibilities=r)
    with pytest.raises(
        ValueError, match=r"^responsibilities\[0\]: got its largest for other clusters than facet"
    ):
        evaluate((c + 1) % 3, y, sizes=(3, 3), responsibilities=r)
    with pytest.raises(ValueError, match=r"^responsibilities\[0\]: got values .*, expected probabilities"):
        evaluate(c, y, sizes=(3, 3), responsibilities=[2 * r[0], r[1]])


def test_a_fitted_model_has_them(make_model, blobs):
    x, y = blobs
    fitted = FittedMFCVAE(make_model(K=(4, 3), spread=3.0), ())
    result = fitted.evaluate(x, torch.from_numpy(y), ["first", "second"])
    assert result.clusters == (4, 3)
    for j, r in enumerate(fitted.predict_proba(x)):
        assert result.confidence[j] == pytest.approx(metrics.mean_confidence(r))
        assert result.alive[j] == metrics.alive_clusters(fitted.predict(x)[:, j])
        for f in range(2):
            assert result.calibration_error[j, f] == metrics.calibration(r, y[:, f]).error
    named = fitted.evaluate(x, y, {"first": ["cat", "cow", "dog"], "second": None})
    assert str(named) == str(result)


# other forms


def test_html_has_all_scores():
    html = evaluate(CLUSTERS, LABELS, ["hue", "shape"])._repr_html_()
    assert "<th>class-weighted purity</th><th>homogeneity</th></tr>" in html
    assert "closest to shape: facet 1 (NMI 1.000)<br>" in html
    assert html.count("<tr>") == 5


@pytest.mark.parametrize("known", [False, True])
def test_pandas(known):
    r = responsibilities((4, 3), 50)
    c, y = np.stack([r_j.argmax(1) for r_j in r], 1), np.arange(100).reshape(50, 2) % 3
    result = evaluate(c, y, ["hue", "shape"], (4, 3), r if known else None)
    frame = result.to_pandas()
    assert frame.index.tolist() == [(0, "hue"), (0, "shape"), (1, "hue"), (1, "shape")]
    assert frame.index.names == ["facet", "label"]
    for j, (f, name) in itertools.product(range(2), enumerate(["hue", "shape"])):
        row = frame.loc[j, name]
        assert (row["clusters"], row["alive"], row["classes"]) == ((4, 3)[j], result.alive[j], 3)
        assert row["effective_clusters"] == result.effective_clusters[j]
        for score in SCORES:
            assert row[score] == result.scores[score][j, f]
        if known:
            assert row["confidence"] == result.confidence[j]
            assert row["calibration_error"] == result.calibration_error[j, f]
    assert ("confidence" in frame) == ("calibration_error" in frame) == known


def test_pandas_is_not_needed_for_the_rest(monkeypatch):
    original = builtins.__import__

    def without_pandas(name, *arguments, **options):
        if name == "pandas":
            raise ImportError("no module named pandas")
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    result = evaluate(CLUSTERS, LABELS)
    assert "NMI" in str(result)
    with pytest.raises(ImportError, match=r"^pandas is not installed.*pip install pandas, or use scores"):
        result.to_pandas()


def test_labels_that_are_the_same_for_all_data_are_not_printed():
    clusters = np.array([[0, 1], [1, 0], [0, 0], [1, 1]])
    labels = np.array([[0, 5, 1], [1, 5, 1], [0, 5, 1], [1, 5, 1]])
    result = evaluate(clusters, labels, ["kind", "room", "light"])
    assert result.constant_labels == ("room", "light")
    rows = str(result).splitlines()
    assert sum("kind" in row for row in rows) == 3  # two facets, and which is closest
    assert "left out, since all data have the same value: room, light" in rows
    assert sum("room" in row for row in rows) == 1
    assert "room" not in result._repr_html_().split("</table>")[0]
    assert result.score(0, "room") == 1
    alone = evaluate(clusters, labels[:, 1], ["room"])  # or nothing would be printed
    assert alone.constant_labels == ()
    assert "closest to room: facet 0" in str(alone)
