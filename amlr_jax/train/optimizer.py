"""AdamW with layer decay, frozen parameters, the schedules of the learning rate, and
the moving average of the weights.

The optimizer and `polynomial` are those of Xie et al., Revealing the Dark Secrets of
Masked Image Modeling (MIM-Depth), also used by AMLR; `step_decay` is monodepth2's.
"""

import math
from collections.abc import Callable
from typing import Any

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
) -> optax.Schedule:
    """Learning rate of step g = count + 1: constant, then lower.

        peak * (drop if g > drop_at * steps else 1)

    monodepth2 trains 20 epochs and drops to a tenth after 15. Cao, Luo & Li do not
    report whether they drop.
    """
    last = round(drop_at * steps)

    def schedule(count):
        return peak * jnp.where(jnp.asarray(count) + 1 > last, drop, 1.0)

    return schedule


def warmed_up(schedule: optax.Schedule, steps: int) -> optax.Schedule:
    """The schedule times min(1, g / steps) at step g = count + 1; 0: as it is.

    Goyal et al., "Accurate, Large Minibatch SGD", 2017, sec. 2.2. Cao, Luo & Li warm up
    for 1000 steps.
    """
    if not steps:
        return schedule

    def warmed(count):
        rise = (jnp.asarray(count, jnp.float32) + 1) / steps
        return jnp.minimum(rise, 1.0) * schedule(count)

    return warmed


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
    """Multiplies each update by `scale` of its parameter's path.

    XLA does not see the values: it would compile a kernel for each of them, where one
    for each shape of parameters is enough.
    """

    def update(updates, params):
        del params
        scales = _map_paths(lambda path, _: scale(path), updates)
        values = sorted(set(jax.tree.leaves(scales)))
        hidden = jax.lax.optimization_barrier([jnp.float32(v) for v in values])
        of = dict(zip(values, hidden, strict=True))
        return jax.tree.map(lambda u, value: u * of[value], updates, scales)

    return optax.stateless(update)


def freezing(
    optimizer: optax.GradientTransformation, frozen: Any
) -> optax.GradientTransformation:
    """The optimizer without the frozen parameters: neither updates nor moments.

    `frozen` is a tree of bools like the parameters.
    """
    labels = jax.tree.map(lambda stays: "frozen" if stays else "trained", frozen)
    parts = {"trained": optimizer, "frozen": optax.set_to_zero()}
    return optax.partition(parts, labels)


def moving_average(average: Any, new: Any, *, decay: float, count: jax.Array) -> Any:
    """The exponential moving average of a tree after its `count`-th value `new`.

        a_t = a_{t-1} + r_t (x_t - a_{t-1}),   r_t = (1 - decay) / (1 - decay^t)

    This is the mean of x_1 ... x_t with weights decay^(t - i), so a_1 = x_1: what the
    average began with has no weight, as in the moments of Adam (Kingma & Ba, 2015,
    sec. 3). Polyak & Juditsky, "Acceleration of Stochastic Approximation by Averaging".
    A leaf that never changes stays the same bit for bit.

    Args:
      average: a_{t-1}, arrays.
      new: x_t, arrays of the same shapes.
      decay: in (0, 1).
      count: t, from 1 on.
    """
    t = jnp.asarray(count, jnp.float32)
    rate = jnp.minimum((1 - decay) / -jnp.expm1(t * math.log(decay)), 1.0)
    return jax.tree.map(lambda a, x: a + rate * (x - a), average, new)


def _map_paths(function, tree):
    def call(path, leaf):
        return function(tuple(str(entry.key) for entry in path), leaf)

    return jax.tree_util.tree_map_with_path(call, tree)
