"""Dividing data at random."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyro_mfcvae._utils.checks import integer, number


def split_rows(
    N: int, test_fraction: float, seed: int, remedy: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Divide N rows at random into those to train on and those to test on, both ascending.

    Args:
        N: number of rows.
        test_fraction: share of the rows to test on, strictly between 0 and 1.
        seed: seed of the division, an integer from 0.
        remedy: remedy, beside another fraction, that would give both sides a row.

    Returns:
        Indices to train on and indices to test on.

    Raises:
        TypeError: ``test_fraction`` is no number, or ``seed`` no integer.
        ValueError: ``test_fraction`` is out of range or leaves a side empty, or ``seed`` is negative.
    """
    fraction = number("test_fraction", test_fraction, above=0, below=1, advice="try 0.2")
    seed = integer("seed", seed, 0, 2**63 - 1, advice="pass 0, 1, 2, ...")
    n_test = round(fraction * N)
    if not 0 < n_test < N:
        raise ValueError(
            f"test_fraction: got {test_fraction}, which of {N} leaves {N - n_test} to train and {n_test} to "
            f"test, expected at least one in each; choose another fraction or {remedy}"
        )
    order = np.random.default_rng(seed).permutation(N)
    return np.sort(order[n_test:]), np.sort(order[:n_test])
