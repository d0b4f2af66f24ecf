"""The command line: ``python -m pyro_mfcvae demo`` and ``python -m pyro_mfcvae fit DATASET --out DIR``."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import math
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

import pyro_mfcvae
from pyro_mfcvae import likelihoods, plots, presets
from pyro_mfcvae.config import MFCVAEConfig
from pyro_mfcvae.data import LabelledData, RenderedShapes, Shapes3D, as_labelled, mnist, svhn
from pyro_mfcvae.data.factors import FactorImages
from pyro_mfcvae.devices import PRECISIONS, threads
from pyro_mfcvae.evaluation import Evaluation, text_table
from pyro_mfcvae.fit import fit
from pyro_mfcvae.fitted import FittedMFCVAE
from pyro_mfcvae.likelihoods import Gaussian
from pyro_mfcvae.parallel import MAX_SEED
from pyro_mfcvae.runs import RunsEvaluation, mean_and_sd
from pyro_mfcvae.schedule import Schedule, Stage

PROGRAM = "pyro_mfcvae"
DATA_VARIABLE = "PYRO_MFCVAE_DATA"
PRESETS: dict[str, Callable[..., MFCVAEConfig]] = {
    "images": presets.images,
    "mnist": presets.mnist,
    "shapes3d": presets.shapes3d,
    "svhn": presets.svhn,
    "tabular": presets.tabular,
}
TEST_FRACTION = 0.2

DESCRIPTION = """\
Cluster data in several ways at once. A Multi-Facet Clustering VAE finds several partitions
(facets) of the same data, such as by colour and by shape, without being shown any label."""
EXAMPLES = """\
examples:
  python -m pyro_mfcvae demo                       see it work, on pictures that it renders itself
  python -m pyro_mfcvae fit data.npy --out result  cluster an array (N, D) or (N, C, H, W) of your own
  python -m pyro_mfcvae fit mnist --out result --root DIR --seed 0,1,2
  python -m pyro_mfcvae fit --help                 all options
"""
FIT_EXAMPLES = f"""\
data sets:
  mnist      the digits, in DIR/MNIST/raw as torchvision stores them (--root DIR, or the environment
             variable {DATA_VARIABLE}); scored on the 10,000 test images
  svhn       house numbers cut to digits, in DIR/train_32x32.mat and DIR/test_32x32.mat; scored on the
             26,032 test images
  shapes     4,800 rendered rooms with an object; scored on a fifth of them, held out
  shapes3d   4,800 images of 3D Shapes, in DIR/3dshapes.h5; scored on a fifth of them, held out
  FILE.npy   one array, the datum first: (N, D), (N, H, W) or (N, C, H, W); bytes are scaled to [0, 1]
  FILE.npz   an array "x" and, to score the clusters by and never to train on, integers "y", (N,) or (N, F)

examples:
  python -m pyro_mfcvae fit data.npy --out result --clusters 10,5 --latent-dims 3
  python -m pyro_mfcvae fit data.npz --out result --clusters 10 --epochs 50
  python -m pyro_mfcvae fit mnist --out result --epochs 40,20 --seed 0,1,2
  python -m pyro_mfcvae fit data.npy --out result --restarts 5 --workers auto

Facets are numbered from 0, the lowest level of the network, to the deepest. They are trained deepest
first, one stage each, and --epochs follows that order.
"""


@dataclass(frozen=True)
class _Dataset:
    """What one run trains on and what it is judged by.

    Attributes:
        title: what it is, for the user.
        train: data that ``fit`` takes.
        x: data that are predicted and drawn, (N, *x_shape).
        labels: integers (N, F), or None.
        label_names: of the F labels; None leaves the naming to the evaluation.
        held_out: whether ``x`` are data that were not trained on.
        preset: the one that is made for them; None leaves the choice to ``fit``.
    """

    title: str
    train: Any
    x: Any
    labels: npt.NDArray[np.int64] | None = None
    label_names: tuple[str, ...] | None = None
    held_out: bool = False
    preset: Callable[..., MFCVAEConfig] | None = None

    @property
    def where(self) -> str:
        """What the scores are about."""
        return f"{len(self.x):,} {'test' if self.held_out else 'training'} data"


@dataclass(frozen=True)
class _Result:
    """What one seed came to."""

    seed: int
    seconds: float
    elbo: float
    alive: tuple[int, ...]
    evaluation: Evaluation | None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments after the program's name; None takes those of the process.

    Returns:
        The exit code: 0; 1 if training diverged; 2 for bad arguments or data, after one line that says
        what is wrong on the standard error; 130 if it was interrupted.
    """
    parser = _parser()
    try:
        arguments = parser.parse_args(argv)
        if arguments.run is None:
            parser.print_help()
            return 2
        arguments.run(arguments)
    except SystemExit as request:  # argparse's way to end --help, --version and bad arguments
        return int(request.code or 0)
    except KeyboardInterrupt:
        return 130
    except FloatingPointError as error:
        return _complain(error, 1)
    except (ValueError, TypeError, OSError) as error:
        return _complain(error, 2)
    return 0


def _complain(error: Exception | str, code: int) -> int:
    """One line on the standard error."""
    print(f"{PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
    return code


# Arguments


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        command = self.prog.removeprefix(f"python -m {PROGRAM}").strip()
        hint = f"python -m {PROGRAM} {command} --help".replace("  ", " ")
        raise SystemExit(_complain(f"{message} (see {hint})", 2))


def _parser() -> _Parser:
    parser = _Parser(
        prog=f"python -m {PROGRAM}",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {pyro_mfcvae.__version__}")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="{demo,fit}")
    _add_demo(commands)
    _add_fit(commands)
    return parser


def _add_demo(commands: Any) -> None:
    text = "render rooms with an object, cluster them, compare with the truth, and draw what was found"
    demo = commands.add_parser("demo", help=text, description=text.capitalize() + ".")
    demo.set_defaults(run=_demo)
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results (default: demo)")
    demo.add_argument("--seed", type=_seed, default=0, help="of everything random (default: 0)")
    _add_computing(demo)
    demo.add_argument(
        "--quick",
        action="store_true",
        help="few pictures and epochs: shows in seconds that everything runs, but finds next to nothing",
    )


def _add_fit(commands: Any) -> None:
    text = "cluster a data set, score the clusters if there are labels, and draw what was found"
    command = commands.add_parser(
        "fit",
        help=text,
        description=text.capitalize() + ".",
        epilog=FIT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=_fit)
    command.add_argument(
        "dataset", metavar="{mnist,svhn,shapes,shapes3d,FILE.npy,FILE.npz}", help="see below"
    )
    add = command.add_argument
    add("--out", type=Path, required=True, help="folder for the results, made if need be")
    add("--root", type=Path, help=f"folder of mnist, svhn, shapes3d (default: ${DATA_VARIABLE}, else data)")
    add(
        "--subset",
        choices=("floor", "wall"),
        help="of shapes and shapes3d: which hue varies with scale, shape and orientation (default: floor)",
    )
    add(
        "--preset",
        choices=("auto", *PRESETS),
        default="auto",
        help="where all that the options below leave open comes from (default: auto, which suits the data)",
    )
    add("--clusters", type=_integers, metavar="K0,K1,..", help="clusters of each facet, as in 25,25")
    add(
        "--latent-dims",
        type=_integers,
        metavar="D0,D1,..",
        help="dimension of each facet's latent; one number serves all",
    )
    add("--epochs", type=_integers, metavar="E1,E2,..", help="of each stage; one number serves all")
    add("--batch-size", type=int, metavar="B", help="data per step")
    add("--learning-rate", type=float, metavar="R", help="of Adam")
    add(
        "--likelihood",
        choices=likelihoods.available(),
        help="bernoulli is for data in [0, 1], mixed for missing ones",
    )
    add(
        "--seed",
        type=_seeds,
        default=(0,),
        metavar="S,S,..",
        help="one, or several to fit, with mean and standard deviation (default: 0)",
    )
    add(
        "--restarts",
        type=int,
        metavar="R",
        help="fit R seeds from --seed on, and keep the one with the highest ELBO of the training data",
    )
    add(
        "--workers",
        type=_workers,
        metavar="N",
        help="processes for several seeds or restarts, of one thread each, or auto for one a core; "
        "with 1 (default) they are fitted one after another, and each seed is written when it is finished",
    )
    _add_computing(command)
    add("--threads", type=int, metavar="N", help="processor threads to use (default: PyTorch's choice)")
    add("--quiet", action="store_true", help="print results only")


def _add_computing(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    command.add_argument("--precision", choices=PRECISIONS, default="auto", help="default: auto")


def _integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        message = f"got {text!r}, expected whole numbers with commas between, such as 20 or 25,10"
        raise argparse.ArgumentTypeError(message) from None


def _seeds(text: str) -> tuple[int, ...]:
    seeds = _integers(text)
    if not all(0 <= seed <= MAX_SEED for seed in seeds) or len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected different numbers from 0 to {MAX_SEED}")
    return seeds


def _seed(text: str) -> int:
    seeds = _seeds(text)
    if len(seeds) > 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected one number")
    return seeds[0]


def _workers(text: str) -> int | str:
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected auto or a whole number") from None


# The commands


def _demo(arguments: argparse.Namespace) -> None:
    out = _folder(arguments.out)
    factors: dict[str, Any] | None = None
    if arguments.quick:
        factors = {"floor_hue": [0, 3, 6], "wall_hue": [6], "scale": [0, 7], "shape": "all"}
        factors["orientation"] = [0, 2, 4, 7, 10, 12, 14]
    dataset = _shapes(RenderedShapes(factors))
    _say(f"1. Rendered {dataset.title}.")
    config = presets.shapes3d()
    if arguments.quick:
        config = _with_stages(config, epochs=[2] * len(config.stages))
    clusters = " and ".join(str(facet.clusters) for facet in config.facets)
    epochs = sum(stage.epochs or 0 for stage in config.stages)
    _say(
        f"2. Training for {epochs} epochs, without labels, to sort them in {len(config.facets)} ways: "
        f"facets of {clusters} clusters.{'' if arguments.quick else ' This takes some minutes.'}"
    )
    fitted = fit(
        dataset.train,
        config,
        seed=arguments.seed,
        device=arguments.device,
        precision=arguments.precision,
        progress=sys.stderr.isatty(),
    )
    _say("3. Comparing with the true factors of the test images, which training has never seen:\n")
    _report(fitted, dataset, arguments.seed, out)
    _say("\n4. Drawing what was found in the test images.")
    _say(_written(out, "model.mfcvae", "evaluation.txt", *plots.save_all(fitted, dataset.x, out)))


def _fit(arguments: argparse.Namespace) -> None:
    dataset = _load(arguments)
    config = _configure(arguments, dataset)
    out = _folder(arguments.out)
    several = len(arguments.seed) > 1
    say = _silent if arguments.quiet else _say
    say(f"{dataset.title[0].upper()}{dataset.title[1:]}.")
    for j, facet in enumerate(config.facets):
        say(f"Facet {j}: {facet.clusters} clusters, latent of dimension {facet.latent_dim}.")
    say(str(config.schedule))
    results = []
    with _threads(arguments.threads):
        for seed, fitted in _fits(arguments, dataset, config):
            folder = _folder(out / f"seed_{seed}") if several else out
            results.append(_report(fitted, dataset, seed, folder))
            np.save(folder / "clusters.npy", fitted.predict(dataset.x))
            pictures = plots.save_all(fitted, dataset.x, folder)
            say(_written(folder, "model.mfcvae", "evaluation.txt", "clusters.npy", *pictures))
            if several:
                _say("")
    if several:
        summary = _summary(results, fitted, dataset)
        _say(summary)
        (out / "evaluation.txt").write_text(summary + "\n", encoding="utf-8")


def _fits(
    arguments: argparse.Namespace, dataset: _Dataset, config: MFCVAEConfig
) -> Iterator[tuple[int, FittedMFCVAE]]:
    """Models with their seeds: as they are finished one after another, or all at once from processes."""
    seeds, restarts, workers = arguments.seed, arguments.restarts, arguments.workers
    options: dict[str, Any] = {
        "device": arguments.device,
        "precision": arguments.precision,
        "progress": not arguments.quiet and sys.stderr.isatty(),
    }
    if workers is not None:
        options["workers"] = workers
    if restarts is not None:
        if len(seeds) > 1:
            raise ValueError(
                f"--restarts: got {restarts} with {len(seeds)} seeds, expected the first one only"
            )
        best = fit(dataset.train, config, seed=seeds[0], restarts=restarts, **{"workers": 1} | options)
        for seed, elbo in best.restarts.items():
            _say(f"restart with seed {seed}: ELBO {elbo:.2f} nats per datum of the training data")
        yield max(best.restarts, key=best.restarts.__getitem__), best
    elif workers in (None, 1) or len(seeds) == 1:
        for seed in seeds:
            yield seed, fit(dataset.train, config, seed=seed, **options)
    else:
        runs = fit(dataset.train, config, seeds=seeds, **options)
        yield from zip(runs.seeds, runs, strict=True)


def _report(fitted: FittedMFCVAE, dataset: _Dataset, seed: int, folder: Path) -> _Result:
    """Judge a model, print the verdict and write it with the model."""
    fitted.save(folder / "model.mfcvae")
    clusters = fitted.predict(dataset.x)
    alive = tuple(len(np.unique(column)) for column in clusters.T)
    elbo = fitted.score(dataset.x)
    lines = [
        f"seed {seed}: trained in {_seconds(fitted):.1f} s",
        f"mean ELBO of {dataset.where}: {elbo:.2f} nats per datum",
    ]
    evaluation = None
    if dataset.labels is None:
        lines += [
            f"facet {j}: {n} of {K} clusters alive"
            for j, (n, K) in enumerate(zip(alive, fitted.clusters, strict=True))
        ]
    else:
        evaluation = fitted.evaluate(dataset.x, dataset.labels, dataset.label_names)
        lines += ["", str(evaluation), ""]
        for name in evaluation.label_names:
            best = evaluation.best_facet(name)
            score = evaluation.score(best, name, "nmi")
            lines.append(f"closest to {name}: facet {best} (NMI {score:.3f})")
    text = "\n".join(lines)
    _say(text)
    (folder / "evaluation.txt").write_text(text + "\n", encoding="utf-8")
    return _Result(seed, _seconds(fitted), elbo, alive, evaluation)


def _written(folder: Path, *files: str | Path) -> str:
    """Where the results are."""
    return "\n".join([f"Wrote to the folder {folder}:", *(f"  {Path(file).name}" for file in files)])


def _summary(results: Sequence[_Result], fitted: FittedMFCVAE, dataset: _Dataset) -> str:
    """Mean and standard deviation over seeds."""
    seeds = ", ".join(str(result.seed) for result in results)
    best = max(results, key=lambda result: result.elbo)
    lines = [
        f"mean and standard deviation over {len(results)} seeds ({seeds}), on {dataset.where}",
        f"training: {mean_and_sd([r.seconds for r in results], 1)} s",
        f"mean ELBO: {mean_and_sd([r.elbo for r in results], 2)} nats per datum; "
        f"highest for seed {best.seed}",
    ]
    for j, K in enumerate(fitted.clusters):
        lines.append(f"facet {j}: {mean_and_sd([r.alive[j] for r in results], 1)} of {K} clusters alive")
    evaluations = [result.evaluation for result in results if result.evaluation is not None]
    if evaluations:
        rows = RunsEvaluation(tuple(evaluations), tuple(result.seed for result in results)).table()
        lines += ["", text_table(rows, left=range(len(rows[0])))]
    return "\n".join(lines)


def _seconds(fitted: FittedMFCVAE) -> float:
    return fitted.history[-1].seconds


def _say(text: str) -> None:
    print(text, flush=True)


def _silent(text: str) -> None:
    return


def _folder(path: Path) -> Path:
    """The folder, made with its parents."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out: {path} cannot be made a folder ({error.strerror})") from error
    return path


@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Let PyTorch use this many threads within."""
    if number is not None and number < 1:
        raise ValueError(f"--threads: got {number}, expected at least 1")
    with threads(number):
        yield


# Data


def _load(arguments: argparse.Namespace) -> _Dataset:
    name = arguments.dataset
    if arguments.root is not None and name not in ("mnist", "svhn", "shapes3d"):
        raise ValueError("--root: it is for mnist, svhn and shapes3d only; give a file by its path")
    if arguments.subset is not None and name not in ("shapes", "shapes3d"):
        raise ValueError("--subset: it is for shapes and shapes3d only")
    root = arguments.root or Path(os.environ.get(DATA_VARIABLE) or "data")
    wall = arguments.subset == "wall"
    if name == "mnist":
        return _digits("MNIST", mnist(root), mnist(root, train=False))
    if name == "svhn":
        digits = _digits("SVHN", svhn(root), svhn(root, train=False))
        return dataclasses.replace(digits, preset=presets.svhn)
    if name == "shapes":
        return _shapes(RenderedShapes.wall() if wall else RenderedShapes.floor())
    if name == "shapes3d":
        return _shapes(Shapes3D.wall(root) if wall else Shapes3D.floor(root))
    if Path(name).suffix not in (".npy", ".npz"):
        known = "mnist, svhn, shapes, shapes3d, or a file .npy or .npz"
        raise ValueError(f"dataset: got {name!r}, expected {known}")
    allow_missing = bool(arguments.likelihood) and likelihoods.RECIPES[arguments.likelihood]().missing
    return _read(Path(name), allow_missing)


def _digits(name: str, train: LabelledData, test: LabelledData) -> _Dataset:
    side = " x ".join(map(str, train.x.shape[2:]))
    title = f"{name}, {len(train):,} images of {side} to train on and {len(test):,} to test"
    return _Dataset(title, train.x, test.x, test.labels.numpy(), test.label_names, held_out=True)


def _shapes(pictures: FactorImages) -> _Dataset:
    """Pictures of rooms, a fifth of them held out, with the factors that vary as labels."""
    train, test = pictures.split(TEST_FRACTION)
    varying = [f for f, name in enumerate(pictures.factor_names) if len(pictures.factors[name]) > 1]
    names = tuple(pictures.factor_names[f] for f in varying)
    factors_text = ", ".join(f"{len(pictures.factors[name])} of {name}" for name in names)
    title = (
        f"{len(pictures):,} images of a room with an object ({factors_text}), "
        f"{len(train):,} to train on and {len(test):,} to test"
    )
    return _Dataset(title, train.images, test.images, test.labels[:, varying], names, held_out=True)


def _read(path: Path, allow_missing: bool) -> _Dataset:
    """Data, and labels if there are any, from a NumPy file."""
    if not path.is_file():
        raise FileNotFoundError(f"dataset: there is no file {path}")
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            held, arrays = ["x"], {"x": content}
        else:
            with content:
                held = list(content)
                arrays = {name: content[name] for name in ("x", "y") if name in content}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"dataset: {path} is not an array that NumPy can read ({error})") from error
    if "x" not in arrays:
        names = ", ".join(held) or "none"
        raise ValueError(f"dataset: {path} holds the arrays {names}, expected one of the name x")
    x, labels = as_labelled((arrays["x"], arrays.get("y")), name=str(path), allow_missing=allow_missing)
    if "y" in arrays and labels is None:
        kind = arrays["y"].dtype
        raise ValueError(f"dataset: y in {path} is of {kind}, expected integers; number the classes")
    shape = " x ".join(map(str, x.shape[1:]))
    title = f"{path.name}, {len(x):,} data of {shape}, {'without' if labels is None else 'with'} labels"
    return _Dataset(title, x, x, None if labels is None else labels.reshape(len(x), -1).numpy())


# Configuration


def _configure(arguments: argparse.Namespace, dataset: _Dataset) -> MFCVAEConfig:
    """The preset with what the options change."""
    preset = _suitable(dataset) if arguments.preset == "auto" else PRESETS[arguments.preset]
    config = preset()
    overrides: dict[str, Any] = {}
    clusters, latent_dims = arguments.clusters, arguments.latent_dims
    if clusters or latent_dims:
        J = len(clusters) if clusters else len(config.facets)
        # Where a preset has fewer facets, the others are like its last one.
        facets = [config.facets[min(j, len(config.facets) - 1)] for j in range(J)]
        clusters = clusters or [facet.clusters for facet in facets]
        latent_dims = _each(
            "--latent-dims", latent_dims or [facet.latent_dim for facet in facets], J, "facet"
        )
        overrides["facets"] = tuple(
            dataclasses.replace(facet, clusters=K, latent_dim=D)
            for facet, K, D in zip(facets, clusters, latent_dims, strict=True)
        )
    is_gaussian = isinstance(config.likelihood, Gaussian)
    if arguments.likelihood and not (arguments.likelihood == "gaussian" and is_gaussian):
        overrides["likelihood"] = arguments.likelihood
    config = preset(**overrides)
    epochs = arguments.epochs and _each("--epochs", arguments.epochs, len(config.stages), "stage")
    options = {"batch_size": arguments.batch_size, "learning_rate": arguments.learning_rate}
    given = {name: value for name, value in options.items() if value is not None}
    return _with_stages(config, epochs, **given)


def _suitable(dataset: _Dataset) -> Callable[..., MFCVAEConfig]:
    """The preset for these data, else the one that ``fit`` takes, ready for overrides."""
    if dataset.preset is not None:
        return dataset.preset
    x, _ = as_labelled(dataset.train, allow_missing=True)
    is_unit_interval = bool(x.min() >= 0 and x.max() <= 1)
    return functools.partial(presets.for_data, tuple(x.shape[1:]), is_unit_interval)


def _with_stages(config: MFCVAEConfig, epochs: Sequence[int] | None, **options: Any) -> MFCVAEConfig:
    """Other options of the stages; warm-up and fade-in shrink with the epochs."""
    stages = list(config.stages)
    if epochs:
        stages = [_lasting(stage, n) for stage, n in zip(stages, epochs, strict=True)]
    stages = [dataclasses.replace(stage, **options) for stage in stages]
    return dataclasses.replace(config, schedule=Schedule(tuple(stages)))


def _lasting(stage: Stage, epochs: int) -> Stage:
    share = min(1.0, max(epochs, 0) / (stage.epochs or math.inf))
    warm_up = stage.warm_up_epochs * share
    if stage.steps and stage.warm_up_steps:
        warm_up = max(epochs, 0) * stage.warm_up_steps / stage.steps
    return dataclasses.replace(
        stage,
        epochs=epochs,
        steps=None,
        warm_up_epochs=int(warm_up),
        warm_up_steps=None,
        fade_in_steps=int(stage.fade_in_steps * share),
    )


def _each(name: str, values: Sequence[int], number: int, what: str) -> list[int]:
    """One value for each; a single one serves all."""
    if len(values) == 1:
        return list(values) * number
    if len(values) != number:
        expected = "1" if number == 1 else f"1 or {number}, one for each {what}"
        raise ValueError(f"{name}: got {len(values)} numbers, expected {expected}")
    return list(values)
