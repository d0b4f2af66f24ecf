"""A distribution of what is observed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pyro.distributions import Distribution, TorchDistribution
from torch import Tensor
from torch.distributions.constraints import Constraint


class Observed(TorchDistribution):  # type: ignore[misc]
    r"""A distribution of single elements, where log p of a missing one, NaN, is zero.

    Args:
        base: distribution with event shape () whose support holds zero.
    """

    arg_constraints: dict[str, Constraint] = {}  # noqa: RUF012

    def __init__(self, base: TorchDistribution) -> None:
        self.base = base
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Constraint:
        """The support of ``base``."""
        support: Constraint = self.base.support
        return support

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> Distribution:
        """Return the distribution with another batch shape."""
        return Observed(self.base.expand(batch_shape))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Sample complete elements."""
        sample: Tensor = self.base.sample(sample_shape)
        return sample

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p of the elements in nats, zero of those that are NaN."""
        missing = value.isnan()
        # Filled before, and masked after: a gradient through NaN would be NaN even where it is masked.
        log_prob = self.base.log_prob(torch.where(missing, 0.0, value))
        return torch.where(missing, 0.0, log_prob)
