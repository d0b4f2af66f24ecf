"""Labels of any kind give the scores that integers give, and their classes have names."""

import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mfcvae import metrics
from pyro_mfcvae.metrics.evaluation import evaluate
from pyro_mfcvae.metrics.labels import Labels

NAMES = ["ant", "bee", "cat", "dog", "eel"]  # sorted, as the integers that they stand for
CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "array": np.array,
    "array of objects": lambda names: np.array(names, dtype=object),
    "Series": pd.Series,
    "Series of strings": lambda names: pd.Series(names, dtype="string"),
    "Series of categories": lambda names: pd.Series(names, dtype="category"),
    "Index": pd.Index,
    "Categorical": pd.Categorical,
    "polars": pl.Series,
    "polars categories": lambda names: pl.Series(names, dtype=pl.Categorical),
    "polars Enum": lambda names: pl.Series(names, dtype=pl.Enum(NAMES)),
    "Arrow": pa.array,
    "Arrow in chunks": lambda names: pa.chunked_array([names[:1], names[1:]], type=pa.string()),
    "Arrow dictionary": lambda names: pa.array(names).dictionary_encode(),
}
TABLES = {
    "lists": lambda columns: [list(row) for row in zip(*columns.values(), strict=True)],
    "array": lambda columns: np.stack(list(columns.values()), 1),
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "Arrow": pa.table,
}
NUMBERS = {
    "list": list,
    "array": np.array,
    "unsigned": lambda numbers: np.array(numbers, np.uint64),
    "floats": lambda numbers: np.array(numbers, float),
    "objects": lambda numbers: np.array(numbers, object),
    "tensor": torch.tensor,
    "bfloat16": lambda numbers: torch.tensor(numbers, dtype=torch.bfloat16),
    "Series": pd.Series,
    "nullable": lambda numbers: pd.Series(numbers, dtype="Int64"),
    "polars": pl.Series,
    "Arrow": pa.array,
    "Arrow floats": lambda numbers: pa.array(numbers, pa.float64()),
}


@st.composite
def clustered(draw, kinds=2):
    """Clusters (N, 2), and several kinds of label in 0 .. 4, each (N,)."""
    N = draw(st.integers(1, 20))
    column = st.lists(st.integers(0, 4), min_size=N, max_size=N)
    clusters = np.stack([draw(column) for _ in range(2)], 1)
    return clusters, [draw(column) for _ in range(kinds)]


def assert_same(one, other):
    assert one.classes == other.classes
    for key in one.scores:
        np.testing.assert_array_equal(one.scores[key], other.scores[key], err_msg=key)
    if one.calibration is not None:
        np.testing.assert_array_equal(one.calibration_error, other.calibration_error)


@settings(max_examples=25)
@given(clustered(kinds=1), st.sampled_from(list(CONTAINERS)))
def test_scores_do_not_know_the_names_of_classes(data, kind):
    clusters, (y,) = data
    responsibilities = [np.eye(5)[c] for c in clusters.T]
    named = CONTAINERS[kind]([NAMES[k] for k in y])
    options = {"sizes": (5, 5), "responsibilities": responsibilities}
    assert_same(evaluate(clusters, named, **options), evaluate(clusters, np.array(y), **options))
    for score in (metrics.purity, metrics.nmi, metrics.ari, metrics.hungarian_accuracy, metrics.homogeneity):
        assert score(clusters[:, 0], named) == score(clusters[:, 0], y)
    np.testing.assert_array_equal(
        metrics.confusion(clusters[:, 0], named), metrics.confusion(clusters[:, 0], y)
    )
    assert Labels.of(named).classes == (tuple(NAMES[k] for k in sorted(set(y))),)


@settings(max_examples=25)
@given(clustered(), st.sampled_from(list(TABLES)))
def test_tables_have_a_kind_of_label_in_each_column(data, kind):
    clusters, labels = data
    table = TABLES[kind]({f"kind {f}": [NAMES[k] for k in y] for f, y in enumerate(labels)})
    result = evaluate(clusters, table)
    assert_same(result, evaluate(clusters, np.stack(labels, 1)))
    own = kind in ("pandas", "polars", "Arrow")
    assert result.label_names == (("kind 0", "kind 1") if own else ("label_0", "label_1"))
    assert evaluate(clusters, table, ["a", "b"]).label_names == ("a", "b")
    np.testing.assert_array_equal(
        metrics.score_table(clusters, table), metrics.score_table(clusters, np.stack(labels, 1))
    )


@settings(max_examples=25)
@given(clustered(kinds=1), st.sampled_from(list(NUMBERS)))
def test_numbers_of_any_type_are_the_same_classes(data, kind):
    clusters, (y,) = data
    labels = NUMBERS[kind](y)
    assert_same(evaluate(clusters, labels), evaluate(clusters, np.array(y)))
    assert Labels.of(labels).classes == (tuple(map(str, sorted(set(y)))),)


@settings(max_examples=25)
@given(clustered(kinds=1), st.permutations(range(5)))
def test_scores_are_the_same_in_another_order_of_the_classes(data, order):
    """All but the calibration, whose majorities of equally many data are those of the first class."""
    clusters, (y,) = data
    one, other = (evaluate(clusters, labels) for labels in (y, [NAMES[order[k]] for k in y]))
    for key in one.scores:
        np.testing.assert_allclose(one.scores[key], other.scores[key], atol=1e-12, err_msg=key)


def test_order_of_the_classes():
    def classes(values):
        return Labels.of(values).classes[0]

    assert classes([10, 9, -1]) == ("-1", "9", "10")
    assert classes(["10", "9", "b", "B"]) == ("10", "9", "B", "b")
    assert classes([True, False]) == classes(pd.Series([True, False], dtype="boolean")) == ("False", "True")
    assert classes([True, True]) == ("True",)
    assert classes(np.array([2.0**53, 0.0])) == ("0", str(2**53))
    sizes = ["small", "middle", "large"]
    for ordered in (False, True):
        values = pd.Series(pd.Categorical(["large", "small"], categories=sizes, ordered=ordered))
        assert classes(values) == ("small", "large")  # without what is not there
        assert Labels.of(values).codes.tolist() == [[1], [0]]
    assert classes(pd.Categorical(["large", "small"], categories=sizes)) == ("small", "large")
    assert classes(pl.Series(["large", "small"], dtype=pl.Enum(sizes))) == ("small", "large")
    assert classes(pd.Categorical([1, 3, 2], categories=[3, 2, 1])) == ("3", "2", "1")


def test_names_of_kinds():
    assert Labels.of(["a"]).names == Labels.of(pd.Series([1])).names == ("label",)
    assert Labels.of(pd.Series([1], name="sex")).names == Labels.of(pl.Series("sex", [1])).names == ("sex",)
    assert Labels.of(pd.DataFrame([[1, 2]])).names == ("0", "1")
    labels = Labels.of([[0, 1], [2, 3]], ["a", "b"])
    assert labels.kind(1).names == ("b",)
    assert labels.kind(1).classes == (("1", "3"),)
    assert Labels.of(labels) is not None
    assert Labels.of(labels).names == ("a", "b")
    assert Labels.of(labels, ["c", "d"]).names == ("c", "d")
    assert len(labels) == 2


def test_names_of_classes():
    shapes = ["cube", "cylinder", "sphere"]
    y = torch.tensor([[2, 7], [0, 9], [2, 7]])
    labels = Labels.of(y, {"shape": shapes, "hue": None})
    assert labels.names == ("shape", "hue")
    assert labels.classes == (("cube", "sphere"), ("7", "9"))
    assert labels.codes.tolist() == [[1, 0], [0, 1], [1, 0]]
    clusters = np.array([[0], [1], [1]])
    assert_same(evaluate(clusters, y, {"shape": shapes, "hue": None}), evaluate(clusters, y))
    assert evaluate(clusters, y, {"shape": shapes, "hue": None}).label_names == ("shape", "hue")
    for names, message in (
        ({"shape": shapes}, "names: got .* expected 2 different names"),
        ({"shape": shapes[:2], "hue": None}, r"names\['shape'\]: got 2 names for the labels 0, 2, .* 0 to 1"),
        ({"shape": ["a", "a", "b"], "hue": None}, r"names\['shape'\]: got .* expected different names"),
        ({"shape": "abc", "hue": None}, r"names\['shape'\]: got 'abc', expected different names"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            Labels.of(y, names)
    with pytest.raises(ValueError, match=r"^names\['shape'\]: got 3 names for the labels a, b, .* None"):
        Labels.of(["a", "b"], {"shape": shapes})


def test_matched_classes_have_their_names():
    matched = metrics.matched_confusion([3, 3, 9, 9, 4], ["a", "b", "a", "a", "b"])
    assert matched.classes.tolist() == ["a", "b"]
    assert matched.clusters.tolist() == [9, 3, 4]
    assert metrics.matched_confusion([0, 1], [7, 5]).classes.dtype == np.int64


@pytest.mark.parametrize(
    "labels",
    [
        ["a", "b", None, None],
        ["a", "b", float("nan"), "b"],
        [0, 1, None, 1],
        [0.0, 1.0, np.nan, 1.0],
        np.array(["a", "b", None, "b"], object),
        np.ma.masked_array([0, 1, 2, 3], [False, False, True, False]),
        torch.tensor([0.0, 1.0, torch.nan, 1.0]),
        pd.Series(["a", "b", None, "b"]),
        pd.Series([0, 1, pd.NA, 1], dtype="Int64"),
        pd.Series(["a", "b", None, "b"], dtype="category"),
        pd.Categorical(["a", "b", None, "b"]),
        pl.Series([0, 1, None, 1]),
        pl.Series([0.0, 1.0, float("nan"), 1.0]),
        pl.Series(["a", "b", None, "b"], dtype=pl.Categorical),
        pa.array(["a", "b", None, "b"]),
    ],
)
def test_missing_labels_are_for_the_user_to_leave_out(labels):
    with pytest.raises(ValueError, match=r"^labels: got none in row 2, the first of [12] such.*leave out"):
        evaluate(np.zeros((4, 1), int), labels)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (
            [0.5, 1.0],
            TypeError,
            "labels: got 0.5 in row 0, expected integers, whole numbers, boolean",
        ),
        ([0.0, np.inf], TypeError, "labels: got inf in row 1, expected integers"),
        (torch.tensor([0.0, 1.5]), TypeError, "labels: got 1.5 in row 1, expected integers"),
        ([1j, 2j], TypeError, "labels: got dtype complex128, expected integers"),
        (np.array(["2020-01-01", "2021-01-01"], "M8[D]"), TypeError, "labels: got dtype datetime64"),
        (["a", 1], TypeError, "labels: got values of type int, str, expected .* all of the same kind"),
        ([2**70, 1], TypeError, "labels: got values of type int, expected"),
        ([[1], [1, 2]], ValueError, "labels: got values that are no array .* make all rows equally long"),
        ([], ValueError, r"labels: got no data, shape \(0,\)"),
        (pd.Series([], dtype=int), ValueError, r"labels: got no data, shape \(0,\)"),
        (pd.DataFrame({"a": []}), ValueError, r"labels: got no data, shape \(0, 1\)"),
        ({"a": [1, 2]}, TypeError, r"labels: got a dict, expected labels \(N,\) or \(N, columns\); give an"),
        (7, TypeError, "labels: got a int, expected labels"),
        (np.zeros((2, 1, 1), int), ValueError, r"labels: got shape \(2, 1, 1\), expected \(N,\) or"),
        (pl.LazyFrame({"a": [1, 2]}), TypeError, "labels: got a LazyFrame, .*in memory"),
        (pd.DataFrame({"a": [1, 2], "b": [0.5, 1]}), TypeError, "labels, column 'b': got 0.5 in row 0"),
        (pl.DataFrame({"a": [1, 2], "b": ["x", None]}), ValueError, "labels, column 'b': got none in row 1"),
        (np.array([[0, 0.5], [1, 1]]), TypeError, "labels, column 1: got 0.5 in row 0"),
        ([0, 1, 2], ValueError, "clusters: got 2 rows and 3 of labels"),
    ],
)
def test_labels_that_are_refused(labels, error, message):
    with pytest.raises(error, match=f"^{message}"):
        evaluate(np.zeros((2, 1), int), labels)


def test_tables_are_only_read_where_there_are_some():
    text = "import sys, pyro_mfcvae, pyro_mfcvae.metrics.labels as l; l.Labels.of([1, 2]); " + "; ".join(
        f"assert {name!r} not in sys.modules" for name in ("narwhals", "polars")
    )
    subprocess.run([sys.executable, "-c", text], check=True)
