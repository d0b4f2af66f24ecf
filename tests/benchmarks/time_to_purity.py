"""How long the first stage of the mnist preset takes to a purity of the deepest facet on the test images.

From the root of the repository, with MNIST in DATA as torchvision keeps it, on one thread:

    python tests/benchmarks/time_to_purity.py DATA --purity 0.9202 --seeds 0 1 2

The authors' code first reached 0.9202, the paper's mean, after 79 epochs: 1,406 s on one thread of a
machine with two cores of this kind (float32, batch 512, its own settings, seed 3). The clock stands
still while the clusters are compared with the labels, which nothing else sees.
"""

from __future__ import annotations

import argparse
import contextlib
import time

import torch

import pyro_mfcvae as mf
from pyro_mfcvae import metrics
from pyro_mfcvae._utils.turns import seeded
from pyro_mfcvae.training import Trainer
from pyro_mfcvae.training.callbacks import as_callback

REFERENCE_SECONDS = 1_406


class _Reached(Exception):  # noqa: N818 - no error
    """Training need not go on."""


def time_to_purity(data, target, seed, epochs=None):
    """Seconds, epochs and purity when it is first at least ``target`` (or at the end)."""
    train, test = (mf.data.mnist(data, train=is_train) for is_train in (True, False))
    labels = test.labels[:, 0].numpy()
    config = mf.presets.mnist()
    stage = config.stages[0]
    reached = {}
    start, spent = time.perf_counter(), 0.0

    def look(trainer, record):
        nonlocal spent
        now = time.perf_counter()
        with torch.no_grad():
            batches = [trainer.model.encode(batch) for batch in test.x.split(1_000)]
            deepest = [trainer.model.responsibilities(q)[-1].argmax(-1) for q in batches]
        reached.update(
            seconds=now - start - spent,
            epochs=len(trainer.history),
            purity=metrics.purity(torch.cat(deepest).numpy(), labels),
        )
        spent += time.perf_counter() - now
        if reached["purity"] >= target or len(trainer.history) == (epochs or stage.epochs):
            raise _Reached

    with seeded(seed, torch.device("cpu")):
        model = mf.MFCVAE(config, train.x.shape[1:])
        model.likelihood.calibrate(train.x)
        trainer = Trainer(model, train.x, seed=seed)
        trainer.callbacks.append(as_callback(look))
        with contextlib.suppress(_Reached):
            trainer.run(progress=False)
    return reached


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--purity", type=float, default=0.9202)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="stop after that many, whatever the purity")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for seed in arguments.seeds:
        found = time_to_purity(arguments.data, arguments.purity, seed, arguments.epochs)
        ratio = REFERENCE_SECONDS / found["seconds"]
        print(
            f"seed {seed}: purity {found['purity']:.4f} after {found['epochs']} epochs, "
            f"{found['seconds']:.0f} s, {ratio:.1f} times as fast",
            flush=True,
        )


if __name__ == "__main__":
    main()
