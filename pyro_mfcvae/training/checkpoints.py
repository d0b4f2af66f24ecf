"""Training runs on disk, between two epochs: what goes on from there is the run without interruption."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pyro_mfcvae._utils.files import remove_leftovers
from pyro_mfcvae._utils.tensors import pack, read_tensors, unpack, write_tensors
from pyro_mfcvae._utils.version import __version__

FORMAT = "pyro_mfcvae_checkpoint"
VERSION = 3
INTERVAL = 60.0  # seconds, from one checkpoint of a stage to the next
WAY_OUT = "delete it to begin anew, or use another folder"


class CheckpointWarning(UserWarning):
    """A checkpoint could not be written; the run goes on without it."""


class Checkpoint:
    """The file of one training run.

    Args:
        path: path of the file, whose folder must exist.
        identity: what makes the run another than others.
    """

    def __init__(self, path: str | Path, identity: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.identity = dict(identity)
        self._written = time.monotonic()
        remove_leftovers(self.path)

    def write(self, state_dict: Callable[[], Mapping[str, Any]], is_due: bool) -> None:
        """Replace the file, if a minute has passed since it was written, or if it is due.

        Args:
            state_dict: gives the state of the run.
            is_due: whether to write in any case.

        Warns:
            CheckpointWarning: if the file cannot be written; the one before is left.
        """
        if not is_due and time.monotonic() - self._written < INTERVAL:
            return
        state, tensors = pack(state_dict())
        header = {
            "version": VERSION,
            "package": __version__,
            "identity": self.identity,
            "state": state,
        }
        try:
            write_tensors(self.path, FORMAT, header, tensors)
        except OSError as error:
            warnings.warn(
                f"checkpoint_dir: {self.path} could not be written ({error}); the run goes on, and "
                "tries again",
                CheckpointWarning,
                stacklevel=2,
            )
        self._written = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """Read the state of the run, on the CPU; None if there is no file yet.

        Raises:
            ValueError: if the file is not a whole checkpoint, or that of another run.
        """
        if not self.path.is_file():
            return None
        try:
            header, tensors = _read(self.path)
            saved = dict(header["identity"])
            state: dict[str, Any] = unpack(header["state"], tensors)
        except Exception as error:  # a file may hold anything
            raise self.broken(error) from error
        others = [name for name, value in self.identity.items() if saved.get(name) != value]
        if others:
            raise ValueError(
                f"checkpoint_dir: {self.path} is of a run that differs in "
                f"{', '.join(_difference(name, saved.get(name), self.identity[name]) for name in others)}; "
                f"{WAY_OUT}"
            )
        return state

    def broken(self, error: Exception) -> ValueError:
        """Make the error for a file that holds something else."""
        reason = str(error) or type(error).__name__
        return ValueError(f"checkpoint_dir: {self.path} is not a whole checkpoint ({reason:.300}); {WAY_OUT}")


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the model of a checkpoint, with what :func:`pyro_mfcvae.load` needs to know of it.

    Args:
        path: path of the file.

    Returns:
        Header and tensors as those of a saved model.

    Raises:
        ForeignFileError: if it is not a checkpoint.
        ValueError: if it cannot be read, or its configuration holds what JSON does not know.
    """
    header, tensors = _read(path)
    state: dict[str, Any] = unpack(header["state"], tensors)
    if state["config"] is None:
        raise ValueError(
            "it is a checkpoint of a configuration with factories of one's own, which no file can hold; call "
            "fit again with its checkpoint_dir"
        )
    return {name: value for name, value in state.items() if name != "model"}, state["model"]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    header, tensors = read_tensors(path, FORMAT, undigested=(1, 2))
    if header["version"] != VERSION:
        raise ValueError(f"version {header['version']}, expected {VERSION}")
    return header, tensors


def _difference(name: str, saved: object, here: object) -> str:
    """Name what differs, and how, if that can be read."""
    if all(isinstance(value, (int, str)) and len(str(value)) < 30 for value in (saved, here)):
        return f"{name} ({saved}, here {here})"
    return name
