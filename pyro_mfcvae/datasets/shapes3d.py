"""3D Shapes from its HDF5 file: only the chosen pictures are read."""

import itertools
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from pyro_mfcvae._utils.checks import integer, one_of
from pyro_mfcvae.datasets.factors import FACTORS, Choice, FactorImages

if TYPE_CHECKING:
    import h5py

__all__ = ["Shapes3D"]

URL = "https://storage.googleapis.com/3d-shapes/3dshapes.h5"
FILE = "3dshapes.h5"
FILE_SIZE = 267_573_662  # bytes
STORED_SIZE = 64  # pixels
IMAGE_SIZES = (16, 32, 64)
BLOCK = 512  # pictures to read at a time, at least: 6 MB

FLOOR: Mapping[str, Choice] = {**dict.fromkeys(FACTORS, "all"), "wall_hue": [5], "object_hue": [6]}
WALL: Mapping[str, Choice] = {**dict.fromkeys(FACTORS, "all"), "floor_hue": [0], "object_hue": [6]}


class Shapes3D(FactorImages):
    """Read a part of 3D Shapes: a room with an object, and six known factors.

    The factors are those of `RenderedShapes`, which renders such rooms without any file. Nothing is
    downloaded, and all combinations of the chosen values are kept in memory: ``3 * image_size ** 2``
    bytes each. ``Shapes3D(path)`` is ``Shapes3D.floor(path)``. The object is also a map-style data
    set for ``torch.utils.data.DataLoader``.

    Args:
        path: The file ``3dshapes.h5``, or the folder that holds it.
        factors: For each factor the values to include, ints from 0, or ``"all"``. A factor left
            out keeps the value 0. ``None`` chooses the factors of `Shapes3D.floor`.
        image_size: Side S of the pictures in pixels, 16, 32 or 64; the stored pictures have 64, and
            a smaller picture's pixels are means of square blocks of theirs.

    Attributes:
        images: Pictures, uint8 RGB in 0..255, shape (N, 3, S, S).
        labels: Values of the factors, int64, shape (N, 6), rows in lexicographic order, in
            whatever order the values were given.
        factors: The values included of each factor, ascending.
        names: Names of the factors, and of the four shapes, for ``fitted.evaluate`` and ``fitted.report``.
        image_size: S.

    Raises:
        FileNotFoundError: The file is missing; the message says where to get it.
        TypeError: ``factors`` is no mapping to lists of ints or ``"all"``, or ``image_size`` is
            no int.
        ValueError: The file is damaged; a factor's name is unknown, a value is out of range or
            repeated, a list is empty; or ``image_size`` is another number.

    Source:
        Burgess, Kim, "3D Shapes Dataset", 2018, https://github.com/google-deepmind/3d-shapes
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        factors: Mapping[str, Choice] | None = None,
        *,
        image_size: int = 32,
    ) -> None:
        import h5py

        side = one_of("image_size", integer("image_size", image_size), IMAGE_SIZES)
        super().__init__(FLOOR if factors is None else factors, side)
        file = Path(path).expanduser()
        file = file / FILE if file.is_dir() else file
        expected = f"expected {FILE_SIZE:,} bytes. Get it from {URL}"
        if not file.is_file():
            raise FileNotFoundError(f"path: got {file}, which is not there, {expected}")
        rows = np.ravel_multi_index(tuple(self.labels.T), tuple(FACTORS.values()))
        try:
            with h5py.File(file, "r") as content:
                self.images = _read(content, rows, self.image_size)
        except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"path: {file} cannot be read ({error}), {expected}") from error

    @classmethod
    def floor(cls, path: str | os.PathLike[str], image_size: int = 32) -> Self:
        """Read every floor hue, scale, shape and orientation; wall hue 5, object hue 6.

        Args:
            path: The file ``3dshapes.h5``, or the folder that holds it.
            image_size: Side S of the pictures in pixels, 16, 32 or 64.

        Returns:
            4,800 pictures (10 x 8 x 4 x 15), the first choice of Falck et al. (2021).

        Raises:
            FileNotFoundError: The file is missing.
            TypeError: ``image_size`` is no int.
            ValueError: The file is damaged, or ``image_size`` is another number.
        """
        return cls(path, FLOOR, image_size=image_size)

    @classmethod
    def wall(cls, path: str | os.PathLike[str], image_size: int = 32) -> Self:
        """Read every wall hue, scale, shape and orientation; floor hue 0, object hue 6.

        Args:
            path: The file ``3dshapes.h5``, or the folder that holds it.
            image_size: Side S of the pictures in pixels, 16, 32 or 64.

        Returns:
            4,800 pictures (10 x 8 x 4 x 15), the second choice of Falck et al. (2021).

        Raises:
            FileNotFoundError: The file is missing.
            TypeError: ``image_size`` is no int.
            ValueError: The file is damaged, or ``image_size`` is another number.
        """
        return cls(path, WALL, image_size=image_size)


def _read(content: "h5py.File", rows: npt.NDArray[np.int64], side: int) -> npt.NDArray[np.uint8]:
    """Read pictures (N, 3, S, S) of N rows, ascending, of an open file."""
    images, labels = content["images"], content["labels"]
    N = math.prod(FACTORS.values())
    stored = (N, STORED_SIZE, STORED_SIZE, 3)
    if images.shape != stored or images.dtype != np.uint8:
        raise ValueError(f"images is {images.dtype} of shape {images.shape}, not uint8 {stored}")
    if labels.shape != (N, len(FACTORS)):
        raise ValueError(f"labels has shape {labels.shape}, not {(N, len(FACTORS))}")
    _check_order(labels[()])
    # A compressed chunk is unpacked as a whole: read in spans of whole chunks, each one once.
    chunk = images.chunks[0] if images.chunks else 1
    span = -(-BLOCK // chunk) * chunk
    found = np.empty((len(rows), 3, side, side), dtype=np.uint8)
    starts = np.flatnonzero(np.diff(rows // span, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        first, last = rows[start], rows[stop - 1]
        pictures = images[first : last + 1][rows[start:stop] - first]
        found[start:stop] = _shrink(pictures, side).transpose(0, 3, 1, 2)
    return found


def _check_order(labels: npt.NDArray[np.float64]) -> None:
    """Refuse labels (N, 6) that are not the product of the factors, the last one varying fastest."""
    table = labels.reshape(*FACTORS.values(), len(FACTORS))
    for f, (name, size) in enumerate(FACTORS.items()):
        values = np.moveaxis(table[..., f], f, 0).reshape(size, -1)  # (K, N / K)
        if not (values == values[:, :1]).all() or (np.diff(values[:, 0]) <= 0).any():
            raise ValueError(f"the labels of {name} are not in the order of 3D Shapes")


def _shrink(images: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Average square blocks of pixels, rounded half up: (N, 64, 64, 3) to (N, S, S, 3)."""
    factor = STORED_SIZE // side
    total = np.full((len(images), side, side, 3), factor**2 // 2, dtype=np.uint16)
    for row, column in itertools.product(range(factor), repeat=2):  # faster than a sum over two axes
        total += images[:, row::factor, column::factor]
    return (total // factor**2).astype(np.uint8)
