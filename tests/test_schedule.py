import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_mfcvae import Schedule, Stage


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", -1),
        ("epochs", 2.5),
        ("epochs", None),
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
    ],
)
def test_a_bad_value_is_named(field, value):
    with pytest.raises(ValueError, match=rf"^{field}: got {value!r}, expected"):
        Stage(**{"introduces": (0,), "epochs": 5, field: value})


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
    assert Stage((0,), 1, fade_in_steps=4).fade(step) == expected


def test_without_steps_it_fades_in_at_once():
    assert Stage((0,), 1).fade(0) == 1.0


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
    assert Stage((0,), 1, decay_after=decay_after).decay(progress) == pytest.approx(expected, abs=1e-12)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_decay_never_rises(decay_after, p, q):
    stage = Stage((0,), 1, decay_after=decay_after)
    assert 1.0 >= stage.decay(min(p, q)) >= stage.decay(max(p, q)) >= 0.0


@given(st.integers(0, 1000), st.integers(0, 2000))
def test_fade_rises_from_zero_to_one(steps, step):
    stage = Stage((0,), 1, fade_in_steps=steps)
    assert 0.0 <= stage.fade(step) <= stage.fade(step + 1) <= 1.0
    assert stage.fade(steps) == 1.0


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


def test_joint():
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
