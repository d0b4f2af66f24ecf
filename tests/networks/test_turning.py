"""Another basis for a network's latents: it computes the same function."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from pyro_mfcvae import networks
from pyro_mfcvae.networks import FullyConnectedShared, LadderEncoder, SharedDecoder
from pyro_mfcvae.networks.turning import check_can_turn, turn_latents

DIMS, NEW = (2, 3, 1), (1, 4, 1)
D = sum(DIMS)


def pieces(width=16, dtype=torch.float64, **options):
    torch.manual_seed(0)
    encoder, decoder = FullyConnectedShared((width, width), **options)((5,), DIMS)
    x = torch.randn(200, 5, dtype=dtype)
    T = torch.linalg.qr(torch.randn(D, D, dtype=torch.float64))[0] * torch.linspace(0.3, 3, D)
    T = T.double()
    return encoder.to(dtype).eval(), decoder.to(dtype).eval(), x, T, torch.linspace(-2, 2, D).double()


def means(encoder, x):
    return torch.cat([loc for loc, _ in encoder(x)], 1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("options", [{}, {"batch_norm": True, "dropout": 0.2}, {"activation": "gelu"}])
def test_latents_are_turned_and_the_reconstruction_stays(options, dtype, tolerance):
    encoder, decoder, x, T, m = pieces(dtype=dtype, **options)
    with torch.no_grad():
        u = means(encoder, x)
        before = decoder([loc for loc, _ in encoder(x)], (1.0,) * 3)
        turned = turn_latents(encoder, decoder, x, T, m, NEW).eval()
        statistics = turned(x)
        z = means(turned, x)
        after = decoder([loc for loc, _ in statistics], (1.0,) * 3)
    assert [loc.shape[1] for loc, _ in statistics] == list(NEW)
    assert {value.dtype for pair in statistics for value in pair} == {dtype}
    torch.testing.assert_close(z.double(), (u.double() - m) @ T, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(after, before, atol=tolerance, rtol=tolerance)
    assert after.std() > 1e-3


def test_standard_deviations_are_close_to_those_of_the_turned_posterior():
    """Exactly so where they do not depend on the datum; else as close as the features allow."""
    encoder, decoder, x, T, m = pieces(width=64)
    with torch.no_grad():
        for head in encoder.facet_modules:
            d = head.out_features // 2
            head.weight[d:] *= 0.3
        expected = (torch.cat([scale for _, scale in encoder(x)], 1).square() @ T.square()).sqrt()
        found = torch.cat([scale for _, scale in turn_latents(encoder, decoder, x, T, m, NEW)(x)], 1)
    assert (found / expected).log().abs().max() < 0.05
    assert (found / expected).log().mean().abs() < 0.005
    assert expected.std(0).min() > 0.001


def test_constant_standard_deviations():
    encoder, decoder, x, T, m = pieces()
    with torch.no_grad():
        for head in encoder.facet_modules:
            head.weight[head.out_features // 2 :] = 0
        expected = (torch.cat([scale for _, scale in encoder(x)], 1).square() @ T.square()).sqrt()
        found = torch.cat([scale for _, scale in turn_latents(encoder, decoder, x, T, m, NEW)(x)], 1)
    torch.testing.assert_close(found, expected)


def test_tiny_standard_deviations_stay_finite():
    """Directions of a large latent are short."""
    encoder, decoder, x, T, m = pieces()
    with torch.no_grad():
        turned = turn_latents(encoder, decoder, x, 1e-6 * T, m, NEW)
    assert all(p.isfinite().all() for p in turned.parameters())
    assert all((scale > 0).all() and (scale < 1e-3).all() for _, scale in turned(x))


def test_one_datum_is_enough():
    encoder, decoder, x, T, m = pieces()
    with torch.no_grad():
        turned = turn_latents(encoder, decoder, x[:1], T, m, NEW)
    assert all(p.isfinite().all() for p in turned.parameters())


def test_there_and_back():
    encoder, decoder, x, T, m = pieces()
    state = {name: value.clone() for name, value in decoder.state_dict().items()}
    turned = turn_latents(encoder, decoder, x, T, m, NEW)
    inverse = torch.linalg.inv(T)
    back = turn_latents(turned, decoder, x, inverse, -(m @ T), DIMS)
    torch.testing.assert_close(means(back, x), means(encoder, x), atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(decoder.state_dict(), state, atol=1e-8, rtol=1e-8)


def test_which_networks_can_be_turned():
    can = []
    for name, factory in networks.FACTORIES.items():
        try:
            check_can_turn(*factory()((1, 28, 28), (2, 3)))
        except ValueError as error:
            assert "use network=networks.FullyConnectedShared(...)" in str(error)  # noqa: PT017
        else:
            can.append(name)
    assert "fully_connected_shared" in can
    assert not any("ladder" in name or "additive" in name for name in can)


class Skipping(nn.Module):
    """Its first layer is not the only one that sees the latents."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(D, 5)
        self.second = nn.Linear(D, 5)

    def forward(self, z):
        return self.first(z) + self.second(z)


class OtherEncoder(LadderEncoder):
    def forward(self, x):
        return [(3 * loc, scale) for loc, scale in super().forward(x)]


class OtherDecoder(SharedDecoder):
    def forward(self, z, fade_in):
        return super().forward([torch.tanh(z_j) for z_j in z], fade_in)


def encoder_of(kind=LadderEncoder, bias=True):
    heads = [nn.Linear(5, 2 * d, bias=bias) for d in DIMS]
    return kind((5,), [nn.Identity() for _ in DIMS], heads)


BODY = nn.Sequential(nn.Sequential(nn.Linear(D, 5)), nn.ReLU())


@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [
        (encoder_of(), SharedDecoder((5,), Skipping())),
        (encoder_of(), SharedDecoder((5,), nn.Sequential(nn.Linear(D, 5, bias=False)))),
        (encoder_of(), SharedDecoder((5,), nn.Sequential(nn.ReLU(), nn.Linear(D, 5)))),
        (encoder_of(), SharedDecoder((5,), nn.Sequential())),
        (encoder_of(), OtherDecoder((5,), BODY)),
        (encoder_of(OtherEncoder), SharedDecoder((5,), BODY)),
        (encoder_of(bias=False), SharedDecoder((5,), BODY)),
        (nn.Identity(), nn.Identity()),
    ],
)
def test_networks_that_do_more_cannot(encoder, decoder):
    check_can_turn(encoder_of(), SharedDecoder((5,), BODY))
    names = f"{type(encoder).__name__} and {type(decoder).__name__}"
    with pytest.raises(ValueError, match=f"unmix: got {names}, whose latents do not enter"):
        check_can_turn(encoder, decoder)


def test_each_facet_keeps_its_own_directions():
    encoder, decoder, x, T, m = pieces()
    turned = turn_latents(encoder, decoder, x, T, m, NEW)
    ends = [0, *itertools.accumulate(NEW)]
    u = means(encoder, x)
    for (loc, _), first, last in zip(turned(x), ends, ends[1:], strict=False):
        np.testing.assert_allclose(loc.detach(), ((u - m) @ T[:, first:last]).detach(), atol=1e-9, rtol=1e-9)
