"""The scene: convex solids, objects made of them, a drive's street and its traffic.

World axes: x along the street, y to the left, z up, metres; the road's middle is
`y = bend(x)`. Every block of the street draws from its own random stream, so a frame
sees the same street however many frames are made. Sizes are those of real things (a
car is 4.2 m long, a storey 3 m high), because known sizes are what lets a network read
metres off a single image. A pose is a matrix [4, 4] from an object's axes (x forward,
y left, z up) to the world.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from amlr_jax.street.textures import INDEX, LANE, METRES

Array = np.ndarray

BLOCK = 16.0  # metres of street
BEHIND, AHEAD = 80.0, 192.0  # metres of street that exist for a frame

SIDES = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])
AROUND = np.array([d for d in product((-1, 0, 1), repeat=3) if any(d)], float)
AROUND /= np.linalg.norm(AROUND, axis=1, keepdims=True)
WHITE, BLACK, STEEL = (1, 1, 1), (0.08, 0.08, 0.08), (0.8, 0.82, 0.8)
BARK, GREEN, RED = (0.5, 0.42, 0.34), (0.5, 0.7, 0.4), (0.9, 0.15, 0.1)


def rotation(yaw: float, pitch: float, roll: float) -> Array:
    """Rz(yaw) Ry(pitch) Rx(roll) [3, 3], the convention of KITTI's oxts."""
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    z = np.array([(cy, -sy, 0), (sy, cy, 0), (0, 0, 1)])
    y = np.array([(cp, 0, sp), (0, 1, 0), (-sp, 0, cp)])
    return z @ y @ np.array([(1, 0, 0), (0, cr, -sr), (0, sr, cr)])


def rigid(turn: Array, move: ArrayLike) -> Array:
    """The pose [4, 4] of a rotation [3, 3] and a translation [3]."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, move
    return pose


def shifted(pose: Array, *move: float) -> Array:
    """The pose of something at the point `move` of an object."""
    return pose @ rigid(np.eye(3), move)


class StreetDrive:
    """The parameters of a drive: of its street, of the car's path, of the light."""

    def __init__(self, seed: int, number: int) -> None:
        rng = np.random.default_rng([seed, number, 1])
        self.parking = rng.choice([0, 1], p=[0.25, 0.75]) * rng.uniform(0.35, 0.8)
        self.half_road = LANE + (2.2 if self.parking else 0.2)
        self.pavement = rng.uniform(2.2, 3.6)
        self.houses = rng.uniform(0.45, 0.9)  # share of blocks built up, else gardens
        self.trees = rng.uniform(0.3, 1.4)  # in a block's side
        self.speed = rng.uniform(0.8, 1.15)  # metres a frame
        # Amplitude, wave number or rate, phase: of the road, and of the car's lateral
        # place (metres), pitch and roll (radians) over frames.
        self.bends = rng.uniform((1.5, 0.015, 0), (5.0, 0.024, 6.28), (2, 3))
        low = [(0.15, 0.05, 0), (0.003, 0.3, 0), (0.002, 0.3, 0)]
        high = [(0.3, 0.12, 6.28), (0.008, 0.9, 6.28), (0.006, 0.9, 6.28)]
        self.sway = rng.uniform(low, high)
        # Unit vector towards the sun; the street's angle from east, anticlockwise;
        # latitude and longitude of the first frame in degrees.
        self.sun = rotation(rng.uniform(-np.pi, np.pi), rng.uniform(-1, -0.6), 0)[:, 0]
        self.heading = rng.uniform(-np.pi, np.pi)
        self.place = np.array([49.0, 8.4]) + rng.uniform(-0.05, 0.05, 2)

    def bend(self, x: Any) -> Any:
        """The road's middle: y in metres at x."""
        return sum(a * np.sin(k * x + p) for a, k, p in self.bends)

    def beside(self, x: float, left: float, z: float = 0, turned: float = 0) -> Array:
        """The pose of a point `left` of the road's middle, heading along the road."""
        slope = sum(a * k * np.cos(k * x + p) for a, k, p in self.bends)
        turn = rotation(np.arctan(slope) + turned, 0, 0)
        return rigid(turn, (x, self.bend(x) + left, z))

    def _path(self, frame: float) -> Array:
        """World x and y of the car, which speeds up and slows down by a sixth."""
        amplitude, rate, phase = self.sway[0]
        x = self.speed * (frame + 1.5 * np.sin(0.11 * frame + phase))
        lateral = amplitude * np.sin(rate * frame + phase)
        return np.array([x, self.bend(x) - LANE / 2 + lateral])

    def vehicle(self, frame: float, *, height: float) -> Array:
        """World pose of a sensor `height` metres above the road at a frame.

        `frame` may be fractional or negative: the path goes on at both ends.
        """
        pitch, roll = (a * np.sin(r * frame + p) for a, r, p in self.sway[1:])
        x, y = self._path(frame + 0.01) - self._path(frame - 0.01)
        turn = rotation(np.arctan2(y, x), pitch, roll)
        return rigid(turn, (*self._path(frame), height + 0.3 * pitch))


class Solids(NamedTuple):
    """Convex solids and their faces.

    Attributes:
      planes: [faces, 4], inside is `planes @ (x, y, z, 1) <= 0`, normals of length 1.
      u, v: [faces, 4], texture coordinates are `u @ (x, y, z, 1)`, in tiles.
      tint: [faces, 3], colour that the tile is multiplied with.
      tile: [faces], a value of `textures.INDEX`.
      moving: [faces], whether the object moves.
      counts: [solids], number of faces of each.
      corners: [solids, 8, 3] of a box around each.
    """

    planes: Array
    u: Array
    v: Array
    tint: Array
    tile: Array
    moving: Array
    counts: Array
    corners: Array


def join(parts: Sequence[Solids]) -> Solids:
    """All solids of many, in their order."""
    return Solids(*(np.concatenate(field) for field in zip(*parts, strict=True)))


class Builder:
    """Collects solids in `parts`; sizes and colours come from a random stream."""

    def __init__(self, rng: np.random.Generator, *, moving: bool = False) -> None:
        self.parts, self.rng, self.moving = [], rng, moving

    def solid(
        self, pose: Array, planes: Array, low: Any, high: Any, tiles: Any, tint: Any
    ) -> None:
        """A solid of planes [faces, 4] within a box `low` to `high`, in its own axes.

        `tiles` are names, one for all faces or one for each; `tint` is [3].
        """
        corners = np.stack(np.meshgrid(*zip(low, high, strict=True)), -1).reshape(8, 3)
        tiles, faces = np.broadcast_to(tiles, len(planes)), len(planes)
        # Seen from outside, u points to the right and v upwards.
        right = np.column_stack([-planes[:, 1], planes[:, 0], np.zeros(faces)])
        level = np.linalg.norm(right, axis=1, keepdims=True) < 1e-6
        right = np.where(level, (1, 0, 0), right)
        right /= np.linalg.norm(right, axis=1, keepdims=True)
        metres = np.array([METRES[name] for name in tiles])
        rows = [planes]
        for axis in (right, np.where(level, (0, 1, 0), (0, 0, 1))):
            along = axis @ corners.T
            length = np.where(metres > 0, metres, np.ptp(along, axis=1))
            row = np.column_stack([axis, -along.min(axis=1)])
            rows.append(row / length[:, None])
        planes, u, v = (row @ np.linalg.inv(pose) for row in rows)
        made = Solids(
            *(planes, u, v),
            tint=np.tile(np.asarray(tint, float), (faces, 1)),
            tile=np.array([INDEX[name] for name in tiles]),
            moving=np.full(faces, self.moving),
            counts=np.array([faces]),
            corners=(corners @ pose[:3, :3].T + pose[:3, 3])[None],
        )
        self.parts.append(made)

    def box(
        self, pose: Array, size: Any, tiles: Any, tint: Any, lean: Any = (0, 0, 0, 0)
    ) -> None:
        """A box [length, width, height] that stands on the pose's origin.

        Its front, back, left and right lean inwards by `lean` metres up to the top.
        Tiles are in this order, then the top's and the bottom's, or one for all.
        """
        a, b, h = size[0] / 2, size[1] / 2, size[2]
        sides = np.column_stack([h * SIDES, lean, -h * np.array([a, a, b, b])])
        sides /= np.hypot(h, lean)[:, None]
        planes = np.vstack([sides, (0, 0, 1, -h), (0, 0, -1, 0)])
        self.solid(pose, planes, (-a, -b, 0), (a, b, h), tiles, tint)

    def clump(self, pose: Array, radius: float, tint: Array) -> None:
        """A clump of leaves: an ellipsoid of 26 faces, a little dented."""
        radii = radius * self.rng.uniform((0.9, 0.9, 0.7), (1.1, 1.1, 0.95))
        reach = np.linalg.norm(AROUND * radii, axis=1)
        planes = np.column_stack([AROUND, -reach * self.rng.uniform(0.85, 1, 26)])
        tint = tint * self.rng.uniform(0.85, 1.15)
        self.solid(pose, planes, -radii, radii, "leaves", tint)

    def tree(self, pose: Array, size: float) -> None:
        """A trunk and a crown of clumps."""
        rng, width = self.rng, 0.3 * size
        height = size * rng.uniform(2.6, 3.6)
        self.box(pose, (width, width, height + 1.0), "rough", BARK)
        tint = rng.uniform((0.5, 0.7, 0.3), (1.0, 0.9, 0.5))
        for k in range(int(rng.integers(5, 9))):
            angle = 2.4 * k + rng.uniform(0, 1)
            reach = size * rng.uniform(0.4, 1.5) * (k > 0)
            up = height + size * rng.uniform(0.6, 3.0)
            spot = shifted(pose, reach * np.cos(angle), reach * np.sin(angle), up)
            self.clump(spot, size * rng.uniform(0.8, 1.35), tint)

    def car(self, pose: Array) -> None:
        """A car or a van on the ground, and a dark patch on the road below it."""
        rng = self.rng
        hue = rng.choice([0.05, 0.6]) * rng.uniform(-1, 1, 3)
        tint = rng.choice([0.15, 0.5, 0.85]) * (1 + hue)
        length, width, waist, top = 4.2, 1.76, 0.93, rng.uniform(1.38, 1.55)
        if rng.random() < 0.15:
            length, width, waist, top = 4.9, 1.9, 1.05, 1.95
        self.box(pose, (length, width + 0.1, 0.02), "rough", BLACK)
        for along in (-0.31, 0.31):
            wheels = shifted(pose, along * length, 0, 0)
            self.box(wheels, (0.58, width + 0.02, 0.58), "rough", BLACK)
        size, body = (length, width, waist - 0.2), shifted(pose, 0, 0, 0.2)
        tiles = [*["car_body"] * 4, "paint", "paint"]
        self.box(body, size, tiles, tint, (0.15, 0.1, 0.06, 0.06))
        size, tiles[:4] = (0.66 * length, width - 0.1, top - waist), ["car_glass"] * 4
        cabin = shifted(pose, -length * rng.uniform(0.06, 0.15), 0, waist)
        self.box(cabin, size, tiles, tint, (0.7, 0.4, 0.2, 0.2))

    def house(self, pose: Array, depth: float) -> None:
        """A house along the pose's x axis, with a saddle roof or a flat one."""
        rng = self.rng
        size = (rng.uniform(11, BLOCK), depth, 3.0 * rng.integers(2, 6) + 0.4)
        tint = rng.uniform(0.7, 0.95) * (1 + rng.uniform((-0.05, -0.15, -0.3), 0.15))
        wall = rng.choice(["brick_house", "plaster_house", "shop_house"])
        self.box(pose, size, wall, tint)
        rise = rng.choice([0.3, 0.2 * depth, 0.4 * depth])
        half = (depth / 2 + 0.3) * (rise > 0.3)
        eaves, top = (size[0] + 0.3, depth + 0.6, rise), shifted(pose, 0, 0, size[2])
        tiles = ["rough", "rough", "roof", "roof", "rough", "rough"]
        tint = rng.uniform((0.5, 0.4, 0.35), (1.1, 0.6, 0.5))
        self.box(top, eaves, tiles, tint, (0, 0, half, half))


def frame_scene(seed: int, number: int, frame: int) -> Solids:
    """The `Solids` that a frame sees; face 0 is the ground."""
    ground = Builder(np.random.default_rng(0))
    plane, far = np.array([(0, 0, 1, 0.0)]), 2000.0
    ground.solid(np.eye(4), plane, (-far, -far, -1), (far, far, 0), "road", WHITE)
    x = StreetDrive(seed, number).vehicle(frame, height=0)[0, 3]
    blocks = range(int((x - BEHIND) // BLOCK), int((x + AHEAD) // BLOCK) + 1)
    still = [_block(seed, number, k) for k in blocks]
    return join([*ground.parts, *still, *_traffic(seed, number, frame)])


@lru_cache(maxsize=64)
def _block(seed: int, number: int, k: int) -> Solids:
    """Both sides of 16 metres of street."""
    drive, middle = StreetDrive(seed, number), (k + 0.5) * BLOCK
    build = Builder(np.random.default_rng([seed, number, 2, k + (1 << 20)]))
    for side in (-1, 1):
        _lot(build, drive, middle, side)
        _kerbside(build, drive, middle, side)
    return join(build.parts)


def _lot(build: Builder, drive: StreetDrive, middle: float, side: int) -> None:
    """A house, or a garden with a fence, behind the pavement."""
    rng, edge = build.rng, drive.half_road + drive.pavement
    if rng.random() < drive.houses:
        depth, setback = rng.uniform(8, 12), rng.choice([0.3, 1.0, 3.0])
        build.house(drive.beside(middle, side * (edge + setback + depth / 2)), depth)
        return
    hedge = (BLOCK - rng.uniform(0, 4), 0.6, rng.uniform(0.8, 1.6))
    tile, tint = ("leaves", GREEN) if rng.random() < 0.5 else ("paving", WHITE)
    build.box(drive.beside(middle, side * (edge + 0.5)), hedge, tile, tint)
    for _ in range(int(rng.integers(1, 4))):
        spot = middle + rng.uniform(-7, 7), side * (edge + rng.uniform(3, 12))
        build.tree(drive.beside(*spot), rng.uniform(1.0, 1.6))
    for _ in range(int(rng.integers(0, 4))):
        bush = middle + rng.uniform(-7, 7), side * (edge + rng.uniform(1.6, 6)), 0.5
        build.clump(drive.beside(*bush), rng.uniform(0.5, 1.1), np.array(GREEN))


def _kerbside(build: Builder, drive: StreetDrive, middle: float, side: int) -> None:
    """The pavement, what stands on it near the kerb, and parked cars."""
    rng, near = build.rng, side * (drive.half_road + 0.5)
    for along in (-6.0, -2.0, 2.0, 6.0):
        left = side * (drive.half_road + drive.pavement / 2)
        slab = drive.beside(middle + along, left)
        tiles = [*["rough"] * 4, "paving", "rough"]
        build.box(slab, (4.1, drive.pavement, 0.12), tiles, WHITE)
    for _ in range(int(rng.poisson(drive.trees))):
        spot = middle + rng.uniform(-6, 6), near + 0.3 * side, 0.12
        build.tree(drive.beside(*spot), rng.uniform(0.8, 1.1))
    if rng.random() < 0.5:
        lamp = drive.beside(middle + 7.0, near, 0.12)
        build.box(lamp, (0.17, 0.17, 6.5), "rough", STEEL)
        arm = shifted(lamp, 0, -0.9 * side, 6.4)
        build.box(arm, (0.22, 2.0, 0.14), "rough", STEEL)
    if rng.random() < 0.4:
        sign = drive.beside(middle - 7.2, near, 0.12)
        build.box(sign, (0.08, 0.08, 2.0), "rough", STEEL)
        build.box(shifted(sign, 0, 0, 2), (0.04, 0.6, 0.6), "rough", RED)
    for slot in (-5.2, 0.0, 5.2):
        if rng.random() < drive.parking:
            left = side * (drive.half_road - 1.05 + rng.uniform(-0.12, 0.1))
            turned = rng.uniform(-0.02, 0.02) + (np.pi if side > 0 else 0)
            x = middle + slot + rng.uniform(-0.25, 0.25)
            build.car(drive.beside(x, left, 0, turned))


def _traffic(seed: int, number: int, frame: int) -> list[Solids]:
    """The moving cars: one ahead in the lane, others oncoming."""
    drive, rng = StreetDrive(seed, number), np.random.default_rng([seed, number, 3])
    x, parts = drive.vehicle(frame, height=0)[0, 3], []
    gap, swing, phase = rng.uniform((11, 1, 0), (30, 4, 6.28))
    pace, starts = rng.uniform(0.7, 1.1), np.cumsum(rng.uniform(28, 80, 4))
    ahead = (starts - (drive.speed + pace) * frame + BEHIND) % 250 - BEHIND
    for k, along in enumerate([gap + swing * np.sin(0.13 * frame + phase), *ahead]):
        build = Builder(np.random.default_rng([seed, number, 4, k]), moving=True)
        left, turned = (-LANE / 2, 0) if k == 0 else (LANE / 2, np.pi)
        build.car(drive.beside(x + along, left, 0, turned))
        parts += build.parts
    return parts
