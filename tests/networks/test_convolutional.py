import itertools
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from pyro_mfcvae.networks import (
    ConvolutionalAdditive,
    ConvolutionalLadder,
    ConvolutionalSeparateEncoders,
    ConvolutionalShared,
    ConvolutionalSharedDecoder,
)

FACTORIES = [
    ConvolutionalLadder,
    ConvolutionalSeparateEncoders,
    ConvolutionalAdditive,
    ConvolutionalShared,
    ConvolutionalSharedDecoder,
]
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 64, 64), (28, 28), (2, 33, 17), (1, 5, 7), (1, 9), (2, 1, 1)]


def latents(latent_dims, N=3):
    return [torch.randn(N, d) for d in latent_dims]


def check_shapes(encoder, decoder, x_shape, latent_dims):
    N, J = 3, len(latent_dims)
    statistics = encoder(torch.rand(N, *x_shape))
    assert [loc.shape for loc, _ in statistics] == [(N, D) for D in latent_dims]
    assert all((scale > 0).all() for _, scale in statistics)
    z = latents(latent_dims, N)
    for fade_in in ([1.0] * J, [0.0] * J, [0.0] * (J - 1) + [1.0]):
        assert decoder(z, fade_in).shape == (N, *x_shape)
    other = [*z[:-1], z[-1] + 1]
    assert torch.equal(decoder(z, [1.0] * (J - 1) + [0.0]), decoder(other, [1.0] * (J - 1) + [0.0]))


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("x_shape", SHAPES, ids=str)
@pytest.mark.parametrize("J", [1, 2, 3, 4])
def test_shapes(factory, x_shape, J):
    latent_dims = (2, 1, 3, 2)[:J]
    check_shapes(*factory(channels=2)(x_shape, latent_dims), x_shape, latent_dims)


@given(
    st.sampled_from(FACTORIES),
    st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)),
    st.lists(st.integers(1, 3), min_size=1, max_size=5).map(tuple),
    st.booleans(),
)
@settings(max_examples=40)
def test_any_shape(factory, x_shape, latent_dims, batch_norm):
    encoder, decoder = factory(channels=1, batch_norm=batch_norm)(x_shape, latent_dims)
    check_shapes(encoder.eval(), decoder.eval(), x_shape, latent_dims)


@pytest.mark.parametrize("x_shape", [(1, 16, 16), (2, 7, 9), (1, 1, 3)])
@pytest.mark.parametrize("J", [1, 3, 4])
@pytest.mark.parametrize("merge", ["gated_add", "concatenate"])
def test_gradients(x_shape, J, merge):
    torch.manual_seed(0)
    factory = ConvolutionalLadder(channels=4, merge=merge, activation="elu")
    encoder, decoder = factory(x_shape, (2,) * J)
    z = [loc + scale for loc, scale in encoder(torch.rand(10, *x_shape))]
    decoder(z, [1.0] * J).square().sum().backward()
    for module in (encoder, decoder):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


@pytest.mark.parametrize("x_shape", [(1, 8, 8), (1, 7, 9), (1, 13, 6), (1, 1, 5)], ids=str)
@pytest.mark.parametrize("J", [1, 2, 3])
def test_every_pixel_is_seen_and_made(x_shape, J):
    torch.manual_seed(0)
    encoder, decoder = ConvolutionalLadder(channels=4, activation="elu")(x_shape, (2,) * J)
    x = torch.rand(4, *x_shape, requires_grad=True)
    for loc, _ in encoder(x):
        (gradient,) = torch.autograd.grad(loc.sum(), x, retain_graph=True)
        # A module of facet 0 with a kernel of 4 may leave out the last row or column of what it sees.
        assert (gradient != 0).float().mean() > 0.7
    deepest = torch.autograd.grad(encoder(x)[-1][0].sum(), x)[0]
    assert deepest.any()
    x_hat = decoder([torch.randn(50, 2) for _ in range(J)], [1.0] * J)
    assert (x_hat.std(0) > 0).all()


def test_facet_0_branches_off_first():
    encoder, decoder = ConvolutionalLadder(channels=2)((1, 8, 8), (2, 2, 2))
    for j in range(3):
        encoder.zero_grad(set_to_none=True)
        encoder(torch.rand(4, 1, 8, 8))[j][0].sum().backward()
        touched = {".".join(n.split(".")[:2]) for n, p in encoder.named_parameters() if p.grad is not None}
        assert touched == {f"backbone.{i}" for i in range(j + 1)} | {f"facet_modules.{j}"}
    assert len(decoder.facet_modules) == 2


@pytest.mark.parametrize("facet", [0, 1])
def test_a_rung_that_is_faded_out_gets_no_gradient(facet):
    _, decoder = ConvolutionalLadder(channels=2)((1, 8, 8), (2, 2, 2))
    decoder(latents((2, 2, 2)), [float(j != facet) for j in range(3)]).sum().backward()
    for name, parameter in decoder.named_parameters():
        assert (parameter.grad is None) == name.startswith(f"facet_modules.{facet}."), name


def test_concatenation_along_the_channels():
    _, decoder = ConvolutionalLadder(channels=2)((1, 8, 8), (2, 2))
    z = latents((2, 2))
    h = decoder.backbone[0](decoder.backbone[1](z[1]))
    module = decoder.facet_modules[0](z[0])
    assert h.shape == module.shape == (3, 2, 4, 4)
    torch.testing.assert_close(decoder(z, [0.3, 1.0]), decoder.output(torch.cat((h, 0.3 * module), 1)))


def test_gated_addition():
    _, decoder = ConvolutionalLadder(channels=2, merge="gated_add")((1, 8, 8), (2, 2))
    z = latents((2, 2))
    h = decoder.backbone[0](decoder.backbone[1](z[1])) + 0.1 * 0.3 * decoder.facet_modules[0](z[0])
    torch.testing.assert_close(decoder(z, [0.3, 1.0]), decoder.output(h))


@pytest.mark.parametrize(
    ("latent_dims", "counts"), [((20, 2), (1_181_932, 997_571)), ((22, 7), (1_204_730, 1_112_259))]
)
def test_the_papers_network_has_the_papers_parameters(latent_dims, counts):
    """Pictures (3, 32, 32) and two facets; all kernels have 4 pixels, but one in the decoder, which has 3.

    Encoder: 3 - 64 (16 x 16) - 128 (8 x 8); modules 64 - 64 (8 x 8) - 64 (7 x 7) and 128 - 128 (4 x 4) - 256
    (2 x 2). Decoder: z_1 - 256 (8 x 8) - 128 (16 x 16) - 64; with the module z_0 - 64 (16 x 16), 128 - 3.
    """

    def convolutions(*channels, kernel=4):
        return sum(i * o * kernel**2 + o for i, o in itertools.pairwise(channels))

    def linear(i, o):
        return i * o + o

    def count(module):
        return sum(p.numel() for p in module.parameters())

    low, high = latent_dims
    encoder, decoder = ConvolutionalLadder()((3, 32, 32), latent_dims)
    layers = convolutions(3, 64, 128) + convolutions(64, 64, 64) + convolutions(128, 128, 256)
    heads = linear(64 * 7 * 7, 2 * low) + linear(256 * 2 * 2, 2 * high)
    assert count(encoder) == layers + heads == counts[0]
    facet_modules = linear(high, 256 * 8 * 8) + linear(low, 64 * 16 * 16)
    backbone = convolutions(256, 128) + convolutions(128, 64, kernel=3) + convolutions(128, 3)
    assert count(decoder) == facet_modules + backbone == counts[1]

    factory = ConvolutionalLadder(activation="elu", batch_norm=True)
    normalised = factory((3, 32, 32), latent_dims)
    assert count(normalised[0]) - count(encoder) == 2 * (64 + 128 + 64 + 64 + 128 + 256)
    assert count(normalised[1]) - count(decoder) == 2 * (128 + 64)
    factory = ConvolutionalLadder(activation="elu", batch_norm=True, as_published=True)
    published = factory((3, 32, 32), latent_dims)
    assert count(published[0]) - count(normalised[0]) == 64 + 128 + 64 + 64 + 128 + 256
    assert count(published[1]) - count(normalised[1]) == 2 * (256 * 8 * 8 + 64 * 16 * 16 + 3)


def test_a_third_facet_goes_one_level_deeper():
    """Rungs of 512 channels: 256 - 256 (2 x 2) - 512 (1 x 1) up, z_2 - 512 (4 x 4) down."""
    encoder, decoder = ConvolutionalLadder()((3, 32, 32), (5, 5, 5))
    assert [module[-1].in_features for module in encoder.facet_modules] == [3136, 1024, 512]
    assert [module[-1].unflattened_size for module in decoder.facet_modules] == [(64, 16, 16), (256, 8, 8)]
    assert decoder.backbone[-1][-1].unflattened_size == (512, 4, 4)
    convolutions = [m for m in decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
    channels = [(m.in_channels, m.out_channels) for m in convolutions]
    assert channels == [(512, 128), (128, 64), (512, 256), (256, 256), (128, 3)]


def test_channels_stay_where_nothing_is_left_to_halve():
    encoder, _ = ConvolutionalLadder(channels=2)((1, 4, 4), (1,) * 5)
    assert [level[0].out_channels for level in encoder.backbone] == [2, 4, 4, 4, 4]


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("x_shape", [(784,), (1, 2, 8, 8)])
def test_only_pictures(factory, x_shape):
    with pytest.raises(ValueError, match=r"x_shape: got .* expected that of a picture, .* reshape the data"):
        factory()(x_shape, (2, 2))


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("value", [0, -1, 2.5, True])
def test_bad_sizes(factory, value):
    with pytest.raises(ValueError, match=f"channels: got {value}, expected an integer of at least 1"):
        factory(channels=value)
    if factory is not ConvolutionalLadder:
        with pytest.raises(ValueError, match=f"levels: got {value}, expected an integer of at least 1"):
            factory(levels=value)


def test_the_published_network():
    """Weight normalisation in the encoder; in the decoder every layer has activation and normalisation."""
    factory = ConvolutionalLadder(channels=4, activation="elu", batch_norm=True, as_published=True)
    encoder, decoder = factory((3, 16, 16), (2, 3))
    convolutions = {m: type(m).__name__ for m in encoder.modules() if isinstance(m, nn.Conv2d)}
    assert set(convolutions.values()) == {"WeightNormConv2d"}
    assert len(convolutions) == 6
    linear = [m for m in decoder.modules() if isinstance(m, (nn.Linear, nn.ConvTranspose2d))]
    hidden = [m for m in decoder.modules() if type(m) is nn.Sequential and m[0] in linear]
    assert len(hidden) == len(linear) == 5
    norms = (nn.BatchNorm1d, nn.BatchNorm2d)
    assert all(isinstance(m[1], nn.ELU) and isinstance(m[2], norms) for m in hidden)
    x = decoder(latents((2, 3), 50), [1.0, 1.0])
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(x.var((0, 2, 3), correction=0), torch.ones(3), rtol=0, atol=1e-2)
    with pytest.raises(TypeError, match="as_published: got 1, expected True or False"):
        ConvolutionalLadder(as_published=1)


def test_weight_normalisation_is_that_of_pytorch():
    torch.manual_seed(0)
    encoder, _ = ConvolutionalLadder(channels=4, as_published=True)((3, 16, 16), (2, 3))
    torch.manual_seed(0)
    plain, _ = ConvolutionalLadder(channels=4)((3, 16, 16), (2, 3))
    x = torch.rand(5, 3, 16, 16, dtype=torch.float64)
    layer, theirs = encoder.double().backbone[0][0], weight_norm(plain.double().backbone[0][0])
    for loc, expected in zip(encoder(x), plain(x), strict=True):  # it starts as the plain convolution
        torch.testing.assert_close(loc, expected)
    parameters = [layer.gain, layer.weight], list(theirs.parametrizations.weight.parameters())
    with torch.no_grad():
        for pair in zip(*parameters, strict=True):
            for p in pair:
                p.mul_(1.5)
    found, expected = (m(x).square().sum() for m in (layer, theirs))
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad(y, p) for y, p in zip((found, expected), parameters, strict=True))
    for gradient, other in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, other)
    again = pickle.loads(pickle.dumps(encoder))  # of our own making
    assert torch.equal(again(x)[0][0], encoder(x)[0][0])
