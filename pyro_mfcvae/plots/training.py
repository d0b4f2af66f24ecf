"""How training went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pyro_mfcvae.plots.style import COLORS, DASHES, GREY, Array, new_figure, tidy
from pyro_mfcvae.results.fitted import FittedMFCVAE

if TYPE_CHECKING:  # matplotlib is slow to import, and only needed when a plot is made
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def training_curves(fitted: FittedMFCVAE) -> Figure:
    """How ELBO, its terms, the facets' weights and the clusters alive went, epoch by epoch.

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
        raise ValueError("fitted: its history is empty, expected at least one epoch")
    stages = [record.stage for record in history]
    figure = new_figure(8.0, 9.0, layout="constrained")
    panels = figure.subplots(4, sharex=True, height_ratios=(3, 3, 2, 2.5))
    _draw_fit(panels[0], fitted)
    _draw_terms(panels[1], fitted, stages)
    _draw_weights(panels[2], fitted)
    _draw_alive(panels[3], fitted, stages)
    for panel in panels:
        _shade_stages(panel, fitted, stages, has_label=panel is not panels[0])
        panel.margins(x=0)
        tidy(panel)
        panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    panels[3].set_xlabel(f"epoch ({history[-1].seconds:,.0f} s for all {len(history)})")
    panels[3].locator_params(axis="x", integer=True)
    for s in sorted(set(stages)):
        facets = ", ".join(map(str, fitted.model.config.stages[s].introduces))
        panels[0].text(
            (stages.index(s) + len(stages) - stages[::-1].index(s)) / 2 + 0.5,
            1.02,
            f"stage {s + 1}\nfacet {facets}" if facets else f"stage {s + 1}",
            transform=panels[0].get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=8,
            color=GREY,
        )
    return figure


def _draw_fit(ax: Axes, fitted: FittedMFCVAE) -> None:
    """ELBO and log-likelihood."""
    epochs = np.arange(1, len(fitted.history) + 1)
    marker = "." if len(epochs) < 3 else ""
    curves = {
        "log-likelihood": ([record.log_likelihood for record in fitted.history], COLORS[4], "--"),
        "ELBO": ([record.elbo for record in fitted.history], COLORS[0], "-"),
    }
    held_out = [record.held_out_elbo for record in fitted.history]
    if None not in held_out:
        curves["ELBO, held out"] = (cast("list[float]", held_out), COLORS[1], "-.")
    for label, (values, color, dashes) in curves.items():
        ax.plot(epochs, values, color=color, linestyle=dashes, marker=marker, label=label)
    _clip_below(ax, *(values for values, _, _ in curves.values()))
    ax.set_ylabel("nats per datum")


def _draw_terms(ax: Axes, fitted: FittedMFCVAE, stages: Sequence[int]) -> None:
    """The term of each facet in the ELBO."""
    terms = []
    for j, since in _introduced(fitted, stages):
        terms.append([fitted.history[i].facet_terms[j] for i in since])
        ax.plot(since + 1, terms[-1], label=f"facet {j}", **_style(fitted, j))
    _clip_below(ax, *terms)
    ax.set_ylabel("facet terms, nats")


def _draw_weights(ax: Axes, fitted: FittedMFCVAE) -> None:
    """Fade-in (broad and pale) and KL weight of each facet."""
    epochs = np.arange(1, len(fitted.history) + 1)
    for j in range(fitted.num_facets):
        style = _style(fitted, j)
        fade_in = [record.fade_in[j] for record in fitted.history]
        kl_weights = [record.kl_weights[j] for record in fitted.history]
        wide = {**style, "linestyle": "-", "linewidth": 5, "alpha": 0.3}
        ax.plot(epochs, fade_in, label=rf"facet {j}: fade-in $\alpha$", **wide)
        ax.plot(epochs, kl_weights, label=rf"facet {j}: KL weight $\beta$", **style)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("weights")


def _draw_alive(ax: Axes, fitted: FittedMFCVAE, stages: Sequence[int]) -> None:
    """Clusters that are the most probable one for some datum."""
    for j, since in _introduced(fitted, stages):
        alive = [fitted.history[i].alive[j] for i in since]
        ax.plot(since + 1, alive, label=f"facet {j} (of {fitted.clusters[j]})", **_style(fitted, j))
    ax.set_ylabel("clusters alive")
    ax.set_ylim(0, 1.06 * max(fitted.clusters))
    ax.locator_params(axis="y", integer=True)


def _introduced(fitted: FittedMFCVAE, stages: Sequence[int]) -> Iterator[tuple[int, Array]]:
    """Each facet with the 0-based epochs in which it takes part."""
    introduced = {j: s for s, stage in enumerate(fitted.model.config.stages) for j in stage.introduces}
    for j in range(fitted.num_facets):
        yield j, np.flatnonzero(np.asarray(stages) >= introduced[j])


def _style(fitted: FittedMFCVAE, j: int) -> dict[str, Any]:
    """Of the line of facet j; a single point would not show without a marker."""
    return {
        "color": COLORS[j % len(COLORS)],
        "linestyle": DASHES[j % len(DASHES)],
        "marker": "." if len(fitted.history) < 3 else "",
    }


def _clip_below(ax: Axes, *curves: Sequence[float]) -> None:
    """Leave the depths of the first epochs out, where they would flatten all that follows."""
    values = np.concatenate([np.asarray(curve) for curve in curves if len(curve)])
    typical = np.percentile(values, 10)
    high = values.max()
    low = max(values.min(), typical - 1.0 * (high - typical))
    room = 0.05 * (high - low) or 1.0
    ax.set_ylim(low - room, high + room)


def _shade_stages(ax: Axes, fitted: FittedMFCVAE, stages: Sequence[int], has_label: bool) -> None:
    for s in sorted(set(stages)):
        first, last = stages.index(s) + 1, len(stages) - stages[::-1].index(s)
        ax.axvspan(first - 0.5, last + 0.5, color=("#F3F3F3", "#E4E8EE")[s % 2], linewidth=0, zorder=0)
        warm_up = _warm_up_epochs(fitted, s)
        if warm_up:
            label = None if has_label else "mixtures fitted"
            has_label = True
            place = first + warm_up - 0.5
            ax.axvline(place, color=GREY, linestyle=":", linewidth=1, zorder=1, label=label)


def _warm_up_epochs(fitted: FittedMFCVAE, s: int) -> int:
    """How many of stage s."""
    stage = fitted.model.config.stages[s]
    if stage.warm_up_steps is None:
        return stage.warm_up_epochs
    start = max((record.steps for record in fitted.history if record.stage < s), default=0)
    steps = [record.steps - start for record in fitted.history if record.stage == s]
    return sum(n <= stage.warm_up_steps for n in steps)
