import itertools
import math

import pytest
import torch

from pyro_mfcvae import networks
from pyro_mfcvae.networks import FullyConnectedLadder

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
        assert (parameter.grad is None) == name.startswith(f"rungs.{facet}."), name


def test_deeper_facets_see_more_layers():
    """Facet 0 branches off first: nothing of the levels above reaches it."""
    encoder, _ = build((6,), (2, 2, 2), (8, 8, 8))
    for j in range(3):
        encoder.zero_grad(set_to_none=True)
        loc, scale = encoder(torch.rand(4, 6))[j]
        (loc.sum() + scale.sum()).backward()
        touched = {name.rsplit(".", 1)[0] for name, p in encoder.named_parameters() if p.grad is not None}
        assert touched == {f"backbone.{i}.0" for i in range(j + 1)} | {f"rungs.{j}"}


def test_the_gate_scales_the_rung():
    """b_0 = f_0(b_1) + g alpha_0 rung_0(z_0)."""
    z = latents((2, 2))
    _, decoder = build((6,), (2, 2), (8, 8), gate=0.2)
    _, doubled = build((6,), (2, 2), (8, 8), gate=0.4)
    doubled.load_state_dict(decoder.state_dict())
    torch.testing.assert_close(decoder(z, [1.0, 1.0]), doubled(z, [0.5, 1.0]))
    merged = decoder.backbone[0](decoder.backbone[1](z[1])) + 0.2 * 0.3 * decoder.rungs[0](z[0])
    torch.testing.assert_close(decoder(z, [0.3, 1.0]), decoder.output(merged))


@pytest.mark.parametrize("recipe", [FullyConnectedLadder(), FullyConnectedLadder(widths=(500, 2000))])
def test_the_papers_network_has_the_papers_parameters(recipe):
    """Section 3.3: 784 - 500 - 2000, rungs from both levels; z_1 - 2000 - 500 - 500 - 784 and z_0 - 500."""
    encoder, decoder = recipe((784,), (5, 5))

    def linear(*sizes):
        return sum(i * o + o for i, o in itertools.pairwise(sizes))

    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(encoder) == linear(784, 500, 2000) + linear(500, 10) + linear(2000, 10) == 1_419_520
    assert count(decoder) == linear(5, 2000, 500, 500, 784) + linear(5, 500) == 1_655_784 + 3_000


def test_three_facets_take_default_widths():
    encoder, decoder = FullyConnectedLadder()((6,), (2, 2, 2))
    assert [rung.in_features for rung in encoder.rungs] == [500, 500, 2000]
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


def test_every_name_builds_networks():
    assert "fully_connected_ladder" in networks.available()
    for name in networks.available():
        encoder, decoder = networks.RECIPES[name]()((6,), (2, 2))
        z = [loc for loc, _ in encoder(torch.rand(3, 6))]
        assert decoder(z, [1.0, 1.0]).shape == (3, 6)
