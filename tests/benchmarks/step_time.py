"""Time of a training step, and of one through Pyro and FacetELBO, relative to a loop written by hand.

All have the same mathematics, networks, precision and optimiser, and they take turns within one run,
so that what else the machine does falls on all. From the root of the repository:

    python tests/benchmarks/step_time.py
"""

from __future__ import annotations

import argparse
import math
import statistics
import time

import torch
from torch.nn import functional as F

from pyro_mfcvae import MFCVAE, Facet, MFCVAEConfig, Schedule, Stage
from pyro_mfcvae.model.loss import make_loss
from pyro_mfcvae.networks import FullyConnectedLadder
from pyro_mfcvae.training.step import Stepper, without_validation

SETTINGS = {
    # name: (shape of a datum, clusters, latent dims, widths, batch size)
    "mnist": ((1, 28, 28), (25, 25), (5, 10), (500, 2000), 512),
    "small": ((1, 28, 28), (10, 10), (5, 5), (64, 64), 64),
    "tiny": ((8,), (3, 3), (2, 2), (16, 16), 64),
}


def make_model(setting):
    x_shape, clusters, latent_dims, widths, batch_size = SETTINGS[setting]
    config = MFCVAEConfig(
        facets=tuple(Facet(K, D) for K, D in zip(clusters, latent_dims, strict=True)),
        network=FullyConnectedLadder(widths),
        schedule=Schedule((Stage((0, 1), 1, batch_size),)),
    )
    torch.manual_seed(0)
    model = MFCVAE(config, x_shape)
    with torch.no_grad():
        for prior in model.facet_priors:
            prior.loc.normal_()
    return model


class ByHand:
    """The loss and the step, with nothing but PyTorch."""

    def __init__(self, model):
        self.encoder, self.decoder, self.priors = model.encoder, model.decoder, list(model.priors)
        self.ones = [1.0] * len(self.priors)

    def loss(self, x):
        elbo, z = 0.0, []
        for (m, s), prior in zip(self.encoder(x), self.priors, strict=True):
            z.append(m + s * torch.randn_like(m))
            difference = m - prior.loc.unsqueeze(1)  # (K, N, D)
            scale = (F.softplus(prior.raw_scale) + 1e-4).unsqueeze(1)
            kl = (scale / s).log() + 0.5 * (s.square() + difference.square()) / scale.square() - 0.5
            log_pi = prior.mixing.logits.log_softmax(0).unsqueeze(1)
            elbo = elbo + (log_pi - kl.sum(-1)).logsumexp(0).sum()
        logits = self.decoder(z, self.ones)
        return (F.binary_cross_entropy_with_logits(logits, x, reduction="sum") - elbo) / len(x)

    def step(self, x, optimizer):
        optimizer.zero_grad(set_to_none=True)
        loss = self.loss(x)
        loss.backward()
        optimizer.step()
        return loss.detach()


class OfFit:
    """The step of fit."""

    def __init__(self, model):
        self.weights, self.stepper = model.full_weights, Stepper(make_loss(model))

    def step(self, x, optimizer):
        return self.stepper(x, self.weights, optimizer)


class ThroughPyro:
    """The step of a program that uses FacetELBO itself."""

    def __init__(self, model):
        self.model, self.elbo = model, model.elbo()

    def step(self, x, optimizer):
        optimizer.zero_grad(set_to_none=True)
        loss = self.elbo.differentiable_loss(self.model.model, self.model.guide, x) / len(x)
        loss.backward()
        optimizer.step()
        return loss.detach()


def compare(setting, rounds, steps):
    """Seconds per step of the loops, a row for each round: fit's own, through Pyro, by hand."""
    models = [make_model(setting) for _ in range(3)]
    batch = torch.rand(SETTINGS[setting][-1], *models[0].x_shape)
    loops = OfFit(models[0]).step, ThroughPyro(models[1]).step, ByHand(models[2]).step
    optimizers = [torch.optim.Adam(model.parameters(), lr=1e-4, fused=True) for model in models]

    losses = []
    for step, optimizer in zip(loops, optimizers, strict=True):
        torch.manual_seed(1)
        losses.append([step(batch, optimizer).item() for _ in range(3)])
    if not all(
        math.isclose(a, b, rel_tol=1e-4) for row in losses[1:] for a, b in zip(losses[0], row, strict=True)
    ):
        raise AssertionError(f"the loops do not compute the same loss: {losses}")

    rows = []
    for i in range(rounds):
        seconds = [0.0] * len(loops)
        for which in range(len(loops)) if i % 2 == 0 else reversed(range(len(loops))):
            start = time.perf_counter()
            for _ in range(steps):
                loops[which](batch, optimizers[which])
            seconds[which] = (time.perf_counter() - start) / steps
        rows.append(seconds)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, {arguments.rounds} rounds")
    for setting in arguments.settings:
        with without_validation():
            rows = compare(setting, arguments.rounds, steps=10 if setting == "mnist" else 100)
        by_hand = 1e3 * statistics.median(row[2] for row in rows)
        for which, name in enumerate(("fit", "FacetELBO")):
            ratios = sorted(row[which] / row[2] for row in rows)
            ours = 1e3 * statistics.median(row[which] for row in rows)
            low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
            print(
                f"{setting:6} {name:9} {ours:7.2f} ms a step, by hand {by_hand:7.2f} ms, "
                f"ratio {statistics.median(ratios):.3f} (quartiles {low:.3f} to {high:.3f})"
            )


if __name__ == "__main__":
    main()
