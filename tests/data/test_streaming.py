"""Files that are not in memory: what is predicted of them, which data are streamed, and what it takes."""

import os
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered import Items, Stream, numbered, save
from torch.utils.data import DataLoader, TensorDataset

from pyro_mfcvae import fit
from pyro_mfcvae.data import choosing
from pyro_mfcvae.data.choosing import as_source
from pyro_mfcvae.data.memmap import Stored
from pyro_mfcvae.data.sources import InMemory

# --- predictions --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_predictions_of_files_are_those_of_arrays(make_config, tmp_path, dtype):
    """Bit for bit, by path, as a memory-mapped array, and in a pair."""
    x = np.random.default_rng(0).random((1_100, 6))
    x = (255 * x).astype(np.uint8) if dtype is np.uint8 else x.astype(dtype)
    path = save(tmp_path / "x.npy", x)
    fitted = fit(x, make_config(J=2), progress=False)
    array = np.load(path, mmap_mode="r")
    for data in (path, str(path), array, (array, np.zeros(1_100, int))):
        pairs = [
            (fitted.predict(data), fitted.predict(x)),
            (fitted.reconstruct(data), fitted.reconstruct(x)),
            (fitted.score(data), fitted.score(x)),
            *zip(fitted.predict_proba(data), fitted.predict_proba(x), strict=True),
            *zip(fitted.transform(data), fitted.transform(x), strict=True),
        ]
        assert all(np.array_equal(ours, expected) for ours, expected in pairs)
    assert np.array_equal(fitted.log_likelihood(array[:50], 5), fitted.log_likelihood(x[:50], 5))
    assert np.array_equal(fitted.compose([path, array]), fitted.compose([x, x]))


def test_predictions_do_not_copy_the_file(make_config, tmp_path):
    """But for what they return, and a few blocks: 20,000 rows of 400 bytes are 8 MB."""
    fitted = fit(np.random.default_rng(0).random((300, 400)), make_config(J=1, epochs=1), progress=False)
    path = save(tmp_path / "x.npy", np.zeros((20_000, 400), np.uint8))
    fitted.predict(path)
    tracemalloc.start()
    fitted.predict(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6


def test_grey_pictures_without_a_channel(make_config, tmp_path):
    x = np.random.default_rng(0).random((40, 1, 4, 4))
    fitted = fit(x, make_config(J=1), progress=False)
    assert np.array_equal(fitted.predict(save(tmp_path / "x.npy", x[:, 0])), fitted.predict(x))
    with pytest.raises(ValueError, match=r"^x: got data of shape \(40, 4\), expected \(N, 1, 4, 4\)"):
        fitted.predict(save(tmp_path / "y.npy", x[:, 0, 0]))


# --- the choice ---------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], None, 3])
def test_what_is_no_array_cannot_be_streamed(data, make_config):
    with pytest.raises(
        TypeError, match=r"^dataset: got a .*in_memory=False cannot stream, expected an array"
    ):
        fit(data, make_config(J=1), in_memory=False, progress=False)


def test_numbers_that_are_not_real():
    with pytest.raises(TypeError, match=r"^dataset: got dtype complex128"):
        as_source(np.zeros((3, 2), complex), in_memory=False)


def test_large_data_are_streamed(tmp_path, monkeypatch):
    """Larger as float32, that is, than a quarter of the memory that is available."""
    path = save(tmp_path / "x.npy", np.zeros((100, 10), np.uint8))
    mapped = np.load(path, mmap_mode="r")
    items = Items(np.zeros((100, 10), np.uint8))
    large = [path, str(path), mapped, (mapped, np.zeros(100, int)), items, DataLoader(items, 5, shuffle=True)]
    never = [np.zeros((100, 10)), TensorDataset(torch.zeros(100, 10)), Stream(np.zeros((100, 10)))]
    for available, is_streamed in ((4 * 4_000, False), (4 * 3_999, True)):
        monkeypatch.setattr(choosing, "available_memory", lambda available=available: available)
        assert [isinstance(as_source(data), InMemory) for data in large] == len(large) * [not is_streamed]
        assert all(isinstance(as_source(data), InMemory) for data in never)
        assert all(isinstance(as_source(data, in_memory=True), InMemory) for data in large)
        assert not any(isinstance(as_source(data, in_memory=False), InMemory) for data in large)


def testavailable_memory():
    assert 2**20 < choosing.available_memory() < 2**50


@pytest.mark.parametrize("in_memory", [None, "yes", 1.5])
def test_other_values_of_in_memory(in_memory, make_config):
    with pytest.raises(ValueError, match=r"in_memory: got .*, expected True, False or 'auto'"):
        fit(numbered(9), make_config(J=1), in_memory=in_memory, progress=False)


def test_paths(tmp_path, make_config):
    with pytest.raises(FileNotFoundError, match=r"^dataset: got .*nothing\.npy', where there is no file"):
        fit(tmp_path / "nothing.npy", make_config(J=1), progress=False)
    (tmp_path / "x.npy").write_bytes(b"not an array")
    with pytest.raises(ValueError, match=r"^dataset: .*x\.npy', which NumPy cannot map"):
        fit(tmp_path / "x.npy", make_config(J=1), progress=False)
    np.savez(tmp_path / "x.npz", x=numbered(9))
    with pytest.raises(ValueError, match=r"^dataset: .*x\.npz', which NumPy cannot map"):
        fit(tmp_path / "x.npz", make_config(J=1), progress=False)


# --- several processes --------------------------------------------------------------------------


def where_from(data):
    """What a process gets: the file, and whether it is one that joblib wrote."""
    array = data.rows.array if isinstance(data, Stored) else data.x.numpy()
    return type(array).__name__, getattr(array, "filename", None), float(array.sum())


def test_processes_share_the_file(tmp_path):
    """Also of a part of it; and a tensor by a file of joblib's."""
    from joblib import Parallel, delayed

    x = np.random.default_rng(0).random((3_000, 100)).astype(np.float32)
    mapped = np.load(save(tmp_path / "x.npy", x), mmap_mode="r")
    given = [as_source(part, in_memory=False) for part in (mapped, mapped[7:2_000], mapped[:, None])]
    given.append(InMemory(torch.from_numpy(x)))
    found = Parallel(n_jobs=2, backend="loky", mmap_mode="c")(delayed(where_from)(data) for data in given)
    assert [kind for kind, _, _ in found[:3]] == 3 * ["memmap"]
    assert {str(name) for _, name, _ in found[:3]} == {str(tmp_path / "x.npy")}
    assert [total for _, _, total in found] == pytest.approx(
        [x.sum(), x[7:2_000].sum(), x.sum(), x.sum()], rel=1e-3
    )


def test_runs_of_a_file(make_config, tmp_path):
    """Bit for bit, in processes of one thread and in this one."""
    path = save(tmp_path / "x.npy", np.random.default_rng(0).random((500, 6)).astype(np.float32))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one, two = (
            fit(path, make_config(J=1), seeds=(0, 1), workers=workers, in_memory=False, progress=False)
            for workers in (1, 2)
        )
    finally:
        torch.set_num_threads(before)
    assert one.scores == two.scores
    assert np.array_equal(one.agreement(path).matrices, two.agreement(path).matrices)
    assert os.listdir(tmp_path) == ["x.npy"]


def test_a_copy_in_memory_is_the_same():
    x = torch.rand(5, 2)
    assert torch.equal(pickle.loads(pickle.dumps(InMemory(x))).x, x)


# --- ten million rows ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_data(tmp_path):
    """As the benchmark measures it: a fit of 600 steps, in a process of its own for each file."""
    script = Path(__file__).parents[1] / "benchmarks" / "streaming.py"
    rng = np.random.default_rng(0)
    path, measured = tmp_path / "x.npy", []
    for n in (100_000, 10_000_000):
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, 32))
        for start in range(0, n, 100_000):
            array[start : start + 100_000] = rng.standard_normal((100_000, 32), np.float32)
        array.flush()
        del array
        command = [sys.executable, str(script), "--measure", str(path), "0", "600"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        measured.append(float(output.split()[-1]))
    path.unlink()
    assert measured[1] - measured[0] < 50, measured
