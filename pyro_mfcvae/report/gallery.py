"""Galleries: each cluster of each facet on a card, with its surest data and what it generates."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from pyro_mfcvae.report.findings import MAX_EXAMPLES, Cluster, Findings
from pyro_mfcvae.report.tiles import Drawing

if TYPE_CHECKING:
    from pyro_mfcvae.results.fitted import FittedMFCVAE

AMOUNTS = (MAX_EXAMPLES, 6, 4, 2)  # pictures in each of the two rows of a card, from much to little
BYTES_PER_CARD = 1_600  # beside pictures
TEMPERATURE = 0.7  # of what a card generates

SORTS = {
    "size": "number of data",
    "confidence": "mean confidence",
    "weight": "mixture weight",
    "purity": "purity",
    "number": "number of the cluster",
}


class Gallery:
    """Cards, as many and as rich as there is room for.

    Args:
        fitted: the model.
        findings: what it makes of the data.
        drawing: how data are drawn.
        bytes_per_tile: of one picture.
        temperature: of what is generated.
        seed: of what is generated.
        budget: bytes that all cards may take.
    """

    def __init__(
        self,
        fitted: FittedMFCVAE,
        findings: Findings,
        drawing: Drawing,
        *,
        bytes_per_tile: float,
        temperature: float,
        seed: int,
        budget: float,
    ) -> None:
        self.fitted, self.findings, self.drawing = fitted, findings, drawing
        self.temperature, self.seed = temperature, seed
        cards = sum(map(len, findings.facets))
        costs = {amount: BYTES_PER_CARD + 2 * amount * bytes_per_tile for amount in AMOUNTS}
        affordable = [amount for amount in AMOUNTS if cards * costs[amount] <= budget]
        self.pictures = affordable[0] if affordable else AMOUNTS[-1]
        # What does not fit is left out facet by facet in proportion, the smallest clusters first.
        self.fraction = min(1.0, budget / (cards * costs[self.pictures]))

    def facet(self, j: int) -> str:
        """HTML of facet j: a heading, controls, and the cards."""
        clusters = sorted(self.findings.facets[j], key=lambda cluster: (-cluster.size, -cluster.weight))
        alive = sum(cluster.size > 0 for cluster in clusters)
        shown = clusters[: max(1, int(self.fraction * len(clusters)))]
        left_out = len(clusters) - len(shown)
        closest = ", ".join(self.findings.closest_labels(j))
        closest = f" Of all facets it is closest to: {escape(closest)}." if closest else ""
        note = f" The {left_out} smallest are left out, to keep this file small." if left_out else ""
        cards = "".join(self._card(j, cluster) for cluster in shown)
        return (
            f'<section class="gallery" aria-labelledby="facet-{j}"><h3 id="facet-{j}">Facet {j}</h3>'
            f"<p>{alive} of {len(clusters)} clusters have data.{closest}{note}</p>"
            f'{self._controls(j)}<ul class="cards">{cards}</ul></section>'
        )

    def _controls(self, j: int) -> str:
        sorts = [key for key in SORTS if key != "purity" or self.findings.telling_labels]
        options = "".join(f'<option value="{key}">{SORTS[key]}</option>' for key in sorts)
        what = "Cluster number or majority class" if "purity" in sorts else "Cluster number"
        return (
            f'<div class="controls" role="group" aria-label="Sort and filter facet {j}">'
            f'<label>Sort by <select class="sort">{options}</select></label>'
            f'<label>{what} <input class="text" type="search" autocomplete="off"></label>'
            '<label>At least <input class="least" type="number" min="0" value="0" inputmode="numeric"> data'
            '</label><label><input class="hide" type="checkbox"> Hide empty ones</label>'
            '<p class="shown" role="status"></p></div>'
        )

    def _card(self, j: int, cluster: Cluster) -> str:
        k, n, N = cluster.number, cluster.size, len(self.findings.x)
        confidence = "" if cluster.confidence is None else f"{cluster.confidence:.3f}"
        main, *others = cluster.majorities or (None,)
        purity = "" if main is None else f"{main.purity:.3f}"
        attributes = {
            "facet": j,
            "number": k,
            "size": n,
            "weight": f"{cluster.weight:.6f}",
            "confidence": confidence or -1,
            "purity": purity or -1,
            "phrases": "\n".join(
                [str(k), f"cluster {k}", *([str(main.value)] if main else []), *map(str, cluster.majorities)]
            ).lower(),
        }
        data = " ".join(f'data-{name}="{escape(str(value))}"' for name, value in attributes.items())
        facts = [("data", f"{n:,} ({n / N:.1%})"), ("weight", f"{cluster.weight:.1%}")]
        if confidence:
            facts.append(("mean confidence", confidence))
        if main:
            facts.append((f"purity ({main})", purity))
        rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in facts)
        mostly = escape(self.findings.mostly(j, k))
        mostly = f' <span class="class">{mostly}</span>' if mostly else ""
        rest = ", ".join(f"{other} ({other.purity:.2f})" for other in others if other)
        rest = (
            f'<p class="rest">Majority classes (purity) by other labels: {escape(rest)}</p>' if rest else ""
        )
        button = (
            f'<button type="button" class="explore">Explore<span class="unseen"> cluster {k} of facet {j}'
            "</span></button>"
        )
        return (
            f'<li class="card" {data}><h4>Cluster {k}{mostly}</h4>{self._pictures(j, cluster)}'
            f"<dl>{rows}</dl>{rest}{button}</li>"
        )

    def _pictures(self, j: int, cluster: Cluster) -> str:
        k, drawing = cluster.number, self.drawing
        chosen = cluster.examples[: self.pictures]
        if len(chosen):
            text = f"The {len(chosen)} data that cluster {k} is surest of"
            real = drawing.strip(drawing.tiles(self.findings.x[chosen]), text)
            real = f'<div style="width:{len(chosen) / self.pictures:.2%}">{real}</div>'
        else:
            real = '<p class="none">no data</p>'
        samples = self.fitted.sample(self.pictures, {j: k}, temperature=self.temperature, seed=self.seed)
        generated = drawing.strip(drawing.tiles(samples), f"Generated from cluster {k}")
        return (
            f"<figure><figcaption>Surest data</figcaption>{real}</figure>"
            f"<figure><figcaption>Generated</figcaption>{generated}</figure>"
        )
