import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pyro_mfcvae as mf
from pyro_mfcvae import MFCVAE, Facet, MFCVAEConfig, Schedule, Stage, presets, priors
from pyro_mfcvae.config.mfcvae import ConfigFields
from pyro_mfcvae.likelihoods import Bernoulli, DiscretizedLogistic, Gaussian
from pyro_mfcvae.model.objectives import OBJECTIVES
from pyro_mfcvae.networks import ConvolutionalLadder, FullyConnectedLadder
from pyro_mfcvae.priors import DiagonalGaussian, FullGaussian, Learned, LogisticNormal, StickBreaking, Uniform

FACETS = (Facet(3, 2), Facet(4, 5))

small = st.integers(1, 1000)
weight = st.floats(0, 1e3)


@st.composite
def stages(draw, introduces):
    epochs = draw(small)
    warm_up = draw(st.sampled_from(["warm_up_epochs", "warm_up_steps"]))
    return Stage(
        introduces=introduces,
        epochs=epochs,
        batch_size=draw(small),
        learning_rate=draw(st.floats(1e-8, 1e3)),
        decay_after=draw(st.floats(0, 1)),
        **{warm_up: draw(st.integers(0, epochs - 1))},
        warm_up_kl_weight=draw(weight),
        kl_weight=draw(weight),
        fade_in_steps=draw(st.integers(0, 10**6)),
        freeze=tuple(draw(st.lists(st.text(max_size=8), max_size=2))),
    )


@st.composite
def configs(draw):
    J = draw(st.integers(1, 3))
    order = draw(st.permutations(range(J)))
    introduces = draw(st.sampled_from([[tuple(order)], [(j,) for j in order], [(), tuple(order)]]))
    weights = [*priors.WEIGHTS, StickBreaking(2.5), LogisticNormal(0.1)]
    starts = st.sampled_from(["mixture", "untrained"])
    prior = st.builds(DiagonalGaussian, weights=st.sampled_from(weights), initialization=starts)
    gaussian = st.builds(Gaussian, sigma=st.floats(1e-6, 1e6), standardize=st.booleans())
    widths = st.none() | st.lists(small, min_size=1, max_size=3).map(tuple)
    return MFCVAEConfig(
        facets=tuple(Facet(draw(small), draw(small), draw(prior)) for _ in range(J)),
        likelihood=draw(gaussian | st.just(Bernoulli())),
        network=draw(st.builds(FullyConnectedLadder, widths=widths, gate=st.floats(0, 10))),
        schedule=Schedule(tuple(draw(stages(js)) for js in introduces), keep_optimizer=draw(st.booleans())),
        elbo=draw(st.sampled_from(OBJECTIVES)),
        nuisance=draw(st.integers(0, 9)),
        num_kl_samples=draw(st.integers(1, 9)),
        num_particles=draw(st.integers(1, 9)),
        data_init=draw(st.sampled_from([False, True, "subspaces", "as_published"])),
    )


@given(configs())
def test_json_round_trip(config):
    text = config.to_json()
    again = MFCVAEConfig.from_json(text)
    assert again == config
    assert hash(again) == hash(config)
    assert again.to_json() == text
    json.loads(text, parse_constant=pytest.fail)  # no NaN, no Infinity


PAPER = {
    # section 4 and appendix: K, D, epochs, fade-in, batch size, learning rate, sigma, full covariance
    presets.paper_mnist: ((25, 25), (5, 5), (200, 201), 15_000, 512, 5e-4, None, False),
    presets.paper_shapes3d_floor: ((60, 20), (20, 2), (100, 301), 2_000, 150, 3e-4, 0.6, True),
    presets.paper_shapes3d_wall: ((60, 20), (20, 2), (100, 301), 2_000, 150, 3e-4, 0.6, True),
    presets.paper_svhn: ((200, 50), (22, 7), (100, 301), 15_000, 150, 5e-4, 0.3, True),
}


@pytest.mark.parametrize("preset", PAPER)
def test_presets_of_the_paper(preset):
    config = preset()
    clusters, latent_dims, epochs, fade_in, batch_size, learning_rate, sigma, full = PAPER[preset]
    assert tuple(facet.clusters for facet in config.facets) == clusters
    assert tuple(facet.latent_dim for facet in config.facets) == latent_dims
    assert {type(facet.prior) for facet in config.facets} == {FullGaussian if full else DiagonalGaussian}
    assert {facet.prior.scale for facet in config.facets} == {0.1}  # a variance of 0.01
    assert {facet.prior.weights for facet in config.facets} == {Uniform() if full else Learned()}
    assert tuple(stage.epochs for stage in config.stages) == epochs
    assert {facet.prior.initialization for facet in config.facets} == {"untrained"}
    assert config.schedule.keep_optimizer
    assert [stage.introduces for stage in config.stages] == [(1,), (0,)]
    assert [stage.fade_in_steps for stage in config.stages] == [0, fade_in]
    for stage in config.stages:
        assert (stage.batch_size, stage.learning_rate, stage.decay_after) == (batch_size, learning_rate, 1.0)
        assert (stage.optimizer, stage.warm_up_epochs, stage.kl_weight) == ("adam", 0, 1.0)
    assert getattr(config.likelihood, "sigma", None) == sigma
    assert getattr(config.likelihood, "sigmoid", False) == (preset is presets.paper_svhn)
    assert config.data_init == ("as_published" if full else False)
    assert getattr(config.network, "as_published", False) == full
    assert config.elbo == "monte_carlo"
    assert config.num_kl_samples == 1
    assert MFCVAEConfig.from_json(config.to_json()) == config
    x_shape = (1, 28, 28) if preset is presets.paper_mnist else (3, 32, 32)
    model = MFCVAE(config, x_shape)
    features = model.decode([torch.randn(2, d) for d in latent_dims])
    assert features.shape == (2, *x_shape)


PRESETS = (presets.mnist, presets.shapes3d, presets.svhn, presets.tabular, presets.images)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets(preset):
    config = preset()
    assert MFCVAEConfig.from_json(config.to_json()) == config
    changed = preset(
        facets=(Facet(2, 2),) * 3,
        likelihood="gaussian",
        elbo="marginal",
        network=FullyConnectedLadder((8, 8, 8)),
    )
    assert len(changed.facets) == changed.schedule.num_facets == 3
    assert changed.likelihood == Gaussian()
    assert changed.elbo == "marginal"
    assert changed.network.widths == (8, 8, 8)
    assert preset(facets=iter(changed.facets)).facets == changed.facets
    schedule = Schedule.joint(len(config.facets))
    assert preset(schedule=schedule).schedule == schedule
    with pytest.raises(TypeError, match="num_clusters: got 3 for no field"):
        preset(num_clusters=3)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_take_sizes(preset):
    assert [(f.clusters, f.latent_dim) for f in preset(clusters=(7, 5, 3), latent_dims=2).facets] == [
        (7, 2),
        (5, 2),
        (3, 2),
    ]
    assert [f.latent_dim for f in preset(clusters=[4, 4], latent_dims=(3, 6)).facets] == [3, 6]
    assert [f.clusters for f in preset(clusters=9).facets] == [9]
    with pytest.raises(ValueError, match=r"^latent_dims: got 3 numbers, expected 1 or 2"):
        preset(clusters=(2, 2), latent_dims=(1, 2, 3))
    with pytest.raises(ValueError, match=r"^clusters: got .*expected positive integers"):
        preset(clusters=(2, 0))
    with pytest.raises(ValueError, match=r"^facets: got .* expected one or the other"):
        preset(clusters=2, facets=(Facet(2, 2),))


def test_sizes_of_facets_that_are_counted():
    assert presets.tabular(latent_dims=5).latent_dims[:2] == (5, 5)
    with pytest.raises(ValueError, match=r"^latent_dims: got 5 where facets are counted, expected clusters"):
        presets.shapes3d(latent_dims=5)


@pytest.mark.parametrize("J", [1, 2, 3, 4])
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_build_a_network_for_any_number_of_facets(preset, J):
    config = preset(facets=(Facet(2, 2),) * J)
    x_shape = (3, 32, 32) if isinstance(config.network, ConvolutionalLadder) else (4,)
    encoder, _ = config.network(x_shape, (2,) * J)
    assert len(encoder.facet_modules) == J


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_have_room_for_a_nuisance(preset):
    config = preset(nuisance=4)
    assert config.latent_dims == (*(facet.latent_dim for facet in config.facets), 4)
    x_shape = (3, 32, 32) if isinstance(config.network, ConvolutionalLadder) else (4,)
    encoder, _ = config.network(x_shape, config.latent_dims)
    assert len(encoder.facet_modules) == len(config.facets) + 1
    if not config.stages[0].unmix:  # what no facet takes needs a place
        assert preset(nuisance=0) == preset()


def test_a_configuration_that_was_written_before_there_was_a_nuisance():
    fields = json.loads(MFCVAEConfig(FACETS).to_json())
    assert fields.pop("nuisance") == 0
    for stage in fields["schedule"]["stages"]:
        del stage["nuisance_kl_weight"], stage["redundancy_weight"]
    assert MFCVAEConfig.from_json(json.dumps(fields)) == MFCVAEConfig(FACETS)


def test_a_weight_of_a_nuisance_that_is_not_there():
    schedule = Schedule.progressive(2, nuisance_kl_weight=0.5)
    assert MFCVAEConfig(FACETS, schedule=schedule, nuisance=1).nuisance == 1
    with pytest.raises(ValueError, match=r"^nuisance: got 0 with nuisance_kl_weight=\[0.5, 0.5\]"):
        MFCVAEConfig(FACETS, schedule=schedule)


def test_the_initialisation_by_data_has_a_name():
    assert MFCVAEConfig(FACETS, data_init="subspaces").data_init == "subspaces"
    with pytest.raises(ValueError, match=r"^data_init: got 'ica', expected False, True, 'subspaces' or"):
        MFCVAEConfig(FACETS, data_init="ica")


def test_names_become_factories():
    config = MFCVAEConfig(FACETS, likelihood="gaussian", network="fully_connected_ladder")
    assert config.facets[0].prior == DiagonalGaussian()
    assert config.likelihood == Gaussian()
    assert config.network == FullyConnectedLadder()
    assert config == MFCVAEConfig(list(FACETS), Gaussian(), FullyConnectedLadder(), Schedule.progressive(2))
    assert len({config, dataclasses.replace(config)}) == 1


def test_replace_works_all_the_way_down():
    config = MFCVAEConfig(FACETS)
    stages = (dataclasses.replace(config.schedule.stages[0], epochs=99), *config.schedule.stages[1:])
    config = dataclasses.replace(
        config,
        facets=(dataclasses.replace(config.facets[0], clusters=7), config.facets[1]),
        schedule=dataclasses.replace(config.schedule, stages=stages),
        likelihood=dataclasses.replace(Gaussian(), sigma=0.7),
    )
    assert config.stages[0].epochs == 99
    assert [facet.clusters for facet in config.facets] == [7, 4]
    assert config.likelihood.sigma == 0.7
    assert MFCVAEConfig.from_json(config.to_json()) == config
    with pytest.raises(ValueError, match="clusters: got 0"):
        dataclasses.replace(config.facets[0], clusters=0)


@pytest.mark.parametrize("field", ["clusters", "latent_dim"])
@pytest.mark.parametrize("value", [0, -1, 2.0, "3", None])
def test_bad_facets(field, value):
    with pytest.raises(ValueError, match=rf"{field}: got {value!r}, expected an integer of at least 1"):
        Facet(**{"clusters": 3, "latent_dim": 2, field: value})


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"facets": ()}, TypeError, "facets: got"),
        ({"facets": (3, 4)}, TypeError, "facets: got .* expected at least one Facet"),
        ({"nuisance": -1}, ValueError, "nuisance: got -1, expected an integer of at least 0"),
        ({"nuisance": "3"}, TypeError, "nuisance: got '3'"),
        ({"likelihood": "cauchy"}, ValueError, r"likelihood: got 'cauchy', expected one of \('bernoulli'"),
        ({"likelihood": 0.3}, TypeError, "likelihood: got 0.3"),
        ({"network": "resnet"}, ValueError, "network: got 'resnet'"),
        ({"network": None}, TypeError, "network: got None"),
        ({"schedule": 30}, TypeError, "schedule: got 30, expected a Schedule"),
        ({"schedule": Schedule.progressive(3)}, ValueError, r"introduce 3 facets, but there are 2.*progr"),
        ({"elbo": "exact"}, ValueError, "elbo: got 'exact', expected one of"),
        ({"num_particles": 0}, ValueError, "num_particles: got 0, expected an integer of at least 1"),
        ({"num_kl_samples": 2.5}, ValueError, r"num_kl_samples: got 2\.5, expected an integer"),
    ],
)
def test_a_bad_value_is_named(fields, error, message):
    with pytest.raises(error, match=message):
        MFCVAEConfig(**{"facets": FACETS, **fields})


@pytest.mark.parametrize(("prior", "error"), [("gumbel", ValueError), (3, TypeError)])
def test_bad_priors(prior, error):
    with pytest.raises(error, match=rf"prior: got {prior!r}"):
        Facet(3, 2, prior)


def custom(*args):
    raise NotImplementedError


@pytest.mark.parametrize(
    ("config", "path"),
    [
        (MFCVAEConfig(FACETS, likelihood=custom), r"config\.likelihood"),
        (MFCVAEConfig(FACETS, network=custom), r"config\.network"),
        (MFCVAEConfig((Facet(3, 2), Facet(3, 2, custom))), r"config\.facets\[1\]\.prior"),
    ],
)
def test_a_factory_of_ones_own_has_no_json(config, path):
    with pytest.raises(TypeError, match=rf"{path}: .* cannot be written as JSON"):
        config.to_json()


GOOD = json.loads(MFCVAEConfig(FACETS).to_json())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "3",
        "{}",
        '{"facets": []}',
        json.dumps({**GOOD, "surprise": 1}),
        json.dumps({**GOOD, "facets": 3}),
        json.dumps({**GOOD, "facets": [3]}),
        json.dumps({**GOOD, "facets": [{"clusters": 3, "latent_dim": 2}]}),
        json.dumps({**GOOD, "likelihood": "bernoulli"}),
        json.dumps({**GOOD, "likelihood": {"name": "cauchy"}}),
        json.dumps({**GOOD, "likelihood": {"name": "gaussian", "sigma": -1}}),
        json.dumps({**GOOD, "schedule": None}),
        json.dumps({**GOOD, "schedule": {"stages": []}}),
        json.dumps({**GOOD, "elbo": "exact"}),
    ],
)
def test_bad_json(text):
    with pytest.raises(ValueError, match=r"got|not the JSON"):
        MFCVAEConfig.from_json(text)


def test_a_name_of_another_kind_of_factory_is_refused():
    """A network is no likelihood, though both are known names."""
    text = json.dumps({**GOOD, "likelihood": {"name": "fully_connected_ladder"}})
    with pytest.raises(ValueError, match=r"likelihood|name"):
        MFCVAEConfig.from_json(text)


@pytest.mark.parametrize(
    ("shape", "is_unit", "expected"),
    [
        ((7,), True, presets.tabular()),
        ((7,), False, presets.tabular()),
        ((28, 28), True, presets.mnist()),
        ((1, 28, 28), True, presets.mnist()),
        ((3, 32, 32), True, presets.shapes3d()),
        ((3, 32, 32), False, presets.shapes3d(likelihood=Gaussian(sigma=0.3, standardize=True))),
        ((1, 28, 28), False, presets.shapes3d(likelihood=Gaussian(sigma=0.3, standardize=True))),
    ],
)
def test_the_preset_suits_the_data(shape, is_unit, expected):
    assert presets.for_data(shape, is_unit) == expected


def test_integers_of_numpy_become_those_of_python():
    facet = Facet(np.int64(3), np.int32(2), priors.Flow(layers=np.int8(2)))
    stage = Stage(
        (np.int64(0),),
        np.int64(3),
        batch_size=np.uint8(9),
        learning_rate=np.float32(0.5),
        warm_up_steps=np.int16(1),
    )
    config = MFCVAEConfig(
        (facet,),
        DiscretizedLogistic(np.int64(16)),
        FullyConnectedLadder(widths=np.array([8]), gate=np.float64(1)),
        Schedule((stage,), held_out=np.float32(0.25)),
        num_particles=np.int64(2),
    )
    assert type(config.facets[0].clusters) is type(config.num_particles) is type(stage.epochs) is int
    assert type(stage.learning_rate) is float
    assert MFCVAEConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Facet(True, 2), "clusters: got True, expected an integer of at least 1"),
        (lambda: Facet(np.True_, 2), r"clusters: got np\.True_, expected an integer"),
        (lambda: MFCVAEConfig(FACETS, num_particles=True), "num_particles: got True, expected an integer"),
        (lambda: MFCVAEConfig(3), "facets: got 3, expected at least one Facet, in a tuple"),
        (lambda: MFCVAEConfig(FACETS[0]), r"facets: got Facet\(.* expected at least one Facet, in a tuple"),
        (lambda: MFCVAEConfig(FACETS, data_init=1), "data_init: got 1, expected False, True, 'subspaces' or"),
        (lambda: presets.tabular(facets=3), "facets: got 3, expected at least one Facet, in a tuple"),
        (lambda: presets.mnist(facets=()), r"facets: got \(\), expected at least one Facet"),
        (lambda: presets.mnist(widths=3), r"widths: got 3 for no field of MFCVAEConfig, expected .*'facets'"),
        (lambda: Gaussian("0.3"), "sigma: got '0.3', expected a positive number"),
        (lambda: Gaussian(standardize="no"), "standardize: got 'no', expected True or False"),
        (lambda: Gaussian(floor=-1.0), "floor: got -1.0, expected a number of at least 0"),
        (lambda: Bernoulli(missing=1), "missing: got 1, expected True or False"),
        (lambda: StickBreaking("much"), "concentration: got 'much', expected a positive number"),
        (
            lambda: priors.BayesianGaussian(mean_scale=True),
            "mean_scale: got True, expected a positive number",
        ),
        (lambda: priors.BayesianGaussian(guide="flow"), "guide: got 'flow', expected one of"),
        (lambda: DiagonalGaussian(scale="a"), r"scale: got 'a', expected a number above 0\.0001, or None"),
        (lambda: priors.LowRankGaussian(rank=1.5), r"rank: got 1\.5, expected an integer of at least 1"),
    ],
)
def test_a_bad_value_has_an_error_of_ours(build, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        build()


def test_keywords_of_presets_are_the_fields_of_a_configuration():
    keywords = {name: hint.__forward_arg__ for name, hint in ConfigFields.__annotations__.items()}
    assert keywords == {field.name: field.type for field in dataclasses.fields(MFCVAEConfig)}


SNIPPET = """
import pyro_mfcvae as mf
mf.presets.mnist(facets=(mf.Facet(3, 2),), num_particles=2, elbo="marginal")
mf.presets.mnist(num_particle=2)
mf.presets.for_data((3,), True, num_particles="2")
mf.Schedule.progressive(2, steps=(10, 20), learning_rate=1e-3)
mf.Schedule.joint(2, learning_rat=1e-3)
"""


def test_a_type_checker_knows_the_keywords_of_presets(tmp_path, monkeypatch):
    """Of the calls in the snippet, the right ones pass and the wrong ones are found."""
    (tmp_path / "snippet.py").write_text(SNIPPET)
    monkeypatch.setenv("MYPYPATH", str(Path(mf.__file__).parents[1]))
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--config-file=",
            "--ignore-missing-imports",
            "--follow-imports=silent",
            "--no-site-packages",  # or it would read all of PyTorch
            "snippet.py",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    found = dict(re.findall(r"^snippet.py:(\d+): error: (.*)$", run.stdout, re.MULTILINE))
    assert found.keys() == {"4", "5", "7"}, run.stdout + run.stderr
    assert 'Unexpected keyword argument "num_particle"' in found["4"]
    assert 'incompatible type "str"; expected "int"' in found["5"]
    assert 'Unexpected keyword argument "learning_rat"' in found["7"]
