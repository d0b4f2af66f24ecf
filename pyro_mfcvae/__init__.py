"""Multi-Facet Clustering VAEs as a probabilistic program in Pyro."""

from pyro_mfcvae import data, likelihoods, mcmc, metrics, networks, plots, presets, priors
from pyro_mfcvae.compare import compare
from pyro_mfcvae.comparison import Comparison
from pyro_mfcvae.config import Facet, MFCVAEConfig
from pyro_mfcvae.elbo import FacetELBO
from pyro_mfcvae.fit import fit
from pyro_mfcvae.fitted import FittedMFCVAE, load
from pyro_mfcvae.model import MFCVAE
from pyro_mfcvae.runs import FittedRuns
from pyro_mfcvae.schedule import Schedule, Stage

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
__version__ = "0.1.0"
