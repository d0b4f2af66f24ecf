"""Base classes of the mixture priors: weights of any kind, and the start of the components."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypedDict, Unpack

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_mfcvae._utils.checks import number, one_of, set_checked
from pyro_mfcvae._utils.registry import resolve
from pyro_mfcvae.priors.base import FacetPrior, Mixture
from pyro_mfcvae.priors.initialization import INITIALIZATIONS, Initialization, MixtureInit, find_components
from pyro_mfcvae.priors.weights import WEIGHTS, MixtureWeights, WeightsFactory

MIN_SCALE = 1e-4  # of a component: keeps KL divergences and their gradients finite


class MixtureOptions(TypedDict, total=False):
    """Options of :class:`MixturePrior`, as keywords."""

    weights: str | WeightsFactory
    initialization: Initialization


class LocationScaleOptions(MixtureOptions, total=False):
    """Options of :class:`LocationScaleMixture`, as keywords."""

    scale: float | None


class MixturePrior(FacetPrior):
    r"""Mixture prior whose weights are a module of their own.

    .. math:: p(z) = \sum_k p(c = k)\, p(z \mid c = k)

    Args:
        clusters: number of components K.
        latent_dim: dimension D of the latent.
        weights: a name from ``WEIGHTS``, or a factory ``(clusters) -> MixtureWeights``.
        initialization: a name from ``INITIALIZATIONS``; see :func:`find_components`.

    Raises:
        TypeError: if the weights are neither.
        ValueError: for an unknown name.
    """

    covariance_type = "diag"  # of the mixture that :meth:`initialize` starts from

    def __init__(
        self,
        clusters: int,
        latent_dim: int,
        *,
        weights: str | WeightsFactory = "learned",
        initialization: Initialization = "mixture",
    ) -> None:
        super().__init__(clusters, latent_dim)
        self.initialization = one_of("initialization", initialization, INITIALIZATIONS)
        self.mixing: MixtureWeights = resolve("weights", weights, WEIGHTS)(clusters)

    def weights(self) -> dist.Distribution:
        """Return p(c), categorical over K values; the mean over the posterior of weights that are latent."""
        return self.mixing()

    @property
    def has_globals(self) -> bool:
        """True if the weights are a latent variable."""
        return self.mixing.has_globals

    @property
    def may_leave_clusters_empty(self) -> bool:
        """True for the weights of a Dirichlet process."""
        return self.mixing.concentration is not None

    def sample_globals(self, name: str) -> Mixture:
        """Sample the weights in the model, if they are a latent variable."""
        return _Given(self.mixing.sample_globals(name), self) if self.has_globals else self

    def guide(self, name: str) -> None:
        """Sample the weights in the guide, if they are a latent variable."""
        self.mixing.guide(name)

    @torch.no_grad()
    def reset(self) -> None:
        """Make every component standard normal, and the weights what they are before any data."""
        self.is_standard = True
        self.mixing.initialize(np.full(self.clusters, 1 / self.clusters), 0)

    @torch.no_grad()
    def initialize(self, embedding: np.ndarray, seed: int) -> None:
        """Take weights from a mixture that is fitted to an embedding of the data.

        Args:
            embedding: latents, shape (N, D), N >= K.
            seed: seed of the fit.
        """
        self._start(embedding, seed)

    def _start(self, embedding: np.ndarray, seed: int) -> MixtureInit:
        """Find components in the embedding, and take over their weights."""
        start = find_components(
            embedding,
            self.clusters,
            initialization=self.initialization,
            covariance_type=self.covariance_type,
            concentration=self.mixing.concentration,
            seed=seed,
        )
        self.is_standard = False
        self.mixing.initialize(start.weights, len(embedding))
        return start


class LocationScaleMixture(MixturePrior):
    r"""Mixture whose components have locations and covariances of their own.

    .. math:: p(z \mid c = k) = p_0(z; \mu_k, \Sigma_k)

    Constructed with every component at 0 and with unit variances, and with equal weights. The subclasses
    say which density and which covariances.

    Args:
        clusters: number of components K.
        latent_dim: dimension D of the latent.
        scale: standard deviation of every component at the start; None takes what the initialisation
            finds in the embedding.
        **options: those of :class:`MixturePrior`.

    Raises:
        ValueError: for an unknown name, or a scale that is not positive.

    References:
        Falck et al. (2021), equation 1.
    """

    def __init__(
        self, clusters: int, latent_dim: int, *, scale: float | None = None, **options: Unpack[MixtureOptions]
    ) -> None:
        super().__init__(clusters, latent_dim, **options)
        self.scale = None if scale is None else _check_scale("scale", scale)
        self.loc = nn.Parameter(torch.zeros(clusters, latent_dim))

    @abstractmethod
    def set_covariances(self, covariances: np.ndarray) -> None:
        """Take covariances, shape (K, D, D), or (K, D) if they are diagonal, as the components' own."""

    @torch.no_grad()
    def reset(self) -> None:
        """Make every component standard normal, and the weights what they are before any data."""
        super().reset()
        self.loc.zero_()
        self.set_covariances(np.ones((self.clusters, self.latent_dim)))

    @torch.no_grad()
    def initialize(self, embedding: np.ndarray, seed: int) -> None:
        """Place the components in an embedding of the data; see :func:`find_components`.

        Args:
            embedding: latents, shape (N, D), N >= K.
            seed: seed of the fit.
        """
        start = self._start(embedding, seed)
        self.loc.copy_(torch.from_numpy(start.means))
        shape = (self.clusters, self.latent_dim)
        self.set_covariances(start.covariances if self.scale is None else np.full(shape, self.scale**2))


class DiagonalScaleMixture(LocationScaleMixture):
    r"""Mixture whose components have a scale in every dimension, softplus(s_k) + 1e-4.

    Args:
        clusters: number of components K.
        latent_dim: dimension D of the latent.
        **options: those of :class:`LocationScaleMixture`.
    """

    unit_scale = 1.0  # the scale with which a component's variance is one

    def __init__(self, clusters: int, latent_dim: int, **options: Unpack[LocationScaleOptions]) -> None:
        super().__init__(clusters, latent_dim, **options)
        self.raw_scale = nn.Parameter(torch.zeros(clusters, latent_dim))
        self.set_covariances(np.ones((clusters, latent_dim)))

    def scales(self) -> Tensor:
        """Return scales of the components, shape (K, D)."""
        return positive(self.raw_scale)

    @torch.no_grad()
    def set_covariances(self, covariances: np.ndarray) -> None:
        """Take variances, shape (K, D)."""
        self.raw_scale.copy_(torch.from_numpy(unconstrained(self.unit_scale * np.sqrt(covariances))))


@dataclass(frozen=True)
class _Given:
    """A mixture given its weights."""

    categorical: dist.Distribution
    prior: FacetPrior

    def weights(self) -> dist.Distribution:
        return self.categorical

    def component(self, c: Tensor) -> dist.Distribution:
        return self.prior.component(c)


@dataclass(frozen=True)
class MixtureFactory:
    """Base class of the factories of all mixtures.

    Attributes:
        weights: kind of the weights: ``"learned"``, ``"uniform"``, ``"logistic_normal"``,
            ``"stick_breaking"`` (a Dirichlet process), or a factory such as ``StickBreaking(2.0)``.
        initialization: ``"mixture"``, ``"neighbours"`` (clusters of a graph of nearest neighbours, which
            may be bent), ``"k-means++"``, ``"glorot"`` or ``"untrained"`` (once, before any training, as in
            the paper's code); see :func:`find_components`.

    Raises:
        TypeError: if the weights are neither a name nor a factory.
        ValueError: for an unknown name.
    """

    prior: ClassVar[Callable[..., FacetPrior]]

    weights: str | WeightsFactory = "learned"
    initialization: Initialization = "mixture"

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", resolve("weights", self.weights, WEIGHTS))
        set_checked(self, one_of, "initialization", known=INITIALIZATIONS)

    def __call__(self, clusters: int, latent_dim: int) -> FacetPrior:
        """Build the prior of K = ``clusters`` components in D = ``latent_dim`` dimensions."""
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return self.prior(clusters, latent_dim, **options)


@dataclass(frozen=True)
class LocationScaleFactory(MixtureFactory):
    """Base class of the factories of a :class:`LocationScaleMixture`.

    Attributes:
        weights: as in :class:`MixtureFactory`.
        initialization: as in :class:`MixtureFactory`.
        scale: standard deviation of every component at the start; None takes what the initialisation
            finds in the embedding.

    Raises:
        ValueError: for an unknown name, or a scale that is not positive.
    """

    scale: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, _check_scale, "scale", or_none=True)


def standard_normal(c: Tensor, like: Tensor) -> dist.Distribution:
    """Return standard normals, batch shape that of c, event shape the last of ``like``, and its dtype."""
    return dist.Normal(like.new_zeros(*c.shape, like.shape[-1]), like.new_ones(())).to_event(1)


def positive(raw: Tensor) -> Tensor:
    """Return scales above the smallest that is allowed."""
    return F.softplus(raw) + MIN_SCALE


def unconstrained(scale: np.ndarray) -> np.ndarray:
    """Invert :func:`positive`; scales at the bound or below become the smallest above it."""
    excess = np.maximum(scale - MIN_SCALE, 1e-6)
    return excess + np.log(-np.expm1(-excess))


def _check_scale(name: str, scale: object) -> float:
    return number(name, scale, above=MIN_SCALE, expected=f"a number above {MIN_SCALE}, or None")
