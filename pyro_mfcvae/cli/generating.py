"""The command ``sample``."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pyro_mfcvae import plots
from pyro_mfcvae._utils.allocations import fitting
from pyro_mfcvae._utils.devices import threads
from pyro_mfcvae.cli import values
from pyro_mfcvae.cli.arguments import Commands, add_command, add_computing, add_out
from pyro_mfcvae.cli.models import add_model, open_model
from pyro_mfcvae.cli.output import folder, say, vacant, writing
from pyro_mfcvae.plots.cells import Cells, draw_square
from pyro_mfcvae.results.fitted import FittedMFCVAE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TYPICAL = 500  # data of the whole prior that give a picture its scale
DPI = 200
MAX_SQUARE, MAX_ROW = 400, 50  # data in a picture, and in one of its rows

EXAMPLES = """\
examples:
  python -m pyro_mfcvae sample result --facet 1 --cluster 3 -n 16 --out grid.png   one cluster, in a square
  python -m pyro_mfcvae sample result --facet 1 -n 8 --out facet_1.pdf             a row for each cluster
  python -m pyro_mfcvae sample result -n 1000 --out x.npy                          from the whole prior

Pictures of vectors have a bar for each number. Rows share the draws of
all but the facet, and have the index of the cluster and its mixture weight beside them. A file .npy holds an
array (N, ...) with the shape of a datum for the dots, and for all clusters of a facet (K, N, ...).
"""


def add_sample(commands: Commands) -> None:
    """Add the command ``sample``."""
    line = "generate data from a cluster"
    text = "Generate data from a cluster, from all clusters of a facet, or from the whole prior."
    command = add_command(commands, "sample", _sample, line, text, EXAMPLES)
    add_model(command)
    add = command.add_argument
    add("--facet", type=int, metavar="J", help="of which the cluster is given (default: none)")
    add("--cluster", type=int, metavar="K", help="which one of the facet (default: all, a row for each)")
    add(
        "-n",
        type=values.whole(1, values.MAX_NUMBER),
        default=16,
        metavar="N",
        help="data, of each cluster (default: 16)",
    )
    add_out(command, ".png", ".pdf", ".svg", ".npy")
    add(
        "--temperature",
        type=values.temperature,
        default=1.0,
        metavar="T",
        help="factor of the deviations of latents from their component's mean; 0 is the mean (default: 1)",
    )
    add("--seed", type=values.seed, default=0, help="of the draws (default: 0)")
    add_computing(command)


def _sample(arguments: argparse.Namespace) -> None:
    suffix = arguments.out.suffix.lower()
    _check_number(arguments, is_picture=suffix != ".npy")
    vacant(arguments.out, overwrite=arguments.overwrite)
    with threads(arguments.threads):
        fitted = open_model(arguments)
        of = _source(arguments, fitted)
        folder(arguments.out.parent, arguments.out.name)
        result = _array(arguments, fitted) if suffix == ".npy" else _figure(arguments, fitted)
    with writing(arguments.out) as file:
        if isinstance(result, np.ndarray):
            np.save(file, result)
        else:
            result.savefig(file, format=suffix[1:], dpi=DPI)
    how = f"temperature {arguments.temperature:g}, seed {arguments.seed}"
    say(f"Wrote {arguments.out}: {arguments.n} data generated from {of} ({how}).")


def _array(arguments: argparse.Namespace, fitted: FittedMFCVAE) -> npt.NDArray[np.float32]:
    """Generate data (n, *x_shape), or for all clusters of a facet (K, n, *x_shape)."""
    facet, cluster = arguments.facet, arguments.cluster
    temperature, seed = arguments.temperature, arguments.seed
    if facet is None:
        return fitted.sample(arguments.n, temperature=temperature, seed=seed)
    if cluster is not None:
        return fitted.sample(arguments.n, {facet: cluster}, temperature=temperature, seed=seed)
    every = range(fitted.clusters[facet])
    fitting("-n", arguments.n, 8 * len(every) * math.prod(fitted.model.x_shape))
    return np.stack(
        [fitted.sample(arguments.n, {facet: k}, temperature=temperature, seed=seed) for k in every]
    )


def _figure(arguments: argparse.Namespace, fitted: FittedMFCVAE) -> Figure:
    facet, cluster = arguments.facet, arguments.cluster
    if facet is None or cluster is not None:
        return draw_square(Cells.of(fitted, fitted.sample(TYPICAL)), _array(arguments, fitted))
    return plots.cluster_samples(
        fitted,
        facet,
        num_samples=arguments.n,
        temperature=arguments.temperature,
        seed=arguments.seed,
        clusters=range(fitted.clusters[facet]),
    )


def _check_number(arguments: argparse.Namespace, is_picture: bool) -> None:
    n, facet, cluster = arguments.n, arguments.facet, arguments.cluster
    if cluster is not None and facet is None:
        raise ValueError(f"--cluster: got {cluster} without --facet, expected both; say whose cluster it is")
    limit = MAX_ROW if facet is not None and cluster is None else MAX_SQUARE
    if is_picture and n > limit:
        raise ValueError(f"-n: got {n}, expected at most {limit} for such a picture; a file .npy takes more")


def _source(arguments: argparse.Namespace, fitted: FittedMFCVAE) -> str:
    """Name what is drawn from, if it is there."""
    facet, cluster = arguments.facet, arguments.cluster
    if facet is None:
        return "the whole prior"
    if facet not in range(fitted.num_facets):
        last = fitted.num_facets - 1
        raise ValueError(f"--facet: got {facet}, expected one of the model's facets, 0 .. {last}; choose one")
    K = fitted.clusters[facet]
    if cluster is None:
        return f"each of the {K} clusters of facet {facet}"
    if cluster not in range(K):
        raise ValueError(
            f"--cluster: got {cluster}, expected one of the clusters of facet {facet}, 0 .. {K - 1}; "
            "choose one"
        )
    return f"cluster {cluster} of facet {facet}"
