"""Data with several independent partitions, as many and as fine as wanted."""

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from pyro_mfcvae._utils.checks import integer, integers, number, one_of
from pyro_mfcvae.datasets.labelled import LabelledData

__all__ = ["make_facets"]

Array = npt.NDArray[np.float64]

KINDS = ("subspaces", "patches")
CANDIDATES = 8  # to choose each centre from
WAVES = 4  # that a pattern is the sum of


def make_facets(
    clusters: Sequence[int] = (4, 3),
    n: int = 1000,
    *,
    kind: Literal["subspaces", "patches"] = "subspaces",
    size: int | Sequence[int] | None = None,
    extra_dims: int = 0,
    separation: float | None = None,
    noise: float = 0.05,
    seed: int = 0,
) -> LabelledData:
    r"""Draw data with J independent partitions, facet j of which has K_j clusters.

    A datum is the sum of one centre for each facet and of noise,

        x = \sum_j m_{j, y_j} + noise * e,    e ~ Normal(0, I),

    where the centres of different facets are orthogonal. For ``kind="subspaces"`` x is a vector, and
    facet j's centres lie in a subspace of its own, turned at random. For ``kind="patches"`` x is a
    grey image on a square grid of patches, and facet j shows one of K_j smooth random patterns in
    patch j, row by row, about a grey of 0.5; patches left over show noise only, and values are
    clipped to [0, 1].

    The labels of a facet are a random permutation of equally many (give or take one) of every
    cluster, drawn for each facet anew. The same seed gives the same centres for any ``n``; to test
    on data apart from those of training, use `LabelledData.split`.

    >>> data = make_facets((5, 2, 3), n=100, extra_dims=4)
    >>> data.x.shape, data.labels.shape, data.label_names
    (torch.Size([100, 10]), torch.Size([100, 3]), ('facet 0', 'facet 1', 'facet 2'))
    >>> make_facets((5, 2), n=100, kind="patches").x.shape
    torch.Size([100, 1, 32, 32])

    Args:
        clusters: number of clusters K_j of each of the J facets.
        n: number of data, at least the largest K_j.
        kind: "subspaces" or "patches".
        size: dimension of the facets' subspaces (default 2), one for all or one for each facet; or
            the side of a patch in pixels (default 16), one for all.
        extra_dims: for "subspaces", dimensions that hold noise only.
        separation: smallest distance between two centres of a facet, in units of ``noise``; default 10,
            or 30 for "patches", whose many pixels add noise but no distance. Where the centres are
            known, the noise takes a datum from one to another at this distance with probability
            Phi(-separation / 2): 0.16 for 2, 0.02 for 4, 0.001 for 6.
        noise: standard deviation of the noise, in every direction.
        seed: seed of everything random, an int from 0.

    Returns:
        x, float32, (n, D) with D the sum of all dimensions or (n, 1, S, S) in [0, 1], and labels,
        int64 (n, J), named "facet 0", "facet 1", ...

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range; there are fewer data than clusters; the patterns
            would have to leave [0, 1] to be that far apart; or an argument is for the other kind.
    """
    one_of("kind", kind, KINDS)
    advice = "give the clusters of each facet, as in (4, 3)"
    clusters = integers("clusters", clusters, 1, 2**20, advice=advice)
    n = integer("n", n, max(clusters), 2**40, advice="pass at least one datum for every cluster")
    if separation is None:
        separation = 10.0 if kind == "subspaces" else 30.0
    separation = number("separation", separation, above=0, advice="try 10.0")
    noise = number("noise", noise, above=0, advice="try 0.05")
    extra_dims = integer("extra_dims", extra_dims, 0, 2**20, advice="pass a number of dimensions")
    rng = np.random.default_rng(integer("seed", seed, 0, 2**63 - 1, advice="pass 0, 1, 2, ..."))
    distance = separation * noise

    if kind == "subspaces":
        dims = _check_sizes(size, len(clusters))
        centres = _subspace_centres(clusters, dims, extra_dims, distance, rng)
        x, labels = _draw(centres, n, noise, rng)
    else:
        if extra_dims:
            raise ValueError(
                f"extra_dims: got {extra_dims} with kind='patches', expected 0; leave it out, or use "
                "kind='subspaces'"
            )
        advice = "pass the side of a patch in pixels"
        side = integer("size", 16 if size is None else size, 2, 256, advice=advice)
        centres = _patch_centres(clusters, side, distance, rng)
        x, labels = _draw(centres, n, noise, rng)
        width = side * _grid(len(clusters))
        x = np.clip(0.5 + x, 0.0, 1.0).reshape(n, 1, width, width)
    names = tuple(f"facet {j}" for j in range(len(clusters)))
    return LabelledData(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(labels), names)


def _draw(
    centres: Sequence[Array], n: int, noise: float, rng: np.random.Generator
) -> tuple[Array, npt.NDArray[np.int64]]:
    """Draw data (n, D) and labels (n, J) for J arrays of centres (K_j, D)."""
    labels = np.stack([rng.permutation(np.arange(n) % len(m)) for m in centres], axis=1)
    x = noise * rng.standard_normal((n, centres[0].shape[1]))
    for j, m in enumerate(centres):
        x += m[labels[:, j]]
    return x, labels


def _subspace_centres(
    clusters: Sequence[int],
    dims: Sequence[int],
    extra_dims: int,
    distance: float,
    rng: np.random.Generator,
) -> list[Array]:
    """Draw the centres (K_j, D) of each facet, in orthogonal subspaces of dimension D_j."""
    D = sum(dims) + extra_dims
    # The factor Q of a Gaussian matrix turns uniformly once the signs of R's diagonal are made one.
    q, r = np.linalg.qr(rng.standard_normal((D, D)))
    axes = np.split((q * np.sign(np.diag(r))).T, np.cumsum(dims))
    found = []
    for K, d, axis in zip(clusters, dims, axes, strict=False):
        centres = _far_apart(rng.uniform(-1.0, 1.0, (CANDIDATES * K, d)), K)
        scale = distance / _smallest_distance(centres)
        found.append(np.matmul(scale * (centres - centres.mean(0)), axis))
    return found


def _patch_centres(
    clusters: Sequence[int], side: int, distance: float, rng: np.random.Generator
) -> list[Array]:
    """Draw the centres (K_j, S * S) of each facet, other than 0 in its own patch only."""
    grid = _grid(len(clusters))
    found = []
    for j, K in enumerate(clusters):
        patterns = _far_apart(_patterns(CANDIDATES * K, side, rng), K)
        contrast = distance / _smallest_distance(patterns)
        if contrast > 0.5:
            raise ValueError(
                f"separation: got {distance:.3g} after multiplying it by noise, expected at most "
                f"{distance * 0.5 / contrast:.3g} for {K} patterns of {side} x {side} pixels in [0, 1]; "
                "lower noise or separation, or raise size"
            )
        images = np.zeros((K, grid, side, grid, side))
        images[:, j // grid, :, j % grid] = contrast * patterns.reshape(K, side, side)
        found.append(images.reshape(K, -1))
    return found


def _patterns(number: int, side: int, rng: np.random.Generator) -> Array:
    """Draw sums of few plane waves, from -1 to 1, (number, side * side)."""
    place = np.linspace(0.0, 1.0, side)
    frequency = rng.uniform(-3.0, 3.0, (2, WAVES, number, 1, 1))
    phase = rng.uniform(0.0, 2.0 * np.pi, (WAVES, number, 1, 1))
    total = np.zeros((number, side, side))
    for u, v, start in zip(*frequency, phase, strict=True):
        total += np.sin(2.0 * np.pi * (u * place[:, None] + v * place) + start)
    total /= np.abs(total).max((1, 2), keepdims=True)
    return total.reshape(number, -1)


def _grid(J: int) -> int:
    """Return the side of the smallest square grid of J patches."""
    return int(np.ceil(np.sqrt(J)))


def _far_apart(candidates: Array, K: int) -> Array:
    """Choose K of the candidates (M, D): the first, and then always the one farthest from those chosen."""
    chosen = [0]
    nearest = np.linalg.norm(candidates - candidates[0], axis=1)
    for _ in range(K - 1):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(candidates - candidates[chosen[-1]], axis=1))
    return candidates[chosen]


def _smallest_distance(centres: Array) -> float:
    """Return the smallest distance of two of the centres (K, D); infinite if there is one only."""
    pairs = itertools.combinations(centres, 2)
    return min((float(np.linalg.norm(a - b)) for a, b in pairs), default=np.inf)


def _check_sizes(size: object, J: int) -> tuple[int, ...]:
    """Return the dimension of each facet's subspace."""
    advice = "give the dimension of the subspaces, as in 2 or (2, 3)"
    if size is None or not isinstance(size, Sequence | np.ndarray):
        return (integer("size", 2 if size is None else size, 1, 2**20, advice=advice),) * J
    sizes = integers("size", size, 1, 2**20, advice=advice)
    if len(sizes) != J:
        raise ValueError(f"size: got {size!r}, expected 1 number or {J}, one for each facet; {advice}")
    return sizes
