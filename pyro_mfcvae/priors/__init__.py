"""Priors of a facet: mixtures p(z) = sum_k p(c = k) p(z | c = k).

A prior is an ``nn.Module`` that gives the mixture weights and, for values of the discrete variable,
the components. What a configuration holds is a factory: any callable ``(clusters, latent_dim) ->
FacetPrior``, such as the frozen dataclass :class:`DiagonalGaussian`, or its name. The weights of a
mixture have factories of their own, ``(clusters) -> MixtureWeights``.
"""

from pyro_mfcvae.priors.base import FacetPrior, Mixture, PriorFactory
from pyro_mfcvae.priors.bayesian import BayesianGaussian, BayesianGaussianMixture
from pyro_mfcvae.priors.custom import DistributionPrior, as_prior
from pyro_mfcvae.priors.flow import Flow, FlowMixture
from pyro_mfcvae.priors.gaussian import (
    DiagonalGaussian,
    DiagonalGaussianMixture,
    FullGaussian,
    FullGaussianMixture,
    SphericalGaussian,
    SphericalGaussianMixture,
    TiedGaussian,
    TiedGaussianMixture,
)
from pyro_mfcvae.priors.hyper import HyperPriors
from pyro_mfcvae.priors.laplace import Laplace, LaplaceMixture
from pyro_mfcvae.priors.low_rank import LowRankGaussian, LowRankGaussianMixture
from pyro_mfcvae.priors.mixture import LocationScaleMixture, MixturePrior
from pyro_mfcvae.priors.standard import StandardNormal, StandardNormalPrior
from pyro_mfcvae.priors.student_t import StudentT, StudentTMixture
from pyro_mfcvae.priors.vamp import Vamp, VampPriorMixture
from pyro_mfcvae.priors.weights import (
    WEIGHTS,
    Learned,
    LogisticNormal,
    MixtureWeights,
    StickBreaking,
    Uniform,
    WeightsFactory,
)

__all__ = [
    "FACTORIES",
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

FACTORIES: dict[str, type] = {
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
    """List the names that ``Facet(prior=...)`` takes."""
    return tuple(FACTORIES)
