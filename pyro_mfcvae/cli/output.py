"""What commands print and write."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pyro_mfcvae.files import replacing


def say(text: str) -> None:
    """Print at once, also where the output is not a terminal."""
    print(text, flush=True)


def silent(text: str) -> None:
    """Print nothing."""
    return


def folder(path: Path) -> Path:
    """The folder, made with its parents."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out: {path} cannot be made a folder ({error.strerror})") from error
    return path


@contextlib.contextmanager
def destination(path: Path) -> Iterator[None]:
    """Name the option where a file that is written within cannot be."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"--out: {path} cannot be written ({error.strerror or error})") from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A binary file that is at ``path`` once all of it is written, and not before."""
    with destination(path), replacing(path) as file:
        yield file


def write_text(path: Path, text: str) -> None:
    """Write a file of text."""
    with writing(path) as file:
        file.write(text.encode())
