"""Conditions on the sites of a facet, under which its term has a closed form."""

from __future__ import annotations

import math
from typing import Any

from pyro import poutine
from torch import Tensor

Site = dict[str, Any]  # of a Pyro trace


def check_all_enumerated(model_trace: poutine.Trace, guide_trace: poutine.Trace) -> None:
    """Raise a ValueError for a discrete site that only the model has, and does not enumerate.

    Its samples would come from the prior, whatever the data: no bound, and no error of Pyro's either.
    Only where a guide asks for collapsed sites; all else is left to Pyro.
    """
    sites = (site for site in guide_trace.nodes.values() if site["type"] == "sample")
    if not any(site["infer"].get("collapse_kl") for site in sites):
        return
    for name, site in model_trace.nodes.items():
        if site["type"] != "sample" or site["is_observed"] or name in guide_trace.nodes:
            continue
        is_left_out = site["mask"] is False or site["infer"].get("_enumerate_dim") is not None
        if not is_left_out and getattr(site["fn"], "has_enumerate_support", False):
            raise ValueError(
                f"site '{name}' is in the model only and is not enumerated, so that its samples would not "
                "depend on the data; mark it in the model with infer={'enumerate': 'parallel'}, or sample "
                "it in the guide"
            )


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
