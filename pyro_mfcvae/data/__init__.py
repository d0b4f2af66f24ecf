"""Turning what users have into tensors, and the data sets of the examples."""

from .inputs import LabelledData, as_labelled, as_tensor
from .mnist import mnist
from .shapes import RenderedShapes
from .svhn import svhn

__all__ = [
    "LabelledData",
    "RenderedShapes",
    "as_labelled",
    "as_tensor",
    "mnist",
    "svhn",
]
