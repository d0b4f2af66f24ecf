"""The page of a report: its sections as HTML, and all of them in the template."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any

from pyro_mfcvae._utils.devices import Environment
from pyro_mfcvae.config.schedule import Stage
from pyro_mfcvae.metrics.evaluation import ALL_TITLES
from pyro_mfcvae.report.combinations import Plan
from pyro_mfcvae.report.curves import training_charts
from pyro_mfcvae.report.findings import Findings
from pyro_mfcvae.report.tiles import Drawing

if TYPE_CHECKING:
    from pyro_mfcvae.results.fitted import FittedMFCVAE

ESSENTIAL = ("introduces", "epochs", "steps", "batch_size", "optimizer", "learning_rate")  # of a stage


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading of the second level.

    Attributes:
        name: its anchor.
        title: its heading, plain text.
        body: HTML.
    """

    name: str
    title: str
    body: str


def page(title: str, sections: Sequence[Section], data: dict[str, Any]) -> str:
    """The whole file.

    Args:
        title: plain text.
        sections: in their order.
        data: what the script reads.
    """
    from pyro_mfcvae._utils.version import __version__

    files = resources.files("pyro_mfcvae.report")
    style, script, template = (
        files.joinpath(name).read_text("utf-8") for name in ("style.css", "explorer.js", "template.html")
    )
    return Template(template).substitute(
        title=escape(title),
        version=__version__,
        navigation=" ".join(f'<a href="#{s.name}">{escape(s.title)}</a>' for s in sections),
        sections="\n".join(
            f'<section id="{s.name}" aria-labelledby="{s.name}-title">'
            f'<h2 id="{s.name}-title">{escape(s.title)}</h2>{s.body}</section>'
            for s in sections
        ),
        # Within a script element only "<" can end it or start a comment.
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        style=style,
        script=script,
    )


def summary(fitted: FittedMFCVAE, findings: Findings) -> str:
    """The figures that come first."""
    N, x_shape = len(findings.x), fitted.model.x_shape
    figures = {
        "data on this page": f"{N:,}",
        "shape of a datum": " x ".join(map(str, x_shape)),
        "ELBO of these data": f"{findings.elbo:,.2f} nats",
    }
    for j, clusters in enumerate(findings.facets):
        alive = sum(cluster.size > 0 for cluster in clusters)
        figures[f"clusters of facet {j} in use"] = f"{alive} of {len(clusters)}"
    if fitted.history:
        figures["epochs of training"] = f"{len(fitted.history):,}"
        figures["seconds of training"] = f"{fitted.history[-1].seconds:,.0f}"
    if fitted.seed is not None:
        figures["seed of the training"] = str(fitted.seed)
    if fitted.history.environment is not None:
        figures["precision of the training"] = fitted.history.environment.precision
    rows = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in figures.items())
    return f'<dl class="figures">{rows}</dl>'


def scores(findings: Findings) -> str:
    """Which facet found which label, and the table of all scores."""
    evaluation = findings.evaluation
    if evaluation is None:
        return "<p>No labels were given, so that nothing is scored.</p>"
    found = []
    for name, classes in zip(evaluation.label_names, evaluation.classes, strict=True):
        if classes == 1:
            found.append(f"<li><strong>{escape(name)}</strong>: the same for all data, nothing to find</li>")
            continue
        j = evaluation.best_facet(name)
        values = ", ".join(
            f"{ALL_TITLES[key]} {evaluation.score(j, name, key):z.3f}" for key in ("nmi", "purity")
        )
        found.append(f"<li><strong>{escape(name)}</strong>: closest is facet {j} ({values})</li>")
    rows = [
        [f"facet {j}", name, str(classes), *(f"{values[j, f]:z.3f}" for values in evaluation.scores.values())]
        for j in range(len(evaluation.clusters))
        for f, (name, classes) in enumerate(zip(evaluation.label_names, evaluation.classes, strict=True))
    ]
    head = ["facet", "label", "classes", *(ALL_TITLES[key] for key in evaluation.scores)]
    J = len(evaluation.clusters)
    pairs = [
        f"facets {i} and {j}: {evaluation.redundancy[i, j]:z.3f}" for i in range(J) for j in range(i + 1, J)
    ]
    between = f"<p>NMI between facets, zero where they say different things: {'; '.join(pairs)}.</p>"
    return (
        f'<ul class="found">{"".join(found)}</ul>'
        + table("Every facet against every label", head, rows)
        + (between if pairs else "")
        + "<p>Purity maps each cluster to its majority class, and more clusters make it higher; Hungarian "
        "accuracy allows each class one cluster only.</p>"
    )


def explorer(findings: Findings, plan: Plan, drawing: Drawing) -> str:
    """Controls and places of the pictures, which the script fills in."""
    pickers = []
    for j, (clusters, kept) in enumerate(zip(findings.facets, plan.kept, strict=True)):
        choices = "".join(
            f'<label class="choice"><input type="radio" name="cluster-{j}" value="{i}">'
            f'{drawing.blank()}<span><span class="unseen">cluster </span>{k}</span></label>'
            for i, k in enumerate(kept)
        )
        missing = len(clusters) - len(kept)
        note = f", the {len(kept)} largest of {len(clusters)} clusters" if missing else ""
        closest = ", ".join(findings.closest_labels(j))
        closest = f", closest to {escape(closest)}" if closest else ""
        pickers.append(
            f'<fieldset class="picker"><legend>Facet {j}{closest}{note}</legend>'
            f'<div class="choices">{choices}</div></fieldset>'
        )
    last = len(plan.temperatures) - 1
    start = plan.temperatures.index(0.5) if 0.5 in plan.temperatures else 0
    slider = (
        f'<label for="temperature">Temperature <output id="degree" for="temperature"></output></label>'
        f'<input type="range" id="temperature" min="0" max="{last}" step="1" value="{start}"'
        f"{' disabled' if not last else ''}>"
    )
    limits = []
    if any(len(kept) < len(all_) for kept, all_ in zip(plan.kept, findings.facets, strict=True)):
        limits.append("There are more combinations than fit: this page has those of the largest clusters.")
    if not last:
        limits.append("The components of a prior do not know their mean, so that the temperature is 1.")
    notice = f'<p class="notice">{" ".join(limits)}</p>' if limits else ""
    return f"""<p>Choose a cluster in each facet. The large picture is what the model generates for the
combination; each small one is what you would get by choosing it, all else as it is. The arrow keys move
within a facet.</p>{notice}
<div class="explorer"><div class="pickers">{"".join(pickers)}</div>
<div class="result"><p id="says" role="status" aria-live="polite"></p>
<div class="pictures"><figure class="picture" role="img" aria-labelledby="says">{drawing.blank()}</figure>
<div id="draws" class="tiles" role="group" aria-label="More draws of the same combination"></div></div>
{slider}
<div class="buttons"><button type="button" id="random">Any combination</button>
<button type="button" id="common">The most frequent</button>
<button type="button" id="unseen">One without data</button></div>
<h3 id="real-title">Real data</h3><p id="real-says"></p><ul id="real" class="tiles"></ul></div></div>
<template id="tile">{drawing.blank()}</template>"""


def training(fitted: FittedMFCVAE) -> str:
    """Curves of the training."""
    if not fitted.history:
        return "<p>The model has no history.</p>"
    stages = fitted.model.config.stages
    introduced = [
        next(s for s, stage in enumerate(stages) if j in stage.introduces) for j in range(fitted.num_facets)
    ]
    return (
        "<p>Means over a fixed sample of the training data, without KL weights. A dashed line is where a "
        "stage begins; very low values of the first epochs may lie below the picture.</p>"
        f'<div class="charts">{training_charts(fitted.history, introduced)}</div>'
    )


def settings(fitted: FittedMFCVAE) -> str:
    """Configuration of the model and of its training."""
    config = fitted.model.config
    facets = [
        [f"facet {j}", str(facet.clusters), str(facet.latent_dim), _described(facet.prior)]
        for j, facet in enumerate(config.facets)
    ]
    parts = [
        ["likelihood", _described(config.likelihood)],
        ["network", _described(config.network)],
        ["objective", config.elbo],
        ["samples for the likelihood, a step", str(config.num_particles)],
        ["initialised from data", str(config.data_init)],
        ["fraction held out", f"{config.held_out:g}"],
    ]
    default = {field.name: field.default for field in dataclasses.fields(Stage)}
    stages = [dataclasses.asdict(stage) for stage in config.stages]
    schedule = [
        [name.replace("_", " "), *(_plain(stage[name]) for stage in stages)]
        for name in default
        if name in ESSENTIAL or any(stage[name] != default[name] for stage in stages)
    ]
    environment = fitted.history.environment
    trained = [] if environment is None else _trained_in(environment)
    return (
        table("Facets", ["facet", "clusters K", "dimensions D", "prior"], facets)
        + table("Model", ["part", "setting"], parts)
        + table("Schedule", ["", *(f"stage {s + 1}" for s in range(len(stages)))], schedule)
        + (table("Trained in", ["part", "setting"], trained) if trained else "")
    )


def _trained_in(environment: Environment) -> list[list[str]]:
    """Rows of what a model was trained in."""
    return [
        ["precision", environment.precision],
        ["device", environment.device],
        ["processor", environment.processor],
        ["instructions", environment.instructions],
        ["threads", str(environment.threads)],
        *([package, version] for package, version in environment.versions.items()),
    ]


def notes(findings: Findings, plan: Plan, drawing: Drawing, temperature: float) -> str:
    """What a reader should know before believing the page."""
    lines = [
        "One run of training is a sample: another seed gives other clusters, and their numbers mean nothing.",
        "The file does not know whether its data were trained on. If they were, scores and confidences "
        "flatter.",
        "Confidence is q(c | x), the model's own belief, which is not calibrated.",
        "Generated pictures are expected values E[x | z], without the likelihood's noise, and hence smoother "
        "than data.",
        f"Cards generate at temperature {temperature:g}, the other facets drawn from the prior. At a "
        "temperature below 1 deviations of z from its component's mean are scaled down: more typical than "
        "the model's own distribution, less varied.",
        f"Real data of a combination: at most {plan.examples}, surest first. Where no datum has it, the "
        "nearest are those whose latents are closest to the component means, each facet scaled to unit "
        "variance.",
    ]
    if findings.evaluation is not None:
        lines.append(
            "Labels were not used by the training; the majority classes were taken from the labels "
            "of the data shown."
        )
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in [*lines, *drawing.notes])}</ul>"


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column has headings, in a box that scrolls where it is too wide."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' if cell else "<td></td>" for cell in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0">'
        f"<table><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _described(recipe: Any) -> str:
    """A recipe as one would write it; of functions and classes the name, without an address in memory."""
    if dataclasses.is_dataclass(recipe) and not isinstance(recipe, type):
        return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(recipe))
    name: str = getattr(recipe, "__qualname__", type(recipe).__qualname__)
    return name


def _plain(value: Any) -> str:
    """A field of a stage."""
    if value is None:
        return "-"
    return ", ".join(map(str, value)) or "-" if isinstance(value, tuple) else str(value)
