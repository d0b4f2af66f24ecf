"""Posteriors of the facets' discrete sites, whatever they depend on."""

from __future__ import annotations

import torch
from pyro import poutine
from pyro.infer.traceenum_elbo import _compute_dice_elbo
from pyro.ops import packed
from torch import Tensor

from pyro_mfcvae.model.checks import Site
from pyro_mfcvae.model.objectives import normalise


def marginal_responsibilities(model_trace: poutine.Trace, guide_trace: poutine.Trace) -> dict[str, Tensor]:
    r"""Average the responsibilities of each facet over the enumerated sites that its c depends on.

    .. math:: q(c \mid x) = \sum_a q(a \mid x)\, q(c \mid x, a), \qquad
        q(a \mid x) \propto \frac{\partial\, \mathrm{ELBO}}{\partial\, \mathrm{term}(a)}

    The derivative is that of a log-sum-exp over all values a above c in the facet's term given a. What is
    averaged has no gradient; responsibilities with nothing above them stay as they are.

    Args:
        model_trace: packed trace of the model, in which one node stands for each facet.
        guide_trace: packed trace of the guide.

    Returns:
        For the name of each discrete site, probabilities of shape (plates..., K).
    """
    found = {}
    for name, r in model_trace.responsibilities.items():
        facet = model_trace.facets.get(name)
        if facet is not None:
            num_plates = len(facet.q["fn"].batch_shape)
            r = strip(r, 1 + num_plates)
            if r.dim() > 1 + num_plates:
                weights = _posterior_above(facet.z, model_trace, guide_trace)  # (above..., 1, plates...)
                joint = weights * model_trace.responsibilities[name].detach().movedim(-1, facet.enum_dim)
                others = [d for d in range(-joint.dim(), -num_plates) if d != facet.enum_dim]
                r = strip(joint.sum(others, keepdim=True).movedim(facet.enum_dim, -1), 1 + num_plates)
        found[name] = r
    return found


def _posterior_above(z: Site, model_trace: poutine.Trace, guide_trace: poutine.Trace) -> Tensor:
    """q(a | x) of the enumerated sites a that the term at node z depends on, shape that of the term."""
    with torch.enable_grad():
        kept = dict(z["packed"])
        term = kept["unscaled_log_prob"].detach().requires_grad_()
        term._pyro_dims = kept["unscaled_log_prob"]._pyro_dims
        z["packed"]["unscaled_log_prob"] = term
        z["packed"]["log_prob"] = packed.scale_and_mask(term, scale=z["scale"])
        z["packed"].pop("masked_log_prob", None)
        (gradient,) = torch.autograd.grad(_compute_dice_elbo(model_trace, guide_trace), term)
    z["packed"] = kept
    gradient._pyro_dims = term._pyro_dims
    weights: Tensor = packed.unpack(gradient, model_trace.symbol_to_dim)
    num_plates = max((-f.dim for f in z["cond_indep_stack"] if f.vectorized), default=0)
    return weights / weights.sum(tuple(range(-weights.dim(), -num_plates)), keepdim=True)


def prior_probabilities(c: Site) -> Tensor:
    """p(c) for every datum of c's plates, shape (plates..., K)."""
    dim = c["infer"]["_enumerate_dim"]
    log_pi = c["fn"].log_prob(c["value"])
    num_plates = max((-f.dim for f in c["cond_indep_stack"] if f.vectorized), default=0)
    return strip(normalise(log_pi, dim), 1 + num_plates)


def strip(tensor: Tensor, num_dims: int) -> Tensor:
    """Drop leading dims of size one, down to ``num_dims`` dims."""
    while tensor.dim() > num_dims and tensor.shape[0] == 1:
        tensor = tensor.squeeze(0)
    return tensor
