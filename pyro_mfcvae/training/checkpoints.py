"""Training runs on disk, between two epochs: what goes on from there is the run without interruption."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor

from pyro_mfcvae._utils.tensors import read_tensors, write_tensors
from pyro_mfcvae.model.mfcvae import MFCVAE
from pyro_mfcvae.training.history import EpochRecord, as_record
from pyro_mfcvae.training.stage_state import StageState

FORMAT = "pyro_mfcvae_checkpoint"
VERSION = 1
INTERVAL = 60.0  # seconds, from one checkpoint of a stage to the next


class Run(Protocol):
    """What a checkpoint needs of a training run."""

    model: MFCVAE
    order: torch.Generator
    history: list[EpochRecord]
    steps: int
    start: float


class Checkpoint:
    """The file of one training run.

    It holds the model, the optimiser, the random streams and the history: all that the rest of the run
    depends on, but for attributes of a user's own modules that are neither parameters nor buffers.

    Args:
        path: of the file; its folder must exist. If the file does, the run goes on from it.
        identity: what makes the run another than others.

    Attributes:
        stage: index of the stage that the file is in; None if there is no file yet.

    Raises:
        ValueError: if the file is not a whole checkpoint, or that of another run.
    """

    def __init__(self, path: str | Path, identity: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.identity = dict(identity)
        self.stage: int | None = None
        self._written = time.monotonic()
        if self.path.is_file():
            self._header, self._tensors = self._read()
            self.stage = self._header["stage"]

    def write(self, run: Run, state: StageState) -> None:
        """Replace the file by what the run is now, if a minute has passed or the stage is over."""
        if not state.is_over and time.monotonic() - self._written < INTERVAL:
            return
        model, device = run.model, run.model.device
        header = {
            "identity": self.identity,
            "stage": state.index,
            "step": state.step,
            "epoch": state.epoch,
            "is_warming_up": state.is_warming_up,
            "is_over": state.is_over,
            "best_elbo": state.best.elbo,
            "best_age": state.best.age,
            "is_standard": [getattr(prior, "is_standard", None) for prior in model.facet_priors],
            "history": [dataclasses.asdict(record) for record in run.history],
            "steps": run.steps,
            "seconds": time.perf_counter() - run.start,
        }
        tensors = {"random.cpu": torch.get_rng_state(), "random.order": run.order.get_state()}
        if device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(device)
        groups: dict[str, Mapping[str, Any]] = {"model": model.state_dict(), "best": state.best.state}
        for i, moments in state.optimizer.state_dict()["state"].items():
            groups[f"optimizer.{i}"] = {n: value for n, value in moments.items() if value is not None}
        for group, members in groups.items():
            tensors |= {f"{group}.{name}": tensor for name, tensor in members.items()}
        write_tensors(self.path, FORMAT, {"version": VERSION, **header}, tensors)
        self._written = time.monotonic()

    def restore(self, run: Run, state: StageState) -> None:
        """Make of the run, at the beginning of :attr:`stage`, what it was when the file was written."""
        header, model = self._header, run.model
        model.load_state_dict(self._group("model"))
        for prior, is_standard in zip(model.facet_priors, header["is_standard"], strict=True):
            if is_standard is not None:
                prior.is_standard = is_standard
        state.step, state.epoch = header["step"], header["epoch"]
        state.is_warming_up, state.is_over = header["is_warming_up"], header["is_over"]
        state.best.elbo, state.best.age = header["best_elbo"], header["best_age"]
        state.best.state = self._group("best")
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in self._group("optimizer").items():
            i, moment = name.split(".", 1)
            moments.setdefault(int(i), {})[moment] = tensor
        state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": moments})
        run.history[:] = [as_record(fields) for fields in header["history"]]
        run.steps, run.start = header["steps"], time.perf_counter() - header["seconds"]
        run.order.set_state(self._tensors["random.order"])
        torch.set_rng_state(self._tensors["random.cpu"])
        if model.device.type == "cuda" and "random.cuda" in self._tensors:
            torch.cuda.set_rng_state(self._tensors["random.cuda"], model.device)
        self._tensors = {}  # which would be kept for as long as the run

    def _group(self, group: str) -> dict[str, Tensor]:
        prefix = f"{group}."
        return {n.removeprefix(prefix): t for n, t in self._tensors.items() if n.startswith(prefix)}

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        way_out = "delete it to begin anew, or use another folder"
        try:
            header, tensors = read_tensors(self.path, FORMAT)
            saved = header["identity"]
            if header["version"] != VERSION:
                raise ValueError(f"version {header['version']}, expected {VERSION}")
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"checkpoint_dir: {self.path} is not a whole checkpoint ({error}); {way_out}"
            ) from error
        others = [name for name, value in self.identity.items() if saved.get(name) != value]
        if others:
            raise ValueError(
                f"checkpoint_dir: {self.path} is of a run that differs in {', '.join(others)}; {way_out}"
            )
        return header, tensors
