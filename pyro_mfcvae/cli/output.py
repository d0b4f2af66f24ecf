"""Output of commands: text, files and progress."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from pyro_mfcvae._utils.files import probe, replacing
from pyro_mfcvae._utils.progress import progress_lines
from pyro_mfcvae.cli.arguments import PROGRAM, printable


def say(text: str) -> None:
    """Print at once, also where the output is not a terminal."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    with _perhaps_unread():
        print(printable(text).encode(encoding, "backslashreplace").decode(encoding), flush=True)


def flush() -> None:
    """Send what was printed."""
    if sys.stdout is not None:
        with _perhaps_unread():
            sys.stdout.flush()


@contextlib.contextmanager
def _perhaps_unread() -> Iterator[None]:
    """Go on without output where its reader has left, as ``head`` does: the results are in files."""
    try:
        yield
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


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


def folder(path: Path, name: str = "") -> Path:
    """Make a folder with its parents, see that a file of this name can be written to it, and return it."""
    what, place = "folder that can be made", path
    try:
        path.mkdir(parents=True, exist_ok=True)
        what, place = "place that can be written to", path / name
        probe(path, name)
    except OSError as error:
        raise ValueError(
            f"--out: got {place}, expected a {what} ({error.strerror}); choose another"
        ) from error
    return path


def vacant(*paths: Path, overwrite: bool) -> None:
    """Refuse to replace what is at these paths, unless they are files and that is what the user wants."""
    for path in filter(os.path.lexists, paths):
        if not overwrite:
            raise ValueError(f"--out: {path} exists; choose another name or add --overwrite")
        if not path.is_file():
            raise ValueError(f"--out: got {path}, which is there and is no file; choose another name")


def unused(path: Path) -> Path:
    """Return a path, with a number after it if something is there."""
    others = (path.with_name(f"{path.name}_{i}") for i in itertools.count(2))
    return next(each for each in itertools.chain([path], others) if not os.path.lexists(each))


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
        file.write(text.encode(errors="backslashreplace"))


def next_commands(out: Path) -> list[str]:
    """List what to type after the demo."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    program = f"{python} -m {PROGRAM}"
    return [
        "What to do next:",
        f"  open {out / 'report.html'} in a browser: the clusters, and an explorer of their combinations",
        f"  {program} sample {out} --facet 1 --cluster 3 -n 16 --out grid.png",
        f"  {program} fit FILE.npy --out result --clusters 10,5    your own data, an array (N, D)",
        f"  {program} fit --help",
    ]


def clusters_csv(clusters: npt.NDArray[np.int64]) -> str:
    """Write the cluster of every row, (N, J), as a table: the row's number, from 0, and each facet."""
    J = clusters.shape[1]
    lines = [",".join(["row", *(f"facet_{j}" for j in range(J))])]
    lines += [",".join(map(str, [n, *row])) for n, row in enumerate(clusters.tolist())]
    return "\n".join(lines) + "\n"
