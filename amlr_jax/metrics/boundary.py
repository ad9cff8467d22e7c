"""Sharpness of depth edges, which metrics of pixels hardly see."""

import jax
import jax.numpy as jnp
import numpy as np

from amlr_jax.metrics.depth import valid_pixels

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
    >>> float(boundary_f1(3 * step, step))  # edges in one of four directions
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
