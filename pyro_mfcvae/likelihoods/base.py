"""Base classes of all likelihoods p(x | z)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_mfcvae._utils.checks import flag, set_checked
from pyro_mfcvae.likelihoods.missing import Observed

LikelihoodFactory = Callable[[tuple[int, ...]], "Likelihood"]

ROWS_AT_A_TIME = 2**22  # numbers in the rows of which moments are taken at a time


class Likelihood(nn.Module, ABC):
    """The distribution of a datum given the decoder's output.

    Subclasses give :meth:`forward` and :meth:`mean`; all else may be left as it is. Whoever has data asks
    ``likelihood.given(x)``, whoever generates them the likelihood itself.

    Args:
        x_shape: shape of one datum.

    Attributes:
        allows_missing: whether entries of x may be NaN, which leaves them out of log p(x | z).
        dtype: the widest type that x needs: float64 where units and offsets of x should not matter.
    """

    allows_missing: bool = False
    dtype: torch.dtype = torch.float32

    def __init__(self, x_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.x_shape = x_shape

    @property
    def features_shape(self) -> tuple[int, ...]:
        """Shape of the decoder's output for one datum."""
        return self.x_shape

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of what the encoder sees of one datum."""
        return self.x_shape

    @abstractmethod
    def forward(self, features: Tensor) -> dist.Distribution:
        r"""Return p(x | z) for features (..., N, *features_shape): batch (..., N), event shape x_shape."""

    @abstractmethod
    def mean(self, features: Tensor) -> Tensor:
        r"""Return E[x | z], or the most probable category, shape (N, *x_shape), in the units of x."""

    def given(self, x: Tensor | None) -> Likelihood:
        r"""Return the likelihood of N data of which something is known, as the total of their counts.

        Args:
            x: the data (N, *x_shape); None for data that are not there yet.

        Returns:
            A likelihood with the same parameters, for features of these data in their order; itself where
            nothing is known, as here.
        """
        return self

    def check(self, x: Tensor, name: str) -> None:
        r"""Raise a ValueError that names ``name`` where x (N, *x_shape) is outside the support."""
        return

    def calibrate(self, x: Tensor) -> None:
        r"""Take what depends on the scale of the training data x (N, *x_shape) from them."""
        return

    def preprocess(self, x: Tensor) -> Tensor:
        r"""Return the encoder's input for x (N, *x_shape), shape (N, *input_shape)."""
        return x


class ElementwiseLikelihood(Likelihood):
    r"""A likelihood whose elements are independent given z, :math:`p(x|z) = \prod_d p(x_d|z)`.

    Subclasses give :meth:`elements` and :meth:`mean`, and may give :meth:`encode` and
    :meth:`check_values`. Missing elements are left to this class:

    .. math::
        \log p(x|z) = \sum_{d\ \mathrm{observed}} \log p(x_d|z)

    which is the marginal of what is observed, exact if entries are missing at random.

    Args:
        x_shape: shape of one datum.
        missing: whether elements of x may be NaN. The encoder then sees them as zero, beside which
            elements are observed.

    Attributes:
        num_features: numbers that the decoder makes for each element.
        num_inputs: numbers that the encoder sees of each element.

    References:
        Nazabal, Olmos, Ghahramani, Valera (2020), Handling Incomplete Heterogeneous Data using VAEs.
    """

    num_features: int = 1
    num_inputs: int = 1

    def __init__(self, x_shape: tuple[int, ...], missing: bool = False) -> None:
        super().__init__(x_shape)
        self.allows_missing = missing

    @property
    def features_shape(self) -> tuple[int, ...]:
        """Shape of the decoder's output: :func:`stacked` planes of x."""
        return stacked(self.x_shape, self.num_features)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of what the encoder sees: :func:`stacked` planes of x, the last of them of zeros and ones."""
        return stacked(self.x_shape, self.num_inputs + self.allows_missing)

    @abstractmethod
    def elements(self, features: Tensor) -> dist.Distribution:
        r"""Return p(x_d | z) of all elements: batch shape (..., N, *x_shape), event shape ()."""

    def encode(self, x: Tensor) -> Tensor:
        """Return the encoder's input for complete x, ``num_inputs`` planes; NaN may become NaN or zero."""
        return x

    def check_values(self, values: Tensor, name: str) -> None:
        """Raise a ValueError that names ``name`` where values (M,), none of them missing, are outside."""
        return

    def forward(self, features: Tensor) -> dist.Distribution:
        r"""Return p(x | z) for features (..., N, *features_shape): batch (..., N), event shape x_shape."""
        elements = self.elements(features)
        if self.allows_missing:
            elements = Observed(elements)
        return elements.to_event(len(self.x_shape))

    def check(self, x: Tensor, name: str) -> None:
        r"""Raise a ValueError that names ``name`` where x (N, *x_shape) is outside the support."""
        missing = x.isnan()
        # To pick values takes the time and the memory of their indices, which are many times the data.
        values = x[~missing] if missing.any() else x.flatten()
        if values.numel():
            self.check_values(values, name)

    def preprocess(self, x: Tensor) -> Tensor:
        r"""Return the encoder's input for x (N, *x_shape), shape (N, *input_shape)."""
        code = self.encode(x)
        if not self.allows_missing:
            return code
        observed = ~x.isnan()
        code = torch.where(code.isnan(), 0.0, code)
        together = torch.cat((code.flatten(1), observed.flatten(1).to(code.dtype)), 1)
        return together.reshape(-1, *self.input_shape)

    def planes(self, features: Tensor) -> tuple[Tensor, ...]:
        r"""Return the ``num_features`` parts of (..., *features_shape), each (..., *x_shape)."""
        if self.num_features == 1:
            return (features,)
        leading = features.shape[: features.dim() - len(self.features_shape)]
        split = features.reshape(*leading, self.num_features, *self.x_shape)
        return split.unbind(-len(self.x_shape) - 1)


@dataclass(frozen=True)
class ElementwiseFactory:
    """Base class of the factories of an :class:`ElementwiseLikelihood`.

    Attributes:
        missing: whether elements of x may be NaN: missing, and left out of log p(x | z).
    """

    missing: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        set_checked(self, flag, "missing")


def stacked(x_shape: tuple[int, ...], planes: int) -> tuple[int, ...]:
    """Return the shape of several numbers for each element, channels to a convolutional network."""
    if planes == 1:
        return x_shape
    return (planes, *x_shape) if len(x_shape) == 2 else (planes * x_shape[0], *x_shape[1:])


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each element over the data that have it, float64 (*x_shape).

    A constant has deviation 1, and so have values that differ by the rounding of their type alone.

    Args:
        x: data (N, *x_shape), with NaN where they are missing.
    """
    N = len(x)
    observed = ~x.isnan()
    count = observed.sum(0).clamp(min=1)
    first = observed.to(torch.uint8).argmax(0, keepdim=True)
    origin = x.gather(0, first)[0].double().nan_to_num()  # from which a constant differs by zero
    rows = max(1, ROWS_AT_A_TIME // max(1, origin.numel()))  # all of them in float64 might be too much
    loc = sum((_centred(b, origin).sum(0) for b in x.split(rows)), torch.zeros_like(origin)) / count
    squares = (_centred(b, origin + loc).square().sum(0) for b in x.split(rows))
    deviation = (sum(squares, torch.zeros_like(origin)) / count).sqrt()
    mean = origin + loc
    rounding = torch.finfo(x.dtype).eps * mean.abs()
    is_constant = deviation <= 0.51 * rounding if N > 1 else torch.ones_like(mean, dtype=torch.bool)
    return mean, torch.where(is_constant, rounding.clamp(min=1), deviation)


def _centred(x: Tensor, loc: Tensor) -> Tensor:
    """Return x - loc in float64, zero where it is missing."""
    return (x.double() - loc).nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf)


def check_integers(values: Tensor, name: str, expected: str, otherwise: str) -> None:
    """Raise a ValueError unless all values are integers from 0."""
    bad = values[(values < 0) | (values != values.round())]
    if bad.numel():
        raise ValueError(
            f"{name}: got {bad[0].item():.6g}, among {bad.numel()} of {values.numel()} values, but "
            f"{expected}; "
            f"{otherwise} (unsigned 8-bit data are read as pictures in [0, 1]: convert those to int64 first)"
        )
