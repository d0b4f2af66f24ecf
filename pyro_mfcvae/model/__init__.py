"""The Multi-Facet Clustering VAE as a Pyro program, and its ELBO with the closed-form posterior."""

from pyro_mfcvae.model.elbo import FacetELBO
from pyro_mfcvae.model.mfcvae import MFCVAE, ELBOTerms
from pyro_mfcvae.model.weights import FacetWeights, network_precision

__all__ = ["MFCVAE", "ELBOTerms", "FacetELBO", "FacetWeights", "network_precision"]
