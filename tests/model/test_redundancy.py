"""The dependence between latents, and what it costs in the objective."""

import itertools

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist

from pyro_mfcvae import FacetELBO
from pyro_mfcvae.model import FacetWeights
from pyro_mfcvae.model.loss import ClosedFormLoss, ProgramLoss
from pyro_mfcvae.model.redundancy import redundancy


def random_latents(*dims, N=30, seed=0):
    """Latents in float64 that depend on each other through their first coordinates."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(N, 1))
    latents = []
    for D in dims:
        z = rng.normal(size=(N, D))
        z[:, :1] += 2 * shared
        latents.append(z)
    return latents


def median(z):
    """The lower of two in the middle."""
    return np.sort(pdist(z))[(len(z) * (len(z) - 1) // 2 - 1) // 2]


def centred(z, bandwidth):
    """By the definition: projected off all matrices u_i + u_j, in the space of hollow matrices."""
    N = len(z)
    K = np.exp(-cdist(z, z) / bandwidth)
    pairs = np.array(list(itertools.combinations(range(N), 2)))
    k = K[pairs[:, 0], pairs[:, 1]]
    additive = np.zeros((len(pairs), N))
    for column in pairs.T:
        additive[np.arange(len(pairs)), column] = 1
    return k - additive @ np.linalg.lstsq(additive, k, rcond=None)[0]


def by_brute_force(latents, bandwidths=None):
    kernels = [centred(z, b) for z, b in zip(latents, bandwidths or map(median, latents), strict=True)]
    return sum(a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in itertools.combinations(kernels, 2))


def measured(latents, dtype=torch.float64):
    return redundancy([torch.as_tensor(z, dtype=dtype) for z in latents]).item()


@pytest.mark.parametrize("dims", [(1, 1), (2, 3), (1, 2, 5)])
@pytest.mark.parametrize("N", [4, 5, 30])
def test_it_is_the_alignment_of_centred_kernels(dims, N):
    latents = random_latents(*dims, N=N)
    assert measured(latents) == pytest.approx(by_brute_force(latents), abs=1e-10)
    assert measured(latents, torch.float32) == pytest.approx(by_brute_force(latents), abs=1e-4)


def test_its_gradient_is_that_of_fixed_bandwidths():
    latents = random_latents(2, 1, 3, N=12)
    bandwidths = [median(z) for z in latents]
    leaves = [torch.tensor(z, requires_grad=True) for z in latents]
    redundancy(leaves).backward()
    for j, z in enumerate(latents):
        for index in np.ndindex(z.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = z.copy()
                moved[index] += step
                ends.append(by_brute_force([*latents[:j], moved, *latents[j + 1 :]], bandwidths))
            assert leaves[j].grad[index].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-7)


def test_equal_latents_have_one_whatever_their_place_scale_and_rotation():
    (z,) = random_latents(3)
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    assert measured([z, 5 - 0.01 * z @ rotation]) == pytest.approx(1)
    other = random_latents(3, 2)[1]
    assert measured([z, other]) == pytest.approx(measured([100 * z @ rotation - 7, other]))
    assert measured([z, z, z]) == pytest.approx(3)


def test_it_is_zero_on_average_for_independent_latents():
    rng = np.random.default_rng(0)
    values = [measured([rng.normal(size=(16, 2)), rng.uniform(size=(16, 3))]) for _ in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 20
    assert abs(np.mean(values)) < 0.05  # centred as usual, so few data are aligned by much more


def test_it_sees_what_no_correlation_does():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(500, 1))
    assert measured([a, a**2]) > 0.15
    assert abs(measured([a, rng.normal(size=(500, 1)) ** 2])) < 0.02


def test_what_coincides_or_does_not_vary_has_finite_gradients():
    varied, _ = random_latents(2, 2)
    twins = np.repeat(varied[:15], 2, axis=0)
    constant = np.full((30, 2), 1 / 3)
    mostly_constant = np.where(np.arange(30)[:, None] < 25, constant, varied)
    for z in (twins, constant, mostly_constant):
        leaves = [torch.tensor(value, dtype=torch.float32, requires_grad=True) for value in (z, varied)]
        value = redundancy(leaves)
        value.backward()
        assert all(leaf.grad.isfinite().all() for leaf in leaves)
        assert z is not constant or value.item() == 0


def test_several_samples_at_once():
    batches = [random_latents(2, 3, seed=seed) for seed in range(3)]
    stacked = [torch.tensor(np.stack(z)) for z in zip(*batches, strict=True)]
    np.testing.assert_allclose(redundancy(stacked).numpy(), [measured(z) for z in batches])


@pytest.mark.parametrize("N", [1, 3])
def test_few_data_have_none(N):
    assert measured(random_latents(2, 2, N=N)) == 0.0


WEIGHTS = FacetWeights((0.5, 1.0), (0.7, 2.0), 10.0)


def data(model, N=20):
    return torch.rand(N, *model.x_shape, generator=torch.Generator().manual_seed(1))


def loss_and_gradients(loss, x, weights):
    model = loss.model
    model.zero_grad(set_to_none=True)
    torch.manual_seed(3)
    value = loss(x, weights)
    value.backward()
    return value.detach(), [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]


@pytest.mark.parametrize("num_kl_samples", [1, 3])
@pytest.mark.parametrize("nuisance", [0, 2])
def test_both_losses_charge_the_same(make_model, num_kl_samples, nuisance):
    model = make_model(elbo="monte_carlo", num_kl_samples=num_kl_samples, nuisance=nuisance)
    ones = (1.0,) * bool(nuisance)
    weights = FacetWeights((0.5, 1.0, *ones), (0.7, 2.0, *ones), 10.0)
    results = [
        loss_and_gradients(kind(model), data(model), weights) for kind in (ClosedFormLoss, ProgramLoss)
    ]
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [ClosedFormLoss, ProgramLoss])
def test_the_charge_is_the_weight_times_the_redundancy_of_the_samples(make_model, kind):
    model = make_model(nuisance=2)
    x = data(model)
    full = model.full_weights
    charged, without = (
        loss_and_gradients(kind(model), x, FacetWeights(full.fade_in, full.kl, weight))[0]
        for weight in (10.0, 0.0)
    )
    torch.manual_seed(3)
    z = [q.rsample() for q in model.encode(x)]
    assert (charged - without).item() == pytest.approx(10 * redundancy(z[:2]).item(), abs=1e-4)


def test_a_subsample_of_all_data_is_charged_per_datum(make_model):
    model = make_model()
    x, free = data(model), FacetWeights(WEIGHTS.fade_in, WEIGHTS.kl)
    charges = []
    for data_size in (None, 500):
        losses = [loss_and_gradients(ProgramLoss(model, data_size), x, w)[0] for w in (WEIGHTS, free)]
        charges.append((losses[0] - losses[1]).item())
    assert charges[0] == pytest.approx(charges[1], rel=1e-3)


@pytest.mark.parametrize("fade_in", [(0.0, 1.0), (0.0, 0.0)])
def test_a_facet_without_fade_in_is_left_out(make_model, fade_in):
    model = make_model()
    x = data(model)
    results = [
        loss_and_gradients(ClosedFormLoss(model), x, FacetWeights(fade_in, (1.0, 1.0), weight))
        for weight in (0.0, 10.0)
    ]
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_particles_are_charged_on_average(make_model):
    model = make_model()
    x, L = data(model), 100
    elbo, losses = FacetELBO(max_plate_nesting=1, num_particles=L, vectorize_particles=True), []
    for weights in (WEIGHTS, FacetWeights(WEIGHTS.fade_in, WEIGHTS.kl)):
        torch.manual_seed(0)
        losses.append(elbo.differentiable_loss(model.model, model.guide, x, weights=weights).item())
    samples = torch.stack([redundancy([q.rsample() for q in model.encode(x)]).detach() for _ in range(L)])
    error = 10 * samples.std().item() / L**0.5
    assert (losses[0] - losses[1]) / len(x) == pytest.approx(10 * samples.mean().item(), abs=6 * error)
