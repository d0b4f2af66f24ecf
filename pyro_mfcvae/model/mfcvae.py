"""The Multi-Facet Clustering VAE as a Pyro program."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_mfcvae import likelihoods, networks
from pyro_mfcvae.config.mfcvae import MFCVAEConfig
from pyro_mfcvae.data.schema import Schema
from pyro_mfcvae.likelihoods import Likelihood
from pyro_mfcvae.model.elbo import FacetELBO
from pyro_mfcvae.model.objectives import (
    facet_responsibilities,
    facet_term,
    facet_value,
    quasi_monte_carlo_points,
)
from pyro_mfcvae.model.redundancy import redundancy
from pyro_mfcvae.model.weights import FacetWeights, autocast, declares_parameters, kl_weight
from pyro_mfcvae.networks.base import check_facet_modules, is_active
from pyro_mfcvae.priors import FacetPrior, Mixture, StandardNormalPrior, as_prior


@dataclass(frozen=True)
class ELBOTerms:
    """The parts of the ELBO of each datum, in nats.

    Attributes:
        log_likelihood: log p(x | z) at a sample of z, shape (N,).
        facets: log sum_k pi_k exp(-KL_k) for each of the J facets, shape (N,).
        responsibilities: q(c_j | x) for each of the J facets, shape (N, K_j).
        nuisance: -KL(q(z | x) || N(0, I)) of the nuisance, shape (N,); None if there is none.
    """

    log_likelihood: Tensor
    facets: tuple[Tensor, ...]
    responsibilities: tuple[Tensor, ...]
    nuisance: Tensor | None = None

    @property
    def latents(self) -> tuple[Tensor, ...]:
        """The terms of all latents: of the facets and, last, of the nuisance if there is one."""
        return self.facets if self.nuisance is None else (*self.facets, self.nuisance)

    @property
    def elbo(self) -> Tensor:
        """The ELBO of each datum, without KL weights, shape (N,)."""
        return self.log_likelihood + sum(self.latents, torch.zeros(()))


class MFCVAE(nn.Module):
    r"""A Multi-Facet Clustering Variational Autoencoder.

    .. math::
        c_j \sim \mathrm{Cat}(\pi_j), \quad z_j \mid c_j \sim p(z_j\mid c_j), \quad
        x \mid z \sim p(x \mid \mathrm{decoder}(z_0, \ldots, z_{J-1})), \qquad
        q(z\mid x) = \prod_j N(z_j; m_j(x), \mathrm{diag}\, v_j(x))

    :meth:`model` and :meth:`guide` are what :class:`pyro.infer.SVI` takes. q(c|x) is not in the guide:
    :class:`FacetELBO` finds it in closed form. All parameters live in this module; nothing is written
    to Pyro's parameter store. What asks that store for names (options for each parameter of an optimiser of
    ``pyro.optim``, its ``get_state`` and ``save``, Pyro's just-in-time compiler) wants one line before it:
    ``pyro.module("mfcvae", model)``. With a nuisance there is one latent more, ``z_nuisance``, the last
    wherever latents are listed: its prior is N(0, I), and it has no c.

    Args:
        config: facets, likelihood and network.
        x_shape: shape of one datum, without the batch.

    Raises:
        TypeError: if ``x_shape`` is not a shape.

    References:
        Falck et al. (2021), equations 1 to 4.

    Example:
        >>> from pyro_mfcvae import Facet, MFCVAEConfig
        >>> model = MFCVAE(MFCVAEConfig(facets=(Facet(3, 2), Facet(4, 2))), x_shape=(8,))
        >>> [q.event_shape for q in model.encode(torch.rand(5, 8))]
        [torch.Size([2]), torch.Size([2])]
    """

    def __init__(self, config: MFCVAEConfig, x_shape: Sequence[int]) -> None:
        super().__init__()
        if isinstance(x_shape, int) or not x_shape or not all(int(n) > 0 for n in x_shape):
            raise TypeError(f"x_shape: got {x_shape!r}, expected a shape such as (784,)")
        self.x_shape = tuple(int(n) for n in x_shape)
        if config.schema is not None and self.x_shape != (len(config.schema.columns),):
            raise ValueError(
                f"x_shape: got {self.x_shape} with a schema of {len(config.schema.columns)} columns, "
                "expected a number for each; give data of these columns"
            )
        likelihood = cast(likelihoods.LikelihoodFactory, config.likelihood)(self.x_shape)
        self.encoder, self.decoder = _networks(config, likelihood)
        self.likelihood: Likelihood = likelihood
        self._set_facets(config)

    def reconfigure(self, config: MFCVAEConfig, networks: tuple[nn.Module, nn.Module] | None = None) -> None:
        """Give the model other facets: new priors, and networks for their latents.

        Args:
            config: the new configuration, with the same likelihood.
            networks: encoder and decoder for its latents; None makes new ones.
        """
        device = self.device
        self.encoder, self.decoder = networks or _networks(config, self.likelihood)
        self._set_facets(config)
        self.to(device)

    def _set_facets(self, config: MFCVAEConfig) -> None:
        self.config = config
        self.priors = nn.ModuleList(
            as_prior(cast(Any, f.prior)(f.clusters, f.latent_dim), f.clusters, f.latent_dim)
            for f in config.facets
        )
        D = config.nuisance
        self.nuisance = StandardNormalPrior(1, D) if D else None
        for j, prior in enumerate(self.facet_priors):
            prior.bind_encoder(partial(self._encode_facet, j), self.likelihood.input_shape)

    def model(
        self, x: Tensor | None = None, *, data_size: int | None = None, weights: FacetWeights | None = None
    ) -> Tensor:
        r"""p(x, z, c): sites ``c_j``, ``z_j`` and ``x`` in the plate ``data``.

        A nuisance has the site ``z_nuisance`` there. Sites of a prior that all data share are outside the
        plate, their names begin with ``prior_j``; so is the factor ``redundancy``, if it has a weight.
        The plate's index is that of the rows of ``x``, whatever they are a subsample of.

        Args:
            x: data (N, *x_shape); None samples ``data_size`` data from the prior.
            data_size: number of data that the N are a subsample of; None is N.
            weights: weights of the latents; None weighs each of them by one.

        Returns:
            x.
        """
        self._declare_parameters()
        weights = weights or self.full_weights
        likelihood = self.likelihood.given(x)
        mixtures: list[Mixture] = list(self.facet_priors)
        for j, prior in self.shared_priors():
            with kl_weight(weights.kl[j]):
                mixtures[j] = prior.sample_globals(f"prior_{j}")
        with _data_plate(x, data_size) as rows:
            z = []
            for j, mixture in enumerate(mixtures):
                with kl_weight(weights.kl[j]):
                    c = pyro.sample(f"c_{j}", mixture.weights(), infer={"enumerate": "parallel"})
                    z.append(pyro.sample(f"z_{j}", mixture.component(c)))
            if self.nuisance is not None:
                only = cast(Tensor, self.nuisance.every)[0, 0]
                with kl_weight(weights.kl[-1]):
                    z.append(pyro.sample("z_nuisance", self.nuisance.component(only)))
            x = cast(Tensor, pyro.sample("x", likelihood(self.decode(z, weights)), obs=x))
        charge = self._redundancy_charge(z, weights)
        if charge is not None:
            size = data_size or len(rows)
            pyro.factor("redundancy", -size * charge.unsqueeze(-1))  # -1 is the dim of the data
        return x

    def guide(self, x: Tensor, *, data_size: int | None = None, weights: FacetWeights | None = None) -> None:
        """q(z | x): the latents' sites in the plate ``data``; the arguments are those of :meth:`model`."""
        weights = weights or self.full_weights
        for j, prior in self.shared_priors():
            with kl_weight(weights.kl[j]):
                prior.guide(f"prior_{j}")
        with _data_plate(x, data_size):
            for site, q, beta in zip(self.latent_sites, self.encode(x), weights.kl, strict=True):
                with kl_weight(beta):
                    pyro.sample(site, q, infer={"collapse_kl": True})

    @property
    def full_weights(self) -> FacetWeights:
        """A weight of one for every latent."""
        return FacetWeights.full(len(self.latent_priors))

    @property
    def facet_priors(self) -> tuple[FacetPrior, ...]:
        """p(z_j), for each of the J facets."""
        return tuple(cast(FacetPrior, prior) for prior in self.priors)

    @property
    def latent_priors(self) -> tuple[FacetPrior, ...]:
        """The priors of all latents: :attr:`facet_priors` and, last, that of the nuisance if there is one."""
        return self.facet_priors if self.nuisance is None else (*self.facet_priors, self.nuisance)

    @property
    def latent_sites(self) -> tuple[str, ...]:
        """Names of the Pyro sites of all latents."""
        facets = (f"z_{j}" for j in range(len(self.priors)))
        return (*facets,) if self.nuisance is None else (*facets, "z_nuisance")

    def shared_priors(self) -> list[tuple[int, FacetPrior]]:
        """Facets, and priors, with latent variables that all data share."""
        return [(j, prior) for j, prior in enumerate(self.facet_priors) if prior.has_globals]

    @property
    def schema(self) -> Schema | None:
        """Columns of the table that data are; None for other data."""
        return self.config.schema

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def elbo(self, **options: Any) -> FacetELBO:
        """The objective that the configuration asks for; ``options`` are those of :class:`FacetELBO`."""
        defaults: dict[str, Any] = {
            "objective": self.config.elbo,
            "num_kl_samples": self.config.num_kl_samples,
            "num_particles": self.config.num_particles,
            "vectorize_particles": True,
            "max_plate_nesting": 1,
        }
        return FacetELBO(**defaults | options)

    def encode(self, x: Tensor) -> list[dist.Distribution]:
        r"""q(z | x) of each latent for x (N, *x_shape): batch shape (N,), event shape (D_j,)."""
        return self._encode(self.inputs(x))

    def inputs(self, x: Tensor) -> Tensor:
        """What the encoder sees of x (N, *x_shape): (N, *input_shape), in the parameters' type."""
        return self.likelihood.preprocess(x).to(next(self.parameters()).dtype)

    def _encode(self, inputs: Tensor) -> list[dist.Distribution]:
        with autocast(self):
            statistics = self.encoder(inputs)
        return [dist.Normal(loc, scale).to_event(1) for loc, scale in statistics]

    def _encode_facet(self, j: int, inputs: Tensor) -> dist.Distribution:
        return self._encode(inputs)[j]

    def decode(self, z: Sequence[Tensor], weights: FacetWeights | None = None) -> Tensor:
        r"""Decode all latents (..., D_j) to the features of the likelihood, (..., *features_shape).

        Raises:
            ValueError: if there are not as many latents, and weights, as the model has.
        """
        weights = weights or self.full_weights
        expected = len(self.latent_priors)
        for name, values in (("z", z), ("weights", weights.fade_in)):
            if len(values) != expected:
                raise ValueError(
                    f"{name}: got {len(values)}, expected one for each of the {expected} latents, "
                    f"{', '.join(self.latent_sites)}"
                )
        with autocast(self):
            features = self.decoder([z_j.flatten(0, -2) for z_j in z], weights.fade_in)
        return cast(Tensor, features.to(z[0].dtype).unflatten(0, z[0].shape[:-1]))

    def responsibilities(self, q: Sequence[dist.Distribution]) -> list[Tensor]:
        """q(c_j | x), shape (N, K_j), at the ELBO's maximum for what :meth:`encode` returned."""
        return [
            facet_responsibilities(
                q_j, *_components(prior), dim=-2, samples=partial(quasi_monte_carlo_points, q_j)
            )
            for prior, q_j in zip(self.facet_priors, q[: len(self.priors)], strict=True)
        ]

    def elbo_terms(self, x: Tensor, weights: FacetWeights | None = None) -> ELBOTerms:
        r"""The parts of the analytic ELBO of each datum of x (N, *x_shape), at one sample of z.

        Only the fade-in of ``weights`` counts: the parts are as they are without KL weights.
        """
        q = self.encode(x)
        terms, responsibilities = zip(
            *(self._exact_term(prior, q_j) for prior, q_j in zip(self.latent_priors, q, strict=True)),
            strict=True,
        )
        features = self.decode([q_j.rsample() for q_j in q], weights)
        J = len(self.priors)
        nuisance = None if self.nuisance is None else terms[J]
        log_likelihood = self.likelihood.given(x)(features).log_prob(x)
        return ELBOTerms(log_likelihood, terms[:J], responsibilities[:J], nuisance)

    def objective(self, x: Tensor, weights: FacetWeights | None = None) -> Tensor:
        r"""The objective of the N data x (N, *x_shape), weighted, in nats; a scalar.

        It is minus the loss of :meth:`elbo`, from the same random numbers if no weight is zero, without the
        cost of running two programs under Pyro's handlers in every step; only where the programs of the
        model are those of this class and all data share no latent variable.
        """
        weights = weights or self.full_weights
        q = self.encode(x)
        z = [q_j.rsample() for q_j in q]
        total: Tensor = self.likelihood.given(x)(self.decode(z, weights)).log_prob(x).sum()
        options: dict[str, Any] = {
            "objective": self.config.elbo,
            "num_samples": self.config.num_kl_samples,
        }
        for prior, q_j, z_j, beta in zip(self.latent_priors, q, z, weights.kl, strict=True):
            if is_active(beta):
                term = facet_value(q_j, *_components(prior), dim=-2, value=z_j, **options)
                total = total + beta * term.sum()
        charge = self._redundancy_charge(z, weights)
        return total if charge is None else total - len(x) * charge

    def _redundancy_charge(self, z: Sequence[Tensor], weights: FacetWeights) -> Tensor | None:
        """What the dependence of z (..., N, D_j) costs, nats per datum (...); None if there is no charge."""
        if not is_active(weights.redundancy):
            return None
        each = zip(self.priors, z, weights.fade_in, strict=False)  # a nuisance is left out
        charged = [z_j for _, z_j, alpha in each if is_active(alpha)]
        return weights.redundancy * redundancy(charged) if len(charged) > 1 else None

    def _exact_term(self, prior: Any, q: dist.Distribution) -> tuple[Tensor, Tensor]:
        """Term (N,) and responsibilities (N, K) of the analytic objective, without noise."""
        term, responsibilities = facet_term(
            q, *_components(prior), dim=-2, samples=partial(quasi_monte_carlo_points, q)
        )
        return term.squeeze(0), responsibilities

    def _declare_parameters(self) -> None:
        """Tell a listening ``pyro.infer.SVI`` what to optimise, as ``pyro.param`` would.

        Pyro's global store is asked for the names that ``pyro.module`` may have given, and is left as it is.
        """
        if not (declares_parameters.get() and poutine.runtime.am_i_wrapped()):
            return
        declare = poutine.runtime.effectful(_first, type="param")
        store = pyro.get_param_store()
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                alias = parameter.view_as(parameter)  # the parameter itself must remain picklable
                alias.unconstrained = weakref.ref(parameter)  # type: ignore[attr-defined]
                known = store.param_name(parameter) or name
                declare(alias, name=known, constraint=constraints.real, event_dim=None)


def _components(prior: FacetPrior) -> tuple[dist.Distribution, Tensor]:
    """p(z | c) of all K clusters, batch shape (K, 1), and log p(c), shape (K, 1)."""
    weights = prior.weights()
    if isinstance(weights, dist.Categorical):
        log_pi = weights.logits  # log_prob would gather them
    else:
        log_pi = weights.log_prob(weights.enumerate_support())
    return prior.all_components(), log_pi.unsqueeze(-1)


def _networks(config: MFCVAEConfig, likelihood: Likelihood) -> tuple[nn.Module, nn.Module]:
    """An encoder of what the likelihood shows, and a decoder of what it needs."""
    network = cast(networks.NetworkFactory, config.network)
    encoder, decoder = network(likelihood.input_shape, config.latent_dims)
    if likelihood.features_shape != likelihood.input_shape:
        _, decoder = network(likelihood.features_shape, config.latent_dims)
    check_facet_modules(encoder, "encoder", len(config.latent_dims))
    check_facet_modules(decoder, "decoder", len(config.latent_dims))
    return encoder, decoder


def _first(value: Tensor, **_: object) -> Tensor:
    return value


def _data_plate(x: Tensor | None, data_size: int | None) -> pyro.plate:
    """The plate ``data`` of ``data_size`` data, of which the rows of x (N, ...) are a subsample."""
    if x is not None:
        rows = torch.arange(len(x), device=x.device)
        return pyro.plate("data", data_size or len(x), subsample=rows)
    if data_size is None:
        raise ValueError("data_size: got None with x=None, expected the number of data to sample")
    return pyro.plate("data", data_size)
