import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_mfcvae import Schedule, Stage
from pyro_mfcvae.config.stage import DECAYS, FADES, StageFields


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", -1),
        ("epochs", 2.5),
        ("batch_size", 0),
        ("batch_size", 64.0),
        ("learning_rate", 0.0),
        ("learning_rate", -1e-3),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("decay_after", -0.1),
        ("decay_after", 1.1),
        ("decay_after", math.nan),
        ("warm_up_epochs", -1),
        ("warm_up_epochs", 5),
        ("warm_up_kl_weight", -0.1),
        ("warm_up_kl_weight", math.nan),
        ("kl_weight", -1.0),
        ("kl_weight", math.inf),
        ("fade_in_steps", -1),
        ("fade_in_steps", 0.5),
        ("kl_fade_in_steps", -1),
        ("pre_training_kl_weight", -0.1),
        ("past_kl_weight", -1.0),
        ("nuisance_kl_weight", -1.0),
        ("redundancy_weight", -1.0),
        ("redundancy_weight", math.inf),
        ("patience", 0),
        ("warm_up_steps", -1),
        ("warm_up_steps", 2.5),
        ("fade", "sine"),
        ("decay", "step"),
        ("optimizer", "lbfgs"),
    ],
)
def test_a_bad_value_is_named(field, value):
    with pytest.raises(ValueError, match=rf"^{field}: got {value!r}, expected"):
        Stage(**{"introduces": (0,), "epochs": 5, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", "5"),
        ("epochs", True),
        ("batch_size", None),
        ("learning_rate", "0.1"),
        ("learning_rate", True),
        ("decay_after", None),
        ("kl_weight", "1"),
        ("past_kl_weight", "1"),
        ("redundancy_weight", None),
        ("introduces", 0),
        ("introduces", (0.0,)),
        ("fade", ["linear"]),
        ("freeze", 3),
        ("freeze", (3,)),
    ],
)
def test_a_value_of_another_type_is_named(field, value):
    with pytest.raises(ValueError, match=rf"^{field}: got {re.escape(repr(value))}, expected"):
        Stage(**{"introduces": (0,), "epochs": 5, field: value})


@pytest.mark.parametrize("stages", [3, (3,), [None]])
def test_stages_are_stages(stages):
    with pytest.raises(TypeError, match=r"^stages: got .* expected .* Stage"):
        Schedule(stages)


def test_a_warm_up_is_given_once_and_ends_before_the_stage():
    with pytest.raises(
        ValueError, match=r"^warm_up_steps: got 3 with warm_up_epochs=1, expected at most one"
    ):
        Stage((0,), 5, warm_up_epochs=1, warm_up_steps=3)
    with pytest.raises(ValueError, match=r"^warm_up_steps: got 5, expected fewer than steps=5"):
        Stage((0,), steps=5, warm_up_steps=5)


def test_patterns_to_freeze_are_not_one_string():
    with pytest.raises(TypeError, match=r"freeze: got the string 'encoder\.\*'"):
        Stage((0,), 5, freeze="encoder.*")


def test_lists_become_tuples():
    stage = Stage([1, 0], 5, freeze=["encoder.*"])
    assert stage.introduces == (1, 0)
    assert stage.freeze == ("encoder.*",)
    assert hash(Schedule([stage])) == hash(Schedule((stage,)))


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (1, 0.25), (3, 0.75), (4, 1.0), (100, 1.0)])
def test_fade(step, expected):
    assert Stage((0,), 1, fade_in_steps=4).fade_in(step) == expected


def test_without_steps_it_fades_in_at_once():
    assert Stage((0,), 1).fade_in(0) == 1.0


@pytest.mark.parametrize(
    ("decay_after", "progress", "expected"),
    [
        (0.7, 0.0, 1.0),
        (0.7, 0.7, 1.0),
        (0.7, 0.85, 0.5),
        (0.7, 1.0, 0.0),
        (0.0, 0.0, 1.0),
        (0.0, 1 / 3, 0.75),
        (0.0, 1.0, 0.0),
        (1.0, 0.99, 1.0),
        (1.0, 1.0, 1.0),
    ],
)
def test_decay(decay_after, progress, expected):
    stage = Stage((0,), 1, decay_after=decay_after, learning_rate=3.0)
    assert stage.learning_rate_at(progress) == pytest.approx(3 * expected, abs=1e-12)


@pytest.mark.parametrize(
    ("decay", "expected"), [("cosine", 0.8535533905932737), ("linear", 0.75), ("exponential", 0.1**0.5)]
)
def test_shapes_of_decay(decay, expected):
    stage = Stage((0,), 1, decay_after=0.2, decay=decay, learning_rate=1.0)
    assert stage.learning_rate_at(0.4) == pytest.approx(expected)
    assert stage.learning_rate_at(1.0) == pytest.approx(0.01 if decay == "exponential" else 0.0, abs=1e-12)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.sampled_from(DECAYS))
def test_decay_never_rises(decay_after, p, q, decay):
    stage = Stage((0,), 1, decay_after=decay_after, decay=decay, learning_rate=1.0)
    assert 1.0 >= stage.learning_rate_at(min(p, q)) >= stage.learning_rate_at(max(p, q)) >= 0.0


@given(st.integers(0, 1000), st.integers(0, 2000), st.sampled_from(FADES))
def test_fade_rises_from_zero_to_one(steps, step, fade):
    stage = Stage((0,), 1, fade_in_steps=steps, fade=fade)
    assert 0.0 <= stage.fade_in(step) <= stage.fade_in(step + 1) <= 1.0
    assert stage.fade_in(steps) == 1.0
    assert stage.kl_fade_in(step) == stage.fade_in(step)


def test_the_kl_weight_may_fade_in_on_its_own():
    stage = Stage((0,), 1, fade_in_steps=4, kl_fade_in_steps=8, fade="cosine")
    assert stage.fade_in(2) == pytest.approx(0.5)
    assert stage.kl_fade_in(2) == pytest.approx(0.5 * (1 - math.cos(math.pi / 4)))
    assert stage.kl_fade_in(4) == pytest.approx(0.5)
    assert Stage((0,), 1, fade_in_steps=4, kl_fade_in_steps=0).kl_fade_in(0) == 1.0


@pytest.mark.parametrize("lengths", [{}, {"epochs": 3, "steps": 100}])
def test_a_stage_lasts_epochs_or_steps(lengths):
    with pytest.raises(ValueError, match=r"epochs: got (None|3) with steps=(None|100), expected one"):
        Stage((0,), **lengths)
    assert Stage((0,), steps=100).epochs is None


@pytest.mark.parametrize("held_out", [-0.1, 1.0, math.nan])
def test_bad_fractions_to_hold_out(held_out):
    with pytest.raises(ValueError, match=f"held_out: got {held_out}, expected a fraction"):
        Schedule((Stage((0,), 3),), held_out=held_out)


def test_patience_needs_held_out_data():
    stages = (Stage((0,), 3, patience=2),)
    with pytest.raises(ValueError, match="held_out: got 0, expected a positive fraction"):
        Schedule(stages)
    assert Schedule(stages, held_out=0.1).held_out == 0.1


def test_one_optimiser_may_train_all_stages():
    stages = (Stage((1,), 3), Stage((0,), 3))
    assert not Schedule(stages).keep_optimizer
    schedule = Schedule(stages, held_out=0.1, keep_optimizer=True)
    assert str(schedule) == f"{Schedule(stages)}\none adam for all stages\nheld out: 10 % of the data"
    with pytest.raises(ValueError, match=r"^keep_optimizer: got True for optimizers \['adam', 'sgd'\]"):
        Schedule((*stages[:1], Stage((0,), 3, optimizer="sgd")), keep_optimizer=True)
    with pytest.raises(ValueError, match=r"^keep_optimizer: got True .* and unmix=True, .* none that"):
        dataclasses.replace(Schedule.unmixed(2), keep_optimizer=True)
    with pytest.raises(TypeError, match=r"^keep_optimizer: got 1, expected True or False"):
        Schedule(stages, keep_optimizer=1)


def test_a_single_facet_has_nothing_to_depend_on():
    with pytest.raises(ValueError, match=r"^redundancy_weight: got \[5.0\] with one facet, expected 0"):
        Schedule.joint(1, redundancy_weight=5.0)
    schedule = Schedule.progressive(2, redundancy_weight=5)
    assert [stage.redundancy_weight for stage in schedule.stages] == [5.0, 5.0]
    assert all(line.endswith("KL weight 1, redundancy weight 5") for line in str(schedule).splitlines())


def test_a_stage_is_one_line():
    assert str(Stage((1,), 20)) == (
        "facet 1, 20 epochs, batch 256, adam 0.002, cosine decay after 70 %, KL weight 1"
    )
    stage = Stage(
        (0, 2),
        steps=900,
        optimizer="sgd",
        decay_after=1.0,
        warm_up_epochs=3,
        fade_in_steps=50,
        kl_fade_in_steps=100,
        fade="cosine",
        pre_training_kl_weight=0.01,
        past_kl_weight=3.0,
        nuisance_kl_weight=0.5,
        freeze=("facet 1", "*.bias"),
        patience=4,
    )
    assert str(stage) == (
        "facets 0, 2, 900 steps or 4 without gain, batch 256, sgd 0.002, warm-up 3 epochs at KL weight "
        "0.1, then 1, of past facets 3, of the nuisance 0.5, before its stage 0.01, cosine fade-in 50 steps "
        "(KL 100), "
        "frozen facet 1, *.bias"
    )


def test_a_warm_up_of_steps_is_printed():
    text = str(Stage((0,), steps=9, warm_up_steps=4))
    assert "9 steps" in text
    assert "warm-up 4 steps at KL weight 0.1, then 1" in text


def test_a_schedule_is_a_table():
    """Columns that no stage uses are left out, the others start at one place."""
    stages = (Stage((1,), 20, batch_size=64), Stage((), steps=1_000, freeze=("facet 1",), patience=2))
    lines = str(Schedule((*stages, Stage((0,), 5)), held_out=0.1)).splitlines()
    assert len(lines) == 4
    assert lines[-1] == "held out: 10 % of the data"
    assert len({line.index("batch") for line in lines[:3]}) == 1
    assert "fade-in" not in str(lines)
    assert lines[1].endswith("frozen facet 1")


@pytest.mark.parametrize("J", [1, 2, 4])
def test_progressive_starts_with_the_deepest(J):
    schedule = Schedule.progressive(J, epochs=7, fade_in_steps=100, batch_size=9, kl_weight=2.0)
    assert [stage.introduces for stage in schedule.stages] == [(j,) for j in reversed(range(J))]
    assert [stage.fade_in_steps for stage in schedule.stages] == [0] + [100] * (J - 1)
    assert {(s.epochs, s.batch_size, s.kl_weight) for s in schedule.stages} == {(7, 9, 2.0)}
    assert schedule.num_facets == J


def test_progressive_takes_epochs_in_the_order_of_training():
    schedule = Schedule.progressive(3, epochs=(30, 20, 10))
    assert [(s.introduces, s.epochs) for s in schedule.stages] == [((2,), 30), ((1,), 20), ((0,), 10)]


@pytest.mark.parametrize("epochs", [(3,), (3, 3, 3), ()])
def test_progressive_wants_epochs_of_every_stage(epochs):
    with pytest.raises(ValueError, match=r"epochs: got .* each of 2 facets"):
        Schedule.progressive(2, epochs=epochs)


def test_progressive_takes_steps_in_place_of_epochs():
    assert {(s.epochs, s.steps) for s in Schedule.progressive(2).stages} == {(30, None)}
    assert {(s.epochs, s.steps) for s in Schedule.progressive(2, epochs=None).stages} == {(30, None)}
    assert {(s.epochs, s.steps) for s in Schedule.progressive(2, steps=100).stages} == {(None, 100)}
    schedule = Schedule.progressive(2, epochs=None, steps=np.array([20, 10]), warm_up_steps=5)
    assert [(s.introduces, s.steps, s.warm_up_steps) for s in schedule.stages] == [
        ((1,), 20, 5),
        ((0,), 10, 5),
    ]
    with pytest.raises(ValueError, match=r"^steps: got \[1, 2, 3\], expected one for each of 2 facets"):
        Schedule.progressive(2, steps=(1, 2, 3))
    with pytest.raises(ValueError, match=r"^epochs: got 3 with steps=100, expected one of the two"):
        Schedule.progressive(2, epochs=3, steps=100)


@pytest.mark.parametrize("make", [Schedule.progressive, Schedule.joint])
def test_bad_arguments_of_schedules(make):
    for J in (0, 2.0, "2", True):
        with pytest.raises(ValueError, match=f"^num_facets: got {J!r}, expected an integer of at least 1"):
            make(J)
    for name in ("epochs", "steps"):
        with pytest.raises(ValueError, match=f"^{name}: got '5', expected an integer of at least 1"):
            make(2, **{name: "5"})
    with pytest.raises(TypeError, match="learning_rates"):
        make(2, learning_rates=0.1)


def test_keywords_of_schedules_are_the_fields_of_a_stage():
    keywords = {name: hint.__forward_arg__ for name, hint in StageFields.__annotations__.items()}
    fields = {field.name: field.type for field in dataclasses.fields(Stage)}
    assert keywords == {name: hint for name, hint in fields.items() if name != "introduces"}


def test_joint():
    assert [(s.epochs, s.steps) for s in Schedule.joint(2).stages] == [(30, None)]
    assert [(s.epochs, s.steps) for s in Schedule.joint(2, steps=9).stages] == [(None, 9)]
    assert [(s.epochs, s.steps) for s in Schedule.joint(2, epochs=None, steps=9).stages] == [(None, 9)]
    schedule = Schedule.joint(3, epochs=4, learning_rate=1e-4)
    assert schedule.stages == (Stage((0, 1, 2), 4, learning_rate=1e-4),)


@pytest.mark.parametrize(
    "introduces", [[(0,), (0,)], [(1,)], [(0, 2)], [(0,), (0, 1)], [()], [(-1,), (0,)], [(0,), (1,), (3,)]]
)
def test_every_facet_is_introduced_once(introduces):
    with pytest.raises(ValueError, match=r"stages: they introduce the facets \[.*expected each of 0"):
        Schedule(tuple(Stage(js, 1) for js in introduces))


def test_a_stage_may_introduce_nothing():
    assert Schedule((Stage((0, 1), 3), Stage((), 5, freeze=("encoder.*",)))).num_facets == 2


def test_no_stages():
    with pytest.raises(ValueError, match="stages: got none"):
        Schedule(())


def test_everything_is_frozen():
    schedule = Schedule.progressive(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.stages = ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.stages[0].epochs = 3
