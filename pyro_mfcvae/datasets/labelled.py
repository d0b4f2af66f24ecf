"""Inputs with labels."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from pyro_mfcvae._utils.splitting import split_rows


@dataclass(frozen=True, eq=False)
class LabelledData:
    """Inputs with the labels to judge a clustering by; nothing is ever trained on the labels.

    Args:
        x: inputs, float32 (N, ...).
        labels: integer labels, int64 (N, F), one column per known characteristic.
        label_names: the names of the F columns.
        nuisance: values of the L factors that move the data but have no clusters, float32 (N, L), if
            they are known, as for generated data.
        class_names: for each column the names of its classes, of which label 0 has the first, or None where
            numbers are all there is to say; None for all columns.
    """

    x: torch.Tensor
    labels: torch.Tensor
    label_names: tuple[str, ...]
    nuisance: torch.Tensor | None = None
    class_names: tuple[tuple[str, ...] | None, ...] | None = None

    @property
    def names(self) -> dict[str, tuple[str, ...] | None]:
        """Names of the columns, each with those of its classes, for ``fitted.evaluate(x, labels, names)``."""
        of_classes = self.class_names or (None,) * len(self.label_names)
        return dict(zip(self.label_names, of_classes, strict=True))

    def split(self, test_fraction: float = 0.2, *, seed: int = 0) -> tuple[Self, Self]:
        """Divide the data at random into a training and a test set.

        Args:
            test_fraction: share of the data in the test set, strictly between 0 and 1.
            seed: seed of the division, an int from 0.

        Returns:
            The training and the test set, copies of disjoint rows that keep their order.

        Raises:
            TypeError: ``test_fraction`` is no number, or ``seed`` no int.
            ValueError: ``test_fraction`` is out of range or leaves a side empty, or ``seed`` is
                negative.
        """
        train, test = split_rows(len(self), test_fraction, seed, "more data")
        return self._rows(train), self._rows(test)

    def __len__(self) -> int:
        return len(self.x)

    def _rows(self, rows: npt.NDArray[np.int64]) -> Self:
        nuisance = None if self.nuisance is None else self.nuisance[rows]
        return replace(self, x=self.x[rows], labels=self.labels[rows], nuisance=nuisance)
