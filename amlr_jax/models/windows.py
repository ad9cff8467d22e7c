"""Windows of a token grid: padding, partition, shift regions, relative positions.

What depends on sizes alone (region labels, coordinates) is NumPy: it is computed
once, while tracing. Facts are those of Swin Transformer V2 (Liu et al., CVPR 2022) as
MIM-Depth (Xie et al., 2023) and transformers apply it to images of any size.

Shapes: B images, H x W tokens, C channels, N windows, T = window ** 2 tokens in each.
"""

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

COORDINATE_SCALE = 8.0  # coordinates span [-8, 8] before the logarithm (Swin V2, 3.3)


def pad_to_multiple(x_BHWC: jax.Array, multiple: int) -> jax.Array:
    """Zeros on the right and at the bottom, up to the next multiple of `multiple`."""
    _, height, width, _ = x_BHWC.shape
    bottom, right = -height % multiple, -width % multiple
    if not (bottom or right):
        return x_BHWC
    return jnp.pad(x_BHWC, ((0, 0), (0, bottom), (0, right), (0, 0)))


def partition(x_BHWC: jax.Array, window: int) -> jax.Array:
    """(B, H, W, C) to (B, N, T, C), windows and tokens both in row-major order.

    H and W must be multiples of `window` (see `pad_to_multiple`).
    """
    _, height, width, _ = x_BHWC.shape
    if height % window or width % window:
        raise ValueError(
            "`x_BHWC` must tile into windows: height and width must be multiples of "
            f"{window}, got {height} x {width}."
        )
    pattern = "b (h p) (w q) c -> b (h w) (p q) c"
    return rearrange(x_BHWC, pattern, p=window, q=window)


def reverse(x_BNTC: jax.Array, window: int, height: int, width: int) -> jax.Array:
    """(B, N, T, C) back to (B, height, width, C); undoes `partition`."""
    pattern = "b (h w) (p q) c -> b (h p) (w q) c"
    rows, columns = height // window, width // window
    return rearrange(x_BNTC, pattern, h=rows, w=columns, p=window, q=window)


def shift_regions(height: int, width: int, *, window: int, shift: int) -> np.ndarray:
    """Labels of the regions that share a window after a cyclic shift.

    The roll by `-shift` brings tokens from opposite edges into one window; two tokens
    may attend to each other only where their labels agree.

    Returns:
      int32 labels of the rolled grid, shape (N, T).
    """
    labels = []
    for size in (height, width):
        position = np.arange(size)
        labels.append((position >= size - window).astype(np.int32))
        labels[-1] += position >= size - shift
    grid = 3 * labels[0][:, None] + labels[1][None, :]
    pattern = "(h p) (w q) -> (h w) (p q)"
    return rearrange(grid, pattern, p=window, q=window)


def relative_coordinates(window: int, pretrained_window: int) -> np.ndarray:
    """Log-spaced offsets (rows, columns) that the position-bias MLP reads (Eq. 4).

    An offset is divided by the largest one of the window of the pretraining, so a
    wider window only extrapolates a little: at most 1.34 for 22 after 12. Without
    pretraining, `pretrained_window` 0, it is the largest one of the window itself.

    Returns:
      float32, shape (2 * window - 1, 2 * window - 1, 2).
    """
    if pretrained_window < 2 and pretrained_window != 0:
        raise ValueError(
            "`pretrained_window` must be at least 2, or 0 for the window itself, got "
            f"{pretrained_window}."
        )
    offset = np.arange(1 - window, window, dtype=np.float64)
    offset *= COORDINATE_SCALE / (max(pretrained_window or window, 2) - 1)
    spaced = np.sign(offset) * np.log2(np.abs(offset) + 1) / np.log2(COORDINATE_SCALE)
    return np.stack(np.meshgrid(spaced, spaced, indexing="ij"), -1).astype(np.float32)


def _toeplitz(table: jax.Array) -> jax.Array:
    """(..., 2w - 1) to (..., w, w): entry [i, j] is table[i - j + w - 1].

    Rows of length 2w, read again with length 2w - 1, each start one later than the
    row above. A gather would do as well, but its gradient is a scatter, which adds in
    no fixed order on GPUs: a run could not be repeated exactly.
    """
    *batch, length = table.shape
    window = (length + 1) // 2
    row = jnp.pad(table[..., ::-1], [(0, 0)] * len(batch) + [(0, 1)])
    rows = jnp.broadcast_to(row[..., None, :], (*batch, window, length + 1))
    rows = rows.reshape(*batch, -1)[..., : window * length]
    return rows.reshape(*batch, window, length)[..., window - 1 :]


def pairwise(table: jax.Array) -> jax.Array:
    """One value per offset to one per pair of tokens.

    Args:
      table: (2w - 1, 2w - 1, heads); entry [a, b] is for the offset, query minus key,
        of (a - w + 1) rows and (b - w + 1) columns.

    Returns:
      (heads, T, T): [head, query, key].
    """
    columns = _toeplitz(table.transpose(2, 0, 1))  # (heads, 2w - 1, w, w)
    both = _toeplitz(columns.transpose(0, 2, 3, 1))  # (heads, w, w, w, w)
    return rearrange(both, "n qw kw qh kh -> n (qh qw) (kh kw)")
