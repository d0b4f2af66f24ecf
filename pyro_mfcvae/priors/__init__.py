"""Priors of a facet: mixtures p(z) = sum_k p(c = k) p(z | c = k).

A prior is an ``nn.Module`` that gives the mixture weights and, for values of the discrete variable,
the components. What a configuration holds is a recipe: any callable ``(clusters, latent_dim) ->
FacetPrior``, such as the frozen dataclass :class:`DiagonalGaussian`, or its name. The weights of a
mixture have recipes of their own, ``(clusters) -> MixtureWeights``.
"""

from .base import FacetPrior, Mixture, PriorFactory
from .bayesian import BayesianGaussian, BayesianGaussianMixture
from .custom import DistributionPrior, as_prior
from .flow import Flow, FlowMixture
from .gaussian import (
    DiagonalGaussian,
    DiagonalGaussianMixture,
    FullGaussian,
    FullGaussianMixture,
    SphericalGaussian,
    SphericalGaussianMixture,
    TiedGaussian,
    TiedGaussianMixture,
)
from .hyper import HyperPriors
from .laplace import Laplace, LaplaceMixture
from .low_rank import LowRankGaussian, LowRankGaussianMixture
from .mixture import LocationScaleMixture, MixturePrior
from .standard import StandardNormal, StandardNormalPrior
from .student_t import StudentT, StudentTMixture
from .vamp import Vamp, VampPriorMixture
from .weights import (
    WEIGHTS,
    Learned,
    LogisticNormal,
    MixtureWeights,
    StickBreaking,
    Uniform,
    WeightsFactory,
)

__all__ = [
    "RECIPES",
    "WEIGHTS",
    "BayesianGaussian",
    "BayesianGaussianMixture",
    "DiagonalGaussian",
    "DiagonalGaussianMixture",
    "DistributionPrior",
    "FacetPrior",
    "Flow",
    "FlowMixture",
    "FullGaussian",
    "FullGaussianMixture",
    "HyperPriors",
    "Laplace",
    "LaplaceMixture",
    "Learned",
    "LocationScaleMixture",
    "LogisticNormal",
    "LowRankGaussian",
    "LowRankGaussianMixture",
    "Mixture",
    "MixturePrior",
    "MixtureWeights",
    "PriorFactory",
    "SphericalGaussian",
    "SphericalGaussianMixture",
    "StandardNormal",
    "StandardNormalPrior",
    "StickBreaking",
    "StudentT",
    "StudentTMixture",
    "TiedGaussian",
    "TiedGaussianMixture",
    "Uniform",
    "Vamp",
    "VampPriorMixture",
    "WeightsFactory",
    "as_prior",
    "available",
]

RECIPES: dict[str, type] = {
    "diagonal_gaussian": DiagonalGaussian,
    "full_gaussian": FullGaussian,
    "spherical_gaussian": SphericalGaussian,
    "tied_gaussian": TiedGaussian,
    "low_rank_gaussian": LowRankGaussian,
    "student_t": StudentT,
    "laplace": Laplace,
    "flow": Flow,
    "vamp": Vamp,
    "standard_normal": StandardNormal,
    "bayesian_gaussian": BayesianGaussian,
}


def available() -> tuple[str, ...]:
    """Names that ``Facet(prior=...)`` takes."""
    return tuple(RECIPES)
