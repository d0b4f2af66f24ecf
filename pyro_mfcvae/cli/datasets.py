"""Data sets that commands know by name, and those in files."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from torch import Tensor

from pyro_mfcvae import likelihoods
from pyro_mfcvae.cli.arguments import DATA_VARIABLE
from pyro_mfcvae.config import presets
from pyro_mfcvae.config.mfcvae import MFCVAEConfig
from pyro_mfcvae.data import LabelledData, RenderedShapes, Shapes3D, as_tensor, mnist, svhn
from pyro_mfcvae.data.cells import open_h5ad
from pyro_mfcvae.data.choosing import as_source, is_large, schema_of
from pyro_mfcvae.data.files import is_npz, open_npy, read_npz
from pyro_mfcvae.data.memmap import StoredRows
from pyro_mfcvae.data.opening import RowWise, opened
from pyro_mfcvae.data.schema import Schema
from pyro_mfcvae.data.tables import TABLES, TableFile
from pyro_mfcvae.datasets.factors import FactorImages
from pyro_mfcvae.metrics.labels import Labels

if TYPE_CHECKING:  # imported where there is a file
    import pyarrow

    Data: TypeAlias = Tensor | np.ndarray | RowWise | TableFile | pyarrow.Table

Split = Literal["train", "test"]

DIGITS: dict[str, Callable[..., LabelledData]] = {"mnist": mnist, "svhn": svhn}
ROOMS = ("shapes", "shapes3d")
FILES = (".npy", ".npz", *TABLES, ".h5ad")
LARGE = (np.memmap, RowWise, TableFile)  # what stays in a file
TEST_FRACTION = 0.2  # of rooms


@dataclass(frozen=True)
class Part:
    """Data, and the labels to judge their clusters by.

    Attributes:
        x: data (N, *x_shape); a table with named columns, or a file of one.
        labels: F kinds of label, or None.
        kind: ``"training"`` or ``"test"``; empty if nobody knows.
    """

    x: Data
    labels: Labels | None = None
    kind: str = ""

    @property
    def where(self) -> str:
        """Number and kind of the data, in words."""
        return " ".join(filter(None, (f"{len(self.x):,}", self.kind, "data")))


@dataclass(frozen=True)
class Dataset:
    """Data of a run, to train on and to judge by.

    Attributes:
        title: description for the user.
        train: data to train on.
        judged: data to predict, score and draw; the same where nothing is held out.
        preset: preset that is made for the data; None leaves the choice to ``fit``.
        whole: data that ``judged`` is a sample of, where they are too large for memory.
        schema: columns of a table.
    """

    title: str
    train: Part
    judged: Part
    preset: Callable[..., MFCVAEConfig] | None = None
    whole: Part | None = None
    schema: Schema | None = None


def load(arguments: argparse.Namespace) -> Dataset:
    """Read all of a data set, to train and to judge a model.

    Raises:
        ValueError: if there is no such data set, its files are damaged, or options do not suit it.
        FileNotFoundError: if its files are not there.
    """
    name = _known(arguments)
    if name in DIGITS:
        train, test = _digits(arguments, "train"), _digits(arguments, "test")
        side = " x ".join(map(str, train.x.shape[2:]))
        title = f"{name.upper()}, {len(train.x):,} images of {side} to train on and {len(test.x):,} to test"
        return Dataset(title, train, test, presets.svhn if name == "svhn" else None)
    if name in ROOMS:
        return rooms(_pictures(arguments))
    allow_missing = bool(arguments.likelihood) and likelihoods.FACTORIES[arguments.likelihood]().missing
    part = _file(arguments, allow_missing, "training")
    schema = schema_of(part.x)
    shape = " x ".join(map(str, part.x.shape[1:]))
    labels = "without" if part.labels is None else "with"
    title = f"{Path(name).name}, {len(part.x):,} data of {shape}, {labels} labels"
    if not isinstance(part.x, LARGE):
        return Dataset(title, part, part, schema=schema)
    if arguments.labels:
        raise ValueError(
            f"--labels: got {','.join(arguments.labels)} with {name}, which is too large for memory, "
            "expected none; give --drop instead, and judge a part of it with the command evaluate"
        )
    sample = Part(as_source(part.x, in_memory=False, schema=schema).calibration_sample(), kind=part.kind)
    return Dataset(title, part, sample, whole=part, schema=schema)


def load_part(arguments: argparse.Namespace, allow_missing: bool, schema: Schema | None = None) -> Part:
    """Read the part of a data set that ``--split`` says, to look at with a model that is there.

    Args:
        arguments: arguments of the command line.
        allow_missing: whether entries of a file may be NaN.
        schema: columns that a table is expected to have.

    Raises:
        ValueError: as :func:`load`.
        FileNotFoundError: as :func:`load`.
    """
    name, split = _known(arguments), arguments.split
    if name in DIGITS:
        return _digits(arguments, split or "test")
    if name in ROOMS:
        dataset = rooms(_pictures(arguments))
        return dataset.train if split == "train" else dataset.judged
    return _file(arguments, allow_missing, "", schema)


def rooms(pictures: FactorImages) -> Dataset:
    """Split pictures of rooms, a fifth of them held out, with the factors that vary as labels."""
    train, test = pictures.split(TEST_FRACTION)
    varying = [f for f, name in enumerate(pictures.factor_names) if len(pictures.factors[name]) > 1]
    named = {name: pictures.names[name] for name in (pictures.factor_names[f] for f in varying)}
    factors_text = ", ".join(f"{len(pictures.factors[name])} of {name}" for name in named)
    title = (
        f"{len(pictures):,} images of a room with an object ({factors_text}), "
        f"{len(train):,} to train on and {len(test):,} to test"
    )
    sides = [Labels.of(side.labels[:, varying], named) for side in (train, test)]
    return Dataset(title, Part(train.images, sides[0], "training"), Part(test.images, sides[1], "test"))


def _known(arguments: argparse.Namespace) -> str:
    """Return the name of the data set, if there is one and the options are for it."""
    name: str = arguments.dataset
    if arguments.root is not None and name not in ("mnist", "svhn", "shapes3d"):
        raise ValueError(
            f"--root: got {arguments.root} with {name}, expected mnist, svhn or shapes3d; give files by "
            "their path"
        )
    if arguments.subset is not None and name not in ROOMS:
        raise ValueError(
            f"--subset: got {arguments.subset} with {name}, expected shapes or shapes3d; leave it out"
        )
    if name not in (*DIGITS, *ROOMS) and Path(name).suffix.lower() not in FILES:
        known = f"mnist, svhn, shapes, shapes3d, or a file {', '.join(FILES[:-1])} or {FILES[-1]}"
        raise ValueError(f"dataset: got {name!r}, expected {known}; give one of these")
    split = getattr(arguments, "split", None)  # which fit has not
    if split is not None and name not in (*DIGITS, *ROOMS):
        known = ", ".join((*DIGITS, *ROOMS))
        raise ValueError(
            f"--split: got {split} with {name}, expected one of {known}; leave it out for a file"
        )
    for option, given, kinds in (
        ("--labels", arguments.labels, (*TABLES, ".h5ad")),
        ("--drop", arguments.drop, TABLES),
    ):
        if given and Path(name).suffix.lower() not in kinds:
            raise ValueError(
                f"{option}: got {','.join(given)} with {name}, expected a file {', '.join(kinds)}; leave "
                "it out"
            )
    return name


def _root(arguments: argparse.Namespace) -> Path:
    return arguments.root or Path(os.environ.get(DATA_VARIABLE) or "data")


def _digits(arguments: argparse.Namespace, split: Split) -> Part:
    is_train = split == "train"
    data = DIGITS[arguments.dataset](_root(arguments), train=is_train)
    return Part(data.x, Labels.of(data.labels, data.names), "training" if is_train else "test")


def _pictures(arguments: argparse.Namespace) -> FactorImages:
    wall = arguments.subset == "wall"
    if arguments.dataset == "shapes":
        return RenderedShapes.wall() if wall else RenderedShapes.floor()
    root = _root(arguments)
    return Shapes3D.wall(root) if wall else Shapes3D.floor(root)


def _file(
    arguments: argparse.Namespace, allow_missing: bool, kind: str, schema: Schema | None = None
) -> Part:
    """Read data, and labels if any, from a file; what is too large for memory stays there."""
    path = Path(arguments.dataset)
    if path.suffix.lower() in TABLES:
        return _table(arguments, kind, schema)
    if path.suffix.lower() == ".h5ad":
        cells = open_h5ad(path, "dataset")
        given = list(arguments.labels or ())
        _check_known("--labels", given, list(cells.obs.columns))
        labels = _labels(cells.obs[given] if given else None)
        x = opened(cells, "dataset")
        if not is_large(x, "dataset"):
            x = as_tensor(x, name="dataset", allow_missing=allow_missing)
        return Part(x, labels, kind)
    if not path.is_file():
        raise FileNotFoundError(f"dataset: got {path}, expected a file that is there; check its path")
    if is_npz(path):
        held, arrays = read_npz(path, ("x", "y"), "dataset")
    else:
        held, arrays = ["x"], {"x": open_npy(path, "dataset")}
    if is_large(arrays.get("x"), str(path)):
        StoredRows(arrays["x"], str(path))  # checks it
        return Part(arrays["x"], kind=kind)
    if "x" not in arrays:
        names = shorten(", ".join(held), 200) or "none"
        raise ValueError(
            f"dataset: got {path} with the arrays {names}, expected one of the name x; write it with "
            "np.savez(file, x=data)"
        )
    y = arrays.get("y")
    x = as_tensor((arrays["x"], y), name=str(path), allow_missing=allow_missing)
    return Part(x, None if y is None else Labels.of(y, argument=f"y of {path}"), kind=kind)


def _table(arguments: argparse.Namespace, kind: str, schema: Schema | None) -> Part:
    """Read a table, and columns of labels; what is too large for memory stays in its file."""
    labels = arguments.labels or ()
    file = open_table(arguments, schema)
    if file.is_large:
        return Part(file, _labels(file.read_whole(labels) if labels else None), kind)
    table = file.read_whole()
    return Part(table.drop_columns(file.leaves_out), _labels(table.select(labels) if labels else None), kind)


def open_table(arguments: argparse.Namespace, schema: Schema | None) -> TableFile:
    """Open a table in a file, without the columns that ``--labels`` and ``--drop`` name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has no such columns, or options do not suit it.
    """
    path = _known(arguments)
    labels, drop = arguments.labels or (), arguments.drop or ()
    names = TableFile(path, "dataset").column_names
    for option, given in (("--labels", labels), ("--drop", drop)):
        _check_known(option, given, names)
    return TableFile(path, "dataset", schema, [*labels, *(name for name in drop if name not in labels)])


def _labels(table: object) -> Labels | None:
    return None if table is None else Labels.of(table, argument="--labels")


def _check_known(option: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            expected = shorten(", ".join(known), 200) or "none"
            raise ValueError(f"{option}: got {name!r}, expected columns of the data, {expected}")
