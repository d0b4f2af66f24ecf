"""Tensors on disk, with what describes them as JSON in the header: one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from pyro_mfcvae._utils.files import replacing


class ForeignFileError(ValueError):
    """A file of tensors that is not ours."""


def write_tensors(
    path: str | Path, kind: str, header: Mapping[str, object], tensors: Mapping[str, Tensor]
) -> None:
    """Write tensors, and what describes them, to a file that replaces another in a single step.

    Args:
        path: path of the file, whose folder must exist.
        kind: kind of the file, by which :func:`read_tensors` knows it.
        header: description of the tensors that JSON can write.
        tensors: tensors by name.

    Raises:
        FileNotFoundError: if the folder does not exist.
        IsADirectoryError: if the path is a folder.
    """
    on_cpu = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as file:
        file.write(save(on_cpu, metadata={kind: json.dumps(header)}))


def read_tensors(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what :func:`write_tensors` wrote: the header, and the tensors on the CPU.

    Raises:
        ForeignFileError: if it is a file of another kind.
        SafetensorError: if it is not a whole file of tensors.
        ValueError: if the header is not JSON.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        if not metadata or kind not in metadata:
            raise ForeignFileError(f"not a file of the kind {kind}")
        return json.loads(metadata[kind]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
