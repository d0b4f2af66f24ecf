"""Fitted models on disk: one safetensors file, with everything else as JSON in its header."""

from __future__ import annotations

import dataclasses
import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pyro_mfcvae.config import MFCVAEConfig
from pyro_mfcvae.files import replacing
from pyro_mfcvae.history import EpochRecord
from pyro_mfcvae.model import MFCVAE

FORMAT = "pyro_mfcvae"
VERSION = 1


@dataclass(frozen=True)
class StoredModel:
    """What a file holds.

    Attributes:
        model: the model.
        history: of its training.
        seed: what it was trained with; None if that is not known.
        restarts: ELBO of every run, by seed, of which the model is the best; empty if it is the only one.
    """

    model: MFCVAE
    history: Sequence[EpochRecord]
    seed: int | None = None
    restarts: Mapping[int, float] = field(default_factory=dict)


class _ForeignFileError(ValueError):
    """A file of tensors that is not ours, or not of this version."""


def write_model(path: str | Path, stored: StoredModel) -> None:
    """Write a model to one file; a file that is there is replaced in a single step.

    Args:
        path: of the file; its folder must exist.
        stored: the model, and how it came about.

    Raises:
        TypeError: if the configuration holds a recipe that JSON does not know.
        FileNotFoundError: if the folder does not exist.
        IsADirectoryError: if the path is a folder.
    """
    model = stored.model
    header = {
        "version": VERSION,
        "config": json.loads(model.config.to_json()),
        "x_shape": model.x_shape,
        "history": [dataclasses.asdict(record) for record in stored.history],
        "seed": stored.seed,
        "restarts": dict(stored.restarts),  # JSON makes text of the seeds
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    with replacing(path) as file:
        file.write(save(tensors, metadata={FORMAT: json.dumps(header)}))


def read_model(path: str | Path) -> StoredModel:
    """Read what :func:`write_model` wrote, onto the CPU.

    Args:
        path: of the file.

    Returns:
        The model, and how it came about: of files of earlier versions without seed and restarts.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a whole file of this format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = _header(path, file.metadata())
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        model = MFCVAE(MFCVAEConfig.from_json(json.dumps(header["config"])), header["x_shape"])
        model.load_state_dict(state)
        history = [_record(fields) for fields in header["history"]]
        seed = header.get("seed")
        seed = seed if seed is None else operator.index(seed)
        restarts = {int(s): float(elbo) for s, elbo in header.get("restarts", {}).items()}
    except _ForeignFileError:
        raise
    except (SafetensorError, KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"path: {path} is not a whole pyro_mfcvae model ({error}); load what FittedMFCVAE.save wrote"
        ) from error
    return StoredModel(model.eval(), history, seed, restarts)


def _header(path: Path, metadata: dict[str, str] | None) -> dict[str, Any]:
    if not metadata or FORMAT not in metadata:
        raise _ForeignFileError(
            f"path: {path} holds tensors, but not a pyro_mfcvae model; load what FittedMFCVAE.save wrote"
        )
    header: dict[str, Any] = json.loads(metadata[FORMAT])
    if header["version"] != VERSION:
        raise _ForeignFileError(
            f"path: {path} has format version {header['version']}, expected {VERSION}; "
            "load it with the version of pyro_mfcvae that saved it"
        )
    return header


def _record(fields: dict[str, Any]) -> EpochRecord:
    values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in fields.items()}
    return EpochRecord(**values)
