"""Conditions on the sites of a facet, under which its term has a closed form."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

Site = dict[str, Any]  # of a Pyro trace


def check_same_context(c: Site, z: Site) -> None:
    """Raise a ValueError unless a discrete site and its latent site are inside the same plates."""
    plates = [{f.name for f in site["cond_indep_stack"] if f.vectorized} for site in (c, z)]
    if plates[0] != plates[1]:
        raise ValueError(
            f"sites '{c['name']}' and '{z['name']}' must be inside the same plates, since "
            f"'{z['name']}' is marked collapse_kl; got {sorted(plates[0])} and {sorted(plates[1])}"
        )


def check_same_scale(*sites: Site) -> None:
    """Raise a ValueError unless the sites of one facet, that of the guide last, share one scale."""
    scales = [site["scale"] for site in sites]
    if any(isinstance(scale, Tensor) and scale.dim() for scale in scales):
        raise ValueError(f"site '{sites[-1]['name']}': poutine.scale must be a scalar")
    first = float(scales[0])
    if not all(math.isclose(float(scale), first, rel_tol=1e-6) for scale in scales):
        pairs = {
            f"{site['name']} ({where})": float(site["scale"])
            for site, where in zip(reversed(sites), ("guide", "model", "model"), strict=False)
        }
        raise ValueError(
            f"the sites of one facet must share one scale, in model and guide alike; got {pairs}"
        )
