"""Which parameters a stage freezes: their names, by patterns and by groups."""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Sequence, Set

from pyro_mfcvae.config.stage import Stage
from pyro_mfcvae.model.mfcvae import MFCVAE
from pyro_mfcvae.networks.base import has_facet_modules


def of_facet(j: int) -> list[str]:
    """List the patterns of the parameters that belong to facet j alone."""
    return [f"priors.{j}.*", f"encoder.facet_modules.{j}.*", f"decoder.facet_modules.{j}.*"]


def expand(freeze: Sequence[str], past: Set[int], num_facets: int) -> list[str]:
    """Replace the groups of parameters by the patterns of their names."""
    groups = {f"facet {j}": of_facet(j) for j in range(num_facets)}
    groups["nuisance"] = of_facet(num_facets)  # what networks have as one facet more, if the model has it
    groups["past facets"] = [pattern for j in past for pattern in of_facet(j)]
    groups["networks"] = ["encoder.*", "decoder.*"]
    return [pattern for name in freeze for pattern in groups.get(name, [_present(name)])]


def _present(name: str) -> str:
    return name.replace(".rungs.", ".facet_modules.")


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Tell whether a parameter is among those of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def check_patterns(stage: Stage, model: MFCVAE) -> None:
    """Raise a ValueError if a pattern of a stage fits no parameter, or if they leave nothing to train.

    Groups that name facets are known for networks with ``facet_modules`` only.
    """
    groups = ("past facets", "nuisance")
    named = [name for name in stage.freeze if name in groups or name.startswith("facet ")]
    for network in (model.encoder, model.decoder):
        if named and not has_facet_modules(network):
            raise ValueError(
                f"freeze: got {named} with {type(network).__name__}, which does not say what belongs to a "
                "facet; expected an encoder and a decoder with facet_modules, see networks.Encoder, or names "
                "of parameters"
            )
    names = [name for name, _ in model.named_parameters()]
    facets = set(range(len(model.facet_priors)))
    for pattern in stage.freeze:
        if pattern != _present(pattern):
            warnings.warn(
                f"freeze: got {pattern!r}, a name of an earlier version, where networks called rungs what "
                "are facet_modules now; where there are none, it freezes nothing: leave it out, or look at "
                "the names of model.named_parameters()",
                FutureWarning,
                stacklevel=2,
            )
    unused = [
        pattern
        for pattern in stage.freeze
        if pattern == _present(pattern)
        and not any(matches(name, expand([pattern], facets, len(facets))) for name in names)
    ]
    if unused:
        raise ValueError(
            f"freeze: got {unused}, which no parameter's name matches; the groups are 'facet 0' to "
            f"'facet {len(facets) - 1}', 'past facets', 'nuisance' if there is one, and 'networks', the "
            f"names {', '.join(names)}"
        )
    if all(matches(name, expand(stage.freeze, set(), len(facets))) for name in names):
        raise ValueError(f"freeze: got {stage.freeze}, which leaves nothing to train")


def freeze(model: MFCVAE, stage: Stage, past: Set[int], is_warming_up: bool) -> None:
    """Let only what a stage trains have gradients.

    What does not train has none at all: a gradient of zero would let the optimiser drift on.

    Args:
        model: whose parameters they are.
        stage: the stage.
        past: facets that earlier stages have introduced.
        is_warming_up: whether the mixtures of the new facets are yet to be fitted.
    """
    J = len(model.facet_priors)
    frozen = expand(stage.freeze, past, J)
    for j in range(J):
        if j in stage.introduces:
            frozen += [f"priors.{j}.*"] * is_warming_up
        elif j not in past:
            pre_trains = stage.pre_training_kl_weight > 0
            frozen += [p for p in of_facet(j) if not (pre_trains and p.startswith("encoder."))]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not matches(name, frozen))
        if not parameter.requires_grad:
            parameter.grad = None
