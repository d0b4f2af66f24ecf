r"""The logit u of a stick's proportion :math:`v \sim \mathrm{Beta}(1, \alpha)`.

In u a stick next to 0 or 1 is as well behaved as any, where the density of v overflows in float32, and
the divergence from a normal posterior of u needs one expectation only:

.. math::
    \mathrm{KL}\bigl(N(m, s^2) \,\|\, p(u)\bigr) =
    (1 + \alpha)\, E \log(1 + e^u) - m - \log \alpha - \tfrac12 \log(2 \pi e s^2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Normal, constraints, register_kl
from torch.nn import functional as F

NODES = 64  # of Gauss-Hermite quadrature


def gauss_hermite() -> Tensor:
    """Nodes and weights of Gauss-Hermite quadrature on the CPU, shape (2, NODES), in float64."""
    return torch.from_numpy(np.stack(np.polynomial.hermite.hermgauss(NODES)))


class LogitStick(TorchDistribution):  # type: ignore[misc]
    r"""Distribution of logit(v) for v ~ Beta(1, alpha).

    .. math:: p(u) = \alpha\, \sigma(u)\, \sigma(-u)^\alpha

    Args:
        concentration: parameter alpha, positive, shape (batch...).
        quadrature: :func:`gauss_hermite` on the device of alpha, for divergences that wait for no copy.
        validate_args: as in every distribution.
    """

    arg_constraints = {"concentration": constraints.positive}  # noqa: RUF012
    support = constraints.real
    has_rsample = True

    def __init__(
        self, concentration: Tensor, quadrature: Tensor | None = None, validate_args: bool | None = None
    ) -> None:
        self.concentration = concentration
        self.quadrature = quadrature
        super().__init__(concentration.shape, validate_args=validate_args)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> LogitStick:
        """Return the distribution with another batch shape."""
        alpha = self.concentration.expand(batch_shape)
        return LogitStick(alpha, self.quadrature, validate_args=self._validate_args)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """Sample by the inverse of the distribution function: -log(1 - v) is exponential."""
        shape = self._extended_shape(sample_shape)
        length = torch.empty(shape).to(self.concentration).exponential_() / self.concentration
        return length + torch.log(-torch.expm1(-length))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density in nats."""
        alpha = self.concentration
        return alpha.log() + F.logsigmoid(value) + alpha * F.logsigmoid(-value)


def mean_sigmoid(loc: Tensor, scale: Tensor, quadrature: Tensor | None = None) -> Tensor:
    """Compute E sigmoid(u) under u ~ Normal(loc, scale); the quadrature is as in :class:`LogitStick`."""
    return _expectation(torch.sigmoid, loc, scale, quadrature)


def _expectation(
    function: Callable[[Tensor], Tensor], loc: Tensor, scale: Tensor, quadrature: Tensor | None
) -> Tensor:
    """Compute E f(u) under u ~ Normal(loc, scale) by Gauss-Hermite quadrature."""
    nodes, weights = (gauss_hermite() if quadrature is None else quadrature).to(loc)
    u = loc.unsqueeze(-1) + math.sqrt(2) * scale.unsqueeze(-1) * nodes
    return cast(Tensor, (function(u) * weights).sum(-1) / math.sqrt(math.pi))


@register_kl(Normal, LogitStick)  # type: ignore[untyped-decorator]
def _kl_normal_logit_stick(q: Normal, p: LogitStick) -> Tensor:
    alpha = p.concentration
    softplus = _expectation(F.softplus, q.loc, q.scale, p.quadrature)
    return cast(Tensor, (1 + alpha) * softplus - q.loc - alpha.log() - q.entropy())
