"""A latent is unmixed into facets: what is found in it, and training through it."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch

from pyro_mfcvae import MFCVAE, Facet, MFCVAEConfig, Schedule, Stage, fit, likelihoods, load
from pyro_mfcvae.data import make_facets
from pyro_mfcvae.metrics import nmi
from pyro_mfcvae.networks import FullyConnectedLadder, FullyConnectedShared
from pyro_mfcvae.training import DeadClustersWarning, Trainer, Unmixing, UnmixingWarning, checkpoints
from pyro_mfcvae.training.grouping import dependence_matrix
from pyro_mfcvae.training.monitor import Monitor
from pyro_mfcvae.training.unmixing import find_unmixing, unmixed_config

N = 96


def config_of(
    J=2, K=3, D=2, prior="full_gaussian", nuisance=2, likelihood="gaussian", held_out=0.0, **fields
):
    stage = {name: fields.pop(name) for name in list(fields) if name in Stage.__dataclass_fields__}
    stages = Schedule.unmixed(J, **{"steps": (6, 6), "batch_size": 32, **stage}).stages
    patience = fields.pop("gain_within", None)
    return MFCVAEConfig(
        facets=(Facet(K, D, prior),) * J,
        likelihood=likelihood,
        network=fields.pop("network", FullyConnectedShared((8,))),
        schedule=Schedule(
            tuple(dataclasses.replace(s, patience=patience) for s in stages), held_out=held_out
        ),
        nuisance=nuisance,
        **fields,
    )


def run(x, config, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeadClustersWarning)
        warnings.simplefilter("ignore", UnmixingWarning)
        return fit(x, config, **{"progress": False, "workers": 1, **options})


@pytest.fixture(scope="module")
def x():
    return make_facets((3, 2), N, nuisance=1, noise=0.1, separation=8, seed=0).x.numpy()


def blobs(rng, K, D, n):
    centres = np.eye(K)[:, :D] if D < K else np.eye(K)
    y = rng.integers(K, size=n)
    return y, centres[y] * 8 + rng.normal(size=(n, centres.shape[1]))


@pytest.fixture(scope="module")
def latent():
    """Two partitions, a ring and a normal, in a basis that mixes them: labels (N, 2) and u (N, 7)."""
    rng = np.random.default_rng(0)
    (a, za), (b, zb) = blobs(rng, 4, 3, 500), blobs(rng, 2, 1, 500)
    turn = rng.uniform(0, 2 * np.pi, 500)
    ring = np.stack([np.cos(turn), np.sin(turn)], 1) + 0.2 * rng.normal(size=(500, 2))
    parts = [(z - z.mean(0)) / z.std(0) for z in (za, zb, ring, rng.normal(size=(500, 1)))]
    mixing = np.linalg.qr(rng.normal(size=(7, 7)))[0] * rng.uniform(0.6, 1.5, 7)
    return np.stack([a, b], 1), np.concatenate(parts, 1) @ mixing


def standardized(s):
    return (s - s.mean(0)) / s.std(0)


def partition(z, K):
    from sklearn.mixture import GaussianMixture

    return GaussianMixture(K, n_init=5, random_state=0).fit_predict(z)


@pytest.mark.parametrize("order", [(1, 0)])
def test_facets_get_the_subspaces_of_their_clusters(latent, order):
    labels, u = latent
    clusters = [(4, 2)[j] for j in order]
    found = find_unmixing(u, clusters, 0)
    assert found.latent_dims == tuple((3, 1)[j] for j in order)
    assert (found.clusters, found.nuisance) == (tuple(clusters), 3)
    s = (u - found.center) @ found.directions
    np.testing.assert_allclose(s.std(0), 1, atol=0.01)
    for z, j, K in zip(np.split(s, np.cumsum(found.latent_dims), 1), order, clusters, strict=False):
        assert nmi(labels[:, j], partition(z, K)) > 0.95
    assert np.abs(found.between - np.eye(3)).max() < 0.05
    assert found.components.shape == (7, 7)


def test_numbers_of_facets_and_clusters_are_found(latent):
    found = find_unmixing(latent[1], 12, 0)
    assert (found.latent_dims, found.clusters, found.nuisance) == ((3, 1), (4, 2), 3)
    assert str(found).splitlines()[0].startswith("facet 0: components 0 to 2, 4 clusters; depends")
    assert str(found).splitlines()[-1] == "nuisance: components 4 to 6"


def test_the_same_seed_finds_the_same(latent):
    one, other = (find_unmixing(latent[1], (4, 2), 3) for _ in range(2))
    assert one.state_dict() == other.state_dict()
    again = Unmixing.from_state_dict(one.state_dict())
    assert again.state_dict() == one.state_dict()
    assert isinstance(again.directions, np.ndarray)


def test_normal_latents_have_no_facets():
    u = np.random.default_rng(0).normal(size=(2_000, 3))
    with pytest.warns(UnmixingWarning, match="no independent subspace of the latent has clusters"):
        found = find_unmixing(u, 5, 0)
    assert (found.latent_dims, found.clusters, found.nuisance) == ((3,), (5,), 0)


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e-3])
def test_what_data_make_no_use_of_has_no_clusters(scale):
    """A collapsed latent is noise of rounding, which may well be in clumps."""
    rng = np.random.default_rng(0)
    _, z = blobs(rng, 2, 1, 400)
    u = np.concatenate([z - z.mean(), scale * rng.integers(0, 2, (400, 2))], 1)
    found = find_unmixing(u, 5, 0)
    assert (found.latent_dims, found.clusters) == ((1,), (2,))
    assert np.linalg.matrix_rank(found.directions) == 3
    assert abs(found.directions[1:, 0]).max() < 0.01 * abs(found.directions[0, 0])


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_tiny_and_collapsed_latents(n):
    for u in (np.zeros((n, 4)), np.random.default_rng(0).normal(size=(n, 4))):
        if n > 1:
            found = find_unmixing(u, (2, 2), 0)
            assert np.isfinite(found.between).all()
            assert np.linalg.matrix_rank(found.directions) == 4


def test_the_corners_of_a_square_are_one_facet_where_it_is_asked_for():
    """Their coordinates are independent: only the number of clusters says that they belong together."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(4, size=1_500), rng.integers(3, size=1_500)
    factors = np.stack([a // 2, a % 2, b], 1) + 0.05 * rng.normal(size=(1_500, 3))
    s = (factors - factors.mean(0)) / factors.std(0)
    u = s @ np.linalg.qr(rng.normal(size=(3, 3)))[0].T
    found = find_unmixing(u, (4, 3), 0)
    assert (found.latent_dims, found.nuisance) == ((2, 1), 0)
    z = (u - found.center) @ found.directions
    assert nmi(a, partition(z[:, :2], 4)) > 0.95
    assert find_unmixing(u, (2, 2, 3), 0).latent_dims == (1, 1, 1)
    assert find_unmixing(u, 12, 0).clusters == (3, 2, 2)


def test_a_single_facet_takes_all_that_varies(latent):
    found = find_unmixing(latent[1], (6,), 0)
    assert (found.latent_dims, found.clusters, found.nuisance) == ((7,), (6,), 0)


def test_fewer_dimensions_than_facets():
    with pytest.raises(ValueError, match="facets: got 3, expected at most the 2 dimensions of their latent"):
        find_unmixing(np.random.default_rng(0).normal(size=(100, 2)), (2, 2, 2), 0)


def test_two_partitions_with_nuisance_factors():
    data = make_facets((3, 2), 1_000, nuisance=1, extra_dims=2, noise=0.05, seed=0)
    labels = data.labels.numpy()
    x = data.x.numpy()
    config = config_of(
        network=FullyConnectedShared((32,)),
        steps=(400, 100),
        batch_size=100,
        nuisance=4,
        learning_rate=5e-3,
        likelihood=likelihoods.Gaussian(0.3, standardize=True),
    )
    config = dataclasses.replace(config, facets=(Facet(3, 2, "full_gaussian"), Facet(2, 2, "full_gaussian")))
    fitted = run(x, config)
    predicted = fitted.predict(x)
    assert predicted.shape == (1_000, 2)
    assert min(nmi(labels[:, j], predicted[:, j]) for j in range(2)) > 0.95
    turn = np.floor(data.nuisance.numpy()[:, 0] * 4).astype(int)
    assert max(nmi(turn, predicted[:, j]) for j in range(2)) < 0.05


class Interrupted(Exception):  # noqa: N818
    """As if the machine had gone down."""


def assert_same(fitted, expected):
    state, others = fitted.model.state_dict(), expected.model.state_dict()
    assert state.keys() == others.keys()
    assert all(torch.equal(state[name], others[name]) for name in state)
    for record, other in zip(fitted.history, expected.history, strict=True):
        assert vars(record) | {"seconds": 0} == vars(other) | {"seconds": 0}
    assert fitted.history.unmixing.state_dict() == expected.history.unmixing.state_dict()


@pytest.mark.portable
@pytest.mark.parametrize("auto", [False, True])
def test_an_interrupted_run_goes_on_bit_for_bit(x, auto, monkeypatch, tmp_path):
    """In the first stage, exactly at its end, in the second, and when all is done."""
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    fields = {"J": 1, "D": 5, "K": 6, "unmix": "auto", "learning_rate": 0.02} if auto else {}
    config = config_of(steps=(12, 6), nuisance=1, **fields)
    expected = run(x, config)
    assert [record.stage for record in expected.history] == [0] * 4 + [1] * 2
    record = Monitor.record
    for after in (2, 4, 5, 6):
        epochs = []

        def spy(self, epochs=epochs, after=after, **fields):
            if len(epochs) == after:
                raise Interrupted
            epochs.append(self)
            return record(self, **fields)

        folder = tmp_path / str(after)
        with monkeypatch.context() as patch:
            patch.setattr(Monitor, "record", spy)
            if after < 6:
                with pytest.raises(Interrupted):
                    run(x, config, checkpoint_dir=folder)
            else:
                run(x, config, checkpoint_dir=folder)
        assert_same(run(x, config, checkpoint_dir=folder), expected)


def test_save_load_and_refit(x, tmp_path):
    fitted = run(x, config_of())
    fitted.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.history.unmixing.state_dict() == fitted.history.unmixing.state_dict()
    np.testing.assert_array_equal(loaded.predict(x), fitted.predict(x))
    assert loaded.config == fitted.config
    assert run(x, loaded.config).num_facets == 2


def test_without_unmixing_there_is_none(x, tmp_path):
    stage = Schedule.joint(2, steps=2)
    fitted = run(x, dataclasses.replace(config_of(), schedule=stage))
    fitted.save(tmp_path / "model")
    assert load(tmp_path / "model").history.unmixing is None


def test_several_runs_in_processes(x):
    config = config_of(J=1, D=6, K=5, unmix="auto", nuisance=0)
    alone = [run(x, config, seed=seed) for seed in range(2)]
    runs = run(x, config, seeds=range(2), workers=2)
    for fitted, expected in zip(runs, alone, strict=True):
        assert fitted.history.unmixing.state_dict() == expected.history.unmixing.state_dict()
        np.testing.assert_array_equal(fitted.predict(x), expected.predict(x))
    best = run(x, config, restarts=2, workers=2)
    assert best.history.unmixing.state_dict() == runs.best.history.unmixing.state_dict()


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"network": FullyConnectedLadder((8, 8, 8))}, "unmix: got LadderEncoder and LadderDecoder"),
        ({"prior": "flow"}, "unmix: got a prior of facet 0 that is not there for every dimension"),
    ],
)
def test_what_cannot_be_unmixed_is_an_error_before_training(x, fields, match):
    config = config_of(**fields)
    torch.manual_seed(0)
    model = MFCVAE(config, (x.shape[1],))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=match):
        Trainer(model, torch.from_numpy(x), seed=0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_elbo_is_that_of_what_trains(x):
    """First one latent with a weight for all of it, then the facets."""
    fitted = run(x, config_of(kl_weight=0.5, past_kl_weight=2.0, nuisance_kl_weight=0.3, held_out=0.2))
    for record in fitted.history:
        assert record.elbo == pytest.approx(
            record.log_likelihood + sum(record.facet_terms) + record.nuisance_term, rel=1e-5
        )
        assert record.kl_weights == ((0.5, 0.5), (2.0, 2.0))[record.stage]
        assert record.nuisance_kl_weight == 0.3
        assert record.fade_in == (1.0, 1.0)
        assert np.isfinite(record.held_out_elbo)


@pytest.mark.parametrize(
    ("group", "parts"),
    [
        ("facet 0", ("priors.0.", "encoder.facet_modules.0.")),
        ("past facets", ("priors.", "encoder.facet_modules.0.", "encoder.facet_modules.1.")),
        ("nuisance", ("encoder.facet_modules.2.",)),
        ("networks", ("encoder.", "decoder.")),
    ],
)
def test_the_second_stage_freezes(x, group, parts):
    first, second = config_of().stages
    schedule = Schedule((first, dataclasses.replace(second, freeze=(group,))))
    config = dataclasses.replace(config_of(), schedule=schedule)
    torch.manual_seed(0)
    trainer = Trainer(MFCVAE(config, (x.shape[1],)), torch.from_numpy(x), seed=0)
    begin, states = trainer._begin_phase, []

    def spy(run):
        states.append({name: value.clone() for name, value in trainer.model.named_parameters()})
        begin(run)

    trainer._begin_phase = spy
    trainer.run(progress=False)
    moved = [(name, value) for name, value in trainer.model.named_parameters() if not name.endswith(".lower")]
    for name, value in moved:  # of a single dimension nothing is below the diagonal
        is_frozen = name.startswith(parts)
        assert torch.equal(value, states[-1][name]) == is_frozen, name


def test_a_nuisance_may_vanish():
    """The weights and freezing that are for it go with it."""
    first, second = config_of(nuisance_kl_weight=0.5).stages
    schedule = Schedule((first, dataclasses.replace(second, freeze=("nuisance",))))
    config = dataclasses.replace(config_of(nuisance=1, D=1), schedule=schedule)
    found = find_unmixing(np.random.default_rng(0).normal(size=(200, 3)), (3, 3), 0)
    kept = unmixed_config(config, dataclasses.replace(found, latent_dims=(1, 1)))
    assert (kept.nuisance, kept.stages[1].freeze) == (1, ("nuisance",))
    gone = unmixed_config(config, dataclasses.replace(found, latent_dims=(2, 1)))
    assert (gone.nuisance, gone.latent_dims) == (0, (2, 1))
    assert [(stage.freeze, stage.nuisance_kl_weight) for stage in gone.stages] == [((), None)] * 2


PRIORS = ["diagonal_gaussian", "student_t", "vamp", "bayesian_gaussian"]


@pytest.mark.parametrize("prior", PRIORS)
def test_other_priors(x, prior):
    fitted = run(x, config_of(prior=prior))
    assert fitted.predict(x).shape == (N, 2)
    assert np.isfinite([record.loss for record in fitted.history]).all()


@pytest.mark.parametrize(
    "fields",
    [
        {"elbo": "monte_carlo"},
        {"data_init": True},
        {"gain_within": 1, "held_out": 0.25, "steps": (12, 12), "learning_rate": 1.0},
        {"J": 1},
        {"J": 5, "D": 1, "nuisance": 0},
        {"network": FullyConnectedShared((8,), batch_norm=True, dropout=0.1)},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_other_configurations(x, fields):
    config = config_of(**fields)
    fitted = run(x, config)
    assert fitted.num_facets == len(config.facets)
    assert fitted.history[-1].stage == 1
    assert sum(fitted.config.latent_dims) == sum(config.latent_dims)


def test_binary_missing_and_constant_data(x, tmp_path):
    run((x > 0).astype(np.float32), config_of(likelihood="bernoulli"))
    missing = x.copy()
    missing[::3, 1] = np.nan
    fitted = run(missing, config_of(likelihood=likelihoods.Gaussian(missing=True)))
    assert fitted.predict(missing).shape == (N, 2)
    run(np.zeros((40, 3), np.float32), config_of())
    run(x[:3], config_of())
    np.save(tmp_path / "x.npy", x)
    run(tmp_path / "x.npy", config_of(), in_memory=False)
    run(x, config_of(), precision="bfloat16")


def test_fewer_data_than_clusters_may_be_counted(x):
    fitted = run(x[:30], config_of(J=1, K=50, D=4, unmix="auto", nuisance=0))
    assert max(facet.clusters for facet in fitted.config.facets) <= 30
    with pytest.raises(ValueError, match="dataset: got 30 data, expected at least as many"):
        run(x[:30], config_of(K=50))


def test_what_data_make_no_use_of_is_no_facet_where_there_is_something_else():
    """Two clusters in a collapsed direction are noise; two that overlap in one that data use are a facet."""
    rng = np.random.default_rng(0)
    _, species = blobs(rng, 3, 2, 400)
    sex = rng.integers(2, size=400)
    overlapping = 2.4 * sex + rng.normal(size=400)
    collapsed = 0.06 * (2 * rng.integers(2, size=(400, 4)) - 1) + 0.01 * rng.normal(size=(400, 4))
    u = np.concatenate([standardized(species), standardized(overlapping[:, None]), collapsed], 1)
    found = find_unmixing(u, (3, 2), 0)
    assert found.latent_dims == (2, 1)
    direction = ((u - found.center) @ found.directions)[:, 2]
    assert abs(np.corrcoef(direction, overlapping)[0, 1]) > 0.95


def test_levels_that_do_not_tell_of_each_other_are_two_factors():
    """Five levels whose ring is a little wider before each of three others: the kernels see it."""
    rng = np.random.default_rng(1)
    a, b = rng.integers(3, size=1_000), rng.integers(5, size=1_000)
    wall, ring = (np.exp(2j * np.pi * y / K) for y, K in ((a, 3), (b, 5)))
    ring = ring * (1 + 0.25 * (a - 1))
    u = np.stack([wall.real, wall.imag, ring.real, ring.imag], 1) * np.sqrt(2)
    u = u + 0.05 * rng.normal(size=u.shape)
    together = dependence_matrix(standardized(u), ((0, 1), (2, 3)))[0, 1]
    assert 0.07 <= together < 0.1  # of one factor, if that were all
    assert find_unmixing(u, 20, 0).latent_dims == (2, 2)
