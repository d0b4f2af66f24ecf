"""Training by the stages of a schedule; the model knows nothing of it."""

from pyro_mfcvae.training.history import EpochRecord, History
from pyro_mfcvae.training.loop import Trainer, train
from pyro_mfcvae.training.monitor import DeadClustersWarning
from pyro_mfcvae.training.unmixing import Unmixing, UnmixingWarning

__all__ = [
    "DeadClustersWarning",
    "EpochRecord",
    "History",
    "Trainer",
    "Unmixing",
    "UnmixingWarning",
    "train",
]
