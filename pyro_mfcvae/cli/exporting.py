"""The command ``export``: a model for programs that have not this package."""

from __future__ import annotations

import argparse

from pyro_mfcvae.cli.arguments import Commands, add_command, add_out
from pyro_mfcvae.cli.models import add_model, open_model, provenance
from pyro_mfcvae.cli.output import destination, folder, say, vacant
from pyro_mfcvae.results.exporting import ENDINGS

EXAMPLES = """\
examples:
  python -m pyro_mfcvae export result --out model.pt2    for torch.export.load(path).module()(x)
  python -m pyro_mfcvae export result --out model.onnx   for any runtime of ONNX

What it returns for data x is named clusters, (N, J), and probabilities_0, latents_0 and so on, of each facet.
"""


def add_export(commands: Commands) -> None:
    """Add the command ``export``."""
    line = "write a model as a program that needs neither this package nor Pyro"
    text = "Write a model as a program for PyTorch or ONNX, which predicts batches of any size."
    command = add_command(commands, "export", _export, line, text, EXAMPLES)
    add_model(command)
    add_out(command, *ENDINGS)
    command.set_defaults(device="cpu")


def _export(arguments: argparse.Namespace) -> None:
    vacant(arguments.out, overwrite=arguments.overwrite)
    fitted = open_model(arguments)
    folder(arguments.out.parent, arguments.out.name)
    with destination(arguments.out):
        fitted.export(arguments.out)
    say(f"model: {provenance(arguments, fitted)}\nWrote {arguments.out}.")
