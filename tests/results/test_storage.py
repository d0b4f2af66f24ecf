"""Files of earlier versions."""

from pathlib import Path

import numpy as np
import pytest

import pyro_mfcvae as mf
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
