"""The whole job in one call."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable
from typing import Any, Literal, overload

import torch
from torch import Tensor

from pyro_mfcvae import presets
from pyro_mfcvae.compiling import Compile, check_compile
from pyro_mfcvae.config import MFCVAEConfig
from pyro_mfcvae.data.inputs import as_labelled, check_finite
from pyro_mfcvae.devices import resolve_device, resolve_precision, seeded
from pyro_mfcvae.fitted import FittedMFCVAE
from pyro_mfcvae.model import MFCVAE, Precision
from pyro_mfcvae.parallel import as_seed, as_seeds, as_workers, train_runs
from pyro_mfcvae.runs import FittedRuns
from pyro_mfcvae.stepping import bfloat16_speedup
from pyro_mfcvae.training import train

_log = logging.getLogger("pyro_mfcvae")

Workers = int | Literal["auto"]


@overload
def fit(
    dataset: Any,
    config: MFCVAEConfig | None = None,
    *,
    seed: int | None = None,
    seeds: None = None,
    restarts: int | None = None,
    workers: Workers = "auto",
    device: str | torch.device = "auto",
    precision: str = "auto",
    compile: Compile = "auto",
    progress: bool = True,
) -> FittedMFCVAE: ...


@overload
def fit(
    dataset: Any,
    config: MFCVAEConfig | None = None,
    *,
    seed: None = None,
    seeds: Iterable[int],
    restarts: None = None,
    workers: Workers = "auto",
    device: str | torch.device = "auto",
    precision: str = "auto",
    compile: Compile = "auto",
    progress: bool = True,
) -> FittedRuns: ...


def fit(
    dataset: Any,
    config: MFCVAEConfig | None = None,
    *,
    seed: int | None = None,
    seeds: Iterable[int] | None = None,
    restarts: int | None = None,
    workers: Workers = "auto",
    device: str | torch.device = "auto",
    precision: str = "auto",
    compile: Compile = "auto",
    progress: bool = True,
) -> FittedMFCVAE | FittedRuns:
    r"""Cluster data in several ways at once.

    Args:
        dataset: data (N, *x_shape) as an array or a tensor; a pair (x, y); a torch or torchvision
            ``Dataset``; or a ``DataLoader``. Labels are never looked at. Unsigned 8-bit data are
            scaled to [0, 1]. Where the likelihood says so, entries may be missing, that is NaN.
        config: facets, likelihood, network and schedule; None takes a preset that suits the data.
        seed: of initialisation, order of the data and samples; None is 0. On the CPU the same seed gives
            the same parameters bit for bit, with the same number of threads.
        seeds: of several runs, all of which are returned.
        restarts: number of runs, with the seeds ``seed``, ``seed + 1``, ..., of which the one with the
            highest ELBO of the training data is returned.
        workers: most processes that train at a time where there are several runs; ``"auto"`` is one for
            each core, or this one alone on a GPU. With one, the runs are in this process, one after
            another, and a run is bit for bit that of its seed alone. With more, every process has one
            thread, and a run is bit for bit that of its seed alone on one thread: sums of floats differ
            in their last digits with the number of threads.
        device: ``"auto"`` is CUDA where there is one, else the CPU.
        precision: of the networks in training: ``"float32"``, ``"bfloat16"``, or ``"auto"`` for
            bfloat16 where the device is fast with it.
        compile: whether PyTorch's compiler fuses the operations of a training step. It takes seconds to
            a minute for every phase of the schedule, and small networks gain most. ``"auto"`` compiles
            phases that are long enough for it to pay; ``"reduce-overhead"`` also makes one CUDA graph of a
            step on a GPU. Sums of floats differ in their last digits; what cannot be compiled runs as it is.
        progress: whether to show a progress bar.

    Returns:
        The fitted model; for ``seeds``, all of them. A run that diverges is left out, with a warning.

    Raises:
        TypeError: for data or options of a type that is not understood.
        ValueError: for data that are empty, not finite, invalid under the likelihood, or fewer than a
            facet's clusters; for unknown options, and those that exclude each other; and for a
            configuration that cannot be passed to other processes.
        FloatingPointError: if training diverges; of several runs, if all do.
        ChildProcessError: if one of several processes ends before its run does.

    References:
        Falck et al. (2021), Multi-Facet Clustering Variational Autoencoders.

    Example:
        >>> import numpy as np
        >>> from pyro_mfcvae import Facet, Schedule, fit, presets
        >>> x = np.random.default_rng(0).normal(size=(100, 4))
        >>> config = presets.tabular(facets=(Facet(3, 2),), schedule=Schedule.progressive(1, epochs=2))
        >>> fit(x, config, progress=False).predict(x).shape
        (100, 1)
        >>> runs = fit(x, config, seeds=range(2), workers=1, progress=False)
        >>> len(runs), runs.best.predict(x).shape
        (2, (100, 1))
    """
    chosen_seeds = _seeds(seed, seeds, restarts)
    x, _ = as_labelled(dataset, allow_missing=True)
    x_shape = tuple(x.shape[1:])
    if config is None:
        check_finite(x, "dataset")
        config = presets.for_data(x_shape, bool(x.min() >= 0 and x.max() <= 1))
    elif not isinstance(config, MFCVAEConfig):
        raise TypeError(
            f"config: got {type(config).__name__}, expected an MFCVAEConfig, such as presets.mnist()"
        )
    most = max(facet.clusters for facet in config.facets)
    if len(x) < most:
        raise ValueError(
            f"dataset: got {len(x)} data, expected at least as many as a facet has clusters, {most}; "
            "give more data, or a config with fewer clusters"
        )
    target = resolve_device(device)
    # Once: where it is measured, runs might differ.
    chosen = resolve_precision(precision, target, functools.partial(_bfloat16_speedup, x, config, target))
    check_compile(compile)
    _log.info(
        "device %s, %d threads, precision %s, compile %s", target, torch.get_num_threads(), chosen, compile
    )
    number = as_workers(workers, len(chosen_seeds), target)
    run = functools.partial(_train_one, config=config, device=target, precision=chosen, compile=compile)
    if seeds is None and restarts is None:
        return run(x, chosen_seeds[0], progress=progress)
    runs = train_runs(run, x, chosen_seeds, workers=number, progress=progress)
    for fitted in runs:
        fitted.model.config = config  # another process returns a copy; recipes may compare by identity
    if seeds is not None:
        return runs
    best = runs.best
    best.restarts = dict(zip(runs.seeds, runs.scores, strict=True))
    return best


def _train_one(
    x: Tensor,
    seed: int,
    *,
    config: MFCVAEConfig,
    device: torch.device,
    precision: Precision,
    compile: Compile,
    progress: bool = False,
) -> FittedMFCVAE:
    with seeded(seed, device):
        model = _new_model(x, config, device)
        model.precision = precision
        history = train(model, x.to(device), seed=seed, compile=compile, progress=progress)
    return FittedMFCVAE(model, history, seed=seed)


def _new_model(x: Tensor, config: MFCVAEConfig, device: torch.device) -> MFCVAE:
    """A model for these data, before training."""
    model = MFCVAE(config, tuple(x.shape[1:]))  # on the CPU first: the same start on every device
    check_finite(x, "dataset", model.likelihood.allows_missing)
    model.likelihood.check(x, "dataset")
    model.likelihood.calibrate(x)
    return model.to(device)


def _bfloat16_speedup(x: Tensor, config: MFCVAEConfig, device: torch.device) -> float:
    """How many times as fast training is in bfloat16, on a model that is thrown away."""
    with seeded(0, device):
        return bfloat16_speedup(_new_model(x, config, device), x[: config.stages[0].batch_size].to(device))


def _seeds(seed: int | None, seeds: Iterable[int] | None, restarts: int | None) -> tuple[int, ...]:
    """The seeds of all runs."""
    if seeds is not None:
        for name, value in (("seed", seed), ("restarts", restarts)):
            if value is not None:
                raise ValueError(
                    f"{name}: got {value!r} together with seeds, expected one of the two; for the best of "
                    "given seeds use fit(..., seeds=...).best"
                )
        return as_seeds(seeds)
    first = as_seed(0 if seed is None else seed)
    if restarts is None:
        return (first,)
    if not isinstance(restarts, int) or restarts < 1:
        raise ValueError(f"restarts: got {restarts!r}, expected an integer of at least 1")
    as_seed(first + restarts - 1)
    return tuple(range(first, first + restarts))
