"""Data with several independent partitions, as many and as fine as wanted, and as clean or as real."""

import itertools
import math
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
SHARED = 2  # factors that correlate the noise
LAYERS = 3  # that bend the data


def make_facets(
    clusters: Sequence[int] = (4, 3),
    n: int = 1000,
    *,
    kind: Literal["subspaces", "patches"] = "subspaces",
    size: int | Sequence[int] | None = None,
    extra_dims: int = 0,
    separation: float | None = None,
    noise: float = 0.05,
    nuisance: int = 0,
    correlation: float = 0.0,
    tails: float | None = None,
    heteroscedastic: float = 1.0,
    bend: float = 0.0,
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

    Real data have more, which the arguments from ``nuisance`` on add, each by itself or together:

        x = b(\sum_j m_{j, y_j} + \sum_l [cos(2 pi u_l) p_l + sin(2 pi u_l) q_l] + noise * e),
        e = s * [sqrt(1 - correlation) g + sqrt(correlation) W h] / sqrt(v / (tails - 2)).

    The nuisance factors u_l ~ Uniform(0, 1) have no clusters: each moves the data round a ring, whose
    vectors p_l and q_l span a plane of its own, orthogonal to all else; or it is the phase of a wave
    in a patch of its own, after the facets'. A ring is as far from its centre as the facets' centres
    are from theirs, in root mean square (a wave stays in [0, 1]). In the noise, g ~ Normal(0, I_D) and
    h ~ Normal(0, I_2), the rows of W (D, 2) are of length one, s (D,) has a mean square of one, and
    v ~ ChiSquared(tails), one for each datum, makes e Student's t with covariance as before. The map b
    repeats x -> x + bend * r * B sin(A x / r + t) three times with random rotations A and B and phases
    t, where r is the root mean square of x's columns; it is invertible (Behrmann et al., "Invertible
    residual networks", ICML 2019), and at 0.9 a tenth of the variance between clusters is no sum of
    the facets' parts.

    The labels of a facet are a random permutation of equally many (give or take one) of every
    cluster, drawn for each facet anew. The same seed gives the same m, p, q, s, W and b for any ``n``,
    and other noise or bending leaves the rest as it is; to test on data apart from those of training,
    use `LabelledData.split`.

    >>> data = make_facets((5, 2, 3), n=100, extra_dims=4)
    >>> data.x.shape, data.labels.shape, data.label_names
    (torch.Size([100, 10]), torch.Size([100, 3]), ('facet 0', 'facet 1', 'facet 2'))
    >>> make_facets((5, 2), n=100, kind="patches").x.shape
    torch.Size([100, 1, 32, 32])
    >>> data = make_facets((5, 2), n=100, nuisance=1, correlation=0.5, tails=4, bend=0.5)
    >>> data.x.shape, data.nuisance.shape
    (torch.Size([100, 6]), torch.Size([100, 1]))

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
            Phi(-separation / 2): 0.16 for 2, 0.02 for 4, 0.001 for 6, if the noise is as simple as it
            is unless asked otherwise.
        noise: standard deviation of the noise, in every direction; with ``heteroscedastic``, the root
            of its mean square over the columns.
        nuisance: number of continuous factors that move the data as well, each in two dimensions, or
            in a patch, of its own.
        correlation: share in [0, 1) of every column's noise variance that comes from two factors h
            common to all columns.
        tails: degrees of freedom, above 2, of Student noise; None for Gaussian noise.
        heteroscedastic: largest ratio of the noise levels s of two columns or pixels, from 1; their
            logarithms are uniform.
        bend: for "subspaces", how strongly in [0, 1) a smooth random map b bends the data; 0 for none.
        seed: seed of everything random, an int from 0.

    Returns:
        x, float32, (n, D) with D the sum of all dimensions or (n, 1, S, S) in [0, 1]; labels, int64
        (n, J), named "facet 0", "facet 1", ...; and the values u of the nuisance factors, float32
        (n, nuisance).

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
    nuisance = integer("nuisance", nuisance, 0, 2**10, advice="pass a number of factors")
    correlation = number("correlation", correlation, least=0, below=1, advice="try 0.5")
    if tails is not None:
        tails = number("tails", tails, above=2, advice="try 4, or None for Gaussian noise")
    heteroscedastic = number("heteroscedastic", heteroscedastic, least=1, advice="try 4.0")
    bend = number("bend", bend, least=0, below=1, advice="try 0.5")
    seed = integer("seed", seed, 0, 2**63 - 1, advice="pass 0, 1, 2, ...")
    # What is added draws from streams of its own, so that all else stays as it is.
    rng = np.random.default_rng(seed)
    of_rings, of_noise, of_bend = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(3))
    distance = separation * noise

    if kind == "subspaces":
        dims = _check_sizes(size, len(clusters))
        centres, rings = _subspace_centres(clusters, dims, nuisance, extra_dims, distance, rng)
    else:
        _refuse_for_patches(extra_dims=extra_dims, bend=bend)
        advice = "pass the side of a patch in pixels"
        side = integer("size", 16 if size is None else size, 2, 256, advice=advice)
        centres = _patch_centres(clusters, side, _grid(len(clusters) + nuisance), distance, rng)
        rings = _waves(nuisance, len(clusters), side, of_rings)
    radius = _spread(centres) or distance  # of rings, if no facet has two clusters
    if kind == "patches":
        radius = min(radius, 0.5 * side / np.sqrt(2.0))  # a contrast of 0.5
    rings *= radius

    labels = np.stack([rng.permutation(np.arange(n) % K) for K in clusters], axis=1)
    e = rng.standard_normal((n, rings.shape[2]))
    x = noise * _shape_noise(e, correlation, tails, heteroscedastic, of_noise)
    for m, y in zip(centres, labels.T, strict=True):
        x += m[y]
    u = of_rings.uniform(size=(n, nuisance))
    for (p, q), turn in zip(rings, 2.0 * np.pi * u.T, strict=True):
        x += np.outer(np.cos(turn), p) + np.outer(np.sin(turn), q)
    if bend:
        variance = len(centres) * _spread(centres) ** 2 + nuisance * radius**2
        x = _bend(x, bend, np.sqrt(variance / x.shape[1] + noise**2), of_bend)
    if kind == "patches":
        width = side * _grid(len(clusters) + nuisance)
        x = np.clip(0.5 + x, 0.0, 1.0).reshape(n, 1, width, width)
    names = tuple(f"facet {j}" for j in range(len(clusters)))
    inputs, values = (torch.from_numpy(each.astype(np.float32)) for each in (x, u))
    return LabelledData(inputs, torch.from_numpy(labels), names, values)


def _subspace_centres(
    clusters: Sequence[int],
    dims: Sequence[int],
    nuisance: int,
    extra_dims: int,
    distance: float,
    rng: np.random.Generator,
) -> tuple[list[Array], Array]:
    """Draw the centres (K_j, D) of each facet, in orthogonal subspaces of dimension D_j, and unit rings."""
    D = sum(dims) + 2 * nuisance + extra_dims
    *axes, left = np.split(_rotation(D, rng), np.cumsum(dims))
    found = []
    for K, d, axis in zip(clusters, dims, axes, strict=True):
        centres = _far_apart(rng.uniform(-1.0, 1.0, (CANDIDATES * K, d)), K)
        scale = distance / _smallest_distance(centres)
        found.append(np.matmul(scale * (centres - centres.mean(0)), axis))
    return found, left[: 2 * nuisance].reshape(nuisance, 2, D)


def _patch_centres(
    clusters: Sequence[int], side: int, grid: int, distance: float, rng: np.random.Generator
) -> list[Array]:
    """Draw the centres (K_j, S * S) of each facet, other than 0 in its own patch only."""
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
        found.append(_place(contrast * patterns, j, grid))
    return found


def _waves(nuisance: int, first: int, side: int, rng: np.random.Generator) -> Array:
    """Draw a cosine and a sine wave for each factor, in patches from the first, (nuisance, 2, S * S).

    Their squared norms add up to 2, so whatever the phase a wave's is 1, on average.
    """
    grid = _grid(first + nuisance)
    place = np.linspace(0.0, 1.0, side)
    length = rng.uniform(1.0, 2.0, nuisance)  # waves in a patch
    direction = rng.uniform(0.0, 2.0 * np.pi, nuisance)
    rings = np.zeros((nuisance, 2, (grid * side) ** 2))
    for i, (u, v) in enumerate(zip(length * np.cos(direction), length * np.sin(direction), strict=True)):
        phase = 2.0 * np.pi * (u * place[:, None] + v * place).ravel()
        waves = np.sqrt(2.0) / side * np.stack([np.cos(phase), np.sin(phase)])
        rings[i] = _place(waves, first + i, grid)
    return rings


def _place(patterns: Array, j: int, grid: int) -> Array:
    """Show patterns (M, side * side) in patch j of images (M, S * S) that are 0 elsewhere."""
    side = math.isqrt(patterns.shape[1])
    images = np.zeros((len(patterns), grid, side, grid, side))
    images[:, j // grid, :, j % grid] = patterns.reshape(-1, side, side)
    return images.reshape(len(patterns), -1)


def _shape_noise(
    e: Array, correlation: float, tails: float | None, heteroscedastic: float, rng: np.random.Generator
) -> Array:
    """Give standard normal noise (n, D) correlations, tails and levels; its mean square stays one."""
    n, D = e.shape
    levels = heteroscedastic ** rng.uniform(-0.5, 0.5, D)
    levels /= np.sqrt(np.mean(levels**2))
    loadings = rng.standard_normal((SHARED, D))
    loadings /= np.linalg.norm(loadings, axis=0)
    common = np.matmul(rng.standard_normal((n, SHARED)), loadings)
    e = levels * (np.sqrt(1.0 - correlation) * e + np.sqrt(correlation) * common)
    if tails is not None:
        e *= np.sqrt((tails - 2.0) / rng.chisquare(tails, (n, 1)))
    return e


def _bend(x: Array, strength: float, size: float, rng: np.random.Generator) -> Array:
    """Send data (n, D), whose entries are of this size, through a residual network with random weights.

    Rotations lengthen nothing and sines have slopes of at most one, so a layer moves two data towards
    each other by less than their distance: it is invertible.
    """
    D = x.shape[1]
    for _ in range(LAYERS):
        inner, outer, phase = _rotation(D, rng), _rotation(D, rng), rng.uniform(0.0, 2.0 * np.pi, D)
        x = x + strength * size * np.matmul(np.sin(np.matmul(x, inner) / size + phase), outer)
    return x


def _rotation(D: int, rng: np.random.Generator) -> Array:
    """Draw a rotation or reflection (D, D), all alike probable."""
    # The factor Q of a Gaussian matrix is uniform once the signs of R's diagonal are made one.
    q, r = np.linalg.qr(rng.standard_normal((D, D)))
    return (q * np.sign(np.diag(r))).T


def _spread(centres: Sequence[Array]) -> float:
    """Return the root mean square distance of a facet's centres from their mean, over all facets."""
    return float(np.sqrt(np.mean([m.var(0).sum() for m in centres])))


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


def _refuse_for_patches(**arguments: float) -> None:
    for name, value in arguments.items():
        if value:
            raise ValueError(
                f"{name}: got {value} with kind='patches', expected 0; leave it out, or use kind='subspaces'"
            )


def _check_sizes(size: object, J: int) -> tuple[int, ...]:
    """Return the dimension of each facet's subspace."""
    advice = "give the dimension of the subspaces, as in 2 or (2, 3)"
    if size is None or not isinstance(size, Sequence | np.ndarray):
        return (integer("size", 2 if size is None else size, 1, 2**20, advice=advice),) * J
    sizes = integers("size", size, 1, 2**20, advice=advice)
    if len(sizes) != J:
        raise ValueError(f"size: got {size!r}, expected 1 number or {J}, one for each facet; {advice}")
    return sizes
