"""Sections of the benchmark of speed: what training, its loop, its memory, predicting and set-up cost."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import step_time
import torch
from measuring import (
    PRESETS,
    Job,
    Row,
    flops,
    in_fresh_process,
    make_model,
    make_step,
    peak_of_steps,
    product,
    ratios,
    summary,
    take_turns,
)

from pyro_mfcvae import MFCVAEConfig, Schedule, fit, presets
from pyro_mfcvae._utils.devices import threads
from pyro_mfcvae.data import RenderedShapes, make_facets, mnist
from pyro_mfcvae.results.predictor import BLOCK, Predictor
from pyro_mfcvae.training import loop
from pyro_mfcvae.training.monitor import Monitor
from pyro_mfcvae.training.step import without_validation


def train(quick: bool, number: int) -> list[Row]:
    """Steps of training, on one thread and on several, beside a large matrix product on as many."""
    rows = []
    for name in ("tabular",) if quick else PRESETS:
        config, x_shape = PRESETS[name][0](), PRESETS[name][1]
        batch_size = config.stages[-1].batch_size
        step = make_step(config, x_shape)
        work = flops(step)
        for n in sorted({1, number}):
            (row,) = _beside_product({"step": (step, work)}, quick, n)
            images = 1e3 * batch_size / row["ms"]
            rows.append(
                {"preset": name, "batch": batch_size, "threads": n, **row, "images_per_second": images}
            )
    return rows


def scaling(quick: bool, number: int) -> list[Row]:
    """How much faster several threads are, by the wall clock, in turns with one; not where there is one."""
    if number == 1:
        return []
    rows = []
    for name in ("tabular",) if quick else PRESETS:
        step = make_step(PRESETS[name][0](), PRESETS[name][1])
        big, _ = product(256 if quick else 2048, "float32")
        taken: dict[tuple[str, int], list[float]] = {}
        for _ in range(3 if quick else 11):
            for job, run in (("step", step), ("product", big)):
                for n in (1, number):
                    with threads(n):
                        run()
                        start = time.perf_counter()
                        for _ in range(1 if job == "product" else 5):
                            run()
                        taken.setdefault((job, n), []).append(time.perf_counter() - start)
        row: Row = {"preset": name, "threads": number}
        for job in ("step", "product"):
            row |= summary(f"{job}_times_as_fast", ratios(taken[job, 1], taken[job, number]))
        rows.append(row)
    return rows


def by_hand(quick: bool, number: int) -> list[Row]:
    """The step of fit, and of a program that uses FacetELBO, relative to a loop in plain PyTorch."""
    rows = []
    for setting in ("tiny",) if quick else step_time.SETTINGS:
        for n in sorted({1, number}):
            with threads(n), without_validation():
                steps = 2 if quick else 10 if setting == "mnist" else 100
                taken = step_time.compare(setting, 3 if quick else 11, steps)
            fit_, pyro_, hand = (list(column) for column in zip(*taken, strict=True))
            rows.append(
                {
                    "setting": setting,
                    "threads": n,
                    **summary("by_hand_ms", [1e3 * s for s in hand]),
                    **summary("fit_ratio", ratios(fit_, hand)),
                    **summary("facet_elbo_ratio", ratios(pyro_, hand)),
                }
            )
    return rows


def memory(quick: bool, number: int) -> list[Row]:
    """Peak resident memory of training, each preset in a process of its own."""
    rows = []
    for name in ("tabular",) if quick else PRESETS:
        batch_size = PRESETS[name][0]().stages[-1].batch_size
        rows.append({"preset": name, "batch": batch_size, **in_fresh_process(peak_of_preset, name)})
    return rows


def peak_of_preset(name: str) -> Row:
    """For another process, which cannot be sent a configuration with functions in it."""
    return peak_of_steps(PRESETS[name][0](), PRESETS[name][1])


def predict(quick: bool, number: int) -> list[Row]:
    """Images a second of ``predict`` on one thread, with the share of the encoder's products alone."""
    config, x_shape = PRESETS["tabular" if quick else "mnist"][0](), (32,) if quick else (1, 28, 28)
    predictor = Predictor(make_model(config, x_shape))
    N = 1_000 if quick else 10_000
    integers = np.random.default_rng(0).integers(0, 256, (N, *x_shape), dtype=np.uint8)
    blocks = -(-N // BLOCK)
    work = blocks * flops(lambda: predictor.model.encode(torch.zeros(BLOCK, *x_shape)))
    arrays = {"uint8": integers, "float32": (integers / 255).astype(np.float32)}
    jobs = {name: (functools.partial(predictor.predict, x), work) for name, x in arrays.items()}
    rows = _beside_product(jobs, quick, 1)
    return [
        {"array": name, "N": N, **row, "images_per_second": 1e3 * N / row["ms"]}
        for name, row in zip(jobs, rows, strict=True)
    ]


def setup(quick: bool, number: int) -> list[Row]:
    """Processor seconds of the parts of ``fit`` that are not steps, on one thread.

    MNIST is there if PYRO_MFCVAE_DATA says where; its warm-up is a single epoch, so its mixtures are
    fitted to embeddings that are less clustered than in a whole run.
    """
    data: dict[str, tuple[Any, MFCVAEConfig]] = {}
    if quick:
        config = presets.tabular(schedule=Schedule.joint(2, epochs=2, warm_up_epochs=1))
        data["tabular"] = (make_facets((5, 4), n=500).x, config)
    else:
        data["tabular"] = (make_facets((5, 4), n=5_000, extra_dims=25).x, presets.tabular())
        data["shapes3d"] = (RenderedShapes().images, _one_epoch(presets.shapes3d()))
        if "PYRO_MFCVAE_DATA" in os.environ:
            digits = mnist(os.environ["PYRO_MFCVAE_DATA"])
            data["mnist"] = (digits.x, _one_epoch(presets.mnist()))
    rows = []
    for name, (x, config) in data.items():
        with threads(1), _timed_parts(config, tuple(x.shape[1:])) as parts:
            start = time.process_time()
            fit(x, config, progress=False)
            total = time.process_time() - start
            parts["steps, and the rest"] = (1, total - sum(taken for _, taken in parts.values()))
        rows += [
            {
                "preset": name,
                "N": len(x),
                "part": part,
                "calls": calls,
                "seconds": taken,
                "share": taken / total,
            }
            for part, (calls, taken) in parts.items()
        ]
    return rows


def _beside_product(jobs: dict[str, tuple[Job, int]], quick: bool, number: int) -> list[Row]:
    """Milliseconds of jobs with known floating-point operations, and their share of a product's rate."""
    precision = "float32"
    big, size = product(256 if quick else 2048, precision)
    timed = {"product": big, **{name: job for name, (job, _) in jobs.items()}}
    taken = take_turns(timed, 3 if quick else 15, 0.01 if quick else 0.2, number)
    peak = [size / s for s in taken["product"]]
    rows = []
    for name, (_, work) in jobs.items():
        rate = [work / s for s in taken[name]]
        rows.append(
            {
                **summary("ms", [1e3 * s for s in taken[name]]),
                "gflop": work / 1e9,
                **summary("peak_gflops", [p / 1e9 for p in peak]),
                **summary("share_of_peak", ratios(rate, peak)),
            }
        )
    return rows


def _one_epoch(config: MFCVAEConfig) -> MFCVAEConfig:
    """Every stage with an epoch of warm-up and another with its mixtures."""
    stages = tuple(replace(stage, epochs=2, warm_up_epochs=1) for stage in config.stages)
    return replace(config, schedule=Schedule(stages))


@contextlib.contextmanager
def _timed_parts(config: MFCVAEConfig, x_shape: tuple[int, ...]) -> Iterator[dict[str, tuple[int, float]]]:
    """Calls and processor seconds of the functions that ``fit`` calls, for as long as this lasts."""
    of_fit = importlib.import_module("pyro_mfcvae.fitting.fit")  # the package's attribute is the function
    preparing = importlib.import_module("pyro_mfcvae.fitting.preparing")
    spent: dict[str, tuple[int, float]] = {}
    likelihood = type(config.likelihood(x_shape))
    functions = [
        ("conversion of the data", preparing, "as_source"),
        ("construction of the model", of_fit, "MFCVAE"),
        ("checks of the data", of_fit, "check_data"),
        ("calibration", likelihood, "calibrate"),
        ("initialisation of networks", loop, "initialize_networks"),
        ("mixtures", loop, "initialize_mixtures"),
        ("records of epochs", Monitor, "record"),
        ("dead clusters", Monitor, "warn_of_dead_clusters"),
    ]

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function, updated=())
        def run(*arguments: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                calls, taken = spent.get(part, (0, 0.0))
                spent[part] = calls + 1, taken + time.process_time() - start

        return run

    with contextlib.ExitStack() as stack:
        for part, owner, name in functions:
            stack.enter_context(patch.object(owner, name, timed(part, getattr(owner, name))))
        yield spent
