"""Bundle adjustment against SciPy on synthetic scenes; outliers; degenerate input."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from amlr_jax import geometry

CAMERA = np.array([240.0, 250.0, 104.0, 32.0])
COUNT = 24
ADJUST = jax.jit(partial(geometry.bundle_adjustment, huber=1.0, iterations=100))
ALL = np.ones(COUNT, bool)
SCIPY = {"x_scale": "jac", "ftol": 1e-5, "xtol": 1e-6}  # else it stops unfinished


class Scene(NamedTuple):
    first: np.ndarray
    second: np.ndarray
    inverse_depth: np.ndarray
    pose: np.ndarray
    guess: tuple[np.ndarray, np.ndarray]  # inverse depth and pose
    wrong: np.ndarray


def scene(seed: int, *, outliers: float = 0.0, count: int = COUNT) -> Scene:
    rng = np.random.default_rng(seed)
    first = rng.uniform(0, [208, 64], (count, 2))
    inverse = 1 / rng.uniform(4, 40, count)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(rng.normal(0, 0.01, 3)).as_matrix()
    pose[:3, 3] = [0.1, 0.02, -1.0] + rng.normal(0, 0.05, 3)
    second = pixels(first, inverse, pose)
    wrong = rng.random(count) < outliers
    second[wrong] += rng.uniform(-20, 20, (wrong.sum(), 2))
    near = pose.copy()
    near[:3, :3] = (
        Rotation.from_rotvec(rng.normal(0, 0.005, 3)).as_matrix() @ near[:3, :3]
    )
    near[:3, 3] += rng.normal(0, 0.05, 3)
    guess = inverse * np.exp(rng.normal(0, 0.2, count)), near
    return Scene(first, second, inverse, pose, guess, wrong)


def pixels(first, inverse, pose):
    rays = np.column_stack([(first - CAMERA[2:]) / CAMERA[:2], np.ones(len(first))])
    points = rays / inverse[:, None] @ pose[:3, :3].T + pose[:3, 3]
    return CAMERA[:2] * points[:, :2] / points[:, 2:] + CAMERA[2:]


def by_scipy(made: Scene, huber: float) -> tuple[float, float]:
    """The mean Huber cost of the guess, and the least one."""
    inverse, pose = made.guess

    def residuals(x):
        moved = np.eye(4)
        moved[:3, :3] = Rotation.from_rotvec(x[:3]).as_matrix() @ pose[:3, :3]
        moved[:3, 3] = x[3:6]
        errors = made.second - pixels(made.first, x[6:], moved)
        length = np.linalg.norm(errors, axis=1)
        short = np.minimum(length, huber)
        return np.sqrt(short**2 + 2 * huber * (length - short))

    start = np.concatenate([np.zeros(3), pose[:3, 3], inverse])
    low = np.concatenate([np.full(6, -np.inf), np.full(COUNT, 0.01)])
    found = least_squares(residuals, start, bounds=(low, np.inf), **SCIPY)
    return np.square(residuals(start)).sum() / 2 / COUNT, found.cost / COUNT


def scaled(found, made: Scene):
    """Translation and inverse depth at the scale of the truth."""
    length = [np.linalg.norm(pose[:3, 3]) for pose in (found.pose, made.pose)]
    factor = length[0] / length[1]
    return found.pose[:3, 3] / factor, found.inverse_depth * factor


def test_a_scene_without_noise_is_found_in_a_batch():
    scenes = [scene(0), scene(1)]
    first, second, inverse, pose = map(np.stack, list(zip(*scenes, strict=True))[:4])
    guesses = (np.stack(x) for x in zip(*(one.guess for one in scenes), strict=True))
    cameras = np.tile(CAMERA, (2, 1))
    with jax.enable_x64(True):
        found = ADJUST(first, second, *guesses, cameras)
    assert found.inverse_depth.dtype == jnp.float64
    assert np.asarray(found.error).max() < 1e-16
    for k, made in enumerate(scenes):
        one = jax.tree.map(lambda x, k=k: np.asarray(x[k]), found)
        moved, inverse = scaled(one, made)
        np.testing.assert_allclose(one.pose[:3, :3], made.pose[:3, :3], atol=1e-6)
        np.testing.assert_allclose(moved, made.pose[:3, 3], atol=1e-6)
        np.testing.assert_allclose(inverse, made.inverse_depth, atol=1e-6)


@pytest.mark.parametrize("seed", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_thirty_percent_of_outliers_reach_the_minimum_of_scipy(seed):
    made = scene(seed, outliers=0.3)
    assert made.wrong.any()
    with jax.enable_x64(True):
        found = ADJUST(made.first, made.second, *made.guess, CAMERA, where=ALL)
    start, expected = by_scipy(made, huber=1.0)
    assert float(found.error) < 1.05 * expected
    assert float(found.error) < 0.8 * start


def test_outliers_that_are_left_out_do_not_matter():
    made = scene(3, outliers=0.3)
    bad = made.second.copy()
    bad[made.wrong] = np.nan
    with jax.enable_x64(True):
        found = ADJUST(made.first, bad, *made.guess, CAMERA, where=~made.wrong)
    moved, inverse = scaled(jax.tree.map(np.asarray, found), made)
    np.testing.assert_allclose(moved, made.pose[:3, 3], atol=1e-6)
    kept = np.asarray(found.inverse_depth)[made.wrong]
    np.testing.assert_array_equal(kept, made.guess[0][made.wrong])
    right = made.inverse_depth[~made.wrong]
    np.testing.assert_allclose(inverse[~made.wrong], right, atol=1e-6)


def still(made: Scene):
    return made.first


def turned(made: Scene):
    pose = made.pose.copy()
    pose[:3, 3] = 0
    return pixels(made.first, made.inverse_depth, pose)


def lost(made: Scene):
    return np.full_like(made.first, np.nan)


@pytest.mark.parametrize("second", [still, turned, lost])
@pytest.mark.parametrize("start", ["near", "identity"])
def test_degenerate_motion_is_finite_in_float32(second, start):
    made = scene(4)
    inverse, pose = made.guess
    pose = np.eye(4) if start == "identity" else pose
    arrays = (made.first, second(made), inverse, pose, CAMERA)
    found = ADJUST(*(np.float32(x) for x in arrays), where=ALL)
    assert all(jnp.isfinite(x).all() for x in found)
    if second is lost:
        np.testing.assert_array_equal(found.inverse_depth, np.float32(inverse))
        np.testing.assert_allclose(found.pose, np.float32(pose), atol=1e-6)
        assert float(found.error) == 0
    else:
        assert float(found.error) < 1e-3


@pytest.mark.parametrize("count", [0, 1, 7])
def test_fewer_matches_than_unknowns(count):
    made = scene(5, count=COUNT)
    where = np.arange(COUNT) < count
    arrays = (made.first, made.second, *made.guess, CAMERA)
    found = ADJUST(*(np.float32(x) for x in arrays), where=where)
    assert all(jnp.isfinite(x).all() for x in found)


@pytest.mark.parametrize(
    "options",
    [{"iterations": -1}, {"huber": 0.0}, {"bounds": (1.0, 0.5)}, {"bounds": (0.0, 1)}],
)
def test_options_out_of_range(options):
    made = scene(0)
    arrays = (made.first, made.second, *made.guess, CAMERA)
    with pytest.raises(ValueError, match="`iterations` must be"):
        geometry.bundle_adjustment(*arrays, **options)
    with pytest.raises(ValueError, match="`second` must be"):
        geometry.bundle_adjustment(made.first, made.second[1:], *arrays[2:])
