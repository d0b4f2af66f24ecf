import threading

import pytest
import torch

from pyro_mfcvae.devices import flushing_denormals, resolve_device, resolve_precision, seeded

CPU = torch.device("cpu")


def has_denormals(size: int) -> bool:
    return bool((torch.full((size,), 1e-30) * 1e-10 != 0).any())


@pytest.mark.parametrize("size", [1, 1_000_000])  # the second is shared out among threads
def test_denormals_are_flushed_within_and_only_within(size: int) -> None:
    assert has_denormals(size)
    assert not flushing_denormals(lambda stop: has_denormals(size))
    assert has_denormals(size)


def test_what_a_flushing_function_raises_comes_out() -> None:
    def fail(stop: threading.Event) -> None:
        raise FloatingPointError("from within")

    with pytest.raises(FloatingPointError, match="from within"):
        flushing_denormals(fail)


def test_an_interrupt_stops_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = []

    def wait(stop: threading.Event) -> None:
        stopped.append(stop.wait(timeout=30))

    def interrupt(self: object, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("concurrent.futures.Future.result", interrupt)
    with pytest.raises(KeyboardInterrupt):
        flushing_denormals(wait)
    assert stopped == [True]


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
    for pays, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("pyro_mfcvae.devices._bfloat16_pays", lambda device, pays=pays: pays)
        assert resolve_precision("auto", CPU) == expected
    with pytest.raises(ValueError, match="precision: got 'float8', expected one of"):
        resolve_precision("float8", CPU)


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
