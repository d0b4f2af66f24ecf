"""The contribution of a facet to the ELBO; the page of :mod:`pyro_mfcvae.model.elbo` has the equations."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from pyro_mfcvae.config.mfcvae import OBJECTIVES as OBJECTIVES
from pyro_mfcvae.config.mfcvae import Objective as Objective
from pyro_mfcvae.model.kl import component_kl


def facet_term(
    q: dist.Distribution,
    p: dist.Distribution,
    log_pi: Tensor | float,
    *,
    dim: int | None,
    objective: Objective = "analytic",
    value: Tensor | None = None,
    num_samples: int = 1,
    samples: Callable[[], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Facet term and responsibilities of one facet; :mod:`pyro_mfcvae.model.elbo` has the equations.

    Args:
        q: q(z | x), batch shape (plates...).
        p: p(z | c), batch shape with all K values of c at ``dim``, left of the plates.
        log_pi: log p(c), which broadcasts with the batch shape of ``p``.
        dim: dim of c, negative; None if there is no c.
        objective: as in :class:`FacetELBO`.
        value: a sample of q that estimates may use as their first; None draws another.
        num_samples: samples L of estimates.
        samples: gives what estimates are averages over, (L, plates..., D), if it shall not be random.

    Returns:
        The term in nats, shape (plates...) with ones to the left, and q(c | x), shape (plates..., K).
    """
    options: dict[str, Any] = {"value": value, "num_samples": num_samples, "samples": samples}
    log_joint = _log_joint(q, p, log_pi, dim=dim, objective=objective, **options)
    return _term(log_joint, dim, objective), _mean(normalise(log_joint, dim))


def facet_value(
    q: dist.Distribution,
    p: dist.Distribution,
    log_pi: Tensor | float,
    *,
    dim: int | None,
    objective: Objective = "analytic",
    **options: Any,
) -> Tensor:
    r"""The term of :func:`facet_term` alone, which takes the same arguments.

    Returns:
        The term in nats, shape (plates...) with ones to the left.
    """
    return _term(_log_joint(q, p, log_pi, dim=dim, objective=objective, **options), dim, objective)


def facet_responsibilities(
    q: dist.Distribution, p: dist.Distribution, log_pi: Tensor | float, *, dim: int | None, **options: Any
) -> Tensor:
    r"""The responsibilities of :func:`facet_term` alone, which takes the same arguments.

    Returns:
        q(c | x), shape (plates..., K).
    """
    return _mean(normalise(_log_joint(q, p, log_pi, dim=dim, **options), dim))


def _log_joint(
    q: dist.Distribution,
    p: dist.Distribution,
    log_pi: Tensor | float,
    *,
    dim: int | None,
    objective: Objective = "analytic",
    value: Tensor | None = None,
    num_samples: int = 1,
    samples: Callable[[], Tensor] | None = None,
) -> Tensor:
    """Log p(c) + E log p(z|c) / q(z|x), or at each of L samples; (1 or L, ..., K, ..., plates...)."""
    if objective == "analytic":
        try:
            return (log_pi - component_kl(q, p, dim=dim)).unsqueeze(0)
        except NotImplementedError:  # no closed form is registered
            objective = "monte_carlo"
    values = _draw(q, value, num_samples) if samples is None else samples()
    log_ratio = _log_ratio(q, p, values)  # (L, ..., K, ..., plates...)
    return log_pi + (log_ratio.mean(0, keepdim=True) if objective == "monte_carlo" else log_ratio)


def _term(log_joint: Tensor, dim: int | None, objective: Objective) -> Tensor:
    if objective != "vade" or dim is None:
        return _mean(log_joint if dim is None else log_joint.logsumexp(dim, keepdim=True))
    # VaDE's choice of q(c|x), put into the ELBO. Where it is zero, it contributes zero.
    r = log_joint.softmax(dim).mean(0)
    log_r = r.clamp_min(torch.finfo(r.dtype).tiny).log()
    gap = torch.where(r > 0, log_joint.mean(0) - log_r, 0.0)
    return (r * gap).sum(dim, keepdim=True)


def _mean(values: Tensor) -> Tensor:
    """Mean over the first dim, for one sample without a copy."""
    return values.squeeze(0) if len(values) == 1 else values.mean(0)


def quasi_monte_carlo_points(q: dist.Distribution, num_samples: int = 16) -> Tensor:
    """Points that stand for the normal distribution q, always the same ones and symmetric about its mean.

    Averages over them do not change between calls, and the one for a datum does not depend on the others.

    Args:
        q: q(z | x), batch shape (plates...), event shape (D,).
        num_samples: points L, even.

    Returns:
        Points, shape (L, plates..., D).
    """
    D = q.event_shape[0]
    noise = torch.tensor(_symmetric_normals(num_samples, D)).to(q.mean)
    return cast(Tensor, q.mean + q.stddev * noise.reshape(num_samples, *(1,) * len(q.batch_shape), D))


@lru_cache
def _symmetric_normals(num_samples: int, D: int) -> npt.NDArray[np.float64]:
    """Points that stand for a standard normal, shape (num_samples, D)."""

    def draw() -> npt.NDArray[np.float64]:
        uniform = SobolEngine(D, scramble=True, seed=0).draw(num_samples // 2, dtype=torch.float64)
        noise = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))
        points: npt.NDArray[np.float64] = torch.cat([noise, -noise]).numpy()
        return points

    # In a thread of its own, which has no modes: torch.export and others have no values of tensors.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(draw).result()


def _draw(q: dist.Distribution, value: Tensor | None, num_samples: int) -> Tensor:
    """L samples of q, the given one first, shape (L, plates..., D)."""
    if value is None:
        value = q.rsample()
    values = value.unsqueeze(0)
    if num_samples > 1:
        values = torch.cat([values, q.rsample(torch.Size([num_samples - 1]))])
    return values


def _log_ratio(q: dist.Distribution, p: dist.Distribution, values: Tensor) -> Tensor:
    """Log p(z|c) - log q(z|x) at L samples of q, shape (L, batch shape of p)."""
    log_q = q.log_prob(values)
    # Samples go to the left of the enumeration dims.
    ones = (1,) * (len(p.batch_shape) - len(q.batch_shape))
    values = values.reshape(values.shape[:1] + ones + values.shape[1:])
    log_q = log_q.reshape(log_q.shape[:1] + ones + log_q.shape[1:])
    return cast(Tensor, p.log_prob(values) - log_q)


def normalise(log_joint: Tensor, dim: int | None) -> Tensor:
    """Softmax over the enumeration dim, which moves to the end; other enumeration dims vanish."""
    if dim is None:
        return torch.ones_like(log_joint).unsqueeze(-1)
    return log_joint.softmax(dim).movedim(dim, -1)
