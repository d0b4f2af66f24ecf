"""The two forms of the K x N divergences: time of forward and backward, and error against float64.

From the root of the repository:

    python tests/benchmarks/kl_forms.py
"""

from __future__ import annotations

import time

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import kl_divergence

from pyro_mfcvae.model import kl

SIZES = [(64, 3, 2), (64, 10, 4), (64, 32, 4), (128, 20, 5), (256, 25, 10), (512, 200, 22)]  # N, K, D


def pair(kind, N, K, D, deviation=1.0):
    """q and p, and their parameters, in float32."""
    leaves = [torch.randn(N, D), torch.rand(N, D) + 0.1, torch.randn(K, 1, D)]
    if kind == "full":
        leaves.append(deviation * (torch.eye(D) + 0.3 * torch.randn(K, 1, D, D).tril(-1)))
    else:
        leaves.append(deviation * (torch.rand(K, 1, D) + 0.1))
    leaves = [leaf.requires_grad_() for leaf in leaves]
    return leaves, lambda m, s, mu, sigma: (
        dist.Normal(m, s).to_event(1),
        (
            dist.MultivariateNormal(mu, scale_tril=sigma)
            if kind == "full"
            else dist.Normal(mu, sigma).to_event(1)
        ).expand((K, N)),
    )


def milliseconds(function, repeats=3, seconds=0.2):
    best = float("inf")
    for _ in range(repeats):
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            function().logsumexp(0).sum().backward()
            count += 1
        best = min(best, (time.perf_counter() - start) / count)
    return 1e3 * best


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    pyro.enable_validation(False)
    kl.DIRECT_SIZE = -1
    print("components     N    K   D    K x N x D   direct  product  (ms)")
    for kind in ("diagonal", "full"):
        for N, K, D in SIZES:
            leaves, build = pair(kind, N, K, D)
            direct = milliseconds(lambda leaves=leaves, build=build: kl_divergence(*build(*leaves)))
            product = milliseconds(
                lambda leaves=leaves, build=build: kl.component_kl(*build(*leaves), dim=-2)
            )
            print(f"{kind:10} {N:5d} {K:4d} {D:3d} {N * K * D:12,d} {direct:8.2f} {product:8.2f}")
    print("components  deviation  largest KL   direct  product  (largest error in nats)")
    for kind in ("diagonal", "full"):
        for deviation in (1e-3, 1e-2, 1e-1, 1e0, 1e1):
            leaves, build = pair(kind, 512, 50, 10, deviation)
            exact = kl_divergence(*build(*(leaf.double() for leaf in leaves)))
            m, s, mu, sigma = leaves
            unrounded = kl._products(kl._Gaussians(m, s), kl._Gaussians(mu.squeeze(1), sigma.squeeze(1)))
            errors = [(d - exact).abs().max() for d in (kl_divergence(*build(*leaves)), unrounded)]
            print(f"{kind:10} {deviation:10g} {exact.max():11.0e} {errors[0]:8.0e} {errors[1]:8.0e}")


if __name__ == "__main__":
    main()
