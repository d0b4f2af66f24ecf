"""What the benchmarks of speed share: settings, steps, clocks, and the peak to compare with."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from pyro_mfcvae import MFCVAE, MFCVAEConfig, presets
from pyro_mfcvae._utils.devices import describe_environment, threads
from pyro_mfcvae.model.loss import make_loss
from pyro_mfcvae.training.freezing import expand, matches
from pyro_mfcvae.training.optimizers import make_optimizer
from pyro_mfcvae.training.step import Stepper, without_validation

Row = dict[str, Any]
Job = Callable[[], object]

PRESETS: dict[str, tuple[Callable[[], MFCVAEConfig], tuple[int, ...]]] = {
    "paper_mnist": (presets.paper_mnist, (1, 28, 28)),
    "mnist": (presets.mnist, (1, 28, 28)),
    "shapes3d": (presets.shapes3d, (3, 32, 32)),
    "tabular": (presets.tabular, (32,)),
}


def make_model(config: MFCVAEConfig, x_shape: tuple[int, ...]) -> MFCVAE:
    """A model with components that differ, in training as in the last stage of its schedule."""
    torch.manual_seed(0)
    model = MFCVAE(config, x_shape)
    frozen = expand(config.stages[-1].freeze, set(), len(config.facets))
    with torch.no_grad():
        for prior in model.priors:
            prior.loc.normal_()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not matches(name, frozen))
    return model


def make_step(config: MFCVAEConfig, x_shape: tuple[int, ...], batch_size: int | None = None) -> Job:
    """A step of training: the choice of a batch from random data, the loss, its gradient, the update."""
    model, stage = make_model(config, x_shape), config.stages[-1]
    size = stage.batch_size if batch_size is None else batch_size
    x = torch.rand(4 * size, *x_shape)
    step, optimizer = Stepper(make_loss(model)), make_optimizer(stage.optimizer, model.parameters(), 1e-4)

    def run() -> None:
        with without_validation():
            step(x[torch.randint(len(x), (size,))], model.full_weights, optimizer)

    return run


def flops(job: Job) -> int:
    """Floating-point operations of the matrix products and convolutions, forward and backward, as run."""
    with FlopCounterMode(display=False) as counter:
        job()
    return counter.get_total_flops()


def product(size: int, precision: str) -> tuple[Job, int]:
    """A matrix product, which runs at a processor's practical peak, and its floating-point operations."""
    a, b, out = (torch.rand(size, size).to(getattr(torch, precision)) for _ in range(3))
    return lambda: torch.mm(a, b, out=out), 2 * size**3


def seconds(job: Job, repeat: int, number: int) -> float:
    """Seconds of each repetition: of the processor on one thread, which other programs hardly change.

    On several threads it is the wall clock, since threads that wait for each other use the processor too.
    """
    clock = time.process_time if number == 1 else time.perf_counter
    start = clock()
    for _ in range(repeat):
        job()
    return (clock() - start) / repeat


def take_turns(jobs: dict[Any, Job], rounds: int, shortest: float, number: int = 1) -> dict[Any, list[float]]:
    """Seconds of every job in every round, each repeated for about ``shortest`` seconds.

    The jobs alternate, forwards and backwards, so that what else the machine does falls on all.
    """
    with threads(number):
        repeats = {}
        for name, job in jobs.items():
            job()  # what happens once only
            repeats[name] = max(1, round(shortest / max(seconds(job, 1, number), 1e-6)))
        taken: dict[Any, list[float]] = {name: [] for name in jobs}
        for i in range(rounds):
            for name in list(jobs) if i % 2 == 0 else reversed(list(jobs)):
                taken[name].append(seconds(jobs[name], repeats[name], number))
    return taken


def summary(name: str, values: list[float]) -> Row:
    """Median and quartiles of repetitions."""
    low, _, high = statistics.quantiles(values, method="inclusive") if len(values) > 1 else values * 3
    return {name: statistics.median(values), f"{name}_low": low, f"{name}_high": high}


def ratios(above: list[float], below: list[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of a module returns in a process of its own, on one thread."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        return pool.submit(function, *arguments).result()


def peak_of_steps(config: MFCVAEConfig, x_shape: tuple[int, ...], batch_size: int | None = None) -> Row:
    """Resident memory of model, optimiser and a step at their peak, in MiB, beyond libraries and data."""
    make_step(presets.tabular(), (2,))()  # libraries load what they need
    Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on
    before = status("VmRSS")
    step = make_step(config, x_shape, batch_size)
    built = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(3):
        step()
    return {"model_mib": built - before, "step_mib": status("VmHWM") - built}


def machine(number: int) -> Row:
    """Where and when."""
    environment = describe_environment(torch.device("cpu"), "float32")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": environment.processor,
        "instructions": environment.instructions,
        "cores": os.cpu_count(),
        "threads": number,
        "load": os.getloadavg()[0],
        "torch": environment.versions["torch"],
        "python": environment.versions["python"],
        "precision": environment.precision,
    }


def table(rows: list[Row]) -> str:
    """Rows with the same columns in one table each; quartiles are in brackets."""
    blocks = [
        _block(list(block)) for _, block in itertools.groupby(rows, key=lambda row: tuple(_columns(row)))
    ]
    return "\n\n".join(blocks)


def _block(rows: list[Row]) -> str:
    cells = [_columns(rows[0]), *([_cell(row, name) for name in _columns(row)] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in cells)


def _columns(row: Row) -> list[str]:
    return [name for name in row if not name.endswith(("_low", "_high"))]


def _cell(row: Row, name: str) -> str:
    text = _number(row[name])
    if f"{name}_low" in row:
        text += f" ({_number(row[f'{name}_low'])} to {_number(row[f'{name}_high'])})"
    return text


def _number(value: Any) -> str:
    return f"{value:,.0f}" if isinstance(value, float) and abs(value) >= 1000 else _short(value)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def status(name: str) -> float:
    """A figure of /proc/self/status, in MiB."""
    (line,) = (line for line in _lines("/proc/self/status") if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


def _lines(path: str) -> Iterator[str]:
    return iter(Path(path).read_text().splitlines()) if Path(path).exists() else iter(())


def _one_thread() -> None:
    torch.set_num_threads(1)
