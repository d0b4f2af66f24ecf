"""Data are what they are: in any units, of any type, in their order; what may be two things is refused."""

import warnings
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
import torch
from attacks import blobs, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Subset, TensorDataset

import pyro_mfcvae as mf
from pyro_mfcvae.data import as_labelled, as_tensor
from pyro_mfcvae.likelihoods.base import moments

X, Y = blobs(300)
N, D = X.shape
UNITS = [(1e-25, 0.0), (1e25, 0.0), (1e-3, -7.0), (2.0, 1e3), (1.0, 1e9), (1e-12, 1e-3), (1e18, -1e26)]


@pytest.fixture(scope="module")
def fitted():
    return mf.fit(X, tiny(epochs=10), progress=False)


# --- units ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), UNITS)
@pytest.mark.parametrize("likelihood", ["gaussian", "mixed", "gaps"])
def test_units_and_offsets_do_not_matter(a, b, likelihood):
    """The same clusters, and the density of a x + b is that of x, by the change of variables."""
    kind = mf.likelihoods.Gaussian(standardize=True, learn="element", missing=likelihood == "gaps")
    config = tiny(epochs=6, likelihood=mf.likelihoods.Mixed() if likelihood == "mixed" else kind)
    x = X.copy()
    if likelihood == "gaps":
        x[::7, 1] = np.nan
    one, other = (mf.fit(data, config, progress=False) for data in (x, a * x + b))
    assert adjusted_rand_score(one.predict(x)[:, 0], other.predict(a * x + b)[:, 0]) > 0.999
    observed = (~np.isnan(x)).sum() / N
    expected = one.score(x) - observed * np.log(a)
    assert other.score(a * x + b) == pytest.approx(expected, abs=1e-3 * (1 + abs(b / a)) ** 0.25)
    here = (other.reconstruct(a * x + b) - b) / a
    np.testing.assert_allclose(here, one.reconstruct(x), atol=1e-2)


@settings(max_examples=100, deadline=None)
@given(st.floats(-25, 25), st.sampled_from([-1, 1]), st.floats(-1e9, 1e9))
def test_densities_change_as_the_variable(power, sign, shift):
    a = sign * 10.0**power
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    values = torch.from_numpy(X[:50, :3])
    log_p = []
    for x in (values, a * (values + shift)):
        likelihood = mf.likelihoods.Gaussian(0.5, standardize=True)((3,))
        likelihood.calibrate(x)
        log_p.append(likelihood(z * sign if x is not values else z).log_prob(x[:5]))
    torch.testing.assert_close(log_p[1], log_p[0] - 3 * float(np.log(abs(a))), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("value", [0.1, 14.62, -122.4194, 1e25, 1e-25, 0.0, 2.0**60])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 100, 5_000])
def test_a_constant_has_no_deviation(value, dtype, rows):
    x = torch.full((rows, 2), value, dtype=dtype)
    x[: rows // 3, 1] = torch.nan
    loc, scale = moments(x)
    assert torch.equal(loc, x[-1].double())
    assert (scale >= 1).all()
    assert torch.equal(scale, torch.finfo(dtype).eps * loc.abs().clamp(min=1 / torch.finfo(dtype).eps))


def test_rounding_is_no_deviation():
    """0.1 + 0.2 in one row and 0.3 in others."""
    x = torch.tensor([[0.1 + 0.2], [0.3], [0.3]], dtype=torch.float64)
    assert moments(x)[1].item() == 1


def test_moments_are_those_of_numpy():
    x = X.copy()
    x[3:50, 2] = np.nan
    loc, scale = moments(torch.from_numpy(x))
    np.testing.assert_allclose(loc, np.nanmean(x, 0), rtol=1e-12)
    np.testing.assert_allclose(scale, np.nanstd(x, 0), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:training diverged")
def test_a_likelihood_that_rounds_away_the_data_says_so():
    config = tiny(likelihood=mf.likelihoods.Gaussian())
    with (
        suppress(FloatingPointError),  # which may follow
        pytest.warns(UserWarning, match="dataset: 4 of 4 elements .* no more than float32 rounds"),
    ):
        mf.fit(X + 1e9, config, progress=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mf.fit(X + 1e3, config, progress=False)
    assert not [each for each in caught if "rounds" in str(each.message)]


def test_constant_columns_that_move_later_change_little(fitted):
    x = np.c_[X, np.full(N, 14.62)]
    model = mf.fit(x, tiny(epochs=10), progress=False)
    moved = np.c_[X, np.full(N, 14.63)]
    assert (model.predict(moved) == model.predict(x)).mean() > 0.99


# --- kinds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 32, 32, 3), (40, 16, 20, 1), (40, 8, 8, 4)])
def test_channels_last_are_refused(shape):
    x = np.random.default_rng(0).uniform(size=shape)
    for data in (x, TensorDataset(torch.from_numpy(x)), DataLoader(TensorDataset(torch.from_numpy(x)), 8)):
        with pytest.raises(ValueError, match=r"channels seem to be last, expected \(N, C, H, W\); move"):
            mf.fit(data, progress=False)


def test_prediction_of_channels_last_says_what_to_do():
    x = np.random.default_rng(0).uniform(size=(60, 3, 8, 8))
    fitted = mf.fit(x, tiny(), progress=False)
    with pytest.raises(ValueError, match=r"move the channels with np\.moveaxis"):
        fitted.predict(np.moveaxis(x, 1, -1))


@pytest.mark.parametrize("kind", ["array", "tensor", "dataset", "loader", "file", "streamed", "masked"])
def test_bytes_of_zero_and_one_are_refused(kind, tmp_path):
    x = (X > 0).astype(np.uint8)
    data = {
        "tensor": torch.from_numpy(x),
        "dataset": TensorDataset(torch.from_numpy(x)),
        "loader": DataLoader(TensorDataset(torch.from_numpy(x)), 50, shuffle=True),
        "masked": np.ma.array(x, mask=np.eye(N, D)),
    }.get(kind, x)
    if kind in ("file", "streamed"):
        np.save(tmp_path / "x.npy", x)
        data = tmp_path / "x.npy"
    config = tiny(likelihood=mf.likelihoods.Bernoulli(missing=True))
    with pytest.raises(ValueError, match=r"8-bit data that are 0 or 1 .* x\.astype\('float32'\)"):
        mf.fit(data, config, progress=False, in_memory=kind != "streamed")
    mf.fit(x.astype("float32"), config, progress=False)


def test_masked_bytes_are_missing_and_the_others_scaled():
    x = np.ma.array(np.arange(12, dtype=np.uint8).reshape(4, 3) * 20, mask=np.eye(4, 3))
    read = as_tensor(x, allow_missing=True).numpy()
    np.testing.assert_array_equal(np.isnan(read), x.mask)
    np.testing.assert_allclose(read[~x.mask], x.compressed() / 255, rtol=1e-6)
    with pytest.raises(ValueError, match="NaN"):
        as_tensor(x)


@pytest.mark.parametrize("dtype", ["float64", "int64", "int32", "uint32", "float32", "int16", "float16"])
def test_the_widest_type_is_as_asked(dtype):
    x = np.arange(6).reshape(3, 2).astype(dtype)
    is_exact = np.can_cast(x.dtype, np.float32)
    for data in (x, torch.from_numpy(x), TensorDataset(torch.from_numpy(x))):
        wide = as_tensor(data, dtype=torch.float64)
        assert wide.dtype == (torch.float32 if is_exact else torch.float64)
        assert as_tensor(data).dtype == torch.float32
        assert torch.equal(wide.float(), as_tensor(data))


def test_two_arrays_in_a_list_are_two_data_and_in_a_tuple_a_pair():
    x = np.arange(8.0).reshape(2, 4)
    assert as_labelled(list(x))[0].shape == (2, 4)
    assert as_labelled([x, x + 1])[0].shape == (2, 2, 4)
    pair = as_labelled((x, np.array([0, 1])))
    assert pair[0].shape == (2, 4)
    assert pair[1].tolist() == [0, 1]
    assert as_labelled([x, np.array([0, 1])])[1].tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"two data or a pair of data and labels; give a tuple"):
        as_labelled([x, x.astype(int)])


def test_tables_are_read_column_by_column():
    frame = pd.DataFrame(
        {
            "a": [1.5, 2.5, np.nan],
            "b": [True, False, True],
            "c": pd.array([1, None, 3], dtype="Int64"),
            "d": np.array([1, 2, 3], np.uint8),
            "e": pd.array([1.5, None, 2], dtype="Float32"),
            "f": np.array([1, 2.5, None], object),
        }
    )
    nan = np.nan
    expected = [[1.5, 1, 1, 1, 1.5, 1], [2.5, 0, nan, 2, nan, 2.5], [nan, 1, 3, 3, 2, nan]]
    np.testing.assert_array_equal(as_tensor(frame, allow_missing=True), np.float32(expected))
    np.testing.assert_array_equal(as_tensor(frame[["d"]]), [[1], [2], [3]])  # no picture
    for column in (["x", "y", "z"], pd.to_datetime(["2020", "2021", "2022"]), pd.Categorical(list("aba"))):
        with pytest.raises(TypeError, match=r"^x: got column 'g' of .*expected real numbers in every column"):
            as_tensor(frame.assign(g=column))


def test_fewer_data_than_clusters_after_some_are_held_out():
    config = tiny(held_out=0.5)
    with pytest.raises(ValueError, match=r"got 4 data, 2 of them held out, expected at least .* clusters, 3"):
        mf.fit(X[:4], config, progress=False)


# --- order ---------------------------------------------------------------------------------------


def test_rows_of_an_answer_are_rows_of_the_question(fitted, tmp_path):
    dataset = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    sampler = RandomSampler(dataset)
    shuffled = [
        DataLoader(dataset, 32, shuffle=True),
        DataLoader(dataset, 32, sampler=sampler),
        DataLoader(dataset, batch_sampler=BatchSampler(sampler, 32, False)),
        DataLoader(dataset, batch_sampler=[[3, 1], [2]]),
    ]
    for loader in shuffled:
        for ask in (
            fitted.predict,
            fitted.predict_proba,
            fitted.transform,
            fitted.reconstruct,
            fitted.log_likelihood,
            fitted.score,
            lambda x: fitted.evaluate(x, Y),
            lambda x: fitted.report(tmp_path / "r.html", x, Y),
        ):
            with pytest.raises(ValueError, match=r"^x: got a DataLoader that shuffles .* shuffle=False"):
                ask(loader)
    with pytest.raises(ValueError, match=r"drops the last 12 of 300 data, .* drop_last=False"):
        fitted.predict(DataLoader(dataset, 32, drop_last=True))
    expected = fitted.predict(X)
    for loader in (
        DataLoader(dataset, 32),
        DataLoader(dataset, 30, drop_last=True),
        DataLoader(dataset, batch_size=None),
    ):
        if loader.batch_size is not None:
            np.testing.assert_array_equal(fitted.predict(loader), expected)
    np.testing.assert_array_equal(fitted.predict(Subset(dataset, range(10, 20))), expected[10:20])


def test_latents_that_no_mixture_fits_say_so():
    prior = mf.priors.FullGaussian()(3, 2)
    z = np.full((50, 2), np.nan)
    with pytest.raises(FloatingPointError, match=r"latents of nan to nan cannot be clustered: .*NaN"):
        prior.initialize(z, seed=0)
