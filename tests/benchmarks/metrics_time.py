"""Time of the metrics, and how it grows with the number of data.

Two facets of 25 and 60 clusters, four labels of 10, 5, 4 and 3 classes that follow from them, with noise.
From the root of the repository:

    python tests/benchmarks/metrics_time.py
"""

from __future__ import annotations

import argparse
import itertools
import time

import numpy as np

from pyro_mfcvae import metrics
from pyro_mfcvae.metrics.evaluation import evaluate

CLUSTERS, CLASSES = (25, 60), (10, 5, 4, 3)


def make(N, seed=0):
    """Clusters (N, 2), labels (N, 4) and responsibilities of which they are the argmax."""
    rng = np.random.default_rng(seed)
    responsibilities = []
    for K in CLUSTERS:
        r = rng.random((N, K), dtype=np.float32) ** 8
        responsibilities.append(r / r.sum(1, keepdims=True))
    clusters = np.stack([r.argmax(1) for r in responsibilities], 1)
    noise = rng.random((N, len(CLASSES))) < 0.2
    labels = np.stack([clusters[:, f % 2] % L for f, L in enumerate(CLASSES)], 1)
    return clusters, np.where(noise, rng.integers(0, 3, labels.shape), labels), responsibilities


def rows(clusters, labels, responsibilities):
    """Name and call of each measurement."""
    c, y = clusters[:, 1], labels[:, 0]
    for name in (
        "purity",
        "class_weighted_purity",
        "hungarian_accuracy",
        "nmi",
        "ari",
        "homogeneity",
        "variation_of_information",
    ):
        yield name, lambda name=name: getattr(metrics, name)(c, y)
    yield "calibration, 1 facet", lambda: metrics.calibration(responsibilities[1], y)
    yield "agreement of 5 runs", lambda: metrics.agreement([np.roll(clusters, r, 0) for r in range(5)])
    yield "evaluate, 2 facets, 4 labels", lambda: evaluate(clusters, labels)
    yield (
        "the same with responsibilities",
        lambda: evaluate(clusters, labels, responsibilities=responsibilities),
    )


def seconds(call, repeats=3):
    """The shortest of several times."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    sizes = parser.parse_args().sizes
    table = [[(name, seconds(call)) for name, call in rows(*make(N))] for N in sizes]
    heads = [f"{N:>12,d}" for N in sizes] + [f"{b // a:>5d} N" for a, b in itertools.pairwise(sizes)]
    print(f"{'seconds, and growth':32}{''.join(heads)}")
    for measured in zip(*table, strict=True):
        times = [t for _, t in measured]
        growth = (f"{b / a:>6.1f}x" for a, b in itertools.pairwise(times))
        print(f"{measured[0][0]:32}{''.join(f'{t:12.4f}' for t in times)}{''.join(growth)}")


if __name__ == "__main__":
    main()
