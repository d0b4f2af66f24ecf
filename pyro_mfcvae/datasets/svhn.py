"""SVHN as tensors."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pyro_mfcvae.datasets.labelled import LabelledData

__all__ = ["svhn"]

URL = "http://ufldl.stanford.edu/housenumbers/"
FILE_SIZES = {"train_32x32.mat": 182_040_794, "test_32x32.mat": 64_275_384}  # bytes


def svhn(root: str | os.PathLike[str], train: bool = True) -> LabelledData:
    """Read the house numbers of SVHN, cut to single digits, from the disk; nothing is downloaded.

    Args:
        root: the folder that holds ``train_32x32.mat`` and ``test_32x32.mat``, as torchvision stores
            them.
        train: the 73,257 training images if true, else the 26,032 test images.

    Returns:
        x, float32 (N, 3, 32, 32) in [0, 1], and labels, int64 (N, 1), named "digit".

    Raises:
        FileNotFoundError: the file is missing; the message says which, where, and how to get it.
        ValueError: the file is there but damaged.

    Source:
        Netzer, Wang, Coates, Bissacco, Wu, Ng, "Reading digits in natural images with unsupervised
        feature learning", NIPS Workshop on Deep Learning and Unsupervised Feature Learning, 2011;
        read by `scipy.io.loadmat`.
    """
    import scipy.io

    folder = Path(root).expanduser()
    name = "train_32x32.mat" if train else "test_32x32.mat"
    expected = f"expected {FILE_SIZES[name]:,} bytes. Get it from {URL}{name}"
    if not (folder / name).is_file():
        raise FileNotFoundError(f"root: no {name} in {folder}, {expected}")
    try:
        content = scipy.io.loadmat(folder / name, variable_names=["X", "y"])
        x, labels = _read(content)
    except Exception as error:  # scipy raises whatever reading the bytes raises
        raise ValueError(f"root: {folder / name} cannot be read ({error}), {expected}") from error
    return LabelledData(x, labels, ("digit",))


def _read(content: Mapping[str, npt.NDArray[np.integer]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Read images (N, 3, 32, 32) and labels (N, 1) from arrays X (32, 32, 3, N) and y (N, 1)."""
    missing = [name for name in ("X", "y") if name not in content]
    if missing:
        raise ValueError(f"it has no array {' and no array '.join(missing)}")
    pictures, digits = content["X"], content["y"]
    if pictures.ndim != 4 or pictures.shape[:3] != (32, 32, 3) or pictures.dtype != np.uint8:
        raise ValueError(f"X is {pictures.dtype} of shape {pictures.shape}, not uint8 (32, 32, 3, N)")
    N = pictures.shape[3]
    if digits.shape != (N, 1) or not np.isin(digits, np.arange(1, 11)).all():
        raise ValueError(f"y has shape {digits.shape}, not numbers from 1 to 10 of shape ({N}, 1)")
    x = torch.from_numpy(np.ascontiguousarray(pictures.transpose(3, 2, 0, 1)))
    labels = torch.from_numpy(digits.astype(np.int64))
    return x.to(torch.float32).div_(255), labels % 10  # the file's 10 is the digit 0
