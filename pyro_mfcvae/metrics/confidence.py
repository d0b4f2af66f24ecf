"""Confidence of a facet in its clusters, and its calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyro_mfcvae.metrics.contingency import Contingency, Counts, entropy
from pyro_mfcvae.metrics.inputs import Integers, Probabilities, probabilities, same_length
from pyro_mfcvae.metrics.labels import Coded, Labels, code


@dataclass(frozen=True, eq=False)
class Calibration:
    """Confidence and accuracy of one facet against one label, over all data and in B bins of confidence.

    The bins are the reliability curve: ``bin_accuracy`` against ``bin_confidence`` is the diagonal if the
    confidence is right, below it where the facet is too sure.

    Attributes:
        error: expected calibration error, in [0, 1].
        confidence: mean over the data of the largest responsibility.
        accuracy: share of the data whose cluster stands for their class.
        edges: edges of the bins, (B + 1,), from 0 to 1; each bin has its upper edge.
        bin_counts: data in each bin, int64 (B,).
        bin_confidence: mean confidence in each bin, (B,); NaN where there are no data.
        bin_accuracy: accuracy in each bin, (B,); NaN where there are no data.
    """

    error: float
    confidence: float
    accuracy: float
    edges: npt.NDArray[np.float64]
    bin_counts: Counts
    bin_confidence: npt.NDArray[np.float64]
    bin_accuracy: npt.NDArray[np.float64]


def mean_confidence(responsibilities: npt.ArrayLike) -> float:
    """Average the largest responsibility of every datum.

    1/N sum_n max_k r_nk

    >>> mean_confidence([[0.5, 0.5], [1.0, 0.0]])
    0.75

    Args:
        responsibilities: probability of every cluster for every datum, (N, K), as from ``predict_proba``.

    Returns:
        A number from 1/K to 1.

    Raises:
        TypeError: responsibilities are not numbers.
        ValueError: they have another shape, or do not sum to 1 for every datum.
    """
    r = probabilities(responsibilities, "responsibilities")
    return float(r.max(axis=1).mean(dtype=np.float64))


def sharpness(responsibilities: npt.ArrayLike) -> float:
    """Compute how much the clusters tell of data, as a share of what K clusters can tell.

    I(c; x) / log K,  I(c; x) = H(1/N sum_n r_n) - 1/N sum_n H(r_n)

    It is 1 for equally large clusters that are apart. It is less where a continuum is cut into pieces, since
    many data are on a border then, and where clusters are left empty, which the mean confidence does not see.

    >>> sharpness([[1.0, 0.0], [0.0, 1.0]]), sharpness([[0.5, 0.5], [0.5, 0.5]]), sharpness([[1.0], [1.0]])
    (1.0, 0.0, 0.0)

    Args:
        responsibilities: probability of every cluster for every datum, (N, K), as from ``predict_proba``.

    Returns:
        A number in [0, 1]; 0 if there is one cluster only.

    Raises:
        TypeError: responsibilities are not numbers.
        ValueError: they have another shape, or do not sum to 1 for every datum.

    Source:
        Bridle, Heading and MacKay, "Unsupervised classifiers, mutual information and phantom targets", 1991,
        for I(c; x).
    """
    r = probabilities(responsibilities, "responsibilities")
    K = r.shape[1]
    if K == 1:
        return 0.0
    left = -np.sum(r * np.log(r, out=np.zeros_like(r), where=r > 0), dtype=np.float64) / len(r)
    return float(np.clip((entropy(r.mean(axis=0, dtype=np.float64)) - left) / np.log(K), 0, 1))


def calibration(
    responsibilities: npt.ArrayLike, labels: object, *, bins: int = 15, seed: int = 0
) -> Calibration:
    r"""Compare the probability of the clusters with the frequency at which their class is right.

    .. math::
        \mathrm{ECE} = \sum_b \frac{n_b}{N} |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    over B bins of equal width. The confidence of a datum is its largest responsibility; it is right if
    the majority class of that cluster is its own. So that no datum has a say in what it is judged by, the
    data are cut into two random halves, and the majority classes for each half are those of the other. The
    accuracy is then that of new data, and not the purity, which is optimistic where clusters have few data.
    A cluster without data in the other half stands for no class. Where clusters share a class, data between
    them are rightly unsure of their cluster and yet of that class: this, too, counts as error.

    Args:
        responsibilities: probability of every cluster for every datum, (N, K), as from ``predict_proba``.
        labels: class of every datum, (N,), numbers or text.
        bins: number of bins B.
        seed: seed of the division into halves.

    Returns:
        The error, and the reliability curve.

    Raises:
        TypeError: responsibilities are not numbers, or labels no classes.
        ValueError: they have another shape, differ in length, or the responsibilities do not sum to 1 for
            every datum; or ``bins`` is not at least 1.

    Source:
        Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017.
    """
    r, y = probabilities(responsibilities, "responsibilities"), Labels.one(labels)
    same_length(r, y, "responsibilities")
    if bins < 1:
        raise ValueError(f"bins: got {bins}, expected an integer of at least 1")
    return calibrate(r.argmax(axis=1), r.max(axis=1), y.columns[0], bins, seed)


def calibrate(
    clusters: Integers, confidence: Probabilities, labels: Coded, bins: int = 15, seed: int = 0
) -> Calibration:
    """Compute `calibration` from clusters (N,) and the confidence in each (N,), which labels may share."""
    confidence = confidence.astype(np.float64).clip(max=1)
    right = _right(clusters, labels, seed)
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.searchsorted(edges[1:-1], confidence)  # (lower, upper]
    counts = np.bincount(bin_of, minlength=bins)
    sums = [np.bincount(bin_of, values, minlength=bins) for values in (confidence, right)]
    means = [np.divide(s, counts, out=np.full(bins, np.nan), where=counts > 0) for s in sums]
    return Calibration(
        error=float(np.abs(sums[0] - sums[1]).sum() / len(clusters)),
        confidence=float(confidence.mean()),
        accuracy=float(right.mean()),
        edges=edges,
        bin_counts=counts,
        bin_confidence=means[0],
        bin_accuracy=means[1],
    )


def _right(clusters: Integers, y: Coded, seed: int) -> npt.NDArray[np.bool_]:
    """Tell for each datum if its class is the majority class of its cluster in the other half, (N,)."""
    c = code(clusters)
    K, half = len(c.names), np.random.default_rng(seed).permutation(len(clusters)) % 2
    table = Contingency.count(Coded(np.arange(2 * K), half * K + c.codes), y)  # clusters of each half
    majority = np.full(2 * K, -1)
    majority[table.k[table.largest]] = table.l[table.largest]
    return np.asarray(majority[(1 - half) * K + c.codes] == y.codes)
