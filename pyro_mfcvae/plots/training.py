"""Pictures of the course of training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyro_mfcvae.plots.curves import (
    Curve,
    Span,
    alive_curves,
    fit_curves,
    kl_weight_curves,
    limits,
    stage_spans,
    term_curves,
)
from pyro_mfcvae.plots.style import COLORS, DASHES, GREY, figure_of, new_figure, tidy
from pyro_mfcvae.results.fitted import FittedMFCVAE
from pyro_mfcvae.training.history import History

if TYPE_CHECKING:  # matplotlib is slow to import, and only needed when a plot is made
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def training_curves(fitted: FittedMFCVAE) -> Figure:
    """Draw ELBO, its terms, the facets' weights and the clusters alive, epoch by epoch.

    The figures are those of :class:`EpochRecord`: in nats per datum, without KL weights, on a sample of the
    training data; fade-in and KL weight are those at the end of an epoch. Stages are shaded; a dotted line
    is where a stage's mixtures were fitted after its warm-up. Terms and clusters of a facet are drawn from
    the stage that introduces it. Very low values of the first epochs may lie outside the picture.

    Args:
        fitted: the model.

    Returns:
        The figure.

    Raises:
        ValueError: if the model has no history.
    """
    history = fitted.history
    if not history:
        raise ValueError("fitted: got a model whose history is empty, expected at least one epoch; train it")
    spans = stage_spans(history)
    figure = new_figure(8.0, 9.0, layout="constrained")
    panels = figure.subplots(4, sharex=True, height_ratios=(3, 3, 2, 2.5))
    _draw_fit(panels[0], history)
    _draw_terms(panels[1], fitted)
    _draw_weights(panels[2], fitted)
    _draw_alive(panels[3], fitted)
    for panel in panels:
        _shade_stages(panel, fitted, spans, has_label=panel is not panels[0])
        panel.margins(x=0)
        tidy(panel)
        panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    panels[3].set_xlabel(f"epoch ({history[-1].seconds:,.0f} s for all {len(history)})")
    panels[3].locator_params(axis="x", integer=True)
    for span in spans:
        facets = ", ".join(map(str, fitted.model.config.stages[span.stage].introduces))
        title = f"stage {span.stage + 1}"
        panels[0].text(
            (span.first + span.last) / 2,
            1.02,
            f"{title}\nfacet {facets}" if facets else title,
            transform=panels[0].get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=8,
            color=GREY,
        )
    return figure


def plot_history(history: History, ax: Axes | None = None) -> Figure:
    """Draw ELBO and log-likelihood of a history; see :meth:`History.plot`."""
    if not history:
        raise ValueError("history: got no epochs, expected at least one")
    figure = new_figure(7.0, 3.0, layout="constrained") if ax is None else figure_of(ax)
    panel = figure.subplots() if ax is None else ax
    _draw_fit(panel, history)
    for span in stage_spans(history):
        _shade(panel, span)
    panel.margins(x=0)
    tidy(panel)
    panel.legend(loc="best", frameon=False, fontsize=9)
    panel.set_xlabel("epoch")
    return figure


def _draw_fit(ax: Axes, history: History) -> None:
    """Draw ELBO and log-likelihood, the ELBO above it."""
    elbo, log_likelihood, *held_out = fit_curves(history)
    _plot(ax, log_likelihood, COLORS[4], "--")
    _plot(ax, elbo, COLORS[0], "-")
    for curve in held_out:
        _plot(ax, curve, COLORS[1], "-.")
    ax.set_ylim(limits([elbo, log_likelihood, *held_out]))
    ax.set_ylabel("nats per datum")


def _draw_terms(ax: Axes, fitted: FittedMFCVAE) -> None:
    """Draw the term of each facet in the ELBO, and of the nuisance."""
    curves = term_curves(fitted)
    for j, curve in enumerate(curves):
        _plot(ax, curve, *_style(j))
    ax.set_ylim(limits(curves))
    ax.set_ylabel("facet terms, nats")


def _draw_weights(ax: Axes, fitted: FittedMFCVAE) -> None:
    """Draw fade-in (broad and pale) and KL weight of each facet, and the KL weight of the nuisance."""
    for j, kl_weight in enumerate(kl_weight_curves(fitted)):
        color, dashes = _style(j)
        if j < fitted.num_facets:
            fade_in = [fitted.history[e - 1].fade_in[j] for e in kl_weight.epochs]
            wide = Curve(rf"facet {j}: fade-in $\alpha$", kl_weight.epochs, fade_in)
            _plot(ax, wide, color, "-", width=5.0, alpha=0.3)
        _plot(ax, kl_weight, color, dashes)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("weights")


def _draw_alive(ax: Axes, fitted: FittedMFCVAE) -> None:
    """Draw the number of clusters that are the most probable one for some datum."""
    components = [facet.clusters for facet in fitted.config.facets]  # none are joined in training
    for j, (curve, K) in enumerate(zip(alive_curves(fitted), components, strict=True)):
        _plot(ax, dataclasses.replace(curve, name=f"{curve.name} (of {K})"), *_style(j))
    ax.set_ylabel("clusters alive")
    ax.set_ylim(0, 1.06 * max(components))
    ax.locator_params(axis="y", integer=True)


def _style(j: int) -> tuple[str, str]:
    """Return the colour and the dashes of facet j."""
    return COLORS[j % len(COLORS)], DASHES[j % len(DASHES)]


def _plot(
    ax: Axes, curve: Curve, color: str, dashes: str, width: float | None = None, alpha: float = 1.0
) -> None:
    """Draw a curve; a single point would not show without a marker."""
    ax.plot(
        curve.epochs,
        curve.values,
        color=color,
        linestyle=dashes,
        linewidth=width,
        alpha=alpha,
        marker="." if len(curve.values) < 3 else "",
        label=curve.name,
    )


def _shade_stages(ax: Axes, fitted: FittedMFCVAE, spans: Sequence[Span], has_label: bool) -> None:
    """Shade stages, and mark where their mixtures were fitted, with a label unless there is one."""
    for span in spans:
        _shade(ax, span)
        warm_up = _warm_up_epochs(fitted, span.stage)
        if warm_up:
            label = None if has_label else "mixtures fitted"
            has_label = True
            place = span.first + warm_up - 0.5
            ax.axvline(place, color=GREY, linestyle=":", linewidth=1, zorder=1, label=label)


def _shade(ax: Axes, span: Span) -> None:
    shade = ("#F3F3F3", "#E4E8EE")[span.stage % 2]
    ax.axvspan(span.first - 0.5, span.last + 0.5, color=shade, linewidth=0, zorder=0)


def _warm_up_epochs(fitted: FittedMFCVAE, s: int) -> int:
    """Count the warm-up epochs of stage s."""
    stage = fitted.model.config.stages[s]
    if stage.warm_up_steps is None:
        return stage.warm_up_epochs
    start = max((record.steps for record in fitted.history if record.stage < s), default=0)
    steps = [record.steps - start for record in fitted.history if record.stage == s]
    return sum(n <= stage.warm_up_steps for n in steps)
