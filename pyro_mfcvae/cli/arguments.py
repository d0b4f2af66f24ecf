"""The parser, and arguments that several commands take."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, Protocol

from pyro_mfcvae._utils.devices import threads
from pyro_mfcvae.cli.values import file_name

PROGRAM = "pyro_mfcvae"
DATA_VARIABLE = "PYRO_MFCVAE_DATA"
DATASET = "{mnist,svhn,shapes,shapes3d,FILE.npy,FILE.npz}"

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
    print(f"{PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
    return code


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


def add_out(command: argparse.ArgumentParser, *suffixes: str) -> None:
    """Add an argument for a file to write, of one of these kinds."""
    command.add_argument(
        "--out",
        type=file_name(*suffixes),
        required=True,
        metavar="FILE",
        help=f"file for the result ({', '.join(suffixes)}); its folder is made if need be",
    )


def add_device(command: argparse.ArgumentParser) -> None:
    """Add an argument for the device."""
    command.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")


def add_threads(command: argparse.ArgumentParser) -> None:
    """Add an argument for the number of processor threads."""
    command.add_argument(
        "--threads", type=int, metavar="N", help="processor threads to use (default: PyTorch's choice)"
    )


def add_computing(command: argparse.ArgumentParser) -> None:
    """Add arguments for the device and for the number of processor threads."""
    add_device(command)
    add_threads(command)


@contextlib.contextmanager
def using_threads(number: int | None) -> Iterator[None]:
    """Let PyTorch use this many threads within."""
    if number is not None and number < 1:
        raise ValueError(f"--threads: got {number}, expected at least 1; leave it out for PyTorch's choice")
    with threads(number):
        yield
