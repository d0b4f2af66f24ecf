r"""Hamiltonian Monte Carlo over the mixture of one facet, given its embedding.

The chains are Pyro's, on the density of :mod:`pyro_mfcvae.posterior.mixture_density`. Its labels are
exchangeable, so every draw is relabelled to a reference, the mode of the posterior that is nearest to the
fitted mixture, by

.. math::
    \max_\tau \sum_n \sum_k r_{nk}(\hat\theta) \log r_{n\tau(k)}(\theta),

the permutation whose responsibilities have the least Kullback-Leibler divergence from those of the
reference (Stephens, 2000). It compares what the labels are for, the clustering of the data, so the scales of
the parameters do not matter, and neither do components that overlap in some of them. R-hat and ESS are taken
after that; ``relabelled`` tells how many draws it concerned.

References:
    M. Stephens (2000). Dealing with label switching in mixture models. Journal of the Royal Statistical
    Society B 62.
    M. D. Hoffman, A. Gelman (2014). The No-U-Turn Sampler. Journal of Machine Learning Research 15.
    A. Vehtari, A. Gelman, D. Simpson, B. Carpenter, P.-C. Buerkner (2021). Rank-normalization, folding, and
    localization: an improved R-hat. Bayesian Analysis 16.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from pyro.infer import HMC, MCMC, NUTS
from torch import Tensor

from pyro_mfcvae._utils.checks import integer, number, one_of
from pyro_mfcvae._utils.progress import Bar
from pyro_mfcvae._utils.turns import Turn, seeded
from pyro_mfcvae.posterior.arviz_groups import DRAW, Variables, convert, dataset, import_arviz, major_version
from pyro_mfcvae.posterior.mixture_density import Mixture, MixtureDensity
from pyro_mfcvae.priors.hyper import HyperPriors

Kernel = Literal["nuts", "hmc"]
KERNELS: tuple[str, ...] = get_args(Kernel)

JITTER = 2.0  # standard deviations of the posterior, about, between the starts of chains
TRAJECTORY = math.pi / 2  # of HMC: on a standard normal, the end is independent of the start
RELABEL_SIZE = 1_000  # data that labels are compared on
MAX_R_HAT = 1.01  # Vehtari et al. (2021)
MIN_ESS = 400  # likewise
QUANTITIES = ("weights", "means", "covariances")


class SamplingWarning(UserWarning):
    """The chains do not agree, or diverged: their draws are not to be trusted yet."""


@dataclass(frozen=True, eq=False)
class MixturePosterior:
    """Draws from the posterior of a mixture, relabelled to one reference.

    Attributes:
        weights: shape (chain, draw, K).
        means: shape (chain, draw, K, D).
        covariances: variances (chain, draw, K, D), or covariance matrices (chain, draw, K, D, D).
        log_density: log density of every draw in the sampler's coordinates, up to a constant, (chain, draw).
        diverging: whether the integrator diverged, bool, shape (chain, draw).
        relabelled: whether the labels had to be permuted, bool, shape (chain, draw).
        reference: the mode of the posterior that the labels are those of.
        clusters: for each of the K components, which of the facet's clusters it is.
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    log_density: np.ndarray
    diverging: np.ndarray
    relabelled: np.ndarray
    reference: Mixture
    clusters: tuple[int, ...]

    def r_hat(self) -> dict[str, np.ndarray]:
        """Rank-normalised split R-hat of weights (K,), means (K, D) and covariances."""
        return {name: _diagnose("rhat", getattr(self, name)) for name in QUANTITIES}

    def ess(self) -> dict[str, np.ndarray]:
        """Bulk effective sample size of weights (K,), means (K, D) and covariances."""
        return {name: _diagnose("ess", getattr(self, name)) for name in QUANTITIES}

    def interval(self, probability: float = 0.94) -> dict[str, np.ndarray]:
        """Equal-tailed credible intervals, with two more dims in front: (2, ...), lower and upper.

        Args:
            probability: that the posterior gives to the interval.

        Raises:
            ValueError: if it is not between 0 and 1.
        """
        number("probability", probability, above=0, below=1, expected="a number between 0 and 1")
        tail = (1 - probability) / 2
        return {name: np.quantile(getattr(self, name), (tail, 1 - tail), axis=(0, 1)) for name in QUANTITIES}

    def summary(self, probability: float = 0.94) -> str:
        """A table: mean, standard deviation, credible interval, R-hat and bulk ESS of every number.

        Args:
            probability: probability of the credible interval.
        """
        r_hat, ess, interval = self.r_hat(), self.ess(), self.interval(probability)
        low, high = (f"{100 * q:.3g}%" for q in ((1 - probability) / 2, (1 + probability) / 2))
        lines = [f"{'':<24}{'mean':>10}{'sd':>10}{low:>10}{high:>10}{'r_hat':>8}{'ess_bulk':>10}"]
        for name in QUANTITIES:
            draws = getattr(self, name)
            for index in np.ndindex(draws.shape[2:]):
                if len(index) == 3 and index[2] > index[1]:  # the matrix is symmetric
                    continue
                values = draws[(..., *index)]
                label = ", ".join(map(str, (self.clusters[index[0]], *index[1:])))
                lines.append(
                    f"{f'{name}[{label}]':<24}{values.mean():>10.4g}{values.std():>10.3g}"
                    f"{interval[name][(0, *index)]:>10.4g}{interval[name][(1, *index)]:>10.4g}"
                    f"{r_hat[name][index]:>8.3f}{ess[name][index]:>10.0f}"
                )
        return "\n".join(lines)

    def to_inference_data(self) -> Any:
        """The draws for ArviZ, with dims ``cluster`` and ``dim``, and the sampler's statistics."""
        rest = ("cluster", "dim", "dim_of_column")
        posterior: Variables = {}
        for name in QUANTITIES:
            draws = getattr(self, name)
            posterior[name] = ((*DRAW, *rest[: draws.ndim - 2]), draws)
        statistics = {"lp": self.log_density, "diverging": self.diverging, "relabelled": self.relabelled}
        groups = {
            "posterior": dataset(posterior, {"cluster": list(self.clusters)}),
            "sample_stats": dataset({name: (DRAW, values) for name, values in statistics.items()}),
        }
        return convert(groups)


def sample_mixture(
    embedding: np.ndarray,
    start: Mixture,
    *,
    variances: np.ndarray | None = None,
    hyper_priors: HyperPriors | None = None,
    kernel: Kernel = "nuts",
    num_samples: int = 1_000,
    warmup_steps: int = 500,
    num_chains: int = 4,
    seed: int = 0,
    progress: bool = True,
    clusters: tuple[int, ...] | None = None,
) -> MixturePosterior:
    r"""Draw the weights, means and covariances of a mixture of Gaussians given an embedding.

    .. math::
        p(\theta \mid z) \propto p(\theta) \prod_n \sum_k \pi_k
        \exp E_{q(z_n)} \log N(z_n; \mu_k, \Sigma_k), \qquad q(z_n) = N(m_n, \mathrm{diag}\, v_n)

    With v = 0 it is the posterior given the points m. Chains start around the mode that is nearest to
    ``start``, about two posterior standard deviations from it. They run one after another in this process.

    Args:
        embedding: m, shape (N, D).
        start: the mixture to start from; whether covariances are diagonal or full is taken from it.
        variances: v, shape (N, D); None is zero.
        hyper_priors: in units of the embedding's overall standard deviation in every dimension, around its
            mean; None is :class:`HyperPriors`'s defaults.
        kernel: ``"nuts"``, or ``"hmc"`` with trajectories of a quarter turn.
        num_samples: draws of each chain that are kept.
        warmup_steps: draws of each chain before those, in which step size and mass are adapted.
        num_chains: number of chains, at least 2.
        seed: seed of starts and chains.
        progress: whether to show a progress bar.
        clusters: names of the components in what is returned; None is 0 .. K - 1.

    Returns:
        The draws, in the units of the embedding.

    Raises:
        ValueError: for arrays that do not fit together or are not finite, or an unknown kernel.

    Warns:
        SamplingWarning: if an R-hat is above 1.01, a bulk ESS below 400, or a trajectory diverged.
    """
    major_version()  # fails here rather than after an hour
    _check_numbers(kernel, num_samples, warmup_steps, num_chains)
    points, noise = _check_embedding(embedding, variances, start)
    shift, scale = points.mean(0), np.sqrt(points.var(0) + noise.mean(0))
    if not (scale > 0).all():
        raise ValueError(
            f"embedding: dimensions {np.flatnonzero(scale == 0).tolist()} are constant; drop them"
        )
    y, v = (points - shift) / scale, noise / scale**2
    hyper_priors = hyper_priors or HyperPriors()
    reference = MixtureDensity(y, v, start.rescaled(-shift / scale, 1 / scale), hyper_priors).mode()
    density = MixtureDensity(y, v, reference, hyper_priors)

    chains, diverging = [], np.zeros((num_chains, num_samples), dtype=bool)
    with Bar(total=num_chains * (num_samples + warmup_steps), shows=progress, unit="draw") as bar:
        for chain in range(num_chains):
            bar.set_description(f"chain {chain + 1}/{num_chains}")
            own_seed = int(np.random.SeedSequence((seed, chain)).generate_state(1)[0])
            with seeded(own_seed, torch.device("cpu")), torch.enable_grad():
                u, diverged = _run_chain(density, kernel, num_samples, warmup_steps, bar)
            chains.append(u)
            diverging[chain, diverged] = True
    draws, permuted = _relabel(density, np.concatenate(chains))
    shape = (num_chains, num_samples)
    log_density = [-density.value_and_gradient(u)[0] for u in np.concatenate(chains)]
    posterior = MixturePosterior(
        **{name: _stack(draws, name, shift, scale, shape) for name in QUANTITIES},
        log_density=np.reshape(log_density, shape),
        diverging=diverging,
        relabelled=permuted.reshape(shape),
        reference=reference.rescaled(shift, scale),
        clusters=tuple(range(len(start.weights))) if clusters is None else tuple(clusters),
    )
    _warn(posterior)
    return posterior


class _Potential(torch.autograd.Function):
    """The potential, whose gradient comes with it at hardly any cost."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, density: MixtureDensity) -> Tensor:
        value, gradient = density.value_and_gradient(u.detach().numpy())
        ctx.gradient = torch.from_numpy(gradient)
        return torch.tensor(value, dtype=u.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return grad_outputs[0] * ctx.gradient, None


def _run_chain(
    density: MixtureDensity, kernel: str, num_samples: int, warmup_steps: int, bar: Bar
) -> tuple[np.ndarray, list[int]]:
    """Draws (num_samples, P), and which of them diverged."""

    def after_draw(*_: object) -> None:
        bar.update()
        Turn.give_way()

    def potential(parameters: dict[str, Tensor]) -> Tensor:
        return cast(Tensor, _Potential.apply(parameters["u"], density))

    start = JITTER * torch.randn(density.num_parameters, dtype=torch.float64)
    sampler = (
        NUTS(potential_fn=potential)
        if kernel == "nuts"
        else HMC(potential_fn=potential, trajectory_length=TRAJECTORY, target_accept_prob=0.95)
    )
    mcmc = MCMC(
        sampler,
        num_samples=num_samples,
        warmup_steps=warmup_steps,
        initial_params={"u": start},
        disable_progbar=True,
        hook_fn=after_draw,
    )
    mcmc.run()
    return mcmc.get_samples()["u"].numpy(), mcmc.diagnostics()["divergences"]["chain 0"]


def _relabel(density: MixtureDensity, draws: np.ndarray) -> tuple[list[Mixture], np.ndarray]:
    """Mixtures of the draws (S, P) with the labels of the reference, and whether labels changed, (S,)."""
    from scipy.optimize import linear_sum_assignment
    from scipy.special import log_softmax, softmax

    count = min(RELABEL_SIZE, len(density.points))
    reference = softmax(density.log_joint(np.zeros(draws.shape[1]), count), axis=1)
    mixtures, permuted = [], np.zeros(len(draws), dtype=bool)
    for s, u in enumerate(draws):
        gain = reference.T @ log_softmax(density.log_joint(u, count), axis=1)  # (K, K)
        _, order = linear_sum_assignment(gain, maximize=True)
        mixture = density.mixture(u)
        mixtures.append(Mixture(mixture.weights[order], mixture.means[order], mixture.covariances[order]))
        permuted[s] = (order != np.arange(len(order))).any()
    return mixtures, permuted


def _stack(
    draws: list[Mixture], name: str, shift: np.ndarray, scale: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """One quantity of all draws, in the units of the embedding, (chain, draw, ...)."""
    values = np.stack([getattr(draw.rescaled(shift, scale), name) for draw in draws])
    return values.reshape(*shape, *values.shape[1:])


def _diagnose(diagnostic: Literal["rhat", "ess"], draws: np.ndarray) -> np.ndarray:
    """Rank-normalised split R-hat, or bulk ESS, of draws (chain, draw, ...)."""
    options: dict[str, str | int] = {"method": "rank" if diagnostic == "rhat" else "bulk"}
    if major_version() < 1:
        function = getattr(import_arviz(), diagnostic)
    else:
        from arviz_stats.base import array_stats

        function = getattr(array_stats, diagnostic)
        options |= {"chain_axis": 0, "draw_axis": 1}
    values = np.full(draws.shape[2:], np.nan)  # of what is constant, as the weight of a single component
    for index in np.ndindex(values.shape):
        column = draws[(..., *index)]
        if np.ptp(column) > 0:
            values[index] = float(function(column, **options))
    return values


def _warn(posterior: MixturePosterior) -> None:
    r_hat = np.nanmax(np.concatenate([values.ravel() for values in posterior.r_hat().values()]))
    ess = np.nanmin(np.concatenate([values.ravel() for values in posterior.ess().values()]))
    diverged = int(posterior.diverging.sum())
    problems = []
    if r_hat > MAX_R_HAT:
        problems.append(f"the largest R-hat is {r_hat:.3f}, which should be at most {MAX_R_HAT}")
    if ess < MIN_ESS:
        problems.append(f"the smallest bulk ESS is {ess:.0f}, which should be at least {MIN_ESS}")
    if diverged:
        problems.append(f"{diverged} of {posterior.diverging.size} trajectories diverged")
    if problems:
        warnings.warn(
            f"{'; '.join(problems)}. Raise num_samples and warmup_steps. If that does not help, components "
            "overlap or have hardly any data (summary() shows which): leave them out by `clusters`, or "
            "strengthen `hyper_priors`",
            SamplingWarning,
            stacklevel=3,
        )


def _check_numbers(kernel: str, num_samples: int, warmup_steps: int, num_chains: int) -> None:
    one_of("kernel", kernel, KERNELS)
    integer("num_samples", num_samples, least=4)
    integer("warmup_steps", warmup_steps, least=0)
    integer("num_chains", num_chains, least=2)  # R-hat compares chains


def _check_embedding(
    embedding: np.ndarray, variances: np.ndarray | None, start: Mixture
) -> tuple[np.ndarray, np.ndarray]:
    points = np.asarray(embedding, dtype=np.float64)
    K, D = start.means.shape
    if points.ndim != 2 or points.shape[1] != D or not len(points):
        raise ValueError(
            f"embedding: got shape {points.shape}, expected (N, {D}), as the means of start have"
        )
    if start.weights.shape != (K,) or start.covariances.shape not in ((K, D), (K, D, D)):
        raise ValueError(
            f"start: got weights {start.weights.shape} and covariances {start.covariances.shape}, expected "
            f"({K},) and ({K}, {D}) or ({K}, {D}, {D})"
        )
    noise = np.zeros_like(points) if variances is None else np.asarray(variances, dtype=np.float64)
    if noise.shape != points.shape or not (noise >= 0).all():
        raise ValueError(f"variances: got shape {noise.shape}, expected {points.shape}, none negative")
    if not (np.isfinite(points).all() and np.isfinite(noise).all()):
        raise ValueError("embedding: got values that are not finite; drop these data")
    return points, noise
