"""Models on disk, as the command line names them."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from pyro_mfcvae.results.fitted import FittedMFCVAE
from pyro_mfcvae.results.loading import load

MODEL_FILE = "model.mfcvae"


def add_model(command: argparse.ArgumentParser) -> None:
    """Add an argument for the model."""
    command.add_argument(
        "model", type=Path, metavar="MODEL", help="folder that fit wrote, or a file of FittedMFCVAE.save"
    )


def open_model(arguments: argparse.Namespace) -> FittedMFCVAE:
    """Read the model.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the file is another one, or the device is not there.
    """
    try:
        return load(model_file(arguments.model), device=arguments.device)
    except ValueError as error:
        raise ValueError(re.sub("^path:", "model:", str(error))) from error


def model_file(path: Path) -> Path:
    """Find the file of a model: the path itself, or in the folder that ``fit`` wrote.

    Raises:
        FileNotFoundError: if there is none.
    """
    file = path / MODEL_FILE if path.is_dir() else path
    if file.is_file():
        return file
    if not path.is_dir():
        raise FileNotFoundError(f"model: got {path}, expected a file or folder that is there; check its path")
    others = sorted(path.glob(f"*/{MODEL_FILE}"))
    hint = f"choose from {', '.join(map(str, others))}" if others else "give the file that holds the model"
    raise FileNotFoundError(f"model: got the folder {path}, expected {MODEL_FILE} in it; {hint}")


def provenance(arguments: argparse.Namespace, fitted: FittedMFCVAE) -> str:
    """Say where the model is and how it came about."""
    text = str(model_file(arguments.model))
    if fitted.seed is not None:
        text += f", trained with seed {fitted.seed}"
    if len(fitted.restarts) > 1:
        text += f", the best of {len(fitted.restarts)} without labels"
    if fitted.history.environment is not None:
        text += f", in {fitted.history.environment}"
    return text
