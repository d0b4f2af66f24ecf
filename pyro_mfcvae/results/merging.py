"""The joining of a fitted facet's clusters."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from pyro_mfcvae._utils.turns import seeded
from pyro_mfcvae.priors import FacetPrior
from pyro_mfcvae.priors.joining import by_misclassification, by_modularity, numbered, summed
from pyro_mfcvae.results.levels import Integers, Level

Array = npt.NDArray[np.floating[Any]]
Method = Literal["modularity", "demp"]

THRESHOLD = 0.025  # of the misclassification probability, above which clusters are joined
DRAWS = 100  # from a cluster without data, which tell where it belongs


def join(
    prior: FacetPrior,
    level: Level,
    z: Array,
    r: Array,
    *,
    clusters: int | None,
    method: Method,
    threshold: float,
    seed: int,
) -> Level:
    """Join clusters of a facet, as :meth:`FittedMFCVAE.merge` describes.

    Args:
        prior: mixture of the facet.
        level: clusters to start from, C of them.
        z: latents (N, D).
        r: probabilities of these clusters (N, C).
        clusters: number of clusters to stop at; None takes what the criterion finds.
        method: criterion.
        threshold: misclassification probability at which ``"demp"`` stops.
        seed: seed of the draws from clusters without data.

    Raises:
        ValueError: if fewer clusters have data than shall be left, or a single datum has no neighbours.
    """
    is_living = np.bincount(r.argmax(1), minlength=r.shape[1]) > 0
    if clusters is not None and clusters > is_living.sum():
        raise ValueError(
            f"clusters: got {clusters}, expected at most the {is_living.sum()} that have data here; give "
            "fewer, or more data"
        )
    hosts = living_hosts(prior, level, is_living, seed)
    start = numbered(hosts[level.clusters])  # (K,), 0 .. M - 1, by first components
    first = np.unique(start, return_index=True)[1]  # (M,)
    place = np.empty(len(hosts), dtype=np.int64)  # (C,)
    place[level.clusters] = start
    r = summed(r, place)
    joins = by_modularity(z, r) if method == "modularity" else by_misclassification(r)
    if clusters is None:
        values = np.array(joins.values)
        done = values.argmax() if method == "modularity" else (values < threshold).argmax()
        clusters = len(values) - int(done)
    return Level(
        joins.partition(clusters)[start],
        method,
        tuple((int(first[i]), int(first[j])) for i, j in joins.order),
        joins.values,
    )


@torch.no_grad()
def living_hosts(prior: FacetPrior, level: Level, is_living: npt.NDArray[np.bool_], seed: int) -> Integers:
    """Find for each cluster without data that with data which would take most of what it generates.

    Args:
        prior: mixture of the facet.
        level: clusters, C of them.
        is_living: whether a cluster has data (C,).
        seed: seed of what is generated.

    Returns:
        Indices of clusters (C,); those with data are their own.
    """
    hosts = np.arange(len(is_living))
    weights = prior.weights()
    device = weights.logits.device
    is_out = torch.from_numpy(~is_living[level.clusters]).to(device)  # (K,)
    with seeded(seed, device):
        for k in np.flatnonzero(~is_living):
            c = level.components(prior, torch.full((DRAWS,), int(k), device=device))
            log_joint = prior.all_components().log_prob(prior.draw(c)).T + weights.logits  # (DRAWS, K)
            r = level.sums(log_joint.masked_fill(is_out, -torch.inf).softmax(-1)).mean(0)
            hosts[k] = int(r.argmax())
    return hosts
