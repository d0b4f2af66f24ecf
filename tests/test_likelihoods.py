import numpy as np
import pytest
import scipy.stats
import torch

from pyro_mfcvae import likelihoods
from pyro_mfcvae.likelihoods import Bernoulli, Gaussian, Likelihood

SHAPES = [(3,), (1, 4, 4), (2, 3, 5)]
RECIPES = [Bernoulli(), Gaussian(0.5), Gaussian(0.5, standardize=True)]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("x_shape", SHAPES)
def test_shapes(recipe, x_shape):
    likelihood = recipe(x_shape)
    p = likelihood(torch.zeros(5, *x_shape))
    assert p.batch_shape == (5,)
    assert p.event_shape == x_shape
    x = torch.rand(5, *x_shape)
    assert p.log_prob(x).shape == (5,)
    assert likelihood.mean(torch.zeros(5, *x_shape)).shape == (5, *x_shape)
    assert likelihood.preprocess(x).shape == x.shape
    assert isinstance(likelihood, Likelihood)
    assert not list(likelihood.parameters())


@pytest.mark.parametrize("x_shape", SHAPES)
def test_bernoulli_equals_the_formula_for_soft_targets(x_shape):
    features = draw(5, *x_shape)
    x = torch.rand(5, *x_shape, dtype=torch.float64)
    x.view(-1)[:2] = torch.tensor([0.0, 1.0])
    y = 1 / (1 + (-features).exp())
    expected = (x * y.log() + (1 - x) * (1 - y).log()).flatten(1).sum(1)
    likelihood = Bernoulli()(x_shape)
    torch.testing.assert_close(likelihood(features).log_prob(x), expected)
    torch.testing.assert_close(likelihood.mean(features), y)
    assert torch.equal(likelihood.preprocess(x), x)


def test_bernoulli_is_normalised_and_samples_its_mean():
    likelihood = Bernoulli()((1,))
    features = torch.tensor([[0.7]])
    p = likelihood(features)
    total = sum(p.log_prob(torch.tensor([[value]])).exp() for value in (0.0, 1.0))
    assert total.item() == pytest.approx(1, abs=1e-6)
    torch.manual_seed(0)
    samples = p.sample((20_000,))
    assert samples.mean().item() == pytest.approx(likelihood.mean(features).item(), abs=0.01)


def test_bernoulli_is_finite_for_extreme_logits():
    features = torch.tensor([[-200.0, 200.0, 200.0]]).requires_grad_()
    log_prob = Bernoulli()((3,))(features).log_prob(torch.tensor([[1.0, 0.0, 1.0]]))
    log_prob.sum().backward()
    assert log_prob.item() == pytest.approx(-400)
    assert features.grad.tolist() == [[1.0, -1.0, 0.0]]


@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("x_shape", SHAPES)
def test_gaussian_equals_scipy(x_shape, sigma):
    features, x = draw(5, *x_shape), draw(5, *x_shape, seed=1)
    likelihood = Gaussian(sigma)(x_shape)
    expected = scipy.stats.norm.logpdf(x.numpy(), features.numpy(), sigma).reshape(5, -1).sum(1)
    np.testing.assert_allclose(likelihood(features).log_prob(x).numpy(), expected, rtol=1e-10)
    assert torch.equal(likelihood.mean(features), features)
    assert torch.equal(likelihood.preprocess(x), x)


def test_standardized_gaussian_is_a_change_of_variables():
    """log p(x) = log p(standardised x) - sum_d log scale_d."""
    x_shape = (2, 3)
    x = 5 * draw(50, *x_shape) * torch.arange(1.0, 7).view(x_shape) + 100
    likelihood = Gaussian(0.5, standardize=True)(x_shape).double()
    likelihood.calibrate(x)
    loc, scale = x.numpy().mean(0), x.numpy().std(0)
    np.testing.assert_allclose(likelihood.loc.numpy(), loc)
    np.testing.assert_allclose(likelihood.scale.numpy(), scale)
    standardised = (x.numpy() - loc) / scale
    np.testing.assert_allclose(likelihood.preprocess(x).numpy(), standardised, atol=1e-12)

    features = draw(50, *x_shape, seed=1)
    expected = scipy.stats.norm.logpdf(standardised, features.numpy(), 0.5) - np.log(scale)
    np.testing.assert_allclose(
        likelihood(features).log_prob(x).numpy(), expected.reshape(50, -1).sum(1), rtol=1e-10
    )
    np.testing.assert_allclose(likelihood.mean(features).numpy(), loc + scale * features.numpy())


@pytest.mark.parametrize("standardize", [True, False])
def test_gaussian_integrates_to_one_over_x(standardize):
    likelihood = Gaussian(0.5, standardize=standardize)((1,)).double()
    likelihood.calibrate(7 * draw(100, 1) + 3)
    x = torch.linspace(-60, 60, 40_001, dtype=torch.float64).unsqueeze(1)
    density = likelihood(torch.full_like(x, 0.3)).log_prob(x).exp()
    assert torch.trapezoid(density, x[:, 0]).item() == pytest.approx(1, abs=1e-8)


def test_gaussian_samples_have_its_moments():
    likelihood = Gaussian(0.5, standardize=True)((2,))
    likelihood.calibrate(torch.tensor([[0.0, 10.0], [4.0, 10.0]]))  # scales 2 and, constant, 1
    features = torch.tensor([[1.0, -1.0]])
    torch.manual_seed(0)
    samples = likelihood(features).sample((50_000,))[:, 0]
    torch.testing.assert_close(samples.mean(0), torch.tensor([4.0, 9.0]), atol=0.03, rtol=0)
    torch.testing.assert_close(samples.std(0), torch.tensor([1.0, 0.5]), atol=0.03, rtol=0)
    torch.testing.assert_close(likelihood.mean(features), torch.tensor([[4.0, 9.0]]))


@pytest.mark.parametrize("value", [0.0, 10.0, 0.1, 1e6])
def test_a_constant_column_is_left_at_scale_one(value):
    """Also where rounding of the mean makes the deviation not quite zero."""
    x = torch.stack([torch.full((1_001,), value), torch.arange(1_001.0)], 1)
    likelihood = Gaussian(0.5, standardize=True)((2,))
    likelihood.calibrate(x)
    assert likelihood.scale[0].item() == pytest.approx(1)
    assert likelihood.preprocess(x).abs().max() < 3


def test_the_scale_of_the_data_is_part_of_the_saved_state():
    assert set(Gaussian(0.5, standardize=True)((2,)).state_dict()) == {"loc", "scale"}
    assert not Gaussian(0.5)((2,)).state_dict()


@pytest.mark.parametrize("recipe", RECIPES)
def test_data_in_the_unit_interval_suit_all(recipe):
    likelihood = recipe((2,))
    likelihood.check(torch.tensor([[0.0, 1.0], [0.5, 0.25]]), "x")
    if not isinstance(recipe, Bernoulli):
        likelihood.check(torch.tensor([[-7.0, 255.0]]), "x")


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, -1.0])
def test_bernoulli_refuses_other_data(value):
    with pytest.raises(ValueError, match=rf"dataset: values from .*{abs(value):.4g}.*\[0, 1\]"):
        Bernoulli()((2,)).check(torch.tensor([[0.5, value]]), "dataset")


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_sigma(sigma):
    with pytest.raises(ValueError, match="sigma: got"):
        Gaussian(sigma)


def test_every_name_builds_a_likelihood():
    assert set(likelihoods.available()) >= {"bernoulli", "gaussian"}
    for name in likelihoods.available():
        assert likelihoods.RECIPES[name]()((2,))(torch.zeros(3, 2)).batch_shape == (3,)
