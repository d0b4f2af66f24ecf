"""Values of options, as functions of their text for ``argparse``."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from pyro_mfcvae.fitting.parallel import MAX_SEED


def integers(text: str) -> tuple[int, ...]:
    """Read whole numbers with commas between."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        message = f"got {text!r}, expected whole numbers with commas between, such as 20 or 25,10"
        raise ArgumentTypeError(message) from None


def seeds(text: str) -> tuple[int, ...]:
    """Read different seeds with commas between."""
    numbers = integers(text)
    if not all(0 <= seed <= MAX_SEED for seed in numbers) or len(set(numbers)) < len(numbers):
        raise ArgumentTypeError(f"got {text!r}, expected different numbers from 0 to {MAX_SEED}")
    return numbers


def seed(text: str) -> int:
    """Read one seed."""
    numbers = seeds(text)
    if len(numbers) > 1:
        raise ArgumentTypeError(f"got {text!r}, expected one number")
    return numbers[0]


def workers(text: str) -> int | str:
    """Read a number of processes, or ``"auto"``."""
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"got {text!r}, expected auto or a whole number") from None


def positive(text: str) -> int:
    """Read a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"got {text!r}, expected a whole number of at least 1")
    return int(text)


def temperature(text: str) -> float:
    """Read a finite number from 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ArgumentTypeError(f"got {text!r}, expected a number of at least 0")
    return number


def file_name(*suffixes: str) -> Callable[[str], Path]:
    """Make the type of a file to write, whose name ends in one of these, or in anything if there are none."""

    def parse(text: str) -> Path:
        path = Path(text)
        if suffixes and path.suffix.lower() not in suffixes:
            expected = " or ".join(suffixes)
            raise ArgumentTypeError(f"got {text!r}, expected a name that ends in {expected}")
        if path.is_dir():
            raise ArgumentTypeError(f"got {text!r}, which is a folder, expected the name of a file")
        return path

    return parse
