"""MNIST as tensors."""

import os
from pathlib import Path

import torch

from pyro_mfcvae.datasets.labelled import LabelledData

__all__ = ["mnist"]

URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FILE_SIZES = {  # bytes, unpacked
    "train-images-idx3-ubyte": 47_040_016,
    "train-labels-idx1-ubyte": 60_008,
    "t10k-images-idx3-ubyte": 7_840_016,
    "t10k-labels-idx1-ubyte": 10_008,
}


def mnist(root: str | os.PathLike[str], train: bool = True) -> LabelledData:
    """Read the handwritten digits of MNIST from the disk; nothing is downloaded.

    Args:
        root: the folder that holds ``MNIST/raw/``, as torchvision stores it.
        train: the 60,000 training images if true, else the 10,000 test images.

    Returns:
        x, float32 (N, 1, 28, 28) in [0, 1], and labels, int64 (N, 1), named "digit".

    Raises:
        FileNotFoundError: a file is missing; the message says which, where, and how to get it.
        ValueError: a file is there but damaged.

    Source:
        LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition",
        Proceedings of the IEEE 86, 1998; read by `torchvision.datasets.MNIST`.
    """
    from torchvision.datasets import MNIST

    folder = Path(root).expanduser()
    raw = folder / "MNIST" / "raw"
    try:
        data = MNIST(folder, train=train, download=False)
    except Exception as error:  # torchvision raises whatever reading the bytes raises
        expected = ", ".join(f"{file} ({size:,} bytes)" for file, size in FILE_SIZES.items())
        missing = [file for file in FILE_SIZES if not (raw / file).is_file()]
        remedy = (
            f"Get them with torchvision.datasets.MNIST({str(folder)!r}, download=True), or unpack "
            f"the .gz files of {URL} there"
        )
        if missing:
            raise FileNotFoundError(
                f"root: no {', '.join(missing)} in {raw}, expected {expected}. {remedy}"
            ) from error
        raise ValueError(
            f"root: the files in {raw} cannot be read ({error}), expected {expected}. {remedy}"
        ) from error
    x = data.data.unsqueeze(1).to(torch.float32).div_(255)
    return LabelledData(x, data.targets.to(torch.int64).unsqueeze(1), ("digit",))
