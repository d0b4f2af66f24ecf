"""Callbacks: what is called while a model trains.

A callback is an object of a class of one's own, or a function that is called after each epoch:

>>> losses = []
>>> def remember(trainer, record):
...     losses.append(record.loss)

and ``fit(..., callbacks=[remember])``. It may look at everything, change nothing that matters to the run, and
end the run by ``trainer.stop()``. Runs in other processes have copies of it, which must be picklable; their
changes stay there. Some recipes:

Pruning by Optuna, with held-out data (``Schedule(held_out=0.1)``)::

    def prune(trainer, record):
        trial.report(record.held_out_elbo, len(trainer.history))
        if trial.should_prune():
            raise optuna.TrialPruned

MLflow::

    def log(trainer, record):
        mlflow.log_metrics(as_row(record), step=record.steps)

Weights and Biases::

    def log(trainer, record):
        wandb.log(as_row(record), step=record.steps)

A live plot in a notebook::

    def draw(trainer, record):
        IPython.display.clear_output(wait=True)
        IPython.display.display(trainer.finished_history().plot())
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pyro_mfcvae.training.history import EpochRecord, as_row

if TYPE_CHECKING:  # which calls them
    from torch.utils.tensorboard import SummaryWriter

    from pyro_mfcvae.training.loop import Trainer

__all__ = ["CSVLogger", "Callback", "TensorBoard", "as_row"]


class Callback:
    """Base class of callbacks, whose methods do nothing.

    The trainer that they are given has ``model``, ``history``, ``steps``, ``seed``, ``stage`` and ``stop()``.
    An exception passes through to the caller of ``fit``; its attribute ``fitted`` is the model so far.
    """

    def on_stage_begin(self, trainer: Trainer) -> None:
        """Take note that ``trainer.stage`` begins, or goes on from a checkpoint."""

    def on_epoch_end(self, trainer: Trainer, record: EpochRecord) -> None:
        """Take note of an epoch; it is the last one of ``trainer.history``."""

    def on_run_end(self, trainer: Trainer) -> None:
        """Take note that training has ended, or was stopped."""


Callbacks: TypeAlias = Iterable["Callback | Callable[[Trainer, EpochRecord], object]"]


def as_callbacks(callbacks: object) -> tuple[Callback, ...]:
    """Return callbacks, those that are functions wrapped.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks: got {callbacks!r}, expected several; give it in a list")
    return tuple(map(as_callback, callbacks))


def as_callback(callback: object) -> Callback:
    """Return a callback, made of a function if need be.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(callback, Callback):
        return callback
    if isinstance(callback, type) or not callable(callback):
        raise TypeError(
            f"callbacks: got {callback!r}, expected a Callback or a function of a trainer and a record; "
            f"{'call it' if isinstance(callback, type) else 'give such in a list'}"
        )
    return _Function(callback)


class _Function(Callback):
    """Calls a function after each epoch."""

    def __init__(self, function: Callable[[Trainer, EpochRecord], object]) -> None:
        self.function = function

    def on_epoch_end(self, trainer: Trainer, record: EpochRecord) -> None:
        self.function(trainer, record)


class CSVLogger(Callback):
    """Keeps a file with a row for each epoch, the columns of ``History.to_pandas``.

    A run that goes on after an interruption, or back after it diverged, has each epoch once.

    Args:
        path: path of the file; ``{seed}`` in it stands for the seed of the run, for several runs.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._written: tuple[int, int] | None = None  # seed of the run, and its rows in the file
        self._columns: list[str] = []

    def on_epoch_end(self, trainer: Trainer, record: EpochRecord) -> None:
        """Add a row, or write all of them if others are in the file."""
        history = trainer.history
        rows = [as_row(record)]
        # Unmixing may give the run more facets than it had, and so more columns.
        follows = self._written == (trainer.seed, len(history) - 1) and rows[0].keys() <= {*self._columns}
        if not follows:
            rows = [as_row(each) for each in history]
            self._columns = list(dict.fromkeys(name for row in rows for name in row))
        path = self.path.replace("{seed}", str(trainer.seed))
        with open(path, "a" if follows else "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            if not follows:
                writer.writeheader()
            writer.writerows(rows)
        self._written = trainer.seed, len(history)


class TensorBoard(Callback):
    """Writes the figures of each epoch for TensorBoard, by optimiser steps.

    Args:
        folder: folder of all runs; each has one of its own in it, ``seed_0``, ``seed_1``, ...

    Raises:
        ImportError: when training begins, if the package tensorboard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._writer: SummaryWriter | None = None

    def on_stage_begin(self, trainer: Trainer) -> None:
        """Open the run's folder; what an interrupted run wrote beyond its checkpoint is hidden."""
        if self._writer is not None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "callbacks: the package tensorboard is not installed; run pip install tensorboard"
            ) from error
        self._writer = SummaryWriter(self.folder / f"seed_{trainer.seed}", purge_step=trainer.steps + 1)

    def on_epoch_end(self, trainer: Trainer, record: EpochRecord) -> None:
        """Write the figures of an epoch."""
        assert self._writer is not None
        for name, value in as_row(record).items():
            if value is not None:
                self._writer.add_scalar(name, value, record.steps)

    def on_run_end(self, trainer: Trainer) -> None:
        """Close the run."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_writer": None}
