"""The whole job in one call."""

from __future__ import annotations

from typing import Any

import torch

from pyro_mfcvae import presets
from pyro_mfcvae.config import MFCVAEConfig
from pyro_mfcvae.data.inputs import as_labelled
from pyro_mfcvae.devices import resolve_device, resolve_precision, seeded
from pyro_mfcvae.fitted import FittedMFCVAE
from pyro_mfcvae.model import MFCVAE
from pyro_mfcvae.training import train


def fit(
    dataset: Any,
    config: MFCVAEConfig | None = None,
    *,
    seed: int = 0,
    device: str | torch.device = "auto",
    precision: str = "auto",
    progress: bool = True,
) -> FittedMFCVAE:
    r"""Cluster data in several ways at once.

    Args:
        dataset: data (N, *x_shape) as an array or a tensor; a pair (x, y); a torch or torchvision
            ``Dataset``; or a ``DataLoader``. Labels are never looked at. Unsigned 8-bit data are
            scaled to [0, 1].
        config: facets, likelihood, network and schedule; None takes a preset that suits the data.
        seed: of initialisation, order of the data and samples. On the CPU the same seed gives the same
            parameters bit for bit.
        device: ``"auto"`` is CUDA where there is one, else the CPU.
        precision: of the networks in training: ``"float32"``, ``"bfloat16"``, or ``"auto"`` for
            bfloat16 where the device is fast with it.
        progress: whether to show a progress bar.

    Returns:
        The fitted model.

    Raises:
        TypeError: for data or options of a type that is not understood.
        ValueError: for data that are empty, not finite, invalid under the likelihood, or fewer than a
            facet's clusters; and for unknown options.
        FloatingPointError: if training diverges.

    References:
        Falck et al. (2021), Multi-Facet Clustering Variational Autoencoders.

    Example:
        >>> import numpy as np
        >>> from pyro_mfcvae import Facet, Schedule, fit, presets
        >>> x = np.random.default_rng(0).normal(size=(100, 4))
        >>> config = presets.tabular(facets=(Facet(3, 2),), schedule=Schedule.progressive(1, epochs=2))
        >>> fit(x, config, progress=False).predict(x).shape
        (100, 1)
    """
    x, _ = as_labelled(dataset)
    x_shape = tuple(x.shape[1:])
    if config is None:
        config = presets.for_data(x_shape, bool(x.min() >= 0 and x.max() <= 1))
    elif not isinstance(config, MFCVAEConfig):
        raise TypeError(
            f"config: got {type(config).__name__}, expected an MFCVAEConfig, such as presets.mnist()"
        )
    most = max(facet.clusters for facet in config.facets)
    if len(x) < most:
        raise ValueError(
            f"dataset: got {len(x)} data, expected at least as many as a facet has clusters, {most}; "
            "give more data, or a config with fewer clusters"
        )
    target = resolve_device(device)
    chosen = resolve_precision(precision, target)
    with seeded(seed, target):
        model = MFCVAE(config, x_shape)  # on the CPU first: the same start on every device
        model.likelihood.check(x, "dataset")
        model.likelihood.calibrate(x)
        model.to(target).precision = chosen
        history = train(model, x.to(target), seed=seed, progress=progress)
    return FittedMFCVAE(model, history)
