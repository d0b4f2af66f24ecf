"""Several models of the same data side by side, on data that none of them has seen."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from pyro_mfcvae._utils.checks import integer
from pyro_mfcvae._utils.splitting import split_rows
from pyro_mfcvae.config.mfcvae import MFCVAEConfig
from pyro_mfcvae.config.tables import described
from pyro_mfcvae.data.choosing import as_source, schema_of
from pyro_mfcvae.data.opening import Streaming, opened
from pyro_mfcvae.data.reading import as_tensor
from pyro_mfcvae.data.schema import Schema
from pyro_mfcvae.data.sources import InMemory, Source
from pyro_mfcvae.fitting.compute import Compute, Workers
from pyro_mfcvae.fitting.fit import fit_source
from pyro_mfcvae.fitting.parallel import as_restarts, as_seeds
from pyro_mfcvae.metrics import effective_clusters
from pyro_mfcvae.results.comparison import ComparedModel, Comparison, FacetAgreement, match_facets
from pyro_mfcvae.results.fitted import FittedMFCVAE
from pyro_mfcvae.results.runs import FittedRuns
from pyro_mfcvae.training.compiled import Compile

Entry = MFCVAEConfig | FittedMFCVAE | FittedRuns


def compare(
    entries: Mapping[str, Entry],
    data: Any,
    *,
    test: Any = None,
    seeds: Iterable[int] = (0,),
    test_fraction: float = 0.2,
    split_seed: int = 0,
    num_particles: int = 100,
    restarts: int | None = None,
    workers: Workers = "auto",
    device: str | torch.device = "auto",
    precision: str = "auto",
    in_memory: Streaming = "auto",
    compile: Compile = "auto",
    checkpoint_dir: str | Path | None = None,
    progress: bool = True,
) -> Comparison:
    r"""Compare models by what they say of data that they were not trained on; no label is looked at.

    Configurations are fitted first, each from every seed. Without ``test``, a part of the data is held
    out: the same for all. Models that are fitted already are scored on the same held-out data, so these
    must not have been among theirs; with such models and configurations together, ``test`` must
    therefore be given, and where all are fitted already, all of ``data`` are held-out data.

    Args:
        entries: configurations, fitted models or several runs of one, by name.
        data: as in :func:`pyro_mfcvae.fit`; not looked at where there is ``test`` and nothing to fit.
        test: held-out data; None splits them off from ``data``.
        seeds: seeds of the runs of each configuration.
        test_fraction: share of the data that are held out where ``test`` is None.
        split_seed: seed of that split.
        num_particles: samples for the log-likelihood of each datum.
        restarts: number of runs of each configuration from the only seed on, of which the best, as
            :attr:`FittedRuns.best`, is compared; None compares the runs of all seeds.
        workers: as in :func:`pyro_mfcvae.fit`.
        device: as in :func:`pyro_mfcvae.fit`.
        precision: as in :func:`pyro_mfcvae.fit`.
        in_memory: as in :func:`pyro_mfcvae.fit`, for data to train on. Where these are streamed and there is
            no ``test``, at most 20,000 of them are held out.
        compile: as in :func:`pyro_mfcvae.fit`.
        checkpoint_dir: as in :func:`pyro_mfcvae.fit`; each configuration has a folder of its name within.
        progress: whether to show a progress bar for each configuration.

    Returns:
        A table that prints, with all figures as fields, and a picture.

    Raises:
        TypeError: for entries of another type, or data that are not understood.
        ValueError: if there are no entries, if fitted models and configurations are given without
            ``test``, and as in :func:`pyro_mfcvae.fit`.
        FloatingPointError: if all runs of a configuration diverge.

    References:
        Burda et al. (2016) for the log-likelihood; Vehtari, Gelman and Gabry (2017), Practical Bayesian
        model evaluation, for the standard error of differences.

    Example:
        >>> from pyro_mfcvae import Facet, Schedule, compare, presets
        >>> x = np.random.default_rng(0).normal(size=(100, 4))
        >>> schedule = Schedule.progressive(1, epochs=2)
        >>> few, many = (presets.tabular(facets=(Facet(K, 2),), schedule=schedule) for K in (2, 5))
        >>> comparison = compare({"few": few, "many": many}, x, num_particles=10, progress=False)
        >>> comparison["few"].log_likelihood.shape
        (1, 20)
    """
    _check_entries(entries)
    num_particles = integer("num_particles", num_particles, least=1)
    configured = [name for name, entry in entries.items() if isinstance(entry, MFCVAEConfig)]
    fitted = [name for name in entries if name not in configured]
    chosen_seeds = _seeds(seeds, restarts)
    compute = Compute.resolve(device, precision, compile, workers)
    known = _known_schema(entries)
    data = opened(data, "data", in_memory, known)
    schema = known or schema_of(data, "data")
    train, held_out = _split(data, test, configured, fitted, test_fraction, split_seed, in_memory, schema)
    models = []
    for name, entry in entries.items():
        if isinstance(entry, MFCVAEConfig):
            entry = entry if schema is None else described(entry, schema)
            try:
                entry = fit_source(
                    cast(Source, train),
                    entry,
                    chosen_seeds,
                    compute,
                    keeps="all" if restarts is None else "best",
                    checkpoint_dir=None if checkpoint_dir is None else _folder_of(checkpoint_dir, name),
                    progress=progress,
                )
            except FloatingPointError as error:
                raise FloatingPointError(f"entries[{name!r}]: {error}") from error
        models.append(_score(name, entry, held_out, num_particles))
    return Comparison(tuple(models), _agreements(models), num_particles)


def _seeds(seeds: Iterable[int], restarts: int | None) -> tuple[int, ...]:
    """The seeds of the runs of each configuration."""
    chosen = as_seeds(seeds)
    if restarts is None:
        return chosen
    if len(chosen) > 1:
        raise ValueError(f"restarts: got {restarts!r} with {len(chosen)} seeds, expected the first one only")
    return as_restarts(chosen[0], restarts)


def _known_schema(entries: Mapping[str, Entry]) -> Schema | None:
    """The columns of a table that a model knows, if any does."""
    for entry in entries.values():
        fits = entry if isinstance(entry, FittedRuns) else [entry]
        configs = [fit if isinstance(fit, MFCVAEConfig) else fit.config for fit in fits]
        for config in configs:
            if config.schema is not None:
                return config.schema
    return None


def _folder_of(folder: str | Path, name: object) -> Path:
    """Where the checkpoints of a configuration are, whatever its name."""
    return Path(folder) / quote(str(name), safe=" ")


def _check_entries(entries: Any) -> None:
    if not isinstance(entries, Mapping):
        raise TypeError(
            f"entries: got a {type(entries).__name__}, expected models by name, as in "
            "{'diagonal': config, 'full': other_config}"
        )
    if not entries:
        raise ValueError("entries: got none, expected at least one configuration or fitted model")
    for name, entry in entries.items():
        if not isinstance(entry, MFCVAEConfig | FittedMFCVAE | FittedRuns):
            raise TypeError(
                f"entries[{name!r}]: got a {type(entry).__name__}, expected an MFCVAEConfig, a FittedMFCVAE "
                "or FittedRuns"
            )


def _split(
    data: Any,
    test: Any,
    configured: Sequence[str],
    fitted: Sequence[str],
    test_fraction: float,
    seed: int,
    in_memory: Streaming,
    schema: Schema | None,
) -> tuple[Source | None, Tensor]:
    """Data to fit the configurations to, if there are any, and data to score on."""
    if test is not None:
        held_out = as_tensor(test, name="test", allow_missing=True, schema=schema)
        return (as_source(data, in_memory, "data", schema) if configured else None), held_out
    if not configured:
        return None, as_tensor(data, name="data", allow_missing=True, schema=schema)
    if fitted:
        raise ValueError(
            f"test: got None, but {fitted[0]!r} is fitted already, and may have seen any part of data; "
            "expected the data to score on, which none of the fitted models has seen"
        )
    source = as_source(data, in_memory, "data", schema)
    if not isinstance(source, InMemory):
        return source.hold_out(test_fraction, seed)
    rows, others = split_rows(len(source), test_fraction, seed, "give more data")
    return InMemory(source.x[rows]), source.x[others]


def _score(name: str, entry: FittedMFCVAE | FittedRuns, x: Tensor, num_particles: int) -> ComparedModel:
    fits = tuple(entry) if isinstance(entry, FittedRuns) else (entry,)
    bounds = [fitted.bounds(x, num_particles) for fitted in fits]
    responsibilities = [fitted.predict_proba(x) for fitted in fits]
    return ComparedModel(
        name=str(name),
        fits=fits,
        clusters=np.stack([np.stack([r_j.argmax(-1) for r_j in r], -1) for r in responsibilities]),
        elbo=np.stack([b.elbo for b in bounds]),
        log_likelihood=np.stack([b.log_likelihood for b in bounds]),
        pareto_k=np.stack([b.pareto_k for b in bounds]),
        effective_clusters=np.array([[effective_clusters(r_j) for r_j in r] for r in responsibilities]),
        seconds=np.array([f.history[-1].seconds if f.history else np.nan for f in fits]),
    )


def _agreements(models: Sequence[ComparedModel]) -> dict[tuple[str, str], FacetAgreement]:
    return {
        (one.name, other.name): match_facets(one.clusters, other.clusters)
        for one, other in itertools.combinations(models, 2)
    }
