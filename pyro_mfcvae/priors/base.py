"""What every prior of a facet is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import pyro.distributions as dist
from torch import Tensor, nn

PriorFactory = Callable[[int, int], "FacetPrior"]


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
