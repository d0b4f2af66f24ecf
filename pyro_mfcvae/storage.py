"""Fitted models on disk: one safetensors file, with everything else as JSON in its header."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pyro_mfcvae.config import MFCVAEConfig
from pyro_mfcvae.model import MFCVAE
from pyro_mfcvae.training import EpochRecord

FORMAT = "pyro_mfcvae"
VERSION = 1


class _ForeignFileError(ValueError):
    """A file of tensors that is not ours, or not of this version."""


def write_model(path: str | Path, model: MFCVAE, history: Sequence[EpochRecord]) -> None:
    """Write a model to one file; a file that is there is replaced in a single step.

    Args:
        path: of the file; its folder must exist.
        model: the model.
        history: of its training.

    Raises:
        TypeError: if the configuration holds a recipe that JSON does not know.
        FileNotFoundError: if the folder does not exist.
        IsADirectoryError: if the path is a folder.
    """
    path = writable(path)
    header = {
        "version": VERSION,
        "config": json.loads(model.config.to_json()),
        "x_shape": model.x_shape,
        "history": [dataclasses.asdict(record) for record in history],
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(path, save(tensors, metadata={FORMAT: json.dumps(header)}))


def writable(path: str | Path) -> Path:
    """The path of a file that can be written, as far as its folder goes.

    Args:
        path: of the file; it need not exist.

    Raises:
        FileNotFoundError: if its folder does not exist.
        IsADirectoryError: if it is a folder.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: the folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise IsADirectoryError(f"path: {path} is a folder, expected a file; name one in it")
    return path


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file; one that is there is replaced in a single step, and nothing is left half written.

    Args:
        path: of the file.
        data: what it shall hold.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        # mkstemp makes files that only their owner can read; follow the umask as open() does.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_model(path: str | Path) -> tuple[MFCVAE, list[EpochRecord]]:
    """Read what :func:`write_model` wrote, onto the CPU.

    Args:
        path: of the file.

    Returns:
        The model and the history of its training.

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
    except _ForeignFileError:
        raise
    except (SafetensorError, KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"path: {path} is not a whole pyro_mfcvae model ({error}); load what FittedMFCVAE.save wrote"
        ) from error
    return model.eval(), history


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
