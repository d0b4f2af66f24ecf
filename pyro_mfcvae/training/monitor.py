"""A monitor of training: the record of every epoch, held-out data, clusters that die."""

from __future__ import annotations

import math
import warnings
from collections.abc import Set

import torch
from torch import Tensor

from pyro_mfcvae._utils.turns import seeded
from pyro_mfcvae.model.mfcvae import MFCVAE
from pyro_mfcvae.model.redundancy import redundancy
from pyro_mfcvae.model.weights import FacetWeights
from pyro_mfcvae.training.history import EpochRecord

MONITOR_SIZE = 2_000  # number of data that the history's figures are taken on
EVALUATION_BATCH = 1_000
ABSURD = 1e6  # times the ELBO of the untrained model, beyond which a loss is that of no model
HOPELESS = 1e12  # nats for each element of a datum, that an untrained model is away: a million deviations
REDUNDANCY_SIZE = 500  # of them, for what takes time and memory as their square


class DeadClustersWarning(UserWarning):
    """Fewer than half of a facet's clusters are the most probable one for any datum."""


class Monitor:
    """Looks at a model between epochs.

    Args:
        model: the model.
        sample: data that are trained on, shape (N, *x_shape), on the model's device.
        held_out: data that are not trained on; None if there are none.
    """

    def __init__(self, model: MFCVAE, sample: Tensor, held_out: Tensor | None) -> None:
        self.model = model
        self.sample = sample
        self.held_out = held_out
        self.reference = math.inf

    @torch.no_grad()
    def set_reference(self) -> None:
        """Take the ELBO of the model before training, beside which that of a model that diverges is absurd.

        Raises:
            FloatingPointError: if it is not finite, or so far away that training would not come back.
        """
        with seeded(0, self.model.device):  # training has its own numbers
            elbo = self.model.eval().elbo_terms(self.sample[:MONITOR_SIZE]).elbo.mean().item()
        if not abs(elbo) <= HOPELESS * self.sample[0].numel():
            largest = self.sample.nan_to_num().abs().max().item()
            raise FloatingPointError(
                f"training cannot begin: the ELBO of the untrained model is {elbo}, of data of values up to "
                f"{largest:.3g}; give them in other units, or use a likelihood that standardises them, such "
                "as likelihoods.Gaussian(standardize=True)"
            )
        self.reference = abs(elbo) + self.sample[0].numel()

    @torch.no_grad()
    def record(
        self,
        *,
        stage: int,
        epoch: int,
        steps: int,
        seconds: float,
        loss_sum: Tensor,
        num_steps: int,
        learning_rate: float,
        weights: FacetWeights,
        active: Set[int],
    ) -> EpochRecord:
        """Record an epoch; arguments that are not named here are those of :class:`EpochRecord`.

        Args:
            stage: index of the stage.
            epoch: index of the epoch within the stage.
            steps: number of steps since the start of training.
            seconds: since the start of training.
            loss_sum: sum of the losses of the epoch's steps, nats per datum, a scalar.
            num_steps: number of steps of the epoch.
            learning_rate: at the end of the epoch.
            weights: weights of the latents, at the end of the epoch.
            active: facets that take part.

        Raises:
            FloatingPointError: if the loss or the ELBO is no longer finite, or beyond all measure.
        """
        model = self.model.eval()
        loss = loss_sum.item() / num_steps
        held_out_elbo = None if self.held_out is None else self._elbo(self.held_out, weights, active)
        terms = model.elbo_terms(self.sample[:MONITOR_SIZE], weights)
        if not math.isfinite(loss) or abs(loss) > ABSURD * self.reference:
            raise FloatingPointError(f"its loss is {loss:.6g} nats per datum")
        bad = int((~terms.elbo.isfinite()).sum())
        if bad:
            raise FloatingPointError(f"the ELBO of {bad} of {len(terms.elbo)} data is not finite")
        log_likelihood = terms.log_likelihood.mean().item()
        facet_terms = tuple(term.mean().item() for term in terms.facets)
        J = len(facet_terms)
        nuisance_term = None if terms.nuisance is None else terms.nuisance.mean().item()
        return EpochRecord(
            stage=stage,
            epoch=epoch,
            steps=steps,
            seconds=seconds,
            loss=loss,
            elbo=log_likelihood + sum(facet_terms[j] for j in active) + (nuisance_term or 0.0),
            log_likelihood=log_likelihood,
            facet_terms=facet_terms,
            alive=tuple(len(r.argmax(-1).unique()) for r in terms.responsibilities),
            learning_rate=learning_rate,
            fade_in=tuple(map(float, weights.fade_in[:J])),
            kl_weights=tuple(map(float, weights.kl[:J])),
            held_out_elbo=held_out_elbo,
            nuisance_term=nuisance_term,
            nuisance_kl_weight=None if nuisance_term is None else float(weights.kl[J]),
            redundancy=self._redundancy(active),
        )

    def _redundancy(self, active: Set[int]) -> float | None:
        """Redundancy of the facets that take part, at a sample with the same noise every time."""
        if len(active) < 2:
            return None
        posteriors = self.model.encode(self.sample[:REDUNDANCY_SIZE])
        generator = torch.Generator(device=self.sample.device).manual_seed(0)  # training has its own numbers
        z = []
        for q in (posteriors[j] for j in sorted(active)):
            noise = torch.randn(q.mean.shape, generator=generator, dtype=q.mean.dtype, device=q.mean.device)
            z.append((q.mean + q.stddev * noise).double())
        return redundancy(z).item()

    def _elbo(self, x: Tensor, weights: FacetWeights, active: Set[int]) -> float:
        """Mean ELBO of the facets that take part, and of the nuisance, in nats per datum."""
        total = 0.0
        for batch in x.split(EVALUATION_BATCH):
            terms = self.model.elbo_terms(batch.to(self.model.device), weights)
            elbo = terms.log_likelihood + sum(terms.facets[j] for j in active)
            total += (elbo if terms.nuisance is None else elbo + terms.nuisance).sum().item()
        return total / len(x)

    def warn_of_dead_clusters(self) -> None:
        """Warn of facets that lost their clusters: they are not worth much, whatever the ELBO says."""
        model, n = self.model, len(self.sample)
        used = [torch.zeros(prior.clusters, device=model.device) for prior in model.facet_priors]
        # Half of those that would be seen in n data if all were equally likely.
        enough = [len(u) * (1 - (1 - 1 / len(u)) ** n) / 2 for u in used]
        with torch.no_grad():
            for batch in self.sample.split(EVALUATION_BATCH):
                for u, r in zip(used, model.responsibilities(model.encode(batch)), strict=True):
                    u[r.argmax(-1)] = 1
                if all(u.sum() >= least for u, least in zip(used, enough, strict=True)):
                    return
        advice = "Give the facet fewer clusters"
        if not model.config.stages[0].unmix:  # whose facets start apart, and none of them unheard
            advice = (
                "More warm_up_epochs, a smaller warm_up_kl_weight, or a decoder that hears the facet better "
                "(a larger gate) keep more of them alive; or give the facet fewer clusters"
            )
        for j, prior in enumerate(model.facet_priors):
            alive, K = int(used[j].sum()), prior.clusters
            if alive < enough[j] and not prior.may_leave_clusters_empty:
                warnings.warn(
                    f"facet {j}: only {alive} of {K} clusters are in use. {advice}",
                    DeadClustersWarning,
                    stacklevel=7,  # where fit is called
                )
