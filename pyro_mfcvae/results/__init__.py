"""Results of fitting: a fitted model, several runs, a comparison, and their files."""

from pyro_mfcvae.results.comparison import Comparison
from pyro_mfcvae.results.fitted import FittedMFCVAE
from pyro_mfcvae.results.loading import load
from pyro_mfcvae.results.runs import FittedRuns

__all__ = ["Comparison", "FittedMFCVAE", "FittedRuns", "load"]
