import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from pyro_mfcvae._utils.checks import flag, integer, integers, number, one_of


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3), torch.tensor(3)])
def test_integers_of_any_kind(value):
    assert integer("n", value, 3, 3) == 3
    assert type(integer("n", value)) is int


@pytest.mark.parametrize("value", [True, np.True_, 3.0, np.float64(3), "3", None, [3], np.array([3])])
def test_what_is_no_integer(value):
    for kind in (TypeError, ValueError):
        with pytest.raises(kind, match=r"^n: got .*, expected an integer of at least 1; pass 1$"):
            integer("n", value, 1, advice="pass 1")


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((4, None), "of at least 4"),
        ((None, 2), "of at most 2"),
        ((4, 9), "from 4 to 9"),
        ((0, 2), "from 0 to 2"),
    ],
)
def test_integers_out_of_bounds(bounds, expected):
    with pytest.raises(ValueError, match=f"^n: got 3, expected an integer {expected}$") as error:
        integer("n", 3, *bounds)
    assert not isinstance(error.value, TypeError)


def test_sequences_of_integers():
    for values in (
        [1, 2],
        (1, np.int64(2)),
        range(1, 3),
        np.array([1, 2]),
        torch.tensor([1, 2]),
        iter([1, 2]),
    ):
        assert integers("n", values) == (1, 2)
    assert integers("n", (), allow_none=True) == ()
    for values, kind in (((), ValueError), ([0], ValueError), (1, TypeError), ({1: 2}, TypeError)):
        with pytest.raises(kind, match=r"^n: got .*, expected positive integers"):
            integers("n", values)
    with pytest.raises(ValueError, match=r"^n: got \[9\], expected integers from 0 to 8"):
        integers("n", [9], 0, 8)


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1), np.int64(1), Fraction(2, 2)])
def test_numbers_of_any_kind(value):
    assert number("x", value, least=1, most=1) == 1
    assert type(number("x", value)) is float


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 10**400, np.float32("nan"), True, "1", None, 1j]
)
def test_what_is_no_finite_number(value):
    with pytest.raises(ValueError, match=r"^x: got .*, expected a finite number$"):
        number("x", value)


@pytest.mark.parametrize(
    ("bounds", "value", "expected"),
    [
        ({"above": 0}, 0, "a positive number"),
        ({"above": 0.5}, 0.5, "a number above 0.5"),
        ({"least": 0}, -1e-9, "a number of at least 0"),
        ({"least": 0, "most": 1}, 1.5, r"a number in \[0, 1\]"),
        ({"least": 0, "below": 1}, 1.0, r"a number in \[0, 1\)"),
        ({"above": 0, "below": 1}, 0.0, r"a number in \(0, 1\)"),
        ({"above": 0, "below": 1}, 1.0, r"a number in \(0, 1\)"),
        ({"most": 1}, 2, r"a number in \(-inf, 1\]"),
    ],
)
def test_numbers_out_of_bounds(bounds, value, expected):
    with pytest.raises(ValueError, match=f"^x: got {value}, expected {expected}$"):
        number("x", value, **bounds)


def test_names_and_flags():
    assert one_of("name", np.str_("a"), ("a", None)) == "a"
    assert one_of("name", None, ("a", None)) is None
    assert flag("switch", False) is False
    for value in ("b", ["a"], np.array(["a", "b"]), 0):
        with pytest.raises(ValueError, match=r"^name: got .*, expected one of \('a', None\)$"):
            one_of("name", value, ("a", None))
        with pytest.raises(TypeError, match=r"^switch: got .*, expected True or False$"):
            flag("switch", value)
