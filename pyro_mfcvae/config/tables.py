"""Configurations of models for tables with named columns."""

from __future__ import annotations

import dataclasses

from pyro_mfcvae.config.mfcvae import MFCVAEConfig
from pyro_mfcvae.data.columns import Column
from pyro_mfcvae.data.schema import Schema
from pyro_mfcvae.likelihoods import FACTORIES, Categorical, Gaussian, LikelihoodFactory, Mixed
from pyro_mfcvae.likelihoods.mixed import KINDS

REAL = Gaussian(sigma=0.3, standardize=True)  # as presets.tabular has it
LIKELIHOODS: dict[str, LikelihoodFactory] = {
    "real": REAL,
    "count": KINDS["negative_binomial"],
    "boolean": KINDS["bernoulli"],
    "date": REAL,
}


def described(config: MFCVAEConfig, schema: Schema) -> MFCVAEConfig:
    """Return the configuration of a model for a table.

    Columns that :class:`Mixed` has by name are found, and those that it does not list are what their kind
    says: real numbers and dates Gaussian with the noise of ``presets.tabular``, counts negative binomial,
    booleans Bernoulli.

    Args:
        config: the configuration.
        schema: columns of the table.

    Raises:
        ValueError: if the likelihood does not suit the columns.
    """
    likelihood = config.likelihood
    if isinstance(likelihood, Mixed):
        likelihood = likelihood.for_columns(schema.names, [_likelihood_of(c) for c in schema.columns])
    elif type(likelihood) in FACTORIES.values() and not isinstance(likelihood, Categorical):
        several = [c.name for c in schema.columns if c.kind == "category" and len(c.categories) > 2]
        if several:
            raise ValueError(
                f"likelihood: got {type(likelihood).__name__} for a table whose column {several[0]!r} has "
                "categories, expected one that knows them; use likelihood='mixed', which goes by the kinds "
                "of the columns, or leave such columns out"
            )
    return dataclasses.replace(config, likelihood=likelihood, schema=schema)


def _likelihood_of(column: Column) -> LikelihoodFactory:
    if column.kind == "category":
        return Categorical(max(2, len(column.categories)))
    return LIKELIHOODS[column.kind]
