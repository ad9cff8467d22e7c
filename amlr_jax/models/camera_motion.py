"""The motion of the camera from optical flow and predicted depth, without a network.

The steps of Cao et al., "Learning Generalized Visual Odometry Using Position-Aware
Optical Flow and Geometric Bundle Adjustment" (Pattern Recognition 2023), as a
reconstruction: matches are drawn where the flows of both directions agree, drawn again
where they fit a fundamental matrix, and give a pose with the predicted depth (PnP),
which bundle adjustment refines together with the depths.

RANSAC is OpenCV's, on the host, in a callback of the compiled function: PnP needs the
depth that the network predicts in this very step, so the workers that load data cannot
do it ahead. Samples run in threads. The callback is a function of its arguments alone,
so that a resumed run takes the same steps.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from amlr_jax import geometry
from amlr_jax.runtime.cluster import cores

COUNT = 3000  # matches of a pair
SHARE = 0.2  # of the pixels with the best scores, of which the matches are drawn
LEAST = 8  # matches, the fewest that determine a fundamental matrix
LEAST_ERROR = 0.01  # pixels^2; inconsistencies below it are equally good
INLIER = 0.1  # pixels from the epipolar line, in RANSAC
RIGID = 0.5  # pixels from the epipolar line, beyond which a pixel moves by itself
ENOUGH = 0.2  # of the matches must be rigid, and of those have a parallax
REPROJECTION = 1.0  # pixels, in PnP
PARALLAX = 0.5  # pixels; below it a match tells no depth in front of the camera
HUBER = 1.0  # pixels, in bundle adjustment; GVO's 9 lets a few wrong matches decide


class Motion(NamedTuple):
    """The motion between pairs of frames, and what it was found from."""

    pose: jax.Array  # second_from_first, [P, 4, 4]; the identity where not found
    found: jax.Array  # boolean [P]
    rigid: jax.Array  # boolean [P, H, W], pixels that agree with one motion
    places: jax.Array  # int32 [P, N], the flat pixels of the matches
    used: jax.Array  # boolean [P, N], matches of the bundle adjustment
    inverse_depth: jax.Array  # [P, N], adjusted


def trusted(flow: jax.Array, back: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How far a flow is to be trusted, [B, H, W] in [0, 1], and its inconsistency.

    0 where it leaves the image, too: at coarse scales an outward flow of less than 1.7
    pixels is consistent there, would be compared with nothing and be pushed inwards.
    """
    error, near = geometry.flow_consistency(flow, back)
    _, inside = geometry.flow_matches(jax.lax.stop_gradient(flow))
    return geometry.flow_visibility(back) * (near & inside), error


def camera_motion(
    flow: jax.Array,
    trusted: jax.Array,
    inconsistency: jax.Array,
    inverse_depth: jax.Array,
    intrinsics: jax.Array,
    key: jax.Array,
    *,
    count: int = COUNT,
) -> Motion:
    """Motion of P pairs of frames; a pair without enough matches is not found.

    Not found are pairs with fewer than eight matches, with too few that fit one rigid
    motion, and with less than half a pixel of parallax, as where the camera stands or
    only turns. No gradient flows through the result.

    Args:
      flow: first to second, [P, H, W, 2] pixels.
      trusted: of each pixel's flow, [P, H, W] in [0, 1], 0 where it is not seen.
      inconsistency: of the flows of both directions, [P, H, W] pixels^2.
      inverse_depth: of the first frame, [P, H, W] in 1 / metres.
      intrinsics: [P, 4].
      key: draws the matches.
      count: of matches drawn, N = min(count, a fifth of the pixels).
    """
    arrays = (flow, trusted, inconsistency, inverse_depth, intrinsics)
    flow, trusted, inconsistency, inverse_depth, intrinsics = map(
        jax.lax.stop_gradient, arrays
    )
    pairs, height, width = trusted.shape
    count = max(LEAST, min(count, int(SHARE * height * width)))
    second, inside = geometry.flow_matches(flow)
    first = second - flow
    seen = trusted * inside  # False for NaN
    keys = jax.random.split(key)
    scores = jnp.where(seen > 0, seen / jnp.maximum(inconsistency, LEAST_ERROR), 0.0)
    places, drawn = _draw(scores, keys[0], count)
    matrix, fits = _on_host(
        _fundamental, (3, 3), at_places(first, places), at_places(second, places), drawn
    )
    distance = epipolar_distance(matrix, first, second)
    rigid = (distance < RIGID) & (seen > 0) & fits[:, None, None]
    share = at_places(rigid, places).sum(-1) / jnp.maximum(drawn.sum(-1), 1)
    places, drawn = _draw(jnp.where(rigid, seen / (1 + distance), 0.0), keys[1], count)
    ends = at_places(first, places), at_places(second, places)
    inverse = at_places(inverse_depth, places)
    pose, solved = _on_host(_pnp, (4, 4), *ends, drawn, inverse, intrinsics)
    used = drawn & (parallax(*ends, pose, intrinsics) > PARALLAX)
    found = fits & solved & (share >= ENOUGH) & _enough(used, drawn)
    used &= found[:, None]
    adjusted = geometry.bundle_adjustment(
        *ends, inverse, pose, intrinsics, where=used, huber=HUBER
    )
    pose = jnp.where(found[:, None, None], adjusted.pose, jnp.eye(4))
    return Motion(pose, found, rigid, places, used, adjusted.inverse_depth)


def _enough(used: jax.Array, drawn: jax.Array) -> jax.Array:
    return used.sum(-1) >= jnp.maximum(LEAST, ENOUGH * drawn.sum(-1))


def epipolar_distance(
    matrix: jax.Array, first: jax.Array, second: jax.Array
) -> jax.Array:
    """Distance of each match from its epipolar line in the second image, pixels.

    |x'^T F x| / |(F x)_{1, 2}|         [P, 3, 3] and [P, ..., 2] -> [P, ...]
    """
    ones = jnp.ones_like(first[..., :1])
    x, y = (jnp.concatenate([p, ones], axis=-1) for p in (first, second))
    exact = jax.lax.Precision.HIGHEST
    line = jnp.einsum("pij,p...j->p...i", matrix, x, precision=exact)
    length = jnp.sqrt(jnp.sum(jnp.square(line[..., :2]), axis=-1))
    return jnp.abs(jnp.sum(y * line, axis=-1)) / jnp.maximum(length, 1e-12)


def parallax(
    first: jax.Array, second: jax.Array, pose: jax.Array, intrinsics: jax.Array
) -> jax.Array:
    """How far the translation moves each match along its epipolar line, [P, N] pixels.

    From where the turn alone takes it, which is where it would be at an infinite depth;
    negative for what no depth in front of the camera explains, as a car that drives
    ahead.
    """
    focal, centre = intrinsics[:, None, :2], intrinsics[:, None, 2:]
    rays = (first - centre) / focal
    rays = jnp.concatenate([rays, jnp.ones_like(rays[..., :1])], axis=-1)
    exact = jax.lax.Precision.HIGHEST
    turned = jnp.einsum("pij,pnj->pni", pose[:, :3, :3], rays, precision=exact)
    moved = pose[:, None, :3, 3]
    ahead = jnp.maximum(turned[..., 2:], 1e-3)
    far = turned[..., :2] / ahead
    along = focal * (moved[..., :2] - far * moved[..., 2:])  # nearer by r moves it so
    along /= jnp.maximum(jnp.linalg.norm(along, axis=-1, keepdims=True), 1e-12)
    return jnp.sum((second - focal * far - centre) * along, axis=-1)


def _draw(scores: jax.Array, key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """`count` random places among the best scores of each pair, and which score > 0."""
    flat = scores.reshape(len(scores), -1)
    best, order = jax.lax.top_k(flat, max(count, int(SHARE * flat.shape[1])))
    chance = jnp.where(best > 0, jax.random.uniform(key, best.shape), -1.0)
    value, chosen = jax.lax.top_k(chance, count)
    return jnp.take_along_axis(order, chosen, axis=1), value >= 0


def at_places(array: jax.Array, places: jax.Array) -> jax.Array:
    """[P, H, W, ...] at flat pixels [P, N] -> [P, N, ...]."""
    flat = array.reshape(len(array), -1, *array.shape[3:])
    return jax.vmap(lambda one, place: one[place])(flat, places)


def _on_host(
    solve: Callable, shape: tuple[int, int], *arrays: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A matrix of each pair by `solve`, and whether there is one; else the identity."""
    pairs = len(arrays[0])
    result = (
        jax.ShapeDtypeStruct((pairs, *shape), jnp.float32),
        jax.ShapeDtypeStruct((pairs,), jnp.bool_),
    )
    call = partial(_each, solve, shape[0])
    matrix, solved = jax.pure_callback(call, result, *arrays)
    return matrix, solved


def _each(solve: Callable, size: int, *arrays: jax.Array) -> tuple[np.ndarray, ...]:
    samples = list(zip(*map(np.asarray, arrays), strict=True))
    with ThreadPoolExecutor(min(8, cores(), len(samples))) as pool:
        found = list(pool.map(partial(_one, solve), samples))
    identity = np.eye(size, dtype=np.float32)
    matrices = [identity if one is None else one for one in found]
    solved = np.array([one is not None for one in found])
    return np.stack(matrices).astype(np.float32), solved


def _one(solve: Callable, sample: tuple[np.ndarray, ...]) -> np.ndarray | None:
    first, second, where, *rest = sample
    if where.sum() < LEAST:
        return None
    try:
        found = solve(first[where], second[where], where, *rest)
    except cv2.error:  # of matches in one line, as a rule
        return None
    return found if found is not None and np.isfinite(found).all() else None


def _fundamental(
    first: np.ndarray, second: np.ndarray, where: np.ndarray
) -> np.ndarray | None:
    del where
    found, _ = cv2.findFundamentalMat(first, second, cv2.FM_RANSAC, INLIER, 0.99)
    return None if found is None or found.shape != (3, 3) else found


def _pnp(
    first: np.ndarray,
    second: np.ndarray,
    where: np.ndarray,
    inverse_depth: np.ndarray,
    camera: np.ndarray,
) -> np.ndarray | None:
    rays = np.column_stack([(first - camera[2:]) / camera[:2], np.ones(len(first))])
    points = rays / inverse_depth[where, None]
    matrix = np.array(
        [[camera[0], 0, camera[2]], [0, camera[1], camera[3]], [0, 0, 1]], np.float64
    )
    solved, turn, move, _ = cv2.solvePnPRansac(
        points.astype(np.float64),
        second.astype(np.float64),
        matrix,
        None,
        iterationsCount=1000,
        reprojectionError=REPROJECTION,
    )
    if not solved:
        return None
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = cv2.Rodrigues(turn)[0], move[:, 0]
    return pose
