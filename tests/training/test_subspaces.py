import copy
import dataclasses

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from side_by_side import side_by_side
from torch import nn

from pyro_mfcvae import MFCVAE, Facet, MFCVAEConfig, Schedule, Stage, fit, presets
from pyro_mfcvae.data import make_facets
from pyro_mfcvae.metrics import nmi
from pyro_mfcvae.networks import (
    ConvolutionalAdditive,
    Encoder,
    FullyConnectedAdditive,
    FullyConnectedLadder,
    look_at_subspaces,
)
from pyro_mfcvae.priors import FullGaussian
from pyro_mfcvae.priors.initialization import fit_mixture
from pyro_mfcvae.training import Trainer, train
from pyro_mfcvae.training.callbacks import as_callback
from pyro_mfcvae.training.subspaces import independent_subspaces


def one_to_one(clusters, labels):
    """Mean NMI of facets and labels, matched one to one."""
    table = np.array([[nmi(c, y) for y in labels.T] for c in clusters.T])
    return table[linear_sum_assignment(-table)].mean()


@pytest.mark.parametrize(
    ("kind", "clusters"),
    [("subspaces", (5, 2)), ("subspaces", (6, 3, 4)), ("patches", (3, 4)), ("patches", (2, 6, 4))],
)
def test_subspaces_of_independent_partitions_are_found(kind, clusters):
    """Four clusters of a patch are a tetrahedron, every two of whose coordinates are independent."""
    data = make_facets(clusters, n=1500, kind=kind, seed=0)
    x = data.x.flatten(1).numpy()
    x = (x - x.mean(0)) / x.std(0)  # where subspaces are no longer orthogonal
    subspaces = independent_subspaces(x, clusters)
    assert all(len(u) == x.shape[1] for u in subspaces)
    coordinates = [(x - x.mean(0)) @ u for u in subspaces]
    for s in coordinates:
        np.testing.assert_allclose(s.std(0), 1, atol=0.01)
    found = [fit_mixture(s, K, "full", 0).predict(s) for s, K in zip(coordinates, clusters, strict=True)]
    for c, y in zip(found, data.labels.numpy().T, strict=True):
        assert nmi(c, y) > 0.95


def test_a_direction_that_hardly_depends_on_a_facet_does_not_join_it():
    """A mixture with one more dimension always fits a little better, and that is not what counts."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 2000), rng.integers(0, 2, 2000)
    sources = np.stack([2.0 * y[0], 2.0 * y[1], rng.normal(size=2000)], axis=1)
    sources[:, :2] += 0.2 * rng.normal(size=(2000, 2))
    sources[:, 2] += 0.45 * (y[0] == 1)  # tells some 0.02 nats of the cluster
    x = (sources / sources.std(0)) @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    subspaces = independent_subspaces(x, (3, 2))
    assert [u.shape for u in subspaces] == [(3, 1), (3, 1)]


def test_the_same_seed_finds_the_same_subspaces():
    x = make_facets((3, 4), n=500, seed=1).x.numpy()
    for a, b in zip(*(independent_subspaces(x, (3, 4), seed=2) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("x", "clusters"),
    [
        (np.zeros((20, 3)), (2, 2)),  # constant
        (np.random.default_rng(0).normal(size=(20, 1)), (2, 3)),  # fewer dimensions than facets
        (np.random.default_rng(0).normal(size=(20, 50)), (5, 5, 5)),  # fewer data than dimensions
        (np.random.default_rng(0).normal(size=(20, 4)), (3,)),
        (np.random.default_rng(0).normal(size=(20, 4)), (1, 1)),
        (np.tile(np.random.default_rng(0).normal(size=(20, 1)), 4), (2, 3)),  # of rank one
    ],
)
def test_there_is_a_subspace_for_every_facet(x, clusters):
    subspaces = independent_subspaces(x, clusters)
    assert len(subspaces) == len(clusters)
    assert all(len(u) == x.shape[1] and u.shape[1] > 0 and np.isfinite(u).all() for u in subspaces)


def test_encoders_look_at_their_subspaces():
    encoder, _ = FullyConnectedAdditive(widths=(8, 8))((2, 3), (2, 2))
    axes = np.eye(6)
    look_at_subspaces(encoder, [axes[:, :2], axes[:, 2:]])
    x = torch.randn(5, 2, 3)
    changed = x.flatten(1).clone()
    changed[:, :2] += 1.0
    for j, ((one, _), (two, _)) in enumerate(zip(encoder(x), encoder(changed.view_as(x)), strict=True)):
        assert torch.equal(one, two) == (j == 1)


@pytest.mark.parametrize(
    ("network", "x_shape"),
    [(FullyConnectedLadder((8, 8)), (4,)), (ConvolutionalAdditive(channels=2, levels=1), (8, 8))],
)
def test_other_networks_cannot(network, x_shape):
    config = MFCVAEConfig(
        (Facet(2, 2), Facet(2, 2)), "gaussian", network, Schedule.joint(2, epochs=1), data_init="subspaces"
    )
    with pytest.raises(ValueError, match=r"^data_init: got 'subspaces' with \w*Encoder, expected an encoder"):
        fit(torch.rand(50, *x_shape), config, progress=False)


class Plain(nn.Module):
    """An encoder of one's own, which does not say what belongs to a facet."""

    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

    def forward(self, x):
        return [(loc, scale.exp()) for loc, scale in (head(x).chunk(2, -1) for head in self.heads)]


class Telling(Encoder):
    """The same encoder, which does."""

    def __init__(self):
        super().__init__()
        self.facet_modules = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

    def forward(self, x):
        return [(loc, scale.exp()) for loc, scale in (head(x).chunk(2, -1) for head in self.facet_modules)]


def with_encoder(encoder):
    """A factory of it, with a decoder of the package."""
    return lambda shape, dims: (encoder(), FullyConnectedAdditive(widths=(8,))(shape, dims)[1])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"data_init": "subspaces"},
            "data_init: got 'subspaces' with Plain, expected an encoder whose",
        ),
        (
            {"freeze": ("facet 0",)},
            r"freeze: got \['facet 0'\] with Plain, which does not say what",
        ),
        ({"freeze": ("past facets",)}, r"freeze: got \['past facets'\] with Plain, which does not say what"),
    ],
)
def test_a_network_of_ones_own_says_what_belongs_to_a_facet(fields, message):
    """Or what goes by facets is refused; then it works."""
    stages = (Stage((1,), 1, 32), Stage((0,), 1, 32, freeze=fields.get("freeze", ())))
    options = {"likelihood": "gaussian", "data_init": fields.get("data_init", False)}
    x = torch.rand(64, 4)

    def model(encoder):
        torch.manual_seed(0)
        facets = (Facet(2, 2), Facet(2, 2))
        config = MFCVAEConfig(facets, network=with_encoder(encoder), schedule=Schedule(stages), **options)
        return MFCVAE(config, (4,))

    with pytest.raises(ValueError, match=message):
        train(model(Plain), x, seed=0, progress=False)
    told = model(Telling)
    states = []
    trainer = Trainer(told, x, seed=0)
    trainer.callbacks.append(as_callback(lambda *_: states.append(copy.deepcopy(told.state_dict()))))
    trainer.run(progress=False)
    if "data_init" in fields:
        before = model(Telling).encoder.facet_modules[0].weight
        assert not torch.equal(states[0]["encoder.facet_modules.0.weight"], before)
        return
    frozen = {"facet 0": 0, "past facets": 1}[fields["freeze"][0]]
    for j in (0, 1):
        name = f"encoder.facet_modules.{j}.weight"
        assert torch.equal(states[0][name], states[1][name]) == (j == frozen)


def test_facet_modules_are_checked_when_a_model_is_made(make_config):
    class Wrong(Telling):
        def __init__(self, modules):
            super().__init__()
            del self.facet_modules
            self.facet_modules = modules

    config = make_config(J=2, D=2)
    for modules, error, message in (
        ((1, 2), TypeError, "encoder.facet_modules: got tuple, expected a torch.nn.ModuleList"),
        (
            nn.ModuleList(nn.Linear(4, 4) for _ in range(3)),
            ValueError,
            "encoder.facet_modules: got 3 modules",
        ),
    ):
        network = with_encoder(lambda modules=modules: Wrong(modules))
        with pytest.raises(error, match=message):
            MFCVAE(dataclasses.replace(config, network=network), (4,))


@pytest.mark.parametrize("J", [1, 3])
@pytest.mark.parametrize(
    ("preset", "x_shape"), [(presets.tabular, (6,)), (presets.images, (1, 8, 8)), (presets.images, (3, 6, 6))]
)
def test_presets_train_with_any_number_of_facets(preset, x_shape, J):
    config = preset(facets=(Facet(3, 2),) * J)
    assert config.stages[0].introduces == tuple(range(J))
    schedule = Schedule.joint(J, epochs=2, warm_up_epochs=1)
    config = preset(facets=config.facets, schedule=schedule)
    x = np.random.default_rng(0).uniform(size=(60, *x_shape))
    assert fit(x, config, progress=False, precision="float32").predict(x).shape == (60, J)


def test_independent_partitions_are_recovered():
    data = make_facets((3, 4), n=1000, seed=3)
    config = side_by_side((Facet(3, 3, FullGaussian()), Facet(4, 3, FullGaussian())))
    stage = dataclasses.replace(config.stages[0], steps=200, warm_up_steps=80)
    config = dataclasses.replace(config, schedule=Schedule((stage,)))
    fitted = fit(data.x, config, restarts=2, workers=1, progress=False, precision="float32")
    assert len(fitted.restarts) == 2
    assert one_to_one(fitted.predict(data.x), data.labels.numpy()) > 0.9
