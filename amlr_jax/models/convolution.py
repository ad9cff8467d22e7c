"""A convolution whose kernel gradient is fast on a CPU.

There XLA computes that gradient as a convolution with a kernel as large as the image,
which takes up to 17 times as long as the matrix products here. Elsewhere it is XLA's.

Shapes: B images, H x W pixels, C and F channels, I x J taps of the kernel; the result
has M x N pixels.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

# Name scope, followed by a factor: how many times as many FLOPs the equations of the
# network need as what is computed here; see `train.flops`.
MODEL_FLOPS_TIMES = "model_flops_times_"
# Below so many pairs of channels, and without strides, XLA's gradient is as fast.
_FEW_PAIRS = 1024


def convolve(
    x_BHWC: jax.Array, kernel_IJCF: jax.Array, strides: Any, padding: Any, **_: Any
) -> jax.Array:
    """`jax.lax.conv_general_dilated` without dilation and groups, for `nn.Conv`.

    `padding`: zeros (before, after) of rows and of columns, fewer than taps.
    """
    strides, padding = tuple(strides), tuple(map(tuple, padding))
    few = kernel_IJCF.shape[2] * kernel_IJCF.shape[3] < _FEW_PAIRS
    function = _by_xla if few and strides == (1, 1) else _convolve
    return function(x_BHWC, kernel_IJCF, strides, padding)


def _by_xla(x_BHWC, kernel_IJCF, strides, padding) -> jax.Array:
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x_BHWC, kernel_IJCF, strides, padding, dimension_numbers=dimensions
    )


_convolve = jax.custom_vjp(_by_xla, nondiff_argnums=(2, 3))


def _forward(x, kernel, *options) -> tuple[jax.Array, tuple]:
    return _by_xla(x, kernel, *options), (x, kernel)


def _backward(strides, padding, arrays, gradient) -> tuple[jax.Array, jax.Array]:
    x, kernel = arrays
    function = functools.partial(_by_xla, strides=strides, padding=padding)

    def of_kernel(x, gradient):
        return jax.linear_transpose(lambda k: function(x, k), kernel)(gradient)[0]

    def on_cpu(x, gradient):
        taps = kernel.shape[:2]
        if strides == (1, 1):
            found = _products(x, gradient, taps, padding)
        else:
            found = _strided_products(x, gradient, taps, strides, padding)
        return found.astype(kernel.dtype)

    (of_x,) = jax.linear_transpose(lambda x: function(x, kernel), x)(gradient)
    return of_x, jax.lax.platform_dependent(x, gradient, cpu=on_cpu, default=of_kernel)


_convolve.defvjp(_forward, _backward)


def _products(x_BHWC, gradient_BMNF, taps, padding) -> jax.Array:
    """The kernel's gradient: for each row of taps, x times shifts of the gradient."""
    (rows, columns), width = taps, x_BHWC.shape[2]
    around = tuple(columns - 1 - zeros for zeros in padding[1])
    g = jnp.pad(gradient_BMNF, [(0, 0), (0, 0), around, (0, 0)])
    shifts = [g[:, :, tap : tap + width] for tap in reversed(range(columns))]
    g = jnp.concatenate(shifts, axis=-1)
    x = jnp.pad(x_BHWC, [(0, 0), padding[0], (0, 0), (0, 0)])
    # Columns of x that no tap needs meet zeros.
    with jax.named_scope(f"{MODEL_FLOPS_TIMES}{gradient_BMNF.shape[2] / width:.6g}"):
        each = [_product(x[:, row : row + g.shape[1]], g) for row in range(rows)]
    found = jnp.stack(each)
    return found.reshape(rows, x.shape[-1], columns, -1).swapaxes(1, 2)


def _strided_products(x_BHWC, gradient_BMNF, taps, strides, padding) -> jax.Array:
    """The same for strides: shifts of x, each stride apart, times the gradient."""
    (rows, columns), (_, height, width, features) = taps, gradient_BMNF.shape
    x = jnp.pad(x_BHWC, [(0, 0), *padding, (0, 0)])

    def every(axis: int, tap: int, count: int, x: jax.Array) -> jax.Array:
        stop = tap + strides[axis - 1] * (count - 1) + 1
        return jax.lax.slice_in_dim(x, tap, stop, strides[axis - 1], axis)

    x = jnp.concatenate([every(2, tap, width, x) for tap in range(columns)], axis=-1)
    of_rows = [_product(every(1, tap, height, x), gradient_BMNF) for tap in range(rows)]
    return jnp.stack(of_rows).reshape(rows, columns, -1, features)


def _product(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """The sum over all pixels, (C, F) in float32."""
    return jnp.einsum("bmnc,bmnf->cf", x, gradient, preferred_element_type=jnp.float32)
