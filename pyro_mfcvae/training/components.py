"""Independent components of data: directions that are as independent as single directions can be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyro_mfcvae.priors.estimators import fit_estimator, one_thread

Floats = npt.NDArray[np.float64]

MAX_DIMENSIONS = 30  # of which independent components are looked for
STARTS = 3  # of the search for a rotation; the likeliest is taken
NEGENTROPY_OF_A_NORMAL = 0.374567  # E log cosh of a standard normal


def independent_components(
    x: Floats, dimensions: int, seed: int = 0, *, explained: float = 1.0, starts: int = 1
) -> Floats:
    r"""Find directions of the data whose coordinates are about independent.

    Principal components whiten the data, and FastICA turns them. Of several starts that is taken whose
    coordinates are farthest from normal, by Hyvärinen's approximation of their negentropies,

    .. math:: \sum_i \bigl(E \log\cosh s_i - E \log\cosh \nu\bigr)^2, \qquad \nu \sim N(0, 1).

    Args:
        x: data, shape (N, D).
        dimensions: number of principal components, at most; never more than ``MAX_DIMENSIONS``.
        seed: seed of the search.
        explained: fraction of the variance that the principal components have together, at least.
        starts: number of rotations that the search starts from.

    Returns:
        Directions U, shape (D, p), p <= ``dimensions``: the coordinates x U have a variance of one and do not
        correlate; p = 0 where the data are constant.

    References:
        Hyvärinen, Oja (2000), Independent Component Analysis: Algorithms and Applications.
    """
    from sklearn.decomposition import PCA

    if not np.ptp(x, axis=0).any():  # constant
        return np.empty((x.shape[1], 0))
    p = min(dimensions, MAX_DIMENSIONS, *x.shape)
    with one_thread():
        pca = PCA(p, random_state=seed).fit(x)
        variances = pca.explained_variance_
        before = np.cumsum(pca.explained_variance_ratio_) - pca.explained_variance_ratio_
        found = (variances > 1e-12 * variances.max()) & (before < explained)
        axes: Floats = pca.components_[found].T / np.sqrt(variances[found])  # (D, p), which whiten
        if axes.shape[1] < 2:
            return axes
        white = (x - pca.mean_) @ axes
        rotations = [_rotation(white, seed + start) for start in range(starts)]
        turned: Floats = axes @ max(rotations, key=lambda rotation: _negentropy(white @ rotation))
        return turned


def _rotation(white: Floats, seed: int) -> Floats:
    """Return directions (p, p) of white data (N, p), as the columns of a rotation."""
    from sklearn.decomposition import FastICA

    ica = fit_estimator(FastICA(whiten=False, max_iter=500, tol=1e-3, random_state=seed), white)
    rotation: Floats = ica.components_.T
    return rotation


def _negentropy(s: Floats) -> float:
    """Approximate the sum of the negentropies of coordinates (N, p), up to a factor."""
    return float(((np.log(np.cosh(s)).mean(0) - NEGENTROPY_OF_A_NORMAL) ** 2).sum())
