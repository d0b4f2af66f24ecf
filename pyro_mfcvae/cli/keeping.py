"""What is kept of training, whatever happens to it or to the place for its results."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pyro_mfcvae.cli.arguments import PROGRAM, tell
from pyro_mfcvae.cli.models import MODEL_FILE
from pyro_mfcvae.results.fitted import FittedMFCVAE
from pyro_mfcvae.results.runs import FittedRuns


def keep(models: Mapping[Path, FittedMFCVAE]) -> None:
    """Save each model in its folder.

    Raises:
        ValueError: if that fails. It says where the models are instead.
    """
    elsewhere = {}
    for place, fitted in models.items():
        try:
            fitted.save(place / MODEL_FILE)
        except OSError as error:
            refuge = Path(tempfile.mkdtemp(prefix=f"{PROGRAM}_")) / MODEL_FILE
            fitted.save(refuge)
            reason = error.strerror or error
            elsewhere[place] = f"got {place}, where no model can be written ({reason}); it is in {refuge}"
    if elsewhere:
        raise ValueError(f"--out: {', and '.join(elsewhere.values())}")


@contextlib.contextmanager
def kept(place: Callable[[int], Path], *, all_runs: bool = False) -> Iterator[None]:
    """Save what training within has reached when it ends early, and say where.

    Args:
        place: folder of the model of a seed.
        all_runs: whether of several runs all are saved, and not only the best.
    """
    try:
        yield
    except (KeyboardInterrupt, FloatingPointError) as error:
        fitted = error.__dict__.get("fitted")
        if fitted is None:
            raise
        runs = list(fitted) if all_runs and isinstance(fitted, FittedRuns) else [_one(fitted)]
        models = {place(run.seed or 0): run for run in runs}
        where = ", ".join(f"{path / MODEL_FILE} ({_progress(run)})" for path, run in models.items())
        try:
            keep(models)
        except ValueError as unwritten:
            where = str(unwritten)
        if isinstance(error, KeyboardInterrupt):
            tell(f"interrupted; the model so far: {where}")
            raise
        raise FloatingPointError(f"{error}; the model before that: {where}") from error


def _one(fitted: FittedMFCVAE | FittedRuns) -> FittedMFCVAE:
    """Return the model, or the best of several, which knows of the others."""
    if isinstance(fitted, FittedMFCVAE):
        return fitted
    best = fitted.best
    best.restarts = fitted.restarts
    return best


def _progress(fitted: FittedMFCVAE) -> str:
    epochs, stage = len(fitted.history), fitted.history[-1].stage + 1
    many = "s" * (epochs != 1)
    return f"seed {fitted.seed}, {epochs} epoch{many}, in stage {stage} of {len(fitted.config.stages)}"
