"""Where training starts from: networks initialised by data, and mixtures fitted to the embedding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pyro_mfcvae.config.stage import Stage
from pyro_mfcvae.model.mfcvae import MFCVAE
from pyro_mfcvae.networks import initialize_from_data, look_at_subspaces
from pyro_mfcvae.training.subspaces import independent_subspaces, residual_subspace

ENCODING_BATCH = 1_000  # number of data that are encoded at a time
INITIALIZATION_BATCH = 1_000  # number of data that networks are initialised by
SUBSPACE_BATCH = 2_000  # number of data in which independent subspaces are looked for


@torch.no_grad()
def initialize_networks(model: MFCVAE, sample: Tensor, seed: int) -> None:
    """Standardise all pre-activations on a batch of the data, with every facet taking part.

    Where the configuration says so, they are made as small as in the paper's code instead.

    Where the configuration says so, every facet's encoder first sees an independent subspace of the data,
    and that of the nuisance as many directions of what these leave as it has dimensions.

    Args:
        model: the model, which is changed in place.
        sample: data, shape (N, *x_shape), on the model's device.
        seed: seed of the search for subspaces.
    """
    x = sample[:INITIALIZATION_BATCH]
    model.train()
    if model.config.data_init == "subspaces":
        seen = model.inputs(sample[:SUBSPACE_BATCH]).flatten(1).cpu().numpy()
        subspaces = independent_subspaces(seen, [facet.clusters for facet in model.config.facets], seed)
        if model.config.nuisance:
            subspaces.append(residual_subspace(seen, subspaces, model.config.nuisance, seed))
        look_at_subspaces(model.encoder, subspaces)
    as_published = model.config.data_init == "as_published"
    initialize_from_data(model.encoder, model.inputs(x), as_published=as_published)
    z = [q.sample() for q in model.encode(x)]
    initialize_from_data(model.decoder, z, [1.0] * len(z), as_published=as_published)


@torch.no_grad()
def initialize_mixtures(
    model: MFCVAE, sample: Tensor, facets: Sequence[int], seed: int, *, untrained: bool = False
) -> None:
    """Fit the mixtures of these facets to samples of the aggregated posterior q(z), or to means of q(z | x).

    Args:
        model: the model, whose priors are changed in place.
        sample: data, shape (N, *x_shape), on the model's device.
        facets: indices of the facets.
        seed: seed of the fits.
        untrained: whether to fit those that start untrained, to means, or else the others, to samples.
    """
    facets = [j for j in facets if starts_untrained(model, j) == untrained]
    if not facets:
        return
    model.eval()
    q = [model.encode(batch) for batch in sample.split(ENCODING_BATCH)]
    for j in facets:
        # Samples, not means: the mixture has to cover the width of q(z | x) as well.
        embedding = torch.cat([q_batch[j].mean if untrained else q_batch[j].sample() for q_batch in q])
        model.facet_priors[j].initialize_from_data(model.inputs(sample), embedding.cpu().numpy(), seed)


def starts_untrained(model: MFCVAE, j: int) -> bool:
    """Tell whether the mixture of facet j is fitted once, before any training."""
    return model.facet_priors[j].initialization == "untrained"


def check_untrained(stage: Stage, model: MFCVAE) -> None:
    """Raise a ValueError if a stage would fit a mixture again that starts untrained."""
    fitted = [j for j in stage.introduces if starts_untrained(model, j)]
    if fitted and (stage.unmix or stage.warm_up_epochs or stage.warm_up_steps):
        raise ValueError(
            f"initialization: got 'untrained' for the facets {fitted} with a warm-up or unmixing, after "
            "which their mixtures would be fitted; leave that out, or take initialization='mixture'"
        )
