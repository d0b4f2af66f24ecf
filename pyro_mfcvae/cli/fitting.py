"""Commands that train: ``demo`` and ``fit``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from pyro_mfcvae import likelihoods, plots
from pyro_mfcvae._utils.devices import (
    PRECISIONS,
    Environment,
    describe_environment,
    resolve_device,
    resolve_precision,
    threads,
)
from pyro_mfcvae._utils.spread import mean_and_sd
from pyro_mfcvae._utils.tables import text_table
from pyro_mfcvae.cli import values
from pyro_mfcvae.cli.arguments import (
    DATASET,
    Commands,
    add_command,
    add_device,
    add_overwrite,
    add_source,
    add_threads,
)
from pyro_mfcvae.cli.configuring import PRESETS, configure, with_stages
from pyro_mfcvae.cli.datasets import Dataset, Part, load, rooms
from pyro_mfcvae.cli.examples import DEMO_EXAMPLE, FIT_EXAMPLES
from pyro_mfcvae.cli.keeping import keep, kept
from pyro_mfcvae.cli.models import MODEL_FILE
from pyro_mfcvae.cli.output import (
    clusters_csv,
    destination,
    folder,
    next_commands,
    progress,
    say,
    silent,
    unused,
    vacant,
    write_text,
    writing,
)
from pyro_mfcvae.cli.scoring import EXPLANATIONS, Scores, judge, verdict
from pyro_mfcvae.config import presets
from pyro_mfcvae.config.mfcvae import MFCVAEConfig
from pyro_mfcvae.data import RenderedShapes
from pyro_mfcvae.data.tables import is_table
from pyro_mfcvae.datasets.factors import Choice
from pyro_mfcvae.fitting.fit import fit
from pyro_mfcvae.fitting.parallel import MAX_RUNS, as_workers
from pyro_mfcvae.results.fitted import FittedMFCVAE
from pyro_mfcvae.results.runs import RunsEvaluation
from pyro_mfcvae.training.compiled import Compile

RESULTS = (MODEL_FILE, "evaluation.txt", "clusters.npy")
DEMO_ELBO = 2_045.0  # nats per test image; runs of the demo reach some ten more


COMPILE: dict[str, Compile] = {
    "auto": "auto",
    "on": True,
    "off": False,
    "reduce-overhead": "reduce-overhead",
}


@dataclass(frozen=True)
class _Result:
    """Outcome of one seed."""

    seed: int
    seconds: float
    scores: Scores


def add_demo(commands: Commands) -> None:
    """Add the command ``demo``."""
    line = "see it work, on pictures that it renders itself"
    text = "Render rooms with an object, cluster them, compare with the truth, and draw what was found."
    command = add_command(commands, "demo", _demo, line, text, DEMO_EXAMPLE)
    add = command.add_argument
    add("--out", type=Path, help="folder for the results (default: demo, or demo_2, ... where that is there)")
    add_overwrite(command)
    add("--seed", type=values.seed, default=0, help="of everything random (default: 0)")
    add(
        "--restarts",
        type=values.whole(1, MAX_RUNS),
        default=2,
        metavar="R",
        help="train R seeds from --seed on, and keep the best, for which no label is needed (default: 2)",
    )
    _add_computing(command)
    add(
        "--quick",
        action="store_true",
        help="few pictures and epochs: shows in seconds that everything runs, but finds next to nothing",
    )


def add_fit(commands: Commands) -> None:
    """Add the command ``fit``."""
    line = "cluster a data set"
    text = "Cluster a data set, score the clusters if there are labels, and draw what was found."
    command = add_command(commands, "fit", _fit, line, text, FIT_EXAMPLES)
    command.add_argument("dataset", metavar=DATASET, help="see below")
    add = command.add_argument
    add("--out", type=Path, required=True, help="folder for the results, made if need be")
    add_overwrite(command)
    add_source(command)
    _add_configuration(command)
    _add_runs(command)
    _add_computing(command)
    add(
        "--compile",
        choices=tuple(COMPILE),
        default="auto",
        help="whether PyTorch's compiler fuses the operations of a step (default: auto, where it pays)",
    )
    add_threads(command)
    add("--quiet", action="store_true", help="print results only")


def _add_configuration(command: argparse.ArgumentParser) -> None:
    """Add the arguments that change a preset."""
    add = command.add_argument
    add(
        "--preset",
        choices=("auto", *PRESETS),
        default="auto",
        help="where all that the options below leave open comes from (default: auto, which suits the data)",
    )
    add("--clusters", type=values.integers, metavar="K0,K1,..", help="clusters of each facet, as in 25,25")
    add(
        "--latent-dims",
        type=values.integers,
        metavar="D0,D1,..",
        help="dimension of each facet's latent; one number serves all",
    )
    add("--epochs", type=values.integers, metavar="E1,E2,..", help="of each stage; one number serves all")
    add("--batch-size", type=values.whole(1, values.MAX_NUMBER), metavar="B", help="data per step")
    add("--learning-rate", type=float, metavar="R", help="of Adam")
    add(
        "--likelihood",
        choices=likelihoods.available(),
        help="bernoulli is for data in [0, 1], mixed for missing ones",
    )


def _add_runs(command: argparse.ArgumentParser) -> None:
    """Add the arguments that say how many runs there are, and where they are kept."""
    add = command.add_argument
    add(
        "--seed",
        type=values.seeds,
        default=(0,),
        metavar="S,S,..",
        help="one, or several to fit, with mean and standard deviation (default: 0)",
    )
    add(
        "--restarts",
        type=values.whole(1, MAX_RUNS),
        metavar="R",
        help="fit R seeds from --seed on, and keep the best, for which no label is needed",
    )
    add(
        "--workers",
        type=values.workers,
        metavar="N",
        help="processes for several seeds or restarts, of one thread each, or auto for one a core; "
        "with 1 (default) they are fitted one after another, and each seed is written when it is finished",
    )
    add(
        "--checkpoints",
        type=Path,
        metavar="DIR",
        help="folder, made if need be, where runs are kept between epochs: after an interruption the same "
        "command with --overwrite goes on from there",
    )


def _add_computing(command: argparse.ArgumentParser) -> None:
    add_device(command)
    command.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="of the networks in training (default: auto, which is float32)",
    )


def _environment(arguments: argparse.Namespace) -> Environment:
    """Describe what training is about to compute in."""
    return describe_environment(resolve_device(arguments.device), resolve_precision(arguments.precision))


def _demo(arguments: argparse.Namespace) -> None:
    out = arguments.out or unused(Path("demo"))
    vacant(*(out / name for name in (*RESULTS, "report.html")), overwrite=arguments.overwrite)
    folder(out)
    factors: dict[str, Choice] | None = None
    if arguments.quick:
        factors = {"floor_hue": [0, 3, 6], "wall_hue": [6], "scale": [0, 7], "shape": "all"}
        factors["orientation"] = [0, 2, 4, 7, 10, 12, 14]
    dataset = rooms(RenderedShapes(factors))
    say(f"1. Rendered {dataset.title}.")
    config = presets.shapes3d()
    if arguments.quick:
        config = with_stages(config, epochs=[2] * len(config.stages))
    epochs = sum(stage.epochs or 0 for stage in config.stages)
    say(
        f"2. Training for {epochs} epochs, without labels, to sort them in as many ways as there are."
        f"{'' if arguments.quick else ' This takes some minutes.'}"
    )
    restarts = 1 if arguments.quick else arguments.restarts
    workers = as_workers("auto", restarts, resolve_device(arguments.device))
    if restarts > 1:
        say(f"   {restarts} runs, {workers} at a time; one is kept, for its clusters, without labels.")
    with threads(1 if workers > 1 else None):
        say(f"   In {_environment(arguments)}.")
    with progress() as bar, kept(lambda _: out):
        fitted = fit(
            dataset.train.x,
            config,
            seed=arguments.seed,
            restarts=restarts,
            device=arguments.device,
            precision=arguments.precision,
            progress=bar,
        )
    keep({out: fitted})
    for seed, run in fitted.restarts.items() if restarts > 1 else ():
        say(f"   Seed {seed}: {run}.")
    if fitted.history.unmixing is not None:
        say("\n".join(f"   {line}" for line in str(fitted.history.unmixing).splitlines()))
    say("3. Comparing with the true factors of the test images, which training has never seen:\n")
    judged = dataset.judged
    scores = _report(fitted, judged, fitted.seed or 0, out).scores
    say("\n" + "\n".join(EXPLANATIONS))
    say("\n4. Drawing what was found in the test images.")
    with destination(out):
        pictures = plots.save_all(fitted, judged.x, out, judged.labels)
    page = out / "report.html"
    with destination(page):
        fitted.report(page, judged.x, judged.labels, title="Rooms with an object")
    say(_written(out, MODEL_FILE, "evaluation.txt", page, *pictures))
    say("\n" + "\n".join(verdict(scores, None if arguments.quick else DEMO_ELBO)))
    say("\n" + "\n".join(next_commands(out)))


def _fit(arguments: argparse.Namespace) -> None:
    out, several = arguments.out, len(arguments.seed) > 1
    places = {seed: out / f"seed_{seed}" if several else out for seed in arguments.seed}
    names = [*RESULTS, "clusters.csv"] if is_table(arguments.dataset) else RESULTS
    written = [place / name for place in places.values() for name in names]
    vacant(*written, out / "evaluation.txt", overwrite=arguments.overwrite)
    dataset = load(arguments)
    config = configure(arguments, dataset)
    for place in places.values():
        folder(place)
    tell = silent if arguments.quiet else say
    tell(f"{dataset.title}.")
    when = " before unmixing" if config.stages[0].unmix else ""
    for j, facet in enumerate(config.facets):
        tell(f"Facet {j}: {facet.clusters} clusters, latent of dimension {facet.latent_dim}{when}.")
    tell(str(config.schedule))
    results, judged = [], dataset.judged
    with (
        threads(arguments.threads),
        progress(quiet=arguments.quiet) as bar,
        kept(lambda seed: places.get(seed, out), all_runs=several),
    ):
        tell(f"Training in {_environment(arguments)}.")
        for seed, fitted in _fits(arguments, dataset, config, places, bar=bar):
            place = places.get(seed, out)  # of restarts, any may be the best
            results.append(_report(fitted, judged, seed, place))
            clusters = fitted.predict((dataset.whole or judged).x)
            with writing(place / "clusters.npy") as file:
                np.save(file, clusters)
            if "clusters.csv" in names:
                with writing(place / "clusters.csv") as file:
                    file.write(clusters_csv(clusters).encode())
            with destination(place):
                pictures = plots.save_all(fitted, judged.x, place, judged.labels)
            tell(_written(place, *names, *pictures))
            if several:
                say("")
    if several:
        summary = _summary(results, judged)
        say(summary)
        write_text(out / "evaluation.txt", summary + "\n")


def _fits(
    arguments: argparse.Namespace,
    dataset: Dataset,
    config: MFCVAEConfig,
    places: Mapping[int, Path],
    *,
    bar: bool,
) -> Iterator[tuple[int, FittedMFCVAE]]:
    """Fit and save models: one after another, as they are finished, or all at once in processes."""
    seeds, restarts, workers, x = arguments.seed, arguments.restarts, arguments.workers, dataset.train.x
    options: dict[str, Any] = {
        "device": arguments.device,
        "precision": arguments.precision,
        "compile": COMPILE[arguments.compile],
        "checkpoint_dir": arguments.checkpoints,
        "progress": bar,
    }
    if workers is not None:
        options["workers"] = workers
    if restarts is not None:
        if len(seeds) > 1:
            raise ValueError(
                f"--restarts: got {restarts} with {len(seeds)} seeds, expected the first one only; give that"
            )
        best = fit(x, config, seed=seeds[0], restarts=restarts, **{"workers": 1} | options)
        keep({arguments.out: best})
        for seed, run in best.restarts.items():
            say(f"restart with seed {seed}: {run}")
        yield cast(int, best.seed), best
    elif workers in (None, 1) or len(seeds) == 1:
        for seed in seeds:
            fitted = fit(x, config, seed=seed, **options)
            keep({places[seed]: fitted})
            yield seed, fitted
    else:
        runs = fit(x, config, seeds=seeds, **options)
        keep({places[seed]: fitted for seed, fitted in zip(runs.seeds, runs, strict=True)})
        yield from zip(runs.seeds, runs, strict=True)


def _report(fitted: FittedMFCVAE, judged: Part, seed: int, place: Path) -> _Result:
    """Judge a model, print its scores and write them beside it."""
    result = _Result(seed, fitted.history[-1].seconds, judge(fitted, judged))
    headline = f"seed {seed}: trained in {result.seconds:.1f} s, in {fitted.history.environment}"
    text = "\n".join([headline, *result.scores.lines()])
    say(text)
    write_text(place / "evaluation.txt", text + "\n")
    return result


def _written(place: Path, *files: str | Path) -> str:
    """List the files of the results."""
    return "\n".join([f"Wrote to the folder {place}:", *(f"  {Path(file).name}" for file in files)])


def _summary(results: Sequence[_Result], judged: Part) -> str:
    """Compute mean and standard deviation over seeds."""
    scores = [result.scores for result in results]
    seeds = ", ".join(str(result.seed) for result in results)
    best = max(results, key=lambda result: result.scores.elbo)
    lines = [
        f"mean and standard deviation over {len(results)} seeds ({seeds}), on {judged.where}",
        f"training: {mean_and_sd([result.seconds for result in results], 1)} s",
        f"mean ELBO: {mean_and_sd([each.elbo for each in scores], 2)} nats per datum; "
        f"highest for seed {best.seed}",
    ]
    for j, K in enumerate(scores[0].clusters):
        alive = mean_and_sd([each.alive[j] for each in scores], 1)
        lines.append(f"facet {j}: {alive} of {K} clusters alive")
    evaluations = [each.evaluation for each in scores if each.evaluation is not None]
    if evaluations:
        rows = RunsEvaluation(tuple(evaluations), tuple(result.seed for result in results)).table()
        lines += ["", text_table(rows, left=range(len(rows[0])))]
    return "\n".join(lines)
