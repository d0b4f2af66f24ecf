"""Multi-Facet Clustering VAEs as a probabilistic program in Pyro."""

from pyro_mfcvae import data, likelihoods, metrics, networks, plots, priors
from pyro_mfcvae._utils.version import __version__ as __version__
from pyro_mfcvae.config import presets
from pyro_mfcvae.config.mfcvae import Facet, MFCVAEConfig
from pyro_mfcvae.config.schedule import Schedule
from pyro_mfcvae.config.stage import Stage
from pyro_mfcvae.fitting.compare import compare
from pyro_mfcvae.fitting.fit import fit
from pyro_mfcvae.model.elbo import FacetELBO
from pyro_mfcvae.model.mfcvae import MFCVAE
from pyro_mfcvae.posterior import mcmc
from pyro_mfcvae.results.comparison import Comparison
from pyro_mfcvae.results.fitted import FittedMFCVAE
from pyro_mfcvae.results.loading import load
from pyro_mfcvae.results.runs import FittedRuns
from pyro_mfcvae.training import callbacks

__all__ = [
    "MFCVAE",
    "Comparison",
    "Facet",
    "FacetELBO",
    "FittedMFCVAE",
    "FittedRuns",
    "MFCVAEConfig",
    "Schedule",
    "Stage",
    "callbacks",
    "compare",
    "data",
    "fit",
    "likelihoods",
    "load",
    "mcmc",
    "metrics",
    "networks",
    "plots",
    "presets",
    "priors",
]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
