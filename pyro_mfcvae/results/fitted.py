"""The fitted model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from pyro_mfcvae._utils.checks import integer
from pyro_mfcvae._utils.tables import html_table
from pyro_mfcvae.data.choosing import data_for, rows_for
from pyro_mfcvae.metrics.evaluation import Evaluation, evaluate
from pyro_mfcvae.metrics.labels import Names
from pyro_mfcvae.model.mfcvae import MFCVAE, ELBOTerms
from pyro_mfcvae.posterior import importance
from pyro_mfcvae.posterior.arviz_groups import convert
from pyro_mfcvae.posterior.facet_mixture import Embedding, check_embedding, sample_facet_mixture
from pyro_mfcvae.posterior.inference_data import groups
from pyro_mfcvae.posterior.mcmc import Kernel, MixturePosterior
from pyro_mfcvae.priors import HyperPriors
from pyro_mfcvae.results.choosing import RunScore
from pyro_mfcvae.results.exporting import export
from pyro_mfcvae.results.generator import Generator
from pyro_mfcvae.results.storage import StoredModel, write_model
from pyro_mfcvae.training.history import EpochRecord, History


class FittedMFCVAE(Generator):
    """A trained Multi-Facet Clustering VAE.

    All methods take data in any form that :func:`pyro_mfcvae.fit` takes, of any number down to one, and
    return NumPy arrays. Unsigned 8-bit data are scaled to [0, 1]. Memory-mapped arrays, and ``.npy`` files
    given by their path, are read block by block, but for pictures, reports and draws. Entries may be
    missing, that is NaN, where the likelihood allows it: every method then goes by what is observed.

    Args:
        model: the trained module.
        history: one record for each epoch of training.
        seed: what it was trained with, if that is known.

    Attributes:
        model: the trained module, on the device where it computes.
        history: one :class:`EpochRecord` for each epoch of training; its ``environment`` is what the model
            was trained in: precision, device, processor, threads and versions.
        seed: what it was trained with; None if that is not known, as of files of earlier versions.
        restarts: with ``fit(..., restarts=...)``, the figures of every run that did not diverge, by seed, by
            which this model was chosen, as :attr:`FittedRuns.best` is; empty else.
    """

    def __init__(self, model: MFCVAE, history: Sequence[EpochRecord], *, seed: int | None = None) -> None:
        super().__init__(model)
        self.history = history if isinstance(history, History) else History(history)
        self.seed = seed
        self.restarts: dict[int, RunScore] = {}

    def __repr__(self) -> str:
        facets = ", ".join(
            f"{facet.clusters} clusters{f', joined to {level.num_clusters},' if level.is_joined else ''} in "
            f"{facet.latent_dim} dimensions"
            for facet, level in zip(self.model.config.facets, self.levels, strict=True)
        )
        if self.model.config.nuisance:
            facets += f"; nuisance in {self.model.config.nuisance} dimensions"
        environment = self.history.environment
        trained = "" if environment is None else f"; trained in {environment}"
        return f"FittedMFCVAE({self.num_facets} facets: {facets}; x_shape={self.model.x_shape}{trained})"

    def _repr_html_(self) -> str:
        return self.config._repr_html_() + html_table([["model"], [repr(self)]], [])

    def score(self, x: Any, *, seed: int = 0) -> float:
        r"""Compute the mean ELBO, with one sample of z for each datum.

        .. math::
            \frac1N \sum_n E_q \log p(x_n|z) + \sum_j \log \sum_k \pi_{jk} e^{-\mathrm{KL}_{jk}(x_n)}

        A nuisance adds its :math:`-\mathrm{KL}(q(z|x_n) \,\|\, N(0, I))`.

        Args:
            x: data (N, *x_shape).
            seed: seed of the samples.

        Returns:
            Nats per datum; higher is better.

        Raises:
            ValueError: if the data have another shape or are invalid under the likelihood.
        """
        x = rows_for(x, self.model, support=True)

        def elbo(batch: Tensor) -> list[Tensor]:
            terms: ELBOTerms = self.model.elbo_terms(batch)
            return [terms.elbo]

        return float(self._blocks(x, elbo, seed)[0].astype(np.float64).mean())

    def log_likelihood(self, x: Any, num_particles: int = 100, seed: int = 0) -> np.ndarray:
        r"""Estimate log p(x) of each datum by importance weights, which is closer to it than the ELBO.

        .. math::
            \log p(x_n) \ge E \log \frac1S \sum_s
            \frac{p(x_n|z_s) \prod_j p(z_{j,s})}{\prod_j q(z_{j,s}|x_n)}, \qquad z_s \sim q(z|x_n)

        :math:`p(z_j)` is the mixture, with the discrete variable summed out; a nuisance is one more of
        the latents. The expectation grows with
        S, from that of the ELBO with objective ``"marginal"`` at S = 1 to log p(x). :meth:`pareto_k` says
        whether S suffices.

        Args:
            x: data (N, *x_shape).
            num_particles: samples S for each datum; memory does not grow with it.
            seed: seed of the samples.

        Returns:
            Nats, float64, shape (N,); higher is better.

        Raises:
            ValueError: if the data have another shape or are invalid under the likelihood, or
                ``num_particles`` is not an integer of at least 1.

        References:
            Burda et al. (2016), Importance weighted autoencoders.
        """
        return self.bounds(x, num_particles, seed).log_likelihood

    def pareto_k(self, x: Any, num_particles: int = 1000, seed: int = 0) -> np.ndarray:
        """Tell how far :meth:`log_likelihood` of each datum, with as many samples, can be trusted.

        Below 0.7 the error falls with the number of samples as usual; above it, a few samples dominate
        the estimate, and it is likely to be too low by an unknown amount.

        Args:
            x: data (N, *x_shape).
            num_particles: samples S for each datum, at least 25.
            seed: seed of the samples.

        Returns:
            The shape k of the tail of the importance weights, float64, shape (N,).

        Raises:
            ValueError: as :meth:`log_likelihood`, and for fewer than 25 samples.

        References:
            Vehtari et al. (2024), Pareto smoothed importance sampling.
        """
        num_particles = integer("num_particles", num_particles, least=importance.MIN_PARTICLES)
        return self.bounds(x, num_particles, seed).pareto_k

    def bounds(self, x: Any, num_particles: int = 100, seed: int = 0) -> importance.Bounds:
        """Compute ELBO, :meth:`log_likelihood` and :meth:`pareto_k` of each datum from the same samples.

        Args:
            x: data (N, *x_shape).
            num_particles: samples S for each datum; with fewer than 25, k is NaN.
            seed: seed of the samples.

        Returns:
            Fields ``elbo`` and ``log_likelihood``, in nats, and ``pareto_k``, each float64, shape (N,).

        Raises:
            ValueError: as :meth:`log_likelihood`.
        """
        num_particles = integer("num_particles", num_particles, least=1)
        x = rows_for(x, self.model, support=True)
        with self.evaluating(seed):
            return importance.bounds(self.model, x, num_particles)

    def evaluate(self, x: Any, labels: object, names: Names = None) -> Evaluation:
        r"""Compare every facet with every label, which must not have been used to train or select.

        Args:
            x: data (N, *x_shape).
            labels: classes, (N,) or (N, F) for F kinds of label: integers, booleans or text, in an array, a
                tensor, lists, or a series or table of pandas, polars or Arrow.
            names: names of the F kinds; or a mapping from these to the names of their classes, of which
                label 0 has the first, or to None. Without names, those of a table are taken.

        Returns:
            A table that prints: purity, Hungarian accuracy, NMI, ARI and calibration error of every facet
            and label, which facet is closest to each label, confidence, and the redundancy between facets.

        Raises:
            TypeError: if labels are no classes.
            ValueError: if data and labels differ in length, or labels are missing.
        """
        r = self.predict_proba(x)
        clusters = np.stack([r_j.argmax(-1) for r_j in r], axis=1)
        return evaluate(clusters, labels, names, self.clusters, r)

    def report(
        self,
        path: str | Path,
        x: Any,
        labels: object = None,
        names: Names = None,
        *,
        title: str | None = None,
        seed: int = 0,
    ) -> Path:
        r"""Write one HTML file of what was found, with all that it needs within: it opens anywhere.

        It has the scores, every cluster of every facet with its most confident data and what it generates, an
        explorer of their combinations, the training's curves, and the settings. It stays below 10 MB:
        where clusters combine in too many ways, it has fewer pictures of each combination, then only the
        largest clusters, and says so. The same model, data and seed give the same file.

        Args:
            path: path of the file; its folder must exist, and a file that is there is replaced.
            x: data (N, *x_shape), best such as were not trained on.
            labels: classes, as :meth:`evaluate` takes them, if there are any.
            names: names of the labels and of their classes, as :meth:`evaluate` takes them.
            title: title of the page.
            seed: seed of what is generated.

        Returns:
            The path of the file.

        Raises:
            FileNotFoundError: if the folder does not exist.
            IsADirectoryError: if ``path`` is a folder.
            TypeError: if the labels are no classes.
            ValueError: if the data have another shape or are invalid under the likelihood, data and labels
                differ in length, or there are names without labels.
        """
        from pyro_mfcvae.report import write_report  # which needs this module's class

        return write_report(self, path, x, labels, names, title=title, seed=seed)

    def to_inference_data(
        self, x: Any, *, num_draws: int = 100, seed: int = 0, predictive: bool = True
    ) -> Any:
        r"""Draw what the model says of data, for ArviZ: one chain of independent draws from q(z | x).

        R-hat and the effective sample size of such draws say nothing about how well q fits; the Pareto k
        of the importance weights does, and so does ``posterior_predictive`` beside ``observed_data``.

        ===================== ==========================================================================
        group                 variables, and their dimensions after ``(chain, draw)``
        ===================== ==========================================================================
        posterior             ``z_j (datum, z_j_dim)``, and ``z_nuisance`` if there is one;
                              ``responsibilities_j (datum, cluster_j)``, which are the same in all draws;
                              draws of what all data share, if the prior has any
        posterior_predictive  ``x (datum, x_dim_0, ...)`` from p(x | z)
        prior_predictive      ``x``, of as many data, from p(z) p(x | z)
        log_likelihood        ``x (datum)``: log p(x_n), importance-weighted over all draws. The draws are
                              Bayesian bootstraps of the weights: they differ by its Monte Carlo error
        sample_stats          ``log_weight (datum)``: log p(x, z) - log q(z | x); ``pareto_k``, without
                              chain and draw, for 25 draws or more
        observed_data         ``x``, without chain and draw
        training              the fields of :attr:`history` by ``epoch`` and ``facet``
        ===================== ==========================================================================

        ``arviz.summary`` is for ``z_j``: of constants, such as the responsibilities, it makes NaN and zeros.
        Log-likelihoods are in nats, and of x given point estimates of the parameters: what
        ``arviz.loo`` makes of them is an out-of-sample score if x was not trained on.

        Args:
            x: data (N, *x_shape).
            num_draws: number of draws S.
            seed: seed of the draws.
            predictive: whether to draw data, too; they are 2 S times as large as x.

        Returns:
            ``arviz.InferenceData`` where ArviZ is older than version 1, else ``xarray.DataTree``, which
            is what ArviZ takes then.

        Raises:
            ValueError: if the data have another shape or are invalid under the likelihood, if there are no
                draws, or if the predictive groups would have more than 2**28 values each.

        References:
            Kumar, Carroll, Hartikainen and Martin (2019), ArviZ; Vehtari et al. (2024) for k; Rubin
            (1981), The Bayesian bootstrap.
        """
        x = data_for(x, self.model)
        self.model.likelihood.check(x, "x")
        with self.evaluating(seed):
            data = groups(
                self.model,
                x,
                self.history,
                self._responsibilities,
                num_draws=num_draws,
                seed=seed,
                predictive=predictive,
            )
        return convert(data)

    def sample_mixture(
        self,
        facet: int,
        x: Any,
        *,
        embedding: Embedding = "posterior",
        clusters: Sequence[int] | None = None,
        hyper_priors: HyperPriors | None = None,
        kernel: Kernel = "nuts",
        num_samples: int = 1_000,
        warmup_steps: int = 500,
        num_chains: int = 4,
        seed: int = 0,
        progress: bool = True,
    ) -> MixturePosterior:
        r"""Draw one facet's mixture given the embedding of x, by Hamiltonian Monte Carlo.

        .. math::
            p(\theta \mid x) \propto p(\theta) \prod_n \sum_k \pi_k
            \exp E_{q(z \mid x_n)} \log N(z; \mu_k, \Sigma_k)

        The networks are held fixed. As written, the likelihood is the facet's term of the ELBO as a function
        of the mixture, for which the width of q(z | x) counts: ``embedding="posterior"``. With ``"sample"``,
        one draw from q(z | x) for each datum takes its place, which adds the noise of the draw, and with
        ``"mean"`` the mean of q(z | x), which makes the components narrower than p(z | c) is.

        Args:
            facet: which, 0 .. J - 1; its components must be Gaussian.
            x: data (N, *x_shape).
            embedding: ``"posterior"``, ``"sample"`` or ``"mean"``.
            clusters: which of the facet's components the mixture has, which are its clusters unless these
                were joined; None takes those that are the most probable one for some datum.
            hyper_priors: in units of the embedding's standard deviation; None is their defaults.
            kernel: ``"nuts"`` or ``"hmc"``.
            num_samples: draws of each chain that are kept.
            warmup_steps: draws of each chain before those.
            num_chains: number of chains, at least 2.
            seed: seed of the chains, and of the draw from q(z | x).
            progress: whether to show a progress bar.

        Returns:
            Draws of weights, means and covariances, with R-hat and ESS, in the order of ``clusters``.

        Raises:
            ValueError: for a facet or cluster that does not exist, components that are not Gaussian, or data
                of another shape.

        Warns:
            SamplingWarning: if an R-hat is above 1.01, a bulk ESS below 400, or a trajectory diverged.
        """
        if facet not in range(self.num_facets):
            raise ValueError(f"facet: got {facet!r}, expected one of 0 .. {self.num_facets - 1}")
        check_embedding(embedding)

        def embed(batch: Tensor) -> list[Tensor]:
            q = self.model.encode(batch)
            return [q[facet].mean, q[facet].variance, self.model.responsibilities(q)[facet].argmax(-1)]

        return sample_facet_mixture(
            self.model.facet_priors[facet],
            *self._blocks(x, embed),
            embedding=embedding,
            clusters=clusters,
            hyper_priors=hyper_priors,
            kernel=kernel,
            num_samples=num_samples,
            warmup_steps=warmup_steps,
            num_chains=num_chains,
            seed=seed,
            progress=progress,
        )

    def save(self, path: str | Path) -> None:
        """Write the model to one file (safetensors, with configuration, history and seeds as JSON in it).

        A prior, likelihood or network of one's own has its parameters in it, but not its code:
        :func:`load` then needs the configuration.

        Args:
            path: path of the file; its folder must exist.

        Raises:
            FileNotFoundError: if the folder does not exist.
            IsADirectoryError: if the path is a folder.
        """
        write_model(path, StoredModel(self.model, self.history, self.seed, self.restarts, self.levels))

    def export(self, path: str | Path, format: Literal["torch", "onnx"] | None = None) -> None:
        """Write the model as a program that needs neither this package nor Pyro, for batches of any size.

        It takes x (N, *x_shape) of the type that the likelihood has, and returns by name what
        :meth:`predict`, :meth:`predict_proba` and :meth:`transform` do: ``clusters``, int64 (N, J), and for
        each facet ``probabilities_j``, (N, K_j), and ``latents_j``, (N, D_j). A table is given as the numbers
        of ``config.schema.encode``. Unlike here, data are not checked.

        Args:
            path: path of the file, which ends with ``.pt2`` or ``.onnx``.
            format: what it is for, if its name does not say so: ``torch.export.load(path).module()`` or ONNX.

        Raises:
            FileNotFoundError: if the folder does not exist.
            ImportError: if onnx or onnxscript is not installed.
            ValueError: for another format, and if ONNX lacks what the model needs, as for Student's t.
        """
        export(self, path, format)
