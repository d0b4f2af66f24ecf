"""Readers of all kinds of data into tensors, and the data sets of the examples."""

from pyro_mfcvae.data.cells import annotate, from_anndata
from pyro_mfcvae.data.columns import Column
from pyro_mfcvae.data.dicts import from_dicts
from pyro_mfcvae.data.reading import as_labelled, as_tensor
from pyro_mfcvae.data.schema import Schema
from pyro_mfcvae.datasets.labelled import LabelledData
from pyro_mfcvae.datasets.make_facets import make_facets
from pyro_mfcvae.datasets.mnist import mnist
from pyro_mfcvae.datasets.shapes import RenderedShapes
from pyro_mfcvae.datasets.shapes3d import Shapes3D
from pyro_mfcvae.datasets.svhn import svhn

__all__ = [
    "Column",
    "LabelledData",
    "RenderedShapes",
    "Schema",
    "Shapes3D",
    "annotate",
    "as_labelled",
    "as_tensor",
    "from_anndata",
    "from_dicts",
    "make_facets",
    "mnist",
    "svhn",
]
