"""The history of training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from pyro_mfcvae._utils.devices import Environment
from pyro_mfcvae._utils.tables import html_table
from pyro_mfcvae.training.unmixing import Unmixing

if TYPE_CHECKING:  # slow to import, or optional
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class EpochRecord:
    """Figures of one epoch of training.

    ELBO, log-likelihood and facet terms are means over a fixed sample of the training data, in nats
    per datum, and without KL weights; ``loss`` is the mean of what was minimised during the epoch.

    Attributes:
        stage: index of the stage.
        epoch: index of the epoch within the stage.
        steps: optimiser steps since the start of training.
        seconds: wall-clock time since the start of training.
        loss: mean loss of the epoch, in nats per datum.
        elbo: log-likelihood plus the terms of the facets that take part, and of the nuisance.
        log_likelihood: mean of log p(x|z).
        facet_terms: mean of log sum_k pi_k exp(-KL_k), for each facet.
        alive: clusters that are the most probable one for some datum, for each facet.
        learning_rate: at the end of the epoch.
        fade_in: alpha_j at the end of the epoch.
        kl_weights: beta_j at the end of the epoch.
        held_out_elbo: as ``elbo``, on the data that are not trained on; None if there are none.
        nuisance_term: mean of -KL(q(z|x) || N(0, I)) of the nuisance; None if there is none.
        nuisance_kl_weight: its beta at the end of the epoch.
        redundancy: alignment of the kernels of samples of q(z_j|x), summed over pairs of the facets that
            take part, each at most one; with ``Stage.redundancy_weight`` it is charged. None while fewer
            than two take part.
    """

    stage: int
    epoch: int
    steps: int
    seconds: float
    loss: float
    elbo: float
    log_likelihood: float
    facet_terms: tuple[float, ...]
    alive: tuple[int, ...]
    learning_rate: float
    fade_in: tuple[float, ...]
    kl_weights: tuple[float, ...]
    held_out_elbo: float | None = None
    nuisance_term: float | None = None
    nuisance_kl_weight: float | None = None
    redundancy: float | None = None


def as_row(record: EpochRecord) -> dict[str, float | int | None]:
    """Return the figures of an epoch by name, those of each facet as ``alive_0``, ``alive_1``, ..."""
    row: dict[str, float | int | None] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, tuple):
            singular = field.name.removesuffix("s")
            row |= {f"{singular}_{j}": of_facet for j, of_facet in enumerate(value)}
        else:
            row[field.name] = value
    return row


class History(tuple[EpochRecord, ...]):
    """One record for each epoch of training, and what it was trained in.

    Args:
        records: records of the epochs.
        environment: precision, device, processor, threads and versions; None if they are not known.
        unmixing: what the latents were unmixed into; None if no stage unmixed them.
    """

    environment: Environment | None
    unmixing: Unmixing | None

    def __new__(
        cls,
        records: Iterable[EpochRecord] = (),
        environment: Environment | None = None,
        unmixing: Unmixing | None = None,
    ) -> History:
        """Make a tuple that knows what the model was trained in."""
        history = super().__new__(cls, records)
        history.environment = environment
        history.unmixing = unmixing
        return history

    def to_pandas(self) -> pd.DataFrame:
        """Make a ``pandas.DataFrame`` with a row for each epoch.

        Its columns are the fields of :class:`EpochRecord`, those of each facet as ``alive_0``, ``alive_1``,
        ...; a run that was unmixed has other facets before, and NaN where there was none.

        Raises:
            ImportError: if pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "pandas is not installed, expected any version; run pip install pandas, or use the records"
            ) from error
        rows = [as_row(record) for record in self]
        return pd.DataFrame([{k: math.nan if v is None else v for k, v in row.items()} for row in rows])

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw ELBO and log-likelihood, epoch by epoch; ``plots.training_curves`` of the model has more.

        Args:
            ax: axes to draw in; None makes a figure of its own.

        Raises:
            ValueError: if there is no epoch.
        """
        from pyro_mfcvae.plots.training import plot_history  # which needs this class

        return plot_history(self, ax)

    def _repr_html_(self) -> str:
        if not self:
            return "<p>no epochs</p>"
        names = ("stage", "epoch", "steps", "loss", "elbo", "log_likelihood", "held_out_elbo", "alive")
        rows = [[name.replace("_", " ") for name in names]]
        last = {record.stage: record for record in self}  # the last epoch of each stage
        for record in last.values():
            values = (getattr(record, name) for name in names)
            rows.append([f"{v:.2f}" if isinstance(v, float) else "" if v is None else str(v) for v in values])
        notes = [f"{len(self)} epochs, of which the last one of each stage is shown"]
        return html_table(rows, notes if self.environment is None else [*notes, f"in {self.environment}"])
