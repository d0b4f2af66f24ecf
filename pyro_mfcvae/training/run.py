"""A training run from its beginning, or its checkpoint, to its end."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from torch import Tensor

from pyro_mfcvae._utils.devices import Precision, describe_environment
from pyro_mfcvae._utils.recipes import describe
from pyro_mfcvae._utils.tensors import digest_of
from pyro_mfcvae._utils.version import __version__
from pyro_mfcvae.config.mfcvae import MFCVAEConfig
from pyro_mfcvae.data.fingerprint import fingerprint
from pyro_mfcvae.data.sources import Source
from pyro_mfcvae.model.mfcvae import MFCVAE
from pyro_mfcvae.model.weights import network_precision
from pyro_mfcvae.training.callbacks import Callbacks, as_callback, as_callbacks
from pyro_mfcvae.training.checkpoints import Checkpoint
from pyro_mfcvae.training.compiled import Compile
from pyro_mfcvae.training.history import EpochRecord, History
from pyro_mfcvae.training.loop import Trainer


def train(
    model: MFCVAE,
    x: Tensor | Source,
    *,
    seed: int,
    precision: Precision = "float32",
    compile: Compile = False,
    checkpoint: str | Path | None = None,
    callbacks: Callbacks = (),
    progress: bool = True,
) -> History:
    r"""Train a model by the stages of its configuration.

    Draws from PyTorch's global generator, which the caller seeds; batches have a generator of their own.

    Args:
        model: the model, on the device where it is trained; it is changed in place.
        x: all data, (N, *x_shape); where they are not on the same device, batches are copied to it.
        seed: seed of the order of the data and of the mixtures' initialisation.
        precision: precision of the networks, as in :func:`pyro_mfcvae.fit`.
        compile: as in :func:`pyro_mfcvae.fit`.
        checkpoint: file where the run is kept between epochs, and from which it goes on if it is there.
        callbacks: as in :func:`pyro_mfcvae.fit`.
        progress: whether to show a progress bar.

    Returns:
        One record for each epoch, and what the model was trained in.

    Raises:
        FloatingPointError: if training diverges, also with lower learning rates. This, and a
            ``KeyboardInterrupt`` or what a callback raises, have the history so far as their attribute
            ``history``, and leave the model as it was then.
        ValueError: if a stage freezes a name that no parameter has, or everything, if it ends before its
            warm-up, if too few data are left to hold out, or if the checkpoint is not of this run.

    Warns:
        DivergenceWarning: if a stage diverged, and goes on with a lower learning rate.
        CheckpointWarning: if a checkpoint cannot be written.
        DeadClustersWarning: if fewer than half of a facet's clusters are used in the end.
    """
    trainer = Trainer(model, x, seed=seed, precision=precision, compile=compile)
    trainer.callbacks += as_callbacks(callbacks)
    if checkpoint is not None:
        kept = Checkpoint(checkpoint, identity_of(trainer))
        state = kept.read()
        if state is not None:
            try:
                trainer.load_state_dict(state)
            except Exception as error:  # a file may hold anything
                raise kept.broken(error) from error
        trainer.callbacks.append(as_callback(functools.partial(_keep, kept)))  # the last one: others may stop
    try:
        trainer.run(progress=progress)
    except (KeyboardInterrupt, Exception) as error:
        error.__dict__["history"] = trainer.finished_history()
        raise
    with network_precision(precision):
        trainer.monitor.warn_of_dead_clusters()
    return trainer.finished_history()


def _keep(kept: Checkpoint, trainer: Trainer, record: EpochRecord) -> None:
    """Write the checkpoint, in any case at the end of a stage and where the run is stopped."""
    kept.write(trainer.state_dict, trainer.at_end_of_stage or trainer.is_stopped)


def identity_of(trainer: Trainer) -> dict[str, Any]:
    """Describe what makes a run another than others, as far as it can be told.

    Raises:
        ValueError: if the configuration holds what cannot be told from others.
    """
    config = trainer.model.config
    environment = describe_environment(trainer.model.device, trainer.precision)
    try:
        configuration = config.to_json()
    except TypeError:  # of factories that JSON does not know
        configuration = _described(config)
    return {
        "configuration": configuration,
        "seed": trainer.seed,
        "precision": trainer.precision,
        "device": trainer.model.device.type,
        "number of data": len(trainer.all_data),
        "shape of a datum": list(trainer.model.x_shape),
        "data": fingerprint(trainer.all_data),
        "threads": environment.threads,
        "version of torch": environment.versions["torch"],
        "version of pyro_mfcvae": __version__,
    }


def _described(config: MFCVAEConfig) -> str:
    try:
        return digest_of(describe(config))
    except TypeError as error:
        raise ValueError(
            f"checkpoint_dir: got a configuration with an object that cannot be told from others ({error}), "
            "expected factories such as functions or frozen dataclasses; give it none, or checkpoint_dir=None"
        ) from error
