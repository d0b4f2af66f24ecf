import pytest
import torch

from pyro_mfcvae import devices
from pyro_mfcvae.devices import resolve_device, resolve_precision, seeded

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
    for pays, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("pyro_mfcvae.devices._bfloat16_pays", lambda device, pays=pays: pays)
        assert resolve_precision("auto", CPU) == expected
    with pytest.raises(ValueError, match="precision: got 'float8', expected one of"):
        resolve_precision("float8", CPU)


def test_the_measurement_leaves_the_threads_alone() -> None:
    before = torch.get_num_threads()
    assert devices._bfloat16_pays.__wrapped__("cpu") in (True, False)
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
