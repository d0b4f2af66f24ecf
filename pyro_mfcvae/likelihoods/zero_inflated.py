"""Counts with more zeros than their mean and variance explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions.constraints import Constraint
from torch.nn import functional as F

from pyro_mfcvae.likelihoods.base import Likelihood
from pyro_mfcvae.likelihoods.counts import Exposure, NegativeBinomial, NegativeBinomialLikelihood
from pyro_mfcvae.likelihoods.positive import Learn

START = -2.0  # logit of the gate where the decoder says nothing: zeros are first left to the rate


class _ZeroInflated(dist.TorchDistribution):  # type: ignore[misc]
    """Counts of a distribution, or with some probability zero.

    Pyro's own cannot be expanded once it was sampled, and loses digits where gates are near zero.

    Args:
        base: distribution of counts, event shape ().
        gate: logits of the probability of zero, of the base's batch shape.
    """

    arg_constraints: dict[str, Constraint] = {}  # noqa: RUF012
    support = dist.constraints.nonnegative_integer

    def __init__(self, base: dist.TorchDistribution, gate: Tensor) -> None:
        self.base, self.gate = base, gate
        super().__init__(base.batch_shape, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> dist.Distribution:
        """Return the distribution with another batch shape."""
        return _ZeroInflated(self.base.expand(batch_shape), self.gate.expand(batch_shape))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Sample counts."""
        counts: Tensor = self.base.sample(sample_shape)
        return counts * torch.bernoulli((-self.gate).sigmoid().expand(counts.shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p in nats."""
        log_prob: Tensor = self.base.log_prob(value) + F.logsigmoid(-self.gate)
        of_zero = torch.logaddexp(F.logsigmoid(self.gate), log_prob)
        return torch.where(value == 0, of_zero, log_prob)


class ZeroInflatedNegativeBinomialLikelihood(NegativeBinomialLikelihood):
    r"""Counts that are zero with probability :math:`\pi_d`, and else those of a negative binomial.

    .. math::
        p(x_d|z) = \pi_d\, [x_d = 0] + (1 - \pi_d)\, \mathrm{NB}(x_d; \lambda_d, r_d)

    The decoder gives the logit of each :math:`\pi_d` beside the rate.

    Args:
        x_shape: shape of one datum.
        total_count: number r, positive.
        learn: scope in which r is learned, as :class:`NegativeBinomial` has it.
        missing: whether elements of x may be NaN.
        exposure: None, or ``"total"``.

    References:
        Lopez, Regier, Cole, Jordan, Yosef (2018), Deep Generative Modeling for Single-Cell Transcriptomics.
    """

    family = "zero-inflated negative binomial"

    def __init__(
        self,
        x_shape: tuple[int, ...],
        total_count: float,
        learn: Learn,
        missing: bool = False,
        exposure: Exposure = None,
    ) -> None:
        super().__init__(x_shape, total_count, learn, missing, exposure)
        self.num_features += 1

    def elements(self, features: Tensor) -> dist.Distribution:
        r"""Return zero-inflated negative binomial distributions, (N, *x_shape)."""
        return _ZeroInflated(super().elements(features), self._gate(features))

    def mean(self, features: Tensor) -> Tensor:
        r"""Return the rates times the probability that a count is not an extra zero, (N, *x_shape)."""
        return self.rate(features) * (-self._gate(features)).sigmoid()

    def _gate(self, features: Tensor) -> Tensor:
        return self.planes(features)[-1] + START


@dataclass(frozen=True)
class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """Factory of a :class:`ZeroInflatedNegativeBinomialLikelihood`, for counts with many zeros.

    Attributes:
        total_count: number r, as :class:`NegativeBinomial` has it.
        learn: scope in which r is learned, as :class:`NegativeBinomial` has it.
        exposure: None, or ``"total"`` where how much was counted of a datum should not matter.
        missing: whether elements of x may be NaN.

    Raises:
        ValueError: for an r that is not positive, or too small to learn, or another exposure.
    """

    def __call__(self, x_shape: tuple[int, ...]) -> Likelihood:
        r"""Build the likelihood for data of shape (N, *x_shape)."""
        return ZeroInflatedNegativeBinomialLikelihood(
            x_shape, self.total_count, self.learn, self.missing, self.exposure
        )
