import dataclasses
import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pyro_mfcvae import MFCVAE, Facet, MFCVAEConfig, Schedule, Stage, fit, load, networks
from pyro_mfcvae.networks import (
    ConvolutionalAdditive,
    ConvolutionalLadder,
    ConvolutionalSeparateEncoders,
    ConvolutionalShared,
    ConvolutionalSharedDecoder,
    FullyConnectedAdditive,
    FullyConnectedLadder,
    FullyConnectedSeparateEncoders,
    FullyConnectedShared,
    FullyConnectedSharedDecoder,
    LadderOptions,
)
from pyro_mfcvae.networks.layers import ACTIVATIONS
from pyro_mfcvae.training import train

CASES = [
    ((5,), (1,), (7,)),
    ((6,), (3, 2), (8, 9)),
    ((1, 4, 4), (2, 2), (9, 8)),
    ((3, 4, 5), (1, 3, 2), (8, 10, 9)),
]


def build(x_shape, latent_dims, widths, **options):
    torch.manual_seed(0)
    return FullyConnectedLadder(widths=widths, **options)(x_shape, latent_dims)


def latents(latent_dims, N=20):
    torch.manual_seed(1)
    return [torch.randn(N, d) for d in latent_dims]


@pytest.mark.parametrize(("x_shape", "latent_dims", "widths"), CASES)
@pytest.mark.parametrize("N", [1, 4])
def test_shapes(x_shape, latent_dims, widths, N):
    encoder, decoder = build(x_shape, latent_dims, widths)
    statistics = encoder(torch.rand(N, *x_shape))
    assert len(statistics) == len(latent_dims)
    for (loc, scale), D in zip(statistics, latent_dims, strict=True):
        assert loc.shape == scale.shape == (N, D)
        assert (scale > 0).all()
    z = latents(latent_dims, N)
    assert decoder(z, [1.0] * len(z)).shape == (N, *x_shape)
    assert decoder(z, [0.0] * len(z)).shape == (N, *x_shape)


def test_scales_stay_positive_for_any_input():
    encoder, _ = build((6,), (3, 2), (8, 9))
    for _, scale in encoder(torch.randn(100, 6) * 1e6):
        assert scale.min() >= 1e-4
        assert scale.isfinite().all()


@pytest.mark.parametrize(("x_shape", "latent_dims", "widths"), CASES)
def test_a_facet_that_is_faded_out_has_no_influence_at_all(x_shape, latent_dims, widths):
    _, decoder = build(x_shape, latent_dims, widths)
    J, z = len(latent_dims), latents(latent_dims)
    for j in range(J):
        fade_in = [0.0 if i == j else 1.0 for i in range(J)]
        other = [1e3 * z_i + 7 if i == j else z_i for i, z_i in enumerate(z)]
        assert torch.equal(decoder(z, fade_in), decoder(other, fade_in))
        assert not torch.allclose(decoder(z, [1.0] * J), decoder(other, [1.0] * J))
        half = [0.5 if i == j else 1.0 for i in range(J)]
        assert not torch.allclose(decoder(z, half), decoder(z, fade_in))
        assert not torch.allclose(decoder(z, half), decoder(z, [1.0] * J))


@pytest.mark.parametrize(("x_shape", "latent_dims", "widths"), CASES)
def test_gradients(x_shape, latent_dims, widths):
    encoder, decoder = build(x_shape, latent_dims, widths)
    statistics = encoder(torch.rand(20, *x_shape))
    decoder([loc + scale for loc, scale in statistics], [1.0] * len(latent_dims)).square().sum().backward()
    for module in (encoder, decoder):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


@pytest.mark.parametrize("facet", [0, 1])
def test_a_rung_that_is_faded_out_gets_no_gradient(facet):
    """None, not zero: Adam's momentum would move what has a gradient of zero."""
    _, decoder = build((6,), (2, 2, 2), (8, 8, 8))
    decoder(latents((2, 2, 2)), [float(j != facet) for j in range(3)]).sum().backward()
    for name, parameter in decoder.named_parameters():
        assert (parameter.grad is None) == name.startswith(f"facet_modules.{facet}."), name


def test_deeper_facets_see_more_layers():
    """Facet 0 branches off first: nothing of the levels above reaches it."""
    encoder, _ = build((6,), (2, 2, 2), (8, 8, 8))
    for j in range(3):
        encoder.zero_grad(set_to_none=True)
        loc, scale = encoder(torch.rand(4, 6))[j]
        (loc.sum() + scale.sum()).backward()
        touched = {name.rsplit(".", 1)[0] for name, p in encoder.named_parameters() if p.grad is not None}
        assert touched == {f"backbone.{i}.0" for i in range(j + 1)} | {f"facet_modules.{j}"}


def test_the_gate_scales_the_rung():
    """b_0 = f_0(b_1) + g alpha_0 rung_0(z_0)."""
    z = latents((2, 2))
    _, decoder = build((6,), (2, 2), (8, 8), gate=0.2)
    _, doubled = build((6,), (2, 2), (8, 8), gate=0.4)
    doubled.load_state_dict(decoder.state_dict())
    torch.testing.assert_close(decoder(z, [1.0, 1.0]), doubled(z, [0.5, 1.0]))
    merged = decoder.backbone[0](decoder.backbone[1](z[1])) + 0.2 * 0.3 * decoder.facet_modules[0](z[0])
    torch.testing.assert_close(decoder(z, [0.3, 1.0]), decoder.output(merged))


@pytest.mark.parametrize("factory", [FullyConnectedLadder(), FullyConnectedLadder(widths=(500, 2000))])
def test_the_papers_network_has_the_papers_parameters(factory):
    """Section 3.3: 784 - 500 - 2000, modules from both levels; z_1 - 2000 - 500 - 500 - 784 and z_0 - 500."""
    encoder, decoder = factory((784,), (5, 5))

    def linear(*sizes):
        return sum(i * o + o for i, o in itertools.pairwise(sizes))

    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(encoder) == linear(784, 500, 2000) + linear(500, 10) + linear(2000, 10) == 1_419_520
    assert count(decoder) == linear(5, 2000, 500, 500, 784) + linear(5, 500) == 1_655_784 + 3_000


def test_three_facets_take_default_widths():
    encoder, decoder = FullyConnectedLadder()((6,), (2, 2, 2))
    assert [module.in_features for module in encoder.facet_modules] == [500, 500, 2000]
    assert math.prod(decoder(latents((2, 2, 2)), [1.0] * 3).shape) == 20 * 6


def test_autocast_ends_at_the_statistics():
    encoder, _ = build((6,), (3, 2), (8, 9))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for loc, scale in encoder(torch.rand(4, 6)):
            assert loc.dtype == scale.dtype == torch.float32


@pytest.mark.parametrize("widths", [(8,), (8, 8, 8)])
def test_one_width_for_each_facet(widths):
    with pytest.raises(ValueError, match=r"widths: got .* expected one for each of the 2 facets"):
        FullyConnectedLadder(widths=widths)((6,), (2, 2))


@pytest.mark.parametrize("widths", [(), (0, 8), (8, -1)])
def test_bad_widths(widths):
    with pytest.raises(ValueError, match=r"widths: got .* expected positive integers"):
        FullyConnectedLadder(widths=widths)


def test_widths_may_be_a_list():
    assert FullyConnectedLadder(widths=[8, 9]) == FullyConnectedLadder(widths=(8, 9))


def test_concatenation():
    """b_0 = [f_0(b_1), alpha_0 rung_0(z_0)], twice as wide, and as wide again below."""
    z = latents((2, 2))
    _, decoder = build((6,), (2, 2), (8, 9), merge="concatenate")
    h = decoder.backbone[0](decoder.backbone[1](z[1]))
    merged = torch.cat((h, 0.3 * decoder.facet_modules[0](z[0])), 1)
    assert merged.shape == (20, 16)
    torch.testing.assert_close(decoder(z, [0.3, 1.0]), decoder.output(merged))
    merged = torch.cat((h, torch.zeros(20, 8)), 1)
    assert torch.equal(decoder(z, [0.0, 1.0]), decoder.output(merged))


def test_the_gate_that_is_not_given_is_the_papers():
    assert [LadderOptions(merge=merge).module_weight for merge in ("gated_add", "concatenate")] == [0.1, 1.0]
    assert [LadderOptions(merge=merge, gate=0.0).module_weight for merge in ("gated_add", "concatenate")] == [
        0,
        0,
    ]
    added = dataclasses.replace(ConvolutionalLadder(), merge="gated_add")
    assert added.module_weight == 0.1


@pytest.mark.parametrize("J", [1, 2, 3])
@pytest.mark.parametrize("merge", ["gated_add", "concatenate"])
def test_the_parameters_of_both_merges(J, merge):
    _, decoder = FullyConnectedLadder(widths=(7,) * J, merge=merge)((6,), (2,) * J)
    wide = 14 if merge == "concatenate" else 7
    facet_modules, downwards = (J - 1) * (2 * 7 + 7), max(J - 2, 0) * (wide * 7 + 7) + (J > 1) * (7 * 7 + 7)
    output = (wide if J > 1 else 7) * 7 + 7 + 7 * 6 + 6
    assert sum(p.numel() for p in decoder.parameters()) == (2 * 7 + 7) + facet_modules + downwards + output


# --- every network --------------------------------------------------------------------------------

SHAPE = (2, 6, 5)
DIMS = (2, 3)
TINY = [
    FullyConnectedLadder(widths=(8, 9)),
    FullyConnectedLadder(widths=(8, 9), merge="concatenate"),
    FullyConnectedSeparateEncoders(widths=(8, 9), encoder_widths=(7, 6, 5)),
    FullyConnectedAdditive(widths=(8, 7)),
    FullyConnectedShared(widths=(8, 9)),
    ConvolutionalLadder(channels=5),
    ConvolutionalLadder(channels=5, merge="gated_add", gate=0.5),
    ConvolutionalSeparateEncoders(channels=5),
    ConvolutionalSeparateEncoders(channels=5, levels=1),
    ConvolutionalAdditive(channels=5, levels=1),
    ConvolutionalAdditive(channels=5),
    ConvolutionalShared(channels=5),
    FullyConnectedSharedDecoder(widths=(8, 9)),
    ConvolutionalSharedDecoder(channels=5),
    ConvolutionalLadder(channels=5, as_published=True),
]
each = pytest.mark.parametrize("factory", TINY, ids=lambda factory: type(factory).__name__)


def vary(factory, **options):
    """Encoder and decoder of a factory with other options."""
    torch.manual_seed(0)
    return dataclasses.replace(factory, **options)(SHAPE, DIMS)


def pictures(N=20):
    return torch.rand(N, *SHAPE, generator=torch.Generator().manual_seed(2))


def through(encoder, decoder, x, fade_in=(1.0, 1.0)):
    return decoder([loc + scale for loc, scale in encoder(x)], fade_in)


def test_every_name_builds_networks():
    assert {type(factory) for factory in TINY} == set(networks.FACTORIES.values())
    assert networks.available() == tuple(networks.FACTORIES)
    for name in networks.available():
        encoder, decoder = networks.FACTORIES[name]()(SHAPE, DIMS)
        assert through(encoder, decoder, pictures(3)).shape == (3, *SHAPE)


@each
@pytest.mark.parametrize("N", [1, 4])
def test_shapes_of_all(factory, N):
    encoder, decoder = vary(factory)
    statistics = encoder(pictures(N))
    assert [(m.shape, s.shape) for m, s in statistics] == [((N, D), (N, D)) for D in DIMS]
    for fade_in in ([1.0, 1.0], [0.0, 1.0], [0.5, 0.0], [0.0, 0.0]):
        assert decoder(latents(DIMS, N), fade_in).shape == (N, *SHAPE)


@each
@pytest.mark.parametrize(
    "options",
    [{}, {"batch_norm": True}, {"dropout": 0.2}, {"batch_norm": True, "dropout": 0.1}],
    ids=str,
)
def test_a_gradient_reaches_every_parameter(factory, options):
    """With an activation that leaves none of so few units dead."""
    encoder, decoder = vary(factory, activation="elu", **options)
    through(encoder, decoder, pictures()).square().sum().backward()
    for module in (encoder, decoder):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


@each
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("facet", [0, 1])
def test_no_influence_without_fade_in(factory, batch_norm, facet):
    _, decoder = vary(factory, batch_norm=batch_norm)
    z = latents(DIMS)
    other = [100 * z_j + 7 if j == facet else z_j for j, z_j in enumerate(z)]
    fade_in = [float(j != facet) for j in range(2)]
    for mode in (True, False):
        decoder.train(mode)
        assert torch.equal(decoder(z, fade_in), decoder(other, fade_in))
        assert not torch.allclose(decoder(z, [1.0, 1.0]), decoder(other, [1.0, 1.0]))
        half = [0.5 if j == facet else 1.0 for j in range(2)]
        assert not torch.allclose(decoder(z, half), decoder(z, fade_in))
        assert not torch.allclose(decoder(z, half), decoder(z, [1.0, 1.0]))


@each
def test_fade_in_is_continuous_at_zero(factory):
    _, decoder = vary(factory)
    z = latents(DIMS)
    torch.testing.assert_close(decoder(z, [1e-6, 1.0]), decoder(z, [0.0, 1.0]))


@each
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_activation_is_everywhere(factory, activation):
    modules = [m for network in vary(factory, activation=activation) for m in network.modules()]
    kinds = {name: type(make()) for name, make in ACTIVATIONS.items()}
    assert {type(m) for m in modules} & set(kinds.values()) == {kinds[activation]}


@each
def test_dropout_and_batch_norm_are_in_every_hidden_layer(factory):
    counts = Counter(type(m) for n in vary(factory, batch_norm=True, dropout=0.25) for m in n.modules())
    assert counts[nn.Dropout] == counts[nn.ReLU]
    # Linear layers that become features of a picture are not normalised, but in the paper's network.
    plain = 0 if getattr(factory, "as_published", False) else counts[nn.Unflatten]
    assert counts[nn.BatchNorm1d] + counts[nn.BatchNorm2d] == counts[nn.ReLU] - plain
    assert not (plain and counts[nn.BatchNorm1d] and counts[nn.BatchNorm2d])
    plain = [m for network in vary(factory) for m in network.modules()]
    assert not any(isinstance(m, (nn.Dropout, nn.BatchNorm1d, nn.BatchNorm2d)) for m in plain)


@each
def test_dropout_is_off_in_evaluation(factory):
    for network, value in zip(vary(factory, dropout=0.5), (pictures(), latents(DIMS)), strict=True):
        arguments = (value,) if isinstance(value, torch.Tensor) else (value, [1.0, 1.0])

        def run(network=network, arguments=arguments):
            output = network(*arguments)
            return torch.cat([loc for loc, _ in output], 1) if isinstance(output, list) else output

        assert not torch.equal(run(), run())
        network.eval()
        assert torch.equal(run(), run())


@each
def test_batch_norm_in_training_and_evaluation(factory):
    encoder, decoder = vary(factory, batch_norm=True)
    x = pictures()
    before = {n: b.clone() for m in (encoder, decoder) for n, b in m.named_buffers() if "running" in n}
    through(encoder, decoder, x)
    after = {n: b for m in (encoder, decoder) for n, b in m.named_buffers() if "running" in n}
    assert before.keys() == after.keys()
    assert before
    assert all(not torch.equal(before[n], after[n]) for n in before)
    encoder.eval(), decoder.eval()
    together = through(encoder, decoder, x)
    torch.testing.assert_close(together[:1], through(encoder, decoder, x[:1]))  # one datum by itself
    encoder.train(), decoder.train()
    assert not torch.allclose(through(encoder, decoder, x), together)
    assert not torch.allclose(through(encoder, decoder, x[:5]), through(encoder, decoder, x)[:5])


@each
def test_autocast_of_all_ends_at_the_statistics(factory):
    encoder, decoder = vary(factory, batch_norm=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for loc, scale in encoder(pictures()):
            assert loc.dtype == scale.dtype == torch.float32
        assert decoder(latents(DIMS), [0.5, 1.0]).isfinite().all()


@each
def test_double_precision(factory):
    encoder, decoder = (network.double() for network in vary(factory))
    assert through(encoder, decoder, pictures().double()).dtype == torch.float64


@each
def test_json_round_trip(factory):
    factory = dataclasses.replace(factory, activation="silu", batch_norm=True, dropout=0.5)
    config = MFCVAEConfig((Facet(2, 2), Facet(2, 3)), network=factory)
    again = MFCVAEConfig.from_json(config.to_json())
    assert again == config
    assert type(again.network) is type(factory)
    assert hash(again) == hash(config)


@given(
    st.builds(
        FullyConnectedSeparateEncoders,
        widths=st.none() | st.lists(st.integers(1, 9), min_size=1).map(tuple),
        encoder_widths=st.lists(st.integers(1, 9), min_size=1),
        merge=st.sampled_from(["gated_add", "concatenate"]),
        gate=st.none() | st.floats(0, 10),
        activation=st.sampled_from(tuple(ACTIVATIONS)),
        batch_norm=st.booleans(),
        dropout=st.floats(0, 1, exclude_max=True),
    )
)
def test_json_round_trip_of_every_field(factory):
    config = MFCVAEConfig((Facet(2, 2),), network=factory)
    assert MFCVAEConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("factory", networks.FACTORIES.values())
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "tanh"}, r"activation: got 'tanh', expected one of \('relu', .*'gelu'\)"),
        ({"batch_norm": "no"}, r"batch_norm: got 'no', expected True or False"),
        ({"dropout": 1.0}, r"dropout: got 1.0, expected a number in \[0, 1\)"),
        ({"dropout": -0.1}, r"dropout: got -0.1, expected a number in \[0, 1\)"),
        ({"dropout": True}, r"dropout: got True"),
        ({"dropout": "a"}, r"dropout: got 'a', expected a number in \[0, 1\)"),
        ({"dropout": math.nan}, r"dropout: got nan, expected a number in \[0, 1\)"),
    ],
)
def test_bad_options(factory, options, message):
    with pytest.raises(ValueError, match=message):
        factory(**options)


@pytest.mark.parametrize(
    "factory",
    [
        FullyConnectedLadder,
        FullyConnectedSeparateEncoders,
        ConvolutionalLadder,
        ConvolutionalSeparateEncoders,
    ],
)
def test_bad_merge(factory):
    with pytest.raises(ValueError, match=r"merge: got 'add', expected one of \('gated_add', 'concatenate'\)"):
        factory(merge="add")


@pytest.mark.parametrize("gate", [math.nan, math.inf, "a", True])
def test_bad_gates(gate):
    with pytest.raises(ValueError, match=f"^gate: got {gate!r}, expected a finite number"):
        FullyConnectedLadder(gate=gate)


@pytest.mark.parametrize("widths", [5, "55", (5, 2.5), (5, True), {5: 5}])
def test_widths_are_integers(widths):
    with pytest.raises(
        TypeError, match=rf"^widths: got {re.escape(repr(widths))}, expected positive integers"
    ):
        FullyConnectedLadder(widths=widths)
    assert FullyConnectedLadder(widths=iter([np.int64(5)])).widths == (5,)


@pytest.mark.parametrize("factory", [FullyConnectedAdditive, FullyConnectedShared])
def test_bad_widths_of_others(factory):
    with pytest.raises(ValueError, match=r"widths: got \(\), expected positive integers"):
        factory(widths=())
    with pytest.raises(ValueError, match=r"encoder_widths: got \(3, 0\), expected positive integers"):
        FullyConnectedSeparateEncoders(encoder_widths=(3, 0))


# --- networks without a ladder --------------------------------------------------------------------

SEPARATE = [r for r in TINY if any(kind in str(r) for kind in ("Separate", "Additive", "SharedDecoder"))]
ADDITIVE = [r for r in TINY if "Additive" in str(r)]


@pytest.mark.parametrize("factory", SEPARATE, ids=str)
def test_separate_encoders_share_nothing(factory):
    encoder, _ = vary(factory)
    for j in range(2):
        encoder.zero_grad(set_to_none=True)
        loc, scale = encoder(pictures())[j]
        (loc.sum() + scale.sum()).backward()
        for name, parameter in encoder.named_parameters():
            assert (parameter.grad is not None) == name.startswith(f"facet_modules.{j}."), name


@pytest.mark.parametrize("factory", ADDITIVE, ids=str)
def test_the_additive_decoder_is_a_sum(factory):
    _, decoder = vary(factory)
    z = latents(DIMS)
    parts = [module(z_j).reshape(-1, *SHAPE) for module, z_j in zip(decoder.facet_modules, z, strict=True)]
    assert torch.equal(decoder(z, [1.0, 1.0]), parts[0] + parts[1])
    assert torch.equal(decoder(z, [0.25, 0.5]), 0.25 * parts[0] + 0.5 * parts[1])
    assert torch.equal(decoder(z, [0.0, 1.0]), parts[1])
    assert not decoder(z, [0.0, 0.0]).any()
    assert all(
        name.startswith(("facet_modules.0.", "facet_modules.1.")) for name, _ in decoder.named_parameters()
    )


@pytest.mark.parametrize("factory", [FullyConnectedShared(widths=(8, 9)), ConvolutionalShared(channels=5)])
def test_shared_networks(factory):
    """One body, of which all facets are linear or convolutional heads; one decoder of all latents."""
    encoder, decoder = vary(factory)
    h = encoder.backbone[0](pictures().reshape(-1, *encoder.input_shape))
    for (loc, _), module, D in zip(encoder(pictures()), encoder.facet_modules, DIMS, strict=True):
        torch.testing.assert_close(loc, module(h)[:, :D])
    z = latents(DIMS)
    expected = decoder.body(torch.cat((0.5 * z[0], z[1]), 1)).reshape(-1, *SHAPE)
    assert torch.equal(decoder(z, [0.5, 1.0]), expected)


@pytest.mark.parametrize("kind", ["FullyConnected", "Convolutional"])
def test_a_shared_decoder_is_that_of_the_shared_network(kind):
    shared, of_each = (getattr(networks, f"{kind}{name}")() for name in ("Shared", "SharedDecoder"))
    (_, decoder), (encoders, same) = (factory(SHAPE, DIMS) for factory in (shared, of_each))
    assert str(same) == str(decoder)
    # Each encoder has the layers of the one encoder of its facet alone.
    for module, D in zip(encoders.facet_modules, DIMS, strict=True):
        alone, _ = shared(SHAPE, (D,))
        assert [p.shape for p in module.parameters()] == [p.shape for p in alone.parameters()]


def test_parameters_of_the_fully_connected_networks():
    def linear(*sizes):
        return sum(i * o + o for i, o in itertools.pairwise(sizes))

    def counts(factory):
        return [sum(p.numel() for p in m.parameters()) for m in factory((60,), (2, 3))]

    ladder = counts(FullyConnectedLadder())[1]
    separate = linear(60, 500, 500, 4) + linear(60, 500, 500, 6)
    assert counts(FullyConnectedSeparateEncoders()) == [separate, ladder]
    assert counts(FullyConnectedAdditive()) == [
        linear(60, 128, 128, 4) + linear(60, 128, 128, 6),
        linear(2, 128, 128, 60) + linear(3, 128, 128, 60),
    ]
    assert counts(FullyConnectedShared()) == [
        linear(60, 500, 2000) + linear(2000, 4) + linear(2000, 6),
        linear(5, 2000, 500, 60),
    ]


# --- in the model ---------------------------------------------------------------------------------


def config_of(network, *stages):
    schedule = Schedule(stages or (Stage((1,), 2, 16), Stage((0,), 2, 16, warm_up_epochs=1, fade_in_steps=2)))
    return MFCVAEConfig((Facet(3, 2), Facet(2, 3)), network=network, schedule=schedule)


@pytest.mark.parametrize(
    ("factory", "batch_norm"), [*((factory, False) for factory in TINY), (TINY[0], True), (TINY[5], True)]
)
def test_fit(factory, batch_norm, tmp_path):
    x = pictures(40)
    factory = dataclasses.replace(factory, batch_norm=batch_norm, dropout=0.1 * batch_norm)
    fitted = fit(x, config_of(factory), seed=0, device="cpu", precision="float32", progress=False)
    assert fitted.predict(x).shape == (40, 2)
    assert fitted.reconstruct(x).shape == x.shape
    assert math.isfinite(fitted.score(x))
    # What is saved and what one datum comes to depend on nothing that training left behind.
    fitted.save(tmp_path / "model")
    again = load(tmp_path / "model")
    torch.testing.assert_close(
        torch.as_tensor(again.transform(x)[0]), torch.as_tensor(fitted.transform(x)[0])
    )
    assert (fitted.predict(x[:1]) == fitted.predict(x)[:1]).all()


@each
def test_training_freezes_what_a_later_facet_owns(factory):
    """The second stage fits facet 0's mixture, and trains nothing of the networks."""
    torch.manual_seed(0)
    last = Stage((0,), 1, 16, freeze=("encoder.*", "decoder.*"))
    model = MFCVAE(config_of(factory, Stage((1,), 2, 16), last), SHAPE)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(model, pictures(40), seed=0, progress=False)
    own = ("encoder.facet_modules.0.", "decoder.facet_modules.0.")
    for name, p in model.named_parameters():
        if not name.startswith("priors."):
            assert torch.equal(p, before[name]) == name.startswith(own), name
    assert any(name.startswith("encoder.facet_modules.0.") for name in before)
    if "Shared" in str(factory):  # its first layer has the facets side by side
        name = next(n for n in before if n.startswith("decoder.body.0.") and n.endswith("weight"))
        columns = (model.get_parameter(name) == before[name]).all(0)
        assert columns.tolist() == [True] * DIMS[0] + [False] * DIMS[1]


class OwnEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 2 * d) for d in DIMS)

    def forward(self, x):
        statistics = [layer(x).chunk(2, -1) for layer in self.layers]
        return [(loc, log_scale.exp()) for loc, log_scale in statistics]


class OwnDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(sum(DIMS), 6)

    def forward(self, z, fade_in):
        return self.layer(torch.cat([z_j * alpha for z_j, alpha in zip(z, fade_in, strict=True)], 1))


def test_a_pair_of_ones_own(blobs):
    """Any two modules with the signatures of Encoder and Decoder."""

    def network(x_shape, latent_dims):
        assert (x_shape, latent_dims) == ((6,), DIMS)
        return OwnEncoder(), OwnDecoder()

    x = blobs[0][:40]
    fitted = fit(x, config_of(network), seed=0, device="cpu", precision="float32", progress=False)
    assert isinstance(fitted.model.encoder, OwnEncoder)
    assert fitted.reconstruct(x).shape == x.shape
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        fitted.model.config.to_json()
