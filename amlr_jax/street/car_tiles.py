"""The tiles of cars. Paint takes the car's tint (alpha 1), glass and lamps do not."""

import numpy as np

from amlr_jax.street.brushes import SIZE, mottle, scribble, shade, texels


def paint_coat(rng):
    return shade((0.85, 0.85, 0.85), 1 + 0.04 * mottle(rng, 4, 5, 0.8))


def _panel(rng):
    image = paint_coat(rng)
    image = np.concatenate([image, np.ones_like(image[..., :1])], axis=2)
    image[..., :3] *= np.linspace(1.12, 0.75, SIZE)[:, None, None]
    return image


def side(rng):
    image = _panel(rng)
    x, y = texels()
    for seam in (0.30, 0.50, 0.71):
        image[(np.abs(x - seam) < 0.004) & (y < 0.85)] *= (0.3, 0.3, 0.3, 1)
    for handle in (0.44, 0.65):
        image[(np.abs(x - handle) < 0.025) & (np.abs(y - 0.28) < 0.025)] = 0.15
    image[np.abs(y - 0.42) < 0.012] *= (1.25, 1.25, 1.25, 1)
    for arch in (0.19, 0.81):
        image[((x - arch) / 0.098) ** 2 + ((y - 1.02) / 0.62) ** 2 < 1] = 0.03
    image[y > 0.90] = (0.05, 0.05, 0.05, 0)
    image[(x < 0.035) & (y > 0.2) & (y < 0.4)] = (0.8, 0.15, 0.1, 0)
    image[(x > 0.95) & (y > 0.25) & (y < 0.42)] = (0.9, 0.9, 0.85, 0)
    return image


def _plate(image, rng):
    image[330:385, 170:342] = (0.9, 0.9, 0.88, 0)
    scribble(image[340:375, 182:330], np.random.default_rng(rng.integers(99)), count=7)


def rear(rng):
    image = _panel(rng)
    x, y = texels()
    lamps = (np.abs(x - 0.5) > 0.36) & (y > 0.12) & (y < 0.46)
    image[lamps] = (0.62, 0.06, 0.05, 0)
    image[lamps & (np.abs(y - 0.26) < 0.04)] = (0.9, 0.55, 0.3, 0)
    image[np.abs(y - 0.50) < 0.008] *= (0.35, 0.35, 0.35, 1)
    image[y > 0.82] = (0.06, 0.06, 0.06, 0)
    _plate(image, rng)
    return image


def front(rng):
    image = _panel(rng)
    x, y = texels()
    lamps = (np.abs(x - 0.5) > 0.30) & (y > 0.43) & (y < 0.60)
    image[lamps] = (0.88, 0.90, 0.92, 0)
    grille = (np.abs(x - 0.5) < 0.26) & (y > 0.45) & (y < 0.62)
    image[grille] = (0.07, 0.07, 0.08, 0)
    image[grille & (y * 40 % 1 < 0.3)] = (0.5, 0.5, 0.5, 0)
    image[(np.abs(x - 0.5) < 0.42) & (y > 0.82)] = (0.05, 0.05, 0.05, 0)
    _plate(image, rng)
    return image


def _pane(image, inside, rng):
    _, y = texels()
    glass = 0.26 - 0.2 * y + 0.03 * mottle(rng, 3, 3)
    image[inside] = (shade((0.8, 0.95, 1.1), glass) @ np.eye(3, 4))[inside]


def glass(rng):
    image = _panel(rng)
    x, y = texels()
    inside = (np.abs(y - 0.52) < 0.38) & (np.abs(x - 0.5) < 0.46 - 0.16 * (1 - y))
    for pillar in (0.36, 0.62):
        inside &= np.abs(x - pillar) > 0.014
    _pane(image, inside, rng)
    return image


def windscreen(rng):
    image = _panel(rng)
    x, y = texels()
    _pane(image, (np.abs(x - 0.5) < 0.41) & (np.abs(y - 0.52) < 0.40), rng)
    return image


def wheel(rng):
    x, y = texels()
    radius = np.hypot(x - 0.5, y - 0.5)
    angle = np.arctan2(y - 0.5, x - 0.5)
    image = np.full((SIZE, SIZE), 0.05, np.float32) + 0.01 * mottle(rng, 32, 2)
    hub = radius < 0.32
    image[hub] = np.where(np.cos(5 * angle[hub]) > -0.2, 0.62, 0.14)
    image[radius < 0.06] = 0.3
    image = np.stack([image] * 3 + [np.zeros_like(image)], axis=2)
    return image.astype(np.float32)
