"""The whole job in one call."""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, cast, overload

import torch

from pyro_mfcvae._utils.allocations import (
    AllocationError,
    available_memory,
    bounded_allocations,
    in_words,
)
from pyro_mfcvae._utils.devices import describe_environment
from pyro_mfcvae._utils.files import alone_in, probe
from pyro_mfcvae._utils.turns import RandomStream, Turn
from pyro_mfcvae.config.mfcvae import MFCVAEConfig
from pyro_mfcvae.data.checking import check_bytes, check_data
from pyro_mfcvae.data.choosing import as_needed
from pyro_mfcvae.data.loading import Endless
from pyro_mfcvae.data.opening import Streaming
from pyro_mfcvae.data.sources import Source, number_held_out
from pyro_mfcvae.fitting.compute import Compute, Workers
from pyro_mfcvae.fitting.parallel import as_workers, seeds_of, train_runs
from pyro_mfcvae.fitting.preparing import check_endless, prepare
from pyro_mfcvae.likelihoods import LikelihoodFactory
from pyro_mfcvae.model.mfcvae import MFCVAE
from pyro_mfcvae.results.fitted import FittedMFCVAE
from pyro_mfcvae.results.runs import FittedRuns
from pyro_mfcvae.training.callbacks import Callback, Callbacks, as_callbacks
from pyro_mfcvae.training.compiled import Compile
from pyro_mfcvae.training.run import train

COPIES = 4  # of the parameters that training takes: them, their gradient, and what Adam keeps of it

Keeps = Literal["only", "best", "all"]

_log = logging.getLogger("pyro_mfcvae")


@overload
def fit(
    dataset: Any,
    config: MFCVAEConfig | None = None,
    *,
    clusters: int | Sequence[int] | None = None,
    latent_dims: int | Sequence[int] | None = None,
    seed: int | None = None,
    seeds: None = None,
    restarts: int | None = None,
    workers: Workers = "auto",
    device: str | torch.device = "auto",
    precision: str = "auto",
    in_memory: Streaming = "auto",
    compile: Compile = "auto",
    checkpoint_dir: str | Path | None = None,
    callbacks: Callbacks = (),
    progress: bool = True,
) -> FittedMFCVAE: ...


@overload
def fit(
    dataset: Any,
    config: MFCVAEConfig | None = None,
    *,
    clusters: int | Sequence[int] | None = None,
    latent_dims: int | Sequence[int] | None = None,
    seed: None = None,
    seeds: Iterable[int],
    restarts: None = None,
    workers: Workers = "auto",
    device: str | torch.device = "auto",
    precision: str = "auto",
    in_memory: Streaming = "auto",
    compile: Compile = "auto",
    checkpoint_dir: str | Path | None = None,
    callbacks: Callbacks = (),
    progress: bool = True,
) -> FittedRuns: ...


def fit(
    dataset: Any,
    config: MFCVAEConfig | None = None,
    *,
    clusters: int | Sequence[int] | None = None,
    latent_dims: int | Sequence[int] | None = None,
    seed: int | None = None,
    seeds: Iterable[int] | None = None,
    restarts: int | None = None,
    workers: Workers = "auto",
    device: str | torch.device = "auto",
    precision: str = "auto",
    in_memory: Streaming = "auto",
    compile: Compile = "auto",
    checkpoint_dir: str | Path | None = None,
    callbacks: Callbacks = (),
    progress: bool = True,
) -> FittedMFCVAE | FittedRuns:
    r"""Cluster data in several ways at once.

    Args:
        dataset: data (N, *x_shape) as an array or a tensor; a table with named columns; a pair (x, y); a
            torch or torchvision ``Dataset``; a ``DataLoader``; a sparse matrix; an ``AnnData``, that is its
            ``X``; an array of HDF5 or Zarr; or the path of a file ``.npy``, ``.csv``, ``.tsv``, ``.parquet``
            or ``.h5ad``. Labels are never looked at. Unsigned 8-bit data are scaled to [0, 1]. Where the
            likelihood says so, entries may be missing, that is NaN. Of a table (a DataFrame of pandas or
            polars, or Arrow's, or a file), the kinds of the columns are found out, as
            :meth:`data.Schema.infer` says, and kept: the model then takes tables by the names of their
            columns.
        config: facets, likelihood, network and schedule; None takes a preset that suits the data, and says
            which in a line. For a table with other than real numbers that is ``presets.tabular`` with the
            likelihood ``"mixed"``.
        clusters: number of clusters of each facet, in place of a configuration.
        latent_dims: dimension of each facet's latent, or one for all, in place of a configuration.
        seed: seed of initialisation, order of the data and samples; None is 0. See Reproducibility below.
        seeds: seeds of several runs, all of which are returned.
        restarts: number of runs, with the seeds ``seed``, ``seed + 1``, ..., of which one is
            returned: that whose clusters are furthest apart and whose facets share least, as
            :attr:`FittedRuns.best` says. Its ``restarts`` have the figures of all.
        workers: most processes that train at a time where there are several runs; ``"auto"`` is one for
            each core, or this one alone on a GPU. With one, the runs are in this process, one after
            another. With more, every process has one thread. Within ``joblib.parallel_config("dask")`` or
            ``"ray"``, ``"auto"`` is one for each core of that cluster, and the runs are there.
        device: ``"auto"`` is CUDA where there is one, else the CPU.
        precision: precision of the networks in training: ``"float32"``, which ``"auto"`` is, too, on every
            device; or ``"bfloat16"``, which is faster where the device has units for it (divergences,
            densities and what leaves the networks are in float32 all the same). A run in bfloat16 is
            another run, and may be a worse one: on rendered rooms (``presets.shapes3d_ladder``, floor, seeds
            0 and 1) the purity for shape was 0.64 and 0.80 in bfloat16, and 0.88 and 0.97 in float32.
        in_memory: whether data are collected in memory before training, as one float32 tensor. ``"auto"``
            does so unless they are a sparse array, one in a file, a table in a file, a map-style
            ``Dataset``, or a ``DataLoader`` of one, and would then take more than a quarter of the memory
            that is available. Data of which nobody knows how many there are, as those of an
            ``IterableDataset`` without ``__len__``, need False, unless they fit into memory, and stages by
            ``steps``. False streams them: memory does not grow with their number (but for 8 bytes
            for each item of a ``Dataset``), and random transforms make other data of them in every epoch.
            What depends on all data, such as scales, is then taken from a sample of 20,000; at most as many
            are held out; and what is not finite or not valid raises its error when it is read.
        compile: whether PyTorch's compiler fuses the operations of a training step. It takes seconds to
            a minute for every phase of the schedule, and small networks gain most. ``"auto"`` compiles
            phases that are long enough for it to pay; ``"reduce-overhead"`` also makes one CUDA graph of a
            step on a GPU. What cannot be compiled runs as it is.
        checkpoint_dir: folder, made if need be, where every run is kept between epochs, once a minute and
            at the end of each stage. The same call goes on from there after an interruption, and returns at
            once what is finished; :func:`pyro_mfcvae.load` reads the model of such a file. It belongs to this
            call: with other data, configuration, threads or versions, it is refused. None keeps nothing.
        callbacks: objects of :class:`callbacks.Callback`, or functions of a trainer and a record, which are
            called after each epoch and may end the run. Processes have copies of them.
        progress: whether to show a progress bar.

    Returns:
        The fitted model; for ``seeds``, all of them. A run that diverges is left out, with a warning.

    Raises:
        TypeError: for data or options of a type that is not understood.
        ValueError: for data that are empty, not finite, invalid under the likelihood, or fewer than a
            facet's clusters; for checkpoints of another run; for a model too large for memory; for unknown
            options, and those that exclude each other; and for a configuration that cannot be passed to
            other processes.
        FloatingPointError: if training diverges, also with lower learning rates; of several runs, if all do.
            Its attribute ``fitted`` is the model before, or None.
        KeyboardInterrupt: if it is interrupted. Its attribute ``fitted`` is the model so far; of several
            runs, those that were finished; or None.
        OSError: if ``checkpoint_dir`` cannot be written to.
        ChildProcessError: if one of several processes ends before its run does, and does so again.

    Reproducibility:
        On the CPU of one machine, with the same versions of all packages and the same number of threads,
        these are the same bit for bit: what a seed gives, alone or among others, with one worker, with
        several on one thread each, and however busy the machine is; a run that was interrupted and
        resumed; a saved and loaded model; predictions for the same data, wherever these are kept.

        Sums of floats are taken in another order, and so the same to rounding only, on other processors,
        GPUs, numbers of threads and versions of PyTorch, when compiled, and for a datum among other
        neighbours. A prediction then differs in its last digits. Training amplifies them: **the same seed
        elsewhere is another sample**, which a claim must allow for. ``fitted.history.environment`` says
        what a model was trained in.

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
    chosen_seeds = seeds_of(seed, seeds, restarts)
    compute = Compute.resolve(device, precision, compile, workers)
    with Turn():
        data, config = prepare(
            dataset, config, in_memory, clusters=clusters, latent_dims=latent_dims, says=progress
        )
    return fit_source(
        data,
        config,
        chosen_seeds,
        compute,
        keeps="all" if seeds is not None else "only" if restarts is None else "best",
        checkpoint_dir=checkpoint_dir,
        callbacks=callbacks,
        progress=progress,
    )


def fit_source(
    data: Source,
    config: MFCVAEConfig,
    seeds: tuple[int, ...],
    compute: Compute,
    *,
    keeps: Keeps,
    checkpoint_dir: str | Path | None = None,
    callbacks: Callbacks = (),
    progress: bool = True,
) -> FittedMFCVAE | FittedRuns:
    """Train one model for each seed on data that are read already.

    Args:
        data: to train on.
        config: configuration of every run.
        seeds: seeds of the runs, each different.
        compute: where and how.
        keeps: ``"only"`` returns the model of the only seed, ``"best"`` the one that
            :attr:`FittedRuns.best` is, ``"all"`` all of them.
        checkpoint_dir: as in :func:`pyro_mfcvae.fit`.
        callbacks: as in :func:`pyro_mfcvae.fit`.
        progress: whether to show a progress bar.

    Raises:
        ValueError: as :func:`pyro_mfcvae.fit`.
        FloatingPointError: as :func:`pyro_mfcvae.fit`.
        ChildProcessError: as :func:`pyro_mfcvae.fit`.
    """
    likelihood = cast(LikelihoodFactory, config.likelihood)(data.x_shape)
    if isinstance(data, Endless):
        check_endless(config)
    data = as_needed(data, likelihood, "dataset")
    is_auto = any(stage.unmix == "auto" for stage in config.stages)
    most = 1 if is_auto else max(facet.clusters for facet in config.facets)
    held_out = number_held_out(config.held_out, len(data)) if config.held_out else 0
    if len(data) - held_out < most:
        raise ValueError(
            f"dataset: got {len(data)} data{f', {held_out} of them held out' if held_out else ''}, expected "
            f"at least as many as a facet has clusters, {most}, to train on; give more data, or a config "
            "with fewer clusters"
        )
    folder = None if checkpoint_dir is None else _folder(checkpoint_dir)
    called = as_callbacks(callbacks)
    with nullcontext() if folder is None else _alone_in(folder):
        return _train_all(data, config, seeds, compute, folder, called, keeps=keeps, progress=progress)


def _train_all(
    data: Source,
    config: MFCVAEConfig,
    seeds: tuple[int, ...],
    compute: Compute,
    folder: Path | None,
    callbacks: tuple[Callback, ...],
    *,
    keeps: Keeps,
    progress: bool,
) -> FittedMFCVAE | FittedRuns:
    environment = describe_environment(compute.device, compute.precision)
    _log.info("training in %s, compile %s", environment, compute.compile)
    number = as_workers(compute.workers, len(seeds), compute.device)
    run = functools.partial(
        _train_one, config=config, compute=compute, checkpoint_dir=folder, callbacks=callbacks
    )
    if keeps == "only":
        return run(data, seeds[0], progress=progress)
    runs = train_runs(run, data, seeds, workers=number, progress=progress)
    if not any(stage.unmix for stage in config.stages):  # else every run has facets of its own
        for fitted in runs:
            fitted.model.config = config  # another process returns a copy; factories may compare by identity
    if keeps == "all":
        return runs
    best = runs.best
    best.restarts = runs.restarts
    return best


def _train_one(
    data: Source,
    seed: int,
    *,
    config: MFCVAEConfig,
    compute: Compute,
    checkpoint_dir: Path | None,
    callbacks: tuple[Callback, ...],
    progress: bool = False,
) -> FittedMFCVAE:
    device = compute.device
    stream = RandomStream(seed, device)
    with Turn(stream):
        model, checked = _new_model(data, config, device)
    with Turn(stream, validates=False), torch.enable_grad():
        checkpoint = None if checkpoint_dir is None else checkpoint_dir / f"seed_{seed}.checkpoint"
        try:
            history = train(
                model,
                checked.to(device),
                seed=seed,
                precision=compute.precision,
                compile=compute.compile,
                checkpoint=checkpoint,
                callbacks=callbacks,
                progress=progress,
            )
        except (KeyboardInterrupt, Exception) as error:
            so_far = error.__dict__.get("history")
            error.__dict__["fitted"] = FittedMFCVAE(model, so_far, seed=seed) if so_far else None
            raise
    return FittedMFCVAE(model, history, seed=seed)


def _new_model(data: Source, config: MFCVAEConfig, device: torch.device) -> tuple[MFCVAE, Source]:
    """A model for these data, before training, and the data, which it checks as they are read."""
    room = available_memory() / COPIES
    try:
        with bounded_allocations(room):
            model = MFCVAE(config, data.x_shape)  # on the CPU first: the same start on every device
    except AllocationError as error:
        raise ValueError(
            f"config: the model asks for {in_words(error.asked)} of parameters or more, expected at most "
            f"{in_words(room)}, as training takes {COPIES} times as much and the machine has "
            f"{in_words(COPIES * room)}; use fewer clusters or latent dimensions, or smaller networks"
        ) from error
    if isinstance(data, Endless) and (shared := model.shared_priors()):
        raise ValueError(
            f"prior: got one for facet {shared[0][0]} with variables that all data share, which count once "
            "for all of them, but their number is not known, expected another prior; give the dataset __len__"
        )
    # A copy that stays on the CPU, where data are read.
    checked = data.checked(functools.partial(check_data, copy.deepcopy(model.likelihood), "dataset"))
    sample = checked.calibration_sample()
    check_bytes(sample, "dataset")
    model.likelihood.calibrate(sample)
    return model.to(device), checked


def _folder(path: str | Path) -> Path:
    """A folder that is there, or can be made, and can be written to."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe(folder)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(
            f"checkpoint_dir: got {str(path)!r}, where a file is in the way; expected a folder, there or not"
        ) from error
    except OSError as error:
        raise OSError(
            error.errno,
            f"checkpoint_dir: got {str(path)!r}, which cannot be written to ({error.strerror}), expected a "
            "folder with room; use another one, or None",
        ) from error
    return folder


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Have the folder of checkpoints for oneself, since two runs in one file would overwrite each other."""
    with ExitStack() as stack:
        try:
            stack.enter_context(alone_in(folder))
        except BlockingIOError as error:
            raise ValueError(
                f"checkpoint_dir: got {str(folder)!r}, in which another call of fit trains now, expected "
                "one that is free; wait for its end, or use another folder"
            ) from error
        yield
