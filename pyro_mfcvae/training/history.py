"""The history of training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pyro_mfcvae._utils.devices import Environment
from pyro_mfcvae.training.unmixing import Unmixing


@dataclass(frozen=True)
class EpochRecord:
    """Figures of one epoch of training.

    ELBO, log-likelihood and facet terms are means over a fixed sample of the training data, in nats
    per datum, and without KL weights; ``loss`` is the mean of what was minimised during the epoch.

    Attributes:
        stage: index of the stage.
        epoch: index of the epoch within the stage.
        steps: optimiser steps since the start of training.
        seconds: wall-clock time since the start of training.
        loss: mean loss of the epoch, in nats per datum.
        elbo: log-likelihood plus the terms of the facets that take part, and of the nuisance.
        log_likelihood: mean of log p(x|z).
        facet_terms: mean of log sum_k pi_k exp(-KL_k), for each facet.
        alive: clusters that are the most probable one for some datum, for each facet.
        learning_rate: at the end of the epoch.
        fade_in: alpha_j at the end of the epoch.
        kl_weights: beta_j at the end of the epoch.
        held_out_elbo: as ``elbo``, on the data that are not trained on; None if there are none.
        nuisance_term: mean of -KL(q(z|x) || N(0, I)) of the nuisance; None if there is none.
        nuisance_kl_weight: its beta at the end of the epoch.
        redundancy: alignment of the kernels of samples of q(z_j|x), summed over pairs of the facets that
            take part, each at most one; with ``Stage.redundancy_weight`` it is charged. None while fewer
            than two take part.
    """

    stage: int
    epoch: int
    steps: int
    seconds: float
    loss: float
    elbo: float
    log_likelihood: float
    facet_terms: tuple[float, ...]
    alive: tuple[int, ...]
    learning_rate: float
    fade_in: tuple[float, ...]
    kl_weights: tuple[float, ...]
    held_out_elbo: float | None = None
    nuisance_term: float | None = None
    nuisance_kl_weight: float | None = None
    redundancy: float | None = None


class History(tuple[EpochRecord, ...]):
    """One record for each epoch of training, and what it was trained in.

    Args:
        records: records of the epochs.
        environment: precision, device, processor, threads and versions; None if they are not known.
        unmixing: what the latents were unmixed into; None if no stage unmixed them.
    """

    environment: Environment | None
    unmixing: Unmixing | None

    def __new__(
        cls,
        records: Iterable[EpochRecord] = (),
        environment: Environment | None = None,
        unmixing: Unmixing | None = None,
    ) -> History:
        """Make a tuple that knows what the model was trained in."""
        history = super().__new__(cls, records)
        history.environment = environment
        history.unmixing = unmixing
        return history
