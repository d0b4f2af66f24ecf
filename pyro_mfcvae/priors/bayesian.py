"""Mixtures of Gaussians whose parameters are latent variables that all data share."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.constraints import softplus_positive
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from pyro.ops.indexing import Vindex
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import biject_to, transform_to

from pyro_mfcvae._utils.checks import one_of, set_checked
from pyro_mfcvae._utils.turns import seeded
from pyro_mfcvae.priors.base import FacetPrior
from pyro_mfcvae.priors.hyper import HyperPriors
from pyro_mfcvae.priors.initialization import INITIALIZATIONS, Initialization, find_components

Covariance = Literal["diagonal", "full"]
Guide = Literal["normal", "multivariate_normal"]
COVARIANCES: tuple[Covariance, ...] = get_args(Covariance)
GUIDES: tuple[Guide, ...] = get_args(Guide)

WARM_UP_WIDTH = 1e-3  # of the posterior while the mixture stands for a standard normal
MAX_CORRELATION = 0.999  # of a component at the start
NODES = 20  # of the quadrature of mean weights


class GaussianMixture:
    """A mixture of Gaussians with given parameters, which may have batch dims on the left.

    Args:
        weights: shape (..., K).
        means: shape (..., K, D).
        scales: standard deviations, shape (..., K, D).
        correlations: Cholesky factors of correlation matrices, shape (..., K, D, D); None is the identity.
    """

    def __init__(self, weights: Tensor, means: Tensor, scales: Tensor, correlations: Tensor | None) -> None:
        self._weights = weights
        self._means = means
        self._scales = scales
        self._factors = None if correlations is None else scales.unsqueeze(-1) * correlations

    def weights(self) -> dist.Distribution:
        """Return p(c), batch shape (...)."""
        return dist.Categorical(self._weights)

    def component(self, c: Tensor) -> dist.Distribution:
        """Return p(z | c): the batch shapes of ``c`` and of the parameters, broadcast; event shape (D,)."""
        means = Vindex(self._means)[..., c, :]
        if self._factors is None:
            return dist.Normal(means, Vindex(self._scales)[..., c, :]).to_event(1)
        return dist.MultivariateNormal(means, scale_tril=Vindex(self._factors)[..., c, :, :])


class BayesianGaussianMixture(FacetPrior):
    r"""Mixture of Gaussians with hyper-priors, and an approximate posterior of its parameters.

    .. math::
        \theta = (\pi, \mu, \sigma, R) \sim \text{the hyper-priors}, \qquad
        p(z \mid c = k, \theta) = N(z; \mu_k, \mathrm{diag}(\sigma_k) R_k\, \mathrm{diag}(\sigma_k)), \qquad
        q(\theta) \approx p(\theta \mid \text{data})

    In the model the sites ``weights`` (K > 1), ``means``, ``scales`` and, for full covariances,
    ``correlations`` are sampled from the hyper-priors, in the guide from q, a Normal of their unconstrained
    values. The objective then has :math:`-\mathrm{KL}(q(\theta) \| p(\theta))`, once for all data; the
    ELBO per datum of ``score`` and ``history`` leaves it out.

    Outside of inference :meth:`weights` and :meth:`component` are those of one mixture: E[pi], by quadrature
    (exact if q makes the unconstrained weights independent), E[mu], E[sigma^2], both exact, and the
    correlations at the location of q.

    Args:
        clusters: number of components K.
        latent_dim: dimension D of the latent.
        hyper_priors: priors of the parameters, in units of the latent.
        covariance: kind of the components' covariances, ``"diagonal"`` or ``"full"``.
        guide: ``"normal"``, all parameters independent, or ``"multivariate_normal"``, with all their
            correlations: P(P + 1)/2 numbers for P parameters.
        initialization: a name from ``INITIALIZATIONS``; see :func:`find_components`.

    Raises:
        ValueError: for an unknown covariance, guide or initialization.

    References:
        A. Kucukelbir, D. Tran, R. Ranganath, A. Gelman, D. M. Blei (2017). Automatic differentiation
        variational inference. Journal of Machine Learning Research 18.
    """

    _like: Tensor  # of the precision and on the device of this module
    posterior: AutoNormal | AutoMultivariateNormal

    def __init__(
        self,
        clusters: int,
        latent_dim: int,
        *,
        hyper_priors: HyperPriors | None = None,
        covariance: Covariance = "diagonal",
        guide: Guide = "normal",
        initialization: Initialization = "mixture",
    ) -> None:
        super().__init__(clusters, latent_dim)
        self.initialization = one_of("initialization", initialization, INITIALIZATIONS)
        one_of("covariance", covariance, COVARIANCES)
        one_of("guide", guide, GUIDES)
        self.hyper_priors = hyper_priors or HyperPriors()
        self.covariance = covariance
        # A correlation matrix of one dimension has nothing to learn.
        self._is_full = covariance == "full" and latent_dim > 1
        start = self._standard_normal()
        self.register_buffer("_like", torch.zeros(()), persistent=False)
        family = AutoNormal if guide == "normal" else AutoMultivariateNormal
        self.posterior = family(self._sample, init_loc_fn=lambda site: start[site["name"]])
        with seeded(0, torch.device("cpu")):
            self._sample_posterior()  # its parameters exist from now on
        self.posterior.init_loc_fn = None  # a closure, which cannot be pickled
        self._supports = {
            name: site["fn"].support for name, site in self.posterior.prototype_trace.iter_stochastic_nodes()
        }
        self.reset()

    @property
    def has_globals(self) -> bool:
        """True: all data share the parameters."""
        return True

    def sample_globals(self, name: str) -> GaussianMixture:
        """Sample the parameters, at sites ``{name}.weights`` and so on."""
        with _Prefix(name):
            return self._sample()

    def guide(self, name: str) -> None:
        """Sample the same sites from the approximate posterior q."""
        with _Prefix(name):
            self._sample_posterior()

    def weights(self) -> dist.Distribution:
        """Return p(c) with the posterior mean of the weights."""
        return self._mean_mixture().weights()

    def component(self, c: Tensor) -> dist.Distribution:
        """Return p(z | c) at posterior means of the parameters: batch shape of ``c``, event shape (D,)."""
        return self._mean_mixture().component(c)

    @torch.no_grad()
    def reset(self) -> None:
        """Make every component standard normal and all weights equal, with next to no uncertainty."""
        values = {name: value.to(self._like) for name, value in self._standard_normal().items()}
        self._set_posterior(values, dict.fromkeys(values, WARM_UP_WIDTH))

    @torch.no_grad()
    def initialize(self, embedding: np.ndarray, seed: int) -> None:
        """Centre q on a mixture that is found in an embedding; see :func:`find_components`.

        Its widths are those of the posterior for as many data as the embedding has, if it were known
        which component each is of.

        Args:
            embedding: latents, shape (N, D), N >= K.
            seed: seed of the fit.
        """
        mixture = find_components(
            embedding,
            self.clusters,
            initialization=self.initialization,
            covariance_type="full" if self._is_full else "diag",
            concentration=None,
            seed=seed,
        )
        counts = torch.from_numpy(np.maximum(len(embedding) * mixture.weights, 1.0)).to(self._like)
        covariances = torch.from_numpy(mixture.covariances)
        is_diagonal = covariances.ndim == 2
        scales = (covariances if is_diagonal else covariances.diagonal(dim1=1, dim2=2)).sqrt()
        values = {
            "weights": torch.from_numpy(mixture.weights),
            "means": torch.from_numpy(mixture.means),
            "scales": scales,
        }
        widths: dict[str, Tensor | float] = {
            "weights": counts.rsqrt()[:-1],
            "means": scales.to(self._like) * counts.rsqrt().unsqueeze(1),
            "scales": (2 * counts).rsqrt().unsqueeze(1),
            "correlations": counts.rsqrt().unsqueeze(1),
        }
        if self._is_full:
            identity = torch.eye(self.latent_dim, dtype=covariances.dtype)
            if is_diagonal:
                correlations = identity.expand(self.clusters, -1, -1)
            else:
                correlations = covariances / (scales.unsqueeze(2) * scales.unsqueeze(1))
            correlations = MAX_CORRELATION * correlations + (1 - MAX_CORRELATION) * identity
            values["correlations"] = torch.linalg.cholesky(correlations)
        self._set_posterior({name: value.to(self._like) for name, value in values.items()}, widths)

    def _sample(self) -> GaussianMixture:
        K, D, hyper, like = self.clusters, self.latent_dim, self.hyper_priors, self._like
        # The support of the weights of one component is a single point.
        weights = pyro.sample("weights", hyper.weights(like, K)) if K > 1 else like.new_ones(1)
        means = pyro.sample("means", hyper.means(like, K, D))
        scales = pyro.sample("scales", hyper.scales(like, K, D))
        if not self._is_full:
            return GaussianMixture(weights, means, scales, None)
        correlations = pyro.sample("correlations", hyper.correlations(like, K, D))
        return GaussianMixture(weights, means, scales, correlations)

    def _sample_posterior(self) -> None:
        # Pyro's weak references cannot be pickled; those of parameters in its store it needs itself.
        fresh = [p for p in self.posterior.parameters() if not hasattr(p, "unconstrained")]
        # Not the module itself, which would write to Pyro's parameter store.
        self.posterior.forward()
        for parameter in fresh:
            parameter.__dict__.pop("unconstrained", None)

    def _standard_normal(self) -> dict[str, Tensor]:
        K, D = self.clusters, self.latent_dim
        return {
            "weights": torch.full((K,), 1 / K),
            "means": torch.zeros(K, D),
            "scales": torch.ones(K, D),
            "correlations": torch.eye(D).repeat(K, 1, 1),
        }

    def _marginals(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return locations and widths of q's unconstrained values, by site."""
        q = self.posterior
        if isinstance(q, AutoNormal):
            return {name: (getattr(q.locs, name), getattr(q.scales, name)) for name in self._supports}
        loc, width = q._loc_scale()
        return {
            site["name"]: (part, part_width)
            for (site, part), (_, part_width) in zip(
                q._unpack_latent(loc), q._unpack_latent(width), strict=True
            )
        }

    def _set_posterior(self, values: dict[str, Tensor], widths: dict[str, Tensor | float]) -> None:
        """Take values of the sites as the location of q, and widths of their unconstrained values."""
        q = self.posterior
        locs = {name: biject_to(support).inv(values[name]) for name, support in self._supports.items()}
        scales = {
            name: transform_to(softplus_positive).inv(torch.as_tensor(widths[name]).to(loc).expand_as(loc))
            for name, loc in locs.items()
        }
        if isinstance(q, AutoNormal):
            for name in locs:
                getattr(q.locs, name).copy_(locs[name])
                getattr(q.scales, f"{name}_unconstrained").copy_(scales[name])
        else:
            q.loc.copy_(torch.cat([loc.flatten() for loc in locs.values()]))
            q.scale_unconstrained.copy_(torch.cat([scale.flatten() for scale in scales.values()]))
            q.scale_tril_unconstrained.zero_()

    def _mean_mixture(self) -> GaussianMixture:
        marginals = self._marginals()
        weights = self._like.new_ones(1) if self.clusters == 1 else _mean_weights(*marginals["weights"])
        log_scales, width = marginals["scales"]
        correlations = None
        if self._is_full:
            correlations = biject_to(self._supports["correlations"])(marginals["correlations"][0])
        return GaussianMixture(
            weights, marginals["means"][0], (log_scales + width.square()).exp(), correlations
        )


class _Prefix(Messenger):  # type: ignore[misc]
    """Messenger that names the sites within it after what they belong to."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def _pyro_sample(self, msg: dict[str, object]) -> None:
        msg["name"] = f"{self.name}.{msg['name']}"


def _mean_weights(loc: Tensor, width: Tensor) -> Tensor:
    """Return E[pi] of stick-breaking weights, whose sticks are independent; shapes (K - 1,) to (K,)."""
    nodes, masses = np.polynomial.hermite_e.hermegauss(NODES)
    x = loc + width * torch.from_numpy(nodes).to(loc).unsqueeze(1)  # (nodes, K - 1)
    # As in StickBreakingTransform: stick k is broken off where equal weights would break it if x = 0.
    offset = torch.arange(len(loc), 0, -1, dtype=loc.dtype, device=loc.device).log()
    probabilities = torch.from_numpy(masses / math.sqrt(2 * math.pi)).to(loc)
    broken, left = (probabilities @ (sign * (x - offset)).sigmoid() for sign in (1, -1))
    one = loc.new_ones(1)
    return torch.cat([broken, one]) * torch.cat([one, left.cumprod(0)])


@dataclass(frozen=True)
class BayesianGaussian(HyperPriors):
    """Factory of a :class:`BayesianGaussianMixture`; other attributes are those of :class:`HyperPriors`.

    Attributes:
        covariance: kind of the components' covariances, ``"diagonal"`` or ``"full"``.
        guide: approximate posterior of the parameters, ``"normal"`` or ``"multivariate_normal"``.
        initialization: ``"mixture"``, ``"neighbours"``, ``"k-means++"``, ``"glorot"`` or ``"untrained"``.

    Raises:
        ValueError: for an unknown covariance, guide or initialization, or a number that is not positive.

    Example:
        >>> prior = BayesianGaussian(covariance="full")(clusters=3, latent_dim=2)
        >>> prior.component(torch.arange(3)).batch_shape
        torch.Size([3])
    """

    covariance: Covariance = "diagonal"
    guide: Guide = "normal"
    initialization: Initialization = "mixture"

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, one_of, "covariance", known=COVARIANCES)
        set_checked(self, one_of, "guide", known=GUIDES)
        set_checked(self, one_of, "initialization", known=INITIALIZATIONS)

    def __call__(self, clusters: int, latent_dim: int) -> FacetPrior:
        """Build the prior of K = ``clusters`` components in D = ``latent_dim`` dimensions."""
        hyper_priors = HyperPriors(**{f.name: getattr(self, f.name) for f in fields(HyperPriors)})
        return BayesianGaussianMixture(
            clusters,
            latent_dim,
            hyper_priors=hyper_priors,
            covariance=self.covariance,
            guide=self.guide,
            initialization=self.initialization,
        )
