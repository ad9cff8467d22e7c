"""Bundle adjustment of two views: one pose and the inverse depth of each match.

Levenberg-Marquardt (LM) with Huber weights and the Schur complement, as in the
geometric bundle adjustment of Cao et al., "Learning Generalized Visual Odometry Using
Position-Aware Optical Flow and Geometric Bundle Adjustment" (Pattern Recognition 2023).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from amlr_jax.geometry.camera import NEAR
from amlr_jax.geometry.rigid import pose_from_axis_angle
from amlr_jax.inputs import as_floats, resolve_where

_HIGHEST = jax.lax.Precision.HIGHEST  # a GPU would multiply float32 with 10 bits
_EASED, _STIFFENED = 0.2, 10.0  # factors of the damping after a success and a failure
_LEAST, _MOST = 1e-8, 1e8  # damping


class Adjusted(NamedTuple):
    """The pose and the inverse depths with the least error that was found."""

    pose: jax.Array  # second_from_first, [..., 4, 4]
    inverse_depth: jax.Array  # [..., N], 1 / metres
    error: jax.Array  # mean Huber cost of the matches, [...], pixels^2


class _State(NamedTuple):
    """Of one pair of views, between two iterations."""

    pose: jax.Array  # [4, 4]
    inverse_depth: jax.Array  # [N]
    cost: jax.Array  # []
    damping: jax.Array  # []


class _Match(NamedTuple):
    """What is known of the matches of one pair."""

    rays: jax.Array  # [N, 3], z = 1, of the pixels of the first view
    second: jax.Array  # [N, 2] pixels
    where: jax.Array  # [N], 1 or 0
    camera: jax.Array  # [4]


def bundle_adjustment(
    first: jax.Array,
    second: jax.Array,
    inverse_depth: jax.Array,
    pose: jax.Array,
    intrinsics: jax.Array,
    *,
    where: jax.Array | None = None,
    iterations: int = 30,
    huber: float = 9.0,
    bounds: tuple[float, float] = (0.01, 10.0),
) -> Adjusted:
    """Pose and inverse depths r that bring the first view's pixels to their matches.

        min  1/n sum_i rho(|e_i|),   e_i = second_i - project(R K^-1 first_i + r_i t)
        rho(e) = e^2 / 2 for e < h,  else h (e - h / 2)                     (Huber)

    A point p = K^-1 first / r projects as r p does, so a point at infinity (r = 0) and
    a motion without translation have finite derivatives. Each iteration solves

        [B + d diag B   E          ] [pose step         ]   [-g]
        [E^T            C + d (C+1)] [inverse depth step] = [-v]

    for the pose after eliminating the diagonal C (Schur complement). A step that lowers
    the cost is taken and divides the damping d by 5; another is not and multiplies it
    by 10. The pose changes by a motion on its left.

    One camera has no scale: the cost does not change if t and all r are multiplied and
    divided by one factor. The damping keeps them near the given values. No gradient
    flows through the result.

    Args:
      first, second: matching pixels (u, v) of two views, [..., N, 2].
      inverse_depth: r of the first view, [..., N] in 1 / metres, to start from.
      pose: second_from_first, [..., 4, 4], to start from.
      intrinsics: of both views, [..., 4] (fx, fy, cx, cy).
      where: matches that count, boolean [..., N]; None: all. The others, and those that
        are not finite, keep their inverse depth.
      iterations: of LM, successful or not.
      huber: h, pixels.
      bounds: least and greatest inverse depth.

    Returns:
      `Adjusted`; as given where no match counts.

    Raises:
      ValueError: the shapes do not fit, or an option is not positive.
    """
    arrays = as_floats(first, second, inverse_depth, pose, intrinsics)
    first, second, inverse_depth, pose, intrinsics = arrays
    _check(*arrays)
    if iterations < 0 or huber <= 0 or not 0 < bounds[0] < bounds[1]:
        raise ValueError(
            "`iterations` must be at least 0, `huber` positive and `bounds` two rising "
            f"positive numbers, got {iterations}, {huber} and {bounds}."
        )
    seen = resolve_where(where, inverse_depth.shape)
    adjust = partial(_adjust, iterations=iterations, huber=huber, bounds=bounds)
    for _ in inverse_depth.shape[:-1]:
        adjust = jax.vmap(adjust)
    found = adjust(first, second, inverse_depth, pose, intrinsics, seen)
    return Adjusted(*map(jax.lax.stop_gradient, found))


def _check(
    first: jax.Array,
    second: jax.Array,
    inverse_depth: jax.Array,
    pose: jax.Array,
    intrinsics: jax.Array,
) -> None:
    shape = inverse_depth.shape
    expected = {
        "first": (first, (*shape, 2)),
        "second": (second, (*shape, 2)),
        "pose": (pose, (*shape[:-1], 4, 4)),
        "intrinsics": (intrinsics, (*shape[:-1], 4)),
    }
    for name, (array, fitting) in expected.items():
        if array.shape != fitting or not shape:
            raise ValueError(
                f"`{name}` must be {fitting} for `inverse_depth` {shape} [..., N], got "
                f"{array.shape}."
            )


def _adjust(
    first: jax.Array,
    second: jax.Array,
    inverse_depth: jax.Array,
    pose: jax.Array,
    camera: jax.Array,
    where: jax.Array,
    *,
    iterations: int,
    huber: float,
    bounds: tuple[float, float],
) -> Adjusted:
    """One pair of views."""
    finite = jnp.isfinite(jnp.column_stack([first, second, inverse_depth])).all(-1)
    where &= finite
    first, second = (jnp.where(where[:, None], x, 0.0) for x in (first, second))
    rays = (first - camera[2:]) / camera[:2]
    rays = jnp.concatenate([rays, jnp.ones_like(rays[:, :1])], axis=1)
    match = _Match(rays, second, where.astype(first.dtype), camera)
    start = jnp.where(where, jnp.clip(inverse_depth, *bounds), 1.0)
    cost = _cost(_residuals(match, pose, start)[0], match.where, huber)
    state = _State(pose, start, cost, jnp.full((), 1e-3, cost.dtype))

    def step(_: int, state: _State) -> _State:
        tried = _tried(match, state, huber, bounds)
        better = tried.cost < state.cost  # False for NaN
        damping = state.damping * jnp.where(better, _EASED, _STIFFENED)
        new: _State = jax.tree.map(partial(jnp.where, better), tried, state)
        return new._replace(damping=jnp.clip(damping, _LEAST, _MOST))

    state = jax.lax.fori_loop(0, iterations, step, state)
    kept = jnp.where(where, state.inverse_depth, inverse_depth)
    return Adjusted(state.pose, kept, state.cost)


def _residuals(
    match: _Match, pose: jax.Array, inverse_depth: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """e [N, 2], and the points of the second view times their inverse depth, [N, 3]."""
    turned = jnp.matmul(match.rays, pose[:3, :3].T, precision=_HIGHEST)
    points = turned + inverse_depth[:, None] * pose[:3, 3]
    depth = jnp.maximum(points[:, 2:], NEAR)
    pixels = match.camera[:2] * points[:, :2] / depth + match.camera[2:]
    return match.second - pixels, points.at[:, 2:].set(depth)


def _cost(errors: jax.Array, where: jax.Array, huber: float) -> jax.Array:
    length = jnp.sqrt(jnp.sum(jnp.square(errors), axis=-1))
    short = jnp.minimum(length, huber)
    costs = 0.5 * jnp.square(short) + huber * (length - short)
    return jnp.sum(where * costs) / jnp.maximum(where.sum(), 1.0)


def _tried(
    match: _Match, state: _State, huber: float, bounds: tuple[float, float]
) -> _State:
    """The state after one damped step."""
    errors, points = _residuals(match, state.pose, state.inverse_depth)
    length = jnp.sqrt(jnp.sum(jnp.square(errors), axis=-1))
    weights = match.where * huber / jnp.maximum(length, huber)
    of_pose, of_depth = _derivatives(match, state, points)
    weighted = weights[:, None, None] * of_pose
    product = partial(jnp.einsum, precision=_HIGHEST)
    b = product("nkp,nkq->pq", weighted, of_pose)
    e = product("nkp,nk->np", weighted, of_depth)
    c = weights * jnp.sum(jnp.square(of_depth), axis=-1)
    g = product("nkp,nk->p", weighted, errors)
    v = weights * jnp.sum(of_depth * errors, axis=-1)
    damping = state.damping
    inverse = 1.0 / (c + damping * (c + 1.0))
    scale = jnp.diagonal(b)
    left = b + jnp.diag(damping * scale + 1e-12 * (1.0 + scale.max()))
    left -= product("np,n,nq->pq", e, inverse, e)
    move = jnp.linalg.solve(left, g - product("np,n->p", e, inverse * v))
    nearer = inverse * (v - product("np,p->n", e, move))
    inverse_depth = jnp.clip(state.inverse_depth + nearer, *bounds)
    motion = pose_from_axis_angle(move[3:], move[:3])
    pose = jnp.matmul(motion, state.pose, precision=_HIGHEST)
    errors = _residuals(match, pose, inverse_depth)[0]
    return _State(pose, inverse_depth, _cost(errors, match.where, huber), damping)


def _derivatives(
    match: _Match, state: _State, points: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Of the pixels, by the pose (translation, rotation) [N, 2, 6] and by r [N, 2]."""
    x, y, z = points.T
    fx, fy = match.camera[:2]
    zero = jnp.zeros_like(z)
    u = jnp.stack([fx / z, zero, -fx * x / z**2], axis=-1)
    v = jnp.stack([zero, fy / z, -fy * y / z**2], axis=-1)
    by_point = jnp.stack([u, v], axis=1)  # [N, 2, 3]
    by_move = by_point * state.inverse_depth[:, None, None]
    by_turn = jnp.cross(points[:, None, :], by_point)  # row -[p] is p x row
    by_depth = jnp.sum(by_point * state.pose[:3, 3], axis=-1)
    return jnp.concatenate([by_move, by_turn], axis=-1), by_depth
