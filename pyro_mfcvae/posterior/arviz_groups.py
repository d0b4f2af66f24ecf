"""Named arrays in groups, as any version of ArviZ takes them.

ArviZ has one object of groups up to version 0.23, ``InferenceData``, and another from version 1 on,
xarray's ``DataTree``. The groups are the same xarray datasets in both. ArviZ itself is slow to import, and
only imported where it is needed.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyro

if TYPE_CHECKING:  # slow to import, and only needed here
    import xarray as xr

Array = npt.NDArray[np.generic]
Variables = dict[str, tuple[tuple[str, ...], Array]]

DRAW = ("chain", "draw")


def major_version() -> int:
    """Return the first number of ArviZ's version."""
    return int(importlib.metadata.version("arviz").split(".")[0])


def import_arviz() -> Any:
    """ArviZ, without what 0.23 announces of version 1 when it is imported for the first time on a day."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    return arviz


def dataset(variables: Variables, coords: Mapping[str, npt.ArrayLike] | None = None) -> xr.Dataset:
    """One group.

    Args:
        variables: dimensions and values by name.
        coords: labels of dimensions; where there are none, they are numbered.
    """
    import xarray as xr

    from pyro_mfcvae._utils.version import __version__

    sizes = {dim: n for dims, values in variables.values() for dim, n in zip(dims, values.shape, strict=True)}
    attributes = {
        "created_at": datetime.now(UTC).isoformat(),
        "creation_library": "pyro_mfcvae",
        "creation_library_version": __version__,
        "inference_library": "pyro",
        "inference_library_version": pyro.__version__,
    }
    labels = {dim: np.arange(n) for dim, n in sizes.items()} | dict(coords or {})
    return xr.Dataset(variables, labels, attributes)


def convert(groups: Mapping[str, xr.Dataset], version: int | None = None) -> Any:
    """Groups as one object of the kind that ArviZ takes.

    Args:
        groups: datasets by name.
        version: first number of ArviZ's; None is that of the one that is installed.

    Returns:
        ``arviz.InferenceData`` for versions below 1, ``xarray.DataTree`` from 1 on.
    """
    if (major_version() if version is None else version) >= 1:
        import xarray as xr

        return xr.DataTree.from_dict(dict(groups))
    return import_arviz().InferenceData(**groups)
