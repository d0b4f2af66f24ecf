"""Fitted models on disk: one safetensors file, with everything else as JSON in its header."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_mfcvae._utils.allocations import bounded_allocations
from pyro_mfcvae._utils.devices import Environment
from pyro_mfcvae._utils.fields import checked, from_fields
from pyro_mfcvae._utils.tensors import ForeignFileError, read_tensors, write_tensors
from pyro_mfcvae._utils.turns import seeded
from pyro_mfcvae._utils.version import __version__
from pyro_mfcvae.config.mfcvae import Facet, MFCVAEConfig
from pyro_mfcvae.model.mfcvae import MFCVAE
from pyro_mfcvae.results.choosing import RunScore, known
from pyro_mfcvae.results.levels import Level
from pyro_mfcvae.training.checkpoints import read_checkpoint
from pyro_mfcvae.training.history import EpochRecord, History
from pyro_mfcvae.training.unmixing import Unmixing

FORMAT = "pyro_mfcvae"
VERSION = 4
MINOR = 1  # of files that add what earlier readers may pass over
UNDIGESTED = (1, 2, 3)
# Bytes that making a model may ask for, for a byte that its file holds, and whatever it holds.
ROOM = 4
MIN_ROOM = 2**24
READABLE = (*UNDIGESTED, VERSION)

Entry = Mapping[str, Any]


class OtherVersionWarning(UserWarning):
    """A file was written by another version of this package, and can be read all the same."""


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


class _OtherConfigError(ValueError):
    """A file of ours, that needs a configuration, or another one than it was given."""


def write_model(path: str | Path, stored: StoredModel) -> None:
    """Write a model to one file; a file that is there is replaced in a single step.

    Args:
        path: path of the file; its folder must exist.
        stored: the model, and how it came about.

    Raises:
        FileNotFoundError: if the folder does not exist.
        IsADirectoryError: if the path is a folder.
    """
    model, environment, unmixing = stored.model, stored.history.environment, stored.history.unmixing
    header = {
        "version": VERSION,
        "minor": MINOR,
        "package": __version__,
        "config": model.config.known_fields(),
        "x_shape": model.x_shape,
        "is_standard": [prior.is_standard for prior in model.facet_priors],
        "history": [dataclasses.asdict(record) for record in stored.history],
        "environment": None if environment is None else dataclasses.asdict(environment),
        "unmixing": None if unmixing is None else unmixing.state_dict(),
        "seed": stored.seed,
        "restarts": {seed: run.elbo for seed, run in stored.restarts.items()},  # JSON makes text of the seeds
        "figures": {seed: _other_figures(run) for seed, run in stored.restarts.items()},
        "levels": {j: _level_fields(level) for j, level in enumerate(stored.levels) if level.method},
    }
    write_tensors(path, FORMAT, header, model.state_dict())


def read_model(path: str | Path, config: MFCVAEConfig | None = None) -> StoredModel:
    """Read what :func:`write_model` wrote, or the model of a checkpoint, onto the CPU.

    Args:
        path: path of the file.
        config: configuration with the factories of one's own that the file only describes.

    Returns:
        The model, and how it came about: of files of earlier versions without environment, seed and restarts.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a whole file of this format, whatever it holds instead.

    Warns:
        OtherVersionWarning: for a file without a digest, or one that a later version wrote.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: there is no file {path}")
    try:
        stored, notes = _read(path, config)
    except ForeignFileError as error:
        raise ValueError(
            f"path: {path} holds tensors, but not a pyro_mfcvae model; load what FittedMFCVAE.save wrote"
        ) from error
    except (_OtherVersionError, _OtherConfigError):
        raise
    except Exception as error:  # a file may hold anything
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"path: {path} is not a whole pyro_mfcvae model ({reason:.300}); load what "
            "FittedMFCVAE.save wrote"
        ) from error
    for note in notes:
        warnings.warn(note, OtherVersionWarning, stacklevel=4)  # where load is called
    return stored


def _read(path: Path, given: MFCVAEConfig | None) -> tuple[StoredModel, list[str]]:
    """Read a model, and notes on the version of its file."""
    try:
        header, state = read_tensors(path, FORMAT, UNDIGESTED)
    except ForeignFileError:
        header, state = read_checkpoint(path)
        header = {**header, "version": VERSION}
    notes = _check_version(path, header)
    is_later = header.get("minor", 0) > MINOR
    if header["version"] == 1:
        header, state = _from_version_1(header, state)
    config = _config(path, header["config"], given, ignores_unknown=is_later)
    x_shape = checked(header["x_shape"], tuple[int, ...], "x_shape")
    unmixing = header.get("unmixing")
    unmixing = None if unmixing is None else Unmixing.from_state_dict(unmixing)
    model = _filled(config, x_shape, state, with_types=header["version"] not in UNDIGESTED)
    flags = checked(header.get("is_standard", []), tuple[bool, ...], "is_standard")
    for prior, is_standard in zip(model.facet_priors, flags, strict=bool(flags)):
        prior.is_standard = is_standard
    environment = header.get("environment")
    history = History(
        (from_fields(EpochRecord, fields, ignores_unknown=is_later) for fields in header["history"]),
        None if environment is None else from_fields(Environment, environment, ignores_unknown=is_later),
        unmixing,
    )
    seed = checked(header.get("seed"), int | None, "seed")
    if seed is not None and not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}, expected one of 32 bits")
    levels = _levels(header.get("levels", {}), [facet.clusters for facet in model.config.facets])
    return StoredModel(model.eval(), history, seed, _restarts(header), levels), notes


def _config(
    path: Path, fields: dict[str, Any], given: MFCVAEConfig | None, *, ignores_unknown: bool
) -> MFCVAEConfig:
    """Make the configuration of a file, with factories of a user's own from the one that is given."""
    facets = fields["facets"]
    own = [j for j, facet in enumerate(facets) if list(_unknown(facet["prior"]))]
    others = [name for name in ("likelihood", "network") if list(_unknown(fields[name]))]
    if not own and not others:
        if given is not None:
            raise _OtherConfigError(
                f"config: got one for {path}, which has its own, expected None; leave it out"
            )
        return MFCVAEConfig.from_json(json.dumps(fields), ignores_unknown=ignores_unknown)
    if given is None:
        raise _OtherConfigError(
            f"config: got None for {path}, whose model has {next(_unknown(fields)):.100}, which no file can "
            "hold, expected the configuration that it was trained with; give load(path, config=...)"
        )
    known = MFCVAEConfig((Facet(1, 1),)).known_fields()  # stand in where the file has only a description
    standing_in = {**fields, **{name: known[name] for name in others}}
    prior = known["facets"][0]["prior"]
    standing_in["facets"] = [{**f, "prior": prior} if j in own else f for j, f in enumerate(facets)]
    config = MFCVAEConfig.from_json(json.dumps(standing_in), ignores_unknown=ignores_unknown)
    # Facets that were counted all have the prior of the one that they were counted from.
    priors = [given.facets[min(j, len(given.facets) - 1)].prior for j in range(len(facets))]
    return dataclasses.replace(
        config,
        facets=tuple(
            dataclasses.replace(facet, prior=priors[j]) if j in own else facet
            for j, facet in enumerate(config.facets)
        ),
        **{name: getattr(given, name) for name in others},
    )


def _unknown(fields: object) -> Iterator[str]:
    """Yield the descriptions of factories that a file could not hold."""
    if isinstance(fields, dict) and "unknown" in fields:
        yield str(fields["unknown"])
    elif isinstance(fields, (dict, list)):
        for value in fields.values() if isinstance(fields, dict) else fields:
            yield from _unknown(value)


def _filled(
    config: MFCVAEConfig, x_shape: tuple[int, ...], state: Mapping[str, Tensor], *, with_types: bool
) -> MFCVAE:
    """Make a model, with these parameters, if they are its own."""
    held = sum(tensor.nbytes for tensor in state.values())
    # To load is not to draw; and a small file claims no large model.
    with seeded(0, torch.device("cpu")), bounded_allocations(ROOM * held + MIN_ROOM):
        model = MFCVAE(config, x_shape)
    expected = model.state_dict()
    if not with_types:
        state = _with_prepared_inputs(model, state)
    for name in {*expected, *state}:
        there, wanted = (
            f"{tuple(tensors[name].shape)}{f' {tensors[name].dtype}' if with_types else ''}"
            if name in tensors
            else "none"
            for tensors in (state, expected)
        )
        if there != wanted:
            raise ValueError(f"its tensor {name} is {there}, expected {wanted}")
    model.load_state_dict(state)
    return model


def _with_prepared_inputs(model: MFCVAE, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Prepare the pseudo-inputs of VampPriors as the likelihood does, which earlier versions kept raw."""
    prefix = "likelihood."
    model.likelihood.load_state_dict(
        {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    )
    return {
        name: model.inputs(tensor) if name.endswith(".pseudo_inputs") else tensor
        for name, tensor in state.items()
    }


def _restarts(header: Entry) -> dict[int, RunScore]:
    elbos = checked(header.get("restarts", {}), Mapping[str, float], "restarts")
    figures = checked(header.get("figures", {}), Mapping[str, tuple[float | None, ...]], "figures")
    return {int(s): RunScore(elbo, *_as_floats(figures.get(s, ()))) for s, elbo in elbos.items()}


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
        method = checked(fields["method"], str, "method")
        values = checked(fields["values"], tuple[float, ...], "values")
        level = Level(np.array(fields["clusters"]), method, order, values)
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


def _check_version(path: Path, header: Entry) -> list[str]:
    """Check that the version of a file can be read; return notes, if it is not the present one."""
    version, minor = header["version"], checked(header.get("minor", 0), int, "minor")
    package = header.get("package")
    by = f" ({package:.20})" if isinstance(package, str) else ""
    if type(version) is not int or version not in READABLE:
        raise _OtherVersionError(
            f"path: {path} has format version {version!r:.50}, expected one of {READABLE}; "
            f"load it with the version of pyro_mfcvae that saved it{by}"
        )
    notes = []
    if version in UNDIGESTED:
        notes.append(
            f"path: {path} has format version {version}, which has no digest by which damage is found; "
            "save the model again"
        )
    if minor > MINOR:
        notes.append(
            f"path: {path} was saved by a later version of pyro_mfcvae{by}; what this one does not know is "
            "left out"
        )
    return notes
