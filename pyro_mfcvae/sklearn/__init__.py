"""The model as an estimator of scikit-learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from pyro_mfcvae._utils.checks import integer, one_of
from pyro_mfcvae.config import presets
from pyro_mfcvae.config.mfcvae import MFCVAEConfig
from pyro_mfcvae.config.schedule import Schedule
from pyro_mfcvae.data.schema import is_frame
from pyro_mfcvae.fitting.fit import fit
from pyro_mfcvae.likelihoods import LikelihoodFactory
from pyro_mfcvae.results.fitted import FittedMFCVAE
from pyro_mfcvae.results.predictor import BLOCK

__all__ = ["MultiFacetClustering"]

MAX_SEED = 2**31 - 1


class MultiFacetClustering(TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Clusters the rows of a table in several ways at once, as an estimator of scikit-learn.

    It holds a :class:`FittedMFCVAE`, which can do more: ``fitted_``. Like all estimators it expects the
    columns in the order of the fit. Tables with names may have categories and missing values.

    Args:
        n_clusters: number of clusters of each facet, one number for a single facet; ``"auto"`` makes as many
            facets and clusters as there are.
        latent_dims: dimension of each facet's latent, or one for all; None is the preset's.
        likelihood: a name from ``likelihoods.available()``, or a factory; None suits the data.
        steps: steps of training before and after unmixing; None is the preset's.
        config: the whole configuration, in place of all the above.
        facet: which facet ``labels_`` and :meth:`predict` are of.
        restarts: number of runs, of which one is kept, as in :func:`pyro_mfcvae.fit`; None is one.
        device: as in :func:`pyro_mfcvae.fit`.
        precision: as in :func:`pyro_mfcvae.fit`.
        random_state: a seed, a ``RandomState``, or None for another result every time.
        verbose: whether to show a progress bar, and to say what was chosen.

    Attributes:
        fitted_: the fitted model.
        labels_: clusters of the data in one facet, int64, (N,).
        facet_labels_: clusters of the data in all facets, int64, (N, J).
        n_features_in_: number of columns.
        feature_names_in_: names of the columns, if they are texts.

    Example:
        >>> from sklearn.datasets import make_blobs
        >>> x, _ = make_blobs(60, random_state=0)
        >>> MultiFacetClustering((3, 2), steps=(20, 20), random_state=0).fit_predict(x).shape
        (60,)
    """

    def __init__(
        self,
        n_clusters: int | Sequence[int] | Literal["auto"] = (10, 10),
        *,
        latent_dims: int | Sequence[int] | None = None,
        likelihood: str | LikelihoodFactory | None = None,
        steps: tuple[int, int] | None = None,
        config: MFCVAEConfig | None = None,
        facet: int = 0,
        restarts: int | None = None,
        device: str = "auto",
        precision: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.n_clusters = n_clusters
        self.latent_dims = latent_dims
        self.likelihood = likelihood
        self.steps = steps
        self.config = config
        self.facet = facet
        self.restarts = restarts
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: object = None) -> Self:
        """Train on data.

        Args:
            X: numbers (N, D), or a table.
            y: ignored.

        Returns:
            This estimator.

        Raises:
            ValueError: as :func:`pyro_mfcvae.fit`, and for a facet that there is not.
        """
        data = self._data(X, reset=True)
        seed = self.random_state
        if seed is None or isinstance(seed, np.random.RandomState):
            seed = int(check_random_state(seed).randint(MAX_SEED))
        fitted = fit(
            data,
            self._configuration(data),
            seed=integer("random_state", seed),
            restarts=self.restarts,
            device=self.device,
            precision=self.precision,
            progress=self.verbose,
        )
        facet = integer("facet", self.facet, 0, fitted.num_facets - 1)
        self.fitted_: FittedMFCVAE = fitted
        self.facet_labels_ = self.predict_facets(X)
        self.labels_ = self.facet_labels_[:, facet]
        return self

    def predict(self, X: Any) -> npt.NDArray[np.int64]:
        """Predict the most probable cluster of one facet, int64, (N,)."""
        return self.predict_facets(X)[:, self.facet]

    def predict_facets(self, X: Any) -> npt.NDArray[np.int64]:
        """Predict the most probable clusters of all facets, int64, (N, J)."""
        check_is_fitted(self)
        data, N = _padded(self._data(X))
        return self.fitted_.predict(data)[:N]

    def predict_proba(self, X: Any) -> npt.NDArray[np.float32]:
        """Compute the probabilities of the clusters of one facet, float32, (N, K)."""
        check_is_fitted(self)
        data, N = _padded(self._data(X))
        return self.fitted_.predict_proba(data)[self.facet][:N]

    def transform(self, X: Any) -> npt.NDArray[np.float32]:
        """Embed data in the latents of all facets, side by side, float32, (N, sum of D_j)."""
        check_is_fitted(self)
        data, N = _padded(self._data(X))
        return np.concatenate(self.fitted_.transform(data), axis=1)[:N]

    def score(self, X: Any, y: object = None) -> float:
        """Compute the mean ELBO, in nats per datum; higher is better."""
        check_is_fitted(self)
        return self.fitted_.score(self._data(X))

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Return the names of the columns of :meth:`transform`: ``facet_0_z_0``, ``facet_0_z_1``, ..."""
        check_is_fitted(self)
        dims = [facet.latent_dim for facet in self.fitted_.config.facets]
        names = [f"facet_{j}_z_{d}" for j, D in enumerate(dims) for d in range(D)]
        return np.array(names, dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # latents are float32
        return tags

    def _data(self, X: Any, *, reset: bool = False) -> Any:
        """Check data as scikit-learn does: the values of arrays, and the names of the columns of tables."""
        if is_frame(X):
            return validate_data(self, X, reset=reset, skip_check_array=True)
        return validate_data(self, X, reset=reset, ensure_min_samples=2 if reset else 1)

    def _configuration(self, data: Any) -> MFCVAEConfig:
        if self.config is not None:
            return self.config
        fields: presets.PresetFields = {}
        if isinstance(self.n_clusters, str):
            one_of("n_clusters", self.n_clusters, ("auto",), "give numbers as integers")
            fields["facets"] = "auto"
        else:
            fields["clusters"] = self.n_clusters
        if self.latent_dims is not None:
            fields["latent_dims"] = self.latent_dims
        if self.likelihood is not None:
            fields["likelihood"] = self.likelihood
        elif is_frame(data):
            fields["likelihood"] = "mixed"
        config = presets.tabular(**fields)
        if self.steps is None:
            return config
        pairs = zip(config.stages, self.steps, strict=True)
        stages = tuple(dataclasses.replace(stage, steps=n) for stage, n in pairs)
        return dataclasses.replace(config, schedule=Schedule(stages))


def _padded(data: Any) -> tuple[Any, int]:
    """Repeat rows of an array up to whole blocks, so that no answer depends on the number of rows."""
    N = len(data)
    missing = -N % BLOCK
    if is_frame(data) or not missing:
        return data, N
    return np.concatenate([data, np.resize(data, (missing, *data.shape[1:]))]), N
