import logging
import re

import pytest
import torch

from pyro_mfcvae import devices, fit
from pyro_mfcvae.devices import resolve_device, resolve_precision, seeded
from pyro_mfcvae.networks import ConvolutionalLadder, FullyConnectedLadder

CPU = torch.device("cpu")


def test_devices() -> None:
    assert resolve_device("cpu") == CPU
    assert resolve_device(CPU) == CPU
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", ["toaster", "cuda:99"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ValueError, match=f"device: '{device}' is not available here"):
        resolve_device(device)


def test_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_precision("float32", CPU) == "float32"
    assert resolve_precision("bfloat16", CPU) == "bfloat16"
    # of matrices, and of the model; where the first is slow, the second is not asked
    for matrices, of_model, expected in (
        (3.0, None, "bfloat16"),
        (3.0, 2.0, "bfloat16"),
        (3.0, 1.1, "float32"),
        (0.5, None, "float32"),
    ):
        monkeypatch.setattr(devices, "_matrix_speedup", lambda device, result=matrices: result)
        measure = None if of_model is None else (lambda result=of_model: result)
        assert resolve_precision("auto", CPU, measure) == expected
    assert resolve_precision("auto", CPU, pytest.fail) == "float32"
    with pytest.raises(ValueError, match="precision: got 'float8', expected one of"):
        resolve_precision("float8", CPU)


def test_the_measurement_leaves_the_threads_alone() -> None:
    before = torch.get_num_threads()
    assert devices._matrix_speedup.__wrapped__("cpu") > 0
    assert torch.get_num_threads() == before


def test_the_measurement_is_made_once() -> None:
    assert resolve_precision("auto", CPU) == resolve_precision("auto", CPU)


def test_random_streams_are_put_back() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded(1, CPU):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeded(1, CPU):
        assert torch.equal(torch.rand(3), inside)


@pytest.mark.parametrize("network", [ConvolutionalLadder(channels=2), FullyConnectedLadder(widths=(8, 8))])
def test_the_model_itself_is_measured(make_config, monkeypatch, caplog, network):
    """Where products of matrices are fast; neither streams nor the result of training notice."""
    monkeypatch.setattr(devices, "_matrix_speedup", lambda device: 3.0)
    x = torch.rand(40, 1, 4, 4)
    config = make_config(network=network, epochs=1)
    state = torch.get_rng_state()
    with caplog.at_level(logging.INFO, logger="pyro_mfcvae"):
        measured = fit(x, config, device="cpu", progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert re.match(r"precision \w+: bfloat16 is [\d.]+ times as fast on this cpu", caplog.messages[0])
    chosen = caplog.messages[0].split()[1].removesuffix(":")
    assert f"precision {chosen}, compile auto" in caplog.messages[1]
    given = fit(x, config, device="cpu", precision=chosen, progress=False)
    assert measured.history[-1].loss == given.history[-1].loss
