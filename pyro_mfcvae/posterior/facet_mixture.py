"""A facet's mixture given its embedding: from a trained prior to the chains of a mixture of Gaussians."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch.distributions import Independent, LowRankMultivariateNormal, MultivariateNormal, Normal

from pyro_mfcvae.posterior.mcmc import MixturePosterior, sample_mixture
from pyro_mfcvae.posterior.mixture_density import Mixture
from pyro_mfcvae.priors import FacetPrior

Embedding = Literal["posterior", "sample", "mean"]


def check_embedding(embedding: str) -> None:
    """Raise a ValueError unless it is one of ``Embedding``."""
    if embedding not in get_args(Embedding):
        raise ValueError(f"embedding: got {embedding!r}, expected one of {get_args(Embedding)}")


def sample_facet_mixture(
    prior: FacetPrior,
    loc: np.ndarray,
    variance: np.ndarray,
    predicted: np.ndarray,
    *,
    embedding: Embedding,
    clusters: Sequence[int] | None,
    seed: int,
    **options: Any,
) -> MixturePosterior:
    """Draw from the posterior of a facet's mixture.

    Args:
        prior: prior of the facet, with Gaussian components.
        loc: means of q(z | x), shape (N, D).
        variance: variances of q(z | x), shape (N, D).
        predicted: most probable cluster of every datum, shape (N,).
        embedding: what of q(z | x) the mixture is given, as :meth:`FittedMFCVAE.sample_mixture` explains.
        clusters: clusters that the mixture has; None takes those that are predicted for some datum.
        seed: seed of the chains, and of the draw from q(z | x).
        **options: further arguments of :func:`sample_mixture`.

    Raises:
        ValueError: for a cluster that does not exist, or components that are not Gaussian.
    """
    chosen = np.unique(predicted) if clusters is None else np.asarray(clusters, dtype=np.int64)
    if chosen.ndim != 1 or not len(chosen) or not set(chosen) <= set(range(prior.clusters)):
        raise ValueError(f"clusters: got {clusters!r}, expected some of 0 .. {prior.clusters - 1}")
    if embedding == "sample":
        loc = loc + np.sqrt(variance) * np.random.default_rng(seed).standard_normal(loc.shape)
    return sample_mixture(
        loc,
        gaussian_mixture(prior, chosen),
        variances=variance if embedding == "posterior" else None,
        seed=seed,
        clusters=tuple(chosen.tolist()),
        **options,
    )


@torch.no_grad()
def gaussian_mixture(prior: FacetPrior, clusters: np.ndarray) -> Mixture:
    """Take some components of a prior as arrays.

    Args:
        prior: prior with Gaussian components.
        clusters: their indices, shape (K,).

    Raises:
        ValueError: if the components are not Gaussian.
    """
    weights = prior.weights().probs.cpu().double().numpy()[clusters]
    component = prior.component(torch.from_numpy(clusters).to(prior.weights().probs.device))
    base = component.base_dist if isinstance(component, Independent) else component
    if isinstance(base, Normal):
        covariances = component.variance
    elif isinstance(base, MultivariateNormal | LowRankMultivariateNormal):
        covariances = base.covariance_matrix
    else:
        raise ValueError(
            f"facet: its components are {type(base).__name__}, expected Gaussian ones; give the facet a "
            "Gaussian prior"
        )
    means, covariances = (tensor.cpu().double().numpy() for tensor in (component.mean, covariances))
    return Mixture(weights / weights.sum(), means, covariances)
