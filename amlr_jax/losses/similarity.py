"""SSIM's formulas on the statistics of a window, elementwise, with their gradients.

The gradients are written by hand for two reasons: a standard deviation is a root, whose
derivative at 0 is infinite, and autodiff would store an array for every quotient. The
functions return 1 - component, which is exact near 1 and exactly 0 for equal images:

    1 - L = (m_x - m_y)^2 / (m_x^2 + m_y^2 + C1)
    1 - C = (s_x - s_y)^2 / (s_x^2 + s_y^2 + C2)
    1 - S = max(s_x s_y - s_xy, 0) / (s_x s_y + C3)

|s_xy| <= s_x s_y (Cauchy-Schwarz), so the maximum only removes rounding: S <= 1.
"""

from functools import partial

import jax
import jax.numpy as jnp

from amlr_jax.losses.windows import Moments

# A variance below this fraction of the squared mean is rounding error of the mean.
NOISE = 1e-13


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def similarity(moments: Moments, c1: float, c2: float) -> jax.Array:
    """SSIM of the statistics, with Wang's constants C1 and C2."""
    luminance, structure, first, second = _factors(moments, c1, c2)
    return (luminance * structure) / (first * second)


def _factors(moments: Moments, c1: float, c2: float) -> tuple[jax.Array, ...]:
    """Numerators and denominators of the two quotients of SSIM."""
    x, y, var_x, var_y, covariance = moments
    first = jnp.square(x) + jnp.square(y) + c1
    return 2 * x * y + c1, 2 * covariance + c2, first, var_x + var_y + c2


def _similarity_backward(
    c1: float, c2: float, moments: Moments, gradient: jax.Array
) -> tuple[Moments]:
    x, y = moments.mean_x, moments.mean_y
    luminance, structure, first, second = _factors(moments, c1, c2)
    both = first * second
    scale = 2.0 * gradient * structure
    var = -gradient * luminance * structure / (both * second)
    return (
        Moments(
            scale * (y * first - x * luminance) / (both * first),
            scale * (x * first - y * luminance) / (both * first),
            var,
            var,
            2.0 * gradient * luminance / both,
        ),
    )


similarity.defvjp(lambda m, c1, c2: (similarity(m, c1, c2), m), _similarity_backward)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def dissimilarities(
    moments: Moments, c1: float, c2: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(1 - L, 1 - C, 1 - S), each >= 0."""
    x, y, var_x, var_y, covariance = moments
    s_x, s_y = _deviation(var_x, x), _deviation(var_y, y)
    product = s_x * s_y
    luminance = jnp.square(x - y) / (jnp.square(x) + jnp.square(y) + c1)
    contrast = jnp.square(s_x - s_y) / (jnp.square(s_x) + jnp.square(s_y) + c2)
    structure = jnp.maximum(product - covariance, 0.0) / (product + 0.5 * c2)
    return luminance, contrast, structure


def _deviation(variance: jax.Array, mean: jax.Array) -> jax.Array:
    """The root of a variance, 0 where the variance is rounding error."""
    flat = variance <= NOISE * jnp.square(mean)
    return jnp.sqrt(jnp.where(flat, 0.0, variance))


def _dissimilarities_backward(
    c1: float, c2: float, moments: Moments, gradients: tuple[jax.Array, ...]
) -> tuple[Moments]:
    """d s / d var = 1 / (2 s), and 0 for a flat window."""
    x, y, var_x, var_y, covariance = moments
    g_l, g_c, g_s = gradients
    first = jnp.square(x) + jnp.square(y) + c1
    scale = 2.0 * g_l * (x - y) / jnp.square(first)
    s_x, s_y = _deviation(var_x, x), _deviation(var_y, y)
    product = s_x * s_y
    second, third = jnp.square(s_x) + jnp.square(s_y) + c2, product + 0.5 * c2
    contrast = jnp.square(s_x - s_y)
    apart = product > covariance  # else 1 - S is 0, its least value
    lack = jnp.where(apart, 0.5 * g_s * (covariance + 0.5 * c2), 0.0)

    def variance(s: jax.Array, other: jax.Array) -> jax.Array:
        by_contrast = g_c * ((s - other) * second - s * contrast)
        numerator = by_contrast * jnp.square(third)
        numerator += lack * other * jnp.square(second)
        flat = s == 0.0
        divisor = jnp.where(flat, 1.0, s * jnp.square(second * third))
        return jnp.where(flat, 0.0, numerator / divisor)

    return (
        Moments(
            scale * (first - x * (x - y)),
            -scale * (first + y * (x - y)),
            variance(s_x, s_y),
            variance(s_y, s_x),
            jnp.where(apart, -g_s, 0.0) / third,
        ),
    )


dissimilarities.defvjp(
    lambda m, c1, c2: (dissimilarities(m, c1, c2), m), _dissimilarities_backward
)
