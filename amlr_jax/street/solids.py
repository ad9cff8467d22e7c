"""Scene geometry as flat arrays: convex solids, leafy balls and their surfaces."""

from typing import NamedTuple

import numpy as np

from amlr_jax.street.atlas import METRES

FLAT, ROAD, BALL, SKY = range(4)  # how surface coordinates follow from a point


class Surfaces(NamedTuple):
    """What is seen on each face. Leading axis: faces.

    Attributes:
      normal: [3] outward unit normal in the world.
      u, v: [4] surface coordinate = u[:3] @ point + u[3], in periods of the tile.
      tint: [3] colour of the texels that take the surface's own.
      metres: [2] metres in a period of u and v.
      shift: offset of the grain, so that no two surfaces wear the same dirt.
      reflectance: what the lidar reads at normal incidence, in [0, 1].
      tile, kind: int, see `atlas` and the constants above.
      moving: bool.
    """

    normal: np.ndarray
    u: np.ndarray
    v: np.ndarray
    tint: np.ndarray
    metres: np.ndarray
    shift: np.ndarray
    reflectance: np.ndarray
    tile: np.ndarray
    kind: np.ndarray
    moving: np.ndarray


class Part(NamedTuple):
    """A piece of a scene. The face of ball b is the row `len(planes) + b`.

    Attributes:
      planes: [faces, 4] of the solids, inside is `n @ p <= c`.
      counts: [solids] number of faces of each.
      corners: [solids, 8, 3] of a box around each.
      balls: [balls, 6] centre, horizontal and vertical radius, share of leaves.
      flat: `Surfaces` of the planes.
      round: `Surfaces` of the balls.
    """

    planes: np.ndarray
    counts: np.ndarray
    corners: np.ndarray
    balls: np.ndarray
    flat: Surfaces
    round: Surfaces

    def surfaces(self):
        """All rows in the order of `Hits.face`."""
        pairs = zip(self.flat, self.round, strict=True)
        return Surfaces(*(np.concatenate(pair) for pair in pairs))


class Pose(NamedTuple):
    """Where an upright object stands: its origin, and its heading in radians."""

    x: float
    y: float
    z: float
    yaw: float

    def turn(self, vectors):
        """Vectors [..., 3] from the object's axes (x forward, y left) to the world."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return vectors @ np.array([(c, s, 0), (-s, c, 0), (0, 0, 1.0)])

    def place(self, points):
        """Points [..., 3] of the object in the world."""
        return self.turn(np.asarray(points, float)) + (self.x, self.y, self.z)

    def shifted(self, forward, left, up=0.0):
        """The pose of something at a point of the object."""
        x, y, z = self.place((forward, left, up))
        return Pose(x, y, z, self.yaw)


class Skin(NamedTuple):
    """Look of a face.

    `fit` stretches the tile once over the solid's box instead of repeating it in
    metres; `mirror` flips it left to right.
    """

    tile: int
    tint: tuple = (1.0, 1.0, 1.0)
    fit: bool = False
    mirror: bool = False
    reflectance: float = 0.3
    kind: int = FLAT


def join(parts):
    """One part of many."""
    merged = (np.concatenate(field) for field in list(zip(*parts, strict=True))[:4])
    looks = (
        Surfaces(*(np.concatenate(f) for f in zip(*side, strict=True)))
        for side in (
            [part.flat for part in parts],
            [part.round for part in parts],
        )
    )
    return Part(*merged, *looks)


def empty_part():
    """A part of nothing."""
    return Part(
        np.zeros((0, 4)),
        np.zeros(0, int),
        np.zeros((0, 8, 3)),
        np.zeros((0, 6)),
        _surfaces([]),
        _surfaces([]),
    )


def _surfaces(rows):
    """`Surfaces` of a list of tuples in the order of its fields."""
    columns = list(zip(*rows, strict=True)) if rows else [[]] * 10
    widths = (3, 4, 4, 3, 2)
    wide = [
        np.asarray(c, float).reshape(-1, w)
        for c, w in zip(columns[:5], widths, strict=True)
    ]
    return Surfaces(
        *wide,
        np.asarray(columns[5], float),
        np.asarray(columns[6], float),
        np.asarray(columns[7], np.int32),
        np.asarray(columns[8], np.int32),
        np.asarray(columns[9], bool),
    )


def solid(pose, planes, box, skins, *, shift=0.0, moving=False):
    """A convex solid.

    Args:
      pose: `Pose` of the object.
      planes: [faces, 4] in the object's axes, inside is `n @ p <= c`, n unit.
      box: ((x0, y0, z0), (x1, y1, z1)) around the solid, in the object's axes.
      skins: one `Skin`, or one for each face.
      shift: offset of the grain.
      moving: whether the object moves.

    Returns:
      `Part`.
    """
    planes, box = np.asarray(planes, float), np.asarray(box, float)
    skins = [skins] * len(planes) if isinstance(skins, Skin) else skins
    corners = np.array([box[[i >> 2, i >> 1 & 1, i & 1], [0, 1, 2]] for i in range(8)])
    normal = pose.turn(planes[:, :3])
    offset = planes[:, 3] + normal @ (pose.x, pose.y, pose.z)
    rows = [
        _row(pose, n, corners, skin, world, shift + 0.37 * k, moving)
        for k, (n, skin, world) in enumerate(zip(planes, skins, normal, strict=True))
    ]
    return empty_part()._replace(
        planes=np.column_stack([normal, offset]),
        counts=np.array([len(planes)]),
        corners=pose.place(corners)[None],
        flat=_surfaces(rows),
    )


def _row(pose, plane, corners, skin, normal, shift, moving):
    """Surface coordinates: u to the right of who looks at the face, v upwards."""
    n = plane[:3]
    right = np.array([-n[1], n[0], 0.0])
    length = np.linalg.norm(right)
    right = right / length if length > 1e-6 else np.array([1.0, 0, 0])
    up = np.cross(n, right)
    axes, metres = [], []
    for axis in (-right if skin.mirror else right, up):
        along = corners @ axis
        low = along.min()
        period = np.ptp(along) if skin.fit else METRES[skin.tile]
        world = pose.turn(axis) / period
        start = low / period + world @ (pose.x, pose.y, pose.z)
        axes.append([*world, -start])
        metres.append(period)
    if skin.kind == ROAD:
        period = METRES[skin.tile]
        axes = [[1 / period, 0, 0, 0], [0, 1 / period, 0, 0]]
    tags = (skin.tile, skin.kind, moving)
    return normal, *axes, skin.tint, metres, shift, skin.reflectance, *tags


def box(pose, size, skins, *, shift=0.0, moving=False):
    """A box [length, width, height] that stands on the pose's origin, centred on it.

    `skins`: one, or six for front (+x), back, left (+y), right, top, bottom.
    """
    a, b, h = size[0] / 2, size[1] / 2, size[2]
    planes = [
        (1, 0, 0, a), (-1, 0, 0, a), (0, 1, 0, b), (0, -1, 0, b),
        (0, 0, 1, h), (0, 0, -1, 0),
    ]  # fmt: skip
    corners = ((-a, -b, 0), (a, b, h))
    return solid(pose, planes, corners, skins, shift=shift, moving=moving)


def profile(pose, outline, half_width, skins, *, shift=0.0, moving=False):
    """A convex outline [(x, z), ...], counter-clockwise seen from the right side,
    drawn out to both sides. `skins`: one, or left, right and one an edge.
    """
    points = np.asarray(outline, float)
    edge = np.roll(points, -1, axis=0) - points
    normal = np.stack([edge[:, 1], -edge[:, 0]], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    planes = [(0, 1, 0, half_width), (0, -1, 0, half_width)]
    for n, p in zip(normal, points, strict=True):
        planes.append((n[0], 0, n[1], n @ p))
    (x0, z0), (x1, z1) = points.min(axis=0), points.max(axis=0)
    corners = ((x0, -half_width, z0), (x1, half_width, z1))
    return solid(pose, planes, corners, skins, shift=shift, moving=moving)


def post(pose, radius, height, skin, *, sides=7):
    """An upright prism on the pose's origin."""
    angles = np.arange(sides) * 2 * np.pi / sides
    planes = [(np.cos(a), np.sin(a), 0, radius) for a in angles]
    planes += [(0, 0, 1, height), (0, 0, -1, 0)]
    reach = radius / np.cos(np.pi / sides)
    corners = ((-reach, -reach, 0), (reach, reach, height))
    return solid(pose, planes, corners, skin)


def ball(centre, radius, height, skin, *, density, shift=0.0):
    """A leafy shell: an upright ellipsoid, `density` of which is closed."""
    metres = (METRES[skin.tile],) * 2
    nothing = (0.0, 0.0, 0.0, 0.0)
    row = ((0, 0, 1), nothing, nothing, skin.tint, metres, shift, skin.reflectance)
    return empty_part()._replace(
        balls=np.array([[*centre, radius, height, density]]),
        round=_surfaces([(*row, skin.tile, BALL, False)]),
    )
