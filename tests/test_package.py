"""What the package shows of itself."""

import importlib
import types

import pyro_mfcvae as mf


def test_dir_shows_public_names_only():
    assert set(dir(mf)) == {*mf.__all__, "__version__"}
    assert all(hasattr(mf, name) for name in dir(mf))


def test_functions_hide_no_module():
    """The functions of the root are in rooms of another name, whose modules stay reachable."""
    assert callable(mf.fit)
    assert callable(mf.compare)
    for name in ("fitting.fit", "fitting.compare", "datasets.mnist", "datasets.make_facets"):
        module = importlib.import_module(f"pyro_mfcvae.{name}")
        assert isinstance(module, types.ModuleType)
        room, file = name.split(".")
        assert getattr(importlib.import_module(f"pyro_mfcvae.{room}"), file) is module


def test_a_fitted_model_tells_its_configuration(make_model):
    model = make_model()
    assert mf.FittedMFCVAE(model, []).config is model.config
