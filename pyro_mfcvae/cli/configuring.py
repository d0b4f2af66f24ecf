"""The making of a configuration from options."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Unpack, cast

from pyro_mfcvae.cli.datasets import Dataset
from pyro_mfcvae.config import presets
from pyro_mfcvae.config.mfcvae import MFCVAEConfig
from pyro_mfcvae.config.schedule import Schedule
from pyro_mfcvae.config.stage import Stage, StageOptions
from pyro_mfcvae.data.choosing import as_source
from pyro_mfcvae.likelihoods import Gaussian

PRESETS: dict[str, Callable[..., MFCVAEConfig]] = {
    "images": presets.images,
    "mnist": presets.mnist,
    "shapes3d": presets.shapes3d,
    "svhn": presets.svhn,
    "tabular": presets.tabular,
}


def configure(arguments: argparse.Namespace, dataset: Dataset) -> MFCVAEConfig:
    """Change the preset as the options say."""
    preset = suitable(dataset) if arguments.preset == "auto" else PRESETS[arguments.preset]
    overrides: presets.SizedFields = {}
    if arguments.clusters:
        overrides["clusters"] = arguments.clusters
    if arguments.latent_dims:
        overrides["latent_dims"] = arguments.latent_dims
    is_gaussian = isinstance(preset().likelihood, Gaussian)
    if arguments.likelihood and not (arguments.likelihood == "gaussian" and is_gaussian):
        overrides["likelihood"] = arguments.likelihood
    config = preset(**overrides)
    epochs = arguments.epochs and _each("--epochs", arguments.epochs, len(config.stages), "stage")
    given: StageOptions = {}
    if arguments.batch_size is not None:
        given["batch_size"] = arguments.batch_size
    if arguments.learning_rate is not None:
        given["learning_rate"] = arguments.learning_rate
    return with_stages(config, epochs, **given)


def suitable(dataset: Dataset) -> Callable[..., MFCVAEConfig]:
    """Choose the preset for these data, else the one that ``fit`` takes, ready for overrides."""
    if dataset.preset is not None:
        return dataset.preset
    schema = dataset.schema
    x = as_source(dataset.train.x, schema=schema).calibration_sample()
    is_unit_interval = bool(x.min() >= 0 and x.max() <= 1)
    shape = tuple(x.shape[1:])
    if schema is None:
        return functools.partial(presets.for_data, shape, is_unit_interval)
    has_missing = bool(x.isnan().any())
    return functools.partial(
        presets.for_data, shape, is_unit_interval, has_missing=has_missing, schema=schema
    )


def with_stages(
    config: MFCVAEConfig, epochs: Sequence[int] | None, **options: Unpack[StageOptions]
) -> MFCVAEConfig:
    """Change what is given in all stages; warm-up and fade-in shrink with the epochs."""
    stages = list(config.stages)
    if epochs:
        stages = [_lasting(stage, n) for stage, n in zip(stages, epochs, strict=True)]
    stages = [dataclasses.replace(stage, **options) for stage in stages]
    schedule = dataclasses.replace(cast(Schedule, config.schedule), stages=tuple(stages))
    return dataclasses.replace(config, schedule=schedule)


def _lasting(stage: Stage, epochs: int) -> Stage:
    share = min(1.0, max(epochs, 0) / (stage.epochs or math.inf))
    return dataclasses.replace(
        stage,
        epochs=epochs,
        steps=None,
        warm_up_epochs=int(stage.warm_up_epochs * share),
        fade_in_steps=int(stage.fade_in_steps * share),
    )


def _each(name: str, values: Sequence[int], number: int, what: str) -> list[int]:
    """Return one value for each; a single one serves all."""
    if len(values) == 1:
        return list(values) * number
    if len(values) != number:
        expected = "1" if number == 1 else f"1 or {number}, one for each {what}"
        raise ValueError(f"{name}: got {len(values)} numbers, expected {expected}; give as many")
    return list(values)
