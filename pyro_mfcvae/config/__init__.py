"""Definition of a model and its training: facets, stages and presets, as frozen dataclasses."""

from pyro_mfcvae.config.mfcvae import Facet, MFCVAEConfig
from pyro_mfcvae.config.schedule import Schedule
from pyro_mfcvae.config.stage import Stage

__all__ = ["Facet", "MFCVAEConfig", "Schedule", "Stage"]
