"""Fingerprints of data: what is trained on is the same, as far as it can be told, where they are."""

from __future__ import annotations

import os

import numpy as np
import torch

from pyro_mfcvae._utils.tensors import digest_of
from pyro_mfcvae.data.loading import Batches, Items
from pyro_mfcvae.data.memmap import Stored
from pyro_mfcvae.data.sources import InMemory, Source

PROBES = 256  # data that stand for all of those that are not in memory


def fingerprint(source: Source) -> str:
    """Digest data: all of those in memory; else their file's path, size and time of change, and some of them.

    Items of a ``Dataset`` are read twice; where they differ, as with random transforms of another library,
    and for a ``DataLoader``, only their type, shape and number count.

    Args:
        source: the data.
    """
    if isinstance(source, InMemory):
        return digest_of(source.x)
    if isinstance(source, Stored):
        return digest_of(_describe_file(source), source.rows.take(_places(len(source.rows))))
    if isinstance(source, Items):
        probes = [source.read(torch.from_numpy(_places(len(source))), seed=0) for _ in range(2)]
        same = torch.equal(probes[0].nan_to_num(), probes[1].nan_to_num())
        return digest_of(_describe(source.dataset, source), *probes[:same])
    dataset = source.loader.dataset if isinstance(source, Batches) else source
    return digest_of(_describe(dataset, source))


def _describe(dataset: object, source: Source) -> str:
    kind = type(dataset)
    return f"{kind.__module__}.{kind.__qualname__} {len(source)} {source.x_shape}"


def _places(size: int) -> np.ndarray:
    """Return numbers below ``size``, evenly spaced and ascending."""
    return np.unique(np.linspace(0, size - 1, PROBES).astype(np.int64))


def _describe_file(source: Stored) -> str:
    """Say which file, if the array is mapped, and where in it the rows are."""
    array = source.rows.array
    described = f"{array.dtype.str} {array.shape} {getattr(array, 'strides', None)}"
    name = source.rows.file or getattr(array, "filename", None)
    if name is None:
        return described
    file = os.stat(name)
    return f"{described} {os.path.realpath(name)} {file.st_size} {file.st_mtime_ns}"
