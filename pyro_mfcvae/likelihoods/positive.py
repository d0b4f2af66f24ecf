"""Positive parameters of a likelihood: fixed, learned, or of the decoder."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_mfcvae._utils.checks import number, one_of

Learn = Literal["shared", "element", "decoder"] | None
LEARN: tuple[Learn, ...] = (None, "shared", "element", "decoder")
# Optimisers such as Adam move every parameter at the pace of a network's weights. A scale has further to go.
PACE = 10.0


class Positive(nn.Module):
    r"""A positive number for each element, :math:`\mathrm{floor} + \mathrm{softplus}(r + r_0)`.

    Args:
        x_shape: shape of one datum.
        initial: value at r = 0.
        floor: lower bound while it is learned.
        learn: None for the initial value throughout, ``"shared"`` for one r, ``"element"`` for one for
            each element, ``"decoder"`` for an r that the decoder gives for each datum and element.
    """

    def __init__(self, x_shape: tuple[int, ...], initial: float, floor: float, learn: Learn) -> None:
        super().__init__()
        self.initial, self.floor, self.learn = initial, floor, learn
        self.offset = 0.0 if learn is None else inverse_softplus(initial - floor)
        if learn in ("shared", "element"):
            self.raw = nn.Parameter(torch.zeros(x_shape if learn == "element" else ()))

    @property
    def num_features(self) -> int:
        """Numbers that the decoder makes for it."""
        return int(self.learn == "decoder")

    def forward(self, features: tuple[Tensor, ...]) -> Tensor | float:
        """Return the value, for the decoder's features of it: () or a single tensor."""
        if self.learn is None:
            return self.initial
        raw = features[0] if features else PACE * self.raw
        return F.softplus(raw + self.offset) + self.floor


def inverse_softplus(value: float) -> float:
    """Return the number whose softplus is the value."""
    return value + math.log(-math.expm1(-value))


def check_learn(name: str, initial: float, floor: float, learn: Learn) -> float:
    """Return the initial value of a :class:`Positive`.

    Args:
        name: name of the argument, for the error.
        initial: value to check.
        floor: smallest value while it is learned, positive.
        learn: scope of what is learned.

    Raises:
        ValueError: if the initial value is not positive, or not above the floor where it is learned, or if
            the scope is unknown.
    """
    value = number(name, initial, above=0)
    if one_of("learn", learn, LEARN) is not None and not 0 < floor < value:
        raise ValueError(
            f"{name}: got {initial} to start learning from, expected more than the floor, {floor:.4g}, which "
            "must be positive"
        )
    return value
