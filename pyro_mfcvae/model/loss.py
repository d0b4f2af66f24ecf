"""Losses: minus the ELBO of a batch, in one of two ways that give the same numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from pyro_mfcvae.model.mfcvae import MFCVAE
from pyro_mfcvae.model.weights import FacetWeights, undeclared_parameters


class Loss(ABC):
    r"""Minus the weighted ELBO, plus what redundancy of the facets costs, in nats per datum.

    .. math:: -\frac1N \mathrm{ELBO}_{\alpha, \beta}(x) + w \, \mathrm{redundancy}(z)

    Args:
        model: the model.
        data_size: number of data that a batch is a subsample of; None is that of the batch.
    """

    def __init__(self, model: MFCVAE, data_size: int | None = None) -> None:
        self.model = model
        self.data_size = data_size

    @abstractmethod
    def __call__(self, x: Tensor, weights: FacetWeights) -> Tensor:
        """Compute the loss.

        Args:
            x: data (N, *x_shape).
            weights: weights of the facets, and w.

        Returns:
            Nats per datum, a scalar with gradient.
        """


class ClosedFormLoss(Loss):
    """The loss by :meth:`MFCVAE.objective`, without Pyro's handlers."""

    def __call__(self, x: Tensor, weights: FacetWeights) -> Tensor:
        """Compute the loss; the arguments are those of :class:`Loss`."""
        return -self.model.objective(x, weights) / (self.data_size or len(x))


class ProgramLoss(Loss):
    """The loss by running model and guide as Pyro programs under :meth:`MFCVAE.elbo`."""

    def __init__(self, model: MFCVAE, data_size: int | None = None) -> None:
        super().__init__(model, data_size)
        self.elbo = model.elbo()

    def __call__(self, x: Tensor, weights: FacetWeights) -> Tensor:
        """Compute the loss; the arguments are those of :class:`Loss`."""
        size = self.data_size or len(x)
        model = self.model
        with undeclared_parameters():
            loss: Tensor = self.elbo.differentiable_loss(
                model.model, model.guide, x, data_size=size, weights=weights
            )
        return loss / size


def make_loss(model: MFCVAE, data_size: int | None = None) -> Loss:
    """Choose the faster of the two losses that is right for a model.

    The closed form is, unless all data share latent variables, the likelihood is averaged over several
    particles, or a subclass has a program or an ELBO of its own.

    Args:
        model: the model.
        data_size: number of data that a batch is a subsample of; None is that of the batch.
    """
    return (ClosedFormLoss if has_closed_form(model) else ProgramLoss)(model, data_size)


def has_closed_form(model: MFCVAE) -> bool:
    """Tell whether :meth:`MFCVAE.objective` is what the model's own programs and ELBO come to."""
    kind = type(model)
    is_plain = all(getattr(kind, name) is getattr(MFCVAE, name) for name in ("model", "guide", "elbo"))
    return is_plain and not model.shared_priors() and model.config.num_particles == 1
