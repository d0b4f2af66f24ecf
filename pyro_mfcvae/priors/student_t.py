"""Mixtures of Student's t distributions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_mfcvae.priors.mixture import (
    DiagonalScaleMixture,
    LocationScaleFactory,
    LocationScaleOptions,
    standard_normal,
)

MIN_DF = 2.05  # above two there is a variance
START_DF = 6.0


class StudentTMixture(DiagonalScaleMixture):
    r"""Mixture of Student's t distributions: clusters with heavy tails, that outliers do not distort.

    .. math::
        p(z \mid c = k) = t_{\nu_k}(z; \mu_k, \mathrm{diag}(\sigma_k^2)), \qquad
        \nu_k = \mathrm{softplus}(n_k) + 2.05

    The divergence of a normal distribution from it has no closed form, and is estimated.

    Args:
        clusters: number of components K.
        latent_dim: dimension D of the latent.
        **options: those of :class:`LocationScaleMixture`.

    References:
        D. Peel, G. J. McLachlan (2000). Robust mixture modelling using the t distribution.
    """

    unit_scale = ((START_DF - 2) / START_DF) ** 0.5

    def __init__(self, clusters: int, latent_dim: int, **options: Unpack[LocationScaleOptions]) -> None:
        super().__init__(clusters, latent_dim, **options)
        self.raw_df = nn.Parameter(torch.full((clusters,), float(np.log(np.expm1(START_DF - MIN_DF)))))

    def component(self, c: Tensor) -> dist.Distribution:
        """Return p(z | c): batch shape of ``c``, event shape (D,)."""
        if self.is_standard:
            return standard_normal(c, self.loc)
        df = F.softplus(self.raw_df) + MIN_DF
        factors = self.of(self.scales().diag_embed(), c)
        return dist.MultivariateStudentT(self.of(df, c), self.of(self.loc, c), factors)


@dataclass(frozen=True)
class StudentT(LocationScaleFactory):
    """Factory of a :class:`StudentTMixture`; the attributes are those of its base."""

    prior = StudentTMixture
