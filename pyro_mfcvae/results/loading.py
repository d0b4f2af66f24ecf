"""The reading of fitted models."""

from __future__ import annotations

from pathlib import Path

from pyro_mfcvae._utils.devices import resolve_device
from pyro_mfcvae._utils.turns import in_turn
from pyro_mfcvae.config.mfcvae import MFCVAEConfig
from pyro_mfcvae.results.fitted import FittedMFCVAE
from pyro_mfcvae.results.storage import read_model


@in_turn
def load(path: str | Path, *, device: str = "cpu", config: MFCVAEConfig | None = None) -> FittedMFCVAE:
    """Read a model that :meth:`FittedMFCVAE.save` wrote.

    Args:
        path: path of the file.
        config: the configuration that it was trained with, if that holds a prior, likelihood or network of
            one's own, of which a file has no code; these are taken from it, all else from the file.
        device: where it shall compute, as in :func:`pyro_mfcvae.fit`.

    Returns:
        The fitted model, which predicts what the saved one did; see Reproducibility of
        :func:`pyro_mfcvae.fit`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a whole file of this format, the device is not there, or a configuration is
            needed, or not needed, or another one.
    """
    target = resolve_device(device)
    stored = read_model(path, config)
    fitted = FittedMFCVAE(stored.model.to(target), stored.history, seed=stored.seed)
    fitted.restarts = dict(stored.restarts)
    fitted.levels = stored.levels
    return fitted
