"""The Multi-Facet Clustering VAE as a Pyro program, and its ELBO with the closed-form posterior."""

from pyro_mfcvae.model.elbo import FacetELBO
from pyro_mfcvae.model.mfcvae import MFCVAE, ELBOTerms

__all__ = ["MFCVAE", "ELBOTerms", "FacetELBO"]
