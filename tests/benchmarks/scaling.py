"""What data-parallel training would bring: measured here per step, predicted for more devices.

Measured are the operations of a step and its time on one core, the bytes of its gradients, the time that
Python takes for a step (which a GPU waits for), and how fast rows are read from a file. From these follows

    seconds a step = max(operations / speed, Python, bytes read / reading) + all-reduce
    all-reduce     = 2 (n - 1) / n * bytes of gradients / bandwidth + 2 (n - 1) * latency

for n devices in a ring, with nothing of it hidden behind the backward pass, so at the worst. THE ROWS FOR
SEVERAL DEVICES ARE PREDICTIONS: no such device was there. From the root of the repository:

    python tests/benchmarks/scaling.py [--tflops 20] [--bandwidth 25] [--latency 10] [--rows 1e9]
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from measuring import PRESETS, Row, flops, machine, make_model, make_step, summary, table, take_turns

from pyro_mfcvae.data.choosing import as_source

DEVICES = (1, 8, 64)
COMPRESSED = 2  # bytes of a gradient in bfloat16, where they are 4 in float32


@dataclass(frozen=True)
class Step:
    """What a step of training needs.

    Attributes:
        batch: data of a step.
        work: floating-point operations for a datum.
        gradients: bytes of the gradients.
        python: seconds that the program takes, whatever computes.
        datum: bytes of a datum, as it is stored.
        reading: bytes a second that are read from a file.
    """

    batch: int
    work: float
    gradients: int
    python: float
    datum: int
    reading: float


@dataclass(frozen=True)
class Cluster:
    """Devices of one kind, in a ring.

    Attributes:
        speed: floating-point operations a second that one device sustains.
        bandwidth: bytes a second from one device to the next.
        latency: seconds of one message.
    """

    speed: float
    bandwidth: float
    latency: float


def all_reduce(n: int, size: float, cluster: Cluster) -> float:
    """Seconds to sum ``size`` bytes over n devices, in a ring: Patarasuk and Yuan (2009)."""
    return 2 * (n - 1) * (size / n / cluster.bandwidth + cluster.latency)


def predicted(step: Step, cluster: Cluster, n: int, batch: int) -> tuple[float, float]:
    """Seconds of a step with ``batch`` data on n devices, and those of its all-reduce."""
    share = math.ceil(batch / n)
    alone = max(share * step.work / cluster.speed, step.python, share * step.datum / step.reading)
    waiting = all_reduce(n, step.gradients, cluster)
    return alone + waiting, waiting


def advice(step: Step, cluster: Cluster, n: int, batch: int) -> str:
    """Say what to change where devices would wait for each other for half of the time or more."""
    total, waiting = predicted(step, cluster, n, batch)
    if waiting < total / 2:
        return "nothing"
    alone = total - waiting
    compressed = all_reduce(n, step.gradients * COMPRESSED / 4, cluster)
    steps = math.ceil(waiting / alone)
    least = math.ceil(waiting * cluster.speed / step.work)
    parts = [f"add up {steps} steps, or {least:,} data a device"]
    if compressed <= alone:
        parts.append("or bfloat16 gradients")
    return " ".join(parts)


def measured(name: str, quick: bool) -> tuple[Step, Row]:
    """Measure a preset's step on one core, and the rest of what it needs."""
    config, x_shape = PRESETS[name][0](), PRESETS[name][1]
    batch = config.stages[-1].batch_size
    jobs = {"step": make_step(config, x_shape), "python": make_step(PRESETS["tabular"][0](), (2,), 2)}
    taken = take_turns(jobs, 3 if quick else 9, 0.02 if quick else 0.5)
    trained = [p for p in make_model(config, x_shape).parameters() if p.requires_grad]
    datum = 4 * math.prod(x_shape)
    rates = [reading(datum // 4, 5_000 if quick else 400_000_000 // datum) for _ in range(3 if quick else 5)]
    step = Step(
        batch=batch,
        work=flops(jobs["step"]) / batch,
        gradients=4 * sum(p.numel() for p in trained),
        python=min(taken["python"]),
        datum=datum,
        reading=float(np.median(rates)),
    )
    row: Row = {
        "preset": name,
        "batch": batch,
        "gflop": step.work * batch / 1e9,
        **summary("ms", [1e3 * s for s in taken["step"]]),
        "python_ms": 1e3 * step.python,
        "gradients_mb": step.gradients / 1e6,
        **summary("read_mb_a_second", [rate / 1e6 for rate in rates]),
    }
    return step, row


def reading(columns: int, rows: int) -> float:
    """Bytes a second that batches of a file are read with, in random order; the file was just written."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        np.save(path, np.zeros((rows, columns), np.float32))
        source = as_source(str(path), in_memory=False)
        count = rows // 512
        start = time.perf_counter()
        for _ in source.batches(512, count, torch.Generator().manual_seed(0)):
            pass
        return 4 * columns * 512 * count / (time.perf_counter() - start)


def predictions(name: str, step: Step, cluster: Cluster, rows: float) -> Iterator[Row]:
    """Images a second and hours for an epoch, with the batch of the schedule and with one that grows."""
    for n in DEVICES:
        for batch in sorted({step.batch, n * step.batch}):
            total, waiting = predicted(step, cluster, n, batch)
            yield {
                "preset": name,
                "devices": n,
                "batch": batch,
                "PREDICTED_data_a_second": batch / total,
                "share_waiting": waiting / total,
                "hours_an_epoch": rows * total / batch / 3600,
                "to_change": advice(step, cluster, n, batch),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds, to see that it runs; no figures")
    parser.add_argument("--tflops", type=float, default=20.0, help="that a device sustains in such products")
    parser.add_argument("--bandwidth", type=float, default=25.0, help="GB/s from one device to the next")
    parser.add_argument("--latency", type=float, default=10.0, help="microseconds of a message")
    parser.add_argument("--rows", type=float, default=1e9, help="data of an epoch")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    given = Cluster(1e12 * arguments.tflops, 1e9 * arguments.bandwidth, 1e-6 * arguments.latency)
    print(", ".join(f"{name} {value}" for name, value in machine(1).items()))
    steps, rows = zip(*(measured(name, arguments.quick) for name in ("mnist", "tabular")), strict=True)
    print(f"\nmeasured here, on one core:\n{table(list(rows))}")
    print(
        f"\nPREDICTED for devices of {arguments.tflops:g} TFLOP/s, {arguments.bandwidth:g} GB/s and "
        f"{arguments.latency:g} us a message; epochs of {arguments.rows:.3g} data"
    )
    for name, step in zip(("mnist", "tabular"), steps, strict=True):
        print(table(list(predictions(name, step, given, arguments.rows))))
        slow = replace(given, bandwidth=1.25e9)
        (row,) = (r for r in predictions(name, step, slow, arguments.rows) if r["batch"] == 64 * step.batch)
        waits = f"{row['share_waiting']:.0%} of the time waiting"
        print(f"over 10 Gbit/s, 64 devices and batches of {row['batch']:,}: {waits}; {row['to_change']}")


if __name__ == "__main__":
    main()
