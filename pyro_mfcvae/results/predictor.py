"""A model that predicts: NumPy arrays in and out, whatever its device, in blocks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Self, get_args, overload

import numpy as np
import torch
from torch import Tensor

from pyro_mfcvae._utils.checks import integer, number, one_of
from pyro_mfcvae._utils.devices import Precision, resolve_precision
from pyro_mfcvae._utils.turns import RandomStream, Turn, in_turn
from pyro_mfcvae.config.mfcvae import MFCVAEConfig
from pyro_mfcvae.data.choosing import rows_for
from pyro_mfcvae.data.memmap import StoredRows
from pyro_mfcvae.data.schema import Frame, numbered
from pyro_mfcvae.model.mfcvae import MFCVAE
from pyro_mfcvae.model.weights import network_precision
from pyro_mfcvae.results.levels import Level
from pyro_mfcvae.results.merging import THRESHOLD, Method, join

BLOCK = 512  # data that are computed at a time, at most


class Predictor:
    """Predicts clusters and latents of data, with a model that it leaves as it is.

    Data that it generates are float32; or float64 where the likelihood standardises, whose units may need it.

    Args:
        model: the module; whatever mode it is in, predictions are those of evaluation mode.

    Attributes:
        model: the module, on the device where it computes.
        levels: for each facet, what its clusters are made of: the components of its mixture, or several of
            them where :meth:`merge` joined clusters.
    """

    def __init__(self, model: MFCVAE) -> None:
        self.model = model
        self.levels = tuple(Level.whole(facet.clusters) for facet in model.config.facets)
        self._precision: Precision = "float32"  # what a user holds is worth it

    @property
    def precision(self) -> str:
        """Of the networks, ``"float32"`` at first, whatever it was in training.

        Set it to ``"bfloat16"`` for predictions that are coarser, and faster where the device is fast with
        it. Mixtures are always in float32 or better.
        """
        return self._precision

    @precision.setter
    def precision(self, precision: str) -> None:
        self._precision = resolve_precision(precision)

    @contextmanager
    def evaluating(self, seed: int | None = None) -> Iterator[MFCVAE]:
        """Let the model predict within: in evaluation mode, in :attr:`precision` and without gradients.

        Args:
            seed: seed of PyTorch's generators within; None leaves them as they are.

        Yields:
            The model.
        """
        stream = None if seed is None else RandomStream(seed, self.model.device)
        with Turn(stream), torch.no_grad(), network_precision(self._precision):
            training = [module for module in self.model.modules() if module.training]
            for module in training:
                module.training = False
            try:
                yield self.model
            finally:
                for module in training:
                    module.training = True

    @property
    def config(self) -> MFCVAEConfig:
        """Configuration of the model and of its training."""
        return self.model.config

    @property
    def clusters(self) -> tuple[int, ...]:
        """Number of clusters K_j of each facet."""
        return tuple(level.num_clusters for level in self.levels)

    @property
    def weights(self) -> tuple[np.ndarray, ...]:
        """Probabilities p(c_j) of the clusters of each facet, float32, shape (K_j,)."""
        with self.evaluating():
            probs = [prior.weights().probs for prior in self.model.facet_priors]
            return tuple(level.sums(p).cpu().numpy() for level, p in zip(self.levels, probs, strict=True))

    @property
    def num_facets(self) -> int:
        """Number of facets J."""
        return len(self.clusters)

    @overload
    def predict(self, x: Any, *, as_frame: Literal[False] = False) -> np.ndarray: ...

    @overload
    def predict(self, x: Any, *, as_frame: Literal[True]) -> Frame: ...

    def predict(self, x: Any, *, as_frame: bool = False) -> np.ndarray | Frame:
        r"""Predict the most probable cluster of every facet.

        Args:
            x: data (N, *x_shape).
            as_frame: whether to return a table, of the library and with the index of x if it is one.

        Returns:
            Cluster indices, int64, shape (N, J); in a table, ``facet_0``, ``facet_1``, ...

        Raises:
            ValueError: if the data have another shape or are not finite.
        """

        def clusters(batch: Tensor) -> list[Tensor]:
            return [torch.stack([r.argmax(-1) for r in self._responsibilities(batch)], dim=1)]

        # In every block, since all responsibilities, N x K, may be many times the data.
        found = self._blocks(x, clusters)[0]
        return numbered(found, "facet", x) if as_frame else found

    @overload
    def predict_proba(self, x: Any, *, as_frame: Literal[False] = False) -> list[np.ndarray]: ...

    @overload
    def predict_proba(self, x: Any, *, as_frame: Literal[True]) -> list[Frame]: ...

    def predict_proba(self, x: Any, *, as_frame: bool = False) -> list[np.ndarray] | list[Frame]:
        r"""Compute the categorical posteriors :math:`q(c_j | x)` at their optimum.

        Args:
            x: data (N, *x_shape).
            as_frame: as for :meth:`predict`.

        Returns:
            For each of the J facets, probabilities, float32, shape (N, K_j); in a table, ``cluster_0``, ...

        Raises:
            ValueError: if the data have another shape or are not finite.

        References:
            Falck et al. (2021), theorem 1.
        """
        found = self._blocks(x, self._responsibilities)
        return [numbered(r, "cluster", x) for r in found] if as_frame else found

    @overload
    def transform(self, x: Any, *, as_frame: Literal[False] = False) -> list[np.ndarray]: ...

    @overload
    def transform(self, x: Any, *, as_frame: Literal[True]) -> list[Frame]: ...

    def transform(self, x: Any, *, as_frame: bool = False) -> list[np.ndarray] | list[Frame]:
        r"""Embed data: the means of q(z_j | x).

        Args:
            x: data (N, *x_shape).
            as_frame: as for :meth:`predict`.

        Returns:
            For each of the J facets, latents, float32, shape (N, D_j); in a table, ``z_0``, ...

        Raises:
            ValueError: if the data have another shape or are not finite.
        """
        found = self._blocks(x, lambda batch: [q.mean for q in self.model.encode(batch)[: self.num_facets]])
        return [numbered(z, "z", x) for z in found] if as_frame else found

    def nuisance(self, x: Any) -> np.ndarray:
        r"""Embed data in the nuisance, which :meth:`transform` leaves out: the means of its q(z | x).

        Args:
            x: data (N, *x_shape).

        Returns:
            Latents, float32, shape (N, D).

        Raises:
            ValueError: if the model has no nuisance, or the data have another shape or are not finite.
        """
        if self.model.nuisance is None:
            raise ValueError(
                "nuisance: got a model without one, expected one with a nuisance; train it with "
                "MFCVAEConfig(..., nuisance=5), say"
            )
        return self._blocks(x, lambda batch: [self.model.encode(batch)[-1].mean])[0]

    @overload
    def reconstruct(self, x: Any, *, as_frame: Literal[False] = False) -> np.ndarray: ...

    @overload
    def reconstruct(self, x: Any, *, as_frame: Literal[True]) -> Frame: ...

    def reconstruct(self, x: Any, *, as_frame: bool = False) -> np.ndarray | Frame:
        r"""Reconstruct data: E[x | z] at the means of q(z | x); for categories, the most probable one.

        Args:
            x: data (N, *x_shape).
            as_frame: as for :meth:`predict`; columns have their names, and categories and dates their values.

        Returns:
            Reconstructions in the units of x, shape (N, *x_shape): of all entries, be they
            observed or missing. :meth:`impute` keeps those that are observed. Counts of a likelihood with an
            exposure are expected at that of each datum.

        Raises:
            ValueError: if the data have another shape or are not finite.
        """
        found = self._blocks(x, lambda x: [self._mean([q.mean for q in self.model.encode(x)], x)])[0]
        return self._table(found, x) if as_frame else found

    @overload
    def impute(self, x: Any, *, as_frame: Literal[False] = False) -> np.ndarray: ...

    @overload
    def impute(self, x: Any, *, as_frame: Literal[True]) -> Frame: ...

    def impute(self, x: Any, *, as_frame: bool = False) -> np.ndarray | Frame:
        r"""Fill in the missing entries of x, as :meth:`reconstruct` has them.

        These are single guesses, the middle of what is likely, and vary less than data do.

        Args:
            x: data (N, *x_shape), with NaN where they are missing.
            as_frame: as for :meth:`reconstruct`.

        Returns:
            Complete data, shape (N, *x_shape), where what was observed is unchanged.

        Raises:
            ValueError: if the data have another shape, are infinite, or miss entries where the
                likelihood does not allow it.

        Example:
            >>> from pyro_mfcvae import Facet, Schedule, fit, presets
            >>> x = np.array([[1.0, 2.0], [3.0, np.nan], [np.nan, 4.0], [2.0, 3.0]])
            >>> config = presets.tabular(
            ...     facets=(Facet(2, 1),), likelihood="mixed", schedule=Schedule.progressive(1, epochs=1)
            ... )
            >>> np.isnan(fit(x, config, progress=False).impute(x)).any()
            np.False_
        """

        def impute(batch: Tensor) -> list[Tensor]:
            mean = self._mean([q.mean for q in self.model.encode(batch)], batch)
            return [torch.where(batch.isnan(), mean, batch)]

        found = self._blocks(x, impute)[0]
        return self._table(found, x) if as_frame else found

    def merge(
        self,
        facet: int,
        x: Any,
        clusters: int | None = None,
        *,
        method: Method = "modularity",
        threshold: float | None = None,
        num_data: int = 20_000,
        seed: int = 0,
    ) -> Self:
        r"""Join clusters of a facet that are parts of one, as many components are for a curved cluster.

        The model stays what it is, with its ELBO, and the same module; what it says of clusters is coarser:
        :math:`q(c|x)` and p(c) of a cluster are the sums of those of its components. Clusters are numbered
        by their first components. One without data joins the one that would take most of what it generates.

        ``"modularity"`` joins, pair by pair, clusters whose data are neighbours more often than by chance,
        in the graph of the 15 nearest neighbours in the latent, with edges shared by :math:`q(c|x)`. It
        stops at the highest modularity. The fewer dimensions and the more data, the smaller is the share of
        neighbours across a border, and the more clusters that leaves.

        ``"demp"`` joins the pair with the highest probability that a datum of one is taken for the other's,
        while this is at least ``threshold``.

        Args:
            facet: which, 0 .. J - 1.
            x: data (N, *x_shape), best those trained on; no labels are needed.
            clusters: number of clusters to stop at; None takes the one that the method finds.
            method: ``"modularity"`` or ``"demp"``.
            threshold: where ``"demp"`` stops if ``clusters`` does not say it; None is 0.025.
            num_data: number of data to go by at most, drawn from x; a cluster has data if it is the most
                probable one for some of these.
            seed: seed of this draw, and of what clusters without data generate.

        Returns:
            Another fitted model; this one is left as it is. Its ``levels[facet]`` prints what was joined,
            and can be merged further.

        Raises:
            ValueError: for a facet, method or number of clusters that does not exist, a threshold that has
                nothing to say, or data of another shape.

        References:
            Newman and Girvan (2004) for modularity; Hennig (2010), Methods for merging Gaussian mixture
            components, for DEMP.
        """
        facet = integer("facet", facet, 0, self.num_facets - 1)
        method = one_of("method", method, get_args(Method))
        if clusters is not None:
            clusters = integer("clusters", clusters, 1, self.clusters[facet])
        if threshold is not None and (method != "demp" or clusters is not None):
            raise ValueError(
                f"threshold: got {threshold!r} with method={method!r} and clusters={clusters!r}, expected "
                'None; give it only with method="demp" and without clusters'
            )
        threshold = number("threshold", THRESHOLD if threshold is None else threshold, above=0, most=1)
        data = rows_for(x, self.model)
        if len(data) > integer("num_data", num_data, least=2):
            rows = np.sort(np.random.default_rng(seed).choice(len(data), num_data, replace=False))
            data = data.take(rows) if isinstance(data, StoredRows) else data[rows]

        def embed(batch: Tensor) -> list[Tensor]:
            q = self.model.encode(batch)
            return [q[facet].mean, self.levels[facet].sums(self.model.responsibilities(q)[facet])]

        z, r = self._blocks(data, embed)
        with self.evaluating() as model:
            level = join(
                model.facet_priors[facet],
                self.levels[facet],
                z,
                r,
                clusters=clusters,
                method=method,
                threshold=threshold,
                seed=seed,
            )
        merged = copy.copy(self)
        merged.levels = (*self.levels[:facet], level, *self.levels[facet + 1 :])
        return merged

    def _responsibilities(self, x: Tensor) -> list[Tensor]:
        components = self.model.responsibilities(self.model.encode(x))
        return [level.sums(r) for level, r in zip(self.levels, components, strict=True)]

    @in_turn
    def _blocks(
        self, x: Any, function: Callable[[Tensor], list[Tensor]], seed: int | None = None
    ) -> list[np.ndarray]:
        """Apply a function of a batch to all data, with a seed if it draws, and join each of its results."""
        data = rows_for(x, self.model)
        results: list[Tensor] = []
        # Copied to one place: sums may depend on how memory is aligned, and so on where the data come from.
        block = torch.empty(BLOCK, *self.model.x_shape, dtype=self.model.likelihood.dtype)
        start = 0
        with self.evaluating(seed), torch.inference_mode():
            for part in data.split(BLOCK):
                stop = start + len(part)
                output = function(block[: len(part)].copy_(part).to(self.model.device))
                if not results:
                    results = [torch.empty(len(data), *y.shape[1:], dtype=y.dtype) for y in output]
                for result, y in zip(results, output, strict=True):
                    result[start:stop] = y
                start = stop
        return [result.numpy() for result in results]

    def _table(self, values: np.ndarray, like: Any = None) -> Frame:
        """Make a table of data (N, D), with the names and values of its columns where they are known."""
        if values.ndim != 2:
            raise ValueError(
                f"as_frame: got data of shape {values.shape[1:]}, expected vectors, the rows of a table; "
                "leave it out"
            )
        schema = self.model.schema
        return numbered(values, "x", like) if schema is None else schema.decode(values, like)

    def _mean(self, z: list[Tensor], x: Tensor | None = None) -> Tensor:
        return self.model.likelihood.given(x).mean(self.model.decode(z))
