"""Tensors on disk, with what describes them as JSON in the header: one safetensors file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from pyro_mfcvae._utils.files import replacing


class ForeignFileError(ValueError):
    """A file of tensors that is not ours."""


class DamagedFileError(ValueError):
    """A file whose content is not what was written."""


def write_tensors(
    path: str | Path, kind: str, header: Mapping[str, object], tensors: Mapping[str, Tensor]
) -> None:
    """Write tensors, and what describes them, to a file that replaces another in a single step.

    Args:
        path: path of the file, whose folder must exist.
        kind: kind of the file, by which :func:`read_tensors` knows it.
        header: description of the tensors that JSON can write, with a ``version``.
        tensors: tensors by name.

    Raises:
        FileNotFoundError: if the folder does not exist.
        IsADirectoryError: if the path is a folder.
    """
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(header)
    # One entry of metadata, since safetensors has several in any order.
    digested = f"{text[:-1]}{_ending(_digest(kind, text, on_cpu))}"
    with replacing(path) as file:
        file.write(save(on_cpu, metadata={kind: digested}))


def read_tensors(
    path: str | Path, kind: str, undigested: Sequence[int] = ()
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what :func:`write_tensors` wrote: the header, and the tensors on the CPU.

    Args:
        path: path of the file.
        kind: kind of the file.
        undigested: versions of headers that have no digest.

    Raises:
        ForeignFileError: if it is a file of another kind.
        DamagedFileError: if header or tensors are not those that were written.
        SafetensorError: if it is not a whole file of tensors.
        ValueError: if the header is not a JSON object.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        if not metadata or kind not in metadata:
            raise ForeignFileError(f"not a file of the kind {kind}")
        header = json.loads(metadata[kind])
        if not isinstance(header, dict):
            raise ValueError(f"its header is a {type(header).__name__}, expected an object")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    digest = header.pop("digest", None)
    if digest is not None or header.get("version") not in undigested:
        text = metadata[kind].removesuffix(_ending(digest)) + "}"
        if digest != _digest(kind, text, tensors):
            raise DamagedFileError("its digest is not that of its content")
    return header, tensors


def _ending(digest: object) -> str:
    return f', "digest": "{digest}"}}'


def digest_of(*parts: str | Tensor) -> str:
    """Digest texts, and tensors with their types and shapes: what differs has another digest.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, str):
            data: Any = part.encode()
            what = f"text {len(data)} "
        else:
            data = part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            what = f"{part.dtype} {tuple(part.shape)} "
        digest.update(what.encode())
        digest.update(data)
    return digest.hexdigest()


def _digest(kind: str, header: str, tensors: Mapping[str, Tensor]) -> str:
    named: list[str | Tensor] = []
    for name in sorted(tensors):
        named += (name, tensors[name])
    return digest_of(kind, header, *named)


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


def copied(tree: object) -> Any:
    """Copy nested dicts and lists with copies of their tensors; other leaves are shared."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, Mapping):
        return {key: copied(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [copied(value) for value in tree]
    return tree


def unpack(tree: object, tensors: Mapping[str, Tensor]) -> Any:
    """Join what :func:`pack` parted."""
    if not isinstance(tree, Mapping):
        return tree
    if set(tree) == {"tensor"}:
        return tensors[tree["tensor"]]
    return {key: unpack(value, tensors) for key, value in tree.items()}
