"""Likelihoods p(x | z): what the decoder's output means, and which data are valid.

A likelihood is an ``nn.Module`` that turns the decoder's output into a distribution over x. What a
configuration holds is a factory: any callable ``(x_shape) -> Likelihood``, such as the frozen
dataclasses :class:`Bernoulli` and :class:`Gaussian`, or a name. All log densities are those of x
itself, in nats per datum, so that models of the same data with different likelihoods of the same kind
(densities, or probabilities) can be compared.
"""

from pyro_mfcvae.likelihoods.base import (
    ElementwiseFactory,
    ElementwiseLikelihood,
    Likelihood,
    LikelihoodFactory,
)
from pyro_mfcvae.likelihoods.bernoulli import Bernoulli, BernoulliLikelihood
from pyro_mfcvae.likelihoods.beta_binomial import BetaBinomial, BetaBinomialLikelihood
from pyro_mfcvae.likelihoods.categorical import Categorical, CategoricalLikelihood
from pyro_mfcvae.likelihoods.continuous_bernoulli import ContinuousBernoulli, ContinuousBernoulliLikelihood
from pyro_mfcvae.likelihoods.counts import (
    NegativeBinomial,
    NegativeBinomialLikelihood,
    Poisson,
    PoissonLikelihood,
)
from pyro_mfcvae.likelihoods.discretized_logistic import DiscretizedLogistic, DiscretizedLogisticLikelihood
from pyro_mfcvae.likelihoods.gaussian import Gaussian, GaussianLikelihood
from pyro_mfcvae.likelihoods.log_normal import LogNormal, LogNormalLikelihood
from pyro_mfcvae.likelihoods.missing import Observed
from pyro_mfcvae.likelihoods.mixed import Mixed, MixedLikelihood
from pyro_mfcvae.likelihoods.zero_inflated import (
    ZeroInflatedNegativeBinomial,
    ZeroInflatedNegativeBinomialLikelihood,
)

__all__ = [
    "FACTORIES",
    "Bernoulli",
    "BernoulliLikelihood",
    "BetaBinomial",
    "BetaBinomialLikelihood",
    "Categorical",
    "CategoricalLikelihood",
    "ContinuousBernoulli",
    "ContinuousBernoulliLikelihood",
    "DiscretizedLogistic",
    "DiscretizedLogisticLikelihood",
    "ElementwiseFactory",
    "ElementwiseLikelihood",
    "Gaussian",
    "GaussianLikelihood",
    "Likelihood",
    "LikelihoodFactory",
    "LogNormal",
    "LogNormalLikelihood",
    "Mixed",
    "MixedLikelihood",
    "NegativeBinomial",
    "NegativeBinomialLikelihood",
    "Observed",
    "Poisson",
    "PoissonLikelihood",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedNegativeBinomialLikelihood",
    "available",
]

FACTORIES: dict[str, type] = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "continuous_bernoulli": ContinuousBernoulli,
    "discretized_logistic": DiscretizedLogistic,
    "categorical": Categorical,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
    "zero_inflated_negative_binomial": ZeroInflatedNegativeBinomial,
    "beta_binomial": BetaBinomial,
    "log_normal": LogNormal,
    "mixed": Mixed,
}


def available() -> tuple[str, ...]:
    """List the names that ``MFCVAEConfig(likelihood=...)`` takes."""
    return tuple(FACTORIES)
