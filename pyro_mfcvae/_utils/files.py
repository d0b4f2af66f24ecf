"""Files that are written whole or not at all, and folders that one process has for itself."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

fcntl: Any  # None on Windows: no locks, and what a killed process left stays
try:
    import fcntl
except ImportError:
    fcntl = None

PARTIAL = ".partial"  # end of the name of a file that is being written
PATIENCE = 10.0  # seconds to wait for a folder: children of a killed process may outlive it for some
PROBE = 2**16  # bytes that a folder must have room for

_held: set[int] = set()  # file descriptors of folders


def writable(path: str | Path) -> Path:
    """Return the path of a file that can be written, as far as its folder goes.

    Args:
        path: path of the file, which need not exist.

    Raises:
        FileNotFoundError: if its folder does not exist.
        IsADirectoryError: if it is a folder.
        FileExistsError: if something else is there, such as a device.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: the folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise IsADirectoryError(f"path: {path} is a folder, expected a file; name one in it")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"path: {path} is no regular file; give another name")
    return path


def probe(folder: str | Path, name: str = "") -> None:
    """Raise an OSError unless a file can be written to a folder, which is there.

    Args:
        folder: path of the folder.
        name: name that the file shall have in the end, which may be too long.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix=_start_of(Path(name)), suffix=PARTIAL) as file:
        file.write(bytes(PROBE))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """Write a file that takes the place of what is at ``path`` in a single step, after its last byte.

    If that fails, what was there before is left, and nothing else. If the process is killed, what it leaves
    is removed when the same path is written again.

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
    remove_leftovers(path)
    file = _partial(path)
    try:
        with file:
            yield cast(BinaryIO, file)
            file.flush()
            os.fsync(file.fileno())  # else the name may be on the disk before the bytes are
            # Temporary files can be read by their owner only; follow the umask as open() does.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(file.name, 0o666 & ~umask)
            if fcntl is not None:
                os.replace(file.name, path)  # while it is locked
        if fcntl is None:
            os.replace(file.name, path)
    except BaseException:
        Path(file.name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def remove_leftovers(path: str | Path) -> None:
    """Remove what processes left that were killed while they wrote this file.

    Args:
        path: path of the file.
    """
    path = Path(path)
    if fcntl is None:
        return
    start = _start_of(path)
    for name in os.listdir(path.parent):
        if name.startswith(start) and name.endswith(PARTIAL):
            with suppress(OSError), (path.parent / name).open("rb") as file:  # it may be gone by now
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while somebody writes it
                (path.parent / name).unlink()


@contextmanager
def alone_in(folder: str | Path) -> Iterator[None]:
    """Have a folder for oneself within, among all that use this function, where the system has such locks.

    Args:
        folder: path of the folder, which is there.

    Raises:
        BlockingIOError: if somebody else has it for some seconds.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    _held.add(descriptor)
    try:
        _lock(descriptor)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        except OSError:  # a file system without locks
            return


def _start_of(path: Path) -> str:
    return f".{path.name}."


def _partial(path: Path) -> IO[bytes]:
    """Open a new file beside a path, which :func:`remove_leftovers` leaves alone as long as it is open."""
    while True:
        file = tempfile.NamedTemporaryFile(  # noqa: SIM115
            dir=path.parent, prefix=_start_of(path), suffix=PARTIAL, delete=False
        )
        if fcntl is not None:
            with suppress(OSError):  # of a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.exists(file.name):  # else it was taken for a leftover before it was locked
            return file
        file.close()


def _sync_folder(folder: Path) -> None:
    """Make sure that a new name in a folder is on the disk, where the system knows how."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _let_go() -> None:
    """Leave the folders of the process that was forked to it: else they would outlive it."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
