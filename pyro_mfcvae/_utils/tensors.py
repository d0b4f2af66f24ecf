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


def pack(tree: object) -> tuple[object, dict[str, Tensor]]:
    """Part nested dicts into what JSON can write and tensors.

    Args:
        tree: nested dicts with keys of text, whose leaves are tensors or what JSON can write.

    Returns:
        The same dicts with names in the place of tensors, and the tensors by these names.
    """
    tensors: dict[str, Tensor] = {}

    def part(node: object, path: tuple[str, ...]) -> object:
        if isinstance(node, Tensor):
            name = ".".join(path)
            tensors[name] = node
            return {"tensor": name}
        if isinstance(node, Mapping):
            return {key: part(value, (*path, key)) for key, value in node.items()}
        return node

    return part(tree, ()), tensors


def unpack(tree: object, tensors: Mapping[str, Tensor]) -> Any:
    """Join what :func:`pack` parted."""
    if not isinstance(tree, Mapping):
        return tree
    if set(tree) == {"tensor"}:
        return tensors[tree["tensor"]]
    return {key: unpack(value, tensors) for key, value in tree.items()}
