"""Mean, variance and covariance of two images in a sliding window: SSIM's statistics.

The definition is one channel, [H, W]; `over_channels` vectorises it with `jax.vmap`.
The window is separable, so the statistics are combined along H and then along W by the
law of total variance: with weights w_k and, in cell k, means m_k and variances v_k,

    mean = sum_k w_k m_k,        var = sum_k w_k (v_k + (m_k - mean)^2),

and likewise for the covariance. Every variance is thus a sum of squared deviations from
the mean: it cannot be negative, unlike mean(x^2) - mean(x)^2 in float32.

A mask enters as weights: w_k = g_k n_k / n, where g are the taps of the window, n_k is
the valid weight of cell k and n their sum. A window without a valid pixel has mean,
variance and covariance 0.

The gradient is written by hand: differentiating the padding and slicing would take
several times as long on a CPU. Forward mode (`jax.jvp`) is not available.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

PADDINGS = ("reflect", "valid")
# Of one axis. The views of a larger window would fill a kernel's registers.
MOST_TAPS_AT_ONCE = 5

T = TypeVar("T")
Residuals = tuple[jax.Array, jax.Array, jax.Array | None]


class Moments(NamedTuple):
    """Statistics of the windows of x and y, each [H, W] float32."""

    mean_x: jax.Array
    mean_y: jax.Array
    var_x: Any
    var_y: Any
    covariance: Any


# Statistics of cells, or single pixels as (x, y, None, None, None); and their valid
# weight under a mask.
Cells = tuple[Moments, jax.Array | None]


class Window(NamedTuple):
    """The taps of one axis, which sum to 1, and the padding at the border."""

    taps: tuple[float, ...]
    padding: str

    @property
    def radius(self) -> int:
        """Pixels to either side of the centre."""
        return len(self.taps) // 2


def make_window(size: int, shape: str, sigma: float, padding: str) -> Window:
    """A box or a Gaussian of `size` pixels.

    Raises:
      ValueError: `size` is not odd and positive, `shape` not "box" or "gaussian",
        `sigma` not positive, or `padding` not "reflect" or "valid".
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"`window_size` must be odd and positive, got {size}.")
    if padding not in PADDINGS:
        raise ValueError(f"`padding` must be one of {PADDINGS}, got {padding!r}.")
    if shape == "box":
        return Window((1.0 / size,) * size, padding)
    if shape != "gaussian":
        raise ValueError(f"`window` must be 'box' or 'gaussian', got {shape!r}.")
    if not sigma > 0.0:
        raise ValueError(f"`sigma` must be positive, got {sigma}.")
    taps = np.exp(-0.5 * np.square((np.arange(size) - size // 2) / sigma))
    return Window(tuple(float(tap) for tap in taps / taps.sum()), padding)


def over_channels(
    function: Callable[..., Any], x: jax.Array, y: jax.Array, where: jax.Array | None
) -> Any:
    """vmap of `function(x, y, where)` on [H, W] over channels and leading axes.

    x and y are [..., H, W, C], `where` is [..., H, W] or None and is shared by the
    channels. The maps are returned channels first, [C, ..., h, w], so that rows are
    contiguous.
    """
    x, y = channels_first(x), channels_first(y)
    for _ in range(x.ndim - 3):
        function = jax.vmap(function, in_axes=(0, 0, None if where is None else 0))
    return jax.vmap(function, in_axes=(0, 0, None))(x, y, where)


@jax.custom_vjp
def channels_first(x: jax.Array) -> jax.Array:
    """[..., H, W, C] as [C, ..., H, W]."""
    return jnp.moveaxis(x, -1, 0)


def channels_last(x: jax.Array) -> jax.Array:
    """[C, ..., H, W] as [..., H, W, C].

    A transposition on a GPU. On a CPU XLA would fuse it into the computation of x and
    write x pixel by pixel, so channels are stacked there.
    """
    on_gpu = partial(jnp.moveaxis, source=0, destination=-1)
    return _by_platform(on_gpu, lambda x: jnp.stack(list(x), axis=-1))(x)


channels_first.defvjp(
    lambda x: (channels_first(x), None), lambda _, g: (channels_last(g),)
)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def window_moments(
    window: Window, x: jax.Array, y: jax.Array, weight: jax.Array | None
) -> Moments:
    """The statistics of every window of x and y, each [H, W] float32.

    `weight` is 1.0 at a valid pixel and 0.0 elsewhere, where x and y must be finite;
    None counts all. With padding "valid" a map is smaller by 2 * radius.
    """
    found = _statistics(window, x, y, weight)[0]
    # An image that `vmap` shares has its statistics computed once. Each example must
    # still get its own copy of them: `_backward` adds up the examples' gradients, and
    # the gradient of one shared copy would count once in each. The selection makes the
    # copies; where nothing is shared, XLA drops it.
    of_both = found.covariance
    return Moments(*(jnp.where(of_both == of_both, m, m) for m in found))


def _forward(
    window: Window, x: jax.Array, y: jax.Array, weight: jax.Array | None
) -> tuple[Moments, Residuals]:
    return window_moments(window, x, y, weight), (x, y, weight)


def _backward(window: Window, residuals: Residuals, gradient: Moments) -> Residuals:
    """The gradient with respect to x and y.

    With W the weights of the windows and a, b, c the gradients with respect to mean,
    variance and covariance, and as d var_i / d x_j = 2 W_ij (x_j - mean_i), it is

        W^T (a - 2 b mean_x - c mean_y) + 2 x W^T b + y W^T c.
    """
    x, y, weight = residuals
    moments, total = _statistics(window, x, y, weight)
    if total is not None:
        gradient = jax.tree.map(lambda g: g * _reciprocal(total), gradient)
    mean_x, mean_y = moments.mean_x, moments.mean_y
    b_x, b_y, c = gradient.var_x, gradient.var_y, gradient.covariance
    a_x = gradient.mean_x - 2.0 * b_x * mean_x - c * mean_y
    a_y = gradient.mean_y - 2.0 * b_y * mean_y - c * mean_x
    spread = partial(_transposed_sum, window, shape=x.shape)
    cross = spread(c)
    d_x = spread(a_x) + 2.0 * x * spread(b_x) + y * cross
    d_y = spread(a_y) + 2.0 * y * spread(b_y) + x * cross
    if weight is None:
        return d_x, d_y, None
    return d_x * weight, d_y * weight, jnp.zeros_like(weight)


window_moments.defvjp(_forward, _backward)


def _statistics(
    window: Window, x: jax.Array, y: jax.Array, weight: jax.Array | None
) -> tuple[Moments, jax.Array | None]:
    """The moments of every window and, under a mask, its valid weight.

    A GPU computes all of a small window from shifted views of the images, in one pass
    over memory; other devices go along H and then along W, in fewer operations.
    """
    return _of_window(window, _at_once, _along_each_axis)(x, y, weight)


def _of_window(
    window: Window, on_gpu: Callable[..., T], elsewhere: Callable[..., T]
) -> Callable[..., T]:
    """`on_gpu` for a small window on a GPU, `elsewhere` otherwise, with `window`."""
    on_gpu, elsewhere = partial(on_gpu, window), partial(elsewhere, window)
    if len(window.taps) > MOST_TAPS_AT_ONCE:
        return elsewhere
    return _by_platform(on_gpu, elsewhere)


def _by_platform(
    on_gpu: Callable[..., T], elsewhere: Callable[..., T]
) -> Callable[..., T]:
    """One of two functions, chosen when XLA compiles."""
    return partial(
        jax.lax.platform_dependent, cuda=on_gpu, rocm=on_gpu, default=elsewhere
    )


def stored_on_gpu(x: jax.Array) -> jax.Array:
    """x, which XLA computes once on a GPU; it would fuse x into each of its uses."""
    stored: Callable[..., jax.Array] = jax.lax.optimization_barrier
    return _by_platform(stored, jnp.asarray)(x)


def _along_each_axis(
    window: Window, x: jax.Array, y: jax.Array, weight: jax.Array | None
) -> tuple[Moments, jax.Array | None]:
    """`_statistics` of the columns of the windows, and of the windows from those."""
    cells = _padded(window, x, y, weight)
    for axis in (0, 1):
        cells = _combine(window, _views(cells, len(window.taps), axis))
    return cells


def _at_once(
    window: Window, x: jax.Array, y: jax.Array, weight: jax.Array | None
) -> tuple[Moments, jax.Array | None]:
    """`_statistics` by the same equations, without storing those of the columns."""
    views, combine = partial(_reflected_views, window), partial(_combine, window)
    pixels: Cells = Moments(x, y, None, None, None), weight
    return combine([combine(views(column, 0)) for column in views(pixels, 1)])


def _reflected_views(window: Window, tree: Any, axis: int) -> list[Any]:
    """The views of the padded arrays as gathers, which XLA fuses with their use."""
    places = np.arange(jax.tree.leaves(tree)[0].shape[axis])
    if window.padding == "reflect":
        places = np.pad(places, window.radius, mode="reflect")
    count = len(places) - 2 * window.radius

    def view(x: jax.Array, first: int) -> jax.Array:
        return x.take(places[first : first + count], axis, mode="clip")

    taps = range(len(window.taps))
    return [jax.tree.map(partial(view, first=k), tree) for k in taps]


def _padded(
    window: Window, x: jax.Array, y: jax.Array, weight: jax.Array | None
) -> Cells:
    """Single pixels as cells, reflected at the border."""
    x, y, weight = jax.tree.map(partial(_pad, window), (x, y, weight))
    return Moments(x, y, None, None, None), weight


def _combine(window: Window, cells: Sequence[Cells]) -> Cells:
    """Statistics of windows from those of their cells, one for each tap."""
    moments = [cell for cell, _ in cells]
    weights: Sequence[Any] = window.taps
    total: Any = None
    if cells[0][1] is not None:
        valid: list[Any] = [n for _, n in cells]
        weights = [g * n for g, n in zip(window.taps, valid, strict=True)]
        total = sum(weights)
        weights = [w * _reciprocal(total) for w in weights]

    def mean(values: Iterable[jax.Array]) -> Any:
        return sum(w * value for w, value in zip(weights, values, strict=True))

    xs, ys = [m.mean_x for m in moments], [m.mean_y for m in moments]
    mean_x, mean_y = mean(xs), mean(ys)
    dx, dy = [x - mean_x for x in xs], [y - mean_y for y in ys]
    spread = []
    inner = zip(*(m[2:] for m in moments), strict=True)
    for within, a, b in zip(inner, (dx, dy, dx), (dx, dy, dy), strict=True):
        terms = [u * v for u, v in zip(a, b, strict=True)]
        if within[0] is not None:  # the cells are windows, not pixels
            terms = [t + v for t, v in zip(terms, within, strict=True)]
        spread.append(mean(terms))
    return Moments(mean_x, mean_y, *spread), total


def _transposed_sum(
    window: Window, windows: jax.Array, *, shape: tuple[int, ...]
) -> jax.Array:
    """W^T: for every pixel, the sum over the windows that contain it."""
    at_once = partial(_transposed_at_once, shape=shape)
    along_each_axis = partial(_transposed_along_each_axis, shape=shape)
    return _of_window(window, at_once, along_each_axis)(windows)


def _transposed_along_each_axis(
    window: Window, windows: jax.Array, *, shape: tuple[int, ...]
) -> jax.Array:
    out = windows
    for axis, margin in enumerate(_margins(window, windows, shape)):
        # Concatenated, not padded: XLA on a CPU would compute `windows` inside the
        # padding, pixel by pixel.
        zeros = jnp.zeros_like(out, shape=_resized(out, margin, axis))
        out = jnp.concatenate([zeros, out, zeros], axis)
    for axis in (0, 1):
        out = _tap_sum(window, _views(out, len(window.taps), axis), axis, shape)
    return out


def _transposed_at_once(
    window: Window, windows: jax.Array, *, shape: tuple[int, ...]
) -> jax.Array:
    windows = stored_on_gpu(windows)
    out = jnp.pad(windows, [(m, m) for m in _margins(window, windows, shape)])
    columns = (
        _tap_sum(window, _views(column, len(window.taps), axis=0), 0, shape)
        for column in _views(out, len(window.taps), axis=1)
    )
    return _tap_sum(window, columns, 1, shape)


def _margins(window: Window, windows: jax.Array, shape: tuple[int, ...]) -> list[int]:
    """Zeros to add on each side of each axis."""
    sizes = zip(shape, windows.shape, strict=True)
    return [(n - m) // 2 + window.radius for n, m in sizes]


def _tap_sum(
    window: Window, views: Iterable[jax.Array], axis: int, shape: tuple[int, ...]
) -> jax.Array:
    """The sum over the taps of one axis."""
    taps = np.expand_dims(_transposed_taps(window, shape[axis]), 2 - axis)
    return jnp.asarray(sum(t * view for t, view in zip(taps, views, strict=True)))


@lru_cache
def _transposed_taps(window: Window, size: int) -> np.ndarray:
    """[taps, size]: the weight of cell j in the window k - radius cells after it."""
    radius, taps = window.radius, np.zeros((len(window.taps), size), np.float32)
    margin = radius if window.padding == "valid" else 0
    for centre in range(margin, size - margin):
        for offset, tap in enumerate(window.taps, start=-radius):
            cell = abs(centre + offset)
            cell = min(cell, 2 * (size - 1) - cell)  # the pixel that is mirrored
            taps[centre - cell + radius, cell] += tap
    return taps


def _pad(window: Window, x: jax.Array) -> jax.Array:
    """Reflected at the border without repeating the edge; unchanged for "valid"."""
    if window.padding == "valid" or window.radius == 0:
        return x
    return jnp.pad(x, window.radius, mode="reflect")


def _resized(x: jax.Array, size: int, axis: int) -> tuple[int, ...]:
    """The shape of x with another size along one axis."""
    return tuple(size if a == axis else n for a, n in enumerate(x.shape))


def _views(tree: Any, count: int, axis: int) -> list[Any]:
    """`count` views of the arrays of a tree, each one pixel further along the axis."""

    def view(x: jax.Array, first: int) -> jax.Array:
        last = first + x.shape[axis] - count + 1
        return jax.lax.slice_in_dim(x, first, last, axis=axis)

    return [jax.tree.map(partial(view, first=k), tree) for k in range(count)]


def _reciprocal(total: jax.Array) -> jax.Array:
    """1 / total, and 0 for an empty window."""
    empty = total == 0.0
    return jnp.where(empty, 0.0, 1.0 / jnp.where(empty, 1.0, total))
