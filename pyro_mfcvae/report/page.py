"""The page of a report: plain data, and the templates that draw it."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment as Templates
from jinja2 import PackageLoader, StrictUndefined
from markupsafe import Markup

from pyro_mfcvae._utils.devices import Environment
from pyro_mfcvae._utils.version import __version__
from pyro_mfcvae.config.stage import Stage
from pyro_mfcvae.metrics.evaluation import ALL_TITLES
from pyro_mfcvae.priors import StandardNormal
from pyro_mfcvae.report.combinations import Plan
from pyro_mfcvae.report.findings import Findings
from pyro_mfcvae.results.fitted import FittedMFCVAE

ESSENTIAL = ("introduces", "epochs", "steps", "batch_size", "optimizer", "learning_rate")  # of a stage


@dataclass(frozen=True)
class Table:
    """A table whose first column has headings.

    Attributes:
        caption: name of the table.
        head: heading of each column.
        rows: cells of each row.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Scores:
    """Scores of facets by labels.

    Attributes:
        found: name of each label, and the facet that found it in words.
        table: table of all scores.
        pairs: NMI of every two facets.
    """

    found: list[tuple[str, str]]
    table: Table
    pairs: list[str]


@dataclass(frozen=True)
class Picker:
    """The choice of a facet's cluster in the explorer.

    Attributes:
        closest: labels that the facet is closest to.
        kept: numbers of the clusters that can be chosen.
        clusters: number of all clusters.
    """

    closest: list[str]
    kept: tuple[int, ...]
    clusters: int

    @property
    def is_partial(self) -> bool:
        """True if there is no room for some clusters."""
        return len(self.kept) < self.clusters


def render(template: str, **content: object) -> str:
    """Draw content with one of the templates of this folder, which escape all of it."""
    return _templates().get_template(template).render(content)


def figures(fitted: FittedMFCVAE, findings: Findings) -> dict[str, str]:
    """Choose the figures that come first."""
    chosen = {
        "data on this page": f"{len(findings.x):,}",
        "shape of a datum": " x ".join(map(str, fitted.model.x_shape)),
        "ELBO of these data": f"{findings.elbo:,.2f} nats",
    }
    for j, clusters in enumerate(findings.facets):
        alive = sum(cluster.size > 0 for cluster in clusters)
        chosen[f"clusters of facet {j} in use"] = f"{alive} of {len(clusters)}"
    if fitted.history:
        dependence = fitted.history[-1].redundancy
        if dependence is not None:
            chosen["dependence of the facets' latents (kernel alignment)"] = f"{dependence:z.3f}"
        chosen["epochs of training"] = f"{len(fitted.history):,}"
        chosen["seconds of training"] = f"{fitted.history[-1].seconds:,.0f}"
    if fitted.seed is not None:
        chosen["seed of the training"] = str(fitted.seed)
    if fitted.history.environment is not None:
        chosen["precision of the training"] = fitted.history.environment.precision
    return chosen


def scores(findings: Findings) -> Scores | None:
    """Tell which facet found which label, and list all scores; None without labels."""
    evaluation = findings.evaluation
    if evaluation is None:
        return None
    labels = list(zip(evaluation.label_names, evaluation.classes, strict=True))
    found = []
    for name, classes in labels:
        if classes == 1:
            found.append((name, "the same for all data, nothing to find"))
            continue
        j = evaluation.best_facet(name)
        nmi, purity = (
            f"{ALL_TITLES[key]} {evaluation.score(j, name, key):z.3f}" for key in ("nmi", "purity")
        )
        found.append((name, f"closest is facet {j} ({nmi}, {purity})"))
    J = len(evaluation.clusters)
    rows = [
        [f"facet {j}", name, str(classes), *(f"{values[j, f]:z.3f}" for values in evaluation.scores.values())]
        for j in range(J)
        for f, (name, classes) in enumerate(labels)
    ]
    head = ["facet", "label", "classes", *(ALL_TITLES[key] for key in evaluation.scores)]
    pairs = [
        f"facets {i} and {j}: {evaluation.redundancy[i, j]:z.3f}" for i in range(J) for j in range(i + 1, J)
    ]
    return Scores(found, Table("Every facet against every label", head, rows), pairs)


def pickers(findings: Findings, plan: Plan) -> list[Picker]:
    """List the choices of the explorer."""
    return [
        Picker(findings.closest_labels(j), kept, len(clusters))
        for j, (kept, clusters) in enumerate(zip(plan.kept, findings.facets, strict=True))
    ]


def settings(fitted: FittedMFCVAE) -> list[Table]:
    """Make tables of the configuration of the model and of its training."""
    config = fitted.model.config
    facets = [
        [
            f"facet {j}",
            f"{facet.clusters}, joined to {level.num_clusters}" if level.is_joined else str(facet.clusters),
            str(facet.latent_dim),
            _described(facet.prior),
        ]
        for j, (facet, level) in enumerate(zip(config.facets, fitted.levels, strict=True))
    ]
    if config.nuisance:
        facets.append(["nuisance", "-", str(config.nuisance), _described(StandardNormal())])
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
    tables = [
        Table("Facets", ["facet", "clusters K", "dimensions D", "prior"], facets),
        Table("Model", ["part", "setting"], parts),
        Table("Schedule", ["", *(f"stage {s + 1}" for s in range(len(stages)))], schedule),
    ]
    if fitted.history.environment is not None:
        tables.append(Table("Trained in", ["part", "setting"], _trained_in(fitted.history.environment)))
    return tables


@functools.cache
def _templates() -> Templates:
    templates = Templates(
        loader=PackageLoader("pyro_mfcvae.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    files = resources.files("pyro_mfcvae.report")
    templates.globals.update(
        version=__version__,
        # Files of ours are the only text that is not escaped.
        style=Markup(files.joinpath("style.css").read_text("utf-8")),
        script=Markup(files.joinpath("explorer.js").read_text("utf-8")),
    )
    return templates


def _trained_in(environment: Environment) -> list[list[str]]:
    """List the environment that a model was trained in."""
    return [
        ["precision", environment.precision],
        ["device", environment.device],
        ["processor", environment.processor],
        ["instructions", environment.instructions],
        ["threads", str(environment.threads)],
        *([package, version] for package, version in environment.versions.items()),
    ]


def _described(factory: object) -> str:
    """Write a factory as one would; of functions and classes the name, without an address in memory."""
    if dataclasses.is_dataclass(factory) and not isinstance(factory, type):
        return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(factory))
    name: str = getattr(factory, "__qualname__", type(factory).__qualname__)
    return name


def _plain(value: object) -> str:
    """Write a field of a stage."""
    if value is None:
        return "-"
    return ", ".join(map(str, value)) or "-" if isinstance(value, tuple) else str(value)
