"""Mixtures of Laplace distributions."""

from __future__ import annotations

from dataclasses import dataclass

import pyro.distributions as dist
from torch import Tensor

from pyro_mfcvae.priors.mixture import DiagonalScaleMixture, LocationScaleFactory, standard_normal


class LaplaceMixture(DiagonalScaleMixture):
    r"""Mixture of Laplace distributions: clusters with a sharp centre, sparse about it.

    .. math::
        p(z \mid c = k) = \prod_d \frac{1}{2 b_{kd}} \exp\bigl(-|z_d - \mu_{kd}| / b_{kd}\bigr)

    The divergence of a normal distribution from it is in closed form. The arguments are those of
    :class:`LocationScaleMixture`.
    """

    unit_scale = 0.5**0.5

    def component(self, c: Tensor) -> dist.Distribution:
        """Return p(z | c): batch shape of ``c``, event shape (D,)."""
        if self.is_standard:
            return standard_normal(c, self.loc)
        return dist.Laplace(self.of(self.loc, c), self.of(self.scales(), c)).to_event(1)


@dataclass(frozen=True)
class Laplace(LocationScaleFactory):
    """Factory of a :class:`LaplaceMixture`; the attributes are those of its base."""

    prior = LaplaceMixture
