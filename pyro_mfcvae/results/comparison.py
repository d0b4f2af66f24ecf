"""A comparison of several models, as a table and a picture."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyro_mfcvae._utils.tables import html_table, text_table
from pyro_mfcvae.metrics import matching, score_table
from pyro_mfcvae.results.fitted import FittedMFCVAE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

RELIABLE = 0.7  # Pareto k up to which an estimate of log p(x) can be trusted


@dataclass(frozen=True, eq=False)
class ComparedModel:
    """Findings for one entry, in R runs with J facets, on N held-out data.

    Attributes:
        name: name of the entry.
        fits: the R models.
        clusters: clusters of each datum in each facet, int64, shape (R, N, J).
        elbo: nats, shape (R, N).
        log_likelihood: importance-weighted, nats, shape (R, N).
        pareto_k: shape k of the weights, shape (R, N); NaN for fewer than 25 particles.
        effective_clusters: exp of the entropy of the mean responsibilities, shape (R, J).
        seconds: seconds of training, shape (R,); NaN where it is not known.
    """

    name: str
    fits: tuple[FittedMFCVAE, ...]
    clusters: Integers
    elbo: Floats
    log_likelihood: Floats
    pareto_k: Floats
    effective_clusters: Floats
    seconds: Floats


@dataclass(frozen=True, eq=False)
class FacetAgreement:
    """Agreement of the facets of two entries, as clusterings.

    Attributes:
        matrix: adjusted Rand index of each facet of the one with each of the other, mean over all pairs of
            their runs, shape (J, J').
        matches: pairs of facets, each facet in one at most, with the largest sum of indices.
    """

    matrix: Floats
    matches: tuple[tuple[int, int], ...]

    @property
    def mean(self) -> float:
        """Mean of the adjusted Rand index over the matched facets."""
        return float(np.mean([self.matrix[pair] for pair in self.matches]))


@dataclass(frozen=True, eq=False)
class Comparison(Mapping[str, ComparedModel]):
    """Models side by side, as a mapping from names to :class:`ComparedModel`; ``print`` shows a table.

    Attributes:
        models: what was found for each entry.
        agreement: for every two entries, by their names, how far their facets are the same.
        num_particles: samples for the log-likelihood of each datum.
    """

    models: tuple[ComparedModel, ...]
    agreement: dict[tuple[str, str], FacetAgreement]
    num_particles: int

    def __getitem__(self, name: str) -> ComparedModel:
        for model in self.models:
            if model.name == name:
                return model
        raise KeyError(f"{name!r}; the names are {', '.join(map(repr, self))}")

    def __iter__(self) -> Iterator[str]:
        return (model.name for model in self.models)

    def __len__(self) -> int:
        return len(self.models)

    @property
    def num_data(self) -> int:
        """Number of held-out data N."""
        return len(self.models[0].elbo[0])

    @property
    def best(self) -> str:
        """Name of the entry with the highest log-likelihood of the held-out data, mean over its runs."""
        return max(self.models, key=lambda model: model.log_likelihood.mean()).name

    def summary(self, name: str) -> dict[str, float]:
        """The figures of one entry, each a mean over its runs.

        Args:
            name: name of the entry.

        Returns:
            By the names of :meth:`to_pandas`; standard errors are over the data, ``_sd`` over the runs.

        Raises:
            KeyError: if there is no such entry.
        """
        model, best = self[name], self[self.best]
        difference = best.log_likelihood.mean(0) - model.log_likelihood.mean(0)
        figures: dict[str, float] = {"runs": len(model.fits)}
        for key, values in (("elbo", model.elbo), ("log_likelihood", model.log_likelihood)):
            figures[key], figures[f"{key}_se"] = mean_and_se(values.mean(0))
            figures[f"{key}_sd"] = _sd(values.mean(1))
        figures["behind"], figures["behind_se"] = mean_and_se(difference)
        unreliable = model.pareto_k > RELIABLE
        figures["unreliable"] = np.nan if np.isnan(model.pareto_k).any() else float(unreliable.mean())
        for j, number in enumerate(model.effective_clusters.mean(0)):
            figures[f"effective_clusters_{j}"] = float(number)
        return {**figures, "seconds": float(model.seconds.mean())}

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` with a row for each entry.

        Its columns are ``runs``; ``elbo`` and ``log_likelihood`` in nats per datum, each with ``_se``, the
        standard error over the data, and ``_sd``, the standard deviation between runs; ``behind``, the
        log-likelihood that is missing to the best entry, with ``_se``; ``unreliable``, the share of data
        with Pareto k above 0.7; ``effective_clusters_j`` of every facet; and ``seconds``.

        Raises:
            ImportError: if pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "pandas is not installed, expected any version; run pip install pandas, or use summary(name)"
            ) from error
        return pd.DataFrame({name: self.summary(name) for name in self}).T.rename_axis("model")

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw log-likelihood and ELBO of every entry with ``plots.comparison.plot_comparison``.

        Args:
            ax: where to draw; None makes a figure of its own.

        Returns:
            The figure.
        """
        from pyro_mfcvae.plots.comparison import plot_comparison

        return plot_comparison(self, ax)

    def _table(self) -> list[list[str]]:
        several = any(len(model.fits) > 1 for model in self.models)
        titles = ["model", "ELBO", "log p(x)", "behind the best"]
        if several:
            titles += ["runs", "sd of runs"]
        rows = [[*titles, f"k > {RELIABLE}", "effective clusters", "seconds"]]
        for name, model in self.items():
            figures = self.summary(name)
            row = [name]
            for key in ("elbo", "log_likelihood", "behind"):
                row.append(f"{figures[key]:z.2f} +- {figures[key + '_se']:.2f}")
            if name == self.best:
                row[3] = "best"
            if several:
                row += [str(len(model.fits)), _known(figures["log_likelihood_sd"], ".2f")]
            row.append(_known(figures["unreliable"], ".0%"))
            numbers = zip(model.effective_clusters.mean(0), model.fits[0].clusters, strict=True)
            row.append(", ".join(f"{number:.1f}/{K}" for number, K in numbers))
            row.append(_known(figures["seconds"], ".1f"))
            rows.append(row)
        return rows

    def _notes(self) -> list[str]:
        notes = [
            f"nats per datum, mean +- standard error over {self.num_data:,} held-out data; log p(x): "
            f"importance-weighted, {self.num_particles} particles",
            f"k > {RELIABLE}: share of the data whose log p(x) is likely to be higher",
            "effective clusters: for each facet, of all that it has",
        ]
        kinds = sorted({type(model.fits[0].model.likelihood).__name__ for model in self.models})
        if len(kinds) > 1:
            notes.append(
                f"different likelihoods ({', '.join(kinds)}): ELBO and log p(x) compare only where all are "
                "densities, or all probabilities, of the same data"
            )
        for (one, other), agreement in self.agreement.items():
            pairs = ", ".join(f"{i}-{j} {agreement.matrix[i, j]:z.3f}" for i, j in agreement.matches)
            notes.append(f"matched facets (ARI), {one} with {other}: {pairs}")
        return notes

    def __str__(self) -> str:
        return "\n".join([text_table(self._table(), left={0}), *self._notes()])

    def __repr__(self) -> str:
        return f"Comparison({', '.join(self)}; {self.num_data:,} held-out data; best: {self.best})"

    def _repr_html_(self) -> str:
        return html_table(self._table(), self._notes())


def match_facets(one: Integers, other: Integers) -> FacetAgreement:
    """The best one-to-one matching of the facets of two models, by the adjusted Rand index.

    Args:
        one: clusters of each run, datum and facet, integers (R, N, J).
        other: clusters of the same data, integers (R', N, J').

    Returns:
        The indices, and min(J, J') matched pairs.

    References:
        Kuhn (1955), The Hungarian method; Hubert and Arabie (1985), Comparing partitions.
    """
    matrix = np.mean([score_table(a, b, "ari") for a, b in itertools.product(one, other)], axis=0)
    return FacetAgreement(matrix, tuple(sorted(matching(matrix))))


def mean_and_se(values: Floats) -> tuple[float, float]:
    """Mean of N values and its standard error, which is NaN for one.

    >>> mean_and_se(np.array([1.0, 2.0, 3.0, 2.0]))
    (2.0, 0.408248290463863)
    """
    return float(values.mean()), _sd(values) / len(values) ** 0.5


def _known(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)


def _sd(values: Floats) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")
