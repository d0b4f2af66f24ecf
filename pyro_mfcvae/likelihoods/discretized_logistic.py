"""Pictures of 8 bits, or of any number of grey levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions.constraints import Constraint
from torch.nn import functional as F

from pyro_mfcvae._utils.checks import integer, set_checked
from pyro_mfcvae.likelihoods.base import ElementwiseFactory, ElementwiseLikelihood, Likelihood
from pyro_mfcvae.likelihoods.positive import Learn, Positive, check_learn


class _DiscretizedLogistic(dist.TorchDistribution):  # type: ignore[misc]
    r"""Logistic distribution rounded to levels k / (L - 1), with its tails at 0 and 1."""

    arg_constraints: dict[str, Constraint] = {}  # noqa: RUF012
    support = dist.constraints.unit_interval

    def __init__(self, loc: Tensor, scale: Tensor, levels: int) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.levels = levels
        super().__init__(self.loc.shape, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> dist.Distribution:
        """Return the distribution with another batch shape."""
        return _DiscretizedLogistic(self.loc.expand(batch_shape), self.scale.expand(batch_shape), self.levels)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Sample levels in [0, 1]."""
        with torch.no_grad():
            u = torch.rand(self.shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
            continuous = self.loc + self.scale * u.logit(eps=torch.finfo(u.dtype).tiny)
            steps = self.levels - 1
            levels: Tensor = (continuous * steps).round().clamp(0, steps)
            return levels / steps

    def log_prob(self, value: Tensor) -> Tensor:
        r"""Return the log mass of a bin (a, b): log s(b) + log s(-a) + log(1 - e^(a - b)), s the sigmoid."""
        half = 0.5 / (self.levels - 1)
        above = F.logsigmoid((value + half - self.loc) / self.scale)  # log P(X < b)
        below = F.logsigmoid((self.loc - value + half) / self.scale)  # log P(X > a)
        inner = above + below + torch.log(-torch.expm1(-2 * half / self.scale))
        return torch.where(value < half, above, torch.where(value > 1 - half, below, inner))


class DiscretizedLogisticLikelihood(ElementwiseLikelihood):
    r"""Levels k / (L - 1) in [0, 1] as bins of a logistic distribution.

    .. math::
        p(x_d|z) = \sigma\!\left(\frac{x_d + h - y_d}{s_d}\right)
        - \sigma\!\left(\frac{x_d - h - y_d}{s_d}\right), \qquad h = \frac{1}{2 (L - 1)}

    where the bin of 0 begins at minus infinity and that of 1 ends at infinity. It is a probability of the
    picture as it is stored, so that :math:`-\log_2 p` divided by the number of elements is bits per
    dimension.

    Args:
        x_shape: shape of one datum.
        levels: number of levels L.
        scale: scale s of the logistic distribution, in units of x.
        learn: scope in which s is learned, as :class:`DiscretizedLogistic` has it.
        missing: whether elements of x may be NaN.

    References:
        Salimans, Karpathy, Chen, Kingma (2017), PixelCNN++.
    """

    def __init__(
        self, x_shape: tuple[int, ...], levels: int, scale: float, learn: Learn, missing: bool = False
    ) -> None:
        super().__init__(x_shape, missing)
        self.levels = levels
        self.scale = Positive(x_shape, scale, smallest_scale(levels), learn)
        self.num_features = 1 + self.scale.num_features

    def elements(self, features: Tensor) -> dist.Distribution:
        r"""Return discretised logistics around the first plane of ``features``, (N, *x_shape)."""
        return _DiscretizedLogistic(*self._loc_and_scale(features), self.levels)

    def mean(self, features: Tensor) -> Tensor:
        r"""Return E[x | z], (N, *x_shape), in [0, 1]."""
        y, s = self._loc_and_scale(features)
        # The sum of P(X > t) over the L - 1 edges t between bins, as an integral and its first correction.
        integral = s * (F.softplus(y / s) - F.softplus((y - 1) / s))
        slope = torch.sigmoid((1 - y) / s) * torch.sigmoid((y - 1) / s)
        slope = torch.sigmoid(-y / s) * torch.sigmoid(y / s) - slope
        return (integral - slope / (s * 24 * (self.levels - 1) ** 2)).clamp(0, 1)

    def check_values(self, values: Tensor, name: str) -> None:
        """Raise a ValueError unless all values are levels."""
        steps = self.levels - 1
        bad = values[((values * steps).round().clamp(0, steps) - values * steps).abs() > 1e-2]
        if bad.numel():
            raise ValueError(
                f"{name}: got {bad[0].item():.6g}, among {bad.numel()} of {values.numel()} values, but the "
                f"discretized logistic likelihood needs multiples of 1/{steps} from 0 to 1, which unsigned "
                "8-bit data are with 256 levels; set DiscretizedLogistic(levels=...) to their number, scale "
                f"and round the data, as in round(x * {steps}) / {steps}, or use "
                "likelihood='continuous_bernoulli' or 'gaussian'"
            )

    def _loc_and_scale(self, features: Tensor) -> tuple[Tensor, Tensor]:
        y, *of_scale = self.planes(features)
        return y, torch.as_tensor(self.scale(tuple(of_scale)), dtype=y.dtype, device=y.device)


@dataclass(frozen=True)
class DiscretizedLogistic(ElementwiseFactory):
    """Factory of a :class:`DiscretizedLogisticLikelihood`, for pictures of 8 bits.

    Attributes:
        levels: number of levels, from 0 to 1; 256 are those of unsigned 8-bit data.
        scale: scale of the logistic distribution, in units of x; where it is learned, the one to start from.
        learn: None for a fixed scale, ``"shared"``, ``"element"`` or ``"decoder"``, as
            :class:`Gaussian` has it. A learned scale never falls below half a level.
        missing: whether elements of x may be NaN.

    Raises:
        ValueError: for less than two levels, or a scale below half a level.
    """

    levels: int = 256
    scale: float = 0.05
    learn: Learn = "shared"

    def __post_init__(self) -> None:
        super().__post_init__()
        set_checked(self, integer, "levels", least=2)
        set_checked(self, check_learn, "scale", floor=smallest_scale(self.levels), learn=self.learn)
        if self.scale < smallest_scale(self.levels):
            raise ValueError(
                f"scale: got {self.scale}, expected at least half a level, {smallest_scale(self.levels):.4g}"
            )

    def __call__(self, x_shape: tuple[int, ...]) -> Likelihood:
        r"""Build the likelihood for data of shape (N, *x_shape)."""
        return DiscretizedLogisticLikelihood(x_shape, self.levels, self.scale, self.learn, self.missing)


def smallest_scale(levels: int) -> float:
    """Return half of the distance between levels."""
    return 0.5 / (levels - 1)
