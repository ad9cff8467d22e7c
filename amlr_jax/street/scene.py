"""What stands where: a drive's style, its endless street of blocks, its traffic.

World axes: x along the street, y to the left, z up, metres; the road's middle is
`y = bend(x)`. Every block of the street draws from its own random stream, so a frame
sees the same street however many frames are made.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from amlr_jax.street import objects
from amlr_jax.street.solids import Pose, join

BLOCK = 16.0  # metres of street
BEHIND, AHEAD = 80.0, 192.0  # metres of street that exist for a frame
LANE = 3.5  # metres wide
PARKED_CARS = (-5.2, 0.0, 5.2)  # metres from a block's middle


class Style(NamedTuple):
    """What a drive has of its own; lengths in metres, angles in radians."""

    bend: np.ndarray  # [2, 3] amplitude, wave number, phase
    half_road: float
    pavement: float
    lane: float  # the ego lane's middle, right of the road's
    parking: float  # share of kerbside slots taken
    houses: float  # share of blocks built up, else gardens
    trees: float  # trees in a block side
    speed: float  # metres a frame
    sway: np.ndarray  # [3, 3] lateral, pitch and roll: amplitude, rate, phase
    sun: np.ndarray  # unit vector towards it
    grass: np.ndarray  # tint [3]
    heading: float  # of the street, from east, anticlockwise
    place: np.ndarray  # latitude and longitude of the first frame, degrees


@lru_cache(maxsize=16)
def style(seed, drive):
    """The `Style` of a drive."""
    rng = np.random.default_rng([seed, drive, 1])
    parked = rng.random() < 0.75
    azimuth, up = rng.uniform(-np.pi, np.pi), rng.uniform(0.6, 1.0)
    bends = rng.uniform((1.5, 260, 0), (5.0, 420, 6.28), (2, 3))
    bends[:, 1] = 2 * np.pi / bends[:, 1]
    sway = rng.uniform((0.15, 0.05, 0), (0.3, 0.12, 6.28), (3, 3))
    sway[1:, 0] = rng.uniform((0.003, 0.002), (0.008, 0.006))
    sway[1:, 1] = rng.uniform(0.3, 0.9, 2)
    return Style(
        bend=bends,
        half_road=LANE + (2.2 if parked else 0.2),
        pavement=rng.uniform(2.2, 3.6),
        lane=LANE / 2,
        parking=rng.uniform(0.35, 0.8) if parked else 0.0,
        houses=rng.uniform(0.45, 0.9),
        trees=rng.uniform(0.3, 1.4),
        speed=rng.uniform(0.8, 1.15),
        sway=sway,
        sun=np.array(
            [np.cos(azimuth) * np.cos(up), np.sin(azimuth) * np.cos(up), np.sin(up)]
        ),
        grass=rng.uniform((0.85, 0.9, 0.8), (1.25, 1.1, 1.1)),
        heading=rng.uniform(-np.pi, np.pi),
        place=np.array([49.0, 8.4]) + rng.uniform(-0.05, 0.05, 2),
    )


def bend(look, x):
    """The road's middle: y in metres at x."""
    return sum(a * np.sin(k * x + p) for a, k, p in look.bend)


def slope(look, x):
    """dy/dx of the road's middle."""
    return sum(a * k * np.cos(k * x + p) for a, k, p in look.bend)


def beside(look, x, left, *, z=0.0, turned=0.0):
    """`Pose` of a point `left` of the road's middle, heading along the road."""
    yaw = np.arctan(slope(look, x)) + turned
    return Pose(float(x), float(bend(look, x) + left), z, float(yaw))


def vehicle(look, frame, *, height):
    """World pose [4, 4] of a sensor `height` metres above the road at a frame.

    `frame` may be fractional or negative: the path goes on at both ends.
    """
    lateral, pitch, roll = (a * np.sin(r * frame + p) for a, r, p in look.sway)
    amplitude, rate, phase = look.sway[0]
    # The car speeds up and slows down by a sixth.
    x = look.speed * (frame + 1.5 * np.sin(0.11 * frame + phase))
    drift = amplitude * rate * np.cos(rate * frame + phase)
    advance = look.speed * (1 + 0.165 * np.cos(0.11 * frame + phase))
    yaw = np.arctan(slope(look, x) + drift / advance)
    position = (x, bend(look, x) - look.lane + lateral, height + 0.3 * pitch)
    pose = np.eye(4)
    pose[:3, :3] = rotation(yaw, pitch, roll)
    pose[:3, 3] = position
    return pose


def rotation(yaw, pitch, roll):
    """Rz(yaw) Ry(pitch) Rx(roll) [3, 3], the convention of KITTI's oxts."""
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    z = np.array([(cy, -sy, 0), (sy, cy, 0), (0, 0, 1)])
    y = np.array([(cp, 0, sp), (0, 1, 0), (-sp, 0, cp)])
    return z @ y @ np.array([(1, 0, 0), (0, cr, -sr), (0, sr, cr)])


@lru_cache(maxsize=8)
def frame_scene(seed, drive, frame):
    """The `Part` that a frame sees: the street around it and the traffic."""
    look = style(seed, drive)
    x = vehicle(look, frame, height=0.0)[0, 3]
    return join([street(seed, drive, x), traffic(seed, drive, frame)])


def street(seed, drive, x, *, behind=BEHIND, ahead=AHEAD):
    """The static `Part` of the street around x; faces start with the ground's."""
    first, last = int((x - behind) // BLOCK), int((x + ahead) // BLOCK)
    return _blocks(seed, drive, first, last)


@lru_cache(maxsize=8)
def _blocks(seed, drive, first, last):
    blocks = [_block(seed, drive, k) for k in range(first, last + 1)]
    return join([objects.ground(), *blocks])


@lru_cache(maxsize=64)
def _block(seed, drive, k):
    look = style(seed, drive)
    rng = np.random.default_rng([seed, drive, 2, k + (1 << 20)])
    middle = (k + 0.5) * BLOCK
    parts = []
    for side in (-1, 1):
        parts += _pavements(look, middle, side)
        parts += _houses(look, rng, middle, side)
        parts += _furniture(look, rng, middle, side, k)
        parts += _parked(look, rng, middle, side)
    return join(parts)


def _pavements(look, middle, side):
    parts = []
    for along in (-6.0, -2.0, 2.0, 6.0):
        pose = beside(look, middle + along, side * (look.half_road + look.pavement / 2))
        length = 4.0 / np.cos(pose.yaw) + 0.04
        width = look.pavement * np.cos(pose.yaw)
        parts.append(objects.pavement(pose, length=length, width=width))
    return parts


def _houses(look, rng, middle, side):
    """A house or a garden behind the pavement."""
    edge = look.half_road + look.pavement
    back = 0.0 if side > 0 else np.pi
    if rng.random() < look.houses:
        depth, setback = rng.uniform(8, 12), rng.choice([0.3, 1.0, 3.0])
        length = rng.uniform(11, BLOCK)
        left = side * (edge + setback + depth / 2)
        pose = beside(look, middle + rng.uniform(-0.5, 0.5), left, turned=back)
        return [objects.building(pose, rng, length=length, depth=depth)]
    fence = beside(look, middle, side * (edge + 0.5))
    parts = [objects.fence(fence, rng, length=BLOCK - rng.uniform(0, 4))]
    for _ in range(int(rng.integers(1, 4))):
        left = side * (edge + rng.uniform(3, 12))
        spot = beside(look, middle + rng.uniform(-7, 7), left)
        parts.append(objects.tree(spot, rng, size=rng.uniform(1.0, 1.6)))
    for _ in range(int(rng.integers(0, 4))):
        left = side * (edge + rng.uniform(1.6, 6))
        parts.append(objects.bush(beside(look, middle + rng.uniform(-7, 7), left), rng))
    return parts


def _furniture(look, rng, middle, side, k):
    """What stands on the pavement near the kerb."""
    near = side * (look.half_road + 0.5)
    parts = []
    for _ in range(int(rng.poisson(look.trees))):
        pose = beside(look, middle + rng.uniform(-6, 6), near + 0.3 * side, z=0.12)
        parts.append(objects.tree(pose, rng, size=rng.uniform(0.8, 1.1)))
    if (k + (side > 0)) % 2 == 0:
        pose = beside(look, middle + 7.0, near, z=0.12)
        parts.append(objects.lamp(pose, side=-side))
    if rng.random() < 0.4:
        pose = beside(look, middle - 7.2, near, z=0.12)
        parts.append(objects.sign(pose, rng))
    return parts


def _parked(look, rng, middle, side):
    parts = []
    for slot in PARKED_CARS:
        if rng.random() >= look.parking:
            continue
        left = side * (look.half_road - 1.05 + rng.uniform(-0.12, 0.1))
        turned = rng.uniform(-0.02, 0.02) + (np.pi if side > 0 else 0.0)
        x = middle + slot + rng.uniform(-0.25, 0.25)
        parts.append(objects.car(beside(look, x, left, turned=turned), rng))
    return parts


@lru_cache(maxsize=8)
def traffic(seed, drive, frame):
    """The `Part` of the moving cars: one ahead in the lane, others oncoming."""
    look = style(seed, drive)
    rng = np.random.default_rng([seed, drive, 3])
    x = vehicle(look, frame, height=0.0)[0, 3]
    gap, swing, phase = rng.uniform((11, 1, 0), (30, 4, 6.28))
    spots = [(x + gap + swing * np.sin(0.13 * frame + phase), -look.lane, 0.0)]
    pace = rng.uniform(0.7, 1.1)
    for start in np.cumsum(rng.uniform(28, 80, 4)):
        ahead = (start - (look.speed + pace) * frame + BEHIND) % 250 - BEHIND
        spots.append((x + ahead, look.lane, np.pi))
    parts = []
    for k, (along, left, turned) in enumerate(spots):
        own = np.random.default_rng([seed, drive, 4, k])
        pose = beside(look, along, left, turned=turned)
        parts.append(objects.car(pose, own, moving=True))
    return join(parts)
