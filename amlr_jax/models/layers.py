"""Layers shared by several networks, and argument checks."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat

from amlr_jax.models import convolution

BATCH_NORM_EPS = 1e-5  # torch's defaults, as in the reference systems
BATCH_NORM_MOMENTUM = 0.9  # decay of the running mean; 0.1 in torch's notation

Initializer = Callable[[jax.Array, Sequence[int], Any], jax.Array]

linear_init = nn.initializers.normal(0.02)  # of the transformers
conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Deconvolution(nn.Module):
    """Transposed convolution whose stride k is its kernel's size.

    Takes (B, H, W, C) to (B, kH, kW, F).

    Output windows do not overlap, so it is one matrix product and a depth-to-space:
    y[k i + a, k j + b] = x[i, j] @ kernel[a, b]. The kernel's gradient is then a matrix
    product too; `lax.conv_transpose` takes more than ten times as long on a CPU.

    The parameter `kernel` has shape (k, k, C, F): `transpose(2, 3, 0, 1)` of a
    `torch.nn.ConvTranspose2d` weight (C, F, k, k), with no flip.
    """

    features: int
    size: int = 2
    use_bias: bool = False
    kernel_init: Initializer = nn.initializers.he_normal()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        channels = x_BHWC.shape[-1]
        shape = (self.size, self.size, channels, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        matrix = rearrange(kernel, "a b c f -> c (a b f)").astype(self.dtype)
        y = x_BHWC.astype(self.dtype) @ matrix
        pattern = "n h w (a b f) -> n (h a) (w b) f"
        y = rearrange(y, pattern, a=self.size, b=self.size)
        if self.use_bias:
            zeros = nn.initializers.zeros_init()
            y = y + self.param("bias", zeros, (self.features,)).astype(self.dtype)
        return y


def batch_norm(*, train: bool, dtype: Any, name: str) -> Callable:
    """Batch normalisation with torch's constants; statistics in float32.

    Under jit over a mesh the statistics are those of the global batch. The running
    variance is the biased one; torch stores the unbiased one, which is n / (n - 1)
    larger, a negligible difference for maps of n pixels.
    """
    norm = nn.BatchNorm(
        momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPS, dtype=dtype, name=name
    )
    # An argument of the call, which `train.freezing` replaces.
    return functools.partial(norm, use_running_average=not train)


def layer_norm(
    eps: float, name: str, *, scale: float = 1.0, dtype: Any = jnp.float32
) -> nn.LayerNorm:
    """Layer normalisation with statistics in float32; `scale` is the initial scale.

    `dtype` is that of the result. Below float32 the variance is computed in one pass,
    as the mean of squares minus the squared mean, which is exact enough there.
    """
    return nn.LayerNorm(
        epsilon=eps,
        dtype=dtype,
        use_fast_variance=dtype != jnp.float32,
        scale_init=nn.initializers.constant(scale),
        name=name,
    )


def linear(
    features: int, name: str, *, dtype: Any = jnp.float32, use_bias: bool = True
) -> nn.Dense:
    """A linear layer with the initial values of the transformers."""
    return nn.Dense(
        features, use_bias=use_bias, dtype=dtype, kernel_init=linear_init, name=name
    )


def drop_path_rates(maximum: float, depths: tuple[int, ...]) -> tuple[float, ...]:
    """One rate per block, from 0 up to `maximum` in equal steps over all blocks."""
    return tuple(float(rate) for rate in np.linspace(0.0, maximum, sum(depths)))


def conv(
    x_BHWC: jax.Array,
    channels: int,
    *,
    size: int,
    padding: int = 0,
    strides: int = 1,
    dilation: int = 1,
    use_bias: bool = True,
    dtype: Any,
    name: str,
    to_float32: bool = False,
    convolve: Callable | None = None,
    kernel_init: Initializer | None = None,
) -> jax.Array:
    """A convolution with symmetric zero padding; call it in a compact method.

    Initial values are `kernel_init` and zeros, or without it torch's: kernel and bias
    uniform in +-1 / sqrt(inputs * size**2). With `to_float32` the result is float32
    (`ConvToFloat32`, without stride and dilation). `convolve` replaces the convolution
    itself.
    """
    bound = (x_BHWC.shape[-1] * size**2) ** -0.5

    def init(key: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    options: dict = {"padding": padding, "dtype": dtype, "name": name}
    options |= {"kernel_init": kernel_init or init}
    options |= {} if kernel_init else {"bias_init": init}
    if to_float32:
        return ConvToFloat32(channels, size, **options)(x_BHWC)
    options |= {"strides": strides, "kernel_dilation": dilation}
    options |= {"use_bias": use_bias}
    # Without dilation; None is Flax's own.
    usual = convolution.convolve if dilation == 1 else None
    options |= {"conv_general_dilated": convolve or usual}
    return nn.Conv(channels, (size, size), **options)(x_BHWC)


class PatchEmbed(nn.Module):
    """Patches to tokens, (B, H, W, C) to (B, H/s, W/s, F), of `dtype`.

    A convolution with stride s and a norm. Without `padding`, rows and columns that do
    not fill a patch are omitted.
    """

    features: int
    size: int
    strides: int
    padding: int = 0
    kernel_init: Initializer = conv_init
    norm_eps: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        names = ("size", "strides", "padding", "kernel_init", "dtype")
        options = {name: getattr(self, name) for name in names}
        x = conv(x_BHWC, self.features, **options, name="proj")
        return layer_norm(self.norm_eps, "norm", dtype=self.dtype)(x)


class ConvToFloat32(nn.Module):
    """A convolution to few channels whose result is float32: (B, H, W, C) to (..., F).

    The last one of a decoder: rounded to bfloat16, its logits would be steps of 1 % in
    depth. With `dtype` below float32 it reads its input once and needs no float32 copy
    of it: one matrix product gives what each pixel contributes to the
    `size` x `size` results around it, and shifted sums add these up.

    Attributes:
      padding: zeros on each side.
    """

    features: int
    size: int
    padding: int = 0
    dtype: Any = jnp.float32
    kernel_init: Initializer = conv_init
    bias_init: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        size, pad, channels = self.size, self.padding, x_BHWC.shape[-1]
        shape = (size, size, channels, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
        if self.dtype == jnp.float32:
            x = x_BHWC.astype(jnp.float32)
            return convolution.convolve(x, kernel, (1, 1), [(pad, pad)] * 2) + bias
        rows = rearrange(kernel, "a b c f -> (a b f) c").astype(self.dtype)
        maps = _row_products(rows, x_BHWC.astype(self.dtype))
        maps = maps.reshape(size, size, self.features, *maps.shape[1:])
        maps = jnp.pad(maps, [(0, 0)] * 4 + [(pad, pad)] * 2)
        height, width = (n + 2 * pad - size + 1 for n in x_BHWC.shape[1:3])
        shifted = [
            maps[a, b, :, :, a : a + height, b : b + width]
            for a in range(size)
            for b in range(size)
        ]
        return jnp.moveaxis(functools.reduce(jnp.add, shifted), 0, -1) + bias


@jax.custom_vjp
def _row_products(rows_KC: jax.Array, x_BHWC: jax.Array) -> jax.Array:
    """(K, B, H, W) in float32. Its gradient multiplies in the dtype of the arrays."""
    return jnp.einsum(
        "kc,bhwc->kbhw", rows_KC, x_BHWC, preferred_element_type=jnp.float32
    )


def _row_products_backward(arrays, gradient):
    rows, x = arrays
    gradient = gradient.astype(x.dtype)
    of_rows = jnp.einsum(
        "kbhw,bhwc->kc", gradient, x, preferred_element_type=jnp.float32
    )
    return of_rows.astype(rows.dtype), jnp.einsum("kc,kbhw->bhwc", rows, gradient)


_row_products.defvjp(lambda *xs: (_row_products(*xs), xs), _row_products_backward)


def reflect_pad(x_BHWC: jax.Array) -> jax.Array:
    """Pads one pixel on each side by reflection without repeating the edge."""
    return jnp.pad(x_BHWC, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")


def upsample_nearest_2x(x_BHWC: jax.Array) -> jax.Array:
    """(B, H, W, C) to (B, 2H, 2W, C); each pixel becomes 2 x 2 of the same value."""
    return repeat(x_BHWC, "b h w c -> b (h i) (w j) c", i=2, j=2)


def pixel_shuffle(x_BHWC: jax.Array, factor: int) -> jax.Array:
    """Channels to space: (B, H, W, C r^2) to (B, rH, rW, C), r = `factor`.

        y[b, r h + i, r w + j, c] = x[b, h, w, (c r + i) r + j]

    The order of channels is that of `torch.nn.PixelShuffle`. Shi et al., "Real-Time
    Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
    Neural Network", CVPR 2016.
    """
    pattern = "b h w (c i j) -> b (h i) (w j) c"
    return rearrange(x_BHWC, pattern, i=factor, j=factor)


def from_preset(kind: Callable, preset: dict, overrides: dict) -> Any:
    """A module with the attributes of a preset, or `overrides` that are not None."""
    return kind(**preset | {k: v for k, v in overrides.items() if v is not None})


def check_one_of(name: str, value: Any, known: Iterable) -> None:
    """Raises ValueError unless `value` is one of `known`."""
    known = tuple(known)
    if value not in known:
        raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {value!r}.")


def check_image(image_BHWC: jax.Array) -> None:
    """Raises ValueError unless the shape is (B, H, W, 3)."""
    if image_BHWC.ndim != 4 or image_BHWC.shape[-1] != 3:
        raise ValueError(
            f"`image_BHWC` must have shape (B, H, W, 3), got {image_BHWC.shape}."
        )


def check_one_per_stage(network: Any, *names: str) -> None:
    """Raises ValueError unless the attributes have one entry for each of `depths`."""
    for name in names:
        if len(getattr(network, name)) != len(network.depths):
            raise ValueError(
                f"`{name}` must have one entry for each of {len(network.depths)} "
                f"stages, got {getattr(network, name)}."
            )
