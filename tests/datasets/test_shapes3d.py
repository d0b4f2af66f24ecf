"""3D Shapes, from a file of its shape in which few pictures are written."""

import itertools
import math
import pickle
import re

import h5py
import numpy as np
import pytest
import torch

from pyro_mfcvae.data import RenderedShapes, Shapes3D, as_labelled
from pyro_mfcvae.datasets import shapes3d

SIZES = tuple(Shapes3D.FACTORS.values())
N = math.prod(SIZES)
VALUES = [
    *[np.arange(10) / 10] * 3,
    np.linspace(0.75, 1.25, 8),
    np.arange(4.0),
    np.linspace(-30.0, 30.0, 15),
]
SOME = {
    "floor_hue": [1, 9],
    "wall_hue": [0, 5],
    "object_hue": [6],
    "scale": [0, 3],
    "shape": "all",
    "orientation": [0, 7, 14],
}


def write(path, labels=None, chunks=(480, 64, 64, 3), **shapes):
    """A file of the true layout, without pictures."""
    if labels is None:
        labels = np.stack([grid.ravel() for grid in np.meshgrid(*VALUES, indexing="ij")], axis=1)
    with h5py.File(path, "w") as file:
        file.create_dataset("labels", data=labels, compression="gzip", compression_opts=1, shuffle=True)
        options = {} if chunks is None else {"chunks": chunks, "compression": "gzip", "compression_opts": 1}
        file.create_dataset(
            "images", shapes.get("images", (N, 64, 64, 3)), shapes.get("dtype", "u1"), **options
        )
    return path


def picture(labels):
    """64 x 64 pixels that tell the labels and the place in the picture."""
    h, w, c = np.meshgrid(np.arange(64), np.arange(64), np.arange(3), indexing="ij")
    weights = [31, 17, 5, 3, 11, 7]
    return ((h * 3 + w * 5 + c * 50 + np.dot(labels, weights)) % 256).astype(np.uint8)


def put(path, labels):
    """Write the pictures of these labels."""
    with h5py.File(path, "a") as file:
        for row in sorted(labels):
            file["images"][int(np.ravel_multi_index(row, SIZES))] = picture(row)


def combinations(factors):
    listed = [range(n) if factors[name] == "all" else factors[name] for name, n in Shapes3D.FACTORS.items()]
    return list(itertools.product(*listed))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = write(tmp_path_factory.mktemp("data") / "3dshapes.h5")
    put(path, combinations(SOME))
    return path


@pytest.fixture(scope="module")
def some(path):
    return Shapes3D(path, SOME, image_size=64)


def test_pictures_and_labels(some):
    assert some.images.shape == (96, 3, 64, 64)
    assert some.images.dtype == np.uint8
    assert some.labels.dtype == np.int64
    assert some.labels.tolist() == [list(row) for row in combinations(SOME)]
    for image, labels in zip(some.images, some.labels, strict=True):
        np.testing.assert_array_equal(image, picture(labels).transpose(2, 0, 1))


def test_it_has_the_words_of_the_rendered_shapes(some, path):
    assert some.factor_names == some.label_names == RenderedShapes.factor_names
    assert Shapes3D.FACTORS == RenderedShapes.FACTORS
    rendered = RenderedShapes(SOME, image_size=16)
    read = Shapes3D(path, SOME, image_size=16)
    assert read.factors == rendered.factors
    np.testing.assert_array_equal(read.labels, rendered.labels)
    for ours, theirs in zip(read.split(0.25, seed=3), rendered.split(0.25, seed=3), strict=True):
        assert type(ours) is Shapes3D
        np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert repr(read) == repr(rendered).replace("RenderedShapes", "Shapes3D")


@pytest.mark.parametrize("size", [16, 32])
def test_smaller_pictures_are_means(some, path, size):
    small = Shapes3D(path, SOME, image_size=size)
    assert small.images.shape == (96, 3, size, size)
    assert small.image_size == size
    means = torch.nn.functional.avg_pool2d(torch.from_numpy(some.images).double(), 64 // size)
    np.testing.assert_array_equal(small.images, torch.floor(means + 0.5).numpy())


def test_half_the_size_is_what_bilinear_interpolation_gives(some, path):
    small = Shapes3D(path, SOME).images
    bilinear = torch.nn.functional.interpolate(torch.from_numpy(some.images).double(), 32, mode="bilinear")
    assert abs(small - bilinear.numpy()).max() <= 0.5


@pytest.mark.parametrize("chunks", [(1, 64, 64, 3), (7, 64, 64, 3), (1000, 32, 64, 1), (30_000, 16, 16, 1)])
def test_the_chunks_of_the_file_do_not_matter(some, path, tmp_path, chunks):
    other = write(tmp_path / "3dshapes.h5", chunks=chunks)
    rows = [*combinations({**SOME, "shape": [0, 2], "scale": [3]})]
    with h5py.File(other, "a") as file:
        for row in rows[::5]:
            file["images"][int(np.ravel_multi_index(row, SIZES)), :, :8] = picture(row)[:, :8]
    images = Shapes3D(other, {**SOME, "shape": [0, 2], "scale": [3]}, image_size=64).images
    for row, image in zip(rows[::5], images[::5], strict=True):
        np.testing.assert_array_equal(image[:, :, :8], picture(row)[:, :8].transpose(2, 0, 1))
    written = np.zeros(len(rows), bool)
    written[::5] = True
    assert (images[~written] == 0).all()


def test_only_what_is_chosen_is_read(path, monkeypatch):
    read = []
    original = h5py.Dataset.__getitem__

    def spy(self, key, **rest):
        result = original(self, key, **rest)
        if self.name == "/images":
            read.append(len(result))
        return result

    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)
    Shapes3D(path, SOME)
    assert 96 <= sum(read) <= 4 * 480


@pytest.mark.parametrize(
    ("make", "fixed"),
    [(Shapes3D.floor, {"wall_hue": 5, "object_hue": 6}), (Shapes3D.wall, {"floor_hue": 0, "object_hue": 6})],
)
def test_the_two_choices_of_the_paper(path, make, fixed):
    chosen = make(path, 16)
    assert chosen.images.shape == (4800, 3, 16, 16)
    for f, name in enumerate(chosen.factor_names):
        values = [fixed[name]] if name in fixed else list(range(SIZES[f]))
        assert sorted(set(chosen.labels[:, f])) == values
    known = chosen.images.any((1, 2, 3))
    assert known.sum() == len([row for row in combinations(SOME) if row in set(map(tuple, chosen.labels))])
    assert known.any() == (make == Shapes3D.floor)


def test_the_default_is_the_floor(path):
    default = Shapes3D(path)
    assert default.factors == Shapes3D.floor(path).factors
    assert default.image_size == 32
    assert repr(default).startswith("Shapes3D(4800 images of 32x32, varying floor_hue: 10, scale: 8")


def test_a_data_set(some, path):
    x, y = as_labelled(some)
    assert torch.equal(x, torch.from_numpy(some.images) / 255)
    assert y.tolist() == some.labels.tolist()
    loader = torch.utils.data.DataLoader(some, batch_size=50)
    assert torch.equal(torch.cat([images for images, _ in loader]), torch.from_numpy(some.images))
    copy = pickle.loads(pickle.dumps(some))
    np.testing.assert_array_equal(copy.images, some.images)
    np.testing.assert_array_equal(Shapes3D(path.parent, SOME, image_size=64).images, some.images)
    np.testing.assert_array_equal(Shapes3D(str(path), SOME, image_size=64).images, some.images)


# Errors


def test_missing(tmp_path):
    message = r"^path: got .*3dshapes.h5, which is not there, expected 267,573,662 bytes. Get it from https://.*/3dshapes.h5$"
    for make in (Shapes3D, Shapes3D.floor, Shapes3D.wall):
        for path in (tmp_path, str(tmp_path), tmp_path / "nowhere" / "3dshapes.h5"):
            with pytest.raises(FileNotFoundError, match=message):
                make(path)


def test_damaged(path, tmp_path):
    whole, broken = path.read_bytes(), tmp_path / "3dshapes.h5"
    flipped = bytearray(whole)
    flipped[-40_000:] = bytes(40_000)
    for content in (b"", b"<html>Not found</html>", whole[:3000], whole[: len(whole) // 2], bytes(flipped)):
        broken.write_bytes(content)
        with pytest.raises(ValueError, match=r"^path: .*3dshapes.h5 cannot be read .*267,573,662 bytes"):
            Shapes3D(broken, SOME)


def test_other_content_is_refused(tmp_path):
    labels = np.zeros((N, 6))
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file.create_group("images")
    write(tmp_path / "small.h5", chunks=None, images=(10, 64, 64, 3), labels=labels[:10])
    write(tmp_path / "floats.h5", dtype="f4", labels=labels)
    write(tmp_path / "short.h5", labels=labels[:10])
    write(tmp_path / "constant.h5", labels=labels)
    grid = np.stack([g.ravel() for g in np.meshgrid(*VALUES, indexing="ij")], axis=1)
    grid[[0, 1]] = grid[[1, 0]]
    write(tmp_path / "swapped.h5", labels=grid)
    for name, message in {
        "empty": "labels",
        "small": "images is uint8 of shape (10, 64, 64, 3), not uint8 (480000, 64, 64, 3)",
        "floats": "images is float32 of shape",
        "short": "labels has shape (10, 6), not (480000, 6)",
        "constant": "the labels of floor_hue are not in the order of 3D Shapes",
        "swapped": "the labels of orientation are not in the order of 3D Shapes",
    }.items():
        with pytest.raises(ValueError, match=rf"cannot be read .*{re.escape(message)}"):
            Shapes3D(tmp_path / f"{name}.h5", SOME)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"image_size": 28}, ValueError, "image_size: got 28, expected one of (16, 32, 64)"),
        ({"image_size": 8}, ValueError, "image_size: got 8, expected one of (16, 32, 64)"),
        ({"image_size": 32.0}, TypeError, "image_size: got 32.0, expected an integer"),
        (
            {"factors": {"colour": [0]}},
            ValueError,
            "factors: got the unknown name 'colour', expected some of",
        ),
        ({"factors": {"shape": [4]}}, ValueError, "factors['shape']: got [4], expected integers from 0 to 3"),
        ({"factors": "all"}, TypeError, "factors: got 'all', expected a mapping"),
    ],
)
def test_bad_arguments_are_refused(path, arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        Shapes3D(path, **arguments)


def test_the_module_names_the_real_file():
    assert shapes3d.URL.endswith(shapes3d.FILE)
    assert shapes3d.FILE_SIZE == 267_573_662
