"""Levels of a facet's clusters: those of the model are the components of its mixture, some of them joined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyro_mfcvae._utils.tables import text_table
from pyro_mfcvae.priors import FacetPrior

Integers = npt.NDArray[np.int64]

TITLES = {"demp": "misclassification"}
FINER = 8  # partitions of more clusters than there are, that are printed


@dataclass(frozen=True, eq=False)
class Level:
    r"""What the clusters of a facet are made of; ``print`` shows it, and how they were joined.

    Args:
        clusters: cluster of every component of the facet's mixture, integers (K,): all of 0 .. K' - 1.
        method: criterion that the clusters were joined by last; empty if they are the components.
        order: joins of that criterion down to a single cluster, be they done or not, each the first
            components of the two clusters, the lower one first.
        values: criterion of the partitions before, between and after these joins, one more than there are:
            the modularity, or the highest misclassification probability between two clusters.

    Raises:
        ValueError: if clusters are missing, or the numbers of joins and of values do not match.
    """

    clusters: Integers
    method: str = ""
    order: tuple[tuple[int, int], ...] = ()
    values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        clusters = np.array(self.clusters, dtype=np.int64)
        found = np.unique(clusters)
        if clusters.ndim != 1 or not len(found) or not np.array_equal(found, np.arange(len(found))):
            raise ValueError(
                f"clusters: got {self.clusters!r}, expected all of 0 .. K' - 1, of each component"
            )
        if len(self.values) != (len(self.order) + 1 if self.method else 0):
            raise ValueError(
                f"values: got {len(self.values)} for {len(self.order)} joins, expected one more than joins"
            )
        clusters.flags.writeable = False
        object.__setattr__(self, "clusters", clusters)

    @classmethod
    def whole(cls, components: int) -> Level:
        """Make each of K components a cluster."""
        return cls(np.arange(components))

    @property
    def num_components(self) -> int:
        """Number of components K of the mixture."""
        return len(self.clusters)

    @property
    def num_clusters(self) -> int:
        """Number of clusters K'."""
        return int(self.clusters.max()) + 1

    @property
    def is_joined(self) -> bool:
        """True if there are fewer clusters than components."""
        return self.num_clusters < self.num_components

    def sums(self, probabilities: Tensor) -> Tensor:
        """Add up probabilities of components (..., K) to those of clusters (..., K')."""
        if not self.is_joined:
            return probabilities
        sums = probabilities.new_zeros(*probabilities.shape[:-1], self.num_clusters)
        return sums.index_add_(-1, self._clusters_on(probabilities.device), probabilities)

    @torch.no_grad()
    def components(self, prior: FacetPrior, c: Tensor) -> Tensor:
        """Draw for each of the clusters c (...) one of its components, by their weights: (...)."""
        if not self.is_joined:
            return c
        logits = prior.weights().logits
        others = self._clusters_on(c.device) != c.unsqueeze(-1)  # (..., K)
        components: Tensor = torch.distributions.Categorical(
            logits=logits.expand(others.shape).masked_fill(others, -torch.inf)
        ).sample()
        return components

    def _clusters_on(self, device: torch.device) -> Tensor:
        return torch.tensor(self.clusters, device=device)

    def __str__(self) -> str:
        K, number = self.num_components, self.num_clusters
        if not self.method:
            return f"{K} clusters, which are the components"
        members = [["cluster", "components"]]
        members += [[str(c), ", ".join(map(str, np.flatnonzero(self.clusters == c)))] for c in range(number)]
        curve = [["clusters", TITLES.get(self.method, self.method), "joined, by their first components"]]
        joined = ["", *(f"{i} and {j}" for i, j in self.order)]
        counts = range(len(self.values), 0, -1)
        for count, value, pair in zip(counts, self.values, joined, strict=True):
            if count <= number + FINER:
                curve.append([str(count), f"{value:z.4f}", pair + ("  <- these" if count == number else "")])
        title = f"{K} components joined to {number} clusters by {self.method}"
        return "\n".join([title, "", text_table(members, left={1}), "", text_table(curve, left={2})])
