"""Mixtures of normalising flows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack, cast

import pyro.distributions as dist
import torch
from pyro.distributions.transforms import AffineCoupling, Permute
from pyro.nn import DenseNN
from torch import Tensor, nn
from torch.distributions import Transform

from pyro_mfcvae._utils.checks import integer, set_checked
from pyro_mfcvae.priors.gaussian import DiagonalGaussianMixture
from pyro_mfcvae.priors.mixture import LocationScaleFactory, LocationScaleOptions, standard_normal

MAX_LOG_SCALE = 2.0  # of a layer: more would not be stable at the start of training


class FlowMixture(DiagonalGaussianMixture):
    r"""Mixture of normalising flows: Gaussians, bent by one invertible map that all of them share.

    .. math::
        u \mid c = k \sim N(\mu_k, \mathrm{diag}(\sigma_k^2)), \qquad z = T(u), \qquad
        p(z \mid c = k) = N\bigl(T^{-1}(z); \mu_k, \sigma_k^2\bigr)\,
        \bigl|\det \partial T^{-1} / \partial z\bigr|

    T is a chain of affine couplings, the identity at the start. It is inverted once for a latent,
    whatever the number of components. The divergence of a normal distribution from it has no closed
    form, and is estimated.

    Args:
        clusters: number of components K.
        latent_dim: dimension D of the latent, at least 2.
        layers: number of couplings; each leaves one half of the dimensions as it is.
        width: width of the hidden layer of each coupling's network.
        **options: those of :class:`LocationScaleMixture`.

    Raises:
        ValueError: for a latent of one dimension, or less than one layer or unit.

    References:
        L. Dinh, J. Sohl-Dickstein, S. Bengio (2017). Density estimation using Real NVP.
    """

    def __init__(
        self,
        clusters: int,
        latent_dim: int,
        *,
        layers: int = 4,
        width: int = 16,
        **options: Unpack[LocationScaleOptions],
    ) -> None:
        super().__init__(clusters, latent_dim, **options)
        layers, width = integer("layers", layers, least=1), integer("width", width, least=1)
        if latent_dim < 2:
            raise ValueError(
                f"latent_dim: got {latent_dim} for a flow, expected at least 2, since couplings transform "
                "some dimensions given the others; use more dimensions, or 'student_t'"
            )
        self.split = latent_dim // 2
        size = latent_dim - self.split
        self.networks = nn.ModuleList(DenseNN(self.split, [width], [size, size]) for _ in range(layers))
        with torch.no_grad():
            for network in self.networks:
                for parameter in cast(DenseNN, network).layers[-1].parameters():
                    parameter.zero_()

    def component(self, c: Tensor) -> dist.Distribution:
        """Return p(z | c): batch shape of ``c``, event shape (D,)."""
        if self.is_standard:
            return standard_normal(c, self.loc)
        return dist.TransformedDistribution(super().component(c), self.transforms())

    def transforms(self) -> list[Transform]:
        """Make the layers of T, each time anew, since Pyro's keep the last tensors that they saw."""
        flip = torch.arange(self.latent_dim - 1, -1, -1, device=self.loc.device)
        layers: list[Transform] = []
        for network in self.networks:
            coupling = AffineCoupling(
                self.split, network, log_scale_min_clip=-MAX_LOG_SCALE, log_scale_max_clip=MAX_LOG_SCALE
            )
            layers += [coupling, Permute(flip)]
        # An even number of flips, or dimensions would trade places.
        return layers[:-1] if len(self.networks) % 2 else layers

    def draw(self, c: Tensor, temperature: float = 1.0) -> Tensor:
        """Sample from p(z | c), (..., D); the temperature is that of the Gaussian before T."""
        if self.is_standard:
            return super().draw(c, temperature)
        base = super().component(c)
        z = base.mean + temperature * (base.sample() - base.mean)
        for layer in self.transforms():
            z = layer(z)
        return cast(Tensor, z)


@dataclass(frozen=True)
class Flow(LocationScaleFactory):
    """Factory of a :class:`FlowMixture`; the other attributes are those of its base.

    Attributes:
        layers: number of couplings.
        width: width of the hidden layer of each coupling's network.

    Raises:
        ValueError: for less than one layer or unit.
    """

    prior = FlowMixture

    layers: int = 4
    width: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, integer, "layers", "width", least=1)
