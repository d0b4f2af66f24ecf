"""Priors of a facet: mixtures p(z) = sum_k p(c = k) p(z | c = k).

A prior is an ``nn.Module`` that gives the mixture weights and, for values of the discrete variable,
the components. What a configuration holds is a recipe: any callable ``(clusters, latent_dim) ->
FacetPrior``, such as the frozen dataclass :class:`DiagonalGaussian`, or its name.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor, nn

PriorFactory = Callable[[int, int], "FacetPrior"]


class FacetPrior(nn.Module, ABC):
    """A mixture prior over one facet's latent.

    Subclasses give :meth:`weights` and :meth:`component`; the two methods of initialisation may be
    left as they are, and then the prior starts, and stays in warm-up, as constructed.

    Args:
        clusters: number of components K.
        latent_dim: dimension D of the latent.
    """

    def __init__(self, clusters: int, latent_dim: int) -> None:
        super().__init__()
        self.clusters = clusters
        self.latent_dim = latent_dim

    @abstractmethod
    def weights(self) -> dist.Distribution:
        """p(c), a categorical distribution over K values with batch shape ()."""

    @abstractmethod
    def component(self, c: Tensor) -> dist.Distribution:
        """p(z | c), batch shape that of the integer tensor ``c``, event shape (D,)."""

    def reset(self) -> None:
        """Make p(z) standard normal, for the warm-up of a facet."""
        return

    def initialize(self, embedding: np.ndarray, seed: int) -> None:
        """Fit the mixture to an embedding of the data.

        Args:
            embedding: latents, shape (N, D).
            seed: of the fit.
        """
        return


class DiagonalGaussianMixture(FacetPrior):
    r"""Mixture of Gaussians with diagonal covariance.

    .. math::
        p(c = k) = \pi_k, \qquad p(z \mid c = k) = N(z; \mu_k, \mathrm{diag}(\sigma_k^2))

    Constructed with every component standard normal and equal weights.

    Args:
        clusters: number of components K.
        latent_dim: dimension D of the latent.
        learn_weights: whether the mixture weights are learned; if not, they stay uniform.

    References:
        Falck et al. (2021), equation 1.
    """

    logits: Tensor

    def __init__(self, clusters: int, latent_dim: int, *, learn_weights: bool = True) -> None:
        super().__init__(clusters, latent_dim)
        self.learn_weights = learn_weights
        if learn_weights:
            self.logits = nn.Parameter(torch.zeros(clusters))
        else:
            self.register_buffer("logits", torch.zeros(clusters))
        self.loc = nn.Parameter(torch.zeros(clusters, latent_dim))
        self.log_scale = nn.Parameter(torch.zeros(clusters, latent_dim))

    def weights(self) -> dist.Distribution:
        """p(c), categorical over K values."""
        return dist.Categorical(logits=self.logits)

    def component(self, c: Tensor) -> dist.Distribution:
        """p(z | c): batch shape of ``c``, event shape (D,)."""
        return dist.Normal(self.loc[c], self.log_scale.exp()[c]).to_event(1)

    @torch.no_grad()
    def reset(self) -> None:
        """Make every component standard normal and all weights equal."""
        for parameter in (self.logits, self.loc, self.log_scale):
            parameter.zero_()

    @torch.no_grad()
    def initialize(self, embedding: np.ndarray, seed: int) -> None:
        """Fit means, variances and, if they are learned, weights, by expectation maximisation.

        Args:
            embedding: latents, shape (N, D), N >= K.
            seed: of the fit.
        """
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits

        mixture = GaussianMixture(
            self.clusters,
            covariance_type="diag",
            reg_covar=1e-4,
            max_iter=200,
            n_init=5,  # the likeliest of five is kept
            random_state=seed,
        )
        # One thread: sums in another order would make the same seed give another fit. EM that
        # stops at max_iter is good enough to start from.
        with threadpool_limits(1), _ignore_convergence():
            mixture.fit(embedding.astype(np.float64))
        if self.learn_weights:
            self.logits.copy_(torch.from_numpy(np.log(mixture.weights_)))
        self.loc.copy_(torch.from_numpy(mixture.means_))
        self.log_scale.copy_(torch.from_numpy(0.5 * np.log(mixture.covariances_)))


def _ignore_convergence() -> warnings.catch_warnings:
    from sklearn.exceptions import ConvergenceWarning

    return warnings.catch_warnings(action="ignore", category=ConvergenceWarning)


@dataclass(frozen=True)
class DiagonalGaussian:
    """Recipe of a :class:`DiagonalGaussianMixture`.

    Attributes:
        learn_weights: whether the mixture weights are learned; if not, they stay uniform.

    Example:
        >>> prior = DiagonalGaussian(learn_weights=False)(clusters=3, latent_dim=2)
        >>> prior.component(torch.arange(3)).batch_shape
        torch.Size([3])
    """

    learn_weights: bool = True

    def __call__(self, clusters: int, latent_dim: int) -> FacetPrior:
        """Build the prior of K = ``clusters`` components in D = ``latent_dim`` dimensions."""
        return DiagonalGaussianMixture(clusters, latent_dim, learn_weights=self.learn_weights)


RECIPES: dict[str, type] = {"diagonal_gaussian": DiagonalGaussian}


def available() -> tuple[str, ...]:
    """Names that ``Facet(prior=...)`` takes."""
    return tuple(RECIPES)
