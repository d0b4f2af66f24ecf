"""Base classes of encoders and decoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor, nn

Weight = float | Tensor  # a tensor stands for a number above zero that changes between steps


class Encoder(nn.Module, ABC):
    """Gives q(z_j | x) for every facet.

    Attributes:
        facet_modules: a ``ModuleList`` whose entry j belongs to facet j alone. Training freezes it until
            facet j takes part and on request, and starts it from a subspace of the data where asked to.
    """

    facet_modules: nn.ModuleList

    @abstractmethod
    def forward(self, x: Tensor) -> Sequence[tuple[Tensor, Tensor]]:
        r"""For x (N, *shape), location and standard deviation (N, D_j) of each of the J facets."""


class Decoder(nn.Module, ABC):
    """Merges the facets' latents into the parameter of p(x | z).

    Attributes:
        facet_modules: a ``ModuleList`` whose entry j belongs to facet j alone; empty where nothing does.
    """

    facet_modules: nn.ModuleList

    @abstractmethod
    def forward(self, z: Sequence[Tensor], fade_in: Sequence[Weight]) -> Tensor:
        r"""For z_j (N, D_j), each entering with weight ``fade_in[j]``, an output (N, *shape).

        A facet of weight zero must not influence the output.
        """


NetworkFactory = Callable[[tuple[int, ...], tuple[int, ...]], tuple[nn.Module, nn.Module]]


def is_active(weight: Weight) -> bool:
    """Tell whether a weight is above zero; a tensor always is, and its value need not be waited for."""
    return isinstance(weight, Tensor) or weight > 0


def has_facet_modules(network: nn.Module) -> bool:
    """Tell whether a network says what in it belongs to a facet alone."""
    return isinstance(getattr(network, "facet_modules", None), nn.ModuleList)


def check_facet_modules(network: nn.Module, name: str, num_facets: int) -> None:
    """Raise an error unless a network's ``facet_modules``, if it has any, are those of its facets.

    Args:
        network: encoder or decoder.
        name: what the message calls it.
        num_facets: number of facets, a nuisance counted among them.

    Raises:
        TypeError: if ``facet_modules`` is no ``ModuleList``.
        ValueError: if there are more of them than facets.
    """
    modules = getattr(network, "facet_modules", None)
    if modules is None:
        return
    if not isinstance(modules, nn.ModuleList):
        raise TypeError(
            f"{name}.facet_modules: got {type(modules).__name__}, expected a torch.nn.ModuleList, whose "
            "entry j belongs to facet j alone"
        )
    if len(modules) > num_facets:
        raise ValueError(
            f"{name}.facet_modules: got {len(modules)} modules, expected at most one for each of the "
            f"{num_facets} facets, a nuisance counted among them"
        )
