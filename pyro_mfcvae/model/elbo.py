r"""The multi-facet evidence lower bound, and the theorem behind it.

**Setting.** Enumerated discrete variables :math:`c_j` each own a continuous latent :math:`z_j`,
and the guide factorises, :math:`q(z, c\mid x) = \prod_j q(z_j\mid x)\, q(c_j\mid x)`. Then

.. math::
    \mathrm{ELBO}(x) = E_q \log p(x\mid z)
        - \sum_j E_{q(c_j\mid x)} \mathrm{KL}\bigl(q(z_j\mid x) \,\|\, p(z_j\mid c_j)\bigr)
        - \sum_j \mathrm{KL}\bigl(q(c_j\mid x) \,\|\, p(c_j)\bigr).

**Theorem** (Falck et al., 2021). For fixed :math:`q(z_j\mid x)` the maximising :math:`q(c_j\mid x)` is

.. math::
    r_{jk} \propto \pi_{jk} \exp\bigl(-\mathrm{KL}_{jk}\bigr), \qquad
    \mathrm{KL}_{jk} = \mathrm{KL}\bigl(q(z_j\mid x) \,\|\, p(z_j\mid c_j = k)\bigr),

and at the maximum facet j contributes :math:`\log \sum_k \pi_{jk} \exp(-\mathrm{KL}_{jk})`.

**Proof.** Facet j's part of the ELBO is
:math:`\sum_k q_k(\log \pi_{jk} - \mathrm{KL}_{jk} - \log q_k) = \log Z_j - \mathrm{KL}(q \,\|\, r_j)`
with :math:`Z_j = \sum_k \pi_{jk} \exp(-\mathrm{KL}_{jk})`. A KL divergence is zero only where both
arguments agree: the maximum is :math:`\log Z_j`, at :math:`q = r_j`. ∎

For Gaussian components every :math:`\mathrm{KL}_{jk}` is in closed form, so neither the
responsibilities nor the facet terms need a sample. A latent without c, such as a nuisance, contributes
:math:`-\mathrm{KL}(q(z\mid x) \,\|\, p(z))`, the same with K = 1.

**Relatives**, with samples :math:`z^{(l)} \sim q(z_j\mid x)`:

=============== ========================================== =======================================
objective       responsibilities                           facet term
=============== ========================================== =======================================
``analytic``    :math:`\propto \pi_k e^{-\mathrm{KL}_k}`   :math:`\log\sum_k \pi_k e^{-\mathrm{KL}_k}`
``monte_carlo`` as above, :math:`\mathrm{KL}_k`            as above, :math:`\mathrm{KL}_k`
                averaged over L samples                    averaged over L samples
``marginal``    mean of :math:`p(c\mid z^{(l)})`           mean of :math:`\log p(z^{(l)}) - \log q(z^{(l)})`
``vade``        mean of :math:`p(c\mid z^{(l)})`           those, put into the ELBO above
=============== ========================================== =======================================

In exact expectation ``vade`` <= ``analytic`` <= E[``marginal``] <= log p(x). VaDE's choice (Jiang et al.,
2017) is one more q(c|x), and so no better than the maximiser. The log-sum-exp is convex, which gives the
second inequality. ``marginal`` is the ELBO of the model with c summed out, or, which is the same, of the
guide q(z|x) p(c|z), in which c may depend on z; it is what stock ``TraceEnum_ELBO`` computes.
``monte_carlo`` maximises over q(c|x) after sampling, and E max >= max E: it is biased upwards, and falls
to ``analytic`` as L grows. With one sample, it, ``marginal`` and ``vade`` are the same number.

**As a Rao-Blackwellisation.** For any fixed q(c|x), sampling z gives unbiased estimates of the ELBO and
of its gradient; replacing :math:`\log p(z\mid c) - \log q(z\mid x)` by its expectation given x, which is
:math:`-\mathrm{KL}_k`, keeps the mean and removes the variance that z had brought (Rao-Blackwell). At the
maximiser the gradient is that of a fixed q(c|x), since the derivative with respect to q(c|x) vanishes
there (envelope theorem). So the gradient of ``analytic`` is that of the ELBO at :math:`q(c\mid x) = r`,
with no noise from the facet terms; none at all reaches the parameters of the mixtures. What noise is left
comes from the likelihood.

**The default** is ``analytic``: its responsibilities are the maximiser itself, and no noise of the facet
terms is in its gradient. (For the parameters of q(z|x) that is usually, not always, the least noise: that
of the likelihood is left, and a sampled facet term can happen to cancel some of it.) ``marginal`` is the
tighter bound; it leaves c free to follow z, so a posterior q(z|x) that straddles several components costs
less than under ``analytic``, which makes it choose.

References:
    F. Falck, H. Zhang, M. Willetts, G. Nicholson, C. Yau, C. Holmes (2021). Multi-Facet Clustering
    Variational Autoencoders. NeurIPS, arXiv:2106.05241, theorem 1.

    Z. Jiang, Y. Zheng, H. Tan, B. Tang, H. Zhou (2017). Variational Deep Embedding. IJCAI,
    arXiv:1611.05148.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import TraceEnum_ELBO
from pyro.infer.util import is_validation_enabled
from pyro.poutine.util import prune_subsample_sites
from pyro.util import check_model_guide_match, check_site_shape, check_traceenum_requirements
from torch import Tensor, nn

from pyro_mfcvae.model.checks import Site, check_same_context, check_same_scale
from pyro_mfcvae.model.objectives import OBJECTIVES, Objective, facet_term, normalise


@dataclass(frozen=True)
class _Facet:
    """A collapsed latent site z and the enumerated site c that selects its component."""

    z: Site  # in the model
    q: Site  # in the guide
    c: Site | None  # None: the prior of z has a single component

    @property
    def name(self) -> str:
        return cast(str, self.z["name"])

    @property
    def enum_dim(self) -> int | None:
        return None if self.c is None else cast(int, self.c["infer"]["_enumerate_dim"])


class FacetELBO(TraceEnum_ELBO):  # type: ignore[misc]
    r"""ELBO in which enumerated mixture assignments are optimised out in closed form.

    .. math::
        E_q \log p(x\mid z) + \sum_j \beta_j \log \sum_k \pi_{jk}
        \exp\bigl(-\mathrm{KL}(q(z_j\mid x) \,\|\, p(z_j\mid c_j = k))\bigr)

    A drop-in for ``TraceEnum_ELBO`` in :class:`pyro.infer.SVI`. It collapses the guide sites marked
    with ``infer={"collapse_kl": True}``; all other sites are left to ``TraceEnum_ELBO``. A collapsed
    site must be reparametrised, and its prior may depend on at most one enumerated model site that
    nothing else depends on. The scale of a facet's sites (subsampling and KL weight) multiplies the
    whole facet term, outside the log-sum-exp; where a mask is false the term is exactly zero.

    There is no ``JitFacetELBO``, since PyTorch has deprecated the ``torch.jit`` that Pyro compiles with.
    While it lasts, ``class JitFacetELBO(FacetELBO, JitTraceEnum_ELBO)`` with an empty body is one; a step of
    small networks then takes a third to a half of the time.

    Args:
        objective: ``"analytic"`` (default), ``"monte_carlo"``, ``"marginal"`` or ``"vade"``; see
            :mod:`pyro_mfcvae.model.elbo`. ``"analytic"`` averages over samples only where no closed-form
            KL is registered for the pair of distributions.
        num_kl_samples: samples L of each collapsed latent wherever a facet term is estimated.
        num_particles: samples of the guide for the rest of the ELBO.
        max_plate_nesting: number of nested plates; give it, for a guess costs a run of the model.
        **kwargs: as in :class:`pyro.infer.ELBO`.

    Raises:
        ValueError: for an unknown objective or fewer than one sample, and during use for a model that
            breaks the assumption above; the message names the sites.

    Example:
        >>> import pyro, torch, pyro.distributions as dist
        >>> def model(x):
        ...     with pyro.plate("data", len(x)):
        ...         c = pyro.sample("c", dist.Categorical(torch.ones(2) / 2), infer={"enumerate": "parallel"})
        ...         z = pyro.sample("z", dist.Normal(torch.tensor([-1.0, 1.0])[c], 1.0))
        ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        >>> def guide(x):
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("z", dist.Normal(x / 2, 0.5), infer={"collapse_kl": True})
        >>> elbo = FacetELBO(max_plate_nesting=1)
        >>> elbo.responsibilities(model, guide, torch.tensor([0.0, 9.0]))["c"]
        tensor([[5.0000e-01, 5.0000e-01],
                [1.2339e-04, 9.9988e-01]])
    """

    def __init__(
        self,
        objective: Objective = "analytic",
        *,
        num_kl_samples: int = 1,
        num_particles: int = 1,
        max_plate_nesting: float = float("inf"),
        **kwargs: Any,
    ) -> None:
        if objective not in OBJECTIVES:
            raise ValueError(f"objective: got {objective!r}, expected one of {OBJECTIVES}")
        if num_kl_samples < 1:
            raise ValueError(f"num_kl_samples: got {num_kl_samples}, expected at least 1")
        super().__init__(num_particles=num_particles, max_plate_nesting=max_plate_nesting, **kwargs)
        self.objective = objective
        self.num_kl_samples = num_kl_samples

    def __call__(self, model: Callable[..., Any], guide: Callable[..., Any]) -> nn.Module:
        """Fix model and guide: a module whose forward pass is :meth:`differentiable_loss`.

        Args:
            model: a Pyro model, such as a module or a method of one.
            guide: its guide, the same.

        Returns:
            The module, with the parameters of both.
        """
        module: nn.Module = super().__call__(model, guide)
        owners = (getattr(program, "__self__", None) for program in (model, guide))
        for i, owner in enumerate(dict.fromkeys(owners)):
            if isinstance(owner, nn.Module):
                module.add_module(f"owner_{i}", owner)
        return module

    def responsibilities(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> dict[str, Tensor]:
        """Categorical posteriors q(c|x) of all facets, at the optimum that the loss is taken at.

        Args:
            model: a Pyro model.
            guide: its guide.
            *args: passed to both.
            **kwargs: passed to both.

        Returns:
            For the name of each enumerated site, probabilities of shape (plates..., K).

        Raises:
            ValueError: with more than one particle, where they would not be unique.
        """
        if self.num_particles != 1:
            raise ValueError(f"num_particles: got {self.num_particles}, expected 1 for responsibilities")
        model_trace, _ = next(self._get_traces(model, guide, args, kwargs))
        return cast(dict[str, Tensor], model_trace.responsibilities)

    def compute_marginals(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> dict[str, dist.Distribution]:
        """Posteriors of all enumerated sites, as distributions, in the manner of ``TraceEnum_ELBO``.

        Those of the facets are :meth:`responsibilities`, those of other sites ``TraceEnum_ELBO``'s.
        """
        facets = self.responsibilities(model, guide, *args, **kwargs)
        marginals: dict[str, dist.Distribution] = super().compute_marginals(model, guide, *args, **kwargs)
        return {**marginals, **{c: dist.Categorical(probs=probs) for c, probs in facets.items()}}

    def _get_trace(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[poutine.Trace, poutine.Trace]:
        """Run the guide and the model, and put one observed node in the place of every facet.

        The three loss methods of ``TraceEnum_ELBO`` then do the rest. Facets leave the traces before
        log-densities are computed, for p(z|c) at every sample and component is what we avoid.
        """
        guide_trace = poutine.trace(guide, graph_type="flat").get_trace(*args, **kwargs)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace), graph_type="flat").get_trace(
            *args, **kwargs
        )
        if is_validation_enabled():
            check_model_guide_match(model_trace, guide_trace, self.max_plate_nesting)
            check_traceenum_requirements(model_trace, guide_trace)
        guide_trace = prune_subsample_sites(guide_trace)
        model_trace = prune_subsample_sites(model_trace)

        facets = self._find_facets(model_trace, guide_trace)
        order = list(model_trace.nodes)
        responsibilities = {}
        for facet in facets:
            term, resp = self._facet_term(facet)
            guide_trace.remove_node(facet.name)
            if facet.c is not None:
                model_trace.remove_node(facet.c["name"])
                responsibilities[facet.c["name"]] = resp
            facet.z.update(is_observed=True, unscaled_log_prob=term, log_prob=term)
            facet.z.update(log_prob_sum=term.sum(), scale=1.0, mask=None)

        model_trace.compute_log_prob()
        guide_trace.compute_score_parts()
        self._check_rest(model_trace, guide_trace, facets)
        for site in self._unused_enumerated_sites(model_trace, guide_trace):
            responsibilities[site["name"]] = _prior_probabilities(site)
            model_trace.remove_node(site["name"])  # contributes log sum_k pi_k = 0

        guide_trace.pack_tensors()
        model_trace.pack_tensors(guide_trace.plate_to_symbol)
        model_trace.responsibilities = {c: responsibilities[c] for c in order if c in responsibilities}
        return model_trace, guide_trace

    def _find_facets(self, model_trace: poutine.Trace, guide_trace: poutine.Trace) -> list[_Facet]:
        """Pair every collapsed guide site with the enumerated model site that it depends on."""
        enumerated = _enumerated_sites(model_trace, guide_trace)
        facets = []
        owner: dict[str, str] = {}
        for name, q in guide_trace.nodes.items():
            if q["type"] != "sample" or not q["infer"].get("collapse_kl"):
                continue
            z = model_trace.nodes.get(name)
            if z is None or z["is_observed"]:
                raise ValueError(
                    f"site '{name}' is marked collapse_kl in the guide but is not a latent site of the model"
                )
            if not q["fn"].has_rsample or q["infer"].get("_enumerate_dim") is not None:
                raise ValueError(
                    f"site '{name}' is marked collapse_kl, so its guide distribution must be "
                    f"reparametrised and not enumerated; got {type(q['fn']).__name__}"
                )
            parents = [
                enumerated[dim]
                for dim in _wide_dims(z["fn"].batch_shape, self.max_plate_nesting)
                if dim in enumerated
            ]
            if len(parents) > 1:
                raise ValueError(
                    f"site '{name}' is marked collapse_kl, but its prior depends on several "
                    f"enumerated sites: {[p['name'] for p in parents]}; give each a latent site of "
                    "its own, or remove collapse_kl"
                )
            c = parents[0] if parents else None
            if c is not None:
                if c["name"] in owner:
                    raise ValueError(
                        f"sites '{owner[c['name']]}' and '{name}' are both marked collapse_kl and "
                        f"depend on the enumerated site '{c['name']}'; each needs one of its own"
                    )
                owner[c["name"]] = name
                check_same_context(c, z)
            if is_validation_enabled():
                check_same_scale(*([c] if c else []), z, q)
            facets.append(_Facet(z=z, q=q, c=c))
        return facets

    def _facet_term(self, facet: _Facet) -> tuple[Tensor, Tensor]:
        """Facet term, scaled and masked, and responsibilities with the enumeration dim moved last."""
        sites = [site for site in (facet.q, facet.z, facet.c) if site is not None]
        masks = [site["mask"] for site in sites]
        if any(mask is False for mask in masks):  # as for a KL weight of zero
            with torch.no_grad():
                _, responsibilities = self._collapse(facet)
            return facet.q["value"].new_zeros(facet.q["fn"].batch_shape), responsibilities
        term, responsibilities = self._collapse(facet)
        for mask in masks:
            term = scale_and_mask(term, mask=mask)
        return scale_and_mask(term, scale=facet.z["scale"]), responsibilities

    def _collapse(self, facet: _Facet) -> tuple[Tensor, Tensor]:
        """Facet term, neither scaled nor masked, and responsibilities."""
        q, p, c = facet.q["fn"], facet.z["fn"], facet.c
        term, responsibilities = facet_term(
            q,
            p,
            0.0 if c is None else c["fn"].log_prob(c["value"]),
            dim=facet.enum_dim,
            objective=self.objective,
            value=facet.q["value"],
            num_samples=self.num_kl_samples,
        )
        return term, _strip(responsibilities, 1 + len(q.batch_shape))

    def _check_rest(
        self, model_trace: poutine.Trace, guide_trace: poutine.Trace, facets: list[_Facet]
    ) -> None:
        """Every enumeration dim of a facet must have left the traces with it."""
        dims = {facet.enum_dim: facet for facet in facets if facet.c is not None}
        for trace in (model_trace, guide_trace):
            for name, site in trace.nodes.items():
                if site["type"] != "sample":
                    continue
                if is_validation_enabled() and "fn" in site and not _is_collapsed(site, facets):
                    check_site_shape(site, self.max_plate_nesting)
                for dim in _wide_dims(site["log_prob"].shape, self.max_plate_nesting):
                    if dim in dims and site is not dims[dim].c:
                        c, z = dims[dim].c, dims[dim].name
                        assert c is not None
                        raise ValueError(
                            f"site '{name}' depends on the enumerated site '{c['name']}', which "
                            f"belongs to '{z}' alone because '{z}' is marked collapse_kl; remove "
                            "collapse_kl or the dependence"
                        )

    def _unused_enumerated_sites(self, model_trace: poutine.Trace, guide_trace: poutine.Trace) -> list[Site]:
        """Enumerated sites that no other site depends on, such as the c of a single component."""
        enumerated = _enumerated_sites(model_trace, guide_trace)
        used = {
            dim
            for trace in (model_trace, guide_trace)
            for site in trace.nodes.values()
            if site["type"] == "sample"
            for dim in _wide_dims(site["log_prob"].shape, self.max_plate_nesting)
            if enumerated.get(dim) is not site
        }
        return [site for dim, site in enumerated.items() if dim not in used]


def _enumerated_sites(model_trace: poutine.Trace, guide_trace: poutine.Trace) -> dict[int, Site]:
    """Sites enumerated in the model, by their enumeration dim."""
    return {
        site["infer"]["_enumerate_dim"]: site
        for name, site in model_trace.nodes.items()
        if site["type"] == "sample"
        and name not in guide_trace.nodes
        and site["infer"].get("_enumerate_dim") is not None
    }


def _is_collapsed(site: Site, facets: list[_Facet]) -> bool:
    return any(site is facet.z for facet in facets)


def _wide_dims(shape: torch.Size, max_plate_nesting: float) -> list[int]:
    """Dims left of all plates, counted from the right, whose size is not one."""
    return [dim for dim in range(-len(shape), 0) if dim < -max_plate_nesting and shape[dim] > 1]


def _prior_probabilities(c: Site) -> Tensor:
    """p(c) for every datum of c's plates, shape (plates..., K)."""
    dim = c["infer"]["_enumerate_dim"]
    log_pi = c["fn"].log_prob(c["value"])
    num_plates = max((-f.dim for f in c["cond_indep_stack"] if f.vectorized), default=0)
    return _strip(normalise(log_pi, dim), 1 + num_plates)


def _strip(tensor: Tensor, num_dims: int) -> Tensor:
    """Drop leading dims of size one, down to ``num_dims`` dims."""
    while tensor.dim() > num_dims and tensor.shape[0] == 1:
        tensor = tensor.squeeze(0)
    return tensor
