"""Data that are not in memory: what training draws of them, and that memory does not grow with them."""

import gc
import os
import pickle
import re
import threading
import time
import tracemalloc
from contextlib import closing
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from pyro_mfcvae import Facet, Schedule, Stage, fit, presets
from pyro_mfcvae.data import choosing, loading, make_facets, sources, stored
from pyro_mfcvae.data.choosing import as_source
from pyro_mfcvae.data.sources import InMemory, Source, cut, on_device, prefetched
from pyro_mfcvae.data.stored import Stored, StoredRows
from pyro_mfcvae.metrics import nmi
from pyro_mfcvae.training import _Run

CPU = torch.device("cpu")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(n, D=3, dtype=np.float32):
    """Rows that say which they are."""
    return np.repeat(np.arange(n, dtype=dtype)[:, None], D, axis=1)


@pytest.fixture
def small_windows(monkeypatch):
    """Chunks of 4 and windows of 24 rows of three float32 numbers."""
    monkeypatch.setattr(stored, "CHUNK", 4 * 12)
    monkeypatch.setattr(stored, "WINDOW", 24 * 12)


@pytest.fixture
def no_threads_left():
    """None of those that prepare data."""
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


class Items(Dataset):
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], "a label"


class Stream(IterableDataset):
    def __init__(self, x):
        self.x = x

    def __iter__(self):
        return iter(self.x)


class CountedStream(Stream):
    def __len__(self):
        return len(self.x)


class Reading(np.ndarray):
    """An array that counts rows that are read."""

    rows = 0

    def __getitem__(self, index):
        part = np.asarray(self)[index]
        Reading.rows += len(part)
        return part


def save(path, x):
    np.save(path, x)
    return path


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
    def interrupted(run, batch, optimizer):
        raise error

    monkeypatch.setattr(_Run, "_step", interrupted)
    path = save(tmp_path / "x.npy", numbered(300, 6) / 300)
    with pytest.raises(error):
        fit(path, make_config(J=1), in_memory=False, progress=False)
    assert os.listdir(tmp_path) == ["x.npy"]


def test_batches_pass_to_the_same_device():
    source = InMemory(torch.from_numpy(numbered(20)))
    batches = on_device(source, source.batches(5, 4, seeded()), CPU)
    for ours, expected in zip(batches, source.batches(5, 4, seeded()), strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_data_that_leave_a_gpu_no_room_stay_in_memory(monkeypatch):
    """Batches are the same, and on the device."""
    device = torch.device("cuda")
    x = torch.rand(1_000, 64)
    on_gpu = InMemory(x).near(device)
    monkeypatch.setattr(sources, "DEVICE_SHARE", 0.0)
    on_host = InMemory(x).near(device)
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
    """Whatever the sizes; what does not fill a batch is left out, and what is held out never comes."""
    source: Source = Stored(StoredRows(numbered(n), "x"))
    left_out = set()
    if 0 < round(held_out * n) < n:
        source, rows = source.hold_out(held_out, 0)
        left_out = set(rows[:, 0].tolist())
        assert len(left_out) == len(rows) == round(held_out * n)
    size = min(batch_size, len(source))
    count = len(source) // size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "CHUNK", 12 * chunk)
        patch.setattr(stored, "WINDOW", 12 * window)
        batches = list(source.batches(batch_size, count, seeded()))
    assert [batch.shape for batch in batches] == count * [(size, 3)]
    seen = torch.cat(batches)[:, 0].tolist()
    assert len(set(seen)) == len(seen) == count * size
    assert set(seen) | left_out <= set(range(n))
    assert not set(seen) & left_out
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
    assert batch.dtype == torch.float32
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
    monkeypatch.setattr(stored, "WINDOW", 2**18)
    monkeypatch.setattr(stored, "CHUNK", 2**13)
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
    assert peaks[0] < 5 * 2**18
    assert peaks[1] < peaks[0] + 2**17


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

    monkeypatch.setattr(stored, "prefetched", without)
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
    monkeypatch.setattr(stored, "CHUNK", 16 * x[0].nbytes)
    monkeypatch.setattr(stored, "WINDOW", 512 * x[0].nbytes)
    path = save(tmp_path / "x.npy", x)
    stage = Stage((0, 1), steps=120, warm_up_steps=40, batch_size=80, learning_rate=5e-3)
    config = presets.tabular(facets=(Facet(3, 2), Facet(4, 2)), schedule=Schedule((stage,)))
    for in_memory in (True, False):
        clusters = fit(path, config, in_memory=in_memory, progress=False).predict(path)
        assert [nmi(clusters[:, j], labels[:, j]) for j in (0, 1)] == pytest.approx([1, 1], abs=0.02), (
            in_memory
        )


def test_what_depends_on_all_data_is_taken_from_a_sample(make_config, tmp_path, monkeypatch):
    """Scales, and the preset where there is no configuration; history and mixtures as well."""
    monkeypatch.setattr(sources, "LOOKED_AT", 50)
    x = np.random.default_rng(0).normal(3, 2, size=(2_000, 6)).astype(np.float32)
    path = save(tmp_path / "x.npy", x)
    Reading.rows = 0
    config = make_config(J=1, likelihood=presets.tabular().likelihood)
    fitted = fit(path, config, in_memory=False, progress=False)
    sample = as_source(path, in_memory=False).looked_at()
    assert sample.shape == (50, 6)
    assert torch.allclose(fitted.model.likelihood.loc, sample.mean(0))
    assert fitted.history[-1].steps == 2 * (2_000 // 32)


def test_held_out_rows_are_at_most_so_many(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "HELD_OUT", 20)
    path = save(tmp_path / "x.npy", numbered(200, 6) / 200)
    config = make_config(J=1, schedule=Schedule((Stage((0,), 2, 30),), held_out=0.5))
    fitted = fit(path, config, in_memory=False, progress=False)
    assert [record.steps for record in fitted.history] == [6, 12]
    assert all(np.isfinite(record.held_out_elbo) for record in fitted.history)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_rows_that_are_not_finite(make_config, tmp_path, monkeypatch, bad, small_windows, no_threads_left):
    """One in 1,000, that no sample has seen; the message says which it is."""
    monkeypatch.setattr(sources, "LOOKED_AT", 5)
    monkeypatch.setattr("pyro_mfcvae.training.EMBEDDING_SIZE", 5)
    x = np.random.default_rng(0).random((1_000, 3))
    x[777, 1] = bad
    path = save(tmp_path / "x.npy", x)
    message = r"^dataset contains NaN or infinity \(as float32\) in 1 of 4 rows, the first is row 777:"
    with pytest.raises(ValueError, match=message):
        fit(path, make_config(J=1), in_memory=False, progress=False)
    rows = "1 of 488 rows, the first is row 777"
    with pytest.raises(ValueError, match=rf"^x contains NaN or infinity \(as float32\) in {rows}"):
        fit(x[:700], make_config(J=1), progress=False).predict(path)


def test_rows_that_are_invalid(make_config, tmp_path, monkeypatch, small_windows):
    monkeypatch.setattr(sources, "LOOKED_AT", 5)
    monkeypatch.setattr("pyro_mfcvae.training.EMBEDDING_SIZE", 5)
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


# --- datasets and loaders -----------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_every_item_once_an_epoch(monkeypatch, workers):
    monkeypatch.setattr(loading, "WORKERS", workers)
    source, held_out = as_source(Items(numbered(50)), in_memory=False).hold_out(0.2, 0)
    for generator in (seeded(0), seeded(1)):
        batches = list(source.batches(8, 5, generator))
        assert [batch.shape for batch in batches] == 5 * [(8, 3)]
        seen = torch.cat([*batches, held_out])[:, 0].tolist()
        assert sorted(seen) == list(range(50))
    assert len(next(source.batches(100, 1, seeded()))) == 40
    assert len(source.sample(30, seeded())[:, 0].unique()) == 30


def test_the_order_of_items_is_that_of_the_seed():
    source = as_source(Items(numbered(40)), in_memory=False)
    orders = [torch.cat(list(source.batches(8, 5, seeded(seed)))) for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


class Noisy(Items):
    """Other data whenever they are asked for."""

    def __getitem__(self, index):
        return torch.rand(3)


@pytest.mark.parametrize("workers", [0, 2])
def test_random_transforms_are_of_the_seed_and_of_the_epoch(make_config, monkeypatch, workers):
    monkeypatch.setattr(loading, "WORKERS", workers)
    source = as_source(Noisy(numbered(40)), in_memory=False)
    torch.manual_seed(0)
    generator = seeded()
    epochs = [torch.cat(list(source.batches(8, 5, generator))) for _ in range(2)]
    assert not torch.equal(*(epoch.sort(0).values for epoch in epochs))
    fits = [fit(Noisy(numbered(64)), make_config(J=1), in_memory=False, progress=False) for _ in range(2)]
    assert fits[0].history[-1].elbo == fits[1].history[-1].elbo


@pytest.mark.parametrize(
    "data",
    [
        DataLoader(TensorDataset(torch.from_numpy(numbered(50))), batch_size=7, shuffle=True),
        DataLoader(Items(numbered(50)), batch_size=60, shuffle=True, num_workers=1),
        CountedStream(torch.from_numpy(numbered(50))),
        DataLoader(CountedStream(numbered(50)), batch_size=3),
    ],
    ids=["loader", "workers", "stream", "loader of a stream"],
)
def test_batches_of_others_are_cut_anew(data, make_config):
    source = as_source(data, in_memory=False)
    assert (len(source), source.x_shape) == (50, (3,))
    batches = list(source.batches(8, 6, seeded()))
    assert [batch.shape for batch in batches] == 6 * [(8, 3)]
    assert len(torch.cat(batches)[:, 0].unique()) == 48
    assert sorted(source.sample(99, seeded())[:, 0].tolist()) == list(range(50))
    schedule = Schedule((Stage((0,), 2, 8),), held_out=0.1)
    config = make_config(J=1, likelihood="gaussian", schedule=schedule)
    with pytest.raises(ValueError, match=r"held_out: got 0.1, but a DataLoader that is streamed cannot"):
        fit(data, config, in_memory=False, progress=False)


def test_a_loader_that_drops_its_last_batch():
    loader = DataLoader(Items(numbered(50)), 8, shuffle=True, drop_last=True)
    source = as_source(loader, in_memory=False)
    assert len(source) == 48
    assert len(torch.cat(list(source.batches(48, 1, seeded())))[:, 0].unique()) == 48


def test_a_dataset_and_a_loader_train(make_config):
    x = np.random.default_rng(0).random((200, 6)).astype(np.float32)
    for data in (Items(x), DataLoader(Items(x), 50, shuffle=True)):
        fits = [fit(data, make_config(J=1), in_memory=False, progress=False) for _ in range(2)]
        assert np.array_equal(*(fitted.predict(x) for fitted in fits))
        assert fits[0].history[-1].steps == 2 * (200 // 32)


def test_items_that_are_not_finite(make_config):
    x = np.random.default_rng(0).random((200, 6))
    x[50] = np.nan
    for data in (Items(x), DataLoader(Items(x), 50, shuffle=True)):
        with pytest.raises(ValueError, match=r"^dataset contains NaN or infinity"):
            fit(data, make_config(J=1), in_memory=False, progress=False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Stream(numbered(9)), "its length is not known"),
        (DataLoader(Stream(numbered(9)), 3), "its length is not known.*in_memory=True"),
        (DataLoader(Items(numbered(9)), 3), "does not shuffle; give it shuffle=True"),
        (DataLoader(Items(numbered(9)), batch_size=None), "no batch_size"),
        (Items(numbered(0)), "is empty"),
        (Items(np.zeros(5)), r"has shape \(5,\), expected"),
        (CountedStream([]), "gave no item"),
        (np.zeros((0, 3)), "is empty"),
        (np.zeros(3), r"has shape \(3,\), expected"),
    ],
)
def test_what_cannot_be_streamed(data, message, make_config):
    with pytest.raises(ValueError, match=f"^dataset.*{message}"):
        fit(data, make_config(J=1), in_memory=False, progress=False)


@pytest.mark.parametrize("data", [[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], None, 3])
def test_what_is_no_array_cannot_be_streamed(data, make_config):
    with pytest.raises(TypeError, match=r"^dataset is a .*in_memory=False cannot stream; expected an array"):
        fit(data, make_config(J=1), in_memory=False, progress=False)


def test_numbers_that_are_not_real():
    with pytest.raises(TypeError, match=r"^dataset has dtype complex128"):
        as_source(np.zeros((3, 2), complex), in_memory=False)


# --- the choice ---------------------------------------------------------------------------------


def test_large_data_are_streamed(tmp_path, monkeypatch):
    """Larger as float32, that is, than a quarter of the memory that is available."""
    path = save(tmp_path / "x.npy", np.zeros((100, 10), np.uint8))
    mapped = np.load(path, mmap_mode="r")
    items = Items(np.zeros((100, 10), np.uint8))
    large = [path, str(path), mapped, (mapped, np.zeros(100, int)), items, DataLoader(items, 5, shuffle=True)]
    never = [np.zeros((100, 10)), TensorDataset(torch.zeros(100, 10)), Stream(np.zeros((100, 10)))]
    for available, is_streamed in ((4 * 4_000, False), (4 * 3_999, True)):
        monkeypatch.setattr(choosing, "_available_memory", lambda available=available: available)
        assert [isinstance(as_source(data), InMemory) for data in large] == len(large) * [not is_streamed]
        assert all(isinstance(as_source(data), InMemory) for data in never)
        assert all(isinstance(as_source(data, in_memory=True), InMemory) for data in large)
        assert not any(isinstance(as_source(data, in_memory=False), InMemory) for data in large)


def test_available_memory():
    assert 2**20 < choosing._available_memory() < 2**50


@pytest.mark.parametrize("in_memory", [None, "yes", 1.5])
def test_other_values_of_in_memory(in_memory, make_config):
    with pytest.raises(ValueError, match=r"in_memory: got .*, expected True, False or 'auto'"):
        fit(numbered(9), make_config(J=1), in_memory=in_memory, progress=False)


def test_paths(tmp_path, make_config):
    with pytest.raises(FileNotFoundError, match=r"^dataset: there is no file .*nothing\.npy"):
        fit(tmp_path / "nothing.npy", make_config(J=1), progress=False)
    (tmp_path / "x.npy").write_bytes(b"not an array")
    with pytest.raises(ValueError, match=r"^dataset: .*x\.npy is not an array that NumPy can map"):
        fit(tmp_path / "x.npy", make_config(J=1), progress=False)
    np.savez(tmp_path / "x.npz", x=numbered(9))
    with pytest.raises(ValueError, match=r"^dataset: .*x\.npz is not an array that NumPy can map"):
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


def anonymous():
    """MiB of this process that no file backs."""
    with open("/proc/self/status", encoding="ascii") as file:
        return int(re.search(r"RssAnon:\s+(\d+)", file.read())[1]) / 1024


def growth(path, config):
    """Largest growth of anonymous memory during a fit."""
    gc.collect()
    before = largest = anonymous()
    is_over = threading.Event()

    def watch():
        nonlocal largest
        while not is_over.is_set():
            largest = max(largest, anonymous())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        fit(path, config, in_memory=False, progress=False)
    finally:
        is_over.set()
        watcher.join()
    return largest - before


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_data(tmp_path):
    stage = Stage((0,), steps=600, batch_size=256, warm_up_steps=100)
    config = presets.tabular(facets=(Facet(3, 2),), schedule=Schedule((stage,)))
    rng = np.random.default_rng(0)
    path, measured = tmp_path / "x.npy", []
    for n in (100_000, 100_000, 10_000_000):  # the first fit of a process allocates what all of them use
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, 32))
        for start in range(0, n, 100_000):
            array[start : start + 100_000] = rng.standard_normal((100_000, 32), np.float32)
        array.flush()
        del array
        measured.append(growth(path, config))
    path.unlink()
    assert measured[-1] - measured[-2] < 50
