"""Pictures of what a fitted model found.

Every function returns a :class:`matplotlib.figure.Figure` that belongs to nobody else: pyplot does not
know it and no setting changes. A notebook shows it; ``figure.savefig("file.png")`` writes it. Given ``ax``,
a function draws there and returns the figure of these axes.

================================ ====================================================================
what a facet sorts by            :func:`cluster_examples`, :func:`cluster_samples`
what facets do together          :func:`compositions`, :func:`reconstructions`
where the data lie               :func:`latent_space`, :func:`embedding`
clusters in numbers              :func:`confusion_matrix`, :func:`cluster_sizes`
how training went                :func:`training_curves`, :func:`dependence`
all of them, as files            :func:`save_all`
================================ ====================================================================
"""

from pyro_mfcvae.plots.dependence import dependence
from pyro_mfcvae.plots.grids import cluster_examples, cluster_samples, compositions, reconstructions
from pyro_mfcvae.plots.latent import embedding, latent_space
from pyro_mfcvae.plots.saving import save_all
from pyro_mfcvae.plots.scores import cluster_sizes, confusion_matrix
from pyro_mfcvae.plots.training import training_curves

__all__ = [
    "cluster_examples",
    "cluster_samples",
    "cluster_sizes",
    "compositions",
    "confusion_matrix",
    "dependence",
    "embedding",
    "latent_space",
    "reconstructions",
    "save_all",
    "training_curves",
]
