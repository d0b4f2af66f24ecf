"""Pictures of what the nuisance varies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pyro_mfcvae.report.findings import Findings, by_size
from pyro_mfcvae.report.tiles import Drawing, Strip
from pyro_mfcvae.results.fitted import FittedMFCVAE

MAX_ROWS = 4
PICTURES = 9  # of a row
REACH = 2.0  # standard deviations of the prior, to either side


@dataclass(frozen=True)
class Row:
    """A row of pictures along one dimension of the nuisance, all else being equal.

    Attributes:
        text: description of the row.
        generated: what the model generates along it.
    """

    text: str
    generated: Strip


def nuisance_rows(
    fitted: FittedMFCVAE, findings: Findings, drawing: Drawing, *, temperature: float, seed: int
) -> list[Row]:
    """Draw what the nuisance varies, along those of its dimensions that vary most in the data.

    Args:
        fitted: the model.
        findings: findings of the model in the data.
        drawing: way to draw data.
        temperature: temperature of the largest cluster of each facet, which all pictures share.
        seed: seed of what is drawn at a temperature above zero.

    Returns:
        At most four rows; none of a model without a nuisance.
    """
    if fitted.model.nuisance is None:
        return []
    spread = fitted.nuisance(findings.x).std(0)
    rows = []
    for d in np.argsort(-spread, kind="stable")[:MAX_ROWS]:
        with fitted.evaluating(seed) as model:
            largest = [by_size(clusters)[0].number for clusters in findings.facets]
            z = [
                prior.draw(torch.tensor(k, device=model.device), temperature).expand(PICTURES, -1)
                for prior, k in zip(model.facet_priors, largest, strict=True)
            ]
            along = torch.zeros(PICTURES, len(spread), device=model.device)
            along[:, d] = torch.linspace(-REACH, REACH, PICTURES)
            data = model.likelihood.mean(model.decode([*z, along])).cpu().numpy()
        text = f"Dimension {d}, whose means have a standard deviation of {spread[d]:.2f} in these data"
        rows.append(Row(text, drawing.strip(drawing.tiles(data))))
    return rows
