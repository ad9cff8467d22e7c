"""The things that stand in the street, each a `Part` made of solids and balls.

Sizes are those of real things (a car is 4.2 m long, a storey 3 m high), because
known sizes are what lets a network read metres off a single image.
"""

import numpy as np

from amlr_jax.street import atlas as tex
from amlr_jax.street.solids import (
    ROAD,
    Pose,
    Skin,
    ball,
    box,
    join,
    post,
    profile,
    solid,
)

DARK = Skin(tex.METAL, (0.1, 0.1, 0.1), reflectance=0.05)


def car(pose, rng, *, moving=False):
    """A car (a hatchback, a saloon or a van), its pose on the ground below it."""
    paint = tuple(_PAINTS[rng.integers(len(_PAINTS))] * rng.uniform(0.8, 1.1))
    van = rng.random() < 0.15
    size = rng.uniform(0.94, 1.08)
    length, width = (4.9, 1.9) if van else (4.2 * size, 1.76)
    waist, top = (1.05, 1.95) if van else (0.93, 1.45 * size)
    shift = rng.uniform(0, 9)
    options = {"shift": shift, "moving": moving}
    hood = 0.22 if van else rng.uniform(0.24, 0.28)
    tail = rng.choice([0.02, 0.06, 0.17])
    body = _car_body(pose, length, width, waist, paint, options)
    cabin = (length * (tail - 0.5), length * (0.5 - hood), waist, top, width)
    wheels = [
        _wheel(pose.shifted(length * along, side * (width / 2 - 0.09), 0.31), moving)
        for along in (-0.31, 0.31)
        for side in (-1, 1)
    ]
    return join([body, _car_cabin(pose, *cabin, paint, options), *wheels])


_PAINTS = np.array([
    (0.75, 0.75, 0.76), (0.10, 0.10, 0.11), (0.45, 0.46, 0.48), (0.80, 0.80, 0.78),
    (0.13, 0.18, 0.38), (0.50, 0.07, 0.07), (0.20, 0.22, 0.24), (0.12, 0.25, 0.17),
    (0.55, 0.50, 0.40),
])  # fmt: skip


def _car_body(pose, length, width, waist, paint, options):
    a = length / 2
    outline = [
        (-a, 0.25), (a, 0.25), (a, 0.66), (a - 0.14, 0.80), (a - 1.0, waist),
        (-a + 0.08, waist), (-a, waist - 0.12),
    ]  # fmt: skip
    side = Skin(tex.CAR_SIDE, paint, fit=True)
    plain = Skin(tex.PAINT, paint)
    front = Skin(tex.CAR_FRONT, paint, fit=True, reflectance=0.5)
    rear = Skin(tex.CAR_REAR, paint, fit=True, reflectance=0.6)
    skins = [side._replace(mirror=True), side, DARK, front, plain, plain, plain]
    return profile(pose, outline, width / 2, [*skins, plain, rear], **options)


def _car_cabin(pose, x0, x1, waist, top, width, paint, options):
    """A truncated wedge: all four panes lean inwards."""
    b, high = width / 2 - 0.02, top - waist
    lean = [(1, 0, 0.75 * high), (-1, 0, 0.4 * high), (0, 1, 0.2), (0, -1, 0.2)]
    starts = [x1, -x0, b, b]
    planes = [(0, 0, 1, top), (0, 0, -1, -waist)]
    for (x, y, run), start in zip(lean, starts, strict=True):
        n = np.array([x * high, y * high, run]) / np.hypot(high, run)
        planes.append((*n, n[2] * waist + start * high / np.hypot(high, run)))
    plain = Skin(tex.PAINT, paint)
    pane = Skin(tex.CAR_WINDSCREEN, paint, fit=True, reflectance=0.1)
    glass = Skin(tex.CAR_GLASS, paint, fit=True, reflectance=0.1)
    skins = [plain, DARK, pane, pane, glass._replace(mirror=True), glass]
    corners = ((x0, -b, waist), (x1, b, top))
    return solid(pose, planes, corners, skins, **options)


def _wheel(pose, moving):
    angles = np.arange(10) * 2 * np.pi / 10
    rim = [(0.31 * np.cos(a), 0.31 * np.sin(a)) for a in angles]
    disc = Skin(tex.WHEEL, fit=True, reflectance=0.2)
    return profile(pose, rim, 0.11, [disc, disc] + [DARK] * 10, moving=moving)


def tree(pose, rng, *, size=1.0):
    """A trunk and a crown of leafy shells."""
    height = size * rng.uniform(2.6, 3.6)
    bark = Skin(tex.BARK, reflectance=0.25)
    parts = [post(pose, 0.16 * size, height + 1.0, bark)]
    hue = np.array([0.62, 0.78, 0.45]) * rng.uniform(0.7, 1.15)
    hue = hue * rng.uniform((0.8, 0.9, 0.7), (1.5, 1.05, 1.0))
    for k in range(int(rng.integers(7, 11))):
        angle = 2.4 * k + rng.uniform(0, 1)
        reach = size * rng.uniform(0.5, 1.6) * (k > 0)
        radius = size * rng.uniform(0.8, 1.35)
        up = height + size * rng.uniform(0.6, 3.2)
        centre = pose.place((reach * np.cos(angle), reach * np.sin(angle), up))
        parts.append(_leaves(centre, radius, radius * rng.uniform(0.75, 1.0), hue, rng))
    return join(parts)


def bush(pose, rng):
    """A leafy shell on the ground."""
    radius = rng.uniform(0.5, 1.1)
    hue = np.array([0.5, 0.7, 0.38]) * rng.uniform(0.7, 1.1)
    return _leaves(pose.place((0, 0, 0.6 * radius)), radius, radius, hue, rng)


def _leaves(centre, radius, height, hue, rng):
    skin = Skin(tex.LEAF, tuple(hue * rng.uniform(0.85, 1.15)), reflectance=0.35)
    density, shift = rng.uniform(0.5, 0.68), rng.uniform(0, 9)
    return ball(centre, radius, height, skin, density=density, shift=shift)


def building(pose, rng, *, length, depth):
    """A house whose front lies along the pose's x axis, towards its right side."""
    storeys = int(rng.integers(2, 6))
    high = storeys * tex.STOREY + 0.4
    tint = tuple(_WALLS[rng.integers(len(_WALLS))] * rng.uniform(0.93, 1.07, 3))
    shift = rng.uniform(0, 9)
    wall = Skin(int(rng.choice(tex.FACADES)), tint, reflectance=0.35)
    trim = Skin(tex.PLASTER, tuple(np.array(tint) * rng.uniform(0.6, 1.2)))
    parts = [box(pose, (length, depth, high), [*[wall] * 4, trim, trim], shift=shift)]
    if rng.random() < 0.4:
        shop = Skin(tex.SHOP, tuple(np.array(tint) * 0.9), reflectance=0.3)
        parts.append(_ground_floor(pose, length, depth, shop, trim))
    cornice = (length + 0.3, depth + 0.5, 0.35)
    parts.append(box(pose.shifted(0, 0, high - 0.1), cornice, trim, shift=shift))
    if rng.random() < 0.7:
        parts.append(_gable(pose.shifted(0, 0, high + 0.25), length, depth, rng, trim))
    return join(parts)


_WALLS = np.array([
    (0.95, 0.90, 0.80), (0.85, 0.55, 0.42), (0.90, 0.80, 0.58), (0.75, 0.78, 0.80),
    (0.96, 0.95, 0.93), (0.72, 0.62, 0.52), (0.60, 0.68, 0.62),
])  # fmt: skip


def _ground_floor(pose, length, depth, shop, trim):
    high, proud = 3.3, 0.15
    fit = shop._replace(tile=tex.SHOP, fit=True)
    skins = [trim, trim, fit, fit, trim, trim]
    return box(pose, (length - 0.02, depth + 2 * proud, high), skins)


def _gable(pose, length, depth, rng, trim):
    """A saddle roof, its ridge along the front."""
    rise, b = rng.uniform(0.35, 0.8) * depth / 2, depth / 2 + 0.3
    tiles = _ROOFS[rng.integers(len(_ROOFS))] * rng.uniform(0.8, 1.1)
    roof, n = Skin(tex.ROOF, tuple(tiles)), np.array([rise, b]) / np.hypot(rise, b)
    a = length / 2 + 0.1
    planes = [
        (0, n[0], n[1], n[1] * rise), (0, -n[0], n[1], n[1] * rise),
        (1, 0, 0, a), (-1, 0, 0, a), (0, 0, -1, 0),
    ]  # fmt: skip
    return solid(pose, planes, ((-a, -b, 0), (a, b, rise)), [roof] * 2 + [trim] * 3)


_ROOFS = np.array([(0.75, 0.40, 0.30), (0.45, 0.45, 0.48), (0.60, 0.35, 0.28)])


def lamp(pose, *, side):
    """A street lamp whose arm reaches over the road, towards `side` (+1 is left)."""
    steel = Skin(tex.METAL, (0.7, 0.75, 0.7), reflectance=0.4)
    head = pose.shifted(0, side * 0.9, 6.4)
    arm = box(head, (0.22, 2.0, 0.14), steel)
    return join([post(pose, 0.09, 6.5, steel), arm])


def sign(pose, rng):
    """A traffic sign or, rarely, an advertisement, facing the traffic behind it."""
    steel = Skin(tex.METAL, reflectance=0.5)
    if rng.random() < 0.3:
        size, tile, up = (0.2, 1.4, 2.0), tex.POSTER, 0.5
    else:
        size, tile, up = (0.04, 0.62, 0.62), tex.SIGN, 2.0
    face = Skin(tile, fit=True, reflectance=0.9)
    board = box(pose.shifted(-0.08, 0, up), size, [face, face, *[steel] * 4])
    return join([post(pose, 0.045, up + size[2], steel, sides=6), board])


def fence(pose, rng, *, length):
    """A fence of planks, a wall or a hedge along the pose's x axis."""
    kind = rng.integers(3)
    if kind == 0:
        skin, size = Skin(tex.PLANKS), (length, 0.08, 1.4)
    elif kind == 1:
        skin, size = Skin(tex.KERB, (0.9, 0.85, 0.8)), (length, 0.3, 1.0)
    else:
        skin, size = Skin(tex.LEAF, (0.42, 0.6, 0.35)), (length, 0.7, 1.5)
    return box(pose, size, skin, shift=rng.uniform(0, 9))


def pavement(pose, *, length, width):
    """A slab of raised pavement with its kerbs; the slabs follow the road."""
    kerb = Skin(tex.KERB, reflectance=0.3)
    top = Skin(tex.SLABS, reflectance=0.3, kind=ROAD)
    return box(pose, (length, width, 0.12), [*[kerb] * 4, top, kerb])


def ground():
    """Everything below: the road and the grass beside it."""
    skin = Skin(tex.ASPHALT, reflectance=0.25, kind=ROAD)
    far = 2000.0
    corners = ((-far, -far, -1.0), (far, far, 0.0))
    return solid(Pose(0, 0, 0, 0), [(0, 0, 1, 0)], corners, skin)
