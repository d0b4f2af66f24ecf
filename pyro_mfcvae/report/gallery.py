"""Galleries: each cluster of each facet on a card, with its most confident data and what it generates."""

from __future__ import annotations

from dataclasses import dataclass

from pyro_mfcvae.report.findings import MAX_EXAMPLES, Cluster, Findings, by_size
from pyro_mfcvae.report.tiles import Drawing, Strip
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


@dataclass(frozen=True)
class Card:
    """A card with a cluster.

    Attributes:
        number: index of the cluster.
        keys: values that the card is sorted and filtered by.
        mostly: classes that more than half of its data have.
        facts: names and values, as text.
        others: majority classes by further labels.
        real: its most confident data; None if there are none.
        real_width: share of the card's width that they take.
        real_text: description of them.
        generated: data that the model generates for it.
    """

    number: int
    keys: dict[str, str]
    mostly: str
    facts: list[tuple[str, str]]
    others: list[str]
    real: Strip | None
    real_width: str
    real_text: str
    generated: Strip


@dataclass(frozen=True)
class Gallery:
    """The cards of a facet.

    Attributes:
        alive: number of clusters with data.
        clusters: number of all clusters.
        left_out: number of clusters for which there is no room.
        closest: labels that the facet is closest to.
        sorts: keys that cards can be sorted by, and their names.
        cards: cards of the others, the largest cluster first.
    """

    alive: int
    clusters: int
    left_out: int
    closest: list[str]
    sorts: dict[str, str]
    cards: list[Card]


def galleries(
    fitted: FittedMFCVAE,
    findings: Findings,
    drawing: Drawing,
    *,
    bytes_per_tile: float,
    temperature: float,
    seed: int,
    budget: float,
) -> list[Gallery]:
    """Make cards for every facet, as many and as rich as there is room for.

    Args:
        fitted: the model.
        findings: findings of the model in the data.
        drawing: way to draw data.
        bytes_per_tile: size of one picture.
        temperature: temperature of what is generated.
        seed: seed of what is generated.
        budget: bytes that all cards may take.
    """
    total = sum(map(len, findings.facets))
    costs = {amount: BYTES_PER_CARD + 2 * amount * bytes_per_tile for amount in AMOUNTS}
    affordable = [amount for amount in AMOUNTS if total * costs[amount] <= budget]
    pictures = affordable[0] if affordable else AMOUNTS[-1]
    # What does not fit is left out facet by facet in proportion, the smallest clusters first.
    fraction = min(1.0, budget / (total * costs[pictures]))
    sorts = {key: text for key, text in SORTS.items() if key != "purity" or findings.telling_labels}
    made = []
    for j, clusters in enumerate(findings.facets):
        shown = by_size(clusters)[: max(1, int(fraction * len(clusters)))]
        cards = []
        for cluster in shown:
            sampled = fitted.sample(pictures, {j: cluster.number}, temperature=temperature, seed=seed)
            generated = drawing.strip(drawing.tiles(sampled))
            cards.append(_card(findings, drawing, j, cluster, pictures, generated))
        made.append(
            Gallery(
                alive=sum(cluster.size > 0 for cluster in clusters),
                clusters=len(clusters),
                left_out=len(clusters) - len(shown),
                closest=findings.closest_labels(j),
                sorts=sorts,
                cards=cards,
            )
        )
    return made


def _card(
    findings: Findings, drawing: Drawing, j: int, cluster: Cluster, pictures: int, generated: Strip
) -> Card:
    k, n = cluster.number, cluster.size
    confidence = "" if cluster.confidence is None else f"{cluster.confidence:.3f}"
    main, *others = cluster.majorities or (None,)
    phrases = [str(k), f"cluster {k}"]
    facts = [("data", f"{n:,} ({n / len(findings.x):.1%})"), ("weight", f"{cluster.weight:.1%}")]
    if confidence:
        facts.append(("mean confidence", confidence))
    if main:
        facts.append((f"purity ({main})", f"{main.purity:.3f}"))
        phrases += [main.name, *map(str, cluster.majorities)]
    examples = cluster.examples[:pictures]
    return Card(
        number=k,
        keys={
            "facet": str(j),
            "number": str(k),
            "size": str(n),
            "weight": f"{cluster.weight:.6f}",
            "confidence": confidence or "-1",
            "purity": f"{main.purity:.3f}" if main else "-1",
            "phrases": "\n".join(phrases).lower(),
        },
        mostly=findings.mostly(j, k),
        facts=facts,
        others=[f"{other} ({other.purity:.2f})" for other in others if other],
        real=drawing.strip(drawing.tiles(findings.x[examples])) if len(examples) else None,
        real_width=f"{len(examples) / pictures:.2%}",
        real_text=f"The {len(examples)} data that cluster {k} is most confident of",
        generated=generated,
    )
