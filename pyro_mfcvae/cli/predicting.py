"""The command ``predict``: clusters of data in a file, and those of Parquet part by part."""

from __future__ import annotations

import argparse
import csv
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from pyro_mfcvae._utils.devices import threads
from pyro_mfcvae._utils.files import alone_in, replacing
from pyro_mfcvae._utils.progress import LOGGER, Bar
from pyro_mfcvae._utils.tensors import digest_of
from pyro_mfcvae.cli import values
from pyro_mfcvae.cli.arguments import Commands, add_out
from pyro_mfcvae.cli.datasets import Part, open_table
from pyro_mfcvae.cli.looking import SOURCES, add_looking, headlines, open_both
from pyro_mfcvae.cli.models import model_file, open_model
from pyro_mfcvae.cli.output import folder, progress, say, vacant, write_text, writing
from pyro_mfcvae.data.tables import TableFile
from pyro_mfcvae.fitting.parallel import as_workers
from pyro_mfcvae.results.fitted import FittedMFCVAE

if TYPE_CHECKING:  # imported where there is a file
    import pyarrow

    Table: TypeAlias = pyarrow.Table

PART = 2**18  # rows that are kept together, at least: of as few groups of Parquet as have so many
NOTE = "made_from"  # name of the file that says what parts are of
EXAMPLES = f"""\
examples:
  python -m pyro_mfcvae predict result data.npy --out clusters.csv
  python -m pyro_mfcvae predict result mnist --root DIR --split train --out clusters.npz
  python -m pyro_mfcvae predict result rows.parquet --out clusters.parquet --workers 8

A file .csv or .parquet has a row for each datum: its index and, for each facet, the most probable cluster and
its probability. A file .npy holds the clusters, integers (N, J); a file .npz "clusters" and their
"probabilities", both (N, J), and of all clusters of facet 0 "responsibilities_0", (N, K_0), and so on.

From Parquet to Parquet, rows are read and written in parts, whatever their number. What is done is kept in
the folder clusters.parquet.parts until all is: after an interruption, the same command goes on.
{SOURCES}"""

Array = npt.NDArray[Any]


def add_predict(commands: Commands) -> None:
    """Add the command ``predict``."""
    line = "write the clusters of data, with their probabilities"
    text = "Write the cluster of every datum in every facet, with its probability."
    command = add_looking(commands, "predict", _predict, line, text, EXAMPLES)
    add_out(command, ".csv", ".npy", ".npz", ".parquet")
    command.add_argument(
        "--workers",
        type=values.workers,
        default=1,
        metavar="N",
        help="processes, from Parquet to Parquet: auto is one for each core (default: 1)",
    )


def _predict(arguments: argparse.Namespace) -> None:
    suffix, dataset = arguments.out.suffix.lower(), Path(arguments.dataset)
    if arguments.out.exists() and dataset.exists() and arguments.out.samefile(dataset):
        raise ValueError(f"--out: got {arguments.out}, which has the data, expected another file; name one")
    if suffix == ".parquet" and find_spec("pyarrow") is None:
        raise ImportError(
            f"--out: got {arguments.out}, but pyarrow is not installed, which writes it; run pip install "
            "pyarrow"
        )
    if suffix == ".parquet" and dataset.suffix.lower() == ".parquet":
        _predict_in_parts(arguments)
        return
    if arguments.workers != 1:
        raise ValueError(
            f"--workers: got {arguments.workers} with {arguments.dataset} and {arguments.out}, expected two "
            "files .parquet; leave it out for others"
        )
    with threads(arguments.threads):
        fitted, part = open_both(arguments)
        responsibilities = fitted.predict_proba(part.x)
    clusters, probabilities = _most_probable(responsibilities)
    with writing(arguments.out) as file:
        if suffix == ".npy":
            np.save(file, clusters)
        elif suffix == ".npz":
            each: dict[str, Any] = {f"responsibilities_{j}": r for j, r in enumerate(responsibilities)}
            np.savez_compressed(file, clusters=clusters, probabilities=probabilities, **each)
        elif suffix == ".parquet":
            import pyarrow.parquet

            pyarrow.parquet.write_table(_table(clusters, probabilities), file)
        else:
            file.write(_csv(clusters, probabilities).encode())
    say("\n".join([*headlines(arguments, fitted, part), f"Wrote {arguments.out}."]))


def _predict_in_parts(arguments: argparse.Namespace) -> None:
    """Write the clusters of a file of Parquet to another, and keep each part as soon as it is done."""
    out = arguments.out
    vacant(out, overwrite=arguments.overwrite)
    with threads(arguments.threads):
        fitted = open_model(arguments)
    table = open_table(arguments, fitted.model.schema)
    sizes, rows = table.row_groups(), len(table)
    if not rows:
        raise ValueError(f"dataset: got {str(table.path)!r} without rows, expected at least one")
    parts = _parts(sizes)
    workers = as_workers(arguments.workers, len(parts), fitted.model.device)
    kept = out.with_name(f"{out.name}.parts")
    folder(kept)
    with _kept_for_later(kept):
        _check_kept(kept, _made_from(arguments, table), overwrite=arguments.overwrite)
        left = {first: groups for first, groups in parts.items() if not _part(kept, first).exists()}
        done = rows - sum(sizes[group] for groups in left.values() for group in groups)
        if done:
            say(f"{kept} has {done:,} of {rows:,} rows; going on.")
        with (
            progress() as shows,
            Bar(total=rows, initial=done, shows=shows, unit="row", unit_scale=True) as bar,
        ):
            for more in _done(fitted, table, left, kept, workers, arguments.threads):
                done += more
                bar.update(more)
                LOGGER.info("%s of %s rows", f"{done:,}", f"{rows:,}")
        each = [_part(kept, first) for first in parts]
        with writing(out) as file:
            _join(each, file)
        for part in each:
            part.unlink()
    say("\n".join([*headlines(arguments, fitted, Part(table)), f"Wrote {out}."]))


@contextmanager
def _kept_for_later(kept: Path) -> Iterator[None]:
    """Have a folder for oneself, which stays as long as there is a part in it, or what is not ours."""
    try:
        with alone_in(kept):
            try:
                yield
            finally:
                if {file.name for file in kept.iterdir()} <= {NOTE}:
                    (kept / NOTE).unlink(missing_ok=True)
                    kept.rmdir()
    except BlockingIOError as error:
        raise ValueError(
            f"--out: got {kept}, in which another process writes, expected one at a time; wait until it ends"
        ) from error


def _parts(sizes: list[int]) -> dict[int, list[int]]:
    """Return the groups of rows of each part, by the part's first row; ``sizes`` are those of the groups."""
    parts: dict[int, list[int]] = {}
    row, first = 0, 0
    for group, size in enumerate(sizes):
        if row - first >= PART:
            first = row
        parts.setdefault(first, []).append(group)
        row += size
    return parts


def _part(kept: Path, first: int) -> Path:
    return kept / f"{first:015d}.parquet"


def _made_from(arguments: argparse.Namespace, table: TableFile) -> str:
    """Digest what the parts depend on: the model, the file of data, and the columns that are left out."""
    stat = os.stat(table.path)
    data = (
        f"{os.path.realpath(table.path)} {stat.st_size} {stat.st_mtime_ns} {sorted(table.leaves_out)} {PART}"
    )
    return digest_of(data, torch.from_numpy(np.fromfile(model_file(arguments.model), np.uint8)))


def _check_kept(kept: Path, made_from: str, *, overwrite: bool) -> None:
    """See that parts that are there are of this model and these data; others go if the user says so."""
    note = kept / NOTE
    others = [file for file in kept.iterdir() if file != note]
    if others and not (note.exists() and note.read_text(encoding="utf-8") == made_from):
        if not note.exists():
            raise ValueError(f"--out: got {kept}, which is there for something else; choose another name")
        if not overwrite:
            raise ValueError(
                f"--out: got {kept}, which has parts of another model or of other data, expected those of "
                "this command, or none; remove it, add --overwrite, or choose another name"
            )
        for file in others:
            file.unlink()
    write_text(note, made_from)


def _done(
    fitted: FittedMFCVAE,
    table: TableFile,
    parts: dict[int, list[int]],
    kept: Path,
    workers: int,
    number_of_threads: int | None,
) -> Iterator[int]:
    """Predict parts, and give the number of rows of each as soon as it is kept."""
    jobs = [(fitted, table, groups, first, _part(kept, first)) for first, groups in parts.items()]
    if workers == 1:
        for job in jobs:
            yield _keep(*job, number_of_threads)
        return
    from joblib import Parallel, delayed

    run: Callable[..., Any] = delayed(_keep)
    parallel = Parallel(workers, backend="loky", return_as="generator_unordered", batch_size=1)
    try:
        with closing(parallel(run(*job, 1) for job in jobs)) as results:
            yield from results
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "workers: a process ended before its part was done; the same command goes on, with fewer workers "
            "if memory is short"
        ) from error


def _keep(
    fitted: FittedMFCVAE,
    table: TableFile,
    groups: list[int],
    first: int,
    path: Path,
    number_of_threads: int | None,
) -> int:
    """Write the clusters of some groups of rows, of which ``first`` is the first, and count the rows."""
    import pyarrow.parquet

    row = first
    schema = _table(*_most_probable([np.empty((0, K), np.float32) for K in fitted.clusters])).schema
    with (
        threads(number_of_threads),
        replacing(path) as file,
        pyarrow.parquet.ParquetWriter(file, schema) as writer,
    ):
        for batch in table.batches_of(groups):
            try:
                responsibilities = fitted.predict_proba(batch)
            except ValueError as error:
                raise ValueError(f"dataset: in the {len(batch):,} rows from {row:,} on: {error}") from error
            writer.write_table(_table(*_most_probable(responsibilities), row))
            row += len(batch)
    return row - first


def _join(parts: list[Path], file: Any) -> None:
    """Write the rows of all parts to one file of Parquet, group by group."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetWriter(file, pyarrow.parquet.read_schema(parts[0])) as writer:
        for part in parts:
            with pyarrow.parquet.ParquetFile(part) as read:
                for batch in read.iter_batches(PART):
                    writer.write_batch(batch)


def _most_probable(responsibilities: list[Array]) -> tuple[Array, Array]:
    """Return the most probable clusters, int64 (N, J), and their probabilities, float32 (N, J)."""
    clusters = np.stack([r.argmax(-1) for r in responsibilities], 1)
    return clusters, np.stack([r.max(-1) for r in responsibilities], 1)


def _columns(J: int) -> list[str]:
    return ["index", *(f"{name}_{j}" for j in range(J) for name in ("cluster", "probability"))]


def _table(clusters: Array, probabilities: Array, first: int = 0) -> Table:
    """Make a table of clusters (N, J) and their probabilities (N, J), of rows from ``first`` on."""
    import pyarrow

    N, J = clusters.shape
    pairs = [column for j in range(J) for column in (clusters[:, j], probabilities[:, j])]
    return pyarrow.table([np.arange(first, first + N), *pairs], names=_columns(J))


def _csv(clusters: Array, probabilities: Array) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_columns(clusters.shape[1]))
    for index, (row, certainties) in enumerate(zip(clusters, probabilities, strict=True)):
        pairs = zip(row, certainties, strict=True)
        writer.writerow([index, *(cell for k, p in pairs for cell in (k, f"{p:.6f}"))])
    return text.getvalue()
