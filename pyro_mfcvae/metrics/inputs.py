"""Checks of what the metrics take: integers, labels and responsibilities."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pyro_mfcvae.metrics.labels import Coded, Labels, code

Integers = npt.NDArray[np.integer]
Probabilities = npt.NDArray[np.floating]

TOLERANCE = 1e-2  # of the sum of a datum's responsibilities, which may come from a bfloat16 network


def integers(values: npt.ArrayLike, name: str, *ndims: int) -> Integers:
    """Check that values are integers with one of the given numbers of dimensions.

    Args:
        values: an array, a tensor or nested lists.
        name: argument that error messages name.
        *ndims: 1 for (N,), 2 for (N, J), or both.

    Returns:
        The values as an integer array; booleans become 0 and 1.

    Raises:
        TypeError: values are not integers.
        ValueError: values are empty, or have another number of dimensions.
    """
    array = _array(values)
    if array.size == 0:
        raise ValueError(f"{name}: got no data, shape {array.shape}, expected at least one datum")
    if array.dtype.kind not in "bui":
        raise TypeError(
            f"{name}: got dtype {array.dtype}, expected integers; cast whole numbers with "
            ".astype(int), code names with np.unique(names, return_inverse=True)[1], "
            "and leave out data where they are unknown"
        )
    if array.ndim not in ndims:
        expected = " or ".join({1: "(N,)", 2: "(N, columns)"}[ndim] for ndim in ndims)
        remedy = "use reshape(-1, 1)" if array.ndim < min(ndims) else "select columns, or use ravel"
        raise ValueError(f"{name}: got shape {array.shape}, expected {expected}; {remedy}")
    return array.astype(np.int64) if array.dtype.kind == "b" else array


def columns(values: npt.ArrayLike, name: str) -> Integers:
    """Check that values are integers (N,) or (N, columns); the first become one column."""
    array = integers(values, name, 1, 2)
    return array.reshape(len(array), -1)


def pair(clusters: npt.ArrayLike, labels: object) -> tuple[Coded, Coded]:
    """Check that clusters, integers (N,), and labels (N,) of any kind have one length, and number them."""
    c, y = integers(clusters, "clusters", 1), Labels.one(labels)
    same_length(c, y, "clusters")
    return code(c), y.columns[0]


def same_length(c: Sized, y: Sized, name: str, other: str = "labels") -> None:
    """Check that two arguments, ``name`` and ``other``, have a row for each of the same data."""
    if len(c) != len(y):
        raise ValueError(
            f"{name}: got {len(c)} rows and {len(y)} of {other}, expected one of each for every datum; "
            "take both from the same data"
        )


def probabilities(values: npt.ArrayLike, name: str) -> Probabilities:
    """Check that values are probabilities (N, K), which sum to 1 for every datum."""
    array = _array(values)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(
            f"{name}: got shape {array.shape}, expected (N, K) with at least one datum; give the "
            "responsibilities of one facet, as in predict_proba(x)[0]"
        )
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name}: got dtype {array.dtype}, expected numbers, the probabilities q(c | x)")
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    total = array.sum(axis=1, dtype=np.float64)
    if not (array.min() >= 0 and np.abs(total - 1).max() <= TOLERANCE):  # also for NaN
        raise ValueError(
            f"{name}: got values {array.min():g} .. {array.max():g} and sums {total.min():g} .. "
            f"{total.max():g} over the clusters, expected probabilities that sum to 1 for every datum"
        )
    return array


def _array(values: npt.ArrayLike) -> npt.NDArray[Any]:
    return np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
