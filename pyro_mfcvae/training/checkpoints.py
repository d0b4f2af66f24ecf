"""Training runs on disk, between two epochs: what goes on from there is the run without interruption."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from pyro_mfcvae._utils.tensors import pack, read_tensors, unpack, write_tensors

FORMAT = "pyro_mfcvae_checkpoint"
VERSION = 2
INTERVAL = 60.0  # seconds, from one checkpoint of a stage to the next


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

    def write(self, state_dict: Callable[[], Mapping[str, Any]], is_due: bool) -> None:
        """Replace the file, if a minute has passed since it was written, or if it is due.

        Args:
            state_dict: gives the state of the run.
            is_due: whether to write in any case.

        Raises:
            OSError: if the file cannot be written.
        """
        if not is_due and time.monotonic() - self._written < INTERVAL:
            return
        state, tensors = pack(state_dict())
        header = {"version": VERSION, "identity": self.identity, "state": state}
        write_tensors(self.path, FORMAT, header, tensors)
        self._written = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """Read the state of the run, on the CPU; None if there is no file yet.

        Raises:
            ValueError: if the file is not a whole checkpoint, or that of another run.
        """
        if not self.path.is_file():
            return None
        way_out = "delete it to begin anew, or use another folder"
        try:
            header, tensors = read_tensors(self.path, FORMAT)
            saved = header["identity"]
            if header["version"] != VERSION:
                raise ValueError(f"version {header['version']}, expected {VERSION}")
            state: dict[str, Any] = unpack(header["state"], tensors)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"checkpoint_dir: {self.path} is not a whole checkpoint ({error}); {way_out}"
            ) from error
        others = [name for name, value in self.identity.items() if saved.get(name) != value]
        if others:
            raise ValueError(
                f"checkpoint_dir: {self.path} is of a run that differs in {', '.join(others)}; {way_out}"
            )
        return state
