"""How a latent without clusters is trained, and where it starts."""

import dataclasses

import numpy as np
import pytest
import torch
from side_by_side import side_by_side

from pyro_mfcvae import MFCVAE, Facet, Schedule, Stage, fit, presets
from pyro_mfcvae.model.loss import make_loss
from pyro_mfcvae.networks import FullyConnectedAdditive
from pyro_mfcvae.training import Trainer, train
from pyro_mfcvae.training.subspaces import residual_subspace


def trained(make_config, x, **fields):
    torch.manual_seed(0)
    model = MFCVAE(make_config(nuisance=2, **fields), (6,))
    return model, train(model, x, seed=0, progress=False)


@pytest.fixture
def x(blobs):
    return torch.from_numpy(blobs[0])


def test_it_takes_part_from_the_first_stage_on(make_config, x):
    stages = (Stage((1,), 1, fade_in_steps=9, nuisance_kl_weight=0.4), Stage((0,), 1, kl_weight=2.0))
    schedule = Schedule(stages, held_out=0.1)
    before = MFCVAE(make_config(nuisance=2), (6,))
    model, history = trained(make_config, x, schedule=schedule)
    assert [record.nuisance_kl_weight for record in history] == [0.4, 2.0]
    for record in history:
        assert [len(v) for v in (record.facet_terms, record.alive, record.fade_in, record.kl_weights)] == [
            2
        ] * 4
        active = [1] if record.stage == 0 else [0, 1]
        terms = sum(record.facet_terms[j] for j in active) + record.nuisance_term
        assert record.elbo == pytest.approx(record.log_likelihood + terms)
        assert record.held_out_elbo == pytest.approx(record.elbo, abs=1.0)
        assert record.nuisance_term < 0
    assert not torch.equal(before.encoder.facet_modules[2].weight, model.encoder.facet_modules[2].weight)


def test_its_fade_in_is_one_at_once(make_config, x):
    schedule = Schedule((Stage((0, 1), 1, fade_in_steps=100, warm_up_kl_weight=0.1),))
    trainer = Trainer(MFCVAE(make_config(nuisance=2, schedule=schedule), (6,)), x, seed=0)
    weights = trainer.plans[0].weights(0, is_warming_up=True, past=set(), num_facets=2, has_nuisance=True)
    assert weights.fade_in == (0.0, 0.0, 1.0)
    assert weights.kl == (0.0, 0.0, 1.0)


def test_without_one_the_record_says_nothing_of_it(make_model, x):
    (record, *_) = train(make_model(), x, seed=0, progress=False)
    assert record.nuisance_term is None
    assert record.nuisance_kl_weight is None


def test_it_can_be_frozen(make_config, x):
    fields = {"network": FullyConnectedAdditive(widths=(8,)), "freeze": ("nuisance",), "epochs": 1}
    torch.manual_seed(0)
    before = MFCVAE(make_config(nuisance=2, **fields), (6,)).state_dict()
    model, _ = trained(make_config, x, **fields)
    for name, parameter in model.named_parameters():
        is_frozen = ".facet_modules.2." in name
        assert not is_frozen or torch.equal(parameter, before[name]), name
    assert sum(not torch.equal(p, before[n]) for n, p in model.named_parameters()) > 10


def test_a_group_that_is_not_there(make_model, x):
    with pytest.raises(ValueError, match=r"freeze: got \['nuisance'\], which no parameter's name matches"):
        train(make_model(freeze=("nuisance",)), x, seed=0, progress=False)


def test_training_through_the_programs_is_the_same(make_config, x):
    """Several particles need the programs: with one, both give the same numbers."""
    ends = []
    for kind in (
        MFCVAE,
        type("Other", (MFCVAE,), {"guide": lambda self, *a, **k: MFCVAE.guide(self, *a, **k)}),
    ):
        torch.manual_seed(0)
        model = kind(make_config(nuisance=2, epochs=1), (6,))
        ends.append((type(make_loss(model)), train(model, x, seed=0, progress=False)[-1].elbo))
    assert ends[0][0] is not ends[1][0]
    assert ends[0][1] == pytest.approx(ends[1][1], rel=1e-3)


@pytest.mark.parametrize("num_given", [1, 2])
def test_the_residual_does_not_correlate_with_what_is_given(num_given):
    rng = np.random.default_rng(0)
    scales = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    x = (rng.normal(size=(500, 5)) * scales) @ rng.normal(size=(5, 5)) + 7
    given = [rng.normal(size=(5, 1)) for _ in range(num_given)]
    u = residual_subspace(x, given, 2)
    s, t = (x - x.mean(0)) @ u, (x - x.mean(0)) @ np.concatenate(given, 1)
    assert u.shape == (5, 2)
    np.testing.assert_allclose(s.T @ s / (len(x) - 1), np.eye(2), atol=1e-6)
    np.testing.assert_allclose(s.T @ t / len(x), 0, atol=1e-6)
    # They explain more of what is left than any others: as much as its first principal components.
    left = x - x.mean(0) - t @ np.linalg.lstsq(t, x - x.mean(0), rcond=None)[0]
    variances = np.linalg.svd(left, compute_uv=False) ** 2
    explained = np.linalg.norm(np.linalg.qr(s)[0].T @ left) ** 2
    assert explained == pytest.approx(variances[:2].sum())


def test_where_nothing_is_left_there_is_no_direction():
    x = np.random.default_rng(0).normal(size=(50, 3))
    assert residual_subspace(x, [np.eye(3)], 2).shape == (3, 0)
    assert residual_subspace(x, [np.eye(3)[:, :2]], 2).shape == (3, 1)
    assert residual_subspace(np.ones((50, 3)), [np.eye(3)], 2).shape == (3, 0)


def test_the_encoder_of_the_nuisance_starts_at_the_residual():
    """Two binary partitions, and a continuous factor that neither of them may keep."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (600, 2))
    sources = np.concatenate([2.0 * y + 0.1 * rng.normal(size=(600, 2)), 0.5 * rng.normal(size=(600, 1))], 1)
    x = sources @ np.linalg.qr(rng.normal(size=(3, 6)).T)[0].T + 0.01 * rng.normal(size=(600, 6))
    config = side_by_side((Facet(2, 1), Facet(2, 1)), nuisance=1)
    model = MFCVAE(dataclasses.replace(config, schedule=Schedule.joint(2, steps=1)), (6,))
    data = torch.from_numpy(x).float()
    model.likelihood.calibrate(data)
    Trainer(model, data, seed=0).run(progress=False)
    first = model.encoder.facet_modules[2][0][0]
    seen = model.inputs(data) @ first.weight.detach().T
    seen = (seen - seen.mean(0)) / seen.std(0)
    correlation = np.abs(np.corrcoef(np.c_[seen.numpy()[:, :1], sources], rowvar=False)[0, 1:])
    assert correlation[2] > 0.9
    assert correlation[:2].max() < 0.2


@pytest.mark.parametrize("preset", [presets.tabular, presets.shapes3d, presets.mnist])
def test_presets_train_with_it(preset):
    facets = (Facet(3, 2), Facet(3, 1))
    schedule = Schedule.joint(2, epochs=2, warm_up_epochs=1)
    config = preset(facets=facets, nuisance=2, schedule=schedule)
    x = np.random.default_rng(0).uniform(size=(60, 6)).astype(np.float32)
    fitted = fit(x, config, progress=False, precision="float32")
    assert fitted.predict(x).shape == (60, 2)
    assert fitted.nuisance(x).shape == (60, 2)
