"""A report: one HTML file of what a fitted model found, with all that it needs within."""

from __future__ import annotations

from pathlib import Path

from pyro_mfcvae._utils.files import replacing, writable
from pyro_mfcvae.likelihoods import GaussianLikelihood, MixedLikelihood
from pyro_mfcvae.metrics.labels import Names
from pyro_mfcvae.report import page
from pyro_mfcvae.report.combinations import Explorer
from pyro_mfcvae.report.curves import training_charts
from pyro_mfcvae.report.findings import find
from pyro_mfcvae.report.gallery import TEMPERATURE, galleries
from pyro_mfcvae.report.nuisance import nuisance_rows
from pyro_mfcvae.report.tiles import drawing
from pyro_mfcvae.results.fitted import FittedMFCVAE

__all__ = ["MAX_BYTES", "write_report"]

MAX_BYTES = 10_000_000  # of the file
GALLERY_SHARE = 0.35  # of them, at most
REST = 100_000  # of them, for all but the gallery and the explorer
SHRINK = 0.95  # of the cost of a plan that turned out too large


def write_report(
    fitted: FittedMFCVAE,
    path: str | Path,
    x: object,
    labels: object = None,
    names: Names = None,
    *,
    title: str | None = None,
    seed: int = 0,
) -> Path:
    """Write a report of data; see :meth:`FittedMFCVAE.report`."""
    target = writable(path)
    findings = find(fitted, x, labels, names, seed)
    columns = () if fitted.model.schema is None else fitted.model.schema.names
    draw = drawing(findings.x, own_scales=_has_columns(fitted.model.likelihood), names=columns)
    explorer = Explorer(fitted, findings, draw, seed)
    temperature = TEMPERATURE if explorer.knows_means else 1.0
    cards = galleries(
        fitted,
        findings,
        draw,
        bytes_per_tile=max(explorer.bytes_real, explorer.bytes_generated),
        temperature=temperature,
        seed=seed,
        budget=GALLERY_SHARE * MAX_BYTES,
    )
    content = {
        "title": title or "What the clusters are",
        "drawing": draw,
        "temperature": f"{temperature:g}",
        "figures": page.figures(fitted, findings),
        "scores": page.scores(findings),
        "galleries": cards,
        "nuisance": nuisance_rows(
            fitted, findings, draw, temperature=0.0 if explorer.knows_means else 1.0, seed=seed
        ),
        "charts": training_charts(fitted) if fitted.history else [],
        "tables": page.settings(fitted),
    }
    budget: float = MAX_BYTES - len(page.render("clusters.html", **content).encode()) - REST
    while True:
        plan = explorer.plan(budget)
        choices, data = page.pickers(findings, plan), explorer.content(plan)
        text = page.render("page.html", plan=plan, pickers=choices, data=data, **content).encode()
        if len(text) <= MAX_BYTES or plan.num_combinations == 1:
            with replacing(target) as file:
                file.write(text)
            return target
        budget = SHRINK * explorer.cost(plan)  # which was estimated too low


def _has_columns(likelihood: object) -> bool:
    """Say whether elements of x are columns of a table, each with a scale of its own."""
    is_standardized = isinstance(likelihood, GaussianLikelihood) and likelihood.standardize
    return is_standardized or isinstance(likelihood, MixedLikelihood)
