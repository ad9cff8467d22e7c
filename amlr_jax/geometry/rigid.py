"""Rotations and rigid motions from axis-angle vectors, and their inverse.

Notation: v is an axis-angle vector [..., 3] in radians, a its length, [v] the matrix
with [v] x = cross(v, x), R a rotation [..., 3, 3], t a translation in metres. Where a
formula divides by a, its Taylor series in a^2 is used below `_SERIES`, so that value
and every derivative are finite at zero rotation, where pose networks start.
"""

import jax
import jax.numpy as jnp

from amlr_jax.inputs import as_float, as_floats

_SERIES = 0.25  # radians^2; four terms are exact to 1e-8 below it
_HIGHEST = jax.lax.Precision.HIGHEST  # a GPU would multiply float32 with 10 bits


def rotation_from_axis_angle(axis_angle: jax.Array) -> jax.Array:
    """The rotation by |v| radians about v (Rodrigues).

        R = I + sin(a) / a [v] + (1 - cos(a)) / a^2 [v]^2

    Orthonormal to 1e-6 for any angle; I, with the derivative [.], at v = 0.

    Args:
      axis_angle: v, [..., 3] radians.

    Returns:
      [..., 3, 3].

    Raises:
      ValueError: the last axis is not 3.

    >>> import jax.numpy as jnp
    >>> quarter = rotation_from_axis_angle(jnp.array([0.0, 0.0, jnp.pi / 2]))
    >>> quarter[:, 0].round(3).tolist()  # where the x axis goes
    [-0.0, 1.0, 0.0]
    """
    v = as_float(axis_angle)
    _check_vector("axis_angle", v)
    first, second = _coefficients(_square(v))
    cross = _cross_matrix(v)
    return jnp.eye(3, dtype=v.dtype) + first * cross + second * _cross_squared(v)


def pose_from_axis_angle(
    axis_angle: jax.Array, translation: jax.Array, *, invert: bool = False
) -> jax.Array:
    """The pose from the six outputs of a pose network, as in monodepth2.

        invert=False   x' = R x + t          M = T(t) R
        invert=True    x' = R^T (x - t)      M = R^T T(-t), the exact inverse

    A pose network gets two frames in the order of time and predicts later_from_earlier.
    For the frame before the target (source = earlier) monodepth2 inverts this pose to
    get source_from_target; for the frame after, it does not.

    Args:
      axis_angle: v, [..., 3] radians.
      translation: t, [..., 3] metres, the batch axes of `axis_angle`.
      invert: give the inverse pose.

    Returns:
      [..., 4, 4].

    Raises:
      ValueError: a shape is not [..., 3], or they differ.

    >>> import jax.numpy as jnp
    >>> pose = pose_from_axis_angle(jnp.zeros(3), jnp.array([1.0, 2.0, 3.0]))
    >>> pose[:3, 3].tolist()
    [1.0, 2.0, 3.0]
    """
    axis_angle, t = as_floats(axis_angle, translation)
    rotation = rotation_from_axis_angle(axis_angle)
    _check_vector("translation", t)
    if t.shape != jnp.shape(axis_angle):
        raise ValueError(
            "`translation` must have the shape of `axis_angle`, got translation "
            f"{t.shape} and axis_angle {jnp.shape(axis_angle)}."
        )
    pose = _pose(rotation, t)
    return inverse_pose(pose) if invert else pose


def inverse_pose(pose: jax.Array) -> jax.Array:
    """The inverse of a rigid motion in closed form: R^T and -R^T t.

    Args:
      pose: a_from_b, [..., 4, 4], rigid.

    Returns:
      b_from_a, [..., 4, 4].

    Raises:
      ValueError: the last two axes are not 4 x 4.

    >>> import jax.numpy as jnp
    >>> pose = pose_from_axis_angle(jnp.array([0.1, 0.2, 0.3]), jnp.ones(3))
    >>> bool(jnp.allclose(inverse_pose(pose) @ pose, jnp.eye(4), atol=1e-6))
    True
    """
    pose = as_float(pose)
    if pose.shape[-2:] != (4, 4):
        raise ValueError(f"`pose` must be [..., 4, 4], got shape {pose.shape}.")
    back = jnp.swapaxes(pose[..., :3, :3], -1, -2)
    return _pose(back, -_apply(back, pose[..., :3, 3]))


def _coefficients(square: jax.Array) -> tuple[jax.Array, jax.Array]:
    """sin(a)/a and (1 - cos(a))/a^2 of a^2 [..., 1]."""
    small = square < _SERIES
    a = jnp.sqrt(jnp.where(small, 1.0, square))
    s = jnp.where(small, square, 0.0)
    first = jnp.where(small, 1 - s / 6 + s**2 / 120 - s**3 / 5040, jnp.sin(a) / a)
    # 1 - cos(a) = 2 sin(a / 2)^2 does not cancel.
    half = 2.0 * jnp.square(jnp.sin(0.5 * a) / a)
    second = jnp.where(small, 1 / 2 - s / 24 + s**2 / 720 - s**3 / 40320, half)
    return first[..., None], second[..., None]


def _cross_matrix(v: jax.Array) -> jax.Array:
    x, y, z = (v[..., k] for k in range(3))
    zero = jnp.zeros_like(x)
    rows = (zero, -z, y), (z, zero, -x), (-y, x, zero)
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def _cross_squared(v: jax.Array) -> jax.Array:
    """[v]^2 = v v^T - |v|^2 I."""
    return v[..., :, None] * v[..., None, :] - _square(v)[..., None] * jnp.eye(
        3, dtype=v.dtype
    )


def _pose(rotation: jax.Array, translation: jax.Array) -> jax.Array:
    top = jnp.concatenate([rotation, translation[..., None]], axis=-1)
    last = jnp.array([0.0, 0.0, 0.0, 1.0], top.dtype)
    last = jnp.broadcast_to(last, (*top.shape[:-2], 1, 4))
    return jnp.concatenate([top, last], axis=-2)


def _apply(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    return jnp.matmul(matrix, vector[..., None], precision=_HIGHEST)[..., 0]


def _square(v: jax.Array) -> jax.Array:
    """|v|^2 as [..., 1]."""
    return jnp.sum(jnp.square(v), axis=-1, keepdims=True)


def _check_vector(name: str, array: jax.Array) -> None:
    if array.shape[-1:] != (3,):
        raise ValueError(f"`{name}` must be [..., 3], got shape {array.shape}.")
