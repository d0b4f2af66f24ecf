"""Which parameters a stage freezes: their names, by patterns and by groups."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from pyro_mfcvae.model import MFCVAE
from pyro_mfcvae.schedule import Stage


def of_facet(j: int) -> list[str]:
    """Patterns of the parameters that belong to facet j alone."""
    return [f"priors.{j}.*", f"encoder.rungs.{j}.*", f"decoder.rungs.{j}.*"]


def expand(freeze: Sequence[str], past: set[int], num_facets: int) -> list[str]:
    """Replace the groups of parameters by the patterns of their names."""
    groups = {f"facet {j}": of_facet(j) for j in range(num_facets)}
    groups["past facets"] = [pattern for j in past for pattern in of_facet(j)]
    groups["networks"] = ["encoder.*", "decoder.*"]
    return [pattern for name in freeze for pattern in groups.get(name, [name])]


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a parameter is among those of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def check_patterns(stage: Stage, model: MFCVAE) -> None:
    """Raise a ValueError if a pattern of a stage fits no parameter, or if they leave nothing to train."""
    names = [name for name, _ in model.named_parameters()]
    facets = set(range(len(model.facet_priors)))
    unused = [
        pattern
        for pattern in stage.freeze
        if not any(matches(name, expand([pattern], facets, len(facets))) for name in names)
    ]
    if unused:
        raise ValueError(
            f"freeze: got {unused}, which no parameter's name matches; the groups are 'facet 0' to "
            f"'facet {len(facets) - 1}', 'past facets' and 'networks', the names {', '.join(names)}"
        )
    if all(matches(name, expand(stage.freeze, set(), len(facets))) for name in names):
        raise ValueError(f"freeze: got {stage.freeze}, which leaves nothing to train")
