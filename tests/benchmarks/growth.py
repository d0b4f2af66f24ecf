"""How time and memory grow with the size of a problem: a section of the benchmark of speed.

Every row makes one size larger, from where its term begins to outweigh the constant costs of a step. Its
exponent is the slope of log(time) against log(size) from the size before, and the fitted one that of the
straight line through all sizes.

glibc gives the memory of large tensors back to the system after every step, and the page faults of the next
one add up to a third at the largest sizes. To see the growth without them, set MALLOC_MMAP_THRESHOLD_ to
1073741824 and MALLOC_TRIM_THRESHOLD_ to 4294967296 in the environment.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from measuring import Job, Row, in_fresh_process, make_step, peak_of_steps, summary, take_turns

from pyro_mfcvae import Facet, MFCVAEConfig, Schedule, fit
from pyro_mfcvae.likelihoods import Gaussian
from pyro_mfcvae.networks import ConvolutionalLadder, FullyConnectedAdditive, FullyConnectedLadder
from pyro_mfcvae.priors import DiagonalGaussian, FullGaussian

Problem = tuple[MFCVAEConfig, tuple[int, ...], int]  # and shape of a datum, batch size

DIAGONAL, FULL = DiagonalGaussian(initialization="glorot"), FullGaussian(initialization="glorot")


def _problem(
    J: int = 1,
    K: int = 10,
    D: int = 5,
    prior: object = DIAGONAL,
    network: object = None,
    x_shape: tuple[int, ...] = (32,),
    batch_size: int = 500,
    epochs: int = 1,
) -> Problem:
    config = MFCVAEConfig(
        facets=(Facet(K, D, prior),) * J,
        likelihood=Gaussian(),
        network=network or FullyConnectedAdditive((64, 64)),
        schedule=Schedule.joint(J, epochs=epochs, batch_size=batch_size),
    )
    return config, x_shape, batch_size


def _picture(side: int, network: object) -> Problem:
    return _problem(network=network, x_shape=(3, side, side), batch_size=64)


# name: (what grows, the problem of that size, sizes)
STEPS: dict[str, tuple[str, Callable[[int], Problem], tuple[int, ...]]] = {
    "J": ("facets, 50 clusters, D = 5", lambda s: _problem(J=s, K=50), (4, 8, 16, 32)),
    # Of 100 data: glibc maps every tensor above 32 MiB anew, and a step would jump at that size.
    "K, diagonal": (
        "clusters, D = 10",
        lambda s: _problem(K=s, D=10, batch_size=100),
        (2_000, 4_000, 8_000, 16_000),
    ),
    "K, full": (
        "clusters, D = 10",
        lambda s: _problem(K=s, D=10, prior=FULL, batch_size=100),
        (2_000, 4_000, 8_000, 16_000),
    ),
    "D, diagonal": ("dimensions, 500 clusters", lambda s: _problem(K=500, D=s), (64, 128, 256, 512, 1_024)),
    "D, full": ("dimensions, 100 clusters", lambda s: _problem(K=100, D=s, prior=FULL), (8, 16, 32, 64)),
    "pixels, convolutions": (
        "pixels, 8 channels",
        lambda s: _picture(math.isqrt(s), ConvolutionalLadder(channels=8)),
        (32**2, 64**2, 128**2),
    ),
    "pixels, ladder": (
        "pixels, 500 units",
        lambda s: _picture(math.isqrt(s), FullyConnectedLadder((500,))),
        (32**2, 64**2, 128**2),
    ),
    "batch": (
        "data, MNIST's ladder",
        lambda s: _problem(network=FullyConnectedLadder((500, 2000)), J=2, x_shape=(784,), batch_size=s),
        (128, 256, 512, 1_024, 2_048),
    ),
}


def growth(quick: bool, number: int) -> list[Row]:
    """Time of a step on one thread, and its memory in a process of its own, by what grows."""
    rows = list(_data(quick))
    for name in ("K, diagonal",) if quick else STEPS:
        what, problem, sizes = STEPS[name]
        sizes = sizes[:2] if quick else sizes
        jobs: dict[int, Job] = {size: make_step(*problem(size)) for size in sizes}
        taken = take_turns(jobs, 2 if quick else 9, 0.01 if quick else 0.1)
        del jobs
        peaks = {size: {} if quick else in_fresh_process(peak_of_problem, name, size) for size in sizes}
        rows += _with_slopes(
            {
                "grows": name,
                "of": what,
                "size": size,
                **summary("ms", [1e3 * s for s in taken[size]]),
                **peaks[size],
            }
            for size in sizes
        )
    return rows


def peak_of_problem(name: str, size: int) -> Row:
    """For another process, which cannot be sent a configuration with functions in it."""
    return peak_of_steps(*STEPS[name][1](size))


def _data(quick: bool) -> Iterator[Row]:
    """An epoch at a fixed batch, by the number of data: what ``fit`` takes for two more of them, halved."""
    sizes = (500, 1_000) if quick else (20_000, 40_000, 80_000)
    x = torch.rand(sizes[-1], 32)

    def train(size: int, epochs: int) -> None:
        config, _, _ = _problem(J=2, batch_size=100, epochs=epochs)
        fit(x[:size], config, progress=False)

    jobs = {(n, epochs): functools.partial(train, n, epochs) for n in sizes for epochs in (1, 3)}
    taken = take_turns(jobs, 3, 0.0)
    yield from _with_slopes(
        {
            "grows": "N",
            "of": "data, an epoch of batches of 100",
            "size": n,
            **summary("ms", [500 * (b - a) for a, b in zip(taken[n, 1], taken[n, 3], strict=True)]),
        }
        for n in sizes
    )


def _with_slopes(rows: Iterator[Row]) -> list[Row]:
    """Append the growth from each size to the next, as an exponent."""
    rows, before = list(rows), None
    for row in rows:
        row["exponent"] = math.nan if before is None else _slope(before, row, "ms")
        if "step_mib" in row:
            row["memory_exponent"] = math.nan if before is None else _slope(before, row, "step_mib")
        before = row
    for name, fitted in (("ms", "fitted"), ("step_mib", "fitted_memory")):
        if name in rows[0]:
            for row in rows:
                row[fitted] = _fitted(rows, name)
    return rows


def _fitted(rows: list[Row], name: str) -> float:
    sizes, values = (np.log([row[key] for row in rows]) for key in ("size", name))
    return float(np.polyfit(sizes, values, 1)[0])


def _slope(a: Row, b: Row, name: str) -> float:
    return math.log(b[name] / a[name]) / math.log(b["size"] / a["size"])
