"""Losses between a predicted and a measured depth map.

Notation, as in Yu & Heo, "Adaptive Momentum-Based Loss Rebalancing for Monocular
Depth Estimation" (AMLR, IEEE Access 2023), section III-B: y is the target (ground
truth) depth, y* the prediction, both in metres, and d = log y - log y*.
Maps are [..., H, W]; leading axes are batch axes; x runs along the last axis (W), y
along the one before (H). `where` is True where the target is measured, normally
`target > 0`. Every mean is over all valid pixels of the whole array, or with
`per_image=True` over those of each image: the result is then [...] instead of a scalar.

Everything is computed in float32, or in float64 if a map is float64. Before the
logarithm a depth is clamped to [MIN_DEPTH, MAX_DEPTH], so a prediction or target of 0,
of less or of infinity gives a large but finite d; the gradient with respect to a
clamped prediction is 0. A NaN under the mask is ignored. A NaN at a valid pixel stays
NaN, because it is an error of the model that must not be hidden.

`scale_invariant_loss` with variance_focus 1 and `gradient_loss` are invariant to a
global factor on the prediction, so these two alone do not constrain metric scale.
"""

import jax
import jax.numpy as jnp
import numpy as np

from amlr_jax.inputs import as_floats, check_map, depth_mask
from amlr_jax.losses.masked import Axis, masked_mean, masked_variance, reduced_axes

MIN_DEPTH = 1e-6  # metres; far below any sensor, keeps 1 / depth representable
MAX_DEPTH = float(np.finfo(np.float32).max)  # metres; turns infinity into a number


def scale_invariant_loss(
    prediction: jax.Array,
    target: jax.Array,
    *,
    where: jax.Array | None = None,
    variance_focus: float = 1.0,
    per_image: bool = False,
) -> jax.Array:
    """Scale-invariant loss of Eigen et al., Eq. 1.

        L_Si = mean(d^2) - variance_focus * mean(d)^2,     d = log y - log y*

    computed as var(d) + (1 - variance_focus) * mean(d)^2, which is the same number
    and never negative. With variance_focus 1 it is the variance of d, Eq. 1
    literally, and `scale_invariant_loss(c * p, t)` does not depend on c > 0; with 0 it
    is the plain mean square of d.

    Args:
      prediction: y*, [..., H, W] metres, > 0. Any shape works, pixels are independent.
      target: y, shape of `prediction`, metres, > 0 where valid.
      where: boolean mask of that shape, True = valid; None = every pixel.
      variance_focus: in [0, 1].
      per_image: one loss for each image, over the last two axes.

    Returns:
      Scalar >= 0 (or [...]), in squared log metres; 0 for an empty mask.

    Raises:
      ValueError: shapes differ, or `variance_focus` is outside [0, 1].
      TypeError: `where` is not boolean, or a depth is unsigned integers.

    >>> import jax.numpy as jnp
    >>> target = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> round(float(scale_invariant_loss(10 * target, target)), 6)
    0.0
    >>> round(float(scale_invariant_loss(10 * target, target, variance_focus=0.5)), 4)
    2.6509
    """
    _check_variance_focus(variance_focus)
    d, where = log_difference(prediction, target, where)
    axis = reduced_axes(per_image, d)
    mean = masked_mean(d, where=where, axis=axis)
    variance = masked_variance(d, where=where, axis=axis)
    return variance + (1.0 - variance_focus) * mean**2


def silog_loss(
    prediction: jax.Array,
    target: jax.Array,
    *,
    where: jax.Array | None = None,
    variance_focus: float = 0.5,
    per_image: bool = False,
) -> jax.Array:
    """Root of the scale-invariant loss, as the training code of MIM-Depth uses it.

        sqrt(mean(d^2) - variance_focus * mean(d)^2)

    Not in the AMLR paper, whose "only L_Si" row equals the baseline trained with this
    form. With variance_focus 0.5 it depends on a global scale. BTS uses 0.85 and
    multiplies by 10; the KITTI metric of the same name uses 1 and multiplies by 100.
    The gradient at a perfect prediction, where a plain root has none, is 0.

    Args:
      prediction: y*, [..., H, W] metres, > 0. Any shape works, pixels are independent.
      target: y, shape of `prediction`, metres, > 0 where valid.
      where: boolean mask of that shape, True = valid; None = every pixel.
      variance_focus: in [0, 1].
      per_image: one loss for each image, over the last two axes.

    Returns:
      Scalar >= 0 (or [...]), in log metres; 0 for an empty mask.

    Raises:
      ValueError: shapes differ, or `variance_focus` is outside [0, 1].
      TypeError: `where` is not boolean, or a depth is unsigned integers.

    >>> import jax.numpy as jnp
    >>> target = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> round(float(silog_loss(10 * target, target)), 4)
    1.6282
    """
    squared = scale_invariant_loss(
        prediction,
        target,
        where=where,
        variance_focus=variance_focus,
        per_image=per_image,
    )
    return _safe_sqrt(squared)


def gradient_loss(
    prediction: jax.Array,
    target: jax.Array,
    *,
    where: jax.Array | None = None,
    per_image: bool = False,
) -> jax.Array:
    """Squared difference of log-depth gradients, Eq. 2 and 3 with the masks of Fig. 3.

        L_Gr = mean((d[i, j + 1] - d[i, j])^2) + mean((d[i + 1, j] - d[i, j])^2)

    A pair of neighbours is valid iff both pixels are. Each of the two means is over
    its own valid pairs (Fig. 3: "with respect to the sum of the gradient mask"). The
    paper calls L_Gr "the average of both" directions, while Eq. 2 adds them; this is
    Eq. 2, the sum. Under AMLR the factor 2 is absorbed by Eq. 9.

    Args:
      prediction: y*, [..., H, W] metres, > 0.
      target: y, shape of `prediction`, metres, > 0 where valid.
      where: boolean mask of that shape, True = valid; None = every pixel.
      per_image: one loss for each image, over the last two axes.

    Returns:
      Scalar >= 0 (or [...]), in squared log metres; a direction without a
      valid pair adds 0.

    Raises:
      ValueError: shapes differ, have fewer than two axes or are [..., H, W, 1].
      TypeError: `where` is not boolean, or a depth is unsigned integers.

    >>> import jax.numpy as jnp
    >>> target = jnp.ones((2, 2))
    >>> prediction = jnp.exp(jnp.array([[0.0, 1.0], [0.0, 1.0]]))
    >>> round(float(gradient_loss(prediction, target)), 5)
    1.0
    """
    check_map("prediction", prediction)
    d, where = log_difference(prediction, target, where)
    axes = reduced_axes(per_image, d)
    along_x, along_y = (_mean_squared_step(d, where, axis, axes) for axis in (-1, -2))
    return along_x + along_y


def _mean_squared_step(
    d: jax.Array, where: jax.Array, axis: int, axes: Axis
) -> jax.Array:
    """The mean over valid neighbour pairs of the squared forward difference."""
    pairs = valid_pairs(where, axis=axis)
    return masked_mean(jnp.square(jnp.diff(d, axis=axis)), where=pairs, axis=axes)


def valid_pairs(where: jax.Array, *, axis: int) -> jax.Array:
    """True where both neighbours of a forward difference along `axis` are valid."""
    size = where.shape[axis]
    here = jax.lax.slice_in_dim(where, 0, max(size - 1, 0), axis=axis)
    return here & jax.lax.slice_in_dim(where, min(1, size), size, axis=axis)


def log_difference(
    prediction: jax.Array, target: jax.Array, where: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """d = log y - log y*, exactly 0 under the mask, and the mask."""
    where = depth_mask(prediction, target, where)
    prediction, target = as_floats(prediction, target)
    return _safe_log(target, where) - _safe_log(prediction, where), where


def _safe_log(depth: jax.Array, where: jax.Array) -> jax.Array:
    """log of the clamped depth; masked pixels become log 1 before the logarithm."""
    depth = jnp.where(where, depth, 1.0)
    return jnp.log(jnp.clip(depth, MIN_DEPTH, MAX_DEPTH))


def _safe_sqrt(x: jax.Array) -> jax.Array:
    """The root of x >= 0 with gradient 0 instead of infinity at 0."""
    zero = x == 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, x)))


def _check_variance_focus(variance_focus: float) -> None:
    if isinstance(variance_focus, jax.core.Tracer):
        return
    if not 0.0 <= variance_focus <= 1.0:
        raise ValueError(
            f"`variance_focus` must be in [0, 1], got variance_focus = "
            f"{variance_focus}."
        )
