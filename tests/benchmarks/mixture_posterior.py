"""Do the posteriors of pyro_mfcvae.mcmc cover the truth as often as they say, and do the chains agree?

    python tests/benchmarks/mixture_posterior.py --repetitions 20 --covariance full

Every repetition draws data from the same mixture of known parameters and samples the posterior given
them. Printed are, for each, the largest R-hat, the smallest bulk ESS, what was relabelled and the coverage of
the 94 % intervals; then the coverage of all.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from pyro_mfcvae.mcmc import KERNELS, QUANTITIES, sample_mixture
from pyro_mfcvae.mixture_density import Mixture

PROBABILITY = 0.94
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


def main() -> None:
    """Run the repetitions and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--covariance", choices=("diagonal", "full"), default="full")
    parser.add_argument("--kernel", choices=KERNELS, default="nuts")
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
    print("seed  max R-hat  min ESS  diverged  relabelled  covered  seconds")
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.repetitions):
        z = draw(mixture, arguments.size, np.random.default_rng(seed))
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
        interval = posterior.interval(PROBABILITY)
        covered = []
        for name in QUANTITIES:
            low, high = interval[name]
            value = getattr(mixture, name)
            is_inside = (low <= value) & (value <= high)
            inside[name].append(is_inside[index] if name == "covariances" else is_inside)
            covered.append(inside[name][-1].ravel())
        print(
            f"{seed:4d}  {r_hat:9.4f}  {ess:7.0f}  {posterior.diverging.sum():8d}  "
            f"{posterior.relabelled.mean():10.3f}  {np.concatenate(covered).mean():7.3f}  {seconds:7.1f}",
            flush=True,
        )
    for name in QUANTITIES:
        print(f"{name}: {np.mean(inside[name]):.3f} of {np.size(inside[name])} intervals cover the truth")
    everything = np.concatenate([np.ravel(inside[name]) for name in QUANTITIES])
    print(f"all: {everything.mean():.3f} of {everything.size}, expected {PROBABILITY}")


if __name__ == "__main__":
    main()
