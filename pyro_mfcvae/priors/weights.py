"""Weights of a mixture, p(c): the part that every mixture prior has, whatever its components are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_mfcvae._utils.checks import number, set_checked
from pyro_mfcvae.priors.sticks import LogitStick, gauss_hermite, mean_sigmoid

WeightsFactory = Callable[[int], "MixtureWeights"]
MIN_PROBABILITY = 1e-6  # of a cluster, where the logarithm of an estimated one is taken


class MixtureWeights(nn.Module, ABC):
    """A distribution over the K values of a discrete variable, or over such distributions.

    Args:
        clusters: number of values K.
    """

    concentration: float | None = None  # of a Dirichlet process, whose clusters may stay empty

    def __init__(self, clusters: int) -> None:
        super().__init__()
        self.clusters = clusters

    @abstractmethod
    def forward(self) -> dist.Distribution:
        """Return p(c), a categorical distribution with batch shape ()."""

    @abstractmethod
    def initialize(self, probs: np.ndarray, n: int) -> None:
        """Start from the weights (K,) of a mixture that was fitted to n data; n = 0 is before any data."""

    @property
    def has_globals(self) -> bool:
        """True if the weights are a latent variable, with a prior and a variational posterior."""
        return False

    def sample_globals(self, name: str) -> dist.Distribution:
        """Return p(c) given the latent variable that is sampled here; site names begin with ``name``."""
        return self()

    def guide(self, name: str) -> None:
        """Sample, in the guide, what :meth:`sample_globals` samples."""
        return


class LearnedWeights(MixtureWeights):
    r"""Weights as parameters.

    .. math:: p(c = k) = \mathrm{softmax}(\eta)_k
    """

    def __init__(self, clusters: int) -> None:
        super().__init__(clusters)
        self.logits = nn.Parameter(torch.zeros(clusters))

    def forward(self) -> dist.Distribution:
        """Return p(c)."""
        return dist.Categorical(logits=self.logits)

    @torch.no_grad()
    def initialize(self, probs: np.ndarray, n: int) -> None:
        """Take these weights."""
        self.logits.copy_(torch.from_numpy(np.log(probs) if n else np.zeros(self.clusters)))


class UniformWeights(MixtureWeights):
    r"""Fixed weights, :math:`p(c = k) = 1 / K`."""

    logits: Tensor

    def __init__(self, clusters: int) -> None:
        super().__init__(clusters)
        self.register_buffer("logits", torch.zeros(clusters))

    def forward(self) -> dist.Distribution:
        """Return p(c)."""
        return dist.Categorical(logits=self.logits)

    def initialize(self, probs: np.ndarray, n: int) -> None:
        """Stay uniform."""
        return


class _LatentWeights(MixtureWeights):
    r"""Weights that are a function of latent :math:`u`, with the guide :math:`N(m, \mathrm{diag}(s^2))`.

    ``size`` is the number of latents, and ``suffix`` what their site's name ends with.
    """

    suffix: str

    def __init__(self, clusters: int, size: int) -> None:
        super().__init__(clusters)
        self.loc = nn.Parameter(torch.zeros(size))
        self.log_scale = nn.Parameter(torch.zeros(size))

    @property
    def has_globals(self) -> bool:
        """A single weight is one, and needs no latent variable."""
        return self.clusters > 1

    @abstractmethod
    def latent(self) -> dist.Distribution:
        """Return p(u)."""

    @abstractmethod
    def given(self, u: Tensor) -> dist.Distribution:
        """Return p(c | u)."""

    def sample_globals(self, name: str) -> dist.Distribution:
        """Return p(c | u) at a sample of u."""
        if not self.has_globals:
            return self()
        return self.given(pyro.sample(f"{name}_{self.suffix}", self.latent()))

    def guide(self, name: str) -> None:
        """Sample from q(u), whose KL divergence from p(u) ``FacetELBO`` takes in closed form."""
        if self.has_globals:
            q = dist.Normal(self.loc, self.log_scale.exp()).to_event(1)
            pyro.sample(f"{name}_{self.suffix}", q, infer={"collapse_kl": True})

    def _set(self, loc: np.ndarray, scale: np.ndarray) -> None:
        with torch.no_grad():
            self.loc.copy_(torch.from_numpy(loc))
            self.log_scale.copy_(torch.from_numpy(np.log(scale)))


class LogisticNormalWeights(_LatentWeights):
    r"""Weights with a logistic-normal prior, which holds them back from extremes.

    .. math:: u \sim N(0, \sigma^2 I), \quad p(c = k \mid u) = \mathrm{softmax}(u)_k, \qquad
        q(u) = N(m, \mathrm{diag}(s^2))

    Outside of inference the weights are those at the posterior mean, softmax(m).

    Args:
        clusters: number of values K.
        scale: standard deviation of the prior.

    References:
        J. Aitchison, S. M. Shen (1980). Logistic-normal distributions: some properties and uses.
    """

    suffix = "logits"

    def __init__(self, clusters: int, scale: float = 1.0) -> None:
        super().__init__(clusters, clusters)
        self.scale = scale
        self.initialize(np.full(clusters, 1 / clusters), 0)

    def forward(self) -> dist.Distribution:
        """Return p(c) at the posterior mean of u."""
        return self.given(self.loc)

    def latent(self) -> dist.Distribution:
        """Return p(u), event shape (K,)."""
        return dist.Normal(torch.zeros_like(self.loc), self.loc.new_full((), self.scale)).to_event(1)

    def given(self, u: Tensor) -> dist.Distribution:
        """Return p(c | u), for u (..., K)."""
        return dist.Categorical(logits=u)

    def initialize(self, probs: np.ndarray, n: int) -> None:
        """Take a posterior about these weights, as sure as n data make it; the prior if there are none."""
        logits = np.log(probs.clip(MIN_PROBABILITY))
        self._set(logits - logits.mean(), (n * probs + self.scale**-2.0) ** -0.5)


class StickBreakingWeights(_LatentWeights):
    r"""Weights of a Dirichlet process, truncated at K: as many clusters as the data ask for.

    .. math:: v_k \sim \mathrm{Beta}(1, \alpha), \quad
        p(c = k \mid v) = v_k \prod_{i < k} (1 - v_i), \quad v_K = 1, \qquad
        q(v) = \prod_k \mathrm{LogitNormal}(v_k; m_k, s_k^2)

    Outside of inference the weights are their posterior means, :math:`E[v_k] \prod_{i<k} E[1 - v_i]`.

    Args:
        clusters: the truncation K, more than there may be clusters.
        concentration: parameter alpha; the larger, the more clusters are expected.

    References:
        J. Sethuraman (1994). A constructive definition of Dirichlet priors.
        D. M. Blei, M. I. Jordan (2006). Variational inference for Dirichlet process mixtures.
        E. Nalisnick, P. Smyth (2017). Stick-breaking variational autoencoders.
    """

    suffix = "sticks"
    concentration: float
    quadrature: Tensor

    def __init__(self, clusters: int, concentration: float = 1.0) -> None:
        super().__init__(clusters, clusters - 1)
        self.concentration = concentration
        self.register_buffer("quadrature", gauss_hermite(), persistent=False)
        self.initialize(np.full(clusters, 1 / clusters), 0)

    def forward(self) -> dist.Distribution:
        """Return p(c) with c's weights at their posterior means."""
        scale = self.log_scale.exp()
        broken, kept = (mean_sigmoid(loc, scale, self.quadrature) for loc in (self.loc, -self.loc))
        return dist.Categorical(logits=_break_stick(broken.log(), kept.log()))

    def latent(self) -> dist.Distribution:
        """Return p(u) of u = logit(v), event shape (K - 1,)."""
        return LogitStick(torch.full_like(self.loc, self.concentration), self.quadrature).to_event(1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow the module to its device, where another precision would round the quadrature."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.quadrature = gauss_hermite().to(self.loc.device)
        return self

    def given(self, u: Tensor) -> dist.Distribution:
        """Return p(c | v), for u = logit(v) (..., K - 1)."""
        return dist.Categorical(logits=_break_stick(F.logsigmoid(u), F.logsigmoid(-u)))

    def initialize(self, probs: np.ndarray, n: int) -> None:
        r"""Take the posterior that there were if n data had these clusters.

        It is :math:`\mathrm{Beta}(1 + n_k, \alpha + \sum_{i>k} n_i)` for every stick, of which the logit's
        mean and variance are taken.
        """
        from scipy.special import digamma, polygamma

        counts = n * probs
        a = 1 + counts[:-1]
        b = self.concentration + np.maximum(counts.sum() - counts.cumsum()[:-1], 0)
        self._set(digamma(a) - digamma(b), (polygamma(1, a) + polygamma(1, b)) ** 0.5)


def _break_stick(log_broken: Tensor, log_kept: Tensor) -> Tensor:
    """Return log weights (..., K) for the log shares broken off and kept at K - 1 places (..., K - 1)."""
    broken = F.pad(log_broken, (0, 1))
    return broken + F.pad(log_kept.cumsum(-1), (1, 0))


@dataclass(frozen=True)
class Learned:
    """Factory of :class:`LearnedWeights`: parameters of the model."""

    def __call__(self, clusters: int) -> MixtureWeights:
        """Build the weights of K = ``clusters`` components."""
        return LearnedWeights(clusters)


@dataclass(frozen=True)
class Uniform:
    """Factory of :class:`UniformWeights`: fixed, all equal."""

    def __call__(self, clusters: int) -> MixtureWeights:
        """Build the weights of K = ``clusters`` components."""
        return UniformWeights(clusters)


@dataclass(frozen=True)
class LogisticNormal:
    """Factory of :class:`LogisticNormalWeights`.

    Attributes:
        scale: standard deviation of the prior of the logits.

    Raises:
        ValueError: if it is not positive.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        set_checked(self, number, "scale", above=0)

    def __call__(self, clusters: int) -> MixtureWeights:
        """Build the weights of K = ``clusters`` components."""
        return LogisticNormalWeights(clusters, self.scale)


@dataclass(frozen=True)
class StickBreaking:
    """Factory of :class:`StickBreakingWeights`: a Dirichlet process, truncated at the facet's clusters.

    Attributes:
        concentration: parameter alpha; the larger, the more clusters are expected.

    Raises:
        ValueError: if it is not positive.

    Example:
        >>> StickBreaking(concentration=1.0)(clusters=4)().probs.sum().round().item()
        1.0
    """

    concentration: float = 1.0

    def __post_init__(self) -> None:
        set_checked(self, number, "concentration", above=0)

    def __call__(self, clusters: int) -> MixtureWeights:
        """Build the weights of K = ``clusters`` components."""
        return StickBreakingWeights(clusters, self.concentration)


WEIGHTS: dict[str, type] = {
    "learned": Learned,
    "uniform": Uniform,
    "logistic_normal": LogisticNormal,
    "stick_breaking": StickBreaking,
}
