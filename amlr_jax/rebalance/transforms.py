"""Loss weights as optax transformations: conventions, total, clip and timestep.

Losses and loss weights are trees of scalars with the same names: flat or nested dicts,
tuples, NamedTuples. The order of the keys of a dict never matters. Loss weights take
the role of gradients in optax: they are the input and output of each transformation in
an `optax.chain`. The unweighted losses of a step are the keyword-only extra argument
`losses`:

    state = rule.init(loss_weights)
    loss_weights, state = rule.update(loss_weights, state, losses=losses)

Update before the weighted total of the same step: the new weights are those of this
step. Weights and state are float32, or float64 if the weights given to `init` are, for
every dtype of the losses; no gradient flows into either. Losses must be means over the
global batch.

A rule cannot be in `optax.MultiSteps`, whose updates between two windows are 0.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from amlr_jax.inputs import float_type
from amlr_jax.rebalance.loss_tree import (
    TINY,
    LossTree,
    by_path,
    check_number,
    check_start,
    common_names,
    is_zero,
    pack,
    unpack,
    zeros,
)


def equal_weights(names: Iterable[str] | LossTree) -> LossTree:
    """The weight 1/n for each of n losses, w^0 of Eq. 8, in JAX's default precision.

    Args:
      names: distinct names, for a flat dict; or a tree of losses, for a tree like it.

    Raises:
      ValueError: no loss, or a name twice.

    >>> {name: float(weight) for name, weight in equal_weights(["a", "b"]).items()}
    {'a': 0.5, 'b': 0.5}
    >>> jax.tree.map(float, equal_weights({"depth": (3.0, 1.0)}))
    {'depth': (0.5, 0.5)}
    """
    if jax.tree_util.all_leaves([names]):
        names = list(names)  # a set, the keys of a dict, a generator
    found = jax.tree.leaves(names)
    if found and all(isinstance(name, str) for name in found):
        names = dict.fromkeys(found, 0.0)
    if len(found) != len(jax.tree.leaves(names)) or not found:
        raise ValueError(f"`names` must be distinct and at least one, got {found}.")
    return jax.tree.map(lambda _: jnp.asarray(1 / len(found), float), names)


def weighted_total(losses: LossTree, loss_weights: LossTree) -> jax.Array:
    """The total loss, Eq. 4: L_tot = sum_i w_i L_i.

    No gradient flows into the weights. A loss of weight exactly 0 adds 0 to the value
    even where it is infinite or NaN; any other non-finite term makes the total
    non-finite. A 0 that is known when the function is traced (a number, or an array
    that is not traced, as `fixed` and `hold_loss_weights` return) takes the loss out of
    the computation, so its gradient is 0 too. Of a traced 0 that holds in forward mode
    (`jax.jvp`); in reverse mode its gradient is 0 times the loss's derivatives, which
    is NaN where one of these is infinite or NaN, so make such a weight a constant.

    Args:
      losses: a tree of scalars of any floating dtype, unweighted.
      loss_weights: a tree with the same names.

    Returns:
      Scalar, float64 if a loss is that, else float32.

    Raises:
      TypeError: a leaf is no number.
      ValueError: the names differ, or a leaf is no scalar.

    >>> float(weighted_total({"a": 2.0, "b": 4.0}, {"b": 0.25, "a": 0.5}))
    2.0
    """
    common_names(losses=losses, loss_weights=loss_weights)
    weights = by_path("loss_weights", loss_weights)
    on = [name for name in by_path("losses", losses) if not is_zero(weights[name])]
    dtype = float_type(*jax.tree.leaves(losses))
    if not on:
        return jnp.zeros((), dtype)
    w = jax.lax.stop_gradient(pack(loss_weights, on, dtype))
    return jnp.sum(w * jnp.where(w != 0, pack(losses, on, dtype), 0.0))


def skipped_updates(state: Any) -> jax.Array:
    """How many updates the rules in a state have skipped so far, int32 scalar.

    The sum of the `skipped` of a rule, of what wraps it and of its chain. A number that
    grows with every step means a rule that does nothing: a loss is 0, negative or not
    finite for good.

    >>> rule = every_k_steps(clip_loss_weights(0.0, 1.0), 2)
    >>> weights = {"a": 3.0}
    >>> _, state = rule.update(weights, rule.init(weights), losses={"a": jnp.nan})
    >>> int(skipped_updates(state))
    1
    """
    found = optax.tree.get_all_with_path(state, "skipped")
    counts = [count for _, count in found if count.dtype == jnp.int32]  # no loss's name
    return sum(counts, jnp.zeros((), jnp.int32))


def clip_loss_weights(
    minimum: float, maximum: float
) -> optax.GradientTransformationExtraArgs:
    """Keeps every weight in [minimum, maximum].

    After a rule in a chain it also takes effect at the next step, because a rule
    starts from the input weights.

    Raises:
      ValueError: not minimum <= maximum.

    >>> import optax
    >>> rule = optax.chain(clip_loss_weights(0.1, 1.0))
    >>> weights, _ = rule.update({"a": 3.0}, rule.init({"a": 3.0}), losses={"a": 1.0})
    >>> float(weights["a"])
    1.0
    """
    if not minimum <= maximum:
        raise ValueError(
            f"`minimum` must not exceed `maximum`, got {minimum} and {maximum}."
        )
    return _stateless(lambda weights: jnp.clip(weights, minimum, maximum))


def normalize_loss_weights(
    total: float = 1.0,
) -> optax.GradientTransformationExtraArgs:
    """Scales the weights so that they sum to `total`: w_i * total / sum_j w_j.

    Ratios do not change. Weights whose sum is not positive, which only the paper's rule
    can produce, are returned unchanged.

    Raises:
      ValueError: `total` is not positive and finite.

    >>> rule = normalize_loss_weights(3.0)
    >>> weights = {"a": 1.0, "b": 3.0}
    >>> weights, _ = rule.update(weights, rule.init(weights))
    >>> float(weights["a"]), float(weights["b"])
    (0.75, 2.25)
    """
    check_number("total", total, "positive", lambda x: x > 0)

    def normalize(weights: jax.Array) -> jax.Array:
        summed = jnp.sum(weights)
        positive = summed > TINY
        return jnp.where(
            positive, weights * (total / jnp.where(positive, summed, 1.0)), weights
        )

    return _stateless(normalize)


class EveryKStepsState(NamedTuple):
    """State of `every_k_steps`."""

    # shape=(), dtype=int32. Finite steps in the open window, < k.
    count: jax.Array  # type: ignore[assignment]
    mean: LossTree  # Scalars. Mean loss over those steps, 0 when none.
    inner: Any  # State of the inner rule, which counts the windows it skipped.
    skipped: jax.Array  # shape=(), dtype=int32. Steps in no window: a loss not finite.


def every_k_steps(
    inner: optax.GradientTransformation, k: int
) -> optax.GradientTransformationExtraArgs:
    """Updates `inner` once per window of k steps, with the mean losses of the window.

    k sets the timestep of a rule: a batch (k = 1), a quarter of an epoch or an epoch.
    Within a window the weights do not change; at the k-th step the window closes, and
    that step already uses the new weights. A step with a
    non-finite loss does not count, so a window is always k finite steps. The open
    window is in the state: a run restored in the middle of one continues exactly.

    Args:
      inner: the rule, or a chain of rule and clips.
      k: window length in steps, >= 1.

    Raises:
      ValueError: k is not an integer >= 1.

    >>> rule = every_k_steps(clip_loss_weights(0.0, 1.0), 2)
    >>> weights = {"a": 3.0}
    >>> state = rule.init(weights)
    >>> for loss in (5.0, 7.0):
    ...     weights, state = rule.update(weights, state, losses={"a": loss})
    ...     print(float(weights["a"]))
    3.0
    1.0
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"`k` must be an integer of at least 1, got k = {k!r}.")
    inner = optax.with_extra_args_support(inner)

    def init_fn(loss_weights: LossTree) -> EveryKStepsState:
        check_start(loss_weights)
        return EveryKStepsState(
            count=jnp.zeros((), jnp.int32),
            mean=zeros(loss_weights),
            inner=inner.init(_detached(loss_weights)),
            skipped=jnp.zeros((), jnp.int32),
        )

    def update_fn(
        loss_weights: LossTree,
        state: EveryKStepsState,
        params: Any = None,
        *,
        losses: LossTree,
        **extra_args: Any,
    ) -> tuple[LossTree, EveryKStepsState]:
        names = common_names(loss_weights=loss_weights, state=state.mean, losses=losses)
        mean = pack(state.mean, names)
        now = jax.lax.stop_gradient(pack(losses, names, mean.dtype))
        finite = jnp.isfinite(now).all()
        count = state.count + finite.astype(jnp.int32)
        steps = jnp.maximum(count, 1).astype(mean.dtype)
        mean = jnp.where(finite, mean + (now - mean) / steps, mean)
        closes = count == k

        def close(weights: LossTree, inner_state: Any) -> tuple[LossTree, Any]:
            window = unpack(mean, names, losses)
            new, inner_state = inner.update(
                weights, inner_state, params, losses=window, **extra_args
            )
            return new, inner_state

        weights, inner_state = jax.lax.cond(
            closes,
            close,
            lambda *unchanged: unchanged,
            _detached(loss_weights),
            state.inner,
        )
        return weights, EveryKStepsState(
            count=jnp.where(closes, 0, count),
            mean=unpack(jnp.where(closes, 0.0, mean), names, state.mean),
            inner=inner_state,
            skipped=jnp.where(
                finite, state.skipped, optax.safe_increment(state.skipped)
            ),
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _detached(loss_weights: LossTree) -> LossTree:
    names = common_names(loss_weights=loss_weights)
    weights = jax.lax.stop_gradient(pack(loss_weights, names))
    return unpack(weights, names, loss_weights)


def _stateless(
    function: Callable[[jax.Array], jax.Array],
) -> optax.GradientTransformationExtraArgs:
    """A stateless transformation that maps the vector of weights."""

    def init_fn(loss_weights: LossTree) -> optax.EmptyState:
        check_start(loss_weights)
        return optax.EmptyState()

    def update_fn(
        loss_weights: LossTree,
        state: optax.EmptyState,
        params: Any = None,
        **extra_args: Any,
    ) -> tuple[LossTree, optax.EmptyState]:
        del params, extra_args
        names = common_names(loss_weights=loss_weights)
        weights = function(jax.lax.stop_gradient(pack(loss_weights, names)))
        return unpack(weights, names, loss_weights), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
