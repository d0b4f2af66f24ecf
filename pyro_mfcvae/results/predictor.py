"""A model that predicts: NumPy arrays in and out, whatever its device, in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_mfcvae._utils.checks import integer, number
from pyro_mfcvae._utils.devices import Precision, resolve_precision, seeded
from pyro_mfcvae.config.mfcvae import MFCVAEConfig
from pyro_mfcvae.data.choosing import rows_for
from pyro_mfcvae.model.mfcvae import MFCVAE
from pyro_mfcvae.model.weights import network_precision

BLOCK = 512  # data that are computed at a time, at most


class Predictor:
    """Predicts clusters and latents of data, and generates data, with a model that it leaves as it is.

    Args:
        model: the module; whatever mode it is in, predictions are those of evaluation mode.

    Attributes:
        model: the module, on the device where it computes.
    """

    def __init__(self, model: MFCVAE) -> None:
        self.model = model
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
    def evaluating(self) -> Iterator[MFCVAE]:
        """Let the model predict within: in evaluation mode, in :attr:`precision` and without gradients.

        Yields:
            The model.
        """
        training = [module for module in self.model.modules() if module.training]
        for module in training:
            module.training = False
        try:
            with torch.no_grad(), network_precision(self._precision):
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
        return tuple(facet.clusters for facet in self.model.config.facets)

    @property
    def num_facets(self) -> int:
        """Number of facets J."""
        return len(self.clusters)

    def predict(self, x: Any) -> np.ndarray:
        r"""Predict the most probable cluster of every facet.

        Args:
            x: data (N, *x_shape).

        Returns:
            Cluster indices, int64, shape (N, J).

        Raises:
            ValueError: if the data have another shape or are not finite.
        """

        def clusters(batch: Tensor) -> list[Tensor]:
            return [torch.stack([r.argmax(-1) for r in self._responsibilities(batch)], dim=1)]

        # In every block, since all responsibilities, N x K, may be many times the data.
        return self._blocks(x, clusters)[0]

    def predict_proba(self, x: Any) -> list[np.ndarray]:
        r"""Compute the categorical posteriors :math:`q(c_j | x)` at their optimum.

        Args:
            x: data (N, *x_shape).

        Returns:
            For each of the J facets, probabilities, float32, shape (N, K_j).

        Raises:
            ValueError: if the data have another shape or are not finite.

        References:
            Falck et al. (2021), theorem 1.
        """
        return self._blocks(x, self._responsibilities)

    def transform(self, x: Any) -> list[np.ndarray]:
        r"""Embed data: the means of q(z_j | x).

        Args:
            x: data (N, *x_shape).

        Returns:
            For each of the J facets, latents, float32, shape (N, D_j).

        Raises:
            ValueError: if the data have another shape or are not finite.
        """
        return self._blocks(x, lambda batch: [q.mean for q in self.model.encode(batch)[: self.num_facets]])

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

    def reconstruct(self, x: Any) -> np.ndarray:
        r"""Reconstruct data: E[x | z] at the means of q(z | x); for categories, the most probable one.

        Args:
            x: data (N, *x_shape).

        Returns:
            Reconstructions in the units of x, float32, shape (N, *x_shape): of all entries, be they
            observed or missing. :meth:`impute` keeps those that are observed.

        Raises:
            ValueError: if the data have another shape or are not finite.
        """
        return self._blocks(x, lambda x: [self._mean([q.mean for q in self.model.encode(x)])])[0]

    def impute(self, x: Any) -> np.ndarray:
        r"""Fill in the missing entries of x, as :meth:`reconstruct` has them.

        These are single guesses, the middle of what is likely, and vary less than data do.

        Args:
            x: data (N, *x_shape), with NaN where they are missing.

        Returns:
            Complete data, float32, shape (N, *x_shape), where what was observed is unchanged.

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
            mean = self._mean([q.mean for q in self.model.encode(batch)])
            return [torch.where(batch.isnan(), mean, batch)]

        return self._blocks(x, impute)[0]

    def sample(
        self,
        n: int,
        clusters: Mapping[int, int] | None = None,
        *,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> np.ndarray:
        r"""Generate data, with the clusters of some facets given: E[x | z] at z drawn from the prior.

        Args:
            n: how many.
            clusters: facet to cluster, as in ``{1: 3}``; the other facets' are drawn from p(c_j).
            temperature: factor of the deviations of z from the mean of its component; 0 is the mean. That of
                a nuisance is zero.
            seed: seed of the draws.

        Returns:
            Generated data in the units of x, float32, shape (n, *x_shape).

        Raises:
            ValueError: for a facet or cluster that does not exist, or a negative temperature.
        """
        clusters = dict(clusters or {})
        for j, k in clusters.items():
            if j not in range(self.num_facets) or k not in range(self.clusters[j]):
                raise ValueError(
                    f"clusters: got {{{j}: {k}}}, expected a facet of 0 .. {self.num_facets - 1} and "
                    f"one of its clusters, of which there are {self.clusters}"
                )
        n = integer("n", n, least=1)
        temperature = number("temperature", temperature, least=0)
        with self.evaluating(), seeded(seed, self.model.device):
            z = []
            for j, prior in enumerate(self.model.latent_priors):
                c = prior.weights().sample(torch.Size([n]))
                z.append(prior.draw(torch.full_like(c, clusters[j]) if j in clusters else c, temperature))
            return self._mean(z).cpu().numpy()

    def compose(self, x: Sequence[Any]) -> np.ndarray:
        r"""Recombine facets of different inputs: z_j from the j-th of them.

        Args:
            x: for each of the J facets, data (N, *x_shape) that give this facet. Where the model has a
                nuisance there may be one more, the last, that give it; without them, those of facet 0 do.

        Returns:
            Compositions in the units of x, float32, shape (N, *x_shape).

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

    def _responsibilities(self, x: Tensor) -> list[Tensor]:
        return self.model.responsibilities(self.model.encode(x))

    @torch.inference_mode()
    def _blocks(self, x: Any, function: Callable[[Tensor], list[Tensor]]) -> list[np.ndarray]:
        """Apply a function of a batch to all data, and join each of its results."""
        data = rows_for(x, self.model.likelihood, self.model.x_shape)
        results: list[Tensor] = []
        # Copied to one place: sums may depend on how memory is aligned, and so on where the data come from.
        block = torch.empty(BLOCK, *self.model.x_shape)
        start = 0
        with self.evaluating():
            for part in data.split(BLOCK):
                stop = start + len(part)
                output = function(block[: len(part)].copy_(part).to(self.model.device))
                if not results:
                    results = [torch.empty(len(data), *y.shape[1:], dtype=y.dtype) for y in output]
                for result, y in zip(results, output, strict=True):
                    result[start:stop] = y
                start = stop
        return [result.numpy() for result in results]

    def _mean(self, z: list[Tensor]) -> Tensor:
        return self.model.likelihood.mean(self.model.decode(z))
