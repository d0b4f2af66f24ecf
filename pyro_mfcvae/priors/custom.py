"""Priors of the user's own: a distribution as a prior, and the check of what a factory returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import cast

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    transform_to,
)
from torch.distributions.constraints import Constraint

from pyro_mfcvae.priors.base import FacetPrior
from pyro_mfcvae.priors.mixture import standard_normal


class DistributionPrior(FacetPrior):
    r"""A mixture distribution as a prior.

    Tensors of it that require a gradient become parameters, learned within their constraints; all
    others stay as they are.

    Args:
        mixture: mixture of K components with event shape (D,), batch shape ().

    Raises:
        TypeError: if the components are not made of tensors alone, as transformed distributions are.
        ValueError: if it has a batch shape.

    Example:
        >>> from torch.distributions import Normal
        >>> loc = torch.randn(3, 2, requires_grad=True)
        >>> components = Independent(Normal(loc, torch.ones(3, 2)), 1)
        >>> prior = DistributionPrior(MixtureSameFamily(Categorical(torch.ones(3)), components))
        >>> [name for name, _ in prior.named_parameters()]
        ['components.loc']
    """

    def __init__(self, mixture: MixtureSameFamily) -> None:
        categorical, components = mixture.mixture_distribution, mixture.component_distribution
        if mixture.batch_shape or len(mixture.event_shape) != 1:
            raise ValueError(
                f"prior: got a mixture with batch shape {tuple(mixture.batch_shape)} and event shape "
                f"{tuple(mixture.event_shape)}, expected () and (latent_dim,)"
            )
        super().__init__(components.batch_shape[-1], mixture.event_shape[0])
        # To have the logits of a categorical distribution that was given probabilities, too.
        self.categorical = _Tensors(Categorical(logits=categorical.logits), torch.Size())
        self.components = _Tensors(components, components.batch_shape)
        self.register_buffer("zeros", torch.zeros(self.latent_dim), persistent=False)

    def weights(self) -> dist.Distribution:
        """Return p(c), categorical over K values."""
        return dist.Categorical(**self.categorical())

    def component(self, c: Tensor) -> dist.Distribution:
        """Return p(z | c): batch shape of ``c``, event shape (D,)."""
        if self.is_standard:
            return standard_normal(c, cast(Tensor, self.zeros))
        return self.components.build({name: tensor[c] for name, tensor in self.components().items()})

    def reset(self) -> None:
        """Make p(z) standard normal, for the warm-up of a facet."""
        self.is_standard = True

    def initialize(self, embedding: np.ndarray, seed: int) -> None:
        """Return to what was given, wherever the data are."""
        self.is_standard = False


class _Tensors(nn.Module):
    """The tensors that define a distribution: parameters where they require a gradient, else buffers."""

    def __init__(self, distribution: Distribution, batch_shape: torch.Size) -> None:
        super().__init__()
        self.event_dims = 0
        while isinstance(distribution, Independent):
            self.event_dims += distribution.reinterpreted_batch_ndims
            distribution = distribution.base_dist
        self.family: Callable[..., dist.Distribution] = getattr(
            dist, type(distribution).__name__, type(distribution)
        )
        constraints: dict[str, Constraint] = distribution.arg_constraints
        names = [n for n in inspect.signature(type(distribution)).parameters if n != "validate_args"]
        tensors = {n: getattr(distribution, n) for n in names if _is_given(distribution, n)}
        if not tensors or set(names) - set(constraints):
            raise TypeError(
                f"prior: got a mixture of {type(distribution).__name__}, whose tensors cannot be found, "
                "expected components such as Independent(Normal(loc, scale), 1); for others write a "
                "subclass of FacetPrior with the methods weights and component"
            )
        self.constraints = {}
        for name, tensor in tensors.items():
            constraint = constraints[name]
            value = tensor.detach().clone()
            batched = value.expand(batch_shape + value.shape[len(batch_shape) :])
            if tensor.requires_grad:
                self.constraints[name] = constraint
                self.register_parameter(name, nn.Parameter(transform_to(constraint).inv(batched).clone()))
            else:
                self.register_buffer(name, batched.clone())

    def forward(self) -> dict[str, Tensor]:
        """Return the tensors, within their constraints."""
        tensors = dict(self.named_buffers())
        for name, parameter in self.named_parameters():
            tensors[name] = transform_to(self.constraints[name])(parameter)
        return tensors

    def build(self, tensors: dict[str, Tensor]) -> dist.Distribution:
        """Build Pyro's distribution of these tensors."""
        distribution = self.family(**tensors)
        # A univariate family with the dimensions of the latent as its last batch dims.
        return distribution.to_event(self.event_dims) if self.event_dims else distribution


def _is_given(distribution: Distribution, name: str) -> bool:
    """Tell whether an argument was given, rather than computed from another that was."""
    return isinstance(distribution.__dict__.get(name), Tensor)


def as_prior(value: object, clusters: int, latent_dim: int) -> FacetPrior:
    """Return what a factory of a prior made, as a prior.

    Args:
        value: a :class:`FacetPrior`, or a ``MixtureSameFamily`` of K components.
        clusters: number of components K that was asked for.
        latent_dim: dimension D that was asked for.

    Raises:
        TypeError: if it is neither.
        ValueError: if it has another number of components or dimensions, or its components have.
    """
    if isinstance(value, MixtureSameFamily):
        value = DistributionPrior(value)
    if not isinstance(value, FacetPrior):
        raise TypeError(
            f"prior: the factory returned {value!r}, expected a FacetPrior, or a MixtureSameFamily of "
            f"{clusters} components with event shape ({latent_dim},); a factory is called with "
            "(clusters, latent_dim)"
        )
    if (value.clusters, value.latent_dim) != (clusters, latent_dim):
        raise ValueError(
            f"prior: the factory returned a prior of {value.clusters} clusters in {value.latent_dim} "
            f"dimensions, expected {clusters} in {latent_dim}, as the facet has"
        )
    # Some need the model, or a sample of what all data share, before they have components.
    if type(value).bind_encoder is FacetPrior.bind_encoder and not value.has_globals:
        event_shape = tuple(value.component(torch.tensor(0)).event_shape)
        if event_shape != (latent_dim,):
            raise ValueError(
                f"prior: the components of {type(value).__name__} have event shape {event_shape}, expected "
                f"({latent_dim},), as the facet has"
            )
    return value
