"""Data that are not in memory: what training draws of them, and that memory does not grow with them."""

import os
import threading
import tracemalloc
from contextlib import closing
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numbered import numbered, save, seeded
from side_by_side import side_by_side
from torch._subclasses.fake_tensor import FakeTensorMode

from pyro_mfcvae import Facet, Schedule, Stage, fit, presets
from pyro_mfcvae.data import make_facets, memmap, sources
from pyro_mfcvae.data.choosing import as_source
from pyro_mfcvae.data.memmap import Stored, StoredRows
from pyro_mfcvae.data.sources import InMemory, Source, cut, on_device, prefetched
from pyro_mfcvae.metrics import nmi

CPU = torch.device("cpu")


@pytest.fixture
def small_windows(monkeypatch):
    """Chunks of 4 and windows of 24 rows of three float32 numbers."""
    monkeypatch.setattr(memmap, "CHUNK", 4 * 12)
    monkeypatch.setattr(memmap, "WINDOW", 24 * 12)


@pytest.fixture
def no_threads_left():
    """None of those that prepare data."""
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


class Reading(np.ndarray):
    """An array that counts rows that are read."""

    rows = 0

    def __getitem__(self, index):
        part = np.asarray(self)[index]
        Reading.rows += len(part)
        return part


# --- in memory ----------------------------------------------------------------------------------


def test_batches_in_memory_are_those_of_a_permutation():
    """Drawn by the generator at the start of every epoch, and the sample before by another."""
    x = torch.from_numpy(numbered(50))
    source, generator, expected = InMemory(x), seeded(7), seeded(7)
    sample = torch.randperm(50, generator=expected)[:20]
    assert torch.equal(source.sample(20, generator), x[sample])
    for count in (6, 2, 6):
        order = torch.randperm(50, generator=expected)
        for i, batch in enumerate(source.batches(8, count, generator)):
            assert torch.equal(batch, x[order[8 * i : 8 * (i + 1)]])
        assert i == count - 1


def test_held_out_of_memory():
    x = torch.from_numpy(numbered(50))
    rest, held_out = InMemory(x).hold_out(0.2, seed=3)
    order = torch.randperm(50, generator=seeded(3))
    assert torch.equal(held_out, x[order[:10]])
    assert torch.equal(rest.x, x[order[10:]])


# --- pieces -------------------------------------------------------------------------------------


@given(lengths=st.lists(st.integers(0, 20), max_size=8), size=st.integers(1, 15))
def test_cut_keeps_rows_and_their_order(lengths, size):
    rows = torch.arange(sum(lengths))
    batches = list(cut(rows.split(lengths), size)) if lengths else []
    assert all(len(batch) == size for batch in batches)
    assert len(batches) == len(rows) // size
    assert torch.equal(torch.cat([rows[:0], *batches]), rows[: len(batches) * size])


def test_items_are_made_one_ahead_in_another_thread(no_threads_left):
    made = []

    def make():
        for i in range(5):
            made.append(threading.current_thread())
            yield i

    with closing(prefetched(make())) as items:
        assert next(items) == 0
        assert list(items) == [1, 2, 3, 4]
    assert threading.main_thread() not in made
    assert len(set(made)) == 1


def test_an_error_in_the_thread_reaches_the_caller(no_threads_left):
    def make():
        yield 1
        raise OSError("disk on fire")

    items = prefetched(make())
    assert next(items) == 1
    with pytest.raises(OSError, match=r"disk on fire"):
        next(items)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_no_thread_survives_an_interruption(make_config, tmp_path, monkeypatch, error, no_threads_left):
    def interrupted(optimizer, closure=None):
        raise error

    monkeypatch.setattr(torch.optim.Adam, "step", interrupted)
    path = save(tmp_path / "x.npy", numbered(300, 6) / 300)
    with pytest.raises(error):
        fit(path, make_config(J=1), in_memory=False, progress=False)
    assert os.listdir(tmp_path) == ["x.npy"]


def test_batches_pass_to_the_same_device():
    source = InMemory(torch.from_numpy(numbered(20)))
    batches = on_device(source, source.batches(5, 4, seeded()), CPU)
    for ours, expected in zip(batches, source.batches(5, 4, seeded()), strict=True):
        assert torch.equal(ours, expected)


def test_batches_pass_to_another_device():
    source = InMemory(torch.from_numpy(numbered(20)))
    batches = list(on_device(source, source.batches(5, 4, seeded()), torch.device("meta")))
    assert [(batch.device.type, batch.shape) for batch in batches] == 4 * [("meta", (5, 3))]


def test_batches_pass_from_one_gpu_to_another():
    """Which need not exist; locked pages are the host's alone."""
    with FakeTensorMode():
        source = InMemory(torch.empty(20, 3, device="cuda:0"))
        for number in (0, 1):
            batches = iter([torch.empty(5, 3, device="cuda:0")])
            (batch,) = on_device(source, batches, torch.device("cuda", number))
            assert batch.device == torch.device("cuda", number)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_data_that_leave_a_gpu_no_room_stay_in_memory(monkeypatch):
    """Batches are the same, and on the device."""
    device = torch.device("cuda")
    x = torch.rand(1_000, 64)
    on_gpu = InMemory(x).to(device)
    monkeypatch.setattr(sources, "DEVICE_SHARE", 0.0)
    on_host = InMemory(x).to(device)
    assert (on_gpu.device.type, on_host.device.type) == ("cuda", "cpu")
    generators = [torch.Generator(device=device).manual_seed(0) for _ in range(2)]
    for _ in range(3):
        batches = [
            list(on_device(source, source.batches(32, 31, generator), device))
            for source, generator in zip((on_gpu, on_host), generators, strict=True)
        ]
        for a, b in zip(*batches, strict=True):
            assert b.device.type == "cuda"
            assert torch.equal(a, b)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_file_trains_on_a_gpu(make_config, tmp_path):
    path = save(tmp_path / "x.npy", numbered(300, 6) / 300)
    fitted = fit(path, make_config(J=1), in_memory=False, device="cuda", progress=False)
    assert np.isfinite(fitted.score(path))


# --- arrays on disk -----------------------------------------------------------------------------


@given(
    n=st.integers(1, 200),
    chunk=st.integers(1, 50),
    window=st.integers(1, 120),
    batch_size=st.integers(1, 40),
    held_out=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_every_datum_once_an_epoch(n, chunk, window, batch_size, held_out):
    """Whatever the sizes, and each is checked under its number.

    What does not fill a batch is left out, and what is held out never comes.
    """
    checked = set()
    source: Source = Stored(StoredRows(numbered(n), "x"))
    source = source.checked(lambda x, rows: checked.update(zip(x[:, 0].tolist(), rows, strict=True)))
    left_out = set()
    if 0 < round(held_out * n) < n:
        source, rows = source.hold_out(held_out, 0)
        left_out = set(rows[:, 0].tolist())
        assert len(left_out) == len(rows) == round(held_out * n)
    size = min(batch_size, len(source))
    count = len(source) // size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memmap, "CHUNK", 12 * chunk)
        patch.setattr(memmap, "WINDOW", 12 * window)
        batches = list(source.batches(batch_size, count, seeded()))
    assert [batch.shape for batch in batches] == count * [(size, 3)]
    seen = torch.cat(batches)[:, 0].tolist()
    assert len(set(seen)) == len(seen) == count * size
    assert set(seen) | left_out <= set(range(n))
    assert not set(seen) & left_out
    assert checked >= {(row, row) for row in seen}
    sample = source.sample(15, seeded())[:, 0].tolist()
    assert len(set(sample)) == len(sample) == min(15, len(source))
    assert not set(sample) & left_out


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4", "float16", "uint8", "int16", "bool"])
def test_rows_are_those_that_are_read_whole(dtype, tmp_path):
    x = np.random.default_rng(0).normal(scale=50, size=(40, 2, 3)).clip(0).astype(dtype)
    path = save(tmp_path / "x.npy", x)
    expected = as_source(x, in_memory=True).x
    source = as_source(path, in_memory=False)
    assert isinstance(source, Stored)
    assert torch.equal(torch.cat(list(source.rows.split(7))), expected)
    batch = next(iter(source.batches(40, 1, seeded())))
    assert batch.dtype == (torch.float64 if dtype == "float64" else torch.float32)
    assert next(iter(source.as_type(torch.float32).batches(40, 1, seeded()))).dtype == torch.float32
    assert sorted(map(tuple, batch.flatten(1).tolist())) == sorted(map(tuple, expected.flatten(1).tolist()))


def test_samples_are_uniform():
    """Also where rows are held out before them: 3,000 draws of 2 of 10 rows, 5 standard deviations."""
    source, held_out = Stored(StoredRows(numbered(12), "x")).hold_out(2 / 12, 0)
    generator = seeded()
    draws = torch.cat([source.sample(2, generator)[:, 0] for _ in range(3_000)])
    counts = torch.bincount(draws.long(), minlength=12)
    kept = [i for i in range(12) if i not in held_out[:, 0].tolist()]
    assert counts.sum() == counts[kept].sum() == 6_000
    assert (counts[kept] - 600).abs().max() < 5 * (600 * 0.8) ** 0.5


def test_the_rows_of_a_sorted_file_are_mixed():
    """With the sizes that are used: a batch has every class about as often as a random one."""
    labels = np.repeat(np.arange(10, dtype=np.float32), 100_000)
    x = np.broadcast_to(labels[:, None], (1_000_000, 32))
    source = Stored(StoredRows(x, "x"))
    counts = np.stack(
        [
            np.bincount(batch[:, 0].int(), minlength=10)
            for batch in islice(source.batches(500, 300, seeded()), 300)
        ]
    )
    # Of a binomial, 50 +- 6.7; chunks of the same class make it somewhat more.
    assert counts.std() < 11
    assert counts.max() < 120


def test_memory_is_bounded_by_windows(monkeypatch):
    """Peak of allocations, and rows that are read, for ten times as many rows."""
    monkeypatch.setattr(memmap, "WINDOW", 2**18)
    monkeypatch.setattr(memmap, "CHUNK", 2**13)
    peaks = []
    for n in (20_000, 200_000):
        array = np.zeros((n, 32), np.float32).view(Reading)
        source = Stored(StoredRows(array, "x"))
        list(source.batches(256, 40, seeded()))
        Reading.rows = 0
        tracemalloc.start()
        for _ in source.batches(256, 40, seeded()):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert Reading.rows <= 40 * 256 + 3 * 2**18 // 128
    assert max(peaks) < 5 * 2**18  # how much of it depends on what the thread that reads is ahead


def test_reading_is_in_chunks():
    """Each of them one read, of neighbours, in the order of the file within a window."""
    array = np.zeros((100_000, 32), np.float32).view(Reading)
    reads = []
    plain = Reading.__getitem__

    def spy(self, index):
        reads.append(index)
        return plain(self, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reading, "__getitem__", spy)
        list(Stored(StoredRows(array, "x")).batches(1000, 100, seeded()))
    assert len(reads) == -(-100_000 // 512)
    assert all(index.stop - index.start <= 512 for index in reads)
    assert sorted(reads, key=lambda index: index.start) == reads  # one window


def test_prefetching_does_not_change_the_result(make_config, tmp_path, small_windows, monkeypatch):
    path = save(tmp_path / "x.npy", np.random.default_rng(0).random((200, 3)))
    config = make_config(J=1)

    def parameters():
        fitted = fit(path, config, in_memory=False, seed=4, progress=False)
        return fitted.model.state_dict()

    first, again = parameters(), parameters()

    def without(items):
        yield from items

    monkeypatch.setattr(memmap, "prefetched", without)
    for other in (again, parameters()):
        assert all(torch.equal(value, other[name]) for name, value in first.items())


def test_seeds_give_other_orders():
    source = Stored(StoredRows(numbered(100), "x"))
    orders = [torch.cat(list(source.batches(10, 10, seeded(seed))))[:, 0] for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


def test_a_sorted_file_trains_as_well_as_memory(tmp_path, monkeypatch):
    """Two independent partitions, sorted by both, in windows of an eighth of the file."""
    data = make_facets((3, 4), n=4_000, seed=0)
    labels = data.labels.numpy()
    order = np.lexsort(labels.T)
    x, labels = data.x[order].numpy(), labels[order]
    monkeypatch.setattr(memmap, "CHUNK", 16 * x[0].nbytes)
    monkeypatch.setattr(memmap, "WINDOW", 512 * x[0].nbytes)
    path = save(tmp_path / "x.npy", x)
    stage = Stage((0, 1), steps=120, warm_up_steps=40, batch_size=80, learning_rate=5e-3)
    config = side_by_side((Facet(3, 2), Facet(4, 2)), schedule=Schedule((stage,)))
    for in_memory in (True, False):
        clusters = fit(path, config, in_memory=in_memory, progress=False).predict(path)
        assert [nmi(clusters[:, j], labels[:, j]) for j in (0, 1)] == pytest.approx([1, 1], abs=0.02), (
            in_memory
        )


def test_what_depends_on_all_data_is_taken_from_a_sample(make_config, tmp_path, monkeypatch):
    """Scales, and the preset where there is no configuration; history and mixtures as well."""
    monkeypatch.setattr(sources, "CALIBRATION_SAMPLE", 50)
    x = np.random.default_rng(0).normal(3, 2, size=(2_000, 6)).astype(np.float32)
    path = save(tmp_path / "x.npy", x)
    config = make_config(J=1, likelihood=presets.tabular().likelihood)
    fitted = fit(path, config, in_memory=False, progress=False)
    sample = as_source(path, in_memory=False).calibration_sample()
    assert sample.shape == (50, 6)
    assert torch.allclose(fitted.model.likelihood.loc, sample.double().mean(0))
    assert fitted.history[-1].steps == 2 * (2_000 // 32)


def test_held_out_rows_are_at_most_so_many(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr(memmap, "HELD_OUT", 20)
    path = save(tmp_path / "x.npy", numbered(200, 6) / 200)
    config = make_config(J=1, schedule=Schedule((Stage((0,), 2, 30),), held_out=0.5))
    fitted = fit(path, config, in_memory=False, progress=False)
    assert [record.steps for record in fitted.history] == [6, 12]
    assert all(np.isfinite(record.held_out_elbo) for record in fitted.history)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_rows_that_are_not_finite(make_config, tmp_path, monkeypatch, bad, small_windows, no_threads_left):
    """One in 1,000, that no sample has seen; the message says which it is."""
    monkeypatch.setattr(sources, "CALIBRATION_SAMPLE", 5)
    monkeypatch.setattr("pyro_mfcvae.training.loop.EMBEDDING_SIZE", 5)
    x = np.random.default_rng(0).random((1_000, 3))
    x[777, 1] = bad
    path = save(tmp_path / "x.npy", x)
    message = r"^dataset: got NaN or infinity \(as float32\) in 1 of 4 rows, the first is row 777,"
    with pytest.raises(ValueError, match=message):
        fit(path, make_config(J=1), in_memory=False, progress=False)
    rows = "1 of 488 rows, the first is row 777"
    with pytest.raises(ValueError, match=rf"^x: got NaN or infinity \(as float32\) in {rows}"):
        fit(x[:700], make_config(J=1), progress=False).predict(path)


def test_rows_that_are_invalid(make_config, tmp_path, monkeypatch, small_windows):
    monkeypatch.setattr(sources, "CALIBRATION_SAMPLE", 5)
    monkeypatch.setattr("pyro_mfcvae.training.loop.EMBEDDING_SIZE", 5)
    x = np.random.default_rng(0).random((1_000, 3))
    x[777] = 2
    path = save(tmp_path / "x.npy", x)
    config = make_config(J=1, likelihood="bernoulli")
    with pytest.raises(ValueError, match=r"^dataset, rows 776 to 779"):
        fit(path, config, in_memory=False, progress=False)
    fitted = fit(x[:700], config, progress=False)
    fitted.predict(path)  # as of an array
    for method in (fitted.score, fitted.log_likelihood):
        with pytest.raises(ValueError, match=r"^x, rows 512 to 999"):
            method(path)


def test_rows_are_checked_once(tmp_path, small_windows):
    seen = []
    source = Stored(StoredRows(numbered(100), "x")).checked(lambda x, rows: seen.append(len(x)))
    list(source.batches(10, 3, seeded()))  # not all of them yet
    for _ in range(3):
        list(source.batches(10, 10, seeded()))
    assert 100 < sum(seen) <= 200


def test_missing_entries_are_kept(tmp_path, make_config):
    x = np.random.default_rng(0).random((300, 4)).astype(np.float32)
    x[::5, 1] = np.nan
    path = save(tmp_path / "x.npy", x)
    fitted = fit(path, make_config(J=1, likelihood="mixed"), in_memory=False, progress=False)
    complete = fitted.impute(path)
    assert np.isfinite(complete).all()
    assert np.array_equal(complete[~np.isnan(x)], x[~np.isnan(x)])
