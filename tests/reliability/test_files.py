"""Saved models that are damaged, forged, or of other versions: found out, or the same to the last bit."""

import json
import os
import resource
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from attacks import blobs, damaged, forged, tiny

import pyro_mfcvae as mf
from pyro_mfcvae._utils.tensors import read_tensors, write_tensors
from pyro_mfcvae.results.storage import FORMAT, MINOR, OtherVersionWarning

X = blobs(120)[0]
PRIORS = ("full_gaussian", "student_t", "flow", "vamp", "bayesian_gaussian", "low_rank_gaussian")
KINDS = {
    "plain": {},
    "nuisance": {"nuisance": 2, "network": mf.networks.FullyConnectedLadder((8, 8, 8))},
    "mixed": {"likelihood": "mixed"},
    "poisson": {"likelihood": "poisson"},
    **{name: {"facets": (mf.Facet(3, 2, name), mf.Facet(3, 2))} for name in PRIORS},
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Make the file of a model of each kind, and the model."""
    folder, made = tmp_path_factory.mktemp("models"), {}

    def make(kind):
        if kind not in made:
            schedule = mf.Schedule.progressive(2, epochs=2, batch_size=60)
            fields = {"facets": (mf.Facet(3, 2),) * 2, "likelihood": "gaussian", "schedule": schedule}
            x = np.floor(np.abs(X)) if kind == "poisson" else X
            fitted = mf.fit(x, mf.MFCVAEConfig(**fields | KINDS[kind]), progress=False)
            fitted.save(folder / kind)
            made[kind] = folder / kind, mf.load(folder / kind)
        return made[kind]

    return make


def assert_same(fitted, expected):
    state, others = fitted.model.state_dict(), expected.model.state_dict()
    assert state.keys() == others.keys()
    assert all(torch.equal(state[name], others[name]) for name in state)
    assert fitted.config == expected.config
    assert list(fitted.history) == list(expected.history)
    assert (fitted.seed, fitted.restarts) == (expected.seed, expected.restarts)


def loaded(path):
    """The model of a file; None if it is refused, as it should be where it is."""
    try:
        return mf.load(path)
    except ValueError as error:
        if not str(error).startswith(f"path: {path} "):
            raise
        return None


def damage(saved, kinds, number, folder):
    """Load so many damaged files of each kind; how many were found out. The others are the same."""
    found, path = 0, folder / "damaged"
    for kind in kinds:
        whole, expected = saved(kind)
        rng = np.random.default_rng(len(kind))
        for _ in range(number):
            path.write_bytes(damaged(whole.read_bytes(), rng)[1])
            fitted = loaded(path)
            if fitted is None:
                found += 1
            else:
                assert_same(fitted, expected)
    return found


def forge(saved, kinds, number, folder):
    """Load so many forged files of each kind; how many were refused. Others predict."""
    refused = 0
    for kind in kinds:
        whole, _ = saved(kind)
        rng = np.random.default_rng(len(kind))
        for _ in range(number):
            forged(whole, FORMAT, folder / "forged", rng)
            start = time.monotonic()
            fitted = loaded(folder / "forged")
            if fitted is None:
                refused += 1
            else:
                assert fitted.predict(X[:5]).shape == (5, 2)
            assert time.monotonic() - start < 20
    return refused


def test_damage_is_found(saved, tmp_path):
    assert damage(saved, ("plain", "mixed"), 60, tmp_path) > 100


@pytest.mark.filterwarnings("ignore::pyro_mfcvae.results.storage.OtherVersionWarning")
def test_forgeries_are_refused_or_are_models(saved, tmp_path):
    assert forge(saved, ("plain", "nuisance", "flow"), 25, tmp_path) > 40


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pyro_mfcvae.results.storage.OtherVersionWarning")
def test_a_thousand_files(saved, tmp_path):
    found = damage(saved, KINDS, 100, tmp_path)
    refused = forge(saved, KINDS, 100, tmp_path)
    print(f"{100 * len(KINDS)} damaged, {found} found; {100 * len(KINDS)} forged, {refused} refused")
    assert found > 90 * len(KINDS)


def test_a_flipped_bit_of_a_tensor_is_found(saved, tmp_path):
    whole, _ = saved("plain")
    data = bytearray(whole.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    for at in np.random.default_rng(0).integers(start, len(data), 60):
        flipped = bytearray(data)
        flipped[at] ^= 1 << (at % 8)
        (tmp_path / "flipped").write_bytes(flipped)
        with pytest.raises(ValueError, match="its digest is not that of its content"):
            mf.load(tmp_path / "flipped")


CLAIMS = {
    "clusters": lambda config: config["facets"][0].update(clusters=10**8),
    "dimensions": lambda config: config["facets"][0].update(latent_dim=10**9),
    "widths": lambda config: config["network"].update(widths=[10**12, 8]),
    "layers": lambda config: config["network"].update(hidden=[8] * 10**5),
}


@pytest.mark.parametrize("claim", [*CLAIMS, "x_shape"])
def test_a_small_file_claims_no_large_model(saved, claim, tmp_path):
    header, tensors = read_tensors(saved("plain")[0], FORMAT)
    if claim == "x_shape":
        header["x_shape"] = [10**11]
    else:
        CLAIMS[claim](header["config"])
    write_tensors(tmp_path / "claims", FORMAT, header, tensors)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="not a whole pyro_mfcvae model"):
        mf.load(tmp_path / "claims")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_other_types_are_refused(saved, tmp_path):
    header, tensors = read_tensors(saved("plain")[0], FORMAT)
    name = next(iter(tensors))
    write_tensors(tmp_path / "other", FORMAT, header, {**tensors, name: tensors[name].double()})
    with pytest.raises(ValueError, match=f"its tensor {name} is .* torch.float64, expected .* torch.float32"):
        mf.load(tmp_path / "other")


def test_a_later_minor_version_loads_without_what_is_not_known(saved, tmp_path):
    path, expected = saved("plain")
    header, tensors = read_tensors(path, FORMAT)
    header["minor"] = MINOR + 1
    header["mood"] = "good"
    header["config"]["facets"][0]["colour"] = "red"
    header["history"][0]["weather"] = 3
    write_tensors(tmp_path / "later", FORMAT, header, tensors)
    with pytest.warns(OtherVersionWarning, match="saved by a later version .* is left out"):
        fitted = mf.load(tmp_path / "later")
    assert_same(fitted, expected)
    header["minor"] = MINOR
    write_tensors(tmp_path / "same", FORMAT, header, tensors)
    with pytest.raises(ValueError, match=r"colour|mood|weather"):
        mf.load(tmp_path / "same")


MEMORY = """
import sys
import pyro_mfcvae as mf
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
mf.load(sys.argv[2])  # a small one, for what is imported late
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak is what is taken now
before = peak()
try:
    mf.load(sys.argv[1])
except ValueError:
    pass
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="Linux tells of peaks")
def test_loading_takes_no_more_than_twice_the_file(tmp_path):
    """Whole, damaged at its end, or forged: of 29 MB, and 20 MB at most that do not depend on it."""
    fitted = mf.fit(blobs(60)[0], tiny(width=2700, epochs=2), progress=False)
    fitted.save(tmp_path / "whole")
    mf.fit(blobs(60)[0], tiny(), progress=False).save(tmp_path / "small")
    whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "damaged").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    header, tensors = read_tensors(tmp_path / "whole", FORMAT)
    header["config"]["facets"][0]["clusters"] = 10**8
    write_tensors(tmp_path / "forged", FORMAT, header, tensors)
    size = len(whole) / 1024
    assert size > 20_000
    for name in ("whole", "damaged", "forged"):
        command = [sys.executable, "-c", MEMORY, str(tmp_path / name), str(tmp_path / "small")]
        taken = int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        print(json.dumps({name: taken, "file": size}))
        assert taken < 2 * size + 20_000
