"""The packaged model with the priors that differ most for Pyro, and data for it."""

import pytest
import torch

from pyro_mfcvae import priors

CASES = {
    "two facets": {"J": 2},
    "three facets": {"J": 3, "K": (2, 3, 4), "D": (3, 1, 2)},
    "Bayesian": {"prior": "bayesian_gaussian"},
    "Dirichlet process": {"prior": priors.DiagonalGaussian(weights="stick_breaking")},
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture
def model(case, make_model):
    return make_model(**case)


@pytest.fixture
def x():
    return torch.rand(5, 6, generator=torch.Generator().manual_seed(1))
