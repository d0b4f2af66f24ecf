"""Which sites of a Pyro program make up its facets, and the errors where they do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from pyro import poutine
from pyro.infer.util import is_validation_enabled

from pyro_mfcvae.model.checks import Site, check_same_context, check_same_scale


@dataclass(frozen=True)
class FacetSites:
    """A collapsed latent site z and the enumerated site c that selects its component.

    Attributes:
        z: site of z in the model.
        q: site of z in the guide.
        c: site of c in the model; None if the prior of z has a single component.
    """

    z: Site
    q: Site
    c: Site | None

    @property
    def name(self) -> str:
        """Name of the latent site."""
        return cast(str, self.z["name"])

    @property
    def enum_dim(self) -> int | None:
        """Dim of the values of c, negative; None if there is no c."""
        return None if self.c is None else cast(int, self.c["infer"]["_enumerate_dim"])


def enumerated_so_far(model_trace: poutine.Trace, guide_trace: poutine.Trace) -> dict[str, dict[int, Site]]:
    """For each sample site of the model, the sites that have been enumerated up to it, by dim.

    Of two sites with the same dim, as there are in ``pyro.markov``, it is the latest.
    """
    latest: dict[int, Site] = {}
    found = {}
    for name, site in model_trace.nodes.items():
        if site["type"] != "sample":
            continue
        dim = site["infer"].get("_enumerate_dim")
        if dim is not None and name not in guide_trace.nodes:
            latest = {**latest, dim: site}
        found[name] = latest
    return found


def find_facets(
    model_trace: poutine.Trace,
    guide_trace: poutine.Trace,
    above: dict[str, dict[int, Site]],
    max_plate_nesting: float,
) -> list[FacetSites]:
    """Pair every collapsed guide site with the enumerated model site that it depends on.

    Args:
        model_trace: trace of the model.
        guide_trace: trace of the guide.
        above: as of :func:`enumerated_so_far`.
        max_plate_nesting: number of nested plates.

    Raises:
        ValueError: for sites that break the assumptions of ``FacetELBO``.
    """
    facets = []
    owner: dict[str, str] = {}
    for name, q in guide_trace.nodes.items():
        if q["type"] != "sample" or not q["infer"].get("collapse_kl"):
            continue
        z = model_trace.nodes.get(name)
        if z is None or z["is_observed"]:
            raise ValueError(
                f"site '{name}' is marked collapse_kl in the guide but is not a latent site of the model"
            )
        if not q["fn"].has_rsample or q["infer"].get("_enumerate_dim") is not None:
            raise ValueError(
                f"site '{name}' is marked collapse_kl, so its guide distribution must be "
                f"reparametrised and not enumerated; got {type(q['fn']).__name__}"
            )
        dims = wide_dims(z["fn"].batch_shape, max_plate_nesting)
        parents = [above[name][dim] for dim in dims if dim in above[name]]
        if len(parents) > 1:
            raise ValueError(
                f"site '{name}' is marked collapse_kl, but its prior depends on several "
                f"enumerated sites: {[p['name'] for p in parents]}; give each a latent site of "
                "its own, or remove collapse_kl"
            )
        c = parents[0] if parents else None
        if c is not None:
            if c["name"] in owner:
                raise ValueError(
                    f"sites '{owner[c['name']]}' and '{name}' are both marked collapse_kl and "
                    f"depend on the enumerated site '{c['name']}'; each needs one of its own"
                )
            owner[c["name"]] = name
            check_same_context(c, z)
        if is_validation_enabled():
            check_same_scale(*([c] if c else []), z, q)
        facets.append(FacetSites(z=z, q=q, c=c))
    return facets


def wide_dims(shape: torch.Size, max_plate_nesting: float) -> list[int]:
    """List the dims left of all plates, counted from the right, whose size is not one."""
    return [dim for dim in range(-len(shape), 0) if dim < -max_plate_nesting and shape[dim] > 1]
