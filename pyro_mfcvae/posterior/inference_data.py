"""Draws of a model for ArviZ: groups of named arrays with named dimensions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from pyro import poutine
from torch import Tensor

from pyro_mfcvae._utils.checks import integer
from pyro_mfcvae.model.mfcvae import MFCVAE
from pyro_mfcvae.posterior.arviz_groups import DRAW, Array, Variables, dataset
from pyro_mfcvae.posterior.importance import MIN_PARTICLES, PASS, pareto_k, particles
from pyro_mfcvae.training.history import EpochRecord

if TYPE_CHECKING:  # slow to import, and only needed here
    import xarray as xr

MAX_VALUES = 2**28  # of one predictive group: a gigabyte


def groups(
    model: MFCVAE,
    x: Tensor,
    history: Sequence[EpochRecord],
    responsibilities: Callable[[Tensor], list[Tensor]],
    *,
    num_draws: int,
    seed: int,
    predictive: bool = True,
) -> dict[str, xr.Dataset]:
    r"""The groups that :meth:`FittedMFCVAE.to_inference_data` describes.

    Args:
        model: the model.
        x: data (N, *x_shape), on the CPU.
        history: history of its training; empty leaves the group ``training`` out.
        responsibilities: x (N, *x_shape) to the probabilities of each facet's clusters, (N, K_j).
        num_draws: number of draws S.
        seed: seed of the weights of the log-likelihood's draws; all else is from PyTorch's global generator.
        predictive: whether to draw data, too.

    Returns:
        A dataset for each group, by name.

    Raises:
        ValueError: if the number of draws is not positive, or the predictive groups would be too large.
    """
    num_draws = integer("num_draws", num_draws, least=1)
    size = num_draws * x.numel()
    if predictive and size > MAX_VALUES:
        raise ValueError(
            f"num_draws: got {num_draws} for {len(x)} data of shape {model.x_shape}, whose predictive draws "
            f"would be {size:,} values each, expected at most {MAX_VALUES:,}; give fewer data, fewer draws, "
            "or predictive=False"
        )
    draws = _posterior_draws(model, x, responsibilities, num_draws, predictive)
    x_dims = _dims("x", len(model.x_shape))
    log_weights = draws.pop("log_weight")  # (S, N)
    posterior: Variables = {
        site: ((*DRAW, "datum", f"{site}_dim"), draws[site][None]) for site in model.latent_sites
    }
    for j, r in enumerate(_numbered(draws, "responsibilities")):
        every = np.broadcast_to(r, (1, num_draws, *r.shape))  # a view: no draw has a copy
        posterior[f"responsibilities_{j}"] = ((*DRAW, "datum", f"cluster_{j}"), every)
    for name, values in global_draws(model, num_draws).items():
        posterior[name] = ((*DRAW, *_dims(name, values.ndim - 1)), values[None])
    sample_stats: Variables = {"log_weight": ((*DRAW, "datum"), log_weights[None])}
    if num_draws >= MIN_PARTICLES:
        sample_stats["pareto_k"] = (("datum",), pareto_k(log_weights))
    log_likelihood = bootstrap(log_weights, np.random.default_rng(seed))
    variables: dict[str, Variables] = {
        "posterior": posterior,
        "log_likelihood": {"x": ((*DRAW, "datum"), log_likelihood[None])},
        "sample_stats": sample_stats,
        "observed_data": {"x": (("datum", *x_dims), x.numpy())},
    }
    if predictive:
        prior = _prior_predictive(model, len(x), num_draws)
        for name, values in (("posterior_predictive", draws["x"]), ("prior_predictive", prior)):
            variables[name] = {"x": ((*DRAW, "datum", *x_dims), values[None])}
    if history:
        variables["training"] = _training(history)
    names = {} if model.schema is None else {x_dims[0]: list(model.schema.names)}
    return {
        group: dataset(values, names if any(x_dims[0] in dims for dims, _ in values.values()) else None)
        for group, values in variables.items()
    }


def global_draws(model: MFCVAE, num_draws: int) -> dict[str, Array]:
    """Draws of what all data share: the latent sites of the guides of those priors that have one.

    Args:
        model: the model.
        num_draws: number of draws S.

    Returns:
        Values (S, ...) by the name of the site; empty where every prior is a point estimate.
    """
    values: dict[str, list[Tensor]] = {}
    for j, prior in enumerate(model.facet_priors):
        for _ in range(num_draws if prior.has_globals else 0):
            trace = poutine.trace(prior.guide).get_trace(f"prior_{j}")
            for name in trace.stochastic_nodes:
                site = trace.nodes[name]
                if not site["infer"].get("is_auxiliary"):  # an autoguide's unconstrained values
                    values.setdefault(name, []).append(site["value"].detach().cpu())
    return {name: torch.stack(draws).numpy() for name, draws in values.items()}


def bootstrap(log_weights: Array, rng: np.random.Generator) -> Array:
    r"""Log of the mean of weights, as many times as there are weights, each time with other shares.

    .. math::
        \log \hat p_r = \log \sum_s g_{rs} w_s, \qquad g_r \sim \mathrm{Dirichlet}(1, \ldots, 1)

    The draws differ by as much as the estimate from S weights is uncertain.

    Args:
        log_weights: shape (S, N).
        rng: the source of the shares, which are the same for all data.

    Returns:
        Nats, shape (S, N).

    References:
        Rubin (1981), The Bayesian bootstrap.
    """
    shares = rng.dirichlet(np.ones(len(log_weights)), size=len(log_weights))  # (S, S)
    highest = log_weights.max(0)
    values: Array = np.log(shares @ np.exp(log_weights - highest)) + highest
    return values


def _posterior_draws(
    model: MFCVAE,
    x: Tensor,
    responsibilities: Callable[[Tensor], list[Tensor]],
    num_draws: int,
    predictive: bool,
) -> dict[str, Array]:
    """Samples (S, N, ...) of q(z | x) and of data given them, log weights (S, N), responsibilities (N, K)."""
    parts: dict[str, list[Tensor]] = {}
    for block in x.split(PASS):
        data = block.to(model.device)
        of_block: dict[str, list[Tensor]] = {}
        for some in particles(model, data, num_draws):
            values = {"log_weight": some.log_weights, **dict(zip(model.latent_sites, some.z, strict=True))}
            if predictive:
                values["x"] = model.likelihood.given(data)(some.features).sample()
            for name, value in values.items():
                of_block.setdefault(name, []).append(value.cpu())
        for name, draws in of_block.items():
            parts.setdefault(name, []).append(torch.cat(draws))
        with torch.no_grad():
            for j, r in enumerate(responsibilities(data)):
                parts.setdefault(f"responsibilities_{j}", []).append(r.cpu())
    axis = {name: 0 if name.startswith("responsibilities") else 1 for name in parts}
    joined = {name: torch.cat(values, axis[name]).numpy() for name, values in parts.items()}
    return {**joined, "log_weight": joined["log_weight"].astype(np.float64)}


@torch.no_grad()
def _prior_predictive(model: MFCVAE, N: int, num_draws: int) -> Array:
    """Data from the prior, in the shape of those from the posterior, (S, N, *x_shape)."""
    blocks = []
    for start in range(0, num_draws * N, PASS):
        number = torch.Size([min(PASS, num_draws * N - start)])
        c = [prior.weights().sample(number) for prior in model.latent_priors]
        z = [prior.component(c_j).sample() for prior, c_j in zip(model.latent_priors, c, strict=True)]
        blocks.append(model.likelihood(model.decode(z)).sample().cpu())
    return torch.cat(blocks).reshape(num_draws, N, *model.x_shape).numpy()


def _training(history: Sequence[EpochRecord]) -> Variables:
    """Every field of the records, by epoch, and by facet where there is one value for each.

    What no epoch knows is left out, and what some do not know is NaN there.
    """
    variables: Variables = {}
    for name in EpochRecord.__dataclass_fields__:
        values = [getattr(record, name) for record in history]
        if all(value is None for value in values):
            continue
        dims = ("epoch", "facet") if isinstance(values[0], tuple) else ("epoch",)
        known = [np.nan if value is None else value for value in values]
        variables["epoch_of_stage" if name == "epoch" else name] = dims, np.array(known)
    return variables


def _dims(name: str, number: int) -> tuple[str, ...]:
    return tuple(f"{name}_dim_{i}" for i in range(number))


def _numbered(arrays: Mapping[str, Array], name: str) -> list[Array]:
    """The arrays ``name_0``, ``name_1``, ..."""
    return [arrays[f"{name}_{j}"] for j in range(sum(key.startswith(f"{name}_") for key in arrays))]
