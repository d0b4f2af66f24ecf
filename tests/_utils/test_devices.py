import dataclasses
import multiprocessing
import platform

import numpy as np
import pytest
import torch

from pyro_mfcvae import FittedMFCVAE, fit, load
from pyro_mfcvae._utils.devices import (
    describe_environment,
    is_same_device,
    processor_name,
    resolve_device,
    resolve_precision,
    threads,
)

CPU = torch.device("cpu")


def test_devices() -> None:
    assert resolve_device("cpu") == CPU
    assert resolve_device(CPU) == CPU
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", ["toaster", "cuda:99"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ValueError, match=f"device: '{device}' is not available here"):
        resolve_device(device)


def test_a_device_without_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Apple's MPS is, whose message this is."""
    ones = torch.ones

    def without_float64(*sizes: int, dtype: torch.dtype | None = None, device: torch.device) -> torch.Tensor:
        if dtype == torch.float64:
            raise TypeError(f"Cannot convert a MPS Tensor to {dtype} dtype")
        return ones(*sizes)

    monkeypatch.setattr(torch, "ones", without_float64)
    with pytest.raises(ValueError, match=r"device: 'mps' is not available here \(Cannot convert .*float64"):
        resolve_device("mps")


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("cpu", "cpu", True),
        ("cpu", "cuda:0", False),
        ("cuda:0", "cuda:0", True),
        ("cuda:0", "cuda:1", False),
        ("cuda", "cuda:1", True),  # the current one
        ("cuda:0", "cuda", False),
    ],
)
def test_which_devices_are_one(a, b, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert is_same_device(torch.device(a), torch.device(b)) == expected


def test_precisions(make_config, blobs):
    assert resolve_precision("float32") == "float32"
    assert resolve_precision("bfloat16") == "bfloat16"
    assert resolve_precision("auto") == "float32"
    with pytest.raises(ValueError, match="precision: got 'float8', expected one of"):
        resolve_precision("float8")
    fitted = fit(blobs[0], make_config(epochs=1), progress=False)
    assert fitted.history.environment.precision == "float32"


def _spin(stop):
    while not stop.is_set():
        np.ones((200, 200)) @ np.ones((200, 200))


def test_a_busy_machine_gives_the_same_model(make_config, blobs):
    """Nothing that the result depends on is chosen by a stopwatch."""
    x, config = blobs[0], make_config(epochs=2)
    quiet = fit(x, config, device="cpu", progress=False)
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    others = [context.Process(target=_spin, args=(stop,), daemon=True) for _ in range(2)]
    for other in others:
        other.start()
    try:
        busy = fit(x, config, device="cpu", progress=False)
    finally:
        stop.set()
        for other in others:
            other.join()
    assert busy.history.environment == quiet.history.environment
    for name, value in quiet.model.state_dict().items():
        assert torch.equal(value, busy.model.state_dict()[name]), name


def test_the_environment_is_that_of_here_and_now():
    with threads(1):
        environment = describe_environment(CPU, "bfloat16")
    assert (environment.precision, environment.device, environment.threads) == ("bfloat16", "cpu", 1)
    assert environment.processor == processor_name() != ""
    assert environment.instructions == torch.backends.cpu.get_cpu_capability()
    assert environment.versions["torch"] == torch.__version__
    assert environment.versions["python"] == platform.python_version()
    assert {"pyro-mfcvae", "pyro-ppl", "numpy", "scikit-learn"} <= set(environment.versions)
    expected = f"bfloat16 on cpu ({environment.processor}, {environment.instructions}, 1 thread)"
    assert str(environment) == expected
    assert str(dataclasses.replace(environment, threads=2)).endswith("2 threads)")


def test_files_tell_what_a_model_was_trained_in(make_config, blobs, tmp_path):
    config = make_config(J=1, epochs=1)
    for seed in range(20):
        precision = ("float32", "bfloat16")[seed % 2]
        fitted = fit(blobs[0], config, seed=seed, precision=precision, device="cpu", progress=False)
        assert f"; trained in {precision} on cpu (" in repr(fitted)
        fitted.save(tmp_path / str(seed))
    for seed in range(20):
        again = load(tmp_path / str(seed))
        environment = again.history.environment
        assert environment.precision == ("float32", "bfloat16")[seed % 2]
        assert environment == describe_environment(CPU, environment.precision)
        assert again.precision == "float32"  # of predictions
        assert str(environment) in repr(again)
        again.save(tmp_path / "again")
        assert load(tmp_path / "again").history.environment == environment


def test_what_is_not_known_is_not_told(make_model):
    fitted = FittedMFCVAE(make_model(), [])
    assert fitted.history.environment is None
    assert "trained in" not in repr(fitted)
