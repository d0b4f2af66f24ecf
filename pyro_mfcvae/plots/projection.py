"""A facet's latent in two dimensions, with the components of its prior."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
import torch
from torch.distributions import Independent, LowRankMultivariateNormal, MultivariateNormal

from pyro_mfcvae._utils.turns import seeded
from pyro_mfcvae.plots.arguments import on_host
from pyro_mfcvae.plots.style import Array
from pyro_mfcvae.priors import FacetPrior

MOMENT_SAMPLES = 10_000  # of a component whose moments have no closed form
RIDGE = 1e-6  # of the mean variance, so that a covariance can be inverted


@dataclass(frozen=True)
class Components:
    """The mixture of a facet by its first two moments, not finite where a component has none.

    Attributes:
        weights: probabilities p(c), (K,).
        means: means (K, D).
        covariances: covariances (K, D, D).
    """

    weights: Array
    means: Array
    covariances: Array

    @classmethod
    @torch.no_grad()
    def of(cls, prior: FacetPrior) -> Components:
        """Compute the moments of a prior: exact for Gaussians and independent coordinates, else sampled."""
        weights = prior.weights().probs
        component = prior.component(torch.arange(prior.clusters, device=weights.device))
        base = component.base_dist if isinstance(component, Independent) else component
        if isinstance(base, MultivariateNormal | LowRankMultivariateNormal):
            means, covariances = component.mean, base.covariance_matrix
        elif isinstance(component, Independent) and not base.event_shape:
            means, covariances = component.mean, component.variance.diag_embed()
        else:
            with seeded(0, weights.device):
                z = component.sample(torch.Size([MOMENT_SAMPLES]))  # (S, K, D)
            means, centred = z.mean(0), z - z.mean(0)
            covariances = torch.einsum("skd,ske->kde", centred, centred) / (MOMENT_SAMPLES - 1)
            with contextlib.suppress(NotImplementedError):
                # What is known, infinity included, is better than what samples say.
                means, variances = component.mean, component.variance
                factors = (variances / covariances.diagonal(dim1=-2, dim2=-1)).sqrt()
                covariances = factors[:, :, None] * covariances * factors[:, None, :]
        return cls(*(on_host(moments).astype(np.float64) for moments in (weights, means, covariances)))

    @property
    def has_moments(self) -> Array:
        """Mask (K,) of the components that have a mean and a covariance."""
        is_finite = np.isfinite(self.means).all(-1) & np.isfinite(self.covariances).all((-2, -1))
        return np.asarray(is_finite)

    def projected(self, directions: Array) -> Components:
        """Project the components to the coordinates z @ directions, which is (D, 2)."""
        with np.errstate(invalid="ignore"):  # infinite ones
            covariances = directions.T @ self.covariances @ directions
        return Components(self.weights, self.means @ directions, covariances)


@dataclass(frozen=True)
class Projection:
    """Two coordinates of a latent.

    Attributes:
        directions: columns (D, 2); the coordinates are z @ directions.
        labels: labels of the two axes, with the share that they show.
    """

    directions: Array
    labels: tuple[str, str]


def separating(components: Components, z: Array) -> Projection:
    r"""Find the two directions that separate the components best; two dimensions are left as they are.

    .. math::
        B v = \lambda W v, \quad B = \sum_k \pi_k (\mu_k - \mu)(\mu_k - \mu)^\top, \quad
        W = \sum_k \pi_k \Sigma_k, \quad v^\top W v = 1

    They are Fisher's linear discriminants of the prior, so a unit is a standard deviation within
    components, and the labels have the share of :math:`\sum\lambda`. Without two components that have
    moments, the principal components of the latents z (N, D) take their place.
    """
    D = z.shape[1]
    if D == 2:
        return Projection(np.eye(2), ("latent, dimension 0", "latent, dimension 1"))
    known = components.has_moments
    if known.sum() < 2:
        return principal(z)
    from scipy.linalg import eigh

    weights = components.weights[known] / components.weights[known].sum()
    centred = components.means[known] - weights @ components.means[known]
    between = (weights[:, None] * centred).T @ centred
    within = np.einsum("k,kde->de", weights, components.covariances[known])
    within += RIDGE * np.trace(within) / D * np.eye(D)
    eigenvalues, directions = eigh(between, within)
    return _first_two(eigenvalues, directions, "discriminant", "of the separation")


def principal(z: Array) -> Projection:
    """Find the first two principal components of latents (N, D), D >= 2."""
    centred = z - z.mean(0)
    eigenvalues, directions = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
    return _first_two(eigenvalues, directions, "principal component", "of the variance")


def _first_two(eigenvalues: Array, directions: Array, name: str, of: str) -> Projection:
    """Take the largest two of ascending ones, with signs that do not depend on the solver."""
    directions = directions[:, :-3:-1]
    largest = np.take_along_axis(directions, abs(directions).argmax(0)[None], 0)
    shares = eigenvalues[:-3:-1] / max(eigenvalues.sum(), np.finfo(np.float64).tiny)
    first, second = (f"{name} {i + 1}: {100 * share:.0f} % {of}" for i, share in enumerate(shares))
    return Projection(directions * np.sign(largest), (first, second))
