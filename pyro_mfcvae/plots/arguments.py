"""Checks of arguments that functions of several modules take."""

from __future__ import annotations

import operator
from collections.abc import Sequence, Sized

from torch import Tensor

from pyro_mfcvae.data.choosing import data_for
from pyro_mfcvae.metrics.inputs import same_length
from pyro_mfcvae.metrics.labels import Labels
from pyro_mfcvae.plots.style import Array
from pyro_mfcvae.results.fitted import FittedMFCVAE


def check_fitted(fitted: object) -> None:
    """Raise a TypeError for anything but a fitted model, such as data in its place."""
    if not isinstance(fitted, FittedMFCVAE):
        raise TypeError(
            f"fitted: got a {type(fitted).__name__}, expected a fitted model, and then the data; give what "
            "fit returned"
        )


def data_of(fitted: FittedMFCVAE, x: object, name: str = "x") -> Array:
    """Check data, and return them in shape (N, *x_shape), a missing channel of size one added."""
    check_fitted(fitted)
    return data_for(x, fitted.model, name).numpy()


def facet_of(fitted: FittedMFCVAE, facet: int, name: str = "facet") -> int:
    """Check that a facet exists, and return its index."""
    check_fitted(fitted)
    J = fitted.num_facets
    if operator.index(facet) not in range(J):
        raise ValueError(f"{name}: got {facet}, expected one of the {J} facets, 0 .. {J - 1}; count from 0")
    return operator.index(facet)


def facets_of(fitted: FittedMFCVAE, facets: int | Sequence[int] | None) -> list[int]:
    """Check that facets exist, and return their indices; None is all of them."""
    if facets is None:
        return list(range(fitted.num_facets))
    chosen = [facets] if isinstance(facets, int) else list(facets)
    if not chosen:
        raise ValueError("facets: got none, expected at least one; give None for all")
    return [facet_of(fitted, j, "facets") for j in chosen]


def labels_of(labels: object, x: Sized) -> Labels:
    """Check that labels are of one kind, one for every datum of x."""
    one = Labels.one(labels)
    same_length(x, one, "x")
    return one


def check_positive(name: str, value: int) -> None:
    """Check that a number is at least one."""
    if operator.index(value) < 1:
        raise ValueError(f"{name}: got {value}, expected an integer of at least 1; ask for one or more")


def on_host(tensor: Tensor) -> Array:
    """Return a tensor as an array."""
    array: Array = tensor.detach().cpu().numpy()
    return array
