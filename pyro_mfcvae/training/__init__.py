"""Training by the stages of a schedule; the model knows nothing of it."""

from pyro_mfcvae.training.checkpoints import CheckpointWarning
from pyro_mfcvae.training.history import EpochRecord, History
from pyro_mfcvae.training.loop import DivergenceWarning, Trainer
from pyro_mfcvae.training.monitor import DeadClustersWarning
from pyro_mfcvae.training.run import train
from pyro_mfcvae.training.unmixing import Unmixing, UnmixingWarning

__all__ = [
    "CheckpointWarning",
    "DeadClustersWarning",
    "DivergenceWarning",
    "EpochRecord",
    "History",
    "Trainer",
    "Unmixing",
    "UnmixingWarning",
    "train",
]
