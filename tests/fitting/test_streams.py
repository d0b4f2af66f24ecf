"""Training on streams: shards of tar files, and what has no end."""

import io
import itertools
import tarfile

import numpy as np
import psutil
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

import pyro_mfcvae as mf
from pyro_mfcvae.data.choosing import as_source

CENTRES = np.array([[0, 0, 0], [3, 0, 3], [0, 3, 3]], np.float32)


def by_steps(steps):
    stage = mf.Stage((0,), steps=steps, batch_size=32, warm_up_steps=steps // 4)
    return mf.presets.tabular(clusters=3, latent_dims=2, schedule=mf.Schedule((stage,)))


def blobs(count, seed=0):
    rng = np.random.default_rng(seed)
    k = rng.integers(0, 3, count)
    return (CENTRES[k] + 0.2 * rng.normal(size=(count, 3))).astype(np.float32), k


class Shards(IterableDataset):
    """Arrays in tar files, of which each worker reads its own."""

    def __init__(self, paths, size=None):
        self.paths, self.size = paths, size

    def __iter__(self):
        worker = get_worker_info()
        mine = self.paths if worker is None else self.paths[worker.id :: worker.num_workers]
        data = itertools.chain.from_iterable(map(self.read, mine))
        if self.size is None:
            return data
        return map(np.stack, iter(lambda: list(itertools.islice(data, self.size)), []))

    @staticmethod
    def read(path):
        with tarfile.open(path) as shard:
            for member in shard:
                yield np.frombuffer(shard.extractfile(member).read(), np.float32).copy()


@pytest.fixture
def shards(tmp_path):
    x, _ = blobs(600)
    paths = [tmp_path / f"{i}.tar" for i in range(4)]
    for path, rows in zip(paths, np.split(x, 4), strict=True):
        with tarfile.open(path, "w") as shard:
            for i, row in enumerate(rows):
                member = tarfile.TarInfo(f"{i:05d}.bin")
                member.size = row.nbytes
                shard.addfile(member, io.BytesIO(row.tobytes()))
    return paths


@pytest.mark.parametrize("size", [None, 20], ids=["batches of the loader", "batches of the stream"])
def test_each_worker_reads_its_shards(shards, size):
    batch_size = 20 if size is None else None  # as in WebDataset, whose pipeline makes batches itself
    loader = DataLoader(Shards(shards, size), batch_size=batch_size, num_workers=2)
    batches = as_source(loader, in_memory=False).batches(20, 30, torch.Generator())
    seen = torch.cat(list(batches)).numpy()
    np.testing.assert_array_equal(np.sort(seen, axis=0), np.sort(blobs(600)[0], axis=0))
    fits = [mf.fit(loader, by_steps(100), in_memory=False, device="cpu", progress=False) for _ in range(2)]
    x, k = blobs(300, seed=1)
    clusters = fits[0].predict(x)
    np.testing.assert_array_equal(clusters, fits[1].predict(x))
    assert mf.metrics.nmi(clusters[:, 0], k) > 0.9
    assert fits[0].history[-1].steps == 100


class Endless(IterableDataset):
    """Blobs that never end, and are never the same, with each number forty times."""

    def __iter__(self):
        return (row for seed in itertools.count() for row in blobs(1_000, seed)[0].repeat(40, 1))


@pytest.mark.slow
def test_a_stream_without_an_end_takes_no_more_memory_in_time():
    process, sizes = psutil.Process(), []  # a peak might be that of another test

    def look(trainer, record):
        sizes.append(process.memory_info().rss)

    # Records are EPOCH data apart: of 1,024 data in a step, 64 steps.
    stage = mf.Stage((0,), steps=1_000, batch_size=1_024, warm_up_steps=100)
    config = mf.presets.tabular(clusters=3, latent_dims=2, schedule=mf.Schedule((stage,)))
    fitted = mf.fit(Endless(), config, in_memory=False, device="cpu", progress=False, callbacks=[look])
    assert fitted.history[-1].steps == 1_000
    assert len(sizes) > 10
    assert max(sizes[3:]) - sizes[2] < 50e6  # the data in between have 400e6 bytes
    x, k = blobs(300, seed=1)
    assert mf.metrics.nmi(fitted.predict(x.repeat(40, 1))[:, 0], k) > 0.9
