"""Models on disk, as the command line names them."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from pyro_mfcvae.results.fitted import FittedMFCVAE, load

MODEL_FILE = "model.mfcvae"


def add_model(command: argparse.ArgumentParser) -> None:
    """Which model."""
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
    """The file itself, or the one in the folder that ``fit`` wrote.

    Raises:
        FileNotFoundError: if there is none.
    """
    file = path / MODEL_FILE if path.is_dir() else path
    if file.is_file():
        return file
    if not path.is_dir():
        raise FileNotFoundError(f"model: there is no file or folder {path}")
    others = sorted(path.glob(f"*/{MODEL_FILE}"))
    hint = f"there are {', '.join(map(str, others))}" if others else "give the file that holds the model"
    raise FileNotFoundError(f"model: there is no {MODEL_FILE} in the folder {path}; {hint}")


def provenance(arguments: argparse.Namespace, fitted: FittedMFCVAE) -> str:
    """Where the model is and how it came about."""
    text = str(model_file(arguments.model))
    if fitted.seed is not None:
        text += f", trained with seed {fitted.seed}"
    if len(fitted.restarts) > 1:
        text += f", the best of {len(fitted.restarts)} by ELBO"
    if fitted.history.environment is not None:
        text += f", in {fitted.history.environment}"
    return text
