"""The parser, and arguments that several commands take."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Protocol

from pyro_mfcvae.cli.values import file_name, names, whole

PROGRAM = "pyro_mfcvae"
DATA_VARIABLE = "PYRO_MFCVAE_DATA"
MAX_THREADS = max(64, 4 * (os.cpu_count() or 1))  # beyond which a system may not start them
MAX_LINE = 2_000
DATASET = "{mnist,svhn,shapes,shapes3d,FILE.npy,FILE.npz,FILE.csv,FILE.tsv,FILE.parquet,FILE.h5ad}"

Run = Callable[[argparse.Namespace], None]


class Commands(Protocol):
    """The list of commands of a parser."""

    def add_parser(
        self,
        name: str,
        *,
        help: str,
        description: str,
        epilog: str,
        formatter_class: type[argparse.HelpFormatter],
    ) -> argparse.ArgumentParser:
        """Add a command."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """End the program with code 2."""
        command = self.prog.removeprefix(f"python -m {PROGRAM}").strip()
        hint = f"python -m {PROGRAM} {command} --help".replace("  ", " ")
        raise SystemExit(complain(f"{message} (see {hint})", 2))


def complain(error: Exception | str, code: int) -> int:
    """Say on the standard error what is wrong, in one line, and return the exit code."""
    tell(f"error: {_in_words(error)}")
    return code


def tell(text: str) -> None:
    """Write one line on the standard error, if anybody reads it."""
    line = printable(" ".join(text.split()))
    if len(line) > MAX_LINE:
        line = f"{line[: MAX_LINE // 2]} ... {line[-MAX_LINE // 2 :]}"
    with contextlib.suppress(OSError):
        print(f"{PROGRAM}: {line}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Escape what a terminal would obey, and what cannot be encoded; lines stay."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _in_words(error: Exception | str) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return (
            f"file: got {str(error.filename)!r}, expected one that can be used ({error.strerror}); check it"
        )
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def add_command(
    commands: Commands,
    name: str,
    run: Run,
    line: str,
    description: str,
    examples: str,
) -> argparse.ArgumentParser:
    """Add a command that ``run`` carries out, with its line in the list of commands and its own help."""
    command = commands.add_parser(
        name,
        help=line,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    return command


def add_source(command: argparse.ArgumentParser) -> None:
    """Add arguments for the place of data sets, and for their part."""
    command.add_argument(
        "--root", type=Path, help=f"folder of mnist, svhn, shapes3d (default: ${DATA_VARIABLE}, else data)"
    )
    command.add_argument(
        "--subset",
        choices=("floor", "wall"),
        help="of shapes and shapes3d: which hue varies with scale, shape and orientation (default: floor)",
    )
    command.add_argument(
        "--labels",
        type=names,
        metavar="A,B,..",
        help="columns of a table, or of an AnnData's obs, to judge clusters by, and left out of the data",
    )
    command.add_argument(
        "--drop", type=names, metavar="A,B,..", help="columns of a table that are left out of the data"
    )


def add_out(command: argparse.ArgumentParser, *suffixes: str) -> None:
    """Add an argument for a file to write, of one of these kinds."""
    command.add_argument(
        "--out",
        type=file_name(*suffixes),
        required=True,
        metavar="FILE",
        help=f"file for the result ({', '.join(suffixes)}); its folder is made if need be",
    )
    add_overwrite(command)


def add_overwrite(command: argparse.ArgumentParser) -> None:
    """Add an argument to replace results that are there."""
    command.add_argument("--overwrite", action="store_true", help="replace what --out would write over")


def add_device(command: argparse.ArgumentParser) -> None:
    """Add an argument for the device."""
    command.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")


def add_threads(command: argparse.ArgumentParser) -> None:
    """Add an argument for the number of processor threads."""
    command.add_argument(
        "--threads",
        type=whole(1, MAX_THREADS, "leave it out for PyTorch's choice"),
        metavar="N",
        help="processor threads to use (default: PyTorch's choice)",
    )


def add_computing(command: argparse.ArgumentParser) -> None:
    """Add arguments for the device and for the number of processor threads."""
    add_device(command)
    add_threads(command)
