"""What every prior of a facet is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import numpy as np
import pyro.distributions as dist
from torch import Tensor, nn

PriorFactory = Callable[[int, int], "FacetPrior"]


class Mixture(Protocol):
    """What the model needs of a prior: its weights and its components."""

    def weights(self) -> dist.Distribution:
        """p(c)."""

    def component(self, c: Tensor) -> dist.Distribution:
        """p(z | c)."""


class FacetPrior(nn.Module, ABC):
    """A mixture prior over one facet's latent.

    Subclasses give :meth:`weights` and :meth:`component`; the two methods of initialisation may be
    left as they are, and then the prior starts, and stays in warm-up, as constructed.

    Args:
        clusters: number of components K.
        latent_dim: dimension D of the latent.
    """

    def __init__(self, clusters: int, latent_dim: int) -> None:
        super().__init__()
        self.clusters = clusters
        self.latent_dim = latent_dim

    @abstractmethod
    def weights(self) -> dist.Distribution:
        """p(c), a categorical distribution over K values with batch shape ()."""

    @abstractmethod
    def component(self, c: Tensor) -> dist.Distribution:
        """p(z | c), batch shape that of the integer tensor ``c``, event shape (D,)."""

    @property
    def has_globals(self) -> bool:
        """Whether :meth:`realize` and :meth:`guide` sample latent variables that all data share."""
        return False

    def realize(self, name: str) -> Mixture:
        """Sample, in the model and outside the plate of the data, what all data share.

        Sites that are sampled here must be sampled in :meth:`guide` as well, and be named after
        ``name``. An outer plate may add batch dims to them: batch shape (...,), event shape anything.
        Outside of inference nothing is sampled: then :meth:`weights` and :meth:`component` are those of
        the prior itself.

        Args:
            name: what the names of its sites begin with.

        Returns:
            The mixture given the shared variables; the prior itself if there are none.
        """
        return self

    def guide(self, name: str) -> None:
        """Sample, in the guide, what :meth:`realize` samples in the model."""
        return

    def reset(self) -> None:
        """Make p(z) standard normal, for the warm-up of a facet."""
        return

    def initialize(self, embedding: np.ndarray, seed: int) -> None:
        """Fit the mixture to an embedding of the data.

        Args:
            embedding: latents, shape (N, D).
            seed: of the fit.
        """
        return
