"""Which of several runs is chosen, and which should be: data with known partitions, runs that may go wrong.

    python tests/benchmarks/choosing_runs.py                     # about a minute a run
    python tests/benchmarks/choosing_runs.py --cases tabular0:1  # some of them
    python tests/benchmarks/choosing_runs.py --table runs.csv    # what was kept

A case is a recipe and the seed of a data set. For each it prints the NMI, facets and partitions matched one
to one, of the run with the highest ELBO, agreement, sharpness, and sums of these, of the best run and of the
mean of all; and Spearman's correlation of two of these figures with the NMI over the runs.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

import pyro_mfcvae as mf
from pyro_mfcvae.networks import FullyConnectedShared

CASES = (
    *("tabular0:1", "tabular3:4", "tabular0:4", "tabular3:3", "tabular0:5"),
    *("unmix:0", "unmix:1", "unmix:2", "auto:1", "auto:2", "auto:4"),
)
STEPS = {"tabular": 240, "unmix": (300, 120)}  # few, so that some runs go wrong
RULES = {
    "ELBO": lambda run: run["elbo"],
    "agreement": lambda run: run["agreement"],
    "sharpness": lambda run: run["sharpness"],
    "sharpness - redundancy": lambda run: run["sharpness"] - run["redundancy"],
    "agreement - redundancy": lambda run: run["agreement"] - run["redundancy"],
    "agreement + sharpness - redundancy": lambda run: run["agreement"] + run["sharpness"] - run["redundancy"],
}


def make_data(seed, n=1_500):
    """Two partitions, or three, and a ring or two: factors that have no clusters."""
    J = (2, 2, 3)[seed % 3]
    clusters = np.random.default_rng(100 + seed).integers(2, 7, J).tolist()
    return mf.data.make_facets(clusters, n, nuisance=1 + seed // 3, separation=6, seed=seed)


def make_config(recipe, clusters, scale=1.0):
    """Side by side: ``tabular0``, ``tabular3`` (with so large a nuisance); ``unmix``; ``auto``: J found."""
    J = len(clusters)
    facets = tuple(mf.Facet(K, 3, "full_gaussian") for K in clusters)
    if recipe.startswith("tabular"):
        steps = int(scale * STEPS["tabular"])
        stage = mf.Stage(
            tuple(range(J)),
            steps=steps,
            warm_up_steps=steps // 3,
            batch_size=100,
            decay_after=0.5,
            freeze=("encoder.facet_modules.*.0.0.*",),
        )
        return mf.MFCVAEConfig(
            facets=facets,
            likelihood=mf.likelihoods.Gaussian(sigma=0.3, standardize=True),
            network=mf.networks.FullyConnectedAdditive(widths=(64, 64)),
            schedule=mf.Schedule((stage,)),
            data_init="subspaces",
            nuisance=int(recipe[-1]),
        )
    auto = recipe == "auto"
    if auto:
        facets = (mf.Facet(10, 3 * J + 3, "full_gaussian"),)
    steps = [int(scale * number) for number in STEPS["unmix"]]
    return mf.presets.tabular(
        facets=facets,
        nuisance=0 if auto else 3,
        network=FullyConnectedShared(widths=(64,)),
        data_init=False,
        schedule=mf.Schedule.unmixed(
            len(facets), steps=steps, batch_size=100, unmix="auto" if auto else True
        ),
    )


def run_case(case, runs, scale=1.0):
    """One record for each run of a case."""
    recipe, seed = case.split(":")
    data = make_data(int(seed))
    labels = data.labels.numpy()
    config = make_config(recipe, (labels.max(0) + 1).tolist(), scale)
    fits = mf.fit(data.x, config, seeds=range(runs), workers=1, device="cpu", progress=False)
    records = []
    for (run, score), fitted in zip(fits.restarts.items(), fits, strict=True):
        table = mf.metrics.score_table(fitted.predict(data.x), labels)
        record = {"case": case, "seed": run, "facets": fitted.num_facets, **dataclasses.asdict(score)}
        records.append({**record, "nmi": mf.metrics.one_to_one(table)})
    r2 = fits.agreement(data.x).affine_r2
    for r, record in enumerate(records):
        record["affine_r2"] = float(np.delete((r2 + r2.T)[r] / 2, r).mean())
    return records


def table(records):
    """Markdown: for each case the NMI of what each rule chooses, and how the figures rank the runs."""
    columns = [*RULES, "best", "mean"]
    lines = [f"| case | {' | '.join(columns)} | ranks: ELBO, sharpness - redundancy |", "|---" * 10 + "|"]
    chosen = []
    for case, group in itertools.groupby(records, lambda record: record["case"]):
        runs = list(group)
        nmi = np.array([run["nmi"] for run in runs])
        row = [max(runs, key=rule)["nmi"] for rule in RULES.values()]
        row += [nmi.max(), nmi.mean()]
        chosen.append(row)
        ranks = [
            spearmanr(nmi, [RULES[name](run) for run in runs]).statistic
            for name in ("ELBO", "sharpness - redundancy")
        ]
        cells = [*(f"{value:.3f}" for value in row), ", ".join(f"{rank:z.2f}" for rank in ranks)]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    lines.append(f"| **mean** | {' | '.join(f'{value:.3f}' for value in np.mean(chosen, 0))} | |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="RECIPE:SEED")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps")
    parser.add_argument("--csv", type=Path, help="file to keep the figures of all runs in")
    parser.add_argument("--table", type=Path, help="only print the table of such a file")
    arguments = parser.parse_args()
    if arguments.table:
        with arguments.table.open(newline="", encoding="utf-8") as file:
            records = [
                {k: v if k == "case" else float(v) for k, v in row.items()} for row in csv.DictReader(file)
            ]
        print(table(records))
        return
    records = []
    for case in arguments.cases:
        records += run_case(case, arguments.runs, arguments.scale)
        for record in records[-arguments.runs :]:
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in record.items()}, flush=True)
        if arguments.csv:
            with arguments.csv.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, records[0], lineterminator="\n")
                writer.writeheader()
                writer.writerows(records)
    print(table(records))


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of clusters that died
    main()
