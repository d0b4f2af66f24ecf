"""The rendered room: geometry, pictures, labels and errors."""

import colorsys
import pickle
import re

import numpy as np
import pytest
import torch

from pyro_mfcvae.datasets import shapes as module
from pyro_mfcvae.datasets.shapes import RenderedShapes
from pyro_mfcvae.metrics.labels import Labels

SMALL = {
    "floor_hue": [0, 4],
    "wall_hue": [2, 7],
    "object_hue": [5],
    "scale": [0, 3, 7],
    "shape": "all",
    "orientation": [0, 6, 14],
}


@pytest.fixture(scope="module")
def small():
    return RenderedShapes(SMALL)


def weights(shape, *, scale=4, orientation=9, size=32):
    (_, found), *rest = module.geometries([scale], [shape], [orientation], size)
    assert not rest
    return found


# Geometry


def inside(shape, p):
    """Membership of points (3, ...) in the unit solids, written apart from the ray caster."""
    x, y, z = p
    if shape == 0:
        h = module.CUBE_HALF
        return (abs(x) <= h) & (abs(y - h) <= h) & (abs(z) <= h)
    if shape == 1:
        return (np.hypot(x, z) <= module.CYLINDER_RADIUS) & (y >= 0) & (y <= module.CYLINDER_HEIGHT)
    if shape == 2:
        return x**2 + (y - module.SPHERE_RADIUS) ** 2 + z**2 <= module.SPHERE_RADIUS**2
    r = module.CAPSULE_RADIUS
    nearest = np.clip(y, r, module.CAPSULE_HEIGHT - r)
    return x**2 + (y - nearest) ** 2 + z**2 <= r**2


@pytest.mark.parametrize("shape", range(4))
def test_intersections_agree_with_ray_marching(shape):
    rng = np.random.default_rng(shape)
    o = rng.normal(size=(3, 1500))
    o = 3.0 * o / np.linalg.norm(o, axis=0) + module.UP
    aim = rng.uniform(-1.2, 1.2, size=(3, 1500)) + 0.9 * module.UP
    d = (aim - o) / np.linalg.norm(aim - o, axis=0)
    steps = np.arange(0.0, 6.0, 0.005)
    within = inside(shape, o[:, :, None] + d[:, :, None] * steps)
    marched = np.where(within.any(1), steps[within.argmax(1)], np.inf)

    t = module.SOLIDS[shape][0](o, d)

    hit, missed = np.isfinite(t), ~np.isfinite(marched)
    assert 300 < hit.sum() < 1400
    # Rays that graze the solid over less than a step may be missed by marching, never found.
    assert not (~hit & ~missed).any()
    assert (hit & missed).mean() < 0.01
    both = hit & ~missed
    np.testing.assert_allclose(t[both], marched[both] - 0.0025, atol=0.0026)


@pytest.mark.parametrize("shape", range(4))
def test_normals_are_unit_vectors_that_point_out_of_the_solid(shape):
    rng = np.random.default_rng(10 + shape)
    o = rng.normal(size=(3, 500)) + np.array([[0.0], [5.0], [4.0]])
    aim = rng.uniform(-0.7, 0.7, size=(3, 500)) + 0.9 * module.UP
    hit, normal_at = module.SOLIDS[shape]
    t = hit(o, aim - o)
    seen = np.isfinite(t)
    assert seen.sum() > 100
    p = o[:, seen] + t[seen] * (aim - o)[:, seen]
    normal = normal_at(p)
    np.testing.assert_allclose(np.linalg.norm(normal, axis=0), 1.0, atol=1e-6)
    assert not inside(shape, p + 1e-6 * normal).any()
    # A step inwards stays inside, except where the step crosses an edge.
    assert inside(shape, p - 1e-6 * normal).mean() > 0.99


@pytest.mark.parametrize(
    ("shape", "top"),
    [
        (0, 2 * module.CUBE_HALF),
        (1, module.CYLINDER_HEIGHT),
        (2, 2 * module.SPHERE_RADIUS),
        (3, module.CAPSULE_HEIGHT),
    ],
)
def test_rays_along_the_axes(shape, top):
    hit, normal_at = module.SOLIDS[shape]
    o = np.array([[0.0, 0.0, 9.0, 0.0], [5.0, 5.0, 5.0, top / 2], [0.0, 0.0, 0.0, 5.0]])
    d = np.array([[0.0, 0.0, 0.0, 0.0], [-1.0, 1.0, -1.0, 0.0], [0.0, 0.0, 0.0, -1.0]])
    half = {
        0: module.CUBE_HALF,
        1: module.CYLINDER_RADIUS,
        2: module.SPHERE_RADIUS,
        3: module.CAPSULE_RADIUS,
    }[shape]
    # Down onto the top, away from it, past the side, and level onto the front.
    np.testing.assert_allclose(hit(o, d), [5.0 - top, np.inf, np.inf, 5.0 - half], atol=1e-9)
    np.testing.assert_allclose(normal_at(np.array([[0.0], [top], [0.0]])), module.UP, atol=1e-9)


def test_room_is_left_through_floor_and_walls():
    r = module.ROOM_HALF
    o = np.array([[0.0], [1.0], [9.0]])
    d = np.array([[0.0, 0.0, 5.0, -5.0], [-1.0, 0.0, 0.0, 0.0], [-8.0, -1.0, -10.0, -10.0]])
    p, normal, floor = module.hit_room(o, d)
    assert floor.tolist() == [True, False, False, False]
    expected = [[0.0, 0.0, r, -r], [0.0, 1.0, 1.0, 1.0], [1.0, -r, 9.0 - 2 * r, 9.0 - 2 * r]]
    np.testing.assert_allclose(p, expected, atol=1e-9)
    np.testing.assert_allclose(normal, [[0, 0, -1, 1], [1, 0, 0, 0], [0, 1, 0, 0]], atol=0)


@pytest.mark.parametrize("shape", range(4))
def test_weights_share_out_every_pixel(shape):
    floor, wall, solid, gloss = weights(shape)
    for part in (floor, wall, solid):
        assert part.min() == 0.0
        assert module.AMBIENT < part.max() <= 1.0 + 1e-12
    assert (floor + wall + solid >= module.AMBIENT - 1e-12).all()
    assert (gloss[solid == 0.0] == 0.0).all()
    assert floor[-1].min() > 0.0
    assert floor[0].max() == 0.0


@pytest.mark.parametrize("shape", range(4))
def test_object_is_large_and_stays_in_the_picture(shape):
    for scale, least in ((0, 0.3), (7, 0.5)):
        for orientation in (0, 7, 14):
            solid = weights(shape, scale=scale, orientation=orientation)[2] > 0.0
            assert solid.any(1).mean() > least
            assert not (solid[0] | solid[-1] | solid[:, 0] | solid[:, -1]).any()


@pytest.mark.parametrize("shape", range(4))
def test_object_casts_a_shadow_with_a_soft_edge(shape):
    floor, _, solid, _ = weights(shape, size=64)
    bare = floor[solid == 0.0]
    bare = bare[bare > 0.39]  # without the pixels shared with the wall
    assert (bare < module.AMBIENT + 1e-9).sum() > 20
    assert ((bare > module.AMBIENT + 0.05) & (bare < 0.8)).sum() > 20


# Pictures


def test_shapes_dtypes_and_order(small):
    assert len(small) == 2 * 2 * 3 * 4 * 3
    assert small.images.shape == (144, 3, 32, 32)
    assert small.images.dtype == np.uint8
    assert small.labels.shape == (144, 6)
    assert small.labels.dtype == np.int64
    rows = [tuple(row) for row in small.labels]
    assert rows == sorted(set(rows))
    for column, name in enumerate(small.factor_names):
        values = SMALL[name] if SMALL[name] != "all" else [0, 1, 2, 3]
        assert sorted(set(small.labels[:, column])) == values
    assert small.label_names == small.factor_names == tuple(RenderedShapes.FACTORS)
    assert dict(RenderedShapes.FACTORS) == {
        "floor_hue": 10,
        "wall_hue": 10,
        "object_hue": 10,
        "scale": 8,
        "shape": 4,
        "orientation": 15,
    }


def test_deterministic(small):
    np.testing.assert_array_equal(small.images, RenderedShapes(SMALL).images)


def test_order_and_kind_of_the_lists_do_not_matter(small):
    turned = {name: list(values)[::-1] if values != "all" else np.arange(4) for name, values in SMALL.items()}
    again = RenderedShapes(turned)
    np.testing.assert_array_equal(small.labels, again.labels)
    np.testing.assert_array_equal(small.images, again.images)


def test_every_row_is_what_its_labels_render(small):
    for i in range(0, len(small), 13):
        one = RenderedShapes({name: [v] for name, v in zip(small.label_names, small.labels[i], strict=True)})
        np.testing.assert_array_equal(one.labels[0], small.labels[i])
        np.testing.assert_array_equal(one.images[0], small.images[i])


def test_subset_equals_rows_of_the_larger_set(small):
    subset = RenderedShapes({**SMALL, "floor_hue": [4], "shape": [1, 3], "orientation": (6,)})
    rows = (small.labels[:, [0, 5]] == [4, 6]).all(1) & np.isin(small.labels[:, 4], [1, 3])
    np.testing.assert_array_equal(subset.labels, small.labels[rows])
    np.testing.assert_array_equal(subset.images, small.images[rows])


def test_presets():
    floor = RenderedShapes.floor(16)
    assert floor.images.shape == (4800, 3, 16, 16)
    assert [len(set(column)) for column in floor.labels.T] == [10, 1, 1, 8, 4, 15]
    assert len(np.unique(floor.images.reshape(4800, -1), axis=0)) == 4800
    default = RenderedShapes(image_size=16)
    np.testing.assert_array_equal(default.images, floor.images)
    wall = RenderedShapes.wall(image_size=16)
    assert [len(set(column)) for column in wall.labels.T] == [1, 10, 1, 8, 4, 15]
    for preset in (floor, wall):
        fixed = [values[0] for values in preset.factors.values() if len(values) == 1]
        assert len(set(fixed)) == len(fixed)
    shared = {**floor.factors, "floor_hue": [3]}
    rows = wall.labels[:, 1] == 6
    np.testing.assert_array_equal(RenderedShapes(shared, image_size=16).images, wall.images[rows])


def test_a_factor_left_out_is_zero():
    only = RenderedShapes({"shape": [2]}, image_size=16)
    assert only.labels.tolist() == [[0, 0, 0, 0, 2, 0]]
    assert RenderedShapes({}, image_size=16).labels.tolist() == [[0] * 6]


BASE = {
    "floor_hue": [3],
    "wall_hue": [6],
    "object_hue": [0],
    "scale": [4],
    "shape": [2],
    "orientation": [7],
}
# Mean absolute difference, in 0..255, that neighbouring values must exceed.
LEAST = {
    "floor_hue": 10.0,
    "wall_hue": 10.0,
    "object_hue": 3.0,
    "scale": 2.0,
    "shape": 5.0,
    "orientation": 1.2,
}


@pytest.mark.parametrize("name", RenderedShapes.FACTORS)
@pytest.mark.parametrize("shape", range(4))
def test_each_factor_changes_the_picture(name, shape):
    row = RenderedShapes({**BASE, "shape": [shape], name: "all"}).images.astype(float)
    changes = abs(np.diff(row, axis=0)).mean((1, 2, 3))
    assert changes.min() > LEAST[name]


@pytest.mark.parametrize("name", ["floor_hue", "wall_hue", "object_hue"])
def test_a_hue_changes_its_own_region_only(name):
    part = ["floor_hue", "wall_hue", "object_hue"].index(name)
    images = RenderedShapes({**BASE, name: "all"}).images
    own = weights(BASE["shape"][0], scale=BASE["scale"][0], orientation=7)[part]
    changed = (images != images[0]).any((0, 1))
    assert 0.05 < changed.mean() < 0.8
    assert not changed[own == 0.0].any()
    assert changed[own > 0.1].all()


def test_hues_are_those_of_the_hsv_circle():
    images = RenderedShapes({**BASE, "floor_hue": "all"}).images
    corner = images[:, :, -1, 0].astype(float)
    for hue, rgb in enumerate(corner):
        low, high = rgb.min(), rgb.max()
        assert low == pytest.approx((1 - module.SATURATION) * high, abs=1.0)
        expected = colorsys.hsv_to_rgb(hue / 10, module.SATURATION, high)
        np.testing.assert_allclose(rgb, expected, atol=1.0)


def test_scale_grows_and_orientation_turns():
    areas = [(weights(2, scale=scale)[2] > 0.0).sum() for scale in range(8)]
    assert areas == sorted(set(areas))
    ratio = areas[-1] / areas[0]
    assert ratio == pytest.approx((1.25 / 0.75) ** 2, rel=0.2)
    # The cube's silhouette is widest when seen across its diagonal.
    widths = [(weights(0, orientation=k)[2] > 0.0).any(0).sum() for k in (0, 7, 14)]
    assert widths[1] < widths[0]
    assert widths[1] < widths[2]


def test_silhouettes_are_antialiased():
    _, wall, solid, _ = weights(2)
    mixed = (wall > 0.0) & (solid > 0.0)
    assert mixed.sum() > 10
    # Red on blue: on the outline the blue of the wall fades out in more than two steps.
    image = RenderedShapes(BASE).images[0].astype(float)
    outline = image[2, : mixed.any(1).argmax() + 2]
    assert len(np.unique(outline.round(-1))) > 4


@pytest.mark.parametrize("size", [16, 33, 64])
def test_sizes_show_the_same_picture(size):
    large = RenderedShapes(BASE, image_size=size)
    assert large.images.shape == (1, 3, size, size)
    assert large.image_size == size
    reference = RenderedShapes(BASE, image_size=128).images[0].mean((1, 2))
    np.testing.assert_allclose(large.images[0].mean((1, 2)), reference, atol=1.5)


# A data set


def test_items(small):
    image, label = small[3]
    np.testing.assert_array_equal(image, small.images[3])
    np.testing.assert_array_equal(label, small.labels[3])
    np.testing.assert_array_equal(small[-1][0], small.images[-1])
    np.testing.assert_array_equal(small[np.int64(-144)][1], small.labels[0])
    np.testing.assert_array_equal(small[torch.tensor(5)][0], small.images[5])
    assert sum(1 for _ in small) == 144


def test_data_loader(small):
    loader = torch.utils.data.DataLoader(small, batch_size=50)
    batches = list(loader)
    assert [len(image) for image, _ in batches] == [50, 50, 44]
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    np.testing.assert_array_equal(images.numpy(), small.images)
    np.testing.assert_array_equal(labels.numpy(), small.labels)


def test_pickle_and_repr(small):
    copy = pickle.loads(pickle.dumps(small))
    np.testing.assert_array_equal(copy.images, small.images)
    assert repr(small) == (
        "RenderedShapes(144 images of 32x32, varying floor_hue: 2, wall_hue: 2, scale: 3, "
        "shape: 4, orientation: 3)"
    )
    assert repr(RenderedShapes({}, image_size=16)).endswith("varying nothing)")


def test_split_is_disjoint_complete_and_seeded(small):
    train, test = small.split(0.25, seed=3)
    assert (len(train), len(test)) == (108, 36)
    rows = [tuple(row) for part in (train, test) for row in part.labels]
    assert sorted(rows) == [tuple(row) for row in small.labels]
    for part in (train, test):
        assert type(part) is RenderedShapes
        assert (part.image_size, part.factors) == (small.image_size, small.factors)
        position = {tuple(row): i for i, row in enumerate(small.labels)}
        where = [position[tuple(row)] for row in part.labels]
        assert where == sorted(where)
        np.testing.assert_array_equal(part.images, small.images[where])
    again = small.split(0.25, seed=3)[1]
    np.testing.assert_array_equal(test.labels, again.labels)
    assert not np.array_equal(test.labels, small.split(0.25, seed=4)[1].labels)
    before = small.images.copy()
    test.images[:] = 0
    np.testing.assert_array_equal(small.images, before)


def test_split_keeps_a_subclass():
    class Mine(RenderedShapes):
        pass

    assert type(Mine({"shape": "all"}, image_size=16).split(0.5)[1]) is Mine
    assert isinstance(pickle.loads(pickle.dumps(RenderedShapes({}, image_size=16))), RenderedShapes)


# Errors


@pytest.mark.parametrize(
    ("factors", "error", "message"),
    [
        (
            {"colour": [0]},
            ValueError,
            "factors: got the unknown name 'colour', expected some of ('floor_hue', 'wall_hue'",
        ),
        (
            {"shape": [0, 4]},
            ValueError,
            "factors['shape']: got [0, 4], expected integers from 0 to 3; give a list",
        ),
        ({"scale": [-1]}, ValueError, "factors['scale']: got [-1], expected integers from 0 to 7"),
        ({"scale": [1, 2, 1]}, ValueError, "factors['scale']: got [1, 2, 1], expected no value twice"),
        (
            {"wall_hue": []},
            ValueError,
            "factors['wall_hue']: got [], expected integers from 0 to 9, at least one",
        ),
        (
            {"shape": 2},
            TypeError,
            "factors['shape']: got 2, expected integers from 0 to 3; give a list such as [0], or 'all'",
        ),
        ({"shape": "cube"}, TypeError, "factors['shape']: got 'cube', expected integers from 0 to 3"),
        (
            {"shape": np.zeros((1, 1), int)},
            TypeError,
            "factors['shape']: got array([[0]]), expected integers",
        ),
        ({"shape": [1.0]}, TypeError, "factors['shape']: got [1.0], expected integers"),
        ({"shape": [True]}, TypeError, "factors['shape']: got [True], expected integers"),
        ({"shape": np.array([True])}, TypeError, "factors['shape']: got array([ True]), expected integers"),
        (
            [("shape", [1])],
            TypeError,
            "factors: got [('shape', [1])], expected a mapping from names to values",
        ),
    ],
)
def test_factor_errors(factors, error, message):
    with pytest.raises(error, match=re.escape(message)):
        RenderedShapes(factors, image_size=16)


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (15, ValueError, "image_size: got 15, expected an integer from 16 to 256; pass a side in pixels"),
        (257, ValueError, "image_size: got 257, expected an integer from 16 to 256"),
        (32.0, TypeError, "image_size: got 32.0, expected an integer"),
        (True, TypeError, "image_size: got True, expected an integer"),
        ("32", TypeError, "image_size: got '32', expected an integer"),
    ],
)
def test_size_errors(size, error, message):
    for make in (RenderedShapes.floor, RenderedShapes.wall):
        with pytest.raises(error, match=re.escape(message)):
            make(size)
    with pytest.raises(error, match=re.escape(message)):
        RenderedShapes(image_size=size)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"test_fraction": 0.0}, ValueError, "test_fraction: got 0.0, expected a number in (0, 1)"),
        ({"test_fraction": 1}, ValueError, "test_fraction: got 1, expected a number in (0, 1)"),
        ({"test_fraction": float("nan")}, ValueError, "test_fraction: got nan, expected a number in (0, 1)"),
        (
            {"test_fraction": "half"},
            TypeError,
            "test_fraction: got 'half', expected a number in (0, 1); try 0.2",
        ),
        ({"test_fraction": True}, TypeError, "test_fraction: got True, expected a number"),
        ({"test_fraction": 0.001}, ValueError, "of 144 leaves 144 to train and 0 to test"),
        ({"test_fraction": 0.999}, ValueError, "of 144 leaves 0 to train and 144 to test"),
        ({"seed": -1}, ValueError, "seed: got -1, expected an integer from 0 to"),
        ({"seed": 0.5}, TypeError, "seed: got 0.5, expected an integer"),
    ],
)
def test_split_errors(small, arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        small.split(**arguments)


def test_index_errors(small):
    for index in (144, -145):
        with pytest.raises(IndexError, match=f"index: got {index}, expected an integer from -144 to 143"):
            small[index]
    with pytest.raises(TypeError, match=r"index: got slice.*, expected an integer.*use .images\[rows\]"):
        small[1:3]


def test_shapes_have_names():
    shapes = RenderedShapes({"shape": "all", "scale": [0, 7]}, image_size=16)
    assert tuple(shapes.names) == shapes.label_names
    labels = Labels.of(shapes.labels, shapes.names)
    assert labels.classes[4] == ("cube", "cylinder", "sphere", "capsule")
    assert labels.classes[3] == ("0", "7")
    assert shapes.split(0.5)[0].names is shapes.names
