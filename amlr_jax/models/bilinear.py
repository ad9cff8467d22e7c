"""Bilinear resizing, and a convolution of enlarged maps that works at the small size.

Resizing is a product with a matrix that has few entries in a row and in a column, so
both the product and its gradient are sums of weighted gathers. The gradient of a gather
would be a scatter, and shifts that are concatenated take twice as long on a GPU.

Shapes: B images, H x W pixels, C and F channels; I x J taps of a kernel.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax.experimental.layout import Layout, with_layout_constraint

from amlr_jax.models.convolution import MODEL_FLOPS_TIMES


def upsample_bilinear_2x(x_BHWC: jax.Array) -> jax.Array:
    """(B, H, W, C) to (B, 2H, 2W, C), as torch's bilinear with align_corners=False."""
    return _resized(x_BHWC, [doubling(length) for length in x_BHWC.shape[1:3]])


def resize_aligned(x_BHWC: jax.Array, size: Sequence[int]) -> jax.Array:
    """(B, *size, C), as torch's bilinear with align_corners=True."""
    lengths = zip(x_BHWC.shape[1:3], size, strict=True)
    return _resized(x_BHWC, [_aligned(old, new) for old, new in lengths])


def conv_of_upsampled(
    x_BHWC: jax.Array,
    kernel_IJCF: jax.Array,
    *_: Any,
    size: tuple[int, int],
    doublings: int = 2,
    **__: Any,
) -> jax.Array:
    """A convolution, with zero padding, of x doubled `doublings` times and cropped.

        y = sum_ij shift_ij(upsample(x)[:size] @ kernel_ij)
          = sum_i R_i sum_j C_j (x @ kernel_ij)

    R_i and C_j are the matrices of doubling rows and columns, cropped and shifted by a
    tap. The products with the kernel are those of the small map, so two doublings save
    15 of 16 multiplications and the doubled map. Either sum over taps is computed in
    float32 and rounded to the dtype of x.

    `nn.Conv` takes this function as its `conv_general_dilated`, hence the further
    arguments, which are the defaults of a convolution with a stride of 1.

    Returns:
      (B, *size, F).
    """
    taps = kernel_IJCF.shape[:2]
    rows, columns = (
        _shifted(doubling(old, doublings)[:new], count)
        for old, new, count in zip(x_BHWC.shape[1:3], size, taps, strict=True)
    )
    factor = size[0] * size[1] / (x_BHWC.shape[1] * x_BHWC.shape[2])
    with jax.named_scope(f"{MODEL_FLOPS_TIMES}{factor:.6g}"):
        maps = x_BHWC @ rearrange(kernel_IJCF, "i j c f -> c (i j f)")
    maps = _product(rearrange(maps, "b h w (i n) -> b h w i n", i=taps[0]), rows, 1)
    return _product(rearrange(maps, "b h w (j f) -> b h w j f", j=taps[1]), columns, 2)


def doubling(size: int, times: int = 1) -> np.ndarray:
    """The matrix that doubles a line of `size` pixels, (2**times * size, size)."""
    matrix = np.eye(size, dtype=np.float32)
    for _ in range(times):
        pixel = np.arange(2 * len(matrix))
        other = pixel // 2 + np.where(pixel % 2, 1, -1)
        other = np.clip(other, 0, len(matrix) - 1)
        matrix = 0.75 * matrix[pixel // 2] + 0.25 * matrix[other]
    return matrix


def _aligned(old: int, new: int) -> np.ndarray:
    """The matrix (new, old) that keeps the centres of the first and last pixels."""
    places = np.linspace(0.0, old - 1.0, new)[:, None]
    return np.maximum(0.0, 1.0 - np.abs(places - np.arange(old))).astype(np.float32)


def _resized(x_BHWC: jax.Array, matrices: Sequence[np.ndarray]) -> jax.Array:
    """Rows and columns resized by one matrix each."""
    for axis, matrix in enumerate(matrices, start=1):
        x_BHWC = _product(x_BHWC[..., None, :], matrix[None], axis)
    return x_BHWC


def _shifted(matrix: np.ndarray, taps: int) -> np.ndarray:
    """(taps, *matrix.shape): the rows before, at and after each, zero outside."""
    before = taps // 2
    padded = np.pad(matrix, [(before, taps - 1 - before), (0, 0)])
    return np.stack([padded[tap : tap + len(matrix)] for tap in range(taps)])


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _product(x: jax.Array, matrices: np.ndarray, axis: int) -> jax.Array:
    """The sum over k of matrices[k] times x[..., k, :] along `axis`, in x's dtype."""
    each = [_gathered(m, x[..., k, :], axis) for k, m in enumerate(matrices)]
    return functools.reduce(jnp.add, each).astype(x.dtype)


def _product_backward(matrices, axis, _, gradient) -> tuple[jax.Array]:
    each = [_gathered(matrix.T, gradient, axis) for matrix in matrices]
    return (jnp.stack(each, -2).astype(gradient.dtype),)


def _product_forward(x, *options) -> tuple[jax.Array, None]:
    """For training, stored in the order of its axes.

    XLA would store the axis of the gathers first, and copy the map for what follows.
    `_product` itself is free to: exported networks may hold no constraint of layouts.
    """
    y = _product(x, *options)
    return with_layout_constraint(y, Layout(tuple(range(y.ndim)))), None


_product.defvjp(_product_forward, _product_backward)


def _gathered(matrix: np.ndarray, x: jax.Array, axis: int) -> jax.Array:
    """`matrix` times x along `axis`, in float32, by gathers of its entries."""
    entries = max(1, (matrix != 0).sum(1).max())
    places = np.argsort(matrix == 0, axis=1, kind="stable")[:, :entries]
    weights = np.take_along_axis(matrix, places, 1)
    shape = [-1 if number == axis else 1 for number in range(x.ndim)]
    at = functools.partial(x.take, axis=axis, mode="clip")
    terms = [
        weight.reshape(shape) * at(place).astype(jnp.float32)
        for place, weight in zip(places.T, weights.T, strict=True)
    ]
    return functools.reduce(jnp.add, terms)
