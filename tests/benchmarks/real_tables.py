"""Small tables of real data with known labels, from installed packages: nothing is downloaded."""

from __future__ import annotations

import importlib.util

import numpy as np
import numpy.typing as npt
from sklearn import datasets

Table = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], tuple[str, ...]]
MEASUREMENTS = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")


def penguins() -> Table:
    """Palmer's penguins: two partitions, species and sex, that both move all four measurements.

    Source: Horst, Hill and Gorman, "palmerpenguins: Palmer Archipelago (Antarctica) penguin data", 2020.

    Returns:
        The 333 complete rows (N, 4), bill length and depth and flipper length in mm and body mass in g;
        labels (N, 2), numbered in alphabetical order; and ("species", "sex").

    Raises:
        ImportError: the package palmerpenguins is not installed.
    """
    if importlib.util.find_spec("palmerpenguins") is None:
        raise ImportError("penguins: got no package palmerpenguins; pip install palmerpenguins")
    from palmerpenguins import load_penguins

    table = load_penguins().dropna()
    names = ("species", "sex")
    labels = [np.unique(table[name].to_numpy(dtype=str), return_inverse=True)[1] for name in names]
    x = table[list(MEASUREMENTS)].to_numpy(dtype=np.float32)
    return x, np.stack(labels, axis=1).astype(np.int64), names


def digits() -> Table:
    """scikit-learn's 1,797 handwritten digits: pixels (N, 64) from 0 to 16, labels (N, 1) and ("digit",)."""
    return _of_scikit_learn(datasets.load_digits(), "digit")


def wine() -> Table:
    """scikit-learn's 178 wines: 13 measurements (N, 13) in their units, labels (N, 1) and ("cultivar",)."""
    return _of_scikit_learn(datasets.load_wine(), "cultivar")


def _of_scikit_learn(data, name: str) -> Table:
    return data.data.astype(np.float32), data.target.astype(np.int64)[:, None], (name,)
