"""A report: one HTML file of what a fitted model found, with all that it needs within."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyro_mfcvae._utils.files import replacing, writable
from pyro_mfcvae.likelihoods import GaussianLikelihood, MixedLikelihood
from pyro_mfcvae.report import page
from pyro_mfcvae.report.combinations import Explorer
from pyro_mfcvae.report.findings import find
from pyro_mfcvae.report.gallery import TEMPERATURE, Gallery
from pyro_mfcvae.report.tiles import drawing

if TYPE_CHECKING:
    from pyro_mfcvae.results.fitted import FittedMFCVAE

__all__ = ["MAX_BYTES", "write_report"]

MAX_BYTES = 10_000_000  # of the file
GALLERY_SHARE = 0.35  # of them, at most
REST = 100_000  # of them, for all but the gallery and the explorer
SHRINK = 0.95  # of the cost of a plan that turned out too large


def write_report(
    fitted: FittedMFCVAE,
    path: str | Path,
    x: Any,
    labels: Any = None,
    names: Sequence[str] | None = None,
    *,
    title: str | None = None,
    seed: int = 0,
) -> Path:
    """Write a report of data; see :meth:`FittedMFCVAE.report`."""
    target = writable(path)
    findings = find(fitted, x, labels, names, seed)
    draw = drawing(findings.x, own_scales=_has_columns(fitted.model.likelihood))
    explorer = Explorer(fitted, findings, draw, seed)
    temperature = TEMPERATURE if explorer.knows_means else 1.0
    gallery = Gallery(
        fitted,
        findings,
        draw,
        bytes_per_tile=max(explorer.bytes_real, explorer.bytes_generated),
        temperature=temperature,
        seed=seed,
        budget=GALLERY_SHARE * MAX_BYTES,
    )
    clusters = "".join(gallery.facet(j) for j in range(fitted.num_facets))
    budget: float = MAX_BYTES - len(clusters.encode()) - REST
    while True:
        plan = explorer.plan(budget)
        sections = [
            page.Section("summary", "Summary", page.summary(fitted, findings)),
            page.Section("scores", "Scores", page.scores(findings)),
            page.Section("explorer", "Combinations", page.explorer(findings, plan, draw)),
            page.Section("clusters", "Clusters", clusters),
            page.Section("training", "Training", page.training(fitted)),
            page.Section("settings", "Settings", page.settings(fitted)),
            page.Section("notes", "How to read this", page.notes(findings, plan, draw, temperature)),
        ]
        text = page.page(title or "What the clusters are", sections, explorer.content(plan)).encode()
        if len(text) <= MAX_BYTES or plan.num_combinations == 1:
            with replacing(target) as file:
                file.write(text)
            return target
        budget = SHRINK * explorer.cost(plan)  # which was estimated too low


def _has_columns(likelihood: Any) -> bool:
    """Whether elements of x are columns of a table, each with a scale of its own."""
    is_standardized = isinstance(likelihood, GaussianLikelihood) and likelihood.standardize
    return is_standardized or isinstance(likelihood, MixedLikelihood)
