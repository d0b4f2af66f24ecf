"""Values of options, as functions of their text for ``argparse``."""

from __future__ import annotations

import math
import os
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from pyro_mfcvae.fitting.parallel import MAX_SEED

MAX_NUMBERS = 1_000  # of which each makes a facet, a stage or a run
MAX_NUMBER = 2**32 - 1  # that any option takes


def integers(text: str) -> tuple[int, ...]:
    """Read whole numbers with commas between."""
    parts = text.split(",")
    if len(parts) > MAX_NUMBERS:
        raise ArgumentTypeError(f"got {len(parts):,} numbers, expected at most {MAX_NUMBERS:,}")
    try:
        numbers = tuple(map(int, parts))
    except ValueError:
        message = f"got {_short(text)}, expected whole numbers with commas between, such as 20 or 25,10"
        raise ArgumentTypeError(message) from None
    if max(numbers) > MAX_NUMBER:
        raise ArgumentTypeError(f"got {_short(text)}, expected numbers of at most {MAX_NUMBER:,}")
    return numbers


def names(text: str) -> tuple[str, ...]:
    """Read names with commas between."""
    parts = tuple(text.split(","))
    if "" in parts or len(set(parts)) < len(parts):
        raise ArgumentTypeError(
            f"got {_short(text)}, expected different names with commas between, such as species,site"
        )
    return parts


def seeds(text: str) -> tuple[int, ...]:
    """Read different seeds with commas between."""
    numbers = integers(text)
    if not all(0 <= seed <= MAX_SEED for seed in numbers) or len(set(numbers)) < len(numbers):
        raise ArgumentTypeError(f"got {_short(text)}, expected different numbers from 0 to {MAX_SEED}")
    return numbers


def seed(text: str) -> int:
    """Read one seed."""
    numbers = seeds(text)
    if len(numbers) > 1:
        raise ArgumentTypeError(f"got {_short(text)}, expected one number")
    return numbers[0]


def whole(least: int, most: int, advice: str = "") -> Callable[[str], int]:
    """Make the type of a whole number within bounds."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            expected = f"a whole number from {least:,} to {most:,}"
            raise ArgumentTypeError(f"got {_short(text)}, expected {expected}{advice and f'; {advice}'}")
        return number

    return parse


def workers(text: str) -> int | str:
    """Read a number of processes, or ``"auto"``."""
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"got {_short(text)}, expected auto or a whole number") from None


def temperature(text: str) -> float:
    """Read a finite number from 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ArgumentTypeError(f"got {_short(text)}, expected a number of at least 0")
    return number


def file_name(*suffixes: str) -> Callable[[str], Path]:
    """Make the type of a file to write, whose name ends in one of these, or in anything if there are none."""

    def parse(text: str) -> Path:
        path = Path(text)
        if suffixes and path.suffix.lower() not in suffixes:
            expected = " or ".join(suffixes)
            raise ArgumentTypeError(f"got {text!r}, expected a name that ends in {expected}")
        if os.path.isdir(path):  # which is no error for a name that is too long
            raise ArgumentTypeError(f"got {text!r}, which is a folder, expected the name of a file")
        return path

    return parse


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
