"""Sharpness of depth edges, which metrics of pixels hardly see."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from amlr_jax.metrics.depth import valid_pixels

# Of `boundary_errors`: sigma and thresholds of Canny's edges of depth in [0, 1], and
# the pixels beyond which a predicted edge belongs to no annotated one.
CANNY_SIGMA, CANNY_LOW, CANNY_HIGH = 2**0.5, 0.1, 0.2
FARTHEST = 10.0
BOUNDARY_ERRORS = ("dbe_acc", "dbe_com")  # short names
# Depth ratios of neighbouring pixels that make an edge, and their weights.
THRESHOLDS = np.linspace(1.05, 1.25, 10, dtype=np.float32)


def boundary_f1(
    prediction: jax.Array, target: jax.Array, *, where: jax.Array | None = None
) -> jax.Array:
    """The F1 score of depth edges of Depth Pro (Bochkovskii et al., ICLR 2025).

    Pixels i, j beside or above each other have an edge from i to j at threshold t if
    d_j / d_i > t. For each of the four directions, over all pairs of the image:

        precision = edges of both / edges of the prediction
        recall    = edges of both / edges of the ground truth
        F1(t)     = 2 P R / (P + R),  P, R the means of the four directions

    and the score is the mean of F1 over t = 1.05 ... 1.25 (10 values), weighted by t.
    A share of no edges counts as 0, so an image without any edge scores 0. The scale of
    the prediction does not matter. The ground truth must be dense: an edge beside a
    pixel that does not count is left out.

    Args:
      prediction: [..., H, W], any unit, > 0 at valid pixels.
      target: [..., H, W] metres, > 0 where valid.
      where: boolean [..., H, W], True = valid; None = every pixel.

    Returns:
      float32 [...] in [0, 1], 1 is best.

    Raises:
      ValueError, TypeError: as `depth_metrics`.

    >>> import jax.numpy as jnp
    >>> step = jnp.array([[1.0, 1.0, 2.0], [1.0, 1.0, 2.0]])
    >>> round(float(boundary_f1(3 * step, step)), 4)  # one of four directions
    0.25
    """
    p, g, where = valid_pixels(prediction, target, where)
    scores = jax.vmap(lambda t: _f1(_edges(p, where, t), _edges(g, where, t)))(
        jnp.asarray(THRESHOLDS)
    )
    return jnp.tensordot(THRESHOLDS / THRESHOLDS.sum(), scores, 1)


def _edges(depth: jax.Array, where: jax.Array, threshold: jax.Array) -> list[jax.Array]:
    """Edges to the right, to the left, down and up, boolean."""
    found = []
    for axis in (-1, -2):
        size = depth.shape[axis]
        before, after, valid, valid_after = (
            jax.lax.slice_in_dim(x, start, size - 1 + start, axis=axis % x.ndim)
            for x in (depth, where)
            for start in (0, 1)
        )
        valid &= valid_after
        ratio = after / before
        found += [valid & (ratio > threshold), valid & (1 / ratio > threshold)]
    return found


def _f1(predicted: list[jax.Array], true: list[jax.Array]) -> jax.Array:
    def share(of: list[jax.Array]) -> jax.Array:
        parts = [
            jnp.sum(a & b, (-2, -1)) / jnp.maximum(jnp.sum(all_, (-2, -1)), 1)
            for a, b, all_ in zip(predicted, true, of, strict=True)
        ]
        return jnp.mean(jnp.stack(parts), axis=0)

    precision, recall = share(predicted), share(true)
    total = precision + recall
    return jnp.where(total > 0, 2 * precision * recall / jnp.maximum(total, 1e-30), 0.0)


class BoundaryErrors(NamedTuple):
    """The depth boundary errors of one image, in pixels; 0 is best."""

    accuracy: float  # of predicted edges to annotated ones
    completeness: float  # of annotated edges to predicted ones


def boundary_errors(prediction: ArrayLike, edges: ArrayLike) -> BoundaryErrors:
    """iBims-1's depth boundary errors (Koch et al., ECCV workshops 2018).

    With E the annotated edges, C those that Canny finds in the prediction, brought to
    [0, 1] by its least and greatest depth, and d the distance to the nearest edge:

        accuracy     = mean of d(x, E) over x in C with d(x, E) < 10
        completeness = mean of d(x, C) over x in E

    Both are 10 without such an x in C, as for a flat prediction. As in the authors'
    Python evaluation: a Gaussian of sigma sqrt(2), hysteresis from 0.1 to 0.2 of the
    Sobel magnitude. The paper's values are of MATLAB's Canny and differ. Computed by
    NumPy and SciPy, outside of jit.

    Args:
      prediction: [H, W], any unit and scale; 0 and NaN = unknown, beside which no edge
        is found.
      edges: [H, W], not 0 at annotated edges.

    Returns:
      Pixels; NaN if nothing is annotated.

    Raises:
      ValueError: if the shapes differ or are not [H, W].

    >>> step = np.repeat([[1.0, 3.0]], 8, axis=1) * np.ones((16, 1))
    >>> edges = np.arange(16) == 6 * np.ones((16, 1))
    >>> boundary_errors(step, edges).accuracy  # the step is at columns 7 and 8
    1.5
    """
    depth, true = np.array(prediction, np.float64), np.asarray(edges) != 0
    if depth.ndim != 2 or depth.shape != true.shape:
        raise ValueError(
            "`prediction` and `edges` must be [H, W] of one size, got shapes "
            f"{depth.shape} and {true.shape}."
        )
    if not true.any():
        return BoundaryErrors(np.nan, np.nan)
    depth[depth == 0] = np.nan
    known = depth[np.isfinite(depth)]
    low, high = np.min(known, initial=np.inf), np.max(known, initial=-np.inf)
    if not low < high:
        return BoundaryErrors(FARTHEST, FARTHEST)
    found = _canny((depth - low) / (high - low))
    to_true = ndimage.distance_transform_edt(~true)
    near = found & (to_true < FARTHEST)
    if not near.any():
        return BoundaryErrors(FARTHEST, FARTHEST)
    to_found = ndimage.distance_transform_edt(~found)
    return BoundaryErrors(float(to_true[near].mean()), float(to_found[true].mean()))


def _canny(image: np.ndarray) -> np.ndarray:
    """Canny's edges (PAMI 1986) of an image [H, W], boolean; none at its border.

    An edge is a pixel whose gradient is not smaller than on both sides of it along the
    gradient, interpolated between neighbours.
    """
    inside = ndimage.gaussian_filter(np.ones_like(image), CANNY_SIGMA, mode="constant")
    smooth = ndimage.gaussian_filter(image, CANNY_SIGMA, mode="constant") / inside
    gradient = np.stack([ndimage.sobel(smooth, axis=axis) for axis in (0, 1)])
    size = np.hypot(*gradient)
    with np.errstate(invalid="ignore"):
        strong = size >= CANNY_LOW
    strong[[0, -1]] = strong[:, [0, -1]] = False
    rows, columns = np.nonzero(strong)
    along = gradient[:, rows, columns]
    step = np.where(along < 0, -1, 1)  # to the diagonal neighbour
    larger = abs(along) >= abs(along).max(0)
    larger[1] &= ~larger[0]
    straight = step * larger  # to the neighbour beside or above
    share = abs(along).min(0) / abs(along).max(0)
    kept = np.ones(len(rows), bool)
    for side in (1, -1):
        diagonal, beside = (
            size[rows + side * by[0], columns + side * by[1]] for by in (step, straight)
        )
        kept &= share * diagonal + (1 - share) * beside <= size[rows, columns]
    edge = np.zeros(image.shape, bool)
    edge[rows[kept], columns[kept]] = True
    labels, count = ndimage.label(edge, np.ones((3, 3)))
    certain = np.zeros(count + 1, bool)
    certain[labels[edge & (size >= CANNY_HIGH)]] = True
    return np.asarray(certain[labels])
