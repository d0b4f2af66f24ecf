"""Fitted models on disk: one safetensors file, with everything else as JSON in its header."""

from __future__ import annotations

import dataclasses
import json
import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from torch import Tensor

from pyro_mfcvae._utils.devices import Environment
from pyro_mfcvae._utils.tensors import ForeignFileError, read_tensors, write_tensors
from pyro_mfcvae.config.mfcvae import MFCVAEConfig
from pyro_mfcvae.model.mfcvae import MFCVAE
from pyro_mfcvae.results.choosing import RunScore, known
from pyro_mfcvae.results.levels import Level
from pyro_mfcvae.training.history import History, as_record
from pyro_mfcvae.training.unmixing import Unmixing

FORMAT = "pyro_mfcvae"
VERSION = 2
VERSION_JOINED = 3  # with joined clusters, which readers of version 2 would pass over in silence
READABLE = (1, 2, 3)


@dataclass(frozen=True)
class StoredModel:
    """The content of a file.

    Attributes:
        model: the model.
        history: history of its training, with what it was trained in.
        seed: what it was trained with; None if that is not known.
        restarts: figures of every run, by seed, of which the model is the best; empty if it is the only one.
        levels: what the clusters of each facet are made of; empty if they are the components.
    """

    model: MFCVAE
    history: History
    seed: int | None = None
    restarts: Mapping[int, RunScore] = field(default_factory=dict)
    levels: tuple[Level, ...] = ()


class _OtherVersionError(ValueError):
    """A file of ours, but not of this version."""


def write_model(path: str | Path, stored: StoredModel) -> None:
    """Write a model to one file; a file that is there is replaced in a single step.

    Args:
        path: path of the file; its folder must exist.
        stored: the model, and how it came about.

    Raises:
        TypeError: if the configuration holds a factory that JSON does not know.
        FileNotFoundError: if the folder does not exist.
        IsADirectoryError: if the path is a folder.
    """
    model, environment, unmixing = stored.model, stored.history.environment, stored.history.unmixing
    levels = {j: _level_fields(level) for j, level in enumerate(stored.levels) if level.method}
    header = {
        "version": VERSION_JOINED if levels else VERSION,
        "config": json.loads(model.config.to_json()),
        "x_shape": model.x_shape,
        "history": [dataclasses.asdict(record) for record in stored.history],
        "environment": None if environment is None else dataclasses.asdict(environment),
        "unmixing": None if unmixing is None else unmixing.state_dict(),
        "seed": stored.seed,
        "restarts": {seed: run.elbo for seed, run in stored.restarts.items()},  # JSON makes text of the seeds
        "figures": {seed: _other_figures(run) for seed, run in stored.restarts.items()},
        **({"levels": levels} if levels else {}),
    }
    write_tensors(path, FORMAT, header, model.state_dict())


def read_model(path: str | Path) -> StoredModel:
    """Read what :func:`write_model` wrote, onto the CPU.

    Args:
        path: path of the file.

    Returns:
        The model, and how it came about: of files of earlier versions without environment, seed and restarts.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a whole file of this format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: there is no file {path}")
    try:
        header, state = read_tensors(path, FORMAT)
        _check_version(path, header)
        if header["version"] == 1:
            header, state = _from_version_1(header, state)
        model = MFCVAE(MFCVAEConfig.from_json(json.dumps(header["config"])), header["x_shape"])
        model.load_state_dict(state)
        environment, unmixing = header.get("environment"), header.get("unmixing")
        history = History(
            (as_record(fields) for fields in header["history"]),
            None if environment is None else Environment(**environment),
            None if unmixing is None else Unmixing.from_state_dict(unmixing),
        )
        seed = header.get("seed")
        seed = seed if seed is None else operator.index(seed)
        figures = header.get("figures", {})
        restarts = {
            int(s): RunScore(float(elbo), *_as_floats(figures.get(s, ())))
            for s, elbo in header.get("restarts", {}).items()
        }
        levels = _levels(header.get("levels", {}), [facet.clusters for facet in model.config.facets])
    except ForeignFileError as error:
        raise ValueError(
            f"path: {path} holds tensors, but not a pyro_mfcvae model; load what FittedMFCVAE.save wrote"
        ) from error
    except _OtherVersionError:
        raise
    except (SafetensorError, KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"path: {path} is not a whole pyro_mfcvae model ({error}); load what FittedMFCVAE.save wrote"
        ) from error
    return StoredModel(model.eval(), history, seed, restarts, levels)


def _other_figures(run: RunScore) -> tuple[float | None, ...]:
    return known(run.agreement), known(run.sharpness), known(run.redundancy)


def _as_floats(values: Iterable[float | None]) -> Iterator[float]:
    """NaN for None, which stands for it in JSON."""
    return (math.nan if value is None else float(value) for value in values)


def _level_fields(level: Level) -> dict[str, Any]:
    return {**dataclasses.asdict(level), "clusters": level.clusters.tolist()}


def _levels(stored: Mapping[str, Mapping[str, Any]], components: Sequence[int]) -> tuple[Level, ...]:
    """Make the levels of all facets, of which only some are stored."""
    levels = [Level.whole(K) for K in components]
    for facet, fields in stored.items():
        order = tuple((int(i), int(j)) for i, j in fields["order"])
        level = Level(np.array(fields["clusters"]), fields["method"], order, tuple(fields["values"]))
        if level.num_components != components[int(facet)]:
            raise ValueError(
                f"levels of {level.num_components} components, expected {components[int(facet)]}"
            )
        levels[int(facet)] = level
    return tuple(levels)


def _from_version_1(
    header: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Rename what version 1 called ``rungs``, in the names of tensors and of what stages freeze."""
    config = dict(header["config"])
    stages = [
        {**stage, "freeze": [name.replace(".rungs.", ".facet_modules.") for name in stage["freeze"]]}
        for stage in config["schedule"]["stages"]
    ]
    config["schedule"] = {**config["schedule"], "stages": stages}
    renamed = {name.replace(".rungs.", ".facet_modules."): tensor for name, tensor in state.items()}
    return {**header, "config": config}, renamed


def _check_version(path: Path, header: Mapping[str, Any]) -> None:
    if header["version"] not in READABLE:
        raise _OtherVersionError(
            f"path: {path} has format version {header['version']}, expected one of {READABLE}; "
            "load it with the version of pyro_mfcvae that saved it"
        )
