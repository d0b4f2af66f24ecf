"""Data that a Dataset or a DataLoader makes as training needs them."""

import itertools

import numpy as np
import pytest
import torch
from numbered import CountedStream, Items, Stream, numbered, seeded
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from pyro_mfcvae import Facet, Schedule, Stage, fit
from pyro_mfcvae.data import loading
from pyro_mfcvae.data.choosing import as_source


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
    with pytest.raises(
        ValueError,
        match=r"held_out: got 0.1, expected 0 for a DataLoader or IterableDataset",
    ):
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


class Endless(IterableDataset):
    """Numbers that go on, whose iterators say how many there were."""

    def __iter__(self):
        return (np.full(3, i, np.float32) for i in itertools.count())


@pytest.mark.parametrize("make", [Endless, lambda: DataLoader(Endless(), 5)], ids=["stream", "loader"])
def test_a_stream_goes_on_in_the_next_epoch(make):
    source = as_source(make(), in_memory=False)
    generator = seeded()
    seen = [batch[:, 0].tolist() for _ in range(2) for batch in source.batches(5, 3, generator)]
    numbers = [number for batch in seen for number in batch]
    assert numbers[:15] == list(range(15))
    assert numbers[15] > 14
    assert len(set(numbers)) == 30


def test_a_stream_that_ends_begins_anew():
    source = as_source(Stream(numbered(7)), in_memory=False)
    batches = torch.cat(list(source.batches(7, 3, seeded())))
    assert batches[:, 0].tolist() == 3 * list(range(7))
    assert len(source.sample(99, seeded())) == 7


def streams(**changes):
    return Schedule((Stage((0,), steps=30, batch_size=8, **changes),))


def test_data_of_unknown_number_train_by_steps(make_config, monkeypatch):
    monkeypatch.setattr(loading, "EPOCH", 80)
    x = np.random.default_rng(0).random((200, 6)).astype(np.float32)
    config = make_config(J=1, schedule=streams(warm_up_steps=5))
    fits = [fit(Stream(x), config, in_memory=False, progress=False) for _ in range(2)]
    assert np.array_equal(*(fitted.predict(x) for fitted in fits))
    assert (len(fits[0].history), fits[0].history[-1].steps) == (4, 30)  # the warm-up is one of its own
    assert len(fit(Stream(x), config, seeds=range(2), workers=1, in_memory=False, progress=False)) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "epochs: got 2 in stage 0 for data whose number is not known, expected steps"),
        (
            {"schedule": Schedule((Stage((0,), steps=30, warm_up_epochs=1),))},
            r"warm_up_epochs: got 1 .*expected warm_up_steps",
        ),
        ({"schedule": Schedule(streams().stages, held_out=0.1)}, r"held_out: got 0\.1, expected 0"),
        (
            {"schedule": streams(), "facets": (Facet(2, 2, prior="bayesian_gaussian"),)},
            "prior: got one for facet 0 with variables that all data share",
        ),
    ],
)
def test_what_data_of_unknown_number_cannot_do(changes, message, make_config):
    with pytest.raises(ValueError, match=message):
        fit(Stream(numbered(50) / 50), make_config(J=1, **changes), in_memory=False, progress=False)


def test_items_that_are_not_finite(make_config):
    x = np.random.default_rng(0).random((200, 6))
    x[50] = np.nan
    for data in (Items(x), DataLoader(Items(x), 50, shuffle=True)):
        with pytest.raises(ValueError, match=r"^dataset: got NaN or infinity"):
            fit(data, make_config(J=1), in_memory=False, progress=False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataLoader(Items(numbered(9)), 3), "does not shuffle, .*; give it shuffle=True"),
        (DataLoader(Items(numbered(9)), batch_size=None), "no batch_size"),
        (Items(numbered(0)), "got no data"),
        (Items(np.zeros(5)), r"got shape \(5,\), expected"),
        (CountedStream([]), "got no data, not a single item"),
        (np.zeros((0, 3)), "got no data"),
        (np.zeros(3), r"got shape \(3,\), expected"),
    ],
)
def test_what_cannot_be_streamed(data, message, make_config):
    with pytest.raises(ValueError, match=f"^dataset: .*{message}"):
        fit(data, make_config(J=1), in_memory=False, progress=False)
