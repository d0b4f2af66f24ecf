"""Options that the factories share: those of a hidden layer and of a ladder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_mfcvae._utils.checks import flag, number, one_of, set_checked

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    # The same values, in the memory of what it is applied to: tensors that a step need not allocate.
    "relu": partial(nn.ReLU, inplace=True),
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}
# What multiplies a facet module where the factory does not say: in the paper both merges, each with its own.
GATES: dict[str, float] = {"gated_add": 0.1, "concatenate": 1.0}


class WeightNormConv2d(nn.Conv2d):
    r"""Convolution whose weights have a direction and a length of their own.

    .. math:: w_i = g_i\, v_i / |v_i|

    for every output channel i, with v = ``weight`` and g = ``gain``. It starts as the plain convolution.
    Unlike PyTorch's parametrisation it can be pickled, and so trained in another process.

    Args:
        inputs: number of channels that it takes.
        outputs: number of channels that it makes.
        kernel: height and width of the kernel.
        stride: steps down and to the right.
        padding: number of pixels of zeros around the picture.

    References:
        Salimans, Kingma (2016), Weight Normalization.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int], padding: int
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding)
        self.gain = nn.Parameter(self._length().detach())

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (N, C, H, W)."""
        weight = self.gain / self._length() * self.weight
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)

    def _length(self) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(self.weight, dim=(1, 2, 3), keepdim=True)
        return length


@dataclass(frozen=True, kw_only=True)
class LayerOptions:
    """Options of a hidden layer, which is a linear map, an activation, batch norm and dropout, in this order.

    Batch normalisation comes after the activation, as in the paper, and needs batches of at least two
    data in training.

    Attributes:
        activation: one of ``"relu"``, ``"leaky_relu"``, ``"elu"``, ``"silu"`` and ``"gelu"``.
        batch_norm: whether to normalise; in a convolutional network, the outputs of convolutions.
        dropout: probability that a unit is left out in a step of training.

    Raises:
        ValueError: for a value outside its range, by the attribute's name.
    """

    activation: str = "relu"
    batch_norm: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        set_checked(self, one_of, "activation", known=tuple(ACTIVATIONS))
        set_checked(self, flag, "batch_norm")
        set_checked(self, number, "dropout", least=0, below=1)

    def hidden(self, linear: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
        """Make a hidden layer around a linear map."""
        layers: list[nn.Module] = [linear, ACTIVATIONS[self.activation]()]
        if self.batch_norm:
            if isinstance(linear, nn.Linear):
                layers.append(nn.BatchNorm1d(linear.out_features))
            else:
                layers.append(nn.BatchNorm2d(linear.out_channels))
        if self.dropout > 0:
            layers.append(nn.Dropout(self.dropout))
        return nn.Sequential(*layers)


@dataclass(frozen=True, kw_only=True)
class LadderOptions(LayerOptions):
    r"""Options of a ladder, whose decoder merges facet modules into its backbone.

    .. math::
        \text{gated\_add:}\; b + g\, \alpha_j\, \mathrm{module}_j(z_j), \qquad
        \text{concatenate:}\; [b,\; g\, \alpha_j\, \mathrm{module}_j(z_j)]

    Attributes:
        merge: ``"gated_add"`` or ``"concatenate"``.
        gate: factor g of a facet module; None takes the paper's, 0.1 for addition and 1 for concatenation.

    Raises:
        ValueError: for an unknown merge, or a gate that is no finite number.
    """

    merge: str = "gated_add"
    gate: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, one_of, "merge", known=tuple(GATES))
        set_checked(self, number, "gate", or_none=True)

    @property
    def concatenates(self) -> bool:
        """True if facet modules are concatenated to the backbone, and False if they are added."""
        return self.merge == "concatenate"

    @property
    def module_weight(self) -> float:
        """The gate g, given or taken from the paper."""
        return GATES[self.merge] if self.gate is None else self.gate

    def merged(self, width: int, is_deepest: bool) -> int:
        """Return the width of b_j for a backbone of that width; nothing is merged at the deepest level."""
        return 2 * width if self.concatenates and not is_deepest else width
