"""Losses and loss weights as flat dicts of scalars, and their vector form.

Rules check the names once, compute on float32 vectors in the order of the sorted names,
and return dicts.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

LossDict = dict[str, jax.Array]

TINY = 1.1754944e-38  # smallest normal float32; a loss at or below it has no share


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
        if jnp.shape(value) != ():
            raise ValueError(
                f"`{title}` must hold scalars, got {title}[{name!r}] of shape "
                f"{jnp.shape(value)}."
            )


def pack(values: Mapping[str, Any], names: list[str]) -> jax.Array:
    """The values in the order of `names`, float32 [n]."""
    return jnp.stack([jnp.asarray(values[name], jnp.float32) for name in names])


def unpack(vector: jax.Array, names: list[str]) -> LossDict:
    """The inverse of `pack`."""
    return {name: vector[index] for index, name in enumerate(names)}


def zeros(names: list[str]) -> LossDict:
    """A float32 zero per name, in separate buffers so that a state can be donated."""
    return {name: jnp.zeros((), jnp.float32) for name in names}


def keep_if(accept: jax.Array, new: Any, old: Any) -> Any:
    """`new` where the scalar `accept` holds, else `old`; no gradient flows through."""
    chosen = jax.tree.map(lambda n, o: jnp.where(accept, n, o), new, old)
    return jax.lax.stop_gradient(chosen)


def all_finite(*vectors: jax.Array) -> jax.Array:
    """Whether every element is finite, boolean scalar."""
    return jnp.all(jnp.isfinite(jnp.concatenate(vectors)))


def value_at(number_or_schedule: Any, count: jax.Array) -> jax.Array:
    """A number, or a schedule called with the number of updates so far, as float32."""
    if callable(number_or_schedule):
        number_or_schedule = number_or_schedule(count)
    return jnp.asarray(number_or_schedule, jnp.float32)


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
    k = jnp.maximum(updates, 1).astype(jnp.float32)
    log_decay: Any = -math.inf
    if isinstance(decay, jax.Array):
        log_decay = jnp.log(decay)
    elif decay > 0:
        log_decay = math.log(decay)
    return moment / -jnp.expm1(k * log_decay)
