"""Structural similarity: its components, and the losses made of them.

Notation, as in Cao, Luo & Li, "Toward Better SSIM Loss for Unsupervised Monocular Depth
Estimation" (section 3.2): in a window with means m, deviations s and covariance s_xy,

    L = (2 m_x m_y + C1) / (m_x^2 + m_y^2 + C1)       luminance, [0, 1]
    C = (2 s_x s_y + C2) / (s_x^2 + s_y^2 + C2)       contrast,  [0, 1]
    S = (s_xy + C3) / (s_x s_y + C3)                  structure, [-1, 1]

with C1 = (k1 R)^2, C2 = (k2 R)^2, C3 = C2 / 2 and R = `data_range`. The numerator of C
is twice the denominator of S, so the product L C S is the usual index, Eq. 7 with
exponents 1:

    SSIM = (2 m_x m_y + C1) (2 s_xy + C2) / ((m_x^2 + m_y^2 + C1) (s_x^2 + s_y^2 + C2))

Images are [..., H, W, C] in [0, R]; channels are compared one by one. Names that end
in `_error` are maps [..., H, W], the mean over the channels; `_loss` is their mean over
the valid pixels, a scalar. `where` is [..., H, W], shared by the channels: a
window uses its valid pixels only, and a map value is valid where the pixel itself is
valid. At other pixels the value comes from valid neighbours and must not be used.

Window 3 "box" with "reflect" is Monodepth2's; 11 "gaussian" with sigma 1.5 is Wang et
al.'s. Statistics are centred, in float32 or, of float64 images, in float64. Values are
clamped to 1e3 R, so that 1e30 gives a finite loss; a NaN under the mask is ignored, a
NaN at a valid pixel stays. A deviation below the rounding of its mean counts as 0 and
has gradient 0.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from amlr_jax.inputs import as_floats, check_image, check_same_shape, resolve_where
from amlr_jax.losses.masked import masked_mean
from amlr_jax.losses.similarity import dissimilarities, similarity
from amlr_jax.losses.windows import (
    Moments,
    channels_last,
    make_window,
    over_channels,
    stored_on_gpu,
    window_moments,
)

LARGEST = 1e3  # times `data_range`; keeps squares and their gradients representable


def ssim_components(
    x: jax.Array, y: jax.Array, *, where: jax.Array | None = None, **window: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Luminance, contrast and structure of every window.

    Args:
      x, y: images, [..., H, W, C] of one shape, in [0, data_range].
      where: [..., H, W] boolean, True = valid; None = every pixel.
      window_size: odd, 3. With "reflect" H and W must exceed window_size // 2.
      window: "box" or "gaussian" ("box").
      sigma: of the Gaussian, in pixels (1.5).
      padding: "reflect", or "valid" for windows inside the image alone: the maps are
        then smaller by window_size - 1 ("reflect").
      k1, k2: the constants (0.01, 0.03).
      data_range: the largest value an image can have (1.0).

    Returns:
      (L, C, S), each [..., H, W, C]; C and S at most 1, S at least -1. L is in
      [0, 1] for images that are not negative.

    Raises:
      ValueError: x and y differ in shape, have fewer than three axes or more than four
        channels (channels-first or grey [B, H, W] images), are smaller than the window,
        `where` has another shape, or an option is out of its range.
      TypeError: `where` is not boolean, or x or y are integers while `data_range` is 1.
        Float images in 0..255 cannot be told from others: divide them, or set
        `data_range`.

    >>> import jax.numpy as jnp
    >>> x = jnp.linspace(0.0, 1.0, 75).reshape(5, 5, 3)
    >>> luminance, contrast, structure = ssim_components(x, 1.0 - x)
    >>> structure.shape, round(float(structure.min()), 1)
    ((5, 5, 3), -1.0)
    """
    losses = _maps(dissimilarities, x, y, where, **window)
    luminance, contrast, structure = (1.0 - channels_last(loss) for loss in losses)
    return luminance, contrast, jnp.clip(structure, -1.0, 1.0)


def ssim(
    x: jax.Array, y: jax.Array, *, where: jax.Array | None = None, **window: Any
) -> jax.Array:
    """The usual index of Eq. 7 with exponents 1, [..., H, W, C] in [-1, 1].

    Equal to L * C * S of `ssim_components`; same arguments and errors.

    >>> import jax.numpy as jnp
    >>> float(ssim(jnp.ones((4, 4, 1)), jnp.ones((4, 4, 1))).min())
    1.0
    """
    return channels_last(_maps(similarity, x, y, where, **window))


def ssim_error(
    x: jax.Array, y: jax.Array, *, where: jax.Array | None = None, **window: Any
) -> jax.Array:
    """(1 - SSIM) / 2, clamped to [0, 1], [..., H, W]: the SSIM term of Eq. 6.

    Arguments and errors as `ssim_components`.
    """
    index = _maps(similarity, x, y, where, **window)
    return _channel_mean(0.5 * (1.0 - index), 1.0)


def multiplicative_ssim_error(
    x: jax.Array,
    y: jax.Array,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    where: jax.Array | None = None,
    **window: Any,
) -> jax.Array:
    """SSIM_m, Eq. 8: 1 - L^alpha C^beta ((1 + S) / 2)^gamma, [..., H, W] in [0, 1].

    The structure enters as (1 + S) / 2, which is never negative, so an exponent need
    not be an integer. A luminance below 0, which negative pixels can cause, counts as
    0. With exponents 1 this is not (1 - SSIM) / 2; the two differ by (1 - L C) / 2.

    Args:
      x, y, where, window: as `ssim_components`.
      alpha, beta, gamma: exponents, >= 1; below 1 the slope at 0 would be infinite.

    Raises:
      ValueError: an exponent is below 1, or as `ssim_components`.
      TypeError: `where` is not boolean.
    """
    for name, exponent in {"alpha": alpha, "beta": beta, "gamma": gamma}.items():
        if not isinstance(exponent, jax.core.Tracer) and not exponent >= 1.0:
            raise ValueError(f"`{name}` must be at least 1, got {name} = {exponent}.")
    luminance, contrast, structure = _maps(dissimilarities, x, y, where, **window)
    product = _power(1.0 - luminance, alpha) * _power(1.0 - contrast, beta)
    return _channel_mean(1.0 - product * _power(1.0 - 0.5 * structure, gamma), 1.0)


def additive_ssim_error(
    x: jax.Array,
    y: jax.Array,
    *,
    luminance: float = 0.5,
    contrast: float = 0.5,
    structure: float = 0.7,
    where: jax.Array | None = None,
    **window: Any,
) -> jax.Array:
    """SSIM_a, Eq. 9: w_l (1 - L) + w_c (1 - C) + w_s (1 - (1 + S) / 2), [..., H, W].

    Args:
      x, y, where, window: as `ssim_components`.
      luminance, contrast, structure: the weights; defaults of the paper's Table 4.

    Raises:
      ValueError, TypeError: as `ssim_components`.
    """
    maps = _maps(dissimilarities, x, y, where, **window)
    error = luminance * maps[0] + contrast * maps[1] + 0.5 * structure * maps[2]
    # 1 - L reaches 2 where means have opposite signs, 1 - S where they are opposed.
    return _channel_mean(error, 2.0 * luminance + contrast + structure)


def ssim_loss(
    x: jax.Array, y: jax.Array, *, where: jax.Array | None = None, **window: Any
) -> jax.Array:
    """The mean of `ssim_error` over the valid pixels, a scalar in [0, 1].

    0 for equal images and for an empty mask. Arguments and errors: `ssim_components`.

    >>> import jax.numpy as jnp
    >>> x = jnp.linspace(0.0, 1.0, 48).reshape(4, 4, 3)
    >>> float(ssim_loss(x, x))
    0.0
    """
    return _mean(partial(ssim_error, **window), x, y, where, **window)


def multiplicative_ssim_loss(
    x: jax.Array, y: jax.Array, *, where: jax.Array | None = None, **options: Any
) -> jax.Array:
    """The mean of `multiplicative_ssim_error` over the valid pixels, in [0, 1].

    Options and errors as there.

    >>> import jax.numpy as jnp
    >>> x = jnp.linspace(0.0, 1.0, 48).reshape(4, 4, 3)
    >>> round(float(multiplicative_ssim_loss(x, 0.5 * x, gamma=2.5)), 3)
    0.355
    """
    return _mean(partial(multiplicative_ssim_error, **options), x, y, where, **options)


def additive_ssim_loss(
    x: jax.Array, y: jax.Array, *, where: jax.Array | None = None, **options: Any
) -> jax.Array:
    """The mean of `additive_ssim_error` over the valid pixels, >= 0.

    Options and errors as there.

    >>> import jax.numpy as jnp
    >>> x = jnp.linspace(0.0, 1.0, 48).reshape(4, 4, 3)
    >>> round(float(additive_ssim_loss(x, 0.5 * x)), 3)
    0.197
    """
    return _mean(partial(additive_ssim_error, **options), x, y, where, **options)


def valid_pixels(
    where: jax.Array | None, *, window_size: int = 3, padding: str = "reflect", **_: Any
) -> jax.Array | None:
    """`where` at the pixels of a map: all of them, or the "valid" windows' centres."""
    radius = window_size // 2
    if where is None or padding == "reflect" or radius == 0:
        return where
    return where[..., radius:-radius, radius:-radius]


def check_images(
    x: jax.Array, y: jax.Array, where: jax.Array | None, data_range: float
) -> None:
    """Raises ValueError or TypeError unless x and y are images of one shape."""
    check_same_shape(x=x, y=y)
    check_image("x", x, data_range=data_range)
    check_image("y", y, data_range=data_range)
    if where is not None:
        resolve_where(where, jnp.shape(x)[:-1])


def _maps(
    formula: Callable[[Moments, float, float], Any],
    x: jax.Array,
    y: jax.Array,
    where: jax.Array | None,
    *,
    window_size: int = 3,
    window: str = "box",
    sigma: float = 1.5,
    padding: str = "reflect",
    k1: float = 0.01,
    k2: float = 0.03,
    data_range: float = 1.0,
) -> Any:
    """`formula(moments, C1, C2)` of every window, [C, ..., H, W]."""
    check_images(x, y, where, data_range)
    form = make_window(window_size, window, sigma, padding)
    least = form.radius + 1 if padding == "reflect" else window_size
    if min(jnp.shape(x)[-3:-1]) < least:
        raise ValueError(
            f"H and W must be at least {least} for window_size {window_size} and "
            f"padding {padding!r}, got images of shape {jnp.shape(x)}."
        )

    def one_channel(x: jax.Array, y: jax.Array, weight: jax.Array | None) -> Any:
        return formula(window_moments(form, x, y, weight), k1**2, k2**2)

    x, y = (_prepared(image, where, data_range) for image in as_floats(x, y))
    weight = None if where is None else jnp.asarray(where).astype(x.dtype)
    return over_channels(one_channel, x, y, weight)


def _prepared(
    image: jax.Array, where: jax.Array | None, data_range: float
) -> jax.Array:
    """In units of `data_range`, 0 under the mask, clamped."""
    image = image / data_range
    if where is not None:
        image = jnp.where(jnp.asarray(where)[..., None], image, 0.0)
    return jnp.clip(image, -LARGEST, LARGEST)


def _power(base: jax.Array, exponent: float) -> jax.Array:
    """base^exponent of a base in [0, 1] that rounding may have put below 0."""
    base = jnp.maximum(base, 0.0)
    if not isinstance(exponent, jax.core.Tracer) and exponent == 1.0:
        return base
    return base**exponent


def _channel_mean(error: jax.Array, largest: float) -> jax.Array:
    """The mean over the leading channels, clamped against rounding.

    Monodepth2 has this clamp too. It also keeps XLA on the CPU from fusing the windows
    into the sum that follows, which would take ten times as long.
    """
    error = stored_on_gpu(error)
    return jnp.clip(sum(list(error)) / error.shape[0], 0.0, largest)


def _mean(
    error: Callable[..., jax.Array],
    x: jax.Array,
    y: jax.Array,
    where: jax.Array | None,
    **options: Any,
) -> jax.Array:
    """The mean of an error map over the valid pixels."""
    names = ("window_size", "padding")
    options = {name: options[name] for name in names if name in options}
    return masked_mean(error(x, y, where=where), where=valid_pixels(where, **options))
