"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def writable(path: str | Path) -> Path:
    """Return the path of a file that can be written, as far as its folder goes.

    Args:
        path: path of the file, which need not exist.

    Raises:
        FileNotFoundError: if its folder does not exist.
        IsADirectoryError: if it is a folder.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: the folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise IsADirectoryError(f"path: {path} is a folder, expected a file; name one in it")
    return path


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """Write a file that takes the place of what is at ``path`` in a single step, after its last byte.

    If that fails, what was there before is left, and nothing else.

    Args:
        path: path of the file, whose folder must exist.

    Yields:
        A binary file beside it, open for writing.

    Raises:
        FileNotFoundError: if the folder does not exist.
        IsADirectoryError: if the path is a folder.
        OSError: if the file cannot be written.

    Example:
        >>> path = Path(tempfile.mkdtemp()) / "three.txt"
        >>> with replacing(path) as file:
        ...     _ = file.write(b"3")
        >>> path.read_text()
        '3'
    """
    path = writable(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        # mkstemp makes files that only their owner can read; follow the umask as open() does.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
