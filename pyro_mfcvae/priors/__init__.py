"""Priors of a facet: mixtures p(z) = sum_k p(c = k) p(z | c = k).

A prior is an ``nn.Module`` that gives the mixture weights and, for values of the discrete variable,
the components. What a configuration holds is a recipe: any callable ``(clusters, latent_dim) ->
FacetPrior``, such as the frozen dataclass :class:`DiagonalGaussian`, or its name.
"""

from .base import FacetPrior, Mixture, PriorFactory
from .bayesian import BayesianGaussian, BayesianGaussianMixture
from .gaussian import (
    DiagonalGaussian,
    DiagonalGaussianMixture,
    FullGaussian,
    FullGaussianMixture,
    GaussianMixturePrior,
)
from .hyper import HyperPriors

__all__ = [
    "RECIPES",
    "BayesianGaussian",
    "BayesianGaussianMixture",
    "DiagonalGaussian",
    "DiagonalGaussianMixture",
    "FacetPrior",
    "FullGaussian",
    "FullGaussianMixture",
    "GaussianMixturePrior",
    "HyperPriors",
    "Mixture",
    "PriorFactory",
    "available",
]

RECIPES: dict[str, type] = {
    "diagonal_gaussian": DiagonalGaussian,
    "full_gaussian": FullGaussian,
    "bayesian_gaussian": BayesianGaussian,
}


def available() -> tuple[str, ...]:
    """Names that ``Facet(prior=...)`` takes."""
    return tuple(RECIPES)
