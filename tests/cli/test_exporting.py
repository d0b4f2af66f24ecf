"""The command ``export``."""

import numpy as np
import torch

import pyro_mfcvae as mf
from pyro_mfcvae.cli import main


def test_a_model_is_exported(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32)
    stage = mf.Stage((0,), 1, batch_size=30)
    fitted = mf.fit(x, mf.presets.tabular(clusters=2, schedule=mf.Schedule((stage,))), progress=False)
    fitted.save(tmp_path / "model.mfcvae")
    command = ["export", str(tmp_path / "model.mfcvae"), "--out"]
    assert main([*command, str(tmp_path / "new" / "model.pt2")]) == 0
    program = torch.export.load(tmp_path / "new" / "model.pt2").module()
    np.testing.assert_array_equal(program(torch.from_numpy(x))["clusters"], fitted.predict(x))
    capsys.readouterr()
    assert main([*command, str(tmp_path / "new" / "model.pt2")]) == 2
    assert "model.pt2 exists" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "model.h5")]) == 2
    assert "expected a name that ends in .pt2 or .onnx" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "model.onnx")]) == 0
    assert "model.onnx" in capsys.readouterr().out
