r"""Unmixing: independent subspaces of the latent of a plain VAE become facets.

A deep generative model whose latent has a mixture of Gaussians as prior, and whose decoder is piecewise
affine and injective, is identifiable up to an affine map: two such models with the same p(x) differ in their
latents by :math:`u' = A u + b` alone (Kivva et al., 2022). A facet of its own for every factor is a product
of mixtures, which is such a mixture. So when one latent u has been trained to fit the data, what is left to
find is linear: a basis in which the latent is a product.

.. math::
    z = T^\top (u - m), \qquad p(z) = \prod_j p_j(z_j) \; p_{\mathrm{rest}}(z_{\mathrm{rest}})

Independent components of u are as independent as single directions can be, and groups of those that still
depend on each other, :func:`merge_groups`, are the subspaces (Cardoso, 1998). What no facet takes is the
nuisance. The function that the networks compute stays the same (:func:`turn_latents`), so nothing that
training has learned is lost, and all facets go on from there.

**What is assumed**, and when it fails. The factors vary independently of each other: what always occurs
together is one factor. Each is not Gaussian: a rotation of Gaussian factors cannot be seen, and they end in
the nuisance. The VAE was trained with a standard normal prior, which is no mixture with clusters: it has
fitted the data only as far as its decoder undoes that, and where a network is too deep it may bend the
latent so that no linear basis separates the factors; one hidden layer was found to do better than two. And
where one factor hides another, as a wall does an object of its colour, the two do depend on each other.

References:
    Kivva, Rajendran, Ravikumar, Aragam (2022), Identifiability of Deep Generative Models without Auxiliary
    Information, NeurIPS, arXiv:2206.10044.

    Cardoso (1998), Multidimensional Independent Component Analysis, ICASSP.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pyro_mfcvae._utils.turns import seeded
from pyro_mfcvae.config.mfcvae import MFCVAEConfig
from pyro_mfcvae.config.schedule import Schedule
from pyro_mfcvae.config.stage import Stage
from pyro_mfcvae.model.mfcvae import MFCVAE
from pyro_mfcvae.networks.turning import check_can_turn, turn_latents
from pyro_mfcvae.priors import as_prior
from pyro_mfcvae.priors.joining import count_clusters, separate_clusters
from pyro_mfcvae.training.components import STARTS, independent_components
from pyro_mfcvae.training.grouping import Group, Groups, assign_groups, dependence_matrix, merge_groups

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# Of the latent's variance, that is unmixed. What is left holds traces of how factors interact in the picture,
# which whitening would make as large as the factors.
EXPLAINED = 0.985
MIN_VARIANCE = 0.02  # of a direction that data make use of; the prior of the latent has one
MIN_DEPENDENCE = 0.07  # of components that belong to one factor; what is left between factors is less
CLEAR_DEPENDENCE = 0.1  # below, groups whose levels are apart and independent are of two factors
MIN_INFORMATION = 0.05  # of levels that depend on each other: the adjusted mutual information
LEVEL_NOISE = 0.2  # by which a factor's level may move with another factor, in standard deviations
COUNTING_SIZE = 4_000  # data that clusters are counted in
ENCODING_BATCH = 1_000  # data that are encoded at a time
HEADS_BATCH = 5_000  # data that the new standard deviations are fitted to


class UnmixingWarning(UserWarning):
    """A latent has no independent subspaces with clusters."""


@dataclass(frozen=True, eq=False)
class Unmixing:
    """Independent components of a latent, and which of them every facet took.

    Attributes:
        directions: T, shape (D, D): the columns of component i are its direction; those of the facets come
            first, in their order, and then those of the nuisance.
        center: m, shape (D,).
        latent_dims: number of components of each of the J facets.
        clusters: number of clusters of each facet.
        components: dependence between every two components, shape (D, D), in [0, 1].
        between: dependence between every two facets, and last of the nuisance if there is one, in [0, 1].
    """

    directions: Floats
    center: Floats
    latent_dims: tuple[int, ...]
    clusters: tuple[int, ...]
    components: Floats
    between: Floats

    @property
    def nuisance(self) -> int:
        """Number of components that no facet took."""
        return len(self.center) - sum(self.latent_dims)

    def state_dict(self) -> dict[str, Any]:
        """Return all attributes, as JSON knows them."""
        fields = dataclasses.asdict(self)
        return {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in fields.items()}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Unmixing:
        """Make what :meth:`state_dict` came from."""
        directions, center, components, between = (
            np.asarray(state[name], np.float64) for name in ("directions", "center", "components", "between")
        )
        dims, clusters = (tuple(map(int, state[name])) for name in ("latent_dims", "clusters"))
        return cls(directions, center, dims, clusters, components, between)

    def __str__(self) -> str:
        names = [f"facet {j}" for j in range(len(self.latent_dims))]
        lines, first = [], 0
        for j, (name, d, K) in enumerate(zip(names, self.latent_dims, self.clusters, strict=True)):
            others = [f"{names[i]} {self.between[j, i]:.3f}" for i in range(len(names)) if i != j]
            lines.append(
                f"{name}: components {first} to {first + d - 1}, {K} clusters"
                + (f"; depends on {', '.join(others)}" if others else "")
            )
            first += d
        if self.nuisance:
            lines.append(f"nuisance: components {first} to {first + self.nuisance - 1}")
        return "\n".join(lines)


def check_can_unmix(model: MFCVAE) -> None:
    """Raise a ValueError unless the latents of a model can be dealt out anew.

    Args:
        model: its networks must be such as :func:`turn_latents` can change, and its facets' priors there for
            any dimension, since that of a subspace is not known before.
    """
    check_can_turn(model.encoder, model.decoder)
    for j, facet in enumerate(model.config.facets):
        try:
            with seeded(0, torch.device("cpu")):
                as_prior(cast(Any, facet.prior)(facet.clusters, 1), facet.clusters, 1)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"unmix: got a prior of facet {j} that is not there for every dimension, expected one for "
                f"any, since a subspace may have a single one ({error})"
            ) from error


@torch.no_grad()
def unmix(model: MFCVAE, sample: Tensor, *, seed: int, auto: bool = False) -> Unmixing:
    """Turn the latents of a model into independent subspaces, one for each facet, and the rest.

    Args:
        model: the model, all of whose facets were trained against a standard normal; it is changed in place.
        sample: data, shape (N, *x_shape), on the model's device.
        seed: seed of the search.
        auto: whether to find the numbers of facets and clusters, too; else they are the configuration's.

    Returns:
        What was found.

    Raises:
        ValueError: for networks whose latents cannot be turned.
    """
    model.eval()
    u = torch.cat([_means(model, batch) for batch in sample.split(ENCODING_BATCH)]).double().cpu().numpy()
    facet = model.config.facets[0]
    clusters = [facet.clusters for facet in model.config.facets]
    found = find_unmixing(u, facet.clusters if auto else clusters, seed)
    config = unmixed_config(model.config, found)
    encoder = turn_latents(
        model.encoder,
        model.decoder,
        model.inputs(sample[:HEADS_BATCH]),
        torch.from_numpy(found.directions),
        torch.from_numpy(found.center),
        config.latent_dims,
    )
    model.reconfigure(config, (encoder, model.decoder))
    return found


def find_unmixing(u: Floats, clusters: int | Sequence[int], seed: int) -> Unmixing:
    """Find independent subspaces of a latent.

    Args:
        u: means of q(u | x), shape (N, D).
        clusters: K_j of each facet; one number finds the number of facets, with at most so many clusters.
        seed: seed of the search.

    Returns:
        What was found.

    Raises:
        ValueError: for fewer dimensions than facets.

    Warns:
        UnmixingWarning: if the number of facets is asked for, and no subspace has clusters.
    """
    from scipy.linalg import null_space

    center = u.mean(0)
    used = independent_components(u, u.shape[1], seed, explained=EXPLAINED, starts=STARTS)
    T = np.concatenate([used, null_space(used.T)], 1)
    s = ((u - center) @ T)[np.random.default_rng(seed).permutation(len(u))]
    # What data make no use of stays small, so that its noise makes no clusters.
    s = s / np.maximum(s.std(0), np.sqrt(MIN_VARIANCE))
    sizes = (clusters,) if isinstance(clusters, int) else tuple(clusters)
    levels = _Levels(s, max(sizes), seed)
    if isinstance(clusters, int):
        groups = _groups(levels, used.shape[1], 1)
        chosen, sizes = _counted(levels, groups, clusters)
    elif len(sizes) == 1 and used.shape[1]:
        chosen = (tuple(range(used.shape[1])),)  # a single facet takes all that varies
    else:
        chosen = _assigned(levels, _groups(levels, used.shape[1], len(sizes)), sizes)
    taken = list(itertools.chain(*chosen))
    rest = tuple(i for i in range(T.shape[1]) if i not in taken)
    order = (*taken, *rest)
    return Unmixing(
        T[:, order],
        center,
        tuple(map(len, chosen)),
        sizes,
        dependence_matrix(s, tuple((i,) for i in order)),
        dependence_matrix(s, (*chosen, *([rest] if rest else []))),
    )


class _Levels:
    """The clusters that are apart, which are the levels of a factor.

    Args:
        s: coordinates, shape (N, D), each with a variance of one.
        most: number of clusters, at most.
        seed: seed of the mixtures.
    """

    def __init__(self, s: Floats, most: int, seed: int) -> None:
        self.s, self.most, self.seed = s, most, seed
        self._counts: dict[Group, int] = {}
        self._labels: dict[Group, Integers] = {}

    def count(self, group: Group) -> int:
        """Count the clusters of a group."""
        if group not in self._counts:
            found = count_clusters(self.s[:COUNTING_SIZE, list(group)], self.most, self.seed)
            self._counts[group] = found
        return self._counts[group]

    def are_apart(self, parts: Groups, dependence: float) -> bool:
        """Whether the levels of two groups, or of one and two others together, do not tell of each other."""
        if not MIN_DEPENDENCE <= dependence < CLEAR_DEPENDENCE:
            return False
        if len(parts) == 2:
            return self._tell_nothing(*parts)
        others = [_union(tuple(part for part in parts if part != group)) for group in parts]
        return any(self._tell_nothing(a, b) for a, b in zip(parts, others, strict=True))

    def _tell_nothing(self, *two: Group) -> bool:
        from sklearn.metrics import adjusted_mutual_info_score

        a, b = (self._levels(group) for group in two)
        if min(a.max(), b.max()) < 1:
            return False
        return bool(adjusted_mutual_info_score(a, b) < MIN_INFORMATION)

    def _levels(self, group: Group) -> Integers:
        if group not in self._labels:
            s = self.s[:COUNTING_SIZE, list(group)]
            noise = np.random.default_rng(self.seed).normal(0, LEVEL_NOISE, s.shape)
            self._labels[group] = separate_clusters(s + noise, self.most, self.seed)
        return self._labels[group]


def _groups(levels: _Levels, used: int, least: int) -> Groups:
    """Group those of the first coordinates that depend on each other: at least so many groups.

    Those that data make no use of are groups only where there are not enough others.
    """
    D = levels.s.shape[1]
    if least > D:
        raise ValueError(f"facets: got {least}, expected at most the {D} dimensions of their latent")
    merges = merge_groups(levels.s[:, :used], levels.are_apart) if used else []
    enough = [merge for merge in merges if len(merge.groups) >= least] or merges[:1]
    groups = next((m.groups for m in reversed(enough) if m.dependence >= MIN_DEPENDENCE), ())
    missing = max(0, least - len(groups))
    return (*groups, *((used + i,) for i in range(missing)))


def _assigned(levels: _Levels, groups: Groups, clusters: tuple[int, ...]) -> Groups:
    """Give every facet a group, one with clusters that are apart if there are enough of them.

    A mixture follows the bend of a factor without clusters, such as an angle, as gladly as clusters. Where
    a facet shall have as many clusters as there are combinations of two groups' levels, as the corners of a
    square are, it gets both.
    """
    apart = tuple(group for group in groups if levels.count(group) > 1)
    for K in (Counter(clusters) - Counter(map(levels.count, apart))).elements():
        pairs = [p for p in itertools.combinations(apart, 2) if math.prod(map(levels.count, p)) == K]
        if pairs and len(apart) > len(clusters):
            apart = _merged(apart, pairs[0])
    enough = apart if len(apart) >= len(clusters) else groups
    return assign_groups(levels.s, enough, clusters, levels.seed)[0]


def _counted(levels: _Levels, groups: Groups, most: int) -> tuple[Groups, tuple[int, ...]]:
    """Return those groups that have clusters, and how many, those with most of them first."""
    counts = {group: levels.count(group) for group in groups}
    found = sorted((group for group in groups if counts[group] > 1), key=lambda group: -counts[group])
    if not found:
        most = min(most, len(levels.s))
        warnings.warn(
            f"facets: no independent subspace of the latent has clusters that are apart; all of it is one "
            f"facet of {most} clusters",
            UnmixingWarning,
            stacklevel=2,
        )
        return (_union(groups),), (most,)
    return tuple(found), tuple(counts[group] for group in found)


def _union(groups: Groups) -> Group:
    return tuple(sorted(itertools.chain(*groups)))


def _merged(groups: Groups, chosen: Groups) -> Groups:
    return (*(group for group in groups if group not in chosen), _union(chosen))


def unmixed_config(config: MFCVAEConfig, unmixing: Unmixing) -> MFCVAEConfig:
    """Return a configuration with the facets and the nuisance that an unmixing found."""
    given = config.facets
    J = len(unmixing.latent_dims)
    facets = tuple(
        dataclasses.replace(given[j if len(given) == J else 0], clusters=K, latent_dim=d)
        for j, (K, d) in enumerate(zip(unmixing.clusters, unmixing.latent_dims, strict=True))
    )
    schedule = cast(Schedule, config.schedule)
    first = dataclasses.replace(schedule.stages[0], introduces=tuple(range(J)), unmix=True)
    stages = (first, *schedule.stages[1:])
    if not unmixing.nuisance:
        stages = tuple(_without_nuisance(stage) for stage in stages)
    return dataclasses.replace(
        config,
        facets=facets,
        nuisance=unmixing.nuisance,
        schedule=dataclasses.replace(schedule, stages=stages),
    )


def _without_nuisance(stage: Stage) -> Stage:
    kept = tuple(name for name in stage.freeze if name != "nuisance")
    return dataclasses.replace(stage, nuisance_kl_weight=None, freeze=kept)


def _means(model: MFCVAE, x: Tensor) -> Tensor:
    """Return the means (N, D) of all latents, side by side."""
    return torch.cat([q.mean for q in model.encode(x)], 1)
