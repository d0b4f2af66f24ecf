"""Output of commands: text, files and progress."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pyro_mfcvae._utils.files import replacing
from pyro_mfcvae._utils.progress import progress_lines


def say(text: str) -> None:
    """Print at once, also where the output is not a terminal."""
    print(text, flush=True)


def silent(text: str) -> None:
    """Print nothing."""
    return


@contextlib.contextmanager
def progress(*, quiet: bool = False) -> Iterator[bool]:
    """Show how far training is: lines on the standard error where that is no terminal.

    Yields:
        Whether it is one, and training shall show a bar.
    """
    if quiet or sys.stderr.isatty():
        yield not quiet
        return
    with progress_lines():
        yield False


def folder(path: Path) -> Path:
    """Make a folder with its parents, and return it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"--out: got {path}, expected a folder that can be made ({error.strerror}); choose another"
        ) from error
    return path


@contextlib.contextmanager
def destination(path: Path) -> Iterator[None]:
    """Name the option where a file that is written within cannot be."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"--out: got {path}, expected a file that can be written ({error.strerror or error}); "
            "choose another place"
        ) from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Write a binary file that is at ``path`` once all of it is written, and not before."""
    with destination(path), replacing(path) as file:
        yield file


def write_text(path: Path, text: str) -> None:
    """Write a file of text."""
    with writing(path) as file:
        file.write(text.encode())
