"""What functions of several modules are given, checked."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from pyro_mfcvae.data.choosing import data_for
from pyro_mfcvae.plots.style import Array
from pyro_mfcvae.results.fitted import FittedMFCVAE


def data_of(fitted: FittedMFCVAE, x: Any, name: str = "x") -> Array:
    """Data (N, *x_shape), a missing channel of size one added."""
    return data_for(x, fitted.model.likelihood, fitted.model.x_shape, name).numpy()


def facet_of(fitted: FittedMFCVAE, facet: int, name: str = "facet") -> int:
    """The index of a facet that exists."""
    J = fitted.num_facets
    if operator.index(facet) not in range(J):
        raise ValueError(f"{name}: got {facet}, expected one of the {J} facets, 0 .. {J - 1}")
    return operator.index(facet)


def facets_of(fitted: FittedMFCVAE, facets: int | Sequence[int] | None) -> list[int]:
    """Indices of facets that exist; None is all of them."""
    if facets is None:
        return list(range(fitted.num_facets))
    chosen = [facets] if isinstance(facets, int) else list(facets)
    if not chosen:
        raise ValueError("facets: got none, expected at least one; None shows all")
    return [facet_of(fitted, j, "facets") for j in chosen]


def classes_of(labels: Any, N: int) -> tuple[list[str], Array]:
    """Names (L,) of the classes in ascending order, and the class (N,) of every datum."""
    y = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    if y.shape != (N,):
        raise ValueError(
            f"labels: got shape {y.shape}, expected ({N},), one for every datum of x; of several kinds of "
            "label choose one, as in labels[:, 0]"
        )
    if y.dtype.kind not in "buiUO":
        raise TypeError(f"labels: got dtype {y.dtype}, expected integers or strings; cast with .astype(int)")
    classes, index = np.unique(y.astype(str) if y.dtype.kind == "O" else y, return_inverse=True)
    return [str(name) for name in classes], index


def check_positive(name: str, value: int) -> None:
    """That a number is at least one."""
    if operator.index(value) < 1:
        raise ValueError(f"{name}: got {value}, expected an integer of at least 1")


def on_host(tensor: Tensor) -> Array:
    """A tensor as an array."""
    array: Array = tensor.detach().cpu().numpy()
    return array
