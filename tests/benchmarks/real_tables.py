"""Small tables of real data with known labels, from installed packages: nothing is downloaded.

    python tests/benchmarks/real_tables.py penguins wine digits --seeds 0 1 2 3 4

prints how well our model and others find the labels, which none of them sees. Everything is trained on all
rows and judged on them: it is clustering. Columns are standardised, for others as for our preset.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
import warnings

import numpy as np
import numpy.typing as npt
from reproduce import spread
from rivals import RIVALS, Labels
from sklearn import datasets
from sklearn.preprocessing import StandardScaler

import pyro_mfcvae as mf

Table = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], tuple[str, ...]]
MEASUREMENTS = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")


def penguins() -> Table:
    """Palmer's penguins: two partitions, species and sex, that both move all four measurements.

    Source: Horst, Hill and Gorman, "palmerpenguins: Palmer Archipelago (Antarctica) penguin data", 2020.

    Returns:
        The 333 complete rows (N, 4), bill length and depth and flipper length in mm and body mass in g;
        labels (N, 2), numbered in alphabetical order; and ("species", "sex").

    Raises:
        ImportError: the package palmerpenguins is not installed.
    """
    if importlib.util.find_spec("palmerpenguins") is None:
        raise ImportError("penguins: got no package palmerpenguins; pip install palmerpenguins")
    from palmerpenguins import load_penguins

    table = load_penguins().dropna()
    names = ("species", "sex")
    labels = [np.unique(table[name].to_numpy(dtype=str), return_inverse=True)[1] for name in names]
    x = table[list(MEASUREMENTS)].to_numpy(dtype=np.float32)
    return x, np.stack(labels, axis=1).astype(np.int64), names


def digits() -> Table:
    """scikit-learn's 1,797 handwritten digits: pixels (N, 64) from 0 to 16, labels (N, 1) and ("digit",)."""
    return _of_scikit_learn(datasets.load_digits(), "digit")


def wine() -> Table:
    """scikit-learn's 178 wines: 13 measurements (N, 13) in their units, labels (N, 1) and ("cultivar",)."""
    return _of_scikit_learn(datasets.load_wine(), "cultivar")


def _of_scikit_learn(data, name: str) -> Table:
    return data.data.astype(np.float32), data.target.astype(np.int64)[:, None], (name,)


TABLES = {"penguins": penguins, "wine": wine, "digits": digits}


def ours(x: npt.ArrayLike, clusters: tuple[int, ...], seed: int) -> Labels:
    """Cluster by the preset for tables, a facet of full covariances for each partition: labels (N, J)."""
    facets = tuple(mf.Facet(K, 3, "full_gaussian") for K in clusters)
    config = mf.presets.tabular(facets=facets)
    return mf.fit(x, config, seed=seed, device="cpu", progress=False).predict(x)


def compare(name: str, seeds: list[int]) -> list[str]:
    """Return the lines of a Markdown table: the adjusted Rand index of each label, and the NMI of each."""
    x, labels, names = TABLES[name]()
    clusters = tuple(int(K) for K in labels.max(0) + 1)
    standard = StandardScaler().fit_transform(x)
    lines = []
    for method, cluster in {"pyro_mfcvae": ours, **RIVALS}.items():
        data = x if method == "pyro_mfcvae" else standard
        start = time.perf_counter()
        found = [cluster(data, clusters, seed) for seed in seeds]
        seconds = (time.perf_counter() - start) / len(seeds)
        for j, label in enumerate(names):
            cells = [
                spread([score(run[:, j], labels[:, j]) for run in found], least=True)
                for score in (mf.metrics.ari, mf.metrics.nmi)
            ]
            lines.append(
                f"| {name} | {label} | {method} | {len(seeds)} | {' | '.join(cells)} | {seconds:.1f} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="+", choices=TABLES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    arguments = parser.parse_args()
    print(
        "| table | label | method | runs | ARI (least) | NMI (least) | seconds |", "|---" * 7 + "|", sep="\n"
    )
    for name in arguments.tables:
        print("\n".join(compare(name, arguments.seeds)), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of clusters that died
    main()
