"""AnnData, the container of single-cell data: taken as data, and given their clusters."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pyro_mfcvae._utils.checks import one_of
from pyro_mfcvae.data.files import check_is_file

if TYPE_CHECKING:  # imported where there is one
    import anndata

    from pyro_mfcvae.data.schema import Schema


class Clusterer(Protocol):
    """What finds clusters and latents, such as a fitted model."""

    def predict(self, x: Any) -> np.ndarray:
        """Predict clusters, (N, J)."""

    def transform(self, x: Any) -> list[np.ndarray]:
        """Embed data: for each of the J facets, (N, D_j)."""


def is_anndata(value: object) -> bool:
    """Tell whether a value is an AnnData, without importing anything for other values."""
    module = sys.modules.get("anndata")
    return module is not None and isinstance(value, module.AnnData)


def from_anndata(adata: anndata.AnnData, layer: str | None = None, schema: Schema | None = None) -> Any:
    """Return the matrix of an AnnData that :func:`pyro_mfcvae.fit` takes, dense or sparse.

    The matrix goes without the variables' names. A configuration whose ``schema`` has them,
    ``Schema([Column(name, "count") for name in adata.var_names])``, puts them into errors, pictures and
    tables, and leaves a matrix as sparse, or in its file, as it is.

    Args:
        adata: cells and their variables, in memory or backed by a file.
        layer: layer that the matrix is, such as ``"counts"``; None is ``X``.
        schema: columns that the variables have to be, in their order; None takes any.

    Returns:
        Numbers (N, D), as they are kept there.

    Raises:
        TypeError: for anything else.
        ValueError: if there is no such layer, or no X, or if the variables are not those of the schema.
    """
    if not is_anndata(adata):
        raise TypeError(f"adata: got a {type(adata).__name__}, expected an AnnData")
    if schema is not None:
        _check_variables(list(map(str, adata.var_names)), schema.names)
    if layer is not None:
        return adata.layers[one_of("layer", layer, tuple(adata.layers))]
    if adata.X is None:
        raise ValueError(
            "adata: got an AnnData without X, expected one with it; choose a layer, as in "
            'data.from_anndata(adata, layer="counts")'
        )
    return adata.X


def annotate(adata: anndata.AnnData, fitted: Clusterer, layer: str | None = None) -> None:
    """Write what a fitted model says of the cells into their AnnData.

    Clusters are categories ``obs["facet_0"]``, ..., latents ``obsm["X_facet_0"]``, ..., which scanpy's
    plots and neighbours take.

    Args:
        adata: cells, to which these are added.
        fitted: fitted model.
        layer: as for :func:`from_anndata`: where the model's data are.

    Raises:
        TypeError: as :func:`from_anndata`.
        ValueError: as :func:`from_anndata`, and for data of another shape.
    """
    import pandas as pd  # which an AnnData is made of

    schema = getattr(getattr(fitted, "model", None), "schema", None)
    x = from_anndata(adata, layer, schema)
    clusters, latents = fitted.predict(x), fitted.transform(x)
    for j, z in enumerate(latents):
        adata.obs[f"facet_{j}"] = pd.Categorical(clusters[:, j])
        adata.obsm[f"X_facet_{j}"] = z


def _check_variables(given: list[str], expected: tuple[str, ...]) -> None:
    """Raise a ValueError unless the variables are those that are expected: a matrix goes by their places."""
    if len(given) != len(expected):
        raise ValueError(f"adata: got {len(given)} variables, expected the {len(expected)} of the schema")
    for place, (ours, theirs) in enumerate(zip(given, expected, strict=True)):
        if ours != theirs:
            raise ValueError(
                f"adata: got the variable {ours!r} at place {place}, expected {theirs!r} of the schema; take "
                "adata[:, list(schema.names)]"
            )


def open_h5ad(path: str | Path, name: str) -> anndata.AnnData:
    """Open a file of an AnnData, whose matrix stays there.

    Args:
        path: the file.
        name: argument that error messages name.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if anndata is not installed.
        ValueError: if it cannot be read.
    """
    check_is_file(path, name, ".h5ad")
    try:
        import anndata
    except ImportError as error:
        raise ImportError(
            f"{name}: got {str(path)!r}, but anndata is not installed, which reads it; run pip install "
            "anndata"
        ) from error
    try:
        return anndata.read_h5ad(path, backed="r")
    except Exception as error:  # a file may hold anything
        raise ValueError(
            f"{name}: got {str(path)!r}, which anndata cannot read ({error}), expected a file that "
            "AnnData.write_h5ad wrote"
        ) from error
