"""Pictures of all combinations of known factors: what 3D Shapes and its rendering have in common."""

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from pyro_mfcvae._utils.checks import WrongTypeError, integer, integers
from pyro_mfcvae._utils.splitting import split_rows

__all__ = ["FACTORS", "Choice", "FactorImages"]

Choice: TypeAlias = Sequence[int] | Literal["all"]
Item: TypeAlias = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]

# Names and sizes, in the order in which 3D Shapes nests them; the last one varies fastest.
FACTORS: Mapping[str, int] = MappingProxyType(
    {
        "floor_hue": 10,
        "wall_hue": 10,
        "object_hue": 10,
        "scale": 8,
        "shape": 4,
        "orientation": 15,
    }
)
SHAPES = ("cube", "cylinder", "sphere", "capsule")  # which have names; other values are numbers


def _check_choice(name: str, choice: object, size: int) -> tuple[int, ...]:
    """Return the chosen values of one factor, ascending."""
    if isinstance(choice, str) and choice == "all":
        return tuple(range(size))
    advice = "give a list such as [0], or 'all' for every value"
    values = integers(f"factors[{name!r}]", choice, 0, size - 1, advice=advice)
    if len(set(values)) < len(values):
        raise ValueError(f"factors[{name!r}]: got {choice!r}, expected no value twice; give each value once")
    return tuple(sorted(values))


def _check_factors(factors: object) -> dict[str, tuple[int, ...]]:
    if not isinstance(factors, Mapping):
        raise WrongTypeError(
            f"factors: got {factors!r}, expected a mapping from names to values; pass for example "
            "{'shape': 'all'}"
        )
    for name in factors:
        if name not in FACTORS:
            raise ValueError(f"factors: got the unknown name {name!r}, expected some of {tuple(FACTORS)}")
    return {name: _check_choice(name, factors.get(name, (0,)), n) for name, n in FACTORS.items()}


class FactorImages(Dataset[Item]):
    """Square pictures of every combination of the chosen values of six factors.

    Its items are pairs of a picture and its labels. Subclasses make ``images``, in the order of ``labels``.

    Args:
        factors: For each factor the values to include, ints from 0, or ``"all"``. A factor left
            out keeps the value 0.
        image_size: Side S of the square pictures in pixels.

    Attributes:
        images: Pictures, uint8 RGB in 0..255, shape (N, 3, S, S).
        labels: Values of the factors, int64, shape (N, 6), rows in lexicographic order, in
            whatever order the values were given.
        factors: The values included of each factor, ascending.
        names: Names of the factors with those of their values, None where these are numbers, as
            ``fitted.evaluate(x, labels, names)`` and ``fitted.report`` take them.
        image_size: S.

    Raises:
        TypeError: ``factors`` is no mapping to lists of ints or ``"all"``.
        ValueError: A factor's name is unknown, a value is out of range or repeated, or a list is
            empty.
    """

    FACTORS: ClassVar[Mapping[str, int]] = FACTORS
    factor_names: ClassVar[tuple[str, ...]] = tuple(FACTORS)
    label_names: ClassVar[tuple[str, ...]] = factor_names
    names: ClassVar[Mapping[str, tuple[str, ...] | None]] = MappingProxyType(
        {name: SHAPES if name == "shape" else None for name in FACTORS}
    )

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __init__(self, factors: Mapping[str, Choice], image_size: int) -> None:
        self.image_size = image_size
        self.factors = _check_factors(factors)
        combinations = list(itertools.product(*self.factors.values()))
        self.labels = np.array(combinations, dtype=np.int64)

    def split(self, test_fraction: float = 0.2, *, seed: int = 0) -> tuple[Self, Self]:
        """Divide the pictures at random into a training and a test set.

        Args:
            test_fraction: Share of the pictures in the test set, strictly between 0 and 1.
            seed: Seed of the division, an int from 0.

        Returns:
            The training and the test set, copies of disjoint rows that keep their order.

        Raises:
            TypeError: ``test_fraction`` is no number, or ``seed`` no int.
            ValueError: ``test_fraction`` is out of range or leaves a side empty, or ``seed`` is
                negative.

        Example:
            >>> from pyro_mfcvae.data import RenderedShapes
            >>> train, test = RenderedShapes({"orientation": "all"}, image_size=16).split(0.2)
            >>> len(train), len(test)
            (12, 3)
        """
        train, test = split_rows(len(self), test_fraction, seed, "more values in factors")
        return self._rows(train), self._rows(test)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Item:
        """Return picture (3, S, S), uint8, and labels (6,), int64, of one row."""
        n, advice = len(self), "for several rows use .images[rows] and .labels[rows]"
        i = integer("index", index, advice=advice)
        if i not in range(-n, n):
            raise IndexError(f"index: got {i}, expected an integer from {-n} to {n - 1}; {advice}")
        return self.images[i], self.labels[i]

    def __repr__(self) -> str:
        varying = ", ".join(f"{k}: {len(v)}" for k, v in self.factors.items() if len(v) > 1)
        size = f"{self.image_size}x{self.image_size}"
        return f"{type(self).__name__}({len(self)} images of {size}, varying {varying or 'nothing'})"

    def _rows(self, rows: npt.NDArray[np.int64]) -> Self:
        part = type(self).__new__(type(self))
        part.__dict__.update(self.__dict__)
        part.images, part.labels = self.images[rows], self.labels[rows]
        return part
