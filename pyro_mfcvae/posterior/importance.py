r"""Importance sampling of log p(x) with the guide as proposal, and how far to trust it.

.. math::
    \log p(x) \approx \log \frac1S \sum_s w_s, \qquad
    w_s = \frac{p(x|z_s) \prod_j p(z_{j,s})}{\prod_j q(z_{j,s}|x)}, \qquad z_s \sim q(z|x)

with the discrete variables summed out of :math:`p(z_j) = \sum_k \pi_{jk} p(z_j|c_j=k)`.

References:
    Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders, arXiv:1509.00519.
    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling, JMLR 25.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_mfcvae._utils.checks import integer
from pyro_mfcvae.data.memmap import StoredRows
from pyro_mfcvae.model.mfcvae import MFCVAE
from pyro_mfcvae.priors import FacetPrior

Floats = npt.NDArray[np.float64]

PASS = 512  # data times particles that are decoded at a time
MIN_PARTICLES = 25  # fewer leave less than five weights in the tail, too few to fit a distribution to


@dataclass(frozen=True)
class Particles:
    """Some samples of q(z | x) for a batch of data.

    Attributes:
        z: latents of each of the J facets and, last, of the nuisance if there is one, shape (P, N, D_j).
        features: what the decoder makes of them, shape (P, N, *x_shape).
        log_likelihood: log p(x | z), in nats, shape (P, N).
        log_weights: log p(x, z) - log q(z | x), in nats, shape (P, N).
    """

    z: list[Tensor]
    features: Tensor
    log_likelihood: Tensor
    log_weights: Tensor


@dataclass(frozen=True)
class Bounds:
    """Lower bounds of log p(x) for each of N data, in nats.

    Attributes:
        elbo: the ELBO, its expectation of log p(x | z) estimated by the particles.
        log_likelihood: the importance-weighted estimate of log p(x).
        pareto_k: shape of the tail of the weights; NaN for fewer than 25 particles.
    """

    elbo: Floats
    log_likelihood: Floats
    pareto_k: Floats


def log_mixture(prior: FacetPrior, z: Tensor) -> Tensor:
    r"""Density of a facet's prior with its discrete variable summed out: log sum_k pi_k p(z | c=k).

    Args:
        prior: prior of the facet.
        z: latents, shape (..., D).

    Returns:
        Nats, shape (...).
    """
    weights = prior.weights()
    c = weights.enumerate_support().reshape(-1, *(1,) * (z.ndim - 1))  # (K, 1, ...)
    log_joint: Tensor = weights.log_prob(c) + prior.component(c).log_prob(z)  # (K, ...)
    return log_joint.logsumexp(0)


@torch.no_grad()
def particles(model: MFCVAE, x: Tensor, num_particles: int) -> Iterator[Particles]:
    r"""Samples of q(z | x) with their weights, a few at a time: memory does not grow with their number.

    Args:
        model: the model.
        x: a batch of data (N, *x_shape), on the model's device.
        num_particles: number of samples S for each datum.

    Yields:
        Some of the S samples; they draw from PyTorch's global generator.
    """
    q = model.encode(x)
    size = max(1, PASS // len(x))
    for start in range(0, num_particles, size):
        yield _particles(model, q, x, min(size, num_particles - start))


def _particles(model: MFCVAE, q: list[dist.Distribution], x: Tensor, number: int) -> Particles:
    z = [q_j.sample(torch.Size([number])) for q_j in q]
    features = model.decode(z)
    log_likelihood = model.likelihood.given(x)(features).log_prob(x)
    log_weights = log_likelihood
    for prior, q_j, z_j in zip(model.latent_priors, q, z, strict=True):
        log_weights = log_weights + log_mixture(prior, z_j) - q_j.log_prob(z_j)
    return Particles(z, features, log_likelihood, log_weights)


@torch.no_grad()
def bounds(model: MFCVAE, x: Tensor | StoredRows, num_particles: int) -> Bounds:
    r"""ELBO, importance-weighted log-likelihood and Pareto k of each datum, all from the same samples.

    Args:
        model: the model.
        x: data (N, *x_shape), on any device; they are taken in blocks.
        num_particles: number of samples S for each datum.

    Returns:
        All three, each (N,); the samples are drawn from PyTorch's global generator.

    Raises:
        ValueError: if ``num_particles`` is not an integer of at least 1.
    """
    num_particles = integer("num_particles", num_particles, least=1)
    blocks = [_block_bounds(model, block.to(model.device), num_particles) for block in x.split(PASS)]
    return Bounds(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def _block_bounds(model: MFCVAE, x: Tensor, num_particles: int) -> tuple[Floats, Floats, Floats]:
    tail = _tail_size(num_particles) + 1  # the largest weight below the tail is its threshold
    elbo = torch.stack(model.elbo_terms(x).latents).cpu().double().sum(0)
    total = torch.full((len(x),), -math.inf, dtype=torch.float64)
    largest = torch.empty(0, len(x), dtype=torch.float64)
    for some in particles(model, x, num_particles):
        log_weights = some.log_weights.cpu().double()
        elbo += some.log_likelihood.cpu().double().sum(0) / num_particles
        total = torch.logaddexp(total, log_weights.logsumexp(0))
        candidates = torch.cat([largest, log_weights])
        largest = candidates.topk(min(tail, len(candidates)), dim=0).values
    k = np.full(len(x), np.nan)
    if num_particles >= MIN_PARTICLES:
        k = np.array([_tail_shape(weights) for weights in largest.numpy().T])
    return elbo.numpy(), (total - math.log(num_particles)).numpy(), k


def pareto_k(log_weights: npt.ArrayLike) -> Floats:
    r"""Shape k of a generalised Pareto distribution fitted to the largest weights.

    Weights have about 1/k finite moments. Below 0.7 their mean can be trusted; above, a few of them
    dominate it, and more samples help little.

    Args:
        log_weights: logarithms of the weights, of any scale, shape (S, ...), S >= 25.

    Returns:
        One k for each column, shape (...): 1, 2, ... are heavy tails; -inf says that all of the largest
        are equal.

    Raises:
        ValueError: if there are fewer than 25 weights.

    References:
        Vehtari et al. (2024), equation 9; Zhang and Stephens (2009) for the fit. The same figure as that of
        ``arviz.psislw``, whose argument has another sign in ArviZ 1.
    """
    values = np.asarray(log_weights, dtype=np.float64)
    if values.ndim == 0 or len(values) < MIN_PARTICLES:
        raise ValueError(
            f"log_weights: got shape {values.shape}, expected (S, ...) with at least {MIN_PARTICLES} weights"
        )
    size = _tail_size(len(values)) + 1
    largest = np.sort(values, axis=0)[: -size - 1 : -1]
    return np.apply_along_axis(_tail_shape, 0, largest)


def _tail_size(num_particles: int) -> int:
    return math.ceil(min(num_particles / 5, 3 * math.sqrt(num_particles)))


def _tail_shape(largest: Floats) -> float:
    """The shape k, for the largest of the log weights in descending order; the last is the threshold."""
    excess = np.exp(largest - largest[0])
    excess = (excess - excess[-1])[-2::-1]  # ascending
    excess = excess[excess > 0]
    if len(excess) < 5:  # ties
        return -math.inf if len(excess) == 0 else math.inf
    n = len(excess)
    m = 30 + int(n**0.5)
    b = 1 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))
    b = b / (3 * excess[int(n / 4 + 0.5) - 1]) + 1 / excess[-1]
    k = np.log1p(-b[:, None] * excess).mean(1)
    fit = n * (np.log(-b / k) - k - 1)
    weight = np.exp(fit - fit.max())
    shape = np.log1p(-(b @ weight) / weight.sum() * excess).mean()
    return float((n * shape + 5) / (n + 10))  # a weak prior: ten data with a shape of one half
