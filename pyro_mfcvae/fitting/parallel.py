"""Training runs that differ in their seed, in as many processes as there are cores."""

from __future__ import annotations

import math
import os
import pickle
import warnings
from collections.abc import Callable, Generator, Iterable
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, nullcontext
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pyro_mfcvae._utils.checks import integer
from pyro_mfcvae._utils.devices import threads
from pyro_mfcvae._utils.progress import Bar, progress_lines, shows_lines
from pyro_mfcvae.data.sources import HELD_OUT_SEED, Source
from pyro_mfcvae.results.choosing import Clusters, Figures
from pyro_mfcvae.results.fitted import FittedMFCVAE
from pyro_mfcvae.results.runs import FittedRuns

if TYPE_CHECKING:  # which takes long to import
    from joblib import ParallelBackendBase

MAX_SEED = 2**32 - 1  # scikit-learn, which fits the first mixtures, takes no other
MAX_RUNS = 10_000  # of one call, which returns all of them
MIN_WORKERS = 16  # that may be asked for on any machine
# What libraries raise when a process of theirs has ended.
CLUSTERS = {
    "distributed": ("CommClosedError", "FutureCancelledError", "KilledWorker"),
    "ray": ("ActorDiedError", "ObjectLostError", "OwnerDiedError", "RayActorError", "WorkerCrashedError"),
}
SCORE_SIZE = 4_096  # data that runs are compared on
SCORE_DRAWS = 8  # of z for each of them: the runs' ELBO may differ by less than the noise of one

Run = Callable[[Source, int], FittedMFCVAE]
Trained = tuple[FittedMFCVAE, float, Clusters]
Outcome = Trained | FloatingPointError


def train_runs(run: Run, data: Source, seeds: tuple[int, ...], *, workers: int, progress: bool) -> FittedRuns:
    r"""Train one model for each seed, and compare them all on the same data.

    With one worker the runs are in this process, one after another. With more, each process has one
    thread, and the data are shared between them. The processes are on this machine, or where a backend of
    another library is active in joblib, as in ``joblib.parallel_config("dask")``, on its cluster. A run whose
    process ends before it does is begun again, once.

    Args:
        run: ``(data, seed) -> FittedMFCVAE``.
        data: to train on.
        seeds: seeds of the runs, each different.
        workers: processes.
        progress: whether to show a progress bar, of runs.

    Returns:
        The models, in the order of the seeds, without those that diverged, of which a warning tells.

    Raises:
        FloatingPointError: if all runs diverge.
        ValueError: if ``run``, or what it returns, cannot be passed between processes.
        ChildProcessError: if a process ends before its run does, and does so again.
    """
    outcomes: dict[int, Outcome] = {}
    try:
        _collect(outcomes, run, data, seeds, workers, progress)
    except KeyboardInterrupt as error:
        finished = _trained(outcomes, seeds)
        if finished:
            error.__dict__["fitted"] = _as_runs(finished, ())
        raise
    trained = _trained(outcomes, seeds)
    errors = ((seed, outcomes[seed]) for seed in seeds)
    diverged = {seed: error for seed, error in errors if isinstance(error, FloatingPointError)}
    if not trained:
        first = diverged[seeds[0]]
        all_diverged = FloatingPointError(f"all {len(seeds)} runs diverged; seed {seeds[0]}: {first}")
        all_diverged.__dict__["fitted"] = first.__dict__.get("fitted")
        raise all_diverged from first
    for seed, of_seed in diverged.items():
        warnings.warn(f"seed {seed} is left out: {of_seed}", RuntimeWarning, stacklevel=5)  # at fit's caller
    return _as_runs(trained, tuple(diverged))


def _collect(
    outcomes: dict[int, Outcome],
    run: Run,
    data: Source,
    seeds: tuple[int, ...],
    workers: int,
    progress: bool,
) -> None:
    """Train all runs, and take note of each as it finishes."""
    best = -math.inf
    # An interruption anywhere must reach the generator at once, since closing it ends the processes.
    with (
        closing(_outcomes(run, data, seeds, workers)) as finished,
        Bar(total=len(seeds), shows=progress, unit="run") as bar,
    ):
        for seed, outcome in finished:
            outcomes[seed] = outcome
            if not isinstance(outcome, FloatingPointError):
                best = max(best, outcome[1])
                bar.set_postfix_str(f"best ELBO {best:.2f}", refresh=False)
            bar.update()


def _trained(outcomes: dict[int, Outcome], seeds: tuple[int, ...]) -> dict[int, Trained]:
    """Return the runs that are there and did not diverge, in the order of the seeds."""
    found = ((seed, outcomes[seed]) for seed in seeds if seed in outcomes)
    return {seed: outcome for seed, outcome in found if not isinstance(outcome, FloatingPointError)}


def _as_runs(trained: dict[int, Trained], diverged: tuple[int, ...]) -> FittedRuns:
    fits, scores, clusters = zip(*trained.values(), strict=True)
    return FittedRuns(fits, tuple(trained), scores, diverged, Figures.of(clusters))


def as_seeds(seeds: object) -> tuple[int, ...]:
    """Check that these are different seeds, at least one.

    Raises:
        TypeError: if they are not integers.
        ValueError: if there is none, one is out of range, or two are equal.
    """
    expected = f"expected different integers from 0 to {MAX_SEED}, such as range(5)"
    if isinstance(seeds, (str, bytes)) or not isinstance(seeds, Iterable):
        raise TypeError(f"seeds: got {seeds!r}, {expected}; for one run use seed, for the best of n restarts")
    some = list(islice(seeds, MAX_RUNS + 1))
    if len(some) > MAX_RUNS:
        raise ValueError(f"seeds: got more than {MAX_RUNS:,}, expected at most so many; use several calls")
    checked = tuple(as_seed(seed, "seeds") for seed in some)
    if not checked or len(set(checked)) < len(checked):
        raise ValueError(f"seeds: got {list(checked)}, {expected}")
    return checked


def as_seed(seed: object, name: str = "seed") -> int:
    """Check that this is a seed.

    Raises:
        TypeError: if it is not an integer.
        ValueError: if it is out of range.
    """
    return integer(name, seed, 0, MAX_SEED)


def seeds_of(seed: int | None, seeds: Iterable[int] | None, restarts: int | None) -> tuple[int, ...]:
    """Return the seeds of all runs that :func:`pyro_mfcvae.fit` is asked for.

    Raises:
        TypeError: if they are not integers.
        ValueError: for seeds beside another option, and ones that are out of range.
    """
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
    return as_restarts(first, restarts)


def as_restarts(first: int, restarts: object) -> tuple[int, ...]:
    """Seeds of so many runs from the first on.

    Raises:
        TypeError: if their number is not an integer.
        ValueError: if there is none, or the last seed is out of range.
    """
    restarts = integer("restarts", restarts, 1, MAX_RUNS)
    as_seed(first + restarts - 1)
    return tuple(range(first, first + restarts))


def as_workers(workers: int | str, runs: int, device: torch.device) -> int:
    """The number of processes for so many runs; ``"auto"`` is one for each core of this machine, on the CPU.

    Where joblib has a cluster, it is one for each of the cluster's cores.

    Raises:
        ValueError: for anything but ``"auto"`` and positive integers, and for more than one on a GPU.
    """
    on_cpu = device.type == "cpu"
    if workers == "auto":
        if not on_cpu or runs == 1:
            return 1
        import joblib

        cluster = _cluster()
        cores = joblib.cpu_count() if cluster is None else cluster.effective_n_jobs(-1)
        return min(runs, int(cores))  # of the cores that this process may use
    most = max(MIN_WORKERS, 4 * (os.cpu_count() or 1))  # each has libraries and a model of its own in memory
    number = integer("workers", workers, 1, most, expected=f"'auto' or an integer from 1 to {most}")
    if number > 1 and not on_cpu:
        raise ValueError(
            f"workers: got {number} with the device {device}, which one run keeps busy; expected 1 or "
            "'auto', or device='cpu'"
        )
    return min(number, runs)


def _outcomes(
    run: Run, data: Source, seeds: tuple[int, ...], workers: int
) -> Generator[tuple[int, Outcome], None, None]:
    """Seeds with what became of them, as the runs finish."""
    if workers == 1:
        for seed in seeds:
            yield seed, _outcome(run, data, seed)
        return
    left = list(seeds)
    for is_last in (False, True):
        try:
            for seed, outcome in _in_parallel(run, data, tuple(left), workers):
                left.remove(seed)
                yield seed, outcome
            return
        except BaseException as error:
            if not _has_lost_a_process(error):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            if is_last:
                raise ChildProcessError(
                    f"workers: a process ended before its run did, twice ({reason}); use fewer workers if "
                    "memory is short; with workers=1 all runs are in this process"
                ) from error
            warnings.warn(
                f"a process ended before its run did ({reason}); the runs of seeds "
                f"{', '.join(map(str, left))} begin again",
                RuntimeWarning,
                stacklevel=7,  # at fit's caller
            )


def _in_parallel(
    run: Run, data: Source, seeds: tuple[int, ...], workers: int
) -> Generator[tuple[int, Outcome], None, None]:
    """Seeds with what became of them, as the runs finish in other processes."""
    from joblib import Parallel, delayed

    cluster = _cluster()
    # loky pickles functions by value, and so takes lambdas, and programs without a __main__ guard.
    # Arrays beyond a megabyte are mapped into all processes, those of a file from that file; copy-on-write,
    # since PyTorch warns of arrays that cannot be written to.
    streams = cluster is None or cluster.supports_return_generator  # else results come all at the end
    parallel = Parallel(
        n_jobs=workers,
        backend="loky" if cluster is None else None,
        return_as="generator_unordered" if streams else "list",
        batch_size=1,
        mmap_mode="c",
    )
    try:
        jobs = (delayed(_in_worker)(run, data, seed, shows_lines()) for seed in seeds)
        results = parallel(jobs)
        with closing(results) if streams else nullcontext():
            yield from results
    except (pickle.PicklingError, TypeError) as error:
        if "pickle" not in str(error):
            raise
        cause = str(error.__cause__ or error).strip().strip('"').splitlines()[-1]
        raise ValueError(
            f"workers: the configuration or the data set cannot be passed to {workers} processes "
            f"({cause}); use workers=1, or factories that can be pickled, such as frozen dataclasses"
        ) from error


def _has_lost_a_process(error: BaseException) -> bool:
    """Whether the pool or the cluster is broken, rather than a run in it."""
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, BrokenProcessPool) or type(error).__name__ in CLUSTERS.get(library, ())


def _cluster() -> ParallelBackendBase | None:
    """The backend that is active in joblib, if it is another library's, such as Dask's or Ray's."""
    from joblib.parallel import get_active_backend

    backend: ParallelBackendBase = get_active_backend()[0]
    return None if type(backend).__module__ == "joblib._parallel_backends" else backend


def _in_worker(run: Run, data: Source, seed: int, shows_lines: bool) -> tuple[int, Outcome]:
    """One run on one thread: with as many processes as cores, more would only wait for each other."""
    lines = progress_lines(f"seed {seed}: ") if shows_lines else nullcontext()
    with threads(1), lines:
        return seed, _outcome(run, data, seed)


def _outcome(run: Run, data: Source, seed: int) -> Outcome:
    """The model, its score, and its clusters of a sample; or how its training diverged."""
    try:
        fitted = run(data, seed)
        sample = data.sample(SCORE_SIZE, torch.Generator().manual_seed(0))
        held_out = fitted.config.held_out
        x = data.hold_out(held_out, HELD_OUT_SEED)[1][:SCORE_SIZE] if held_out else sample
        return fitted, _score(fitted, x), Clusters.of(fitted.predict_proba(sample))
    except FloatingPointError as error:
        return error


def _score(fitted: FittedMFCVAE, x: Tensor) -> float:
    """Mean ELBO of data and draws that are the same for all runs; nats per datum."""
    score = float(np.mean([fitted.score(x, seed=draw) for draw in range(SCORE_DRAWS)]))
    if not math.isfinite(score):
        raise FloatingPointError(f"training diverged: the ELBO of the trained model is {score}")
    return score
