"""A model that generates data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import numpy as np
import torch

from pyro_mfcvae._utils.allocations import fitting
from pyro_mfcvae._utils.checks import integer, number
from pyro_mfcvae.data.schema import Frame
from pyro_mfcvae.results.predictor import BLOCK, Predictor


class Generator(Predictor):
    """Predicts, and generates data: of given clusters, and of facets of different data together."""

    @overload
    def sample(
        self,
        n: int,
        clusters: Mapping[int, int] | None = None,
        *,
        temperature: float = 1.0,
        seed: int = 0,
        as_frame: Literal[False] = False,
    ) -> np.ndarray: ...

    @overload
    def sample(
        self,
        n: int,
        clusters: Mapping[int, int] | None = None,
        *,
        temperature: float = 1.0,
        seed: int = 0,
        as_frame: Literal[True],
    ) -> Frame: ...

    def sample(
        self,
        n: int,
        clusters: Mapping[int, int] | None = None,
        *,
        temperature: float = 1.0,
        seed: int = 0,
        as_frame: bool = False,
    ) -> np.ndarray | Frame:
        r"""Generate data, with the clusters of some facets given: E[x | z] at z drawn from the prior.

        Args:
            n: how many.
            clusters: facet to cluster, as in ``{1: 3}``; the other facets' are drawn from p(c_j).
            temperature: factor of the deviations of z from the mean of its component; 0 is the mean. That of
                a nuisance is zero.
            seed: seed of the draws.
            as_frame: whether to return a table, of pandas, with the columns that were trained on.

        Returns:
            Generated data in the units of x, shape (n, *x_shape).

        Raises:
            ValueError: for a facet or cluster that does not exist, a negative temperature, or more data than
                fit into memory.
        """
        if clusters is not None and not isinstance(clusters, Mapping):
            raise TypeError(
                f"clusters: got {clusters!r}, expected clusters by facet; give cluster 3 of facet 1 as "
                "{1: 3}"
            )
        clusters = dict(clusters or {})
        for j, k in clusters.items():
            if j not in range(self.num_facets) or k not in range(self.clusters[j]):
                raise ValueError(
                    f"clusters: got {{{j}: {k}}}, expected a facet of 0 .. {self.num_facets - 1} and "
                    f"one of its clusters, of which there are {self.clusters}"
                )
        n = fitting("n", integer("n", n, least=1), 8 * math.prod(self.model.x_shape))
        temperature = number("temperature", temperature, least=0)
        with self.evaluating(seed):
            z = []
            for j, prior in enumerate(self.model.latent_priors):
                c = prior.weights().sample(torch.Size([n]))
                if j in clusters:
                    c = self.levels[j].components(prior, torch.full_like(c, clusters[j]))
                z.append(prior.draw(c, temperature))
            blocks = zip(*(each.split(BLOCK) for each in z), strict=True)
            drawn: np.ndarray = torch.cat([self._mean(list(block)).cpu() for block in blocks]).numpy()
        return self._table(drawn) if as_frame else drawn

    def compose(self, x: Sequence[Any]) -> np.ndarray:
        r"""Recombine facets of different inputs: z_j from the j-th of them.

        Args:
            x: for each of the J facets, data (N, *x_shape) that give this facet. Where the model has a
                nuisance there may be one more, the last, that give it; without them, those of facet 0 do.

        Returns:
            Compositions in the units of x, shape (N, *x_shape).

        Raises:
            ValueError: if there are not J inputs, or J + 1 with a nuisance, of the same length.
        """
        J, has_nuisance = self.num_facets, self.model.nuisance is not None
        if len(x) != J and not (has_nuisance and len(x) == J + 1):
            also = ", or one more for the nuisance" if has_nuisance else ""
            raise ValueError(f"x: got {len(x)} inputs, expected one for each of {J} facets{also}")
        z = [torch.from_numpy(self.transform(x_j)[j]) for j, x_j in enumerate(x[:J])]
        if has_nuisance:
            z.append(torch.from_numpy(self.nuisance(x[J] if len(x) > J else x[0])))
        if len({len(z_j) for z_j in z}) > 1:
            raise ValueError(
                f"x: got inputs of lengths {[len(z_j) for z_j in z]}, expected the same for all facets"
            )
        with self.evaluating():
            mean = self._mean([z_j.to(self.model.device) for z_j in z])
        return np.asarray(mean.cpu())
