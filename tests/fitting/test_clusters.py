"""Runs of several seeds on the cluster that joblib is told of."""

import os
import warnings

import dask.array
import joblib
import numpy as np
import pytest
import torch

import pyro_mfcvae as mf
from pyro_mfcvae.data.sources import InMemory

X = np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32)
CONFIG = mf.presets.tabular(clusters=2, latent_dims=2, schedule=mf.Schedule.progressive(1, epochs=2))
SEEDS = range(4)
AGAIN = r"^a process ended before its run did .* the runs of seeds .*2.* begin again"

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:facet")


def runs(**options):
    return mf.fit(X, CONFIG, seeds=SEEDS, device="cpu", precision="float32", progress=False, **options)


def dying_once(marker):
    """A callback that ends the process of seed 2, the first time that it gets there."""

    def end(trainer, record):
        if trainer.seed == 2 and not marker.exists():
            marker.touch()
            os._exit(1)

    return end


@pytest.fixture(scope="module")
def of_loky():
    return runs(workers=2)


def assert_equal_bits(some, others):
    assert some.seeds == others.seeds
    assert some.scores == others.scores
    for one, other in zip(some, others, strict=True):
        states = one.model.state_dict(), other.model.state_dict()
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.fixture(scope="module")
def dask_client():
    distributed = pytest.importorskip("dask.distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_dask_gives_the_same_bits(of_loky, dask_client, monkeypatch):
    sent = []
    reduce = InMemory.__reduce__
    monkeypatch.setattr(InMemory, "__reduce__", lambda self: sent.append(os.getpid()) or reduce(self))
    with joblib.parallel_config("dask"):
        found = runs()
    assert_equal_bits(found, of_loky)
    assert len(sent) == 1  # the data, once, and not with each of the runs


def test_dask_runs_what_a_dead_worker_did_not_end(of_loky, dask_client, tmp_path):
    with joblib.parallel_config("dask"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there is none where another worker has the data, too
        found = runs(callbacks=[dying_once(tmp_path / "died")])
    assert (tmp_path / "died").exists()
    assert_equal_bits(found, of_loky)


def test_an_error_of_a_run_comes_through(dask_client):
    def fail(trainer, record):
        raise LookupError("mine")

    with joblib.parallel_config("dask"), pytest.raises(LookupError, match=r"^mine$"):
        runs(callbacks=[fail])


def test_loky_runs_again_what_a_dead_process_did_not_end(of_loky, tmp_path):
    with pytest.warns(RuntimeWarning, match=AGAIN):
        found = runs(workers=2, callbacks=[dying_once(tmp_path / "died")])
    assert_equal_bits(found, of_loky)


def test_a_process_that_always_dies_is_an_error():
    with (
        pytest.warns(RuntimeWarning, match=AGAIN),
        pytest.raises(ChildProcessError, match=r"^workers: a process ended before its run did, twice"),
    ):
        runs(workers=2, callbacks=[lambda trainer, record: os._exit(1)])


def test_threads_are_no_cluster(of_loky):
    with joblib.parallel_config("threading"):
        assert_equal_bits(runs(workers=2), of_loky)


@pytest.mark.parametrize("scheduler", ["threads", "distributed"])
def test_an_array_of_dask_is_predicted_by_blocks(of_loky, dask_client, scheduler):
    fitted = of_loky.best
    x = dask.array.from_array(X, chunks=(128, X.shape[1]))
    options = {"dtype": np.int64, "chunks": (x.chunks[0], (fitted.num_facets,))}
    clusters = x.map_blocks(fitted.predict, **options).compute(scheduler=scheduler)
    np.testing.assert_array_equal(clusters, fitted.predict(X))


@pytest.fixture(scope="module")
def ray_cluster():
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    register_ray()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.slow  # Ray takes half a minute to start
def test_ray_gives_the_same_bits(of_loky, ray_cluster):
    with joblib.parallel_config("ray"):
        assert_equal_bits(runs(), of_loky)


@pytest.mark.slow
def test_ray_runs_what_a_dead_worker_did_not_end(of_loky, ray_cluster, tmp_path):
    with joblib.parallel_config("ray"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = runs(callbacks=[dying_once(tmp_path / "died")])
    assert (tmp_path / "died").exists()
    assert_equal_bits(found, of_loky)
