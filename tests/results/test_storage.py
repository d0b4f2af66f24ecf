"""Files of earlier versions."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch

import pyro_mfcvae as mf
from pyro_mfcvae._utils.tensors import read_tensors
from pyro_mfcvae.results.storage import OtherVersionWarning

FOLDER = Path(__file__).parent


def test_a_file_of_version_1_predicts_what_it_did(tmp_path):
    """Its networks called ``rungs`` what are ``facet_modules`` now."""
    with pytest.warns(OtherVersionWarning, match="version 1, which has no digest .*; save the model again"):
        fitted = mf.load(FOLDER / "version_1.mfcvae")
    with np.load(FOLDER / "version_1.npz") as expected:
        x = expected["x"]
        for r, name in zip(fitted.predict_proba(x), ("r0", "r1"), strict=True):
            np.testing.assert_allclose(r, expected[name], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(fitted.transform(x)[1], expected["z"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(fitted.reconstruct(x), expected["y"], rtol=1e-4, atol=1e-5)
    assert fitted.seed == 3
    assert len(fitted.history) == 3
    assert fitted.history.environment is None  # which it did not keep
    assert fitted.model.config.stages[1].freeze == ("encoder.facet_modules.1.*", "past facets")
    again = mf.fit(x, fitted.model.config, seed=3, progress=False)  # so that it can be trained again
    assert len(again.history) == 3
    fitted.save(tmp_path / "new")
    np.testing.assert_array_equal(mf.load(tmp_path / "new").transform(x)[1], fitted.transform(x)[1])


def test_raw_pseudo_inputs_of_earlier_versions_are_prepared(tmp_path):
    """A VampPrior kept them in the units of the data, and float32 of what is float64 now."""
    x = 1_000 + 50 * np.random.default_rng(0).normal(size=(60, 4))
    likelihood = mf.likelihoods.Gaussian(sigma=0.3, standardize=True)
    config = mf.MFCVAEConfig(
        facets=(mf.Facet(3, 2, "vamp"), mf.Facet(2, 2)),
        likelihood=likelihood,
        network=mf.networks.FullyConnectedShared(widths=(8,)),
        schedule=mf.Schedule.joint(2, steps=3),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.training.DeadClustersWarning)
        fitted = mf.fit(x, config, seed=0, progress=False)
    fitted.save(tmp_path / "new")
    header, state = read_tensors(tmp_path / "new", "pyro_mfcvae")
    loc, scale = state["likelihood.loc"], state["likelihood.scale"]
    (name,) = (name for name in state if name.endswith(".pseudo_inputs"))
    old = {**state, name: state[name] * scale + loc}
    assert (old[name] - state[name]).abs().min() > 100
    old = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in old.items()}
    header["version"] = 3
    text = json.dumps({key: value for key, value in header.items() if key != "digest"})
    (tmp_path / "old").write_bytes(safetensors.torch.save(old, metadata={"pyro_mfcvae": text}))
    with pytest.warns(OtherVersionWarning, match="version 3, which has no digest"):
        again = mf.load(tmp_path / "old")
    for ours, theirs in zip(fitted.predict_proba(x), again.predict_proba(x), strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-3)
