"""Commands that look at data with a model: ``evaluate`` and ``report``."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from pyro_mfcvae._utils.devices import threads
from pyro_mfcvae.cli import values
from pyro_mfcvae.cli.arguments import (
    DATASET,
    Commands,
    add_command,
    add_computing,
    add_out,
    add_overwrite,
    add_source,
    printable,
)
from pyro_mfcvae.cli.datasets import LARGE, Part, load_part
from pyro_mfcvae.cli.models import add_model, open_model, provenance
from pyro_mfcvae.cli.output import destination, folder, say, vacant, write_text
from pyro_mfcvae.cli.scoring import judge
from pyro_mfcvae.data.reading import as_tensor
from pyro_mfcvae.results.fitted import FittedMFCVAE

SOURCES = """
The data sets are those of fit, see python -m pyro_mfcvae fit --help. Their shape and values must be such as
the model was trained on.
"""
EVALUATE_EXAMPLES = f"""\
examples:
  python -m pyro_mfcvae evaluate result mnist --root DIR
  python -m pyro_mfcvae evaluate result/seed_3 data.npz --out result/data.txt

The ELBO is in nats per datum; higher is better. Without labels there are no scores, but the number of
clusters that are alive: the most probable one for some datum.
{SOURCES}"""
REPORT_EXAMPLES = f"""\
example:
  python -m pyro_mfcvae report result data.npz --out report.html --title "Third attempt"
{SOURCES}"""


def add_evaluate(commands: Commands) -> None:
    """Add the command ``evaluate``."""
    line = "score a model on data, by labels if there are any"
    text = "Score every facet of a model against every label of data."
    command = add_looking(commands, "evaluate", _evaluate, line, text, EVALUATE_EXAMPLES)
    command.add_argument(
        "--out", type=values.file_name(), metavar="FILE", help="file for what is printed, beside that"
    )
    add_overwrite(command)
    command.add_argument("--seed", type=values.seed, default=0, help="of the ELBO's samples (default: 0)")


def add_report(commands: Commands) -> None:
    """Add the command ``report``."""
    line = "write a page of HTML about what a model finds in data"
    text = "Write a page of HTML about what a model finds in data, with pictures and scores."
    command = add_looking(commands, "report", _report, line, text, REPORT_EXAMPLES)
    add_out(command, ".html", ".htm")
    command.add_argument("--title", help="of the page (default: the data)")
    command.add_argument("--seed", type=values.seed, default=0, help="of everything random (default: 0)")


def add_looking(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], None],
    line: str,
    description: str,
    examples: str,
) -> argparse.ArgumentParser:
    """Add a command with the arguments that all take that look at data with a model."""
    command = add_command(commands, name, run, line, description, examples)
    add_model(command)
    command.add_argument("dataset", metavar="DATASET", help=DATASET)
    add_source(command)
    command.add_argument(
        "--split",
        choices=("train", "test"),
        help="which part of mnist, svhn, shapes and shapes3d (default: test)",
    )
    add_computing(command)
    return command


def _evaluate(arguments: argparse.Namespace) -> None:
    with threads(arguments.threads):
        fitted, part = open_both(arguments)
        scores = judge(fitted, part, arguments.seed)
    lines = [
        *headlines(arguments, fitted, part),
        *scores.lines(),
    ]
    text = "\n".join(lines)
    say(text)
    if arguments.out is not None:
        write_text(arguments.out, text + "\n")


def _report(arguments: argparse.Namespace) -> None:
    with threads(arguments.threads):
        fitted, part = open_both(arguments)
        title = printable(arguments.title or f"{Path(arguments.dataset).name}: {part.where}")
        with destination(arguments.out):
            path = fitted.report(arguments.out, part.x, part.labels, title=title, seed=arguments.seed)
    say("\n".join([*headlines(arguments, fitted, part), f"Wrote {path}."]))


def open_both(arguments: argparse.Namespace) -> tuple[FittedMFCVAE, Part]:
    """Open the model, and data that suit it, before the folder for the result is made."""
    if arguments.out is not None:
        vacant(arguments.out, overwrite=arguments.overwrite)
    fitted = open_model(arguments)
    likelihood, shape = fitted.model.likelihood, fitted.model.x_shape
    part = load_part(arguments, likelihood.allows_missing, fitted.model.schema)
    x = part.x
    if not isinstance(x, LARGE):  # which is read, and checked, in blocks
        x = as_tensor(
            x, name="dataset", allow_missing=True, dtype=likelihood.dtype, schema=fitted.model.schema
        )
    if x.shape[1:] != shape and (1, *x.shape[1:]) != shape:  # a missing channel of size one is added
        got, expected = (" x ".join(map(str, sizes)) for sizes in (x.shape[1:], shape))
        raise ValueError(
            f"dataset: got data of {got}, expected {expected}, as the model was trained on; give such"
        )
    if isinstance(x, torch.Tensor):
        likelihood.check(x, "dataset")
    if arguments.out is not None:
        folder(arguments.out.parent, arguments.out.name)
    return fitted, dataclasses.replace(part, x=x)


def headlines(arguments: argparse.Namespace, fitted: FittedMFCVAE, part: Part) -> list[str]:
    """Name the model and the data."""
    return [f"model: {provenance(arguments, fitted)}", f"data: {arguments.dataset}, {part.where}"]
