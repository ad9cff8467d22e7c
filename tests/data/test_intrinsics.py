"""What is done to the pixels and what is done to the camera agree."""

import numpy as np

from amlr_jax.data import intrinsics

CAMERA = np.array([721.5, 715.0, 609.6, 172.9])
POINTS = np.random.default_rng(0).uniform([-5, -2, 4], [5, 2, 40], (50, 3))
HEIGHT, WIDTH = 375, 1242


def project(points, camera):
    fx, fy, cx, cy = camera
    x, y, z = points.T
    return np.stack([fx * x / z + cx, fy * y / z + cy], axis=-1)


def test_crop_moves_the_pixels():
    cropped = intrinsics.crop_intrinsics(CAMERA, top=23, left=13)
    want = project(POINTS, CAMERA) - [13, 23]
    np.testing.assert_allclose(project(POINTS, cropped), want, atol=1e-9)


def test_resize_maps_edges_to_edges():
    """Pixel u covers u - 0.5 to u + 0.5; the outer edges go onto each other."""
    resized = intrinsics.resize_intrinsics(
        CAMERA, before=(HEIGHT, WIDTH), after=(192, 640)
    )
    scale = np.array([640 / WIDTH, 192 / HEIGHT])
    want = (project(POINTS, CAMERA) + 0.5) * scale - 0.5
    np.testing.assert_allclose(project(POINTS, resized), want, atol=1e-9)


def test_flip_mirrors_pixels_and_world():
    flipped = intrinsics.flip_intrinsics(CAMERA, width=WIDTH)
    pixels = project(POINTS, CAMERA)
    want = np.stack([WIDTH - 1 - pixels[:, 0], pixels[:, 1]], axis=-1)
    mirrored = POINTS * [-1, 1, 1]
    np.testing.assert_allclose(project(mirrored, flipped), want, atol=1e-9)
    again = intrinsics.flip_intrinsics(flipped, width=WIDTH)
    np.testing.assert_allclose(again, CAMERA, atol=1e-9)
