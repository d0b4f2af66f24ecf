"""Stages that unmix, their schedule, and presets that leave the facets to the data."""

import dataclasses

import pytest

from pyro_mfcvae import Facet, MFCVAEConfig, Schedule, Stage, presets
from pyro_mfcvae.networks import FullyConnectedShared

AUTO = (presets.shapes3d, presets.tabular, presets.images)


@pytest.mark.parametrize("value", ["yes", 1, None, "Auto", 0.0])
def test_what_unmix_may_be(value):
    with pytest.raises(ValueError, match=rf"unmix: got {value!r}, expected False, True or 'auto'"):
        Stage((0,), 1, unmix=value)


@pytest.mark.parametrize("fields", [{"epochs": 3, "warm_up_epochs": 1}, {"steps": 9, "warm_up_steps": 2}])
def test_it_needs_no_warm_up(fields):
    with pytest.raises(ValueError, match="unmix: got True with a warm-up, expected none"):
        Stage((0,), **fields, unmix=True)


@pytest.mark.parametrize(
    "stages",
    [
        (Stage((0, 1), 1), Stage((), 1, unmix=True)),
        (Stage((0,), 1, unmix=True), Stage((1,), 1)),
        (Stage((0, 1), 1, unmix=True), Stage((), 1, unmix=True)),
    ],
)
def test_only_the_first_stage_unmixes_and_introduces_all(stages):
    with pytest.raises(
        ValueError, match="expected it of the first one only, which must introduce all facets"
    ):
        Schedule(stages)


def test_what_a_stage_says():
    assert str(Stage((0, 1), 3, unmix=True)).startswith("one latent, unmixed into facets 0, 1, 3 epochs")
    assert str(Stage((0,), 3, unmix="auto")).startswith("one latent, unmixed into facets, 3 epochs")


def test_the_schedule_has_two_stages():
    first, second = Schedule.unmixed(3, learning_rate=1e-2, batch_size=7).stages
    assert (first.introduces, first.epochs, first.unmix) == ((0, 1, 2), 40, True)
    assert (second.introduces, second.epochs, second.unmix) == ((), 20, False)
    assert (first.learning_rate, second.learning_rate) == (1e-2, 5e-3)
    assert first.batch_size == second.batch_size == 7


def test_its_lengths():
    assert [s.steps for s in Schedule.unmixed(1, steps=(5, 3), unmix="auto").stages] == [5, 3]
    assert [s.epochs for s in Schedule.unmixed(1, epochs=4).stages] == [4, 4]
    assert Schedule.unmixed(1, unmix="auto", steps=2).stages[0].unmix == "auto"
    with pytest.raises(ValueError, match=r"epochs: got \[1, 2, 3\], expected one for each of 2 stages"):
        Schedule.unmixed(1, epochs=(1, 2, 3))
    with pytest.raises(ValueError, match="epochs: got 1 with steps=1, expected one of the two"):
        Schedule.unmixed(1, epochs=1, steps=1)
    with pytest.raises(ValueError, match="num_facets: got 0"):
        Schedule.unmixed(0)


@pytest.mark.parametrize("preset", AUTO)
def test_presets_that_find_the_facets(preset):
    config = preset(facets="auto")
    assert len(config.facets) == 1
    assert config.stages[0].unmix == "auto"
    assert [stage.unmix for stage in config.stages[1:]] == [False]
    assert config.nuisance == 0
    assert isinstance(config.network, FullyConnectedShared)
    assert MFCVAEConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("preset", AUTO)
@pytest.mark.parametrize("dims", [(2,), (3, 3, 1), (6, 9)])
def test_presets_for_given_facets(preset, dims):
    config = preset(facets=tuple(Facet(4, d) for d in dims))
    assert config.stages[0].unmix is True
    assert config.stages[0].introduces == tuple(range(len(dims)))
    assert config.nuisance >= 2
    assert sum(config.latent_dims) >= 3 * len(dims) + 4  # room for all centres, and a nuisance
    assert MFCVAEConfig.from_json(config.to_json()) == config


def test_facets_are_auto_or_facets():
    assert presets.shapes3d() == presets.shapes3d(facets="auto")
    assert presets.tabular(facets="auto", nuisance=3).nuisance == 3
    for preset in (presets.mnist, presets.tabular):
        with pytest.raises(TypeError, match="facets: got "):
            preset(facets="all" if preset is presets.tabular else "auto")


def test_a_stage_is_part_of_the_json():
    schedule = Schedule.unmixed(1, unmix="auto", steps=3)
    config = dataclasses.replace(presets.tabular(facets=(Facet(3, 2),)), schedule=schedule)
    assert MFCVAEConfig.from_json(config.to_json()).stages[0].unmix == "auto"
