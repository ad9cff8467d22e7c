"""Rotations and rigid motions: axis-angle, SE(3), their inverses and products.

Notation: v is an axis-angle vector [..., 3] in radians, a its length, [v] the matrix
with [v] x = cross(v, x), R a rotation [..., 3, 3], t a translation in metres. Where a
formula divides by a, its Taylor series in a^2 takes over below `_SERIES`, so that value
and every derivative are finite at zero rotation, where PoseNets start.
"""

import jax
import jax.numpy as jnp

_SERIES = 0.25  # radians^2; four terms are exact to 1e-8 below it
_HIGHEST = jax.lax.Precision.HIGHEST  # a GPU would multiply float32 with 10 bits


def rotation_from_axis_angle(axis_angle: jax.Array) -> jax.Array:
    """The rotation by |v| radians about v (Rodrigues).

        R = I + sin(a) / a [v] + (1 - cos(a)) / a^2 [v]^2

    Orthonormal to 1e-6 for any angle; I, with the derivative [.], at v = 0.

    Args:
      axis_angle: v, [..., 3] radians.

    Returns:
      float32 [..., 3, 3].

    Raises:
      ValueError: the last axis is not 3.

    >>> import jax.numpy as jnp
    >>> quarter = rotation_from_axis_angle(jnp.array([0.0, 0.0, jnp.pi / 2]))
    >>> quarter[:, 0].round(3).tolist()  # where the x axis goes
    [-0.0, 1.0, 0.0]
    """
    v = _vector("axis_angle", axis_angle, 3)
    first, second, _ = _coefficients(_square(v))
    cross = _cross_matrix(v)
    return jnp.eye(3) + first * cross + second * _cross_squared(v)


def axis_angle_from_rotation(rotation: jax.Array) -> jax.Array:
    """The axis-angle vector of a rotation; its length is in [0, pi].

    Through the unit quaternion, taken from its largest component (Shepperd), so it is
    exact to float32 near 0 and near pi, where the usual arccos of the trace has lost
    half of the digits. At exactly pi, v and -v are the same rotation and either may
    come out. The gradient is finite at the identity; at pi the function jumps.

    Args:
      rotation: R, [..., 3, 3], orthonormal with determinant 1.

    Returns:
      float32 [..., 3] radians.

    Raises:
      ValueError: the last two axes are not 3 x 3.

    >>> import jax.numpy as jnp
    >>> half_turn = jnp.diag(jnp.array([1.0, -1.0, -1.0]))
    >>> (axis_angle_from_rotation(half_turn) / jnp.pi).tolist()
    [1.0, 0.0, 0.0]
    """
    w, xyz = _quaternion(_matrix("rotation", rotation, 3))
    square = _square(xyz)
    small = square < 1e-6
    n = jnp.sqrt(jnp.where(small, 1.0, square))
    # 2 atan(n / w) / n = 2 / w (1 - n^2 / (3 w^2) + ...); w is near 1 where n is small.
    near_one = jnp.where(small, w, 1.0)
    series = 2.0 / near_one * (1.0 - square / (3.0 * jnp.square(near_one)))
    return jnp.where(small, series, 2.0 * jnp.arctan2(n, w) / n) * xyz


def pose_from_axis_angle(
    axis_angle: jax.Array, translation: jax.Array, *, invert: bool = False
) -> jax.Array:
    """The pose of a pose network's six numbers, as monodepth2 reads them.

        invert=False   x' = R x + t          M = T(t) R
        invert=True    x' = R^T (x - t)      M = R^T T(-t), the exact inverse

    A pose network sees two frames in the order of time and predicts later_from_earlier.
    For the frame before the target (source = earlier) monodepth2 wants
    source_from_target and therefore inverts; for the frame after, it does not.

    Args:
      axis_angle: v, [..., 3] radians.
      translation: t, [..., 3] metres, the batch axes of `axis_angle`.
      invert: give the inverse pose.

    Returns:
      float32 [..., 4, 4].

    Raises:
      ValueError: a shape is not [..., 3], or they differ.

    >>> import jax.numpy as jnp
    >>> pose = pose_from_axis_angle(jnp.zeros(3), jnp.array([1.0, 2.0, 3.0]))
    >>> pose[:3, 3].tolist()
    [1.0, 2.0, 3.0]
    """
    rotation = rotation_from_axis_angle(axis_angle)
    t = _vector("translation", translation, 3)
    if t.shape != jnp.shape(axis_angle):
        raise ValueError(
            "`translation` must have the shape of `axis_angle`, got translation "
            f"{t.shape} and axis_angle {jnp.shape(axis_angle)}."
        )
    pose = _pose(rotation, t)
    return inverse_pose(pose) if invert else pose


def se3_exp(twist: jax.Array) -> jax.Array:
    """The exponential map of SE(3): a pose of a twist (rho, v).

        R = exp [v],   t = V rho,
        V = I + (1 - cos(a)) / a^2 [v] + (a - sin(a)) / a^3 [v]^2

    Args:
      twist: [..., 6], first rho in metres, then v in radians.

    Returns:
      float32 [..., 4, 4].

    Raises:
      ValueError: the last axis is not 6.

    >>> import jax.numpy as jnp
    >>> se3_exp(jnp.array([1.0, 0, 0, 0, 0, 0]))[:3, 3].tolist()
    [1.0, 0.0, 0.0]
    """
    twist = _vector("twist", twist, 6)
    rho, v = twist[..., :3], twist[..., 3:]
    _, second, third = _coefficients(_square(v))
    left = jnp.eye(3) + second * _cross_matrix(v) + third * _cross_squared(v)
    return _pose(rotation_from_axis_angle(v), _apply(left, rho))


def se3_log(pose: jax.Array) -> jax.Array:
    """The twist (rho, v) of a pose, the inverse of `se3_exp` for |v| <= pi.

        rho = V^-1 t
        V^-1 = I - [v] / 2 + (1 - a sin(a) / (2 (1 - cos(a)))) / a^2 [v]^2

    Args:
      pose: [..., 4, 4], rigid.

    Returns:
      float32 [..., 6], first rho in metres, then v in radians.

    Raises:
      ValueError: the last two axes are not 4 x 4.

    >>> import jax.numpy as jnp
    >>> twist = jnp.array([1.0, 2.0, 3.0, 0.1, 0.2, 0.3])
    >>> se3_log(se3_exp(twist)).round(5).tolist() == twist.round(5).tolist()
    True
    """
    pose = _matrix("pose", pose, 4)
    v = axis_angle_from_rotation(pose[..., :3, :3])
    square = _square(v)[..., None]
    small = square < _SERIES
    safe = jnp.where(small, 1.0, square)
    first, second, _ = _coefficients(safe[..., 0])
    series = 1 / 12 + square / 720 + square**2 / 30240 + square**3 / 1209600
    factor = jnp.where(small, series, (1.0 - first / (2.0 * second)) / safe)
    inverse = jnp.eye(3) - 0.5 * _cross_matrix(v) + factor * _cross_squared(v)
    return jnp.concatenate([_apply(inverse, pose[..., :3, 3]), v], axis=-1)


def inverse_pose(pose: jax.Array) -> jax.Array:
    """The inverse of a rigid motion in closed form: R^T and -R^T t.

    Args:
      pose: a_from_b, [..., 4, 4], rigid.

    Returns:
      b_from_a, float32 [..., 4, 4].

    Raises:
      ValueError: the last two axes are not 4 x 4.

    >>> import jax.numpy as jnp
    >>> pose = pose_from_axis_angle(jnp.array([0.1, 0.2, 0.3]), jnp.ones(3))
    >>> bool(jnp.allclose(inverse_pose(pose) @ pose, jnp.eye(4), atol=1e-6))
    True
    """
    pose = _matrix("pose", pose, 4)
    back = jnp.swapaxes(pose[..., :3, :3], -1, -2)
    return _pose(back, -_apply(back, pose[..., :3, 3]))


def compose(a_from_b: jax.Array, b_from_c: jax.Array) -> jax.Array:
    """The pose a_from_c: first `b_from_c`, then `a_from_b`.

    Args:
      a_from_b: [..., 4, 4].
      b_from_c: [..., 4, 4], the same batch axes.

    Returns:
      float32 [..., 4, 4].

    Raises:
      ValueError: a shape is not [..., 4, 4], or they differ.

    >>> import jax.numpy as jnp
    >>> step = pose_from_axis_angle(jnp.zeros(3), jnp.array([0.0, 0.0, 1.0]))
    >>> float(compose(step, step)[2, 3])
    2.0
    """
    left, right = _matrix("a_from_b", a_from_b, 4), _matrix("b_from_c", b_from_c, 4)
    if left.shape != right.shape:
        raise ValueError(
            f"`b_from_c` must have the shape of `a_from_b`, got b_from_c {right.shape} "
            f"and a_from_b {left.shape}."
        )
    rotation, t = left[..., :3, :3], left[..., :3, 3]
    product = jnp.matmul(rotation, right[..., :3, :3], precision=_HIGHEST)
    return _pose(product, _apply(rotation, right[..., :3, 3]) + t)


def _coefficients(square: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """sin(a)/a, (1 - cos(a))/a^2, (a - sin(a))/a^3 of a^2 [..., 1]."""
    small = square < _SERIES
    a = jnp.sqrt(jnp.where(small, 1.0, square))
    s = jnp.where(small, square, 0.0)
    first = jnp.where(small, 1 - s / 6 + s**2 / 120 - s**3 / 5040, jnp.sin(a) / a)
    # 1 - cos(a) = 2 sin(a / 2)^2 does not cancel.
    half = 2.0 * jnp.square(jnp.sin(0.5 * a) / a)
    second = jnp.where(small, 1 / 2 - s / 24 + s**2 / 720 - s**3 / 40320, half)
    cubic = (a - jnp.sin(a)) / a**3
    third = jnp.where(small, 1 / 6 - s / 120 + s**2 / 5040 - s**3 / 362880, cubic)
    return first[..., None], second[..., None], third[..., None]


def _cross_matrix(v: jax.Array) -> jax.Array:
    x, y, z = (v[..., k] for k in range(3))
    zero = jnp.zeros_like(x)
    rows = (zero, -z, y), (z, zero, -x), (-y, x, zero)
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def _cross_squared(v: jax.Array) -> jax.Array:
    """[v]^2 = v v^T - |v|^2 I."""
    return v[..., :, None] * v[..., None, :] - _square(v)[..., None] * jnp.eye(3)


def _quaternion(rotation: jax.Array) -> tuple[jax.Array, jax.Array]:
    """w >= 0 as [..., 1] and (x, y, z) [..., 3] of the unit quaternion of R."""
    r = [[rotation[..., i, j] for j in range(3)] for i in range(3)]
    wx, wy, wz = r[2][1] - r[1][2], r[0][2] - r[2][0], r[1][0] - r[0][1]
    xy, xz, yz = r[0][1] + r[1][0], r[0][2] + r[2][0], r[1][2] + r[2][1]
    ww, xx = 1 + r[0][0] + r[1][1] + r[2][2], 1 + r[0][0] - r[1][1] - r[2][2]
    yy, zz = 1 - r[0][0] + r[1][1] - r[2][2], 1 - r[0][0] - r[1][1] + r[2][2]
    # Row i is 4 q_i q: parallel to q, and longest where q_i is largest.
    rows = (ww, wx, wy, wz), (wx, xx, xy, xz), (wy, xy, yy, yz), (wz, xz, yz, zz)
    outer = jnp.stack([jnp.stack(row, -1) for row in rows], -2)
    largest = jnp.argmax(jnp.stack([ww, xx, yy, zz], -1), -1)[..., None, None]
    q = jnp.take_along_axis(outer, largest, axis=-2)[..., 0, :]
    q = jnp.where(q[..., :1] < 0, -q, q)
    q = q / jnp.linalg.norm(q, axis=-1, keepdims=True)
    return q[..., :1], q[..., 1:]


def _pose(rotation: jax.Array, translation: jax.Array) -> jax.Array:
    top = jnp.concatenate([rotation, translation[..., None]], axis=-1)
    last = jnp.broadcast_to(jnp.array([0.0, 0.0, 0.0, 1.0]), (*top.shape[:-2], 1, 4))
    return jnp.concatenate([top, last], axis=-2)


def _apply(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    return jnp.matmul(matrix, vector[..., None], precision=_HIGHEST)[..., 0]


def _square(v: jax.Array) -> jax.Array:
    """|v|^2 as [..., 1]."""
    return jnp.sum(jnp.square(v), axis=-1, keepdims=True)


def _vector(name: str, array: jax.Array, size: int) -> jax.Array:
    shape = jnp.shape(array)
    if shape[-1:] != (size,):
        raise ValueError(f"`{name}` must be [..., {size}], got shape {shape}.")
    return jnp.asarray(array, jnp.float32)


def _matrix(name: str, array: jax.Array, size: int) -> jax.Array:
    shape = jnp.shape(array)
    if shape[-2:] != (size, size):
        raise ValueError(f"`{name}` must be [..., {size}, {size}], got shape {shape}.")
    return jnp.asarray(array, jnp.float32)
