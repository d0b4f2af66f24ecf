"""How values become brightness, colours and heights, and which part of training curves is seen."""

import numpy as np
import pytest
from hand_made import hand_made

from pyro_mfcvae.plots.curves import Curve, alive_curves, fit_curves, limits, stage_spans, term_curves
from pyro_mfcvae.plots.scales import MISSING_RGB, Scale, as_pictures, channel_notes


@pytest.mark.parametrize(
    ("values", "is_picture", "low", "high"),
    [
        ([0.1, 0.7], False, 0, 1),
        ([-0.1, 1.1], True, 0, 1),
        ([-0.1, 1.1], False, -0.1, 1.1),
        ([0.5, 0.5], True, 0, 1),
        ([3.0, 3.0], True, 3, 4),
        ([np.nan, np.nan], False, 0, 1),
        ([-4.0, np.nan, 6.0], True, -4, 6),
    ],
)
def test_one_scale_for_all_elements(values, is_picture, low, high):
    scale = Scale.shared(np.array(values), is_picture=is_picture)
    assert (scale.low, scale.high) == pytest.approx((low, high), abs=0.06)
    assert scale.low <= scale.zero <= scale.high


def test_a_scale_for_each_column():
    x = np.stack([np.arange(101.0), np.full(101, 7.0), np.full(101, np.nan)], 1)
    scale = Scale.of_columns(x)
    np.testing.assert_allclose(scale.low, [1, 7, 0])
    np.testing.assert_allclose(scale.high, [99, 8, 1])
    np.testing.assert_allclose(scale.start, [0.5, 0, 0])
    assert np.isnan(scale.scaled(x)[:, 2]).all()
    assert (np.nanmin(scale.scaled(x)), np.nanmax(scale.scaled(x))) == (0, 1)


@pytest.mark.parametrize(("channels", "colors"), [(None, 1), (1, 1), (2, 1), (3, 3), (5, 3)])
def test_channels_and_missing_entries(channels, colors):
    shape = (4, 3, 2) if channels is None else (4, channels, 3, 2)
    x = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    stacked = x.reshape(4, -1, 3, 2)
    expected = stacked.mean(1, keepdims=True) if channels == 2 else stacked[:, :3]
    pictures = as_pictures(x)
    assert pictures.shape == (4, 3, 2, colors)
    np.testing.assert_array_equal(pictures, expected.transpose(0, 2, 3, 1))
    stacked[1, 0, 2, 1] = np.nan
    marked = as_pictures(x)
    np.testing.assert_array_equal(marked[1, 2, 1], MISSING_RGB)
    marked[1, 2, 1] = pictures[1, 2, 1]
    np.testing.assert_array_equal(marked, np.broadcast_to(pictures, marked.shape))
    assert bool(channel_notes(shape[1:])) == (channels in (2, 5))


def test_the_depths_of_the_first_epochs_are_left_out():
    settled = Curve("settled", range(1, 31), np.linspace(-10, 0, 30).tolist())
    deep = Curve("deep", range(1, 3), [-1e6, -1e3])
    low, high = limits([settled])
    assert (low, high) == pytest.approx((-10.5, 0.5))
    low, high = limits([settled, deep, Curve("none", [], [])])
    assert -25 < low < -10
    assert limits([Curve("flat", [1], [3.0])]) == (2.0, 4.0)


def test_a_facet_has_curves_from_its_stage_on():
    fitted, _, _ = hand_made()
    assert [(span.stage, span.first, span.last) for span in stage_spans(fitted.history)] == [
        (0, 1, 3),
        (1, 4, 6),
    ]
    assert [curve.name for curve in fit_curves(fitted.history)] == ["ELBO", "log-likelihood"]
    for curves in (term_curves(fitted), alive_curves(fitted)):
        assert [list(curve.epochs) for curve in curves] == [[4, 5, 6], [1, 2, 3, 4, 5, 6]]
    assert list(alive_curves(fitted)[0].values) == [1, 4, 5]
