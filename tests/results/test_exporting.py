"""Fitted models as programs that run without this package."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import pyro_mfcvae as mf
from pyro_mfcvae.networks import ConvolutionalLadder, FullyConnectedLadder, FullyConnectedShared

SIZES = (1, 7, 300)
SHARED = FullyConnectedShared(widths=(16,))
ONE = mf.Schedule((mf.Stage((0, 1), 1, batch_size=100),))
TABLE = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
PICTURES = np.random.default_rng(0).random((300, 1, 8, 8), dtype=np.float32)
COUNTS = np.random.default_rng(0).poisson(3.0, (300, 6)).astype(np.float32)


def fit(x=TABLE, prior="full_gaussian", network=SHARED, likelihood="gaussian"):
    config = mf.MFCVAEConfig(
        facets=(mf.Facet(4, 3, prior), mf.Facet(3, 2, prior)),
        likelihood=likelihood,
        network=network,
        schedule=ONE,
    )
    return mf.fit(x, config, seed=0, device="cpu", progress=False)


def with_missing(x):
    x = x.copy()
    x[np.random.default_rng(1).random(x.shape) < 0.2] = np.nan
    return x


def merged():
    fitted = fit()
    return fitted.merge(0, TABLE, 2)


MODELS = {
    **{
        name: (lambda name=name: fit(prior=name), TABLE)
        for name in mf.priors.available()
        if name not in ("standard_normal", "student_t")  # one cluster; see below
    },
    "ladder": (lambda: fit(network=FullyConnectedLadder(widths=(16, 16), batch_norm=True)), TABLE),
    "pictures": (lambda: fit(PICTURES, network=ConvolutionalLadder(), likelihood="bernoulli"), PICTURES),
    "missing": (lambda: fit(with_missing(TABLE), likelihood="mixed"), with_missing(TABLE)),
    "exposure": (lambda: fit(COUNTS, likelihood=mf.likelihoods.Poisson(exposure="total")), COUNTS),
    "merged": (merged, TABLE),
}


def expected(fitted, x):
    found = {"clusters": fitted.predict(x)}
    for j, (r, z) in enumerate(zip(fitted.predict_proba(x), fitted.transform(x), strict=True)):
        found |= {f"probabilities_{j}": r, f"latents_{j}": z}
    return found


def agree(found, fitted, x):
    wanted = expected(fitted, x)
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        assert found[name].dtype == values.dtype
        if name != "clusters":
            np.testing.assert_allclose(found[name], values, atol=2e-5, rtol=1e-4)
    for j in range(fitted.num_facets):
        ordered = np.sort(wanted[f"probabilities_{j}"], 1)
        clear = ordered[:, -1] - ordered[:, -2] > 1e-4  # of no tie
        np.testing.assert_array_equal(found["clusters"][clear, j], wanted["clusters"][clear, j])


@pytest.mark.filterwarnings("ignore:facet")
@pytest.mark.parametrize(("build", "x"), MODELS.values(), ids=MODELS)
def test_programs_say_what_the_model_says(build, x, tmp_path):
    fitted = build()
    before = fitted.predict_proba(x)
    fitted.export(tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2").module()
    fitted.export(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    names = [output.name for output in session.get_outputs()]
    for n in SIZES:
        data = np.asarray(x[:n], dtype=str(fitted.model.likelihood.dtype).removeprefix("torch."))
        with torch.no_grad():
            agree({k: v.numpy() for k, v in program(torch.from_numpy(data)).items()}, fitted, x[:n])
        agree(dict(zip(names, session.run(None, {"x": data}), strict=True)), fitted, x[:n])
    np.testing.assert_equal(fitted.predict_proba(x), before)  # which is left as it was
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.pt2"]


def test_they_run_without_this_package(tmp_path):
    fitted = fit()
    fitted.export(tmp_path / "model.pt2")
    fitted.export(tmp_path / "model", format="onnx")
    np.save(tmp_path / "x.npy", TABLE)
    program = """
        import sys

        sys.modules |= {"pyro_mfcvae": None, "pyro": None}  # an error where they are imported
        import numpy as np
        import onnxruntime
        import torch

        x = np.load("x.npy")
        np.save("torch.npy", torch.export.load("model.pt2").module()(torch.from_numpy(x))["clusters"])
        session = onnxruntime.InferenceSession("model")
        np.save("onnx.npy", session.run(["clusters"], {"x": x})[0])
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, check=True)
    for name in ("torch", "onnx"):
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), fitted.predict(TABLE))


def test_files_say_what_they_are(tmp_path):
    fitted = fit()
    facts = {"version": mf.__version__, "clusters": [4, 3]}
    fitted.export(tmp_path / "model.onnx")
    (entry,) = onnx.load(tmp_path / "model.onnx").metadata_props
    assert (entry.key, json.loads(entry.value)) == ("pyro_mfcvae", facts)
    fitted.export(tmp_path / "model.pt2")
    extra = {"pyro_mfcvae": ""}
    torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    assert json.loads(extra["pyro_mfcvae"]) == facts


def test_what_onnx_has_not(tmp_path):
    fitted = fit(prior="student_t")
    with pytest.raises(ValueError, match=r"^format: got 'onnx' for a model that needs aten.linalg_solve_tri"):
        fitted.export(tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
    fitted.export(tmp_path / "model.pt2")
    found = torch.export.load(tmp_path / "model.pt2").module()(torch.from_numpy(TABLE))
    agree({name: values.detach().numpy() for name, values in found.items()}, fitted, TABLE)


def test_what_is_refused(tmp_path, monkeypatch):
    fitted = fit()
    with pytest.raises(
        ValueError, match=r"^path: got '.*model.h5', expected a file .pt2 or .onnx; end it so"
    ):
        fitted.export(tmp_path / "model.h5")
    with pytest.raises(ValueError, match=r"^format: got 'tflite', expected one of \('torch', 'onnx'\)"):
        fitted.export(tmp_path / "model", format="tflite")
    with pytest.raises(FileNotFoundError):
        fitted.export(tmp_path / "nowhere" / "model.pt2")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"^format: got 'onnx', but onnxscript is not installed"):
        fitted.export(tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
