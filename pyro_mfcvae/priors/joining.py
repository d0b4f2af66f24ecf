"""x"""
import numpy as np
def count_clusters(z, most, seed):
    from pyro_mfcvae.priors.initialization import fit_mixture
    g = fit_mixture(z, min(most, len(z) // 5), "full", seed, min_variance=0.01, starts=2)
    r = g.predict_proba(z)
    from pyro_mfcvae.priors.joining_ import by_misclassification
