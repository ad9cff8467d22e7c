"""AdamW with layer decay, and the schedules of the learning rate.

The optimizer and `polynomial` are those of Xie et al., Revealing the Dark Secrets of
Masked Image Modeling (MIM-Depth), also used by AMLR; `step_decay` is monodepth2's.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

Path = tuple[str, ...]


def polynomial(
    steps: int,
    *,
    start: float = 3e-5,
    peak: float = 5e-4,
    power: float = 0.9,
    peak_at: float = 0.5,
) -> optax.Schedule:
    """Learning rate of step g = count + 1, with h = `peak_at` * `steps`.

    g < h:  (peak - start) (g / h)^power + start
    else:   max(start, (start - peak) (g / h - 1)^power + peak)
    """
    if steps < 1 or not 0 < peak_at <= 1:
        raise ValueError(
            f"`steps` must be at least 1 and `peak_at` in (0, 1], "
            f"got steps = {steps}, peak_at = {peak_at}"
        )
    half = max(steps * peak_at, 1.0)

    def schedule(count):
        part = (jnp.asarray(count, jnp.float32) + 1) / half
        # Clipped, because the power of a negative base is NaN.
        rise = jnp.minimum(part, 1.0) ** power
        fall = jnp.maximum(part - 1.0, 0.0) ** power
        down = jnp.maximum(start, peak - (peak - start) * fall)
        return jnp.where(part < 1, start + (peak - start) * rise, down)

    return schedule


def step_decay(
    steps: int,
    *,
    peak: float,
    drop_at: float = 0.75,
    drop: float = 0.1,
    warmup: int = 0,
) -> optax.Schedule:
    """Learning rate of step g = count + 1: constant, then lower, after a warm-up.

        peak * min(1, g / warmup) * (drop if g > drop_at * steps else 1)

    monodepth2 trains 20 epochs and drops to a tenth after 15. Cao, Luo & Li warm up
    for 1000 steps, here linearly; they do not report whether they drop.
    """
    if steps < 1 or not 0 < drop_at <= 1 or warmup < 0:
        raise ValueError(
            f"`steps` must be at least 1, `drop_at` in (0, 1] and `warmup` at least 0, "
            f"got steps = {steps}, drop_at = {drop_at}, warmup = {warmup}"
        )
    last = round(drop_at * steps)

    def schedule(count):
        step = jnp.asarray(count, jnp.float32) + 1
        rise = jnp.minimum(step / max(warmup, 1), 1.0)
        return peak * rise * jnp.where(step > last, drop, 1.0)

    return schedule


def adamw(
    schedule: optax.Schedule,
    *,
    layer_scale: Callable[[Path], float],
    has_weight_decay: Callable[[Path, int], bool],
    b1: float = 0.9,
    b2: float = 0.999,
    weight_decay: float = 0.05,
    clip_norm: float = 0.0,
) -> optax.GradientTransformation:
    """AdamW whose learning rate is multiplied by `layer_scale` of each parameter.

    The decay is decoupled and scaled with the learning rate, as in PyTorch's AdamW.
    `clip_norm` 0 means no clipping.
    """

    def decayed(params):
        return _map_paths(lambda path, p: has_weight_decay(path, p.ndim), params)

    clip = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    return optax.chain(
        *clip,
        optax.scale_by_adam(b1=b1, b2=b2),
        optax.add_decayed_weights(weight_decay, mask=decayed),
        scale_by_path(layer_scale),
        optax.scale_by_learning_rate(schedule),
    )


def scale_by_path(scale: Callable[[Path], float]) -> optax.GradientTransformation:
    """Multiplies each update by `scale` of its parameter's path."""

    def update(updates, params):
        del params
        return _map_paths(lambda path, u: u * scale(path), updates)

    return optax.stateless(update)


def _map_paths(function, tree):
    def call(path, leaf):
        return function(tuple(str(entry.key) for entry in path), leaf)

    return jax.tree_util.tree_map_with_path(call, tree)
