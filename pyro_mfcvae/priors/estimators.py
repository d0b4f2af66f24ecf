"""Estimators of scikit-learn, fitted so that the same seed gives the same result."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import numpy as np

KMEANS_ITERATIONS = 10


class _Estimator(Protocol):
    def fit(self, data: np.ndarray, /) -> object: ...


E = TypeVar("E", bound=_Estimator)


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread, since sums in another order would make the same seed give another result."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def fit_estimator(estimator: E, z: np.ndarray) -> E:
    """Fit an estimator to data (N, D); one that stops at its last iteration is good enough to start from.

    Raises:
        FloatingPointError: if the data are not finite, or their scale leaves no precision.
    """
    from sklearn.exceptions import ConvergenceWarning

    with one_thread(), warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        try:
            estimator.fit(z)
        except ValueError as error:
            raise FloatingPointError(
                f"latents of {z.min():.3g} to {z.max():.3g} cannot be clustered: {error}"
            ) from error
    return estimator


def k_means(z: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Find clusters by a few iterations of k-means from one start, in time O(N K D).

    Args:
        z: data, shape (N, D), N >= K.
        clusters: number of clusters K.
        seed: seed of the start.

    Returns:
        Labels (N,) and centres (K, D). Some clusters are empty if fewer than K data are distinct.
    """
    from sklearn.cluster import KMeans

    fitted = fit_estimator(KMeans(clusters, n_init=1, max_iter=KMEANS_ITERATIONS, random_state=seed), z)
    return fitted.labels_, fitted.cluster_centers_
