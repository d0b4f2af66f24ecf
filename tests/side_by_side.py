"""Partitions side by side in networks of their own: what `data_init="subspaces"` is for."""

from pyro_mfcvae import MFCVAEConfig, Schedule, Stage, likelihoods, networks


def side_by_side(facets, **overrides):
    """A configuration that trains all facets at once, each from an independent subspace of the data."""
    stage = Stage(
        tuple(range(len(facets))),
        steps=600,
        warm_up_steps=200,
        batch_size=100,
        decay_after=0.5,
        freeze=("encoder.facet_modules.*.0.0.*",),
    )
    fields = {
        "facets": facets,
        "likelihood": likelihoods.Gaussian(sigma=0.3, standardize=True),
        "network": networks.FullyConnectedAdditive(widths=(64, 64)),
        "schedule": Schedule((stage,)),
        "data_init": "subspaces",
    }
    return MFCVAEConfig(**(fields | overrides))
