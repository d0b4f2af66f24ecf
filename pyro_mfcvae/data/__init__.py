"""Turning what users have into tensors, and the data sets of the examples."""

from .facets import make_facets
from .inputs import LabelledData, as_labelled, as_tensor
from .mnist import mnist
from .shapes import RenderedShapes
from .shapes3d import Shapes3D
from .svhn import svhn

__all__ = [
    "LabelledData",
    "RenderedShapes",
    "Shapes3D",
    "as_labelled",
    "as_tensor",
    "make_facets",
    "mnist",
    "svhn",
]
