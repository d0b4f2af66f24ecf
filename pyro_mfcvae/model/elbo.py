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
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import TraceEnum_ELBO
from pyro.infer.util import is_validation_enabled
from pyro.poutine.util import prune_subsample_sites
from pyro.util import check_model_guide_match, check_site_shape, check_traceenum_requirements
from torch import Tensor, nn

from pyro_mfcvae.model.checks import Site, check_all_enumerated
from pyro_mfcvae.model.facet_sites import FacetSites, enumerated_so_far, find_facets, wide_dims
from pyro_mfcvae.model.marginals import marginal_responsibilities, prior_probabilities
from pyro_mfcvae.model.objectives import OBJECTIVES, Objective, facet_term


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
    While it lasts, ``class JitFacetELBO(FacetELBO, JitTraceEnum_ELBO)`` with an empty body is one.

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

        Where c depends on other enumerated sites, these are averaged over, under their own posterior.

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
        traces = next(self._get_traces(model, guide, args, kwargs))
        return marginal_responsibilities(*traces)

    def compute_marginals(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> dict[str, dist.Distribution]:
        """Posteriors of all enumerated sites, as distributions, in the manner of ``TraceEnum_ELBO``.

        Those of the facets are :meth:`responsibilities`, those of other sites ``TraceEnum_ELBO``'s.
        """
        facets = self.responsibilities(model, guide, *args, **kwargs)
        marginals: dict[str, dist.Distribution] = super().compute_marginals(model, guide, *args, **kwargs)
        return {**marginals, **{c: dist.Categorical(probs=probs) for c, probs in facets.items()}}

    def sample_posterior(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Run the model at a sample z of the guide and one of p(c|z), just as ``TraceEnum_ELBO`` does."""
        stock = TraceEnum_ELBO(num_particles=self.num_particles, max_plate_nesting=self.max_plate_nesting)
        return stock.sample_posterior(model, guide, *args, **kwargs)

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
        check_all_enumerated(model_trace, guide_trace)
        if is_validation_enabled():
            check_model_guide_match(model_trace, guide_trace, self.max_plate_nesting)
            check_traceenum_requirements(model_trace, guide_trace)
        guide_trace = prune_subsample_sites(guide_trace)
        model_trace = prune_subsample_sites(model_trace)

        above = enumerated_so_far(model_trace, guide_trace)
        facets = find_facets(model_trace, guide_trace, above, self.max_plate_nesting)
        order = list(model_trace.nodes)
        responsibilities = {}
        for facet in facets:
            term, resp = self._facet_term(facet)
            guide_trace.remove_node(facet.name)
            if facet.c is not None:
                model_trace.remove_node(facet.c["name"])
                responsibilities[facet.c["name"]] = resp
            scaled = scale_and_mask(term, scale=facet.z["scale"])
            facet.z.update(is_observed=True, unscaled_log_prob=term, log_prob=scaled)
            facet.z.update(log_prob_sum=scaled.sum(), mask=None)

        model_trace.compute_log_prob()
        guide_trace.compute_score_parts()
        self._check_rest(model_trace, guide_trace, facets, above)
        for site in self._unused_enumerated_sites(model_trace, above):
            responsibilities[site["name"]] = prior_probabilities(site)
            model_trace.remove_node(site["name"])  # contributes log sum_k pi_k = 0

        guide_trace.pack_tensors()
        model_trace.pack_tensors(guide_trace.plate_to_symbol)
        model_trace.facets = {facet.c["name"]: facet for facet in facets if facet.c is not None}
        model_trace.responsibilities = {c: responsibilities[c] for c in order if c in responsibilities}
        return model_trace, guide_trace

    def _facet_term(self, facet: FacetSites) -> tuple[Tensor, Tensor]:
        """Facet term, masked, and responsibilities with the enumeration dim moved last."""
        q, p, c = facet.q["fn"], facet.z["fn"], facet.c
        masks = [site["mask"] for site in (facet.q, facet.z, c) if site is not None]
        is_left_out = any(mask is False for mask in masks)  # as for a KL weight of zero
        with torch.set_grad_enabled(torch.is_grad_enabled() and not is_left_out):
            term, responsibilities = facet_term(
                q,
                p,
                0.0 if c is None else c["fn"].log_prob(c["value"]),
                dim=facet.enum_dim,
                objective=self.objective,
                value=facet.q["value"],
                num_samples=self.num_kl_samples,
            )
        if is_left_out:
            return torch.zeros_like(term), responsibilities
        for mask in masks:
            term = scale_and_mask(term, mask=mask)
        return term, responsibilities

    def _check_rest(
        self,
        model_trace: poutine.Trace,
        guide_trace: poutine.Trace,
        facets: list[FacetSites],
        above: dict[str, dict[int, Site]],
    ) -> None:
        """Every enumeration dim of a facet must have left the traces with it."""
        collapsed = {facet.name: facet for facet in facets}
        owners = {facet.c["name"]: facet.name for facet in facets if facet.c is not None}
        for name, site in (*model_trace.nodes.items(), *guide_trace.nodes.items()):
            if site["type"] != "sample":
                continue
            facet = collapsed.get(name)
            if is_validation_enabled() and "fn" in site and facet is None:
                check_site_shape(site, self.max_plate_nesting)
            for dim in wide_dims(site["log_prob"].shape, self.max_plate_nesting):
                c = above.get(name, {}).get(dim)
                if c is not None and c["name"] in owners:
                    child = name if facet is None or facet.c is None else facet.c["name"]
                    raise ValueError(
                        f"site '{child}' depends on the enumerated site '{c['name']}', which "
                        f"belongs to '{owners[c['name']]}' alone because '{owners[c['name']]}' is marked "
                        "collapse_kl; remove collapse_kl or the dependence"
                    )

    def _unused_enumerated_sites(
        self, model_trace: poutine.Trace, above: dict[str, dict[int, Site]]
    ) -> list[Site]:
        """Enumerated sites that no other site depends on, such as the c of a single component."""
        sites = {name: site for name, site in model_trace.nodes.items() if site["type"] == "sample"}
        used = {
            above[name][dim]["name"]
            for name, site in sites.items()
            for dim in wide_dims(site["log_prob"].shape, self.max_plate_nesting)
            if dim in above[name] and above[name][dim] is not site
        }
        enumerated = {site["name"] for found in above.values() for site in found.values()}
        return [site for name, site in sites.items() if name in enumerated - used]
