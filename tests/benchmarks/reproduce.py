"""Train a preset with several seeds, print its row, and add the runs to results.csv.

From the root of the repository, with the data sets in DATA as torchvision keeps them:

    python tests/benchmarks/reproduce.py mnist --data DATA --seeds 0 1 2 3 4
    python tests/benchmarks/reproduce.py shapes_floor --precision bfloat16
    python tests/benchmarks/reproduce.py paper_mnist paper_shapes_floor --seeds 0 --figures figures
    python tests/benchmarks/reproduce.py --table          # of all that is in results.csv

Training sees no labels; the scores are those of test data that were not trained on, and in columns that
begin with train_ those of the data that were. Figures are the paper's three and some more: examples of every
cluster, the most confident first, samples of every cluster, and compositions of facets.

README.md beside this file says what the rows of the paper are.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
import os
import statistics
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from scipy import ndimage

import pyro_mfcvae as mf

RESULTS = Path(__file__).with_name("results.csv")
SCORES = ("purity", "hungarian_accuracy", "nmi", "ari")


def stroke_thickness(images):
    """Of drawings (N, H, W) in [0, 1], in pixels: distances to the edge average a quarter of the width."""
    return np.array([4 * ndimage.distance_transform_edt(image > 0.5)[image > 0.5].mean() for image in images])


def slant(images):
    """Of drawings (N, H, W), in radians, from the second moments."""
    angles = []
    for image in images:
        rows, columns = np.indices(image.shape)
        weight = image / image.sum()
        row, column = (weight * rows).sum(), (weight * columns).sum()
        covariance = (weight * (rows - row) * (columns - column)).sum()
        angles.append(np.arctan2(-covariance, (weight * (rows - row) ** 2).sum()))
    return np.array(angles)


def explained_variance(values, clusters):
    """Fraction of the variance of ``values`` (N,) that lies between the clusters (N,)."""
    means = {k: values[clusters == k].mean() for k in np.unique(clusters)}
    fitted = np.array([means[k] for k in clusters])
    return fitted.var() / values.var()


def digits(data, seed):
    train, test = (mf.data.mnist(data, train=train) for train in (True, False))
    return train.x, test.x, test.labels, test.label_names, train.labels


def house_numbers(data, seed):
    train, test = (mf.data.svhn(data, train=train) for train in (True, False))
    return train.x, test.x, test.labels, test.label_names, train.labels


def shapes3d(subset):
    def load(data, seed):
        return pictures(getattr(mf.data.Shapes3D, subset)(data).split(test_fraction=0.2, seed=0))

    return load


def rendered(subset):
    def load(data, seed):
        return pictures(getattr(mf.data.RenderedShapes, subset)().split(test_fraction=0.2, seed=0))

    return load


SCENE = ("floor", "wall", "object", "azimuth")
SCENE_SIZE = 2_000  # pictures, at least
CAMERA_NOISE = 4.0  # standard deviation, of 255


def scene(J):
    """Rooms of J things that vary: hue of the floor, hue of the wall, the object, the azimuth.

    Which they are, and their values, are drawn for every seed. No thing has the colour of another. Where
    there are few pictures, each is taken several times, all with the noise of a camera.
    """

    def load(data, seed):
        rng = np.random.default_rng([seed, J])
        hues = [int(hue) for hue in rng.permutation(10)]
        values = {
            "floor": {"floor_hue": hues[:5]},
            "wall": {"wall_hue": hues[5:9]},
            "object": {"scale": sorted(rng.choice(8, 4, replace=False).tolist()), "shape": [0, 1, 2, 3]},
            "azimuth": {"orientation": sorted(rng.choice(15, 5, replace=False).tolist())},
        }
        varied = rng.choice(SCENE, J, replace=False)
        factors = {"object_hue": hues[9:]}
        for thing, of_thing in values.items():
            factors |= {name: v if thing in varied else v[:1] for name, v in of_thing.items()}
        rooms = mf.data.RenderedShapes(factors)
        times = -(-SCENE_SIZE // len(rooms))
        images = np.repeat(rooms.images, times, axis=0)
        images = np.clip(images + rng.normal(0, CAMERA_NOISE, images.shape), 0, 255).round().astype(np.uint8)
        return divided(images, np.repeat(rooms.labels, times, axis=0), rooms.label_names, rng)

    return load


def divided(images, labels, names, rng):
    """Pictures to train on, a fifth to test on, and labels of what varies."""
    order = rng.permutation(len(images))
    test, train = np.split(order, [len(order) // 5])
    varied = [f for f in range(labels.shape[1]) if len(np.unique(labels[:, f])) > 1]
    names = [names[f] for f in varied]
    return images[train], images[test], labels[test][:, varied], names, labels[train][:, varied]


def pictures(split):
    train, test = split
    varied = [f for f in range(test.labels.shape[1]) if len(np.unique(test.labels[:, f])) > 1]
    names = [test.label_names[f] for f in varied]
    return train.images, test.images, test.labels[:, varied], names, train.labels[:, varied]


def one_digit_per_cluster():
    """The mnist preset with as many clusters as there are digits, for the Hungarian accuracy."""
    style, digit = mf.presets.mnist().facets
    return mf.presets.mnist(facets=(style, dataclasses.replace(digit, clusters=10)))


def all_at_once(preset):
    """A preset of the paper without stages: all facets from the first step on, for as many epochs."""

    def changed():
        config = preset()
        first, *others = config.stages
        epochs = first.epochs + sum(stage.epochs for stage in others)
        stage = dataclasses.replace(first, introduces=tuple(range(len(config.facets))), epochs=epochs)
        return dataclasses.replace(config, schedule=mf.Schedule((stage,)))

    return changed


def with_prior(preset, kind):
    """A preset of the paper with other covariances, all else of the priors as it is."""

    def changed():
        config = preset()
        facets = [dataclasses.replace(facet, prior=kind(**vars(facet.prior))) for facet in config.facets]
        return dataclasses.replace(config, facets=facets)

    return changed


def of_network(network):
    return lambda: mf.presets.paper_mnist(network=network)


def single(**fields):
    """The paper's settings for MNIST with one facet, of all dimensions, in the layers of the deepest one."""
    config = all_at_once(mf.presets.paper_mnist)()
    (stage,) = config.stages
    deepest = config.facets[-1]
    return dataclasses.replace(
        config,
        facets=(dataclasses.replace(deepest, latent_dim=sum(config.latent_dims)),),
        network=mf.networks.FullyConnectedShared(widths=WIDTHS),
        schedule=mf.Schedule((dataclasses.replace(stage, introduces=(0,)),)),
        **fields,
    )


WIDTHS = (500, 2000)  # of the paper's encoder
VADE_SAMPLES = 10  # with one, its objective is the paper's
PAPER_MNIST = {
    "paper_mnist": mf.presets.paper_mnist,
    "paper_mnist_joint": all_at_once(mf.presets.paper_mnist),
    "paper_mnist_full": with_prior(mf.presets.paper_mnist, mf.priors.FullGaussian),
    "paper_mnist_shared": of_network(mf.networks.FullyConnectedShared(widths=WIDTHS)),
    "paper_mnist_shared_decoder": of_network(mf.networks.FullyConnectedSharedDecoder(widths=WIDTHS)),
}
PAPER_SINGLE = {
    "paper_mnist_single": single,
    "paper_mnist_vade": functools.partial(single, elbo="vade", num_kl_samples=VADE_SAMPLES),
}
PAPER_PICTURES = {
    f"paper_{data}_{subset}{change}": (load(subset), changed(preset), "closest", None)
    for subset, preset in (
        ("floor", mf.presets.paper_shapes3d_floor),
        ("wall", mf.presets.paper_shapes3d_wall),
    )
    for data, load in (("shapes", rendered), ("shapes3d", shapes3d))
    for change, changed in (
        ("", lambda preset: preset),
        ("_joint", all_at_once),
        ("_diagonal", lambda preset: with_prior(preset, mf.priors.DiagonalGaussian)),
    )
}


def style(images, clusters):
    """What facet 0 of MNIST says of how a digit is drawn."""
    drawings = images.reshape(len(images), 28, 28).numpy()
    return {
        f"explained_{name}": explained_variance(measure(drawings), clusters[:, 0])
        for name, measure in (("thickness", stroke_thickness), ("slant", slant))
    }


def merged(fitted, train):
    """Join the clusters of the deepest facet, as many as are left by the modularity of the neighbours."""
    return fitted.merge(fitted.num_facets - 1, train)


ROWS = {
    # name: (data, preset, (facet, label) that the row is about, further measures, what is done to the model)
    "mnist": (digits, mf.presets.mnist, [(-1, "digit"), (0, "digit")], style),
    "mnist_merged": (digits, mf.presets.mnist, [(-1, "digit")], None, merged),
    "mnist_k10": (digits, one_digit_per_cluster, [(-1, "digit")], None),
    **{name: (digits, preset, [(-1, "digit"), (0, "digit")], style) for name, preset in PAPER_MNIST.items()},
    **{name: (digits, preset, [(0, "digit")], style) for name, preset in PAPER_SINGLE.items()},
    **PAPER_PICTURES,
    "paper_svhn": (house_numbers, mf.presets.paper_svhn, [(-1, "digit"), (0, "digit")], None),
    "shapes_floor": (rendered("floor"), mf.presets.shapes3d, "closest", None),
    "shapes_wall": (rendered("wall"), mf.presets.shapes3d, "closest", None),
    **{f"scene_{J}": (scene(J), mf.presets.shapes3d, "closest", None) for J in (2, 3, 4)},
    "shapes_floor_ladder": (
        rendered("floor"),
        mf.presets.shapes3d_ladder,
        [(-1, "floor_hue"), (0, "shape")],
        None,
    ),
    "shapes_wall_ladder": (
        rendered("wall"),
        mf.presets.shapes3d_ladder,
        [(-1, "wall_hue"), (0, "shape")],
        None,
    ),
}
FACETS = {
    # name: (kind, number of facets, preset), each seed with data of its own
    f"facets_{kind}_{J}": (kind, J, preset)
    for kind, preset in (
        ("subspaces", mf.presets.tabular),
        ("patches", mf.presets.images),
        ("bent", mf.presets.tabular),
    )
    for J in (2, 3)
}
KINDS = ("subspaces", "patches", "bent")
BEND = 0.5


def run_facets(name, seed, precision="float32"):
    """Draw data with independent partitions, and factors that are none; one record, of all facets."""
    kind, J, preset = FACETS[name]
    rng = np.random.default_rng([seed, J, KINDS.index(kind)])
    clusters = rng.integers(2, 7, J).tolist()
    n, nuisance = int(rng.integers(1_000, 4_001)), int(rng.integers(1, 4))
    bent = {"kind": "subspaces", "bend": BEND} if kind == "bent" else {"kind": kind}
    data = mf.data.make_facets(clusters, n, nuisance=nuisance, seed=seed, **bent)
    train, test = data.split(test_fraction=0.2, seed=seed)
    config = preset(facets=tuple(mf.Facet(K, 3, "full_gaussian") for K in clusters))
    start, cpu_start = time.perf_counter(), time.process_time()
    fitted = mf.fit(train.x, config, seed=seed, device="cpu", precision=precision, progress=False)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    evaluation = fitted.evaluate(test.x, test.labels)
    matched = tuple(np.transpose(mf.metrics.matching(evaluation.scores["nmi"])))  # facets, partitions
    record = {
        "row": name,
        "seed": seed,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "steps": fitted.history[-1].steps,
        **environment(fitted),
        "elbo": fitted.score(test.x),
        "facet": "all",
        "label": "one to one",
        **{score: evaluation.scores[score][matched].mean() for score in SCORES},
        "alive": int(100 * (evaluation.alive / evaluation.clusters).min()),  # of the worst facet
        "clusters": "100 %",
        "data": f"K = {clusters}; n = {n}; nuisance = {nuisance}",
    }
    return [{k: round(float(v), 4) if isinstance(v, float) else v for k, v in record.items()}]


def environment(fitted):
    """What the model was trained in."""
    of = fitted.history.environment
    return {
        "threads": of.threads,
        "cpu": of.processor,
        "instructions": of.instructions,
        "precision": of.precision,
    }


def run(name, data, seed, precision="float32", figures=None, checkpoints=None):
    """Fit one seed; one record for each facet and label of the row.

    Args:
        name: the row.
        data: folder of the data sets.
        seed: seed of training.
        precision: that of the networks.
        figures: folder for pictures; None draws none.
        checkpoints: folder in which an interrupted run is kept, and from which it goes on; None keeps none.
    """
    if name in FACETS:
        return run_facets(name, seed, precision)
    load, preset, _, _, *changes = ROWS[name]
    train, test, labels, label_names, train_labels = load(data, seed)
    folder = None if checkpoints is None else Path(checkpoints) / name
    options = {"device": "cpu", "precision": precision, "checkpoint_dir": folder, "progress": False}
    fitted = mf.fit(train, preset(), seed=seed, **options)
    for change in changes:
        fitted = change(fitted, train)
    if figures is not None:
        mf.plots.save_all(fitted, test, Path(figures) / f"{name}_seed_{seed}", labels, label_names)
    return records_of(name, seed, fitted, test, labels, label_names, train, train_labels)


def records_of(name, seed, fitted, test, labels, label_names, train=None, train_labels=None):
    """One record for each facet and label of a row, of a model that is there."""
    pairs, measures = ROWS[name][2:4]
    evaluation = fitted.evaluate(test, labels, label_names)
    of_train = None if train is None else fitted.evaluate(train, train_labels, label_names)
    clusters = fitted.predict(test)
    shared = {
        "row": name,
        "seed": seed,
        "seconds": round(fitted.history[-1].seconds, 1),
        "steps": fitted.history[-1].steps,
        **environment(fitted),
        "elbo": round(fitted.score(test), 3),
        "facets": fitted.num_facets,
        "redundancy": round(float(np.max(evaluation.redundancy - np.eye(fitted.num_facets))), 4),
    }
    if pairs == "closest":
        pairs = [(evaluation.best_facet(label), label) for label in label_names]
    records = []
    for facet, label in pairs:
        record = {**shared, "facet": facet % len(evaluation.clusters), "label": label}
        record |= {score: evaluation.score(facet, label, score) for score in SCORES}
        if of_train is not None:
            record |= {f"train_{score}": of_train.score(facet, label, score) for score in SCORES}
        record |= {"alive": int(evaluation.alive[facet]), "clusters": evaluation.clusters[facet]}
        if measures and facet == 0:
            record |= measures(test, clusters)
        records.append({k: round(v, 4) if isinstance(v, float) else v for k, v in record.items()})
    return records


KEY = ("row", "seed", "precision", "cpu", "instructions", "threads")


def append(records):
    """Add records to the file; a run of the same row and seed, of the same processor, is replaced."""
    new = {key(record) for record in records}
    old = [record for record in read() if key(record) not in new]
    fields = list(dict.fromkeys(field for record in [*old, *records] for field in record))
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*old, *records])


def key(record):
    """What makes a run another."""
    return tuple(str(record.get(field, "")) for field in KEY)


def read():
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as file:
        return [{k: v for k, v in row.items() if v != ""} for row in csv.DictReader(file)]


def table():
    """Mean +- standard deviation and the least of all runs of every row, facet and label, as Markdown."""
    groups = defaultdict(list)
    for record in read():
        groups[record["row"], record["precision"], _facet(record), record["label"]].append(record)
    head = ["preset", "precision", "facet", "label", "runs", "purity (least)", "Hungarian accuracy"]
    head += ["NMI (least)", "ARI", "alive", "median seconds"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for group, records in sorted(groups.items(), key=lambda item: item[0][:2]):
        scores = [
            spread([float(r[score]) for r in records], least=score in ("purity", "nmi")) for score in SCORES
        ]
        alive = [int(r["alive"]) for r in records]
        least, of = (
            f"{min(v)}" if min(v) == max(v) else f"{min(v)} to {max(v)}"
            for v in (alive, [r["clusters"] for r in records])
        )
        seconds = f"{statistics.median(float(r['seconds']) for r in records):.0f}"
        cells = [*group, _processors(records), *scores, f"{least} of {of}", seconds]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def train_table():
    """Purity of training and of test data, of all runs that have both, as Markdown; empty if none has."""
    groups = defaultdict(list)
    for record in read():
        if "train_purity" in record:
            groups[record["row"], record["precision"], _facet(record), record["label"]].append(record)
    head = ["preset", "precision", "facet", "label", "runs", "purity, training", "purity, test"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for group, records in sorted(groups.items()):
        spreads = (spread([float(r[name]) for r in records]) for name in ("train_purity", "purity"))
        lines.append(f"| {' | '.join([*group, _processors(records), *spreads])} |")
    return "\n".join(lines) if groups else ""


def _facet(record):
    """The facet of a record; those that were found have no order."""
    return "closest" if ROWS.get(record["row"], ("",) * 4)[2] == "closest" else record["facet"]


def _processors(records):
    """How many runs there are, and on which processors."""
    names = Counter(record["cpu"].split()[0].removesuffix("(R)") for record in records)
    return ", ".join(f"{number} {name}" for name, number in names.items())


def spread(values, digits=3, least=False):
    """Mean +- standard deviation of values and, if asked for, the least in brackets."""
    mean = f"{statistics.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    lowest = f" ({min(values):.{digits}f})" if least else ""
    return f"{mean} +- {statistics.stdev(values):.{digits}f}{lowest}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    rows = [*ROWS, *FACETS]
    parser.add_argument("rows", nargs="*", choices=[*rows, []], metavar="row", help=", ".join(rows))
    parser.add_argument("--data", default=os.environ.get("PYRO_MFCVAE_DATA", "data"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--figures", help="folder for pictures of every run (default: none)")
    parser.add_argument("--checkpoints", help="folder in which runs go on when interrupted (default: none)")
    parser.add_argument("--table", action="store_true", help="only print the table of what is recorded")
    arguments = parser.parse_args()
    if not arguments.table:
        for name in arguments.rows:
            for seed in arguments.seeds:
                kept = {"figures": arguments.figures, "checkpoints": arguments.checkpoints}
                records = run(name, arguments.data, seed, arguments.precision, **kept)
                append(records)
                for record in records:
                    print({k: v for k, v in record.items() if k != "cpu"}, flush=True)
    print(table(), train_table(), sep="\n\n")


if __name__ == "__main__":
    main()
