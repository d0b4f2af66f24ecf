"""A small ray caster that renders a room with an object, after DeepMind's 3D Shapes.

The three hues only recolour a picture. One pass over the geometry therefore gives, for each
(scale, shape, orientation), how much of the floor's, the wall's and the object's colour every
pixel receives, and the pictures of all hues are weighted sums of these.

Points and directions are arrays ``(3, P)`` in the frame of the room: x to the right, y up and
z towards the camera at azimuth 0; the object stands on the floor, y = 0, at the origin.
"""

import colorsys
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt

from pyro_mfcvae._utils.checks import integer
from pyro_mfcvae.datasets.factors import FACTORS, Choice, FactorImages

__all__ = ["RenderedShapes"]

Array: TypeAlias = npt.NDArray[np.float64]
Hit: TypeAlias = Callable[[Array, Array], Array]

HUES = FACTORS["floor_hue"]
SCALES = np.linspace(0.75, 1.25, FACTORS["scale"])
AZIMUTHS = np.deg2rad(np.linspace(-30.0, 30.0, FACTORS["orientation"]))
SATURATION = 0.8
SUBSAMPLES = 4  # per pixel and axis

# The solids at scale 1.
CUBE_HALF = 0.75
CYLINDER_RADIUS, CYLINDER_HEIGHT = 0.72, 1.6
SPHERE_RADIUS = 0.92
CAPSULE_RADIUS, CAPSULE_HEIGHT = 0.56, 2.1

ROOM_HALF = 2.6
CAMERA_DISTANCE, CAMERA_PITCH = 7.0, np.deg2rad(21.0)
TARGET_HEIGHT, HALF_VIEW = 0.95, np.tan(np.deg2rad(15.5))

LIGHT: Array = np.array([[-1.5], [5.0], [2.2]])
LIGHT_RADIUS = 0.4
AMBIENT, DIFFUSE, GLOSS = 0.4, 0.6, 0.35
EPSILON = 1e-12
UP: Array = np.array([[0.0], [1.0], [0.0]])


def _unit(v: Array) -> Array:
    length: Array = np.sqrt((v * v).sum(0))
    return v / length


def _nonzero(x: Array) -> Array:
    """Replace values too near 0 to divide by; the quotient is then a huge, finite time."""
    return np.where(np.abs(x) < EPSILON, EPSILON, x)


def _slab(o: Array, d: Array, low: float, high: float) -> tuple[Array, Array]:
    """Return the times at which o + t d enters and leaves [low, high], along one axis."""
    d = _nonzero(d)
    one, other = (low - o) / d, (high - o) / d
    return np.minimum(one, other), np.maximum(one, other)


def _round(o: Array, d: Array, radius: float) -> tuple[Array, Array]:
    """Return the times at which o + t d enters and leaves the ball or tube (3 or 2 axes) at the origin."""
    a = np.maximum((d * d).sum(0), EPSILON)
    b = (o * d).sum(0)
    discriminant = b * b - a * ((o * o).sum(0) - radius**2)
    root = np.sqrt(np.maximum(discriminant, 0.0))
    miss = discriminant < 0.0
    return np.where(miss, np.inf, (-b - root) / a), np.where(miss, -np.inf, (-b + root) / a)


def _first(*intervals: tuple[Array, Array]) -> Array:
    """Return the time of entry, after 0, into the intersection of convex bodies; inf for a miss."""
    enter, leave = intervals[0]
    for other_enter, other_leave in intervals[1:]:
        enter, leave = np.maximum(enter, other_enter), np.minimum(leave, other_leave)
    return np.where((enter <= leave) & (enter > 0.0), enter, np.inf)


def _hit_cube(o: Array, d: Array) -> Array:
    h = CUBE_HALF
    return _first(_slab(o[0], d[0], -h, h), _slab(o[1], d[1], 0.0, 2.0 * h), _slab(o[2], d[2], -h, h))


def _hit_cylinder(o: Array, d: Array) -> Array:
    side = _round(o[::2], d[::2], CYLINDER_RADIUS)
    return _first(side, _slab(o[1], d[1], 0.0, CYLINDER_HEIGHT))


def _ball(o: Array, d: Array, radius: float, height: float) -> tuple[Array, Array]:
    return _round(o - height * UP, d, radius)


def _hit_sphere(o: Array, d: Array) -> Array:
    return _first(_ball(o, d, SPHERE_RADIUS, SPHERE_RADIUS))


def _hit_capsule(o: Array, d: Array) -> Array:
    r, top = CAPSULE_RADIUS, CAPSULE_HEIGHT - CAPSULE_RADIUS
    side = _first(_round(o[::2], d[::2], r), _slab(o[1], d[1], r, top))
    ends = np.minimum(_first(_ball(o, d, r, r)), _first(_ball(o, d, r, top)))
    return np.minimum(side, ends)


def _normal_cube(p: Array) -> Array:
    centred = p - CUBE_HALF * UP
    face = np.abs(centred).argmax(0) == np.arange(3)[:, None]
    return np.where(face, np.sign(centred), 0.0)


def _normal_cylinder(p: Array) -> Array:
    top = p[1] > CYLINDER_HEIGHT - 1e-6
    return np.where(top, UP, p * (1.0 - UP) / CYLINDER_RADIUS)


def _normal_sphere(p: Array) -> Array:
    return p / SPHERE_RADIUS - UP


def _normal_capsule(p: Array) -> Array:
    axis: Array = np.clip(p[1], CAPSULE_RADIUS, CAPSULE_HEIGHT - CAPSULE_RADIUS)
    return (p - axis * UP) / CAPSULE_RADIUS


# In the order of the values of the factor "shape".
SOLIDS: tuple[tuple[Hit, Callable[[Array], Array]], ...] = (
    (_hit_cube, _normal_cube),
    (_hit_cylinder, _normal_cylinder),
    (_hit_sphere, _normal_sphere),
    (_hit_capsule, _normal_capsule),
)


def _camera(azimuth: float, image_size: int) -> tuple[Array, Array]:
    """Return origin (3, 1) and unit directions (3, P) of the rays, subsamples of a pixel included."""
    sin, cos = np.sin(azimuth), np.cos(azimuth)
    level, height = np.cos(CAMERA_PITCH), np.sin(CAMERA_PITCH)
    back = np.array([[sin * level], [height], [cos * level]])
    right = np.array([[cos], [0.0], [-sin]])
    n = image_size * SUBSAMPLES
    u = HALF_VIEW * ((np.arange(n) + 0.5) * 2.0 / n - 1.0)
    x, y = np.meshgrid(u, -u)
    d = right * x.ravel() + np.cross(back, right, axis=0) * y.ravel() - back
    return TARGET_HEIGHT * UP + CAMERA_DISTANCE * back, _unit(d)


def hit_room(o: Array, d: Array) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    """Find where rays meet the room: points (3, P), normals (3, P) and whether it is the floor (P,).

    A ray meets the wall where it *leaves* the room, so the walls on the camera's side, which
    would stand in its way, are not seen.
    """
    leave_x = _slab(o[0], d[0], -ROOM_HALF, ROOM_HALF)[1]
    leave_z = _slab(o[2], d[2], -ROOM_HALF, ROOM_HALF)[1]
    down = np.where(d[1] < -EPSILON, -o[1] / np.minimum(d[1], -EPSILON), np.inf)
    t = np.minimum(down, np.minimum(leave_x, leave_z))
    floor = t == down
    side = leave_x < leave_z
    normal = np.where(floor, UP, -np.sign(d) * [side, np.zeros_like(side), ~side])
    return o + t * d, normal, floor


def _lights(image_size: int) -> Array:
    """Return the position of the light (3, P) for every ray.

    Each subsample of a pixel sees another spot of the lamp, which softens the shadow's edge at
    no cost. The grid of spots is turned so that the edges of cubes do not line up with it.
    """
    spots = np.tile(np.linspace(-LIGHT_RADIUS, LIGHT_RADIUS, SUBSAMPLES), image_size)
    x, z = (grid.ravel() for grid in np.meshgrid(spots, spots))
    return LIGHT + np.stack([x + z / SUBSAMPLES, np.zeros_like(x), z - x / SUBSAMPLES])


def _cosine(normal: Array, direction: Array) -> Array:
    cosine: Array = (normal * _unit(direction)).sum(0)
    return np.maximum(cosine, 0.0)


def geometries(
    scales: Sequence[int], shapes: Sequence[int], orientations: Sequence[int], image_size: int
) -> Iterator[tuple[tuple[int, int, int], Array]]:
    """Yield positions in the three lists and the weights (4, S, S) of the colours of a pixel.

    The colours are those of the floor, the wall and the object, and white for the highlight.
    """
    light = _lights(image_size)
    pixels = (4, image_size, SUBSAMPLES, image_size, SUBSAMPLES)
    for k, orientation in enumerate(orientations):
        o, d = _camera(AZIMUTHS[orientation], image_size)
        p, normal, floor = hit_room(o, d)
        diffuse = DIFFUSE * _cosine(normal, light - p)
        for i, j in itertools.product(range(len(scales)), range(len(shapes))):
            size, (hit, normal_at) = SCALES[scales[i]], SOLIDS[shapes[j]]
            # The solid stays as it is and the rays shrink, which leaves their times as they are.
            t = hit(o / size, d / size)
            seen = np.isfinite(t)
            lit = ~np.isfinite(hit(p / size, (light - p) / size))
            room = np.where(seen, 0.0, AMBIENT + diffuse * lit)
            q = o + t[seen] * d[:, seen]
            outward, to_light = normal_at(q / size), light[:, seen] - q
            # Blinn's highlight: where the normal halves the angle between light and camera.
            halfway = _unit(to_light) - d[:, seen]
            weights = np.zeros((4, seen.size))
            weights[0], weights[1] = room * floor, room * ~floor
            weights[2, seen] = AMBIENT + DIFFUSE * _cosine(outward, to_light)
            weights[3, seen] = GLOSS * _cosine(outward, halfway) ** 40
            yield (i, j, k), weights.reshape(pixels).mean((2, 4))


def _palette(hues: Iterable[int]) -> Array:
    """Return RGB of the floor, the wall, the object and the highlight, (4, 3) in [0, 1]."""
    return np.array([*(colorsys.hsv_to_rgb(h / HUES, SATURATION, 1.0) for h in hues), (1, 1, 1)])


FLOOR: Mapping[str, Choice] = {**dict.fromkeys(FACTORS, "all"), "wall_hue": [6], "object_hue": [0]}
WALL: Mapping[str, Choice] = {**dict.fromkeys(FACTORS, "all"), "floor_hue": [3], "object_hue": [0]}


class RenderedShapes(FactorImages):
    """Render a room with an object: six known factors, as in 3D Shapes.

    The factors and their sizes are those of DeepMind's 3D Shapes (Burgess & Kim, 2018,
    https://github.com/google-deepmind/3d-shapes); the pictures are this module's own. They are
    ``floor_hue``, ``wall_hue`` and ``object_hue`` (10 hues, 36 degrees apart on the HSV circle,
    0 is red), ``scale`` (8, from 0.75 to 1.25), ``shape`` (4: cube, cylinder, sphere, capsule)
    and ``orientation`` (15, the azimuth of the camera from -30 to +30 degrees; the light stays
    with the room). Nothing is random: the same arguments give the same pictures.

    All combinations of the chosen values are rendered when the object is made, and kept in
    memory: ``3 * image_size ** 2`` bytes each. ``RenderedShapes()`` is `RenderedShapes.floor`.
    The object is also a map-style data set for ``torch.utils.data.DataLoader``.

    Args:
        factors: For each factor the values to include, ints from 0, or ``"all"``. A factor left
            out keeps the value 0. ``None`` chooses the factors of `RenderedShapes.floor`.
        image_size: Side S of the square pictures in pixels, from 16 to 256.

    Attributes:
        images: Pictures, uint8 RGB in 0..255, shape (N, 3, S, S).
        labels: Values of the factors, int64, shape (N, 6), rows in lexicographic order, in
            whatever order the values were given.
        factors: The values included of each factor, ascending.
        names: Names of the factors, and of the four shapes, for ``fitted.evaluate`` and ``fitted.report``.
        image_size: S.

    Raises:
        TypeError: ``factors`` is no mapping to lists of ints or ``"all"``, or ``image_size`` is
            no int.
        ValueError: A factor's name is unknown, a value is out of range or repeated, a list is
            empty, or ``image_size`` is out of range.

    Example:
        >>> shapes = RenderedShapes({"shape": "all", "scale": [0, 7]}, image_size=16)
        >>> shapes
        RenderedShapes(8 images of 16x16, varying scale: 2, shape: 4)
        >>> image, label = shapes[-1]
        >>> image.shape, image.dtype, label.tolist()
        ((3, 16, 16), dtype('uint8'), [0, 0, 0, 7, 3, 0])
    """

    def __init__(self, factors: Mapping[str, Choice] | None = None, *, image_size: int = 32) -> None:
        advice = "pass a side in pixels such as 32 or 64"
        side = integer("image_size", image_size, 16, 256, advice=advice)
        super().__init__(FLOOR if factors is None else factors, side)
        self.images = self._render()

    @classmethod
    def floor(cls, image_size: int = 32) -> Self:
        """Render every floor hue, scale, shape and orientation; the wall is blue, the object red.

        Args:
            image_size: Side S of the pictures in pixels, from 16 to 256.

        Returns:
            4,800 pictures (10 x 8 x 4 x 15).

        Raises:
            TypeError: ``image_size`` is no int.
            ValueError: ``image_size`` is out of range.
        """
        return cls(FLOOR, image_size=image_size)

    @classmethod
    def wall(cls, image_size: int = 32) -> Self:
        """Render every wall hue, scale, shape and orientation; the floor is green, the object red.

        Args:
            image_size: Side S of the pictures in pixels, from 16 to 256.

        Returns:
            4,800 pictures (10 x 8 x 4 x 15).

        Raises:
            TypeError: ``image_size`` is no int.
            ValueError: ``image_size`` is out of range.
        """
        return cls(WALL, image_size=image_size)

    def _render(self) -> npt.NDArray[np.uint8]:
        *hues, scales, shapes, orientations = self.factors.values()
        palettes = np.array([_palette(combination) for combination in itertools.product(*hues)])
        side = self.image_size
        grid = (len(palettes), len(scales), len(shapes), len(orientations))
        images = np.empty((*grid, 3, side, side), dtype=np.uint8)
        for (i, j, k), weights in geometries(scales, shapes, orientations, side):
            # A plain sum, not a matrix product: it comes out the same for any set of hues.
            parts = (palettes[:, part, :, None, None] * weights[part] for part in range(4))
            colour = np.minimum(sum(parts, np.zeros(())), 1.0)
            images[:, i, j, k] = np.rint(255.0 * colour)
        return images.reshape(-1, 3, side, side)
