"""Do the posteriors of sample_mixture cover the truth as often as they say, and do the chains agree?

    python tests/benchmarks/mixture_posterior.py --repetitions 20 --covariance full
    python tests/benchmarks/mixture_posterior.py --repetitions 100 --first-seed 20 --kernel importance

Every repetition draws data from the same mixture of known parameters and samples the posterior given
them. Printed are, for each, the largest R-hat, the smallest bulk ESS, what was relabelled and the coverage
of the 94 % intervals; then the coverage of all. With ``importance`` there are no chains: draws of a Student t
about the mode are weighted by the posterior's density. That takes a second instead of a minute, so that
there can be more repetitions, and it does not use the sampler.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from pyro_mfcvae.posterior.mcmc import KERNELS, QUANTITIES, sample_mixture
from pyro_mfcvae.posterior.mixture_density import Mixture, MixtureDensity
from pyro_mfcvae.priors import HyperPriors

PROBABILITY = 0.94
WIDTH, DEGREES = 1.15, 12.0  # of the Student t that importance sampling draws from
WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[0.0, 0.0], [40.0, 0.1], [10.0, 0.5]])
FACTORS = np.array([[[10.0, 0.0], [0.05, 0.06]], [[8.0, 0.0], [0.0, 0.1]], [[9.0, 0.0], [-0.08, 0.05]]])


def truth(covariance: str) -> Mixture:
    """Three components in units that differ by a factor of 100; two of them overlap."""
    covariances = FACTORS @ FACTORS.transpose(0, 2, 1)
    if covariance == "diagonal":
        covariances = np.diagonal(covariances, axis1=1, axis2=2).copy()
    return Mixture(WEIGHTS, MEANS, covariances)


def draw(mixture: Mixture, size: int, rng: np.random.Generator) -> np.ndarray:
    """Data (size, D) from a mixture."""
    covariances = mixture.covariances
    if not mixture.is_full:
        covariances = covariances[:, :, None] * np.eye(covariances.shape[1])
    factors = np.linalg.cholesky(covariances)
    c = rng.choice(len(mixture.weights), size, p=mixture.weights)
    noise = rng.standard_normal((size, mixture.means.shape[1], 1))
    return mixture.means[c] + (factors[c] @ noise)[..., 0]


def by_chains(
    z: np.ndarray, mixture: Mixture, seed: int, arguments: argparse.Namespace
) -> dict[str, np.ndarray]:
    """Whether each 94 % interval covers the truth, by quantity; prints how the chains went."""
    start = time.perf_counter()
    posterior = sample_mixture(
        z,
        mixture,
        kernel=arguments.kernel,
        num_samples=arguments.samples,
        warmup_steps=arguments.warmup,
        num_chains=arguments.chains,
        seed=1_000 * seed,
        progress=False,
    )
    seconds = time.perf_counter() - start
    r_hat = max(float(values.max()) for values in posterior.r_hat().values())
    ess = min(float(values.min()) for values in posterior.ess().values())
    print(
        f"{seed:4d}  R-hat {r_hat:.4f}  ESS {ess:5.0f}  diverged {posterior.diverging.sum()}  "
        f"relabelled {posterior.relabelled.mean():.3f}  {seconds:6.1f} s",
        end="",
    )
    interval = posterior.interval(PROBABILITY)
    return {
        name: (interval[name][0] <= getattr(mixture, name)) & (getattr(mixture, name) <= interval[name][1])
        for name in QUANTITIES
    }


def by_importance(z: np.ndarray, mixture: Mixture, seed: int, size: int) -> dict[str, np.ndarray]:
    """The same from weighted draws; prints their effective number."""
    shift, scale = z.mean(0), z.std(0)
    y = (z - shift) / scale
    reference = MixtureDensity(
        y, np.zeros_like(y), mixture.rescaled(-shift / scale, 1 / scale), HyperPriors()
    )
    density = MixtureDensity(y, np.zeros_like(y), reference.mode(), HyperPriors())
    P = density.num_parameters
    rng = np.random.default_rng(1_000 * seed)
    u = WIDTH * rng.standard_normal((size, P)) / np.sqrt(rng.chisquare(DEGREES, (size, 1)) / DEGREES)
    log_weights = (DEGREES + P) / 2 * np.log1p((u**2).sum(1) / (DEGREES * WIDTH**2))
    log_weights -= [density.value_and_gradient(value)[0] for value in u]
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    print(f"{seed:4d}  effective draws {1 / (weights**2).sum():5.0f} of {size}", end="")
    draws = [density.mixture(value).rescaled(shift, scale) for value in u]
    covers = {}
    for name in QUANTITIES:
        is_below = np.stack([getattr(draw, name) for draw in draws]) <= getattr(mixture, name)
        below = np.tensordot(weights, is_below, 1)  # posterior probability of less than the truth
        covers[name] = np.abs(below - 0.5) <= PROBABILITY / 2
    return covers


def main() -> None:
    """Run the repetitions and print what came of each, and of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--covariance", choices=("diagonal", "full"), default="full")
    parser.add_argument("--kernel", choices=(*KERNELS, "importance"), default="nuts")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=500)
    parser.add_argument("--samples", type=int, default=1_000)
    parser.add_argument("--warmup", type=int, default=500)
    parser.add_argument("--chains", type=int, default=4)
    arguments = parser.parse_args()
    mixture = truth(arguments.covariance)
    # A matrix is symmetric: every covariance counts once.
    index = (slice(None), *np.tril_indices(2)) if mixture.is_full else ...
    inside: dict[str, list[np.ndarray]] = {name: [] for name in QUANTITIES}
    shares = []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.repetitions):
        z = draw(mixture, arguments.size, np.random.default_rng(seed))
        if arguments.kernel == "importance":
            covers = by_importance(z, mixture, seed, arguments.samples)
        else:
            covers = by_chains(z, mixture, seed, arguments)
        covers["covariances"] = covers["covariances"][index]
        for name in QUANTITIES:
            inside[name].append(covers[name])
        shares.append(np.concatenate([np.ravel(covers[name]) for name in QUANTITIES]).mean())
        print(f"  covered {shares[-1]:.3f}", flush=True)
    for name in QUANTITIES:
        print(f"{name}: {np.mean(inside[name]):.3f} of {np.size(inside[name])} intervals cover the truth")
    # Intervals of one repetition are not independent, repetitions are.
    error = np.std(shares) / np.sqrt(len(shares))
    print(f"all: {np.mean(shares):.3f} +- {error:.3f} (standard error), expected {PROBABILITY}")


if __name__ == "__main__":
    main()
