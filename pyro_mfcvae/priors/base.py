"""Base class of all priors of a facet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol, cast

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import MixtureSameFamily

PriorFactory = Callable[[int, int], "FacetPrior | MixtureSameFamily"]


class Mixture(Protocol):
    """A mixture as the model needs it: its weights and its components."""

    def weights(self) -> dist.Distribution:
        """Return p(c)."""

    def component(self, c: Tensor) -> dist.Distribution:
        """Return p(z | c)."""


class FacetPrior(nn.Module, ABC):
    """A mixture prior over one facet's latent.

    Subclasses give :meth:`weights` and :meth:`component`; the two methods of initialisation may be
    left as they are, and then the prior starts, and stays in warm-up, as constructed.

    Args:
        clusters: number of components K.
        latent_dim: dimension D of the latent.

    Attributes:
        initialization: name of the start that :meth:`initialize` makes, empty where there is no choice.
            ``"untrained"`` is made once, before any training, from the means of q(z | x); others when the
            facet's warm-up is over, from samples.
        is_standard: True while every component stands in for a standard normal, as in the warm-up. It is no
            tensor, so that no step waits for a device, and a part of the trainer's state.
    """

    initialization: str = ""

    def __init__(self, clusters: int, latent_dim: int) -> None:
        super().__init__()
        self.clusters = clusters
        self.latent_dim = latent_dim
        self.is_standard = False
        self.register_buffer("every", torch.arange(clusters).unsqueeze(-1), persistent=False)

    @abstractmethod
    def weights(self) -> dist.Distribution:
        """Return p(c), a categorical distribution over K values with batch shape ()."""

    @abstractmethod
    def component(self, c: Tensor) -> dist.Distribution:
        """Return p(z | c), batch shape that of the integer tensor ``c``, event shape (D,)."""

    def all_components(self) -> dist.Distribution:
        """Return p(z | c) of all K values of c: batch shape (K, 1), event shape (D,)."""
        return self.component(cast(Tensor, self.every))

    def of(self, parameter: Tensor, c: Tensor) -> Tensor:
        """Take rows of a parameter (K, ...), for a subclass's :meth:`component`; shape (*c.shape, ...)."""
        # Where c is every value a view will do, which has no gradient to scatter.
        return parameter.unsqueeze(1) if c is self.every else parameter[c]

    @property
    def may_leave_clusters_empty(self) -> bool:
        """True if empty clusters are the purpose of the prior; then training does not warn of them."""
        return False

    @property
    def has_globals(self) -> bool:
        """True if :meth:`sample_globals` and :meth:`guide` sample latent variables that all data share."""
        return False

    def sample_globals(self, name: str) -> Mixture:
        """Sample, in the model and outside the plate of the data, what all data share.

        Sites that are sampled here must be sampled in :meth:`guide` as well, and be named after
        ``name``. An outer plate may add batch dims to them: batch shape (...,), event shape anything.
        Outside of inference nothing is sampled: then :meth:`weights` and :meth:`component` are those of
        the prior itself.

        Args:
            name: prefix of the names of its sites.

        Returns:
            The mixture given the shared variables; the prior itself if there are none.
        """
        return self

    def guide(self, name: str) -> None:
        """Sample, in the guide, what :meth:`sample_globals` samples in the model."""
        return

    def bind_encoder(self, encode: Callable[[Tensor], dist.Distribution], input_shape: Sequence[int]) -> None:
        """Take what a prior may need of its model, which calls this once, when it is built.

        Parameters may be made here. The encoder's are the model's, and do not become the prior's.

        Args:
            encode: what the encoder sees of data, (N, *input_shape), to q(z | x) of this facet, batch shape
                (N,), event shape (D,).
            input_shape: shape of that for one datum, as the likelihood prepares it.
        """
        return

    def reset(self) -> None:
        """Make p(z) standard normal, for the warm-up of a facet."""
        return

    def initialize(self, embedding: np.ndarray, seed: int) -> None:
        """Fit the mixture to an embedding of the data.

        Args:
            embedding: latents, shape (N, D).
            seed: seed of the fit.
        """
        return

    def initialize_from_data(self, x: Tensor, embedding: np.ndarray, seed: int) -> None:
        r"""Fit the mixture, for priors that look at the data as well; others need only the embedding.

        Args:
            x: what the encoder sees of data, shape (N, *input_shape).
            embedding: their latents, shape (N, D).
            seed: seed of the fit.
        """
        self.initialize(embedding, seed)

    def draw(self, c: Tensor, temperature: float = 1.0) -> Tensor:
        """Sample from p(z | c), with deviations from the mean scaled by the temperature.

        Args:
            c: values of the discrete variable, shape (...).
            temperature: 0 is the mean.

        Returns:
            Latents, shape (..., D).

        Raises:
            ValueError: for another temperature than 1 if the component does not know its mean.
        """
        component = self.component(c)
        try:
            mean: Tensor = component.mean
        except NotImplementedError:
            if temperature == 1:
                return cast(Tensor, component.sample())
            raise ValueError(
                f"temperature: got {temperature}, expected 1, since {type(component).__name__} does not "
                "know its mean; or let the prior override draw"
            ) from None
        return cast(Tensor, mean + temperature * (component.sample() - mean))
