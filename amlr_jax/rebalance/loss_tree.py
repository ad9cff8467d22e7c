"""Losses and loss weights as trees of scalars, and their vector form.

Rules check the names once, compute on vectors in the order of `jax.tree.leaves(losses)`
and return trees like the loss weights. The name of a loss is its path in the tree, as
`jax.tree_util.keystr` writes it: "['silog']", "['depth'][0]", ".smooth". Vectors are
float32, or float64 if the weights given to `init` are.
"""

import math
import numbers
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from amlr_jax.inputs import float_type

LossTree = Any  # dicts, tuples, NamedTuples, or other JAX trees, of scalars

TINY = 1.1754944e-38  # smallest normal float32; a loss at or below it has no share
FLOAT32_ROUNDING = 2.0**-23


def by_path(title: str, tree: LossTree) -> dict[str, Any]:
    """The scalars of a tree by their paths, in the order of its leaves.

    Raises:
      TypeError: a leaf is no number.
      ValueError: the tree is empty, or a leaf is no scalar.
    """
    if isinstance(tree, Mapping) and jax.tree_util.all_leaves([tree]):
        tree = dict(tree)  # a Mapping that JAX does not know
    paths = jax.tree_util.tree_leaves_with_path(tree)
    found = {jax.tree_util.keystr(path): leaf for path, leaf in paths}
    if not found:
        raise ValueError(f"`{title}` must have at least one loss, got {tree!r}.")
    for path, leaf in found.items():
        if not isinstance(leaf, numbers.Real) and not hasattr(leaf, "dtype"):
            raise TypeError(
                f"`{title}` must be a tree of scalars, got {title}{path} = {leaf!r}."
            )
        if jnp.shape(leaf) != ():
            raise ValueError(
                f"`{title}` must be a tree of scalars, got {title}{path} of shape "
                f"{jnp.shape(leaf)}."
            )
    return found


def common_names(**trees: LossTree) -> list[str]:
    """The paths that all given trees share, in the order of the last one.

    Raises:
      TypeError: a leaf is no number.
      ValueError: a tree is empty, a leaf is no scalar, or the paths of a tree differ
        from those of the first.
    """
    (first, reference), *others = (
        (title, by_path(title, tree)) for title, tree in trees.items()
    )
    names = list(reference)
    for title, found in others:
        names = list(found)
        missing, extra = reference.keys() - found.keys(), found.keys() - set(reference)
        if missing or extra:
            raise ValueError(
                f"`{title}` must have the names of `{first}`, got {title} with missing "
                f"{_listed(missing)} and extra {_listed(extra)}."
            )
    return names


def _listed(paths: set[str]) -> str:
    return ", ".join(sorted(paths)) or "none"


def pack(tree: LossTree, names: list[str], dtype: Any = None) -> jax.Array:
    """The scalars in the order of `names`, [n]; None: in their `float_type`."""
    found = by_path("values", tree)
    ordered = [found[name] for name in names]
    dtype = float_type(*ordered) if dtype is None else dtype
    return jnp.stack([jnp.asarray(value).astype(dtype) for value in ordered])


def unpack(vector: jax.Array, names: list[str], like: LossTree) -> LossTree:
    """The inverse of `pack`, a tree like `like`."""
    return fill(like, dict(zip(names, vector, strict=True)))


def fill(like: LossTree, values: Mapping[str, Any]) -> LossTree:
    """The tree `like` with the values of its paths."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: values[jax.tree_util.keystr(path)], like
    )


def zeros(loss_weights: LossTree) -> LossTree:
    """A zero per loss, of the precision of the weights.

    They are separate buffers, so that a state can be donated.
    """
    dtype = float_type(*jax.tree.leaves(loss_weights))
    return jax.tree.map(lambda _: jnp.zeros((), dtype), loss_weights)


def constant(weight: float, dtype: Any) -> jax.Array:
    """A weight that is not traced even where its rule is."""
    with jax.ensure_compile_time_eval():
        return jnp.asarray(weight, dtype)


def is_zero(weight: Any) -> bool:
    """Whether a weight is known to be 0 while the function is traced."""
    return not isinstance(weight, jax.core.Tracer) and float(weight) == 0.0


def check_start(loss_weights: LossTree, **trees: LossTree) -> None:
    """Checks the weights that a rule's `init` is given; errors: `common_names`.

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
    common_names(loss_weights=loss_weights, **trees)


def keep_if(accept: jax.Array, new: Any, old: Any) -> Any:
    """`new` where the scalar `accept` holds, else `old`; no gradient flows through."""
    chosen = jax.tree.map(lambda n, o: jnp.where(accept, n, o), new, old)
    return jax.lax.stop_gradient(chosen)


def value_at(number_or_schedule: Any, count: jax.Array, like: jax.Array) -> jax.Array:
    """A number, or a schedule of the updates so far, in the dtype of `like`."""
    if callable(number_or_schedule):
        number_or_schedule = number_or_schedule(count)
    return jnp.asarray(number_or_schedule).astype(like.dtype)


def equalizing(
    shares: Any, weights: jax.Array, losses: jax.Array, *, on: jax.Array
) -> jax.Array:
    """The weights under which the losses have these shares of their total, Eq. 9.

        w_i = r_i L_tot / L_i,     L_tot = sum_j w_j L_j over the losses that are `on`

    A loss below the rounding of L_tot, 1.2e-7 of it in float32, has no ratio to it: a
    weight like 1e11 would be all that is left once that loss is no longer near 0. Its
    weight is infinite here, so it keeps the one that it has until L_tot can tell it.
    """
    total = jnp.sum(weights * losses, where=on)
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


class Adam(NamedTuple):
    """Adam's constants; its moments start at 0."""

    b1: float
    b2: float
    eps: float

    def moments(
        self, g: jax.Array, m: jax.Array, v: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The moments after the gradient g."""
        b1, b2 = self.b1, self.b2
        return b1 * m + (1.0 - b1) * g, b2 * v + (1.0 - b2) * g**2

    def direction(self, m: jax.Array, v: jax.Array, updates: jax.Array) -> jax.Array:
        """mhat / (sqrt(vhat) + eps), bias-corrected for the updates of the moments."""
        mean = _bias_corrected(m, self.b1, updates)
        square = _bias_corrected(v, self.b2, updates)
        return mean / (jnp.sqrt(square) + self.eps)


def check_adam(learning_rate: Any, b1: Any, b2: Any, eps: Any) -> Adam:
    """Raises ValueError unless Adam's four constants obey their rules."""
    check_number("learning_rate", learning_rate, "at least 0", lambda x: x >= 0)
    check_number("b1", b1, "in [0, 1)", lambda x: 0 <= x < 1)
    check_number("b2", b2, "in [0, 1)", lambda x: 0 <= x < 1)
    check_number("eps", eps, "positive", lambda x: x > 0)
    return Adam(b1, b2, eps)


def _bias_corrected(moment: jax.Array, decay: Any, updates: jax.Array) -> jax.Array:
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
