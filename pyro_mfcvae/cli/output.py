"""Output of commands: text, files and progress."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pyro_mfcvae._utils.files import replacing

INTERVAL = 5.0  # seconds from one line of progress to the next, at least


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
    logger, handler = logging.getLogger("pyro_mfcvae.progress"), logging.StreamHandler(sys.stderr)
    handler.addFilter(_Sparsely())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield False
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


class _Sparsely(logging.Filter):
    """A filter that lets a line pass, and then none for a few seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._last = -INTERVAL

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now - self._last < INTERVAL:
            return False
        self._last = now
        return True


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
