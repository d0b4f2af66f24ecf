"""Speed and memory of training on data that are not in memory, relative to training in memory.

A table in a CSV file is compared with the same numbers in a ``.npy`` file by whole calls of ``fit``, since it
is read and encoded in them.

Steps are timed in turns within one run, so that what else the machine does falls on all. Steps are those of
``fit``: the batch is drawn, and the model trained on it; what an epoch records is left out, being the same
for all. From the root of the repository, with MNIST in DIR:

    python tests/benchmarks/streaming.py [DIR] [--large]
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pyarrow.csv
import torch
from measuring import status
from torch.utils.data import DataLoader, Dataset

from pyro_mfcvae import MFCVAE, Facet, MFCVAEConfig, Schedule, Stage, fit, presets
from pyro_mfcvae.data import mnist
from pyro_mfcvae.data.choosing import as_source
from pyro_mfcvae.data.sources import on_device
from pyro_mfcvae.data.tables import TableFile
from pyro_mfcvae.networks import FullyConnectedLadder
from pyro_mfcvae.training import Trainer
from pyro_mfcvae.training.step import without_validation

COLUMNS = 32
TABLE_COLUMNS = 10  # of a CSV
CHUNK = 100_000  # rows that are written at a time


class Rows(Dataset):
    """Items of a memory-mapped file, one by one."""

    def __init__(self, path):
        self.path = path
        self.array = np.load(path, mmap_mode="r")

    def __len__(self):
        return len(self.array)

    def __getitem__(self, index):
        return self.array[index].copy()


def write_rows(path, n):
    """A file of n rows of random numbers, float32."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, COLUMNS))
    rng = np.random.default_rng(0)
    for start in range(0, n, CHUNK):
        array[start : start + CHUNK] = rng.standard_normal((min(CHUNK, n - start), COLUMNS), np.float32)
    array.flush()


def ladder():
    """The MNIST setting: full-size ladder, batch 512."""
    facets = (Facet(25, 5), Facet(25, 10))
    schedule = Schedule((Stage((0, 1), 1, 512),))
    return MFCVAEConfig(facets=facets, network=FullyConnectedLadder((500, 2000)), schedule=schedule)


def table():
    """The preset for tables, in one stage."""
    return presets.tabular(schedule=Schedule.joint(2, epochs=1))


def runs_of(path, config):
    """A training run for each way to get data, all with the same start."""
    loader = DataLoader(Rows(path), 256, shuffle=True, num_workers=2, persistent_workers=True)
    sources = {
        "memory": as_source(path, in_memory=True),
        "memory_mapped": as_source(path, in_memory=False),
        "dataset": as_source(Rows(path), in_memory=False),
        "loader": as_source(loader, in_memory=False),
    }
    runs = {}
    for name, source in sources.items():
        torch.manual_seed(0)
        model = MFCVAE(config, source.x_shape)
        model.likelihood.calibrate(sources["memory"].x)
        runs[name] = Trainer(model.train(), source, seed=0)
    return runs


def seconds_per_step(path, config, rounds, steps):
    """Seconds per step of every run, an entry for each round: batches go on from where they were."""
    runs = runs_of(path, config)
    stage = config.stages[0]
    optimizers = {name: torch.optim.Adam(run.model.parameters(), 1e-4) for name, run in runs.items()}
    epochs = {
        name: chain.from_iterable(
            on_device(
                run.source,
                run.source.batches(stage.batch_size, run.plans[0].steps_per_epoch, run.order),
                run.model.device,
            )
            for _ in repeat(None)
        )
        for name, run in runs.items()
    }
    times = {name: [] for name in runs}
    for i in range(-1, rounds):
        for name in list(runs)[:: 1 if i % 2 else -1]:
            start = time.perf_counter()
            for _ in range(steps):
                runs[name].stepper(next(epochs[name]), runs[name].model.full_weights, optimizers[name])
            if i >= 0:  # the first one warms up
                times[name].append((time.perf_counter() - start) / steps)
    return times


def speed(setting, path, config, rounds, steps):
    """Steps per second of every way, and relative to those in memory, round by round."""
    with without_validation():
        times = seconds_per_step(path, config, rounds, steps)
    rows = []
    for name, seconds in times.items():
        ratios = [a / b for a, b in zip(times["memory"], seconds, strict=True)]
        low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        rows.append(
            {
                "benchmark": "streaming_speed",
                "setting": setting,
                "source": name,
                "steps_per_second": 1 / statistics.median(seconds),
                "ratio": float(median),
                "ratio_low": float(low),
                "ratio_high": float(high),
            }
        )
    return rows


def write_table(path, csv, n):
    """The first columns of a file of n rows as one of their own, and as a CSV."""
    rows = np.ascontiguousarray(np.load(path, mmap_mode="r")[:n, :TABLE_COLUMNS])
    np.save(path, rows)
    names = [f"x{i}" for i in range(TABLE_COLUMNS)]
    pyarrow.csv.write_csv(pyarrow.table(dict(zip(names, rows.T, strict=True))), csv)


def csv_speed(path, csv, n, rounds):
    """Seconds of ``fit`` for an epoch of a CSV, relative to those of a file .npy, and of its encoding."""
    seconds = {"memory_mapped": [], "csv": [], "csv_encoding": []}
    for _ in range(rounds):
        for name, file in (("memory_mapped", path), ("csv", csv)):
            start = time.perf_counter()
            fit(file, table(), in_memory=False, progress=False)
            seconds[name].append(time.perf_counter() - start)
        start = time.perf_counter()
        file = TableFile(csv, "csv")
        file.encode(file.schema())
        seconds["csv_encoding"].append(time.perf_counter() - start)
    ratios = [a / b for a, b in zip(seconds["memory_mapped"], seconds["csv"], strict=True)]
    return {
        "benchmark": "streaming_csv",
        "setting": f"{n} x {TABLE_COLUMNS}",
        "source": "csv",
        "seconds": statistics.median(seconds["csv"]),
        "encoding_seconds": statistics.median(seconds["csv_encoding"]),
        "ratio": statistics.median(ratios),
    }


def anonymous():
    """MiB of memory of this process that no file backs: mapped pages are cache, and can be given back."""
    return status("RssAnon")


def growth(path, in_memory, steps):
    """Largest growth of anonymous memory during a fit, in MiB, after one that warms everything up."""
    stage = Stage((0,), steps=steps, batch_size=256, warm_up_steps=steps // 3)
    config = presets.tabular(facets=(Facet(3, 2),), schedule=Schedule((stage,)))
    warnings.simplefilter("ignore")
    fit(np.random.default_rng(0).normal(size=(30_000, COLUMNS)), config, progress=False)
    gc.collect()
    before = largest = anonymous()
    is_over = threading.Event()

    def watch():
        nonlocal largest
        while not is_over.wait(0.005):
            largest = max(largest, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        fit(path, config, in_memory=in_memory, progress=False)
    finally:
        is_over.set()
        watcher.join()
    return largest - before


def memory(path, n, in_memory, steps, columns=COLUMNS):
    """That of a process of its own."""
    command = [sys.executable, __file__, "--measure", str(path), str(int(in_memory)), str(steps)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {
        "benchmark": "streaming_memory",
        "setting": f"{n} x {columns}",
        "source": "memory" if in_memory else "csv" if path.suffix == ".csv" else "memory_mapped",
        "anonymous_mib": float(output.split()[-1]),
    }


def rows(quick, data=None, large=False):
    """Everything that is measured, a flat record for each row.

    Args:
        quick: whether to see only that it runs.
        data: the folder of MNIST; None is what PYRO_MFCVAE_DATA says.
        large: whether to measure the memory for ten million rows as well, a file of 1.3 GB.
    """
    data = data or os.environ.get("PYRO_MFCVAE_DATA")
    rounds = 2 if quick else 21
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npy"
        if data and not quick:
            pictures = (255 * mnist(data).x).round().to(torch.uint8)
            np.save(path, pictures.numpy())
            found += speed("mnist, 512 of 60000 x 784", path, ladder(), rounds, steps=10)
        n = 2_000 if quick else 1_000_000
        write_rows(path, n)
        found += speed(f"tabular, 256 of {n} x {COLUMNS}", path, table(), rounds, steps=5 if quick else 200)
        csv = path.with_suffix(".csv")
        for n in (1_000, 2_000) if quick else (100_000, 1_000_000):
            write_rows(path, n)
            write_table(path, csv, n)
            found.append(memory(csv, n, False, 30 if quick else 600, TABLE_COLUMNS))
        found.append(csv_speed(path, csv, n, 1 if quick else 3))
        sizes = (20_000,) if quick else (100_000, 1_000_000) + (10_000_000,) * large
        for n in sizes:
            write_rows(path, n)
            ways = (False, True) if n < 10_000_000 else (False,)
            found += [memory(path, n, in_memory, steps=30 if quick else 600) for in_memory in ways]
    return found


def main():
    if sys.argv[1:2] == ["--measure"]:
        path, in_memory, steps = sys.argv[2:]
        torch.set_num_threads(1)
        print(growth(path, bool(int(in_memory)), int(steps)))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", help="folder of MNIST")
    parser.add_argument("--quick", action="store_true", help="see only that it runs")
    parser.add_argument("--large", action="store_true", help="ten million rows as well, in 1.3 GB on disk")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads")
    for row in rows(arguments.quick, arguments.data, arguments.large):
        if row["benchmark"] == "streaming_speed":
            print(
                f"{row['setting']:28} {row['source']:14} {row['steps_per_second']:8.1f} steps a second, "
                f"ratio {row['ratio']:.3f} (quartiles {row['ratio_low']:.3f} to {row['ratio_high']:.3f})"
            )
        elif row["benchmark"] == "streaming_csv":
            print(
                f"{row['setting']:28} {row['source']:14} {row['seconds']:8.1f} s for an epoch, "
                f"{row['encoding_seconds']:.1f} of them to encode; speed {row['ratio']:.3f} of that of .npy"
            )
        else:
            print(f"{row['setting']:28} {row['source']:14} {row['anonymous_mib']:8.1f} MiB more than before")


if __name__ == "__main__":
    main()
