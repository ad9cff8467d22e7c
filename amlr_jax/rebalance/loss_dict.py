"""Losses and loss weights as flat dicts of scalars, and their vector form.

Rules check the names once, compute on vectors in the order of the sorted names, and
return dicts. The vectors are float32, or float64 if the weights given to `init` are.
"""

import math
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp
import optax

from amlr_jax.inputs import float_type

LossDict = dict[str, jax.Array]

TINY = 1.1754944e-38  # smallest normal float32; a loss at or below it has no share
FLOAT32_ROUNDING = 2.0**-23


def common_names(**dicts: Any) -> list[str]:
    """The sorted names that all given dicts share.

    Raises:
      TypeError: an argument is not a dict with string keys.
      ValueError: an argument is empty, holds something other than scalars, or its
        names differ from those of the first.
    """
    for title, values in dicts.items():
        _check_flat(title, values)
    (first, reference), *others = dicts.items()
    for title, values in others:
        missing = sorted(set(reference) - set(values))
        extra = sorted(set(values) - set(reference))
        if missing or extra:
            raise ValueError(
                f"`{title}` must have the names of `{first}`, got {title} with "
                f"missing {missing} and extra {extra}."
            )
    return sorted(reference)


def _check_flat(title: str, values: Any) -> None:
    if not isinstance(values, Mapping) or not all(isinstance(k, str) for k in values):
        raise TypeError(f"`{title}` must be a dict of name -> scalar, got {values!r}.")
    if not values:
        raise ValueError(f"`{title}` must have at least one name, got an empty dict.")
    for name, value in values.items():
        if isinstance(value, Mapping | list | tuple):
            raise TypeError(
                f"`{title}` must be a flat dict of name -> scalar, got "
                f"{title}[{name!r}] of type {type(value).__name__}; name its entries "
                f"'{name}/...'."
            )
        if jnp.shape(value) != ():
            raise ValueError(
                f"`{title}` must hold scalars, got {title}[{name!r}] of shape "
                f"{jnp.shape(value)}."
            )


def pack(values: Mapping[str, Any], names: list[str], dtype: Any = None) -> jax.Array:
    """The values in the order of `names`, [n]; None: in their `float_type`."""
    ordered = [values[name] for name in names]
    dtype = float_type(*ordered) if dtype is None else dtype
    return jnp.stack([jnp.asarray(value).astype(dtype) for value in ordered])


def unpack(vector: jax.Array, names: list[str]) -> LossDict:
    """The inverse of `pack`."""
    return {name: vector[index] for index, name in enumerate(names)}


def zeros(loss_weights: LossDict) -> LossDict:
    """A zero per name, of the precision of the weights.

    They are separate buffers, so that a state can be donated.
    """
    dtype = float_type(*loss_weights.values())
    return {name: jnp.zeros((), dtype) for name in sorted(loss_weights)}


def constant(weight: float, dtype: Any) -> jax.Array:
    """A weight that is not traced even where its rule is."""
    with jax.ensure_compile_time_eval():
        return jnp.asarray(weight, dtype)


def is_zero(weight: Any) -> bool:
    """Whether a weight is known to be 0 while the function is traced."""
    return not isinstance(weight, jax.core.Tracer) and float(weight) == 0.0


def check_start(loss_weights: Any, **dicts: Any) -> list[str]:
    """The names of the weights that a rule's `init` is given; errors: `common_names`.

    Raises:
      ValueError: also within `optax.MultiSteps`, which returns updates of 0 in all
        steps but the last of a window. Loss weights would be 0 there.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame := frame and frame.f_back:
        if frame.f_code is optax.MultiSteps.init.__code__:
            raise ValueError(
                "A rule for loss weights cannot be in optax.MultiSteps, which sets the "
                "weights to 0 between its updates; use every_k_steps(rule, k)."
            )
    return common_names(loss_weights=loss_weights, **dicts)


def keep_if(accept: jax.Array, new: Any, old: Any) -> Any:
    """`new` where the scalar `accept` holds, else `old`; no gradient flows through."""
    chosen = jax.tree.map(lambda n, o: jnp.where(accept, n, o), new, old)
    return jax.lax.stop_gradient(chosen)


def all_finite(*vectors: jax.Array) -> jax.Array:
    """Whether every element is finite, boolean scalar."""
    return jnp.all(jnp.isfinite(jnp.concatenate(vectors)))


def value_at(number_or_schedule: Any, count: jax.Array, like: jax.Array) -> jax.Array:
    """A number, or a schedule of the updates so far, in the dtype of `like`."""
    if callable(number_or_schedule):
        number_or_schedule = number_or_schedule(count)
    return jnp.asarray(number_or_schedule).astype(like.dtype)


def equalizing(shares: Any, weights: jax.Array, losses: jax.Array) -> jax.Array:
    """The weights under which the losses have these shares of their total, Eq. 9.

        w_i = r_i L_tot / L_i,     L_tot = sum_j w_j L_j

    A loss below the rounding of L_tot, 1.2e-7 of it in float32, has no ratio to it: a
    weight like 1e11 would be all that is left once that loss is no longer near 0. Its
    weight is infinite here, so the rule skips the step and waits for one that can tell.
    """
    total = jnp.sum(weights * losses)
    lost = losses < FLOAT32_ROUNDING * total
    return jnp.where(lost, jnp.inf, shares * total / losses)


def check_number(
    name: str, value: Any, rule: str, holds: Callable[[float], bool]
) -> None:
    """Raises ValueError unless the number obeys the rule; passes traced numbers."""
    if callable(value) or isinstance(value, jax.core.Tracer):
        return
    number = float(value)  # NumPy, because inside a trace `value > 0` is traced
    if not (math.isfinite(number) and holds(number)):
        raise ValueError(f"`{name}` must be {rule} and finite, got {name} = {number}.")


def check_adam(learning_rate: Any, b1: Any, b2: Any, eps: Any) -> None:
    """Raises ValueError unless Adam's four constants obey their rules."""
    check_number("learning_rate", learning_rate, "at least 0", lambda x: x >= 0)
    check_number("b1", b1, "in [0, 1)", lambda x: 0 <= x < 1)
    check_number("b2", b2, "in [0, 1)", lambda x: 0 <= x < 1)
    check_number("eps", eps, "positive", lambda x: x > 0)


def bias_corrected(moment: jax.Array, decay: Any, updates: jax.Array) -> jax.Array:
    """Adam's moment / (1 - decay^k); the moment itself before the first update.

    Uses expm1: 1 - 0.999^k in float32 has an error of 1e-5 in the first steps.
    """
    k = jnp.maximum(updates, 1).astype(moment.dtype)
    log_decay: Any = -math.inf
    if isinstance(decay, jax.Array):
        log_decay = jnp.log(decay)
    elif decay > 0:
        log_decay = math.log(decay)
    return moment / -jnp.expm1(k * log_decay)
