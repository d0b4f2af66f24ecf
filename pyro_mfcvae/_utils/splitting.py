"""Dividing data at random."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from pyro_mfcvae._utils.checks import check_int


def split_rows(
    N: int, test_fraction: float, seed: int, remedy: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Divide N rows at random into those to train on and those to test on, both ascending.

    Args:
        N: number of rows.
        test_fraction: share of the rows to test on, strictly between 0 and 1.
        seed: seed of the division, an int from 0.
        remedy: what, beside another fraction, would give both sides a row.

    Returns:
        Indices to train on and indices to test on.

    Raises:
        TypeError: ``test_fraction`` is no number, or ``seed`` no int.
        ValueError: ``test_fraction`` is out of range or leaves a side empty, or ``seed`` is negative.
    """
    given: Any = test_fraction
    if isinstance(given, bool) or not isinstance(given, Real):
        kind = type(given).__name__
        raise TypeError(f"test_fraction must be a number, got {given!r} ({kind}); try 0.2")
    if not 0.0 < test_fraction < 1.0:
        raise ValueError(f"test_fraction must be between 0 and 1, got {given}; try 0.2")
    seed = check_int("seed", seed, 0, 2**63 - 1, "pass 0, 1, 2, ...")
    n_test = round(test_fraction * N)
    if not 0 < n_test < N:
        raise ValueError(
            f"test_fraction={test_fraction} of {N} leaves {N - n_test} to train and {n_test} to "
            f"test, expected at least one in each; choose another fraction or {remedy}"
        )
    order = np.random.default_rng(seed).permutation(N)
    return np.sort(order[n_test:]), np.sort(order[:n_test])
