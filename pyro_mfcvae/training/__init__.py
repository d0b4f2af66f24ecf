"""Training by the stages of a schedule; the model knows nothing of it."""

from pyro_mfcvae.training.history import EpochRecord, History
from pyro_mfcvae.training.loop import DeadClustersWarning, train

__all__ = ["DeadClustersWarning", "EpochRecord", "History", "train"]
