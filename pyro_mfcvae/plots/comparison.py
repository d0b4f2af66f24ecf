"""The picture of a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyro_mfcvae.plots.style import COLORS, GREY, figure_of, new_figure, tidy

if TYPE_CHECKING:  # matplotlib is slow to import, and only needed when a plot is made
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pyro_mfcvae.results.comparison import Comparison

OFFSET = 0.16  # between the two marks of an entry, of the distance of two entries


def plot_comparison(comparison: Comparison, ax: Axes | None = None) -> Figure:
    """Draw held-out log-likelihood and ELBO of every entry, best on top, in nats per datum.

    A filled mark is the importance-weighted log p(x), an open one the ELBO below it; their bars are the
    standard error over the data. Black strokes are the single runs. A triangle is the log-likelihood again,
    with the standard error of its difference from the best entry: data that are hard for one model are
    hard for all, and so this says more about which one is better.

    Args:
        comparison: result of :func:`pyro_mfcvae.compare`.
        ax: axes to draw in; None makes a figure that belongs to nobody else.

    Returns:
        The figure.
    """
    names = sorted(comparison, key=lambda name: -comparison[name].log_likelihood.mean())
    if ax is None:
        ax = new_figure(7.0, 1.3 + 0.55 * len(names), layout="constrained").subplots()
    summaries = [comparison.summary(name) for name in names]
    rows = np.arange(len(names))
    for key, label, shift, face, color in (
        ("log_likelihood", "log p(x)", -OFFSET, COLORS[0], COLORS[0]),
        ("elbo", "ELBO", OFFSET, "white", COLORS[1]),
    ):
        ax.errorbar(
            [summary[key] for summary in summaries],
            rows + shift,
            xerr=np.nan_to_num([summary[f"{key}_se"] for summary in summaries]),
            fmt="o",
            color=color,
            markerfacecolor=face,
            markersize=6,
            capsize=3,
            label=label,
            zorder=3,
        )
        for row, name in zip(rows, names, strict=True):
            runs = getattr(comparison[name], key).mean(1)
            if len(runs) > 1:
                ax.plot(runs, np.full(len(runs), row + shift), "|", color="black", markersize=9, zorder=4)
    if len(names) > 1:
        ax.errorbar(
            [summary["log_likelihood"] for summary in summaries[1:]],
            rows[1:],
            xerr=np.nan_to_num([summary["behind_se"] for summary in summaries[1:]]),
            fmt="^",
            color=GREY,
            markersize=5,
            capsize=2,
            label="difference from the best",
        )
        ax.axvline(summaries[0]["log_likelihood"], color=GREY, linestyle=":", linewidth=1, zorder=0)
    ax.set_yticks(rows, names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlabel(f"nats per datum, {comparison.num_data:,} held-out data (bars: standard error)")
    tidy(ax, "x")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    return figure_of(ax)
