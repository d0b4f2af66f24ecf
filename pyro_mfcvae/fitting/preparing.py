"""The data of a fit, and the configuration that suits them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from pyro_mfcvae.config import presets
from pyro_mfcvae.config.mfcvae import MFCVAEConfig
from pyro_mfcvae.config.tables import described
from pyro_mfcvae.data.checking import check_finite
from pyro_mfcvae.data.choosing import as_source, schema_of
from pyro_mfcvae.data.loading import Endless
from pyro_mfcvae.data.opening import Streaming, opened
from pyro_mfcvae.data.schema import Schema
from pyro_mfcvae.data.sources import Source


def prepare(
    dataset: Any,
    config: MFCVAEConfig | None,
    in_memory: Streaming,
    *,
    clusters: int | Sequence[int] | None = None,
    latent_dims: int | Sequence[int] | None = None,
    says: bool = False,
    name: str = "dataset",
) -> tuple[Source, MFCVAEConfig]:
    """Read data, and return them with a configuration that suits them.

    Args:
        dataset: data to train on.
        config: the configuration; None takes a preset.
        in_memory: as in :func:`pyro_mfcvae.fit`.
        clusters: sizes for a preset.
        latent_dims: sizes for a preset.
        says: whether to say what was chosen, on the standard error.
        name: argument that error messages name.
    """
    if config is not None and not isinstance(config, MFCVAEConfig):
        raise _not_a_config(config)
    schema = None if config is None else config.schema
    dataset = opened(dataset, name, in_memory, schema)
    schema = schema or schema_of(dataset, name)
    data = as_source(dataset, in_memory, name, schema)
    if config is None:
        config = _preset_for(data, schema, clusters, latent_dims)
        if says:
            print(_choice(data, config, schema), file=sys.stderr)
    elif clusters is not None or latent_dims is not None:
        raise ValueError(
            f"clusters: got {clusters!r}, and latent_dims={latent_dims!r}, with a configuration, which has "
            "its facets already, expected None; give them to the preset, as in presets.tabular(clusters=5)"
        )
    return data, config if schema is None else described(config, schema)


def check_endless(config: MFCVAEConfig) -> None:
    """Raise a ValueError for a configuration that needs the number of data, where nobody knows it."""
    for i, stage in enumerate(config.stages):
        for name, value, remedy in (
            ("epochs", stage.epochs, "steps"),
            ("warm_up_epochs", stage.warm_up_epochs, "warm_up_steps"),
        ):
            if value:
                raise ValueError(
                    f"{name}: got {value} in stage {i} for data whose number is not known, expected "
                    f"{remedy}; give {remedy}, as in Stage((0,), steps=10_000), give the dataset __len__, "
                    "or use in_memory=True, which reads all data first"
                )


def _preset_for(
    data: Source,
    schema: Schema | None,
    clusters: int | Sequence[int] | None,
    latent_dims: int | Sequence[int] | None,
) -> MFCVAEConfig:
    """The preset that suits the data, with these sizes."""
    seen = data.calibration_sample()
    check_finite(seen, "dataset", allow_missing=schema is not None)
    sizes: presets.SizedFields = {"schema": schema}
    if clusters is not None:
        sizes["clusters"] = clusters
    if latent_dims is not None:
        sizes["latent_dims"] = latent_dims
    missing = bool(seen.isnan().any())
    is_unit_interval = bool(seen.min() >= 0 and seen.max() <= 1)
    config = presets.for_data(tuple(seen.shape[1:]), is_unit_interval, has_missing=missing, **sizes)
    return config if schema is None else described(config, schema)


def _choice(data: Source, config: MFCVAEConfig, schema: Schema | None) -> str:
    """What was chosen for data without a configuration, in a line."""
    shape = " x ".join(map(str, data.x_shape))
    number = "a stream of" if isinstance(data, Endless) else f"{len(data):,}"
    columns = "" if schema is None else f": {schema.summary()}"
    if config.stages[0].unmix == "auto":
        facets = "as many facets and clusters as there are"
    else:
        facets = ", ".join(f"{f.clusters} clusters in {f.latent_dim} dimensions" for f in config.facets)
    return (
        f"fit: {number} data of {shape}{columns}; {type(config.likelihood).__name__} likelihood, "
        f"{type(config.network).__name__} network; facets: {facets}"
    )


def _not_a_config(config: object) -> TypeError:
    expected = "expected an MFCVAEConfig, such as presets.mnist()"
    if hasattr(config, "__qualname__"):  # a function or a class
        return TypeError(f"config: got {config.__qualname__} itself, {expected}; call it")
    return TypeError(f"config: got {type(config).__qualname__}, {expected}")
