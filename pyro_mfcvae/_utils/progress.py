"""Progress of training: a bar, or lines of text where there is no terminal for one."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm

INTERVAL = 5.0  # seconds from one line to the next, at least

LOGGER = logging.getLogger("pyro_mfcvae.progress")  # has a message for every epoch


class Bar(tqdm):  # type: ignore[misc]
    """A progress bar with a lock of this process; tqdm's would settle how the user's processes start."""

    _lock = threading.RLock()

    def __init__(self, *, shows: bool, **options: Any) -> None:
        # Without a terminal a bar would fill a log with lines; a notebook draws it by itself.
        is_notebook = any(kind.__module__ == "tqdm.notebook" for kind in type(self).__mro__)
        super().__init__(disable=not shows or (None if not is_notebook else False), **options)


class _Lines(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes messages to the standard error, a few seconds apart."""

    def __init__(self, prefix: str) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(logging.Formatter(f"{prefix}%(message)s"))
        self._last = -INTERVAL

    def emit(self, record: logging.LogRecord) -> None:
        """Write the message if the last one was long enough ago."""
        now = time.monotonic()
        if now - self._last >= INTERVAL:
            self._last = now
            super().emit(record)


@contextmanager
def progress_lines(prefix: str = "") -> Iterator[None]:
    """Write a line of progress every few seconds within.

    Args:
        prefix: what every line begins with.
    """
    handler, level = _Lines(prefix), LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOGGER.setLevel(level)
        LOGGER.removeHandler(handler)


def shows_lines() -> bool:
    """Tell whether this is within :func:`progress_lines`, so that other processes can do the same."""
    return any(isinstance(handler, _Lines) for handler in LOGGER.handlers)
