"""Means and standard deviations, as numbers and as text."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def mean_and_sd(values: npt.ArrayLike, digits: int) -> str:
    """Mean and standard deviation as text; of one value, the value.

    >>> mean_and_sd([1.0, 2.0], 2), mean_and_sd([1.0], 2)
    ('1.50 +- 0.71', '1.00')
    """
    v = np.asarray(values, dtype=np.float64)
    mean = f"{v.mean():z.{digits}f}"
    return mean if len(v) == 1 else f"{mean} +- {sd(v):.{digits}f}"


def sd(values: Floats) -> Floats:
    """Standard deviation along the first axis; NaN where it has one entry, of which NumPy would warn."""
    if len(values) == 1:
        return np.full(values.shape[1:], np.nan)
    return np.asarray(values.std(0, ddof=1))


def over(number: int, what: str) -> str:
    """Say what a mean and standard deviation are over; of one, that there is one."""
    return f"1 {what}" if number == 1 else f"mean +- standard deviation over {number} {what}s"
