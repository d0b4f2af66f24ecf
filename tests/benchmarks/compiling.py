"""What compiling a training step gains and costs, and whether channels-last pays for convolutions.

The steps take turns within one run, so that what else the machine does falls on all; time is that of this
thread on a processor. From the root of the repository, on one thread:

    OMP_NUM_THREADS=1 python tests/benchmarks/compiling.py
"""

from __future__ import annotations

import argparse
import math
import statistics
import time

import torch

from pyro_mfcvae import MFCVAE, Facet, MFCVAEConfig, Schedule, Stage, presets
from pyro_mfcvae.model.loss import make_loss
from pyro_mfcvae.networks import ConvolutionalLadder, FullyConnectedLadder
from pyro_mfcvae.training.optimizers import make_optimizer
from pyro_mfcvae.training.step import Stepper, without_validation

PICTURE, DIGIT = (3, 32, 32), (1, 28, 28)


def _ladder(widths, facets=((10, 5), (10, 5))):
    return MFCVAEConfig(
        facets=tuple(Facet(K, D) for K, D in facets),
        network=FullyConnectedLadder(widths),
        schedule=Schedule((Stage((0, 1), 1),)),
    )


COMPILED = {
    # name: (configuration, shape of a datum, batch size)
    "mnist": (_ladder((500, 2000), ((25, 5), (25, 5))), DIGIT, 512),
    "shapes3d": (presets.shapes3d(), PICTURE, 96),
    "small": (_ladder((64, 64)), DIGIT, 64),
    "tiny": (_ladder((16, 16), ((3, 2), (3, 2))), (8,), 64),
}
CHANNELS_LAST = {
    "conv_16": (presets.shapes3d(network=ConvolutionalLadder(channels=16)), PICTURE, 64),
    "svhn": (presets.svhn(), PICTURE, 150),
}


def rows(quick: bool) -> list[dict[str, float | str]]:
    """A row for each setting: milliseconds of the plain and the other step, and their ratio.

    Args:
        quick: whether to measure only the smallest setting of each kind, and a few rounds.
    """
    compiled = {"tiny": COMPILED["tiny"]} if quick else COMPILED
    last = {"conv_16": CHANNELS_LAST["conv_16"]} if quick else CHANNELS_LAST
    rounds = 3 if quick else 21
    with without_validation():
        return [
            *(_row("compiled", name, *setting, rounds) for name, setting in compiled.items()),
            *(_row("channels_last", name, *setting, rounds) for name, setting in last.items()),
        ]


def _row(what, name, config, x_shape, batch_size, rounds):
    torch.manual_seed(0)
    x = torch.rand(batch_size, *x_shape)
    plain, other = (_step(config, x, how) for how in ("plain", what))
    expected = _losses(plain)
    start = time.perf_counter()
    losses = _losses(other)  # compiles
    seconds = time.perf_counter() - start
    if not all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(expected, losses, strict=True)):
        raise AssertionError(f"{name}: the losses differ, {expected} and {losses}")
    started = time.thread_time()
    plain()
    repeats = max(1, round(0.2 / (time.thread_time() - started)))
    times = []
    for i in range(rounds):
        each = {}
        for step in (plain, other) if i % 2 else (other, plain):
            started = time.thread_time()
            for _ in range(repeats):
                step()
            each[step] = 1e3 * (time.thread_time() - started) / repeats
        times.append((each[plain], each[other]))
    plain_ms, other_ms = (statistics.median(column) for column in zip(*times, strict=True))
    low, middle, high = statistics.quantiles([b / a for a, b in times], n=4)
    row = {"what": what, "setting": name, "plain_ms": plain_ms, "other_ms": other_ms}
    row |= {"ratio": middle, "ratio_low": low, "ratio_high": high}
    if what == "compiled":
        saved = 1e-3 * plain_ms * (1 - middle)
        row |= {"compile_seconds": seconds, "steps_to_pay": seconds / saved if saved > 0 else math.inf}
    return row


def _step(config, x, how):
    """A function that takes a step on the same batch."""
    torch.manual_seed(0)
    model = MFCVAE(config, x.shape[1:]).train()
    if how == "channels_last":
        model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    stepper = Stepper(make_loss(model), how == "compiled")
    stepper.begin(1)
    optimizer = make_optimizer("adam", model.parameters(), 1e-4)
    return lambda: stepper(x, model.full_weights, optimizer)


def _losses(step):
    torch.manual_seed(1)
    return [step().item() for _ in range(3)]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest settings only")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for row in rows(arguments.quick):
        line = (
            f"{row['what']:13} {row['setting']:8} {row['plain_ms']:7.2f} ms to {row['other_ms']:7.2f} ms, "
            f"ratio {row['ratio']:.3f} (quartiles {row['ratio_low']:.3f} to {row['ratio_high']:.3f})"
        )
        if row["what"] == "compiled":
            line += (
                f", compiled in {row['compile_seconds']:.1f} s: pays after {row['steps_to_pay']:,.0f} steps"
            )
        print(line)


if __name__ == "__main__":
    main()
