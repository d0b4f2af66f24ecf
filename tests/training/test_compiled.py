"""Compiled steps; most tests leave the traced program as it is, since compiling takes seconds."""

import dataclasses
import logging

import pytest
import torch
from torch._dynamo.utils import counters

from pyro_mfcvae import (
    MFCVAE,
    Facet,
    Schedule,
    Stage,
    fit,
    likelihoods,
    networks,
    priors,
)
from pyro_mfcvae.model import FacetWeights, network_precision
from pyro_mfcvae.model.loss import make_loss
from pyro_mfcvae.model.objectives import OBJECTIVES
from pyro_mfcvae.priors import DiagonalGaussianMixture
from pyro_mfcvae.training import History, compiled, step, train
from pyro_mfcvae.training.compiled import COMPILE, GradientProgram
from pyro_mfcvae.training.step import CompileWarning, Stepper, without_validation

N, BATCH = 48, 16


@pytest.fixture
def only_traced(monkeypatch):
    """Programs run as they are traced; how many there were."""
    programs = []
    monkeypatch.setattr(compiled, "_compile", lambda graph, graphs: programs.append(graph) or graph)
    return programs


def data(config, n=N):
    shape = (1, 4, 4) if "onvolutional" in type(config.network).__name__ else (4,)
    x = torch.rand(n, *shape, generator=torch.Generator().manual_seed(1)).round()
    return x + 1 if isinstance(config.likelihood, likelihoods.LogNormal) else x  # which has no zero


def both(config, compile=True, **options):
    """Fitted without and with compiling."""
    options = {"device": "cpu", "precision": "float32", "progress": False, **options}
    return [fit(data(config), config, compile=how, **options) for how in (False, compile)]


def assert_same(plain, compiled, rtol=0.0):
    for a, b in zip(plain.history, compiled.history, strict=True):
        assert b.loss == pytest.approx(a.loss, rel=rtol or 1e-12)
        assert (b.fade_in, b.kl_weights, b.alive) == (a.fade_in, a.kl_weights, a.alive)
    state, other = plain.model.state_dict(), compiled.model.state_dict()
    assert list(state) == list(other)
    for name, value in state.items():
        assert torch.allclose(other[name], value, rtol=rtol, atol=rtol), name


STAGES = (
    Stage((1,), 2, BATCH, warm_up_epochs=1, pre_training_kl_weight=0.1),
    Stage(
        (0,), 3, BATCH, warm_up_epochs=1, fade_in_steps=4, kl_fade_in_steps=0, freeze=("*.facet_modules.1.*",)
    ),
)
OPTIONS = {"batch_norm": True, "dropout": 0.2}
NOT_COMPILED = ("bayesian_gaussian", "standard_normal")  # see below; has one cluster only
NETWORK = networks.FullyConnectedLadder(widths=(8, 8), **OPTIONS)


@pytest.fixture
def config(make_config):
    """Warm-up, fade-in, frozen parameters, dropout and running averages."""
    return make_config(network=NETWORK, schedule=Schedule(STAGES))


def test_a_compiled_fit_is_the_same(config, only_traced):
    """Bit for bit, as nothing is fused here: the same operations on the same random numbers."""
    assert_same(*both(config))
    # Warm-up and what follows, of two stages; in the last, a facet of weight zero before it fades in.
    assert len(only_traced) == 5


def steps(model, x, compile, alphas=(0.5, 0.75)):
    """Losses of steps with these weights of facet 0, and all parameters after them."""
    torch.manual_seed(1)
    stepper, optimizer = Stepper(make_loss(model), compile), torch.optim.Adam(model.parameters(), lr=1e-3)
    stepper.begin(len(alphas))
    losses = []
    with without_validation():
        for alpha in alphas:
            each = (alpha, *[1.0] * (len(model.latent_priors) - 1))
            losses.append(stepper(x, FacetWeights(each, each), optimizer))
    return torch.stack(losses), torch.nn.utils.parameters_to_vector(model.parameters())


def steps_of_both(config, compile=True, precision="float32", **options):
    x = data(config, BATCH)
    results = []
    for how in (False, compile):
        torch.manual_seed(0)
        model = MFCVAE(config, x.shape[1:]).train()
        model.likelihood.calibrate(x)
        with network_precision(precision):
            results.append(steps(model, x, how, **options))
    return results


@pytest.mark.parametrize(
    "fields",
    [
        *({"elbo": objective, "num_kl_samples": 2} for objective in OBJECTIVES),
        *({"prior": prior} for prior in priors.available() if prior not in NOT_COMPILED),
        *({"likelihood": likelihood} for likelihood in likelihoods.available()),
        {"nuisance": 2},
        {"network": networks.FullyConnectedAdditive(widths=(8,), **OPTIONS)},
        {"network": networks.FullyConnectedShared(widths=(8,), **OPTIONS)},
        {"network": networks.ConvolutionalLadder(channels=2, **OPTIONS)},
    ],
    ids=lambda fields: str(next(iter(fields.values()))).split("(")[0],
)
def test_whatever_is_configured_compiles(make_config, only_traced, fields):
    """Bit for bit the same steps from one program."""
    J = 2 if "network" in fields else 1  # one facet is traced sooner
    (expected, others), (losses, parameters) = steps_of_both(make_config(J, **fields))
    assert torch.equal(losses, expected)
    assert torch.equal(parameters, others)
    assert len(only_traced) == 1


def test_bfloat16_compiles(make_config, only_traced):
    """Kernels for a layer as a whole round otherwise than those for a product and a sum."""
    (expected, _), (losses, _) = steps_of_both(make_config(), precision="bfloat16")
    assert torch.allclose(losses, expected, rtol=0.01)
    assert len(only_traced) == 1


def test_weights_do_not_compile_again(make_config, monkeypatch):
    """PyTorch has one program for 30 different values."""
    monkeypatch.setattr(
        compiled, "_compile", lambda graph, graphs: torch.compile(graph, fullgraph=True, backend="eager")
    )
    counters.clear()
    alphas = tuple(i / 30 for i in range(1, 31))
    (expected, _), (losses, _) = steps_of_both(make_config(J=1), alphas=alphas)
    assert torch.allclose(losses, expected, rtol=1e-5)  # the weights are of single precision
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


def test_what_is_saved_knows_nothing_of_it(short, only_traced, tmp_path):
    plain, compiled = both(short)
    assert only_traced
    for name, fitted in (("plain", plain), ("compiled", compiled)):
        fitted.history = History()  # the seconds differ
        fitted.save(tmp_path / name)
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "compiled").read_bytes()
    assert str(plain.model) == str(compiled.model)


@pytest.fixture
def short(make_config):
    """Three steps of one program."""
    return make_config(J=1, epochs=1, batch_size=BATCH)


class Reading(DiagonalGaussianMixture):
    """A prior that looks at a value in every step."""

    def component(self, c):
        if self.loc.sum() > 1e9:
            raise ValueError
        return super().component(c)


@pytest.fixture
def reading(short):
    return dataclasses.replace(short, facets=(Facet(3, 2, Reading),))


def test_what_cannot_be_compiled_runs_as_it_is(reading):
    with pytest.warns(CompileWarning, match=r"compile: the step could not be compiled \(.*and runs as it is"):
        fitted = both(reading)
    assert_same(*fitted)


def test_automatically_it_is_silent(reading, monkeypatch, caplog):
    monkeypatch.setattr(step, "MIN_STEPS", 1)
    with caplog.at_level(logging.INFO, logger="pyro_mfcvae"):
        assert_same(*both(reading, compile="auto"))
    assert [r.message.split(":")[0] for r in caplog.records if r.message.startswith("compile")] == [
        "compile off"
    ]


def test_without_a_compiler_it_runs_as_it_is(short, monkeypatch):
    def missing(graph, graphs):
        raise RuntimeError("no compiler found")

    monkeypatch.setattr(compiled, "_compile", missing)
    with pytest.warns(CompileWarning, match="RuntimeError: no compiler found") as caught:
        fitted = both(short)
    assert [warning.category for warning in caught].count(CompileWarning) == 1
    assert_same(*fitted)


def test_long_phases_compile_automatically(make_config, only_traced, monkeypatch, caplog):
    """By their number of steps, so that the same seed always does the same."""
    monkeypatch.setattr(step, "MIN_STEPS", 4)
    config = make_config(J=1, epochs=3, warm_up_epochs=1, batch_size=BATCH)  # 3 + 6 steps
    with caplog.at_level(logging.INFO, logger="pyro_mfcvae"):
        assert_same(*both(config, compile="auto"))
    assert len(only_traced) == 1
    messages = [r.message for r in caplog.records if r.message.startswith("compile")]
    starts = ["compile off: 3 steps, which pays from 4 on", "compiled a step in"]
    assert [m[: len(start)] for m, start in zip(messages, starts, strict=True)] == starts


@pytest.mark.parametrize(
    "network", [networks.FullyConnectedAdditive(widths=(8,)), NETWORK], ids=["additive", "ladder"]
)
def test_a_step_may_have_nothing_to_train(make_config, only_traced, network):
    """While all facets have a weight of zero, in the first step of a stage that fades all in."""
    stage = Stage((0, 1), 1, BATCH, fade_in_steps=2)
    assert_same(*both(make_config(network=network, schedule=Schedule((stage,)))))
    assert len(only_traced) == 2


@pytest.mark.parametrize("compile", ["always", 1, None, 0])
def test_other_values_are_errors(make_config, compile):
    with pytest.raises(ValueError, match=rf"compile: got {compile!r}, expected one of \('auto', True"):
        fit(torch.rand(N, 4), make_config(), compile=compile)


@pytest.mark.parametrize("weight", [0.0, 10.0])
def test_a_charge_for_redundancy_is_compiled(config, with_stages, only_traced, weight):
    """Bit for bit, from its facet's first step with a weight on."""
    assert_same(*both(with_stages(config, redundancy_weight=weight)))
    has_charge = [any("cdist" in str(node.target) for node in graph.graph.nodes) for graph in only_traced]
    # The first stage has one facet, and the second begins without its new one.
    assert has_charge == [False, False, False, weight > 0, weight > 0]


def test_a_weight_above_zero_is_another_program(make_model, only_traced):
    stepper, x = Stepper(make_loss(make_model()), True), torch.rand(BATCH, 6)
    optimizer = torch.optim.SGD(stepper.loss.model.parameters(), lr=0.0)
    stepper.begin(4)
    losses = []
    with without_validation():
        for weight in (0.0, 5.0, 10.0, 0.0):
            torch.manual_seed(0)
            losses.append(stepper(x, FacetWeights((1.0, 1.0), (1.0, 1.0), weight), optimizer).item())
    assert len(only_traced) == 2
    assert losses[3] == losses[0]
    assert losses[2] - losses[0] == pytest.approx(2 * (losses[1] - losses[0]), abs=1e-3)
    assert abs(losses[1] - losses[0]) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("compile", [how for how in COMPILE if how not in ("auto", False)])
def test_fused_operations_give_the_same_losses(make_config, compile):
    """In float32, with the real compiler; a GPU is not needed for it."""
    alphas = tuple(i / 20 for i in range(1, 21))
    config = make_config(network=NETWORK)
    (expected, _), (losses, _) = steps_of_both(config, compile, alphas=alphas)
    assert torch.allclose(losses, expected, rtol=1e-4)

    gradients = []
    for how in (False, compile):
        torch.manual_seed(0)
        model = MFCVAE(config, (4,)).train()
        stepper = Stepper(make_loss(model), how)
        stepper.begin(1)
        with without_validation():
            stepper(data(config, BATCH), model.full_weights, torch.optim.SGD(model.parameters(), lr=0.0))
        gradients.append([parameter.grad for parameter in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("compile", [True, "reduce-overhead"])
def test_on_a_gpu(make_config, compile):
    """The same losses with CUDA graphs and without; random numbers of the GPU's generator alone."""
    stage = Stage((0, 1), 6, BATCH, fade_in_steps=9)
    config = make_config(network=NETWORK, schedule=Schedule((stage,)))
    histories = []
    for how in (False, compile):
        torch.manual_seed(0)
        model = MFCVAE(config, (4,)).to("cuda")
        state = torch.get_rng_state()
        histories.append(train(model, data(config).to("cuda"), seed=0, compile=how, progress=False))
        assert torch.equal(torch.get_rng_state(), state)
    plain, compiled = ([record.loss for record in history] for history in histories)
    assert compiled == pytest.approx(plain, rel=1e-4)


def test_a_program_leaves_gradients_alone_until_it_is_called(make_model, only_traced):
    model = make_model()
    weights = FacetWeights((0.5, 1.0), (0.0, 2.0))
    with without_validation():
        program = GradientProgram(make_loss(model), torch.rand(BATCH, 6), weights)
    assert all(p.grad is None for p in model.parameters())
    program(torch.rand(BATCH, 6), weights)
    assert any(p.grad is not None for p in model.parameters())


def test_what_all_data_share_runs_as_it_is(make_config, only_traced):
    """It goes through Pyro, which reads values."""
    facets = (Facet(3, 2, priors.BayesianGaussian()),)
    config = make_config(J=1, facets=facets, epochs=1, batch_size=BATCH)
    with pytest.warns(CompileWarning):
        assert_same(*both(config))
