"""Variance of the gradient of each objective, at one batch and one model, over draws of the noise.

The model is the mnist preset after a few epochs. From the root of the repository, with MNIST in DATA
as torchvision keeps it:

    python tests/benchmarks/gradient_variance.py DATA
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import torch

from pyro_mfcvae import MFCVAE, Schedule, presets
from pyro_mfcvae.datasets.mnist import mnist
from pyro_mfcvae.training import train
from pyro_mfcvae.training.step import without_validation

OBJECTIVES = [("analytic", 1), ("monte_carlo", 1), ("monte_carlo", 10), ("marginal", 10), ("vade", 10)]


def variances(model, x, objective, num_kl_samples, draws):
    """Trace of the covariance of the gradient (per datum) of each part of the model."""
    elbo = model.elbo(objective=objective, num_kl_samples=num_kl_samples)
    first, second = defaultdict(float), defaultdict(float)
    for seed in range(draws):
        torch.manual_seed(seed)
        model.zero_grad(set_to_none=True)
        (elbo.differentiable_loss(model.model, model.guide, x) / len(x)).backward()
        for name, parameter in model.named_parameters():
            first[name] = first[name] + parameter.grad.double() / draws
            second[name] = second[name] + parameter.grad.double().square() / draws
    result = defaultdict(float)
    for name in first:
        part = name.split(".")[0]
        result[part] += (second[name] - first[name].square()).clamp_min(0).sum().item()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--data-size", type=int, default=60_000)
    arguments = parser.parse_args()
    x = mnist(arguments.data).x[: arguments.data_size]
    schedule = Schedule.joint(2, epochs=arguments.epochs, warm_up_epochs=arguments.epochs // 2)
    torch.manual_seed(0)
    model = MFCVAE(presets.mnist(schedule=schedule), x.shape[1:])
    train(model, x, seed=0, progress=False)
    with without_validation():
        table = {key: variances(model, x[:256], *key, arguments.draws) for key in OBJECTIVES}
    base = table["analytic", 1]
    print(f"{'objective':12} {'L':>3} {'encoder':>10} {'(ratio)':>8} {'priors':>10} {'decoder':>10}")
    for (objective, samples), row in table.items():
        print(
            f"{objective:12} {samples:3d} {row['encoder']:10.2e} "
            f"{row['encoder'] / base['encoder']:8.2f} {row['priors']:10.2e} {row['decoder']:10.2e}"
        )


if __name__ == "__main__":
    main()
