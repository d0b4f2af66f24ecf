import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from pyro_mfcvae.networks import (
    ConvolutionalAdditive,
    ConvolutionalLadder,
    FullyConnectedLadder,
    FullyConnectedSeparateEncoders,
    initialize_from_data,
)

LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)
FACTORIES = [
    FullyConnectedLadder(widths=(8, 9, 7)),
    FullyConnectedLadder(widths=(8, 9, 7), merge="concatenate", batch_norm=True),
    FullyConnectedSeparateEncoders(widths=(8, 9, 7), activation="gelu"),
    ConvolutionalLadder(channels=4, activation="elu"),
    ConvolutionalLadder(channels=4, activation="silu", merge="gated_add", batch_norm=True),
    ConvolutionalAdditive(channels=4, activation="leaky_relu"),
]


def pre_activations(module, *inputs):
    """Output of every linear layer that runs, (units, everything else), by the layer's name."""
    outputs = {}

    def keep(name):
        def hook(layer, _inputs, output):
            units = -1 if isinstance(layer, nn.Linear) else 1
            outputs[name] = output.detach().clone().movedim(units, 0).flatten(1)  # activations are in place

        return hook

    layers = {name: m for name, m in module.named_modules() if isinstance(m, LINEAR)}
    handles = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    module(*inputs)
    for handle in handles:
        handle.remove()
    return outputs, set(layers)


def assert_standard(outputs, scaled_only=()):
    for name, output in outputs.items():
        ones = torch.ones(len(output))
        torch.testing.assert_close(output.std(1, correction=0), ones, rtol=1e-3, atol=1e-3, msg=name)
        if name not in scaled_only:
            torch.testing.assert_close(output.mean(1), 0 * ones, rtol=0, atol=1e-3, msg=name)


@pytest.mark.parametrize("factory", FACTORIES, ids=str)
def test_every_layer_of_a_network_is_standardised(factory):
    torch.manual_seed(0)
    encoder, decoder = factory((2, 9, 8), (2, 3, 2))
    x = 3 + 5 * torch.rand(64, 2, 9, 8)
    z, fade_in = [torch.randn(64, d) for d in (2, 3, 2)], [1.0] * 3
    for module, inputs in ((encoder, (x,)), (decoder, (z, fade_in))):
        before, layers = pre_activations(module, *inputs)
        with pytest.raises(AssertionError):
            assert_standard(before)
        initialize_from_data(module, *inputs)
        outputs, layers = pre_activations(module, *inputs)
        assert outputs.keys() == layers
        assert_standard(outputs)
        assert all(p.requires_grad and p.grad is None for p in module.parameters())
        assert not any(m._forward_hooks for m in module.modules())


def test_in_evaluation_too():
    torch.manual_seed(0)
    encoder, _ = FullyConnectedLadder(widths=(8, 9), dropout=0.5, batch_norm=True)((6,), (2, 2))
    x = torch.rand(50, 6)
    initialize_from_data(encoder.eval(), x)
    assert_standard(pre_activations(encoder, x)[0])


def test_what_does_not_run_stays():
    _, decoder = FullyConnectedLadder(widths=(8, 9))((6,), (2, 2))
    before = copy.deepcopy(decoder.state_dict())
    z = [torch.randn(50, 2) for _ in range(2)]
    initialize_from_data(decoder, z, [0.0, 1.0])
    changed = {n for n, p in decoder.state_dict().items() if not torch.equal(p, before[n])}
    assert changed == {n for n in before if not n.startswith("facet_modules.")}
    assert not any(m._forward_hooks for m in decoder.modules())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(4, 6, 3, groups=2),
        nn.ConvTranspose1d(4, 6, 3),
        nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1),
        nn.ConvTranspose2d(4, 6, 3, groups=2),
        nn.Conv2d(4, 4, 2, groups=4),
        nn.Linear(5, 3),
        weight_norm(nn.Linear(5, 3)),
        weight_norm(nn.Conv2d(4, 6, 2)),
    ],
    ids=str,
)
def test_kinds_of_layers(layer):
    torch.manual_seed(0)
    module = nn.Sequential(layer)
    x = (
        torch.randn(30, 4, 5)
        if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d))
        else torch.randn(30, 4, 5, 5)
    )
    initialize_from_data(module, x)
    assert_standard(pre_activations(module, x)[0])


def test_without_a_bias_the_mean_stays_but_for_its_scale():
    torch.manual_seed(0)
    module = nn.Linear(5, 3, bias=False)
    x = torch.rand(30, 5)
    mean, std = module(x).mean(0), module(x).std(0, correction=0)
    initialize_from_data(module, x)
    assert_standard(pre_activations(module, x)[0], scaled_only=("",))
    torch.testing.assert_close(module(x).mean(0), mean / std)


def test_a_constant_unit_is_only_shifted():
    module = nn.Linear(5, 3)
    weight = module.weight.detach().clone()
    x = torch.full((30, 5), 0.7)
    initialize_from_data(module, x)
    assert torch.equal(module.weight, weight)
    torch.testing.assert_close(module(x), torch.zeros(30, 3), atol=1e-5, rtol=0)


def test_a_layer_that_runs_twice_is_changed_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 5)

        def forward(self, x):
            return self.layer(torch.relu(self.layer(x)))

    torch.manual_seed(0)
    module, x = Twice(), torch.randn(30, 5)
    initialize_from_data(module, x)
    first = module.layer(x)
    torch.testing.assert_close(first.std(0, correction=0), torch.ones(5), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(first.mean(0), torch.zeros(5), rtol=0, atol=1e-3)


@pytest.mark.parametrize("module", [nn.ReLU(), nn.Sequential()])
def test_a_module_without_layers(module):
    with pytest.raises(ValueError, match=r"module: \w+ runs none of its 0 linear and convolutional layers"):
        initialize_from_data(module, torch.rand(3, 2))


def test_the_hooks_go_when_the_network_raises():
    encoder, _ = FullyConnectedLadder(widths=(8, 9))((6,), (2, 2))
    with pytest.raises(RuntimeError):
        initialize_from_data(encoder, torch.rand(3, 5))
    assert not any(m._forward_hooks for m in encoder.modules())


def test_as_in_the_code_of_the_paper():
    """A deviation of 0.1, but for convolutions with weight normalisation, of which only biases change."""
    torch.manual_seed(0)
    factory = ConvolutionalLadder(channels=8, activation="elu", batch_norm=True, as_published=True)
    encoder, decoder = factory((3, 16, 16), (2, 3))
    before = copy.deepcopy(encoder.state_dict())
    x = torch.rand(200, 3, 16, 16)
    initialize_from_data(encoder, x, as_published=True)
    outputs, _ = pre_activations(encoder, x)
    for name, output in outputs.items():
        if name.endswith(".3"):  # a facet's head, behind two convolutions that are not what it was made for
            torch.testing.assert_close(output.std(1), torch.full((len(output),), 0.1), rtol=0.2, atol=0)
        else:
            for kept in ("weight", "gain"):
                assert torch.equal(encoder.state_dict()[f"{name}.{kept}"], before[f"{name}.{kept}"])
            layer = copy.deepcopy(encoder.get_submodule(name))
            bias = layer.bias.detach().clone()
            layer.bias.data.zero_()
            if name == "backbone.0.0":
                plain = layer(x).movedim(1, 0).flatten(1)
                expected = -0.1 * plain.mean(1) / plain.std(1, correction=0)
                torch.testing.assert_close(bias, expected, rtol=1e-3, atol=1e-5)
    z = [torch.randn(200, d) for d in (2, 3)]
    initialize_from_data(decoder, z, [1.0, 1.0], as_published=True)
    outputs, layers = pre_activations(decoder, z, [1.0, 1.0])
    assert outputs.keys() == layers
    assert_standard({name: output / 0.1 for name, output in outputs.items()})
    weight = decoder.output[0].weight.detach().flatten().double()
    assert abs((weight**4).mean() / (weight**2).mean() ** 2 - 3) < 0.8  # normal, where uniform has 1.8


def test_weight_normalisation_is_scaled_else():
    torch.manual_seed(0)
    encoder, _ = ConvolutionalLadder(channels=4, as_published=True)((3, 16, 16), (2, 3))
    x = torch.rand(50, 3, 16, 16)
    initialize_from_data(encoder, x)
    assert_standard(pre_activations(encoder, x)[0])
