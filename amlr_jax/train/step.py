"""The step: one pure function from state and batch to state and metrics."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from amlr_jax import rebalance
from amlr_jax.runtime import mesh as parallel
from amlr_jax.train.state import Skipped, TrainState

# (params, batch_stats, batch, key, loss_weights) -> (losses, batch_stats)
Objective = Callable


class _Found(NamedTuple):
    """What a batch says, before it is decided whether the step is taken."""

    losses: dict[str, jax.Array]
    loss_weights: dict[str, jax.Array]  # of this step
    rebalance_state: Any
    batch_stats: Any
    gradients: Any  # of the losses weighted by `loss_weights`


def train_step(
    state: TrainState,
    batch: dict[str, jax.Array],
    *,
    objective: Objective,
    rebalancer: optax.GradientTransformationExtraArgs,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    accumulate: int = 1,
) -> tuple[TrainState, dict]:
    """Losses, the loss weights of this step, their total, and one optimizer step.

    The step is skipped if a loss, their total, the norm of the gradient or a new batch
    statistic is not finite: parameters, batch statistics, loss weights and the states
    of optimizer and rebalancer stay bit for bit, `step` goes on to the next batch.
    This is decided on the device. `schedule` counts the steps taken, as the optimizer.

    `accumulate` > 1 takes the batch in so many parts one after the other, each with
    batch statistics and random numbers of its own; the running statistics go from
    part to part. A loss is the mean over the parts. Where a loss is a mean over valid
    pixels this is not the mean over the pixels of the batch: every part counts the
    same. Loss weights of a step depend on its losses (AMLR, Eq. 9), so all
    parts are first measured and then differentiated: one forward pass more.

    Metrics: `total`, `losses` and `weights` by name, `learning_rate`, `grad_norm`;
    `skipped` and `skipped_in_a_row`; `samples` int32 [B], if the batch names its
    samples by `index`. Of a skipped step they are as measured, so not all finite.
    """
    key = jax.random.fold_in(state.key, state.step)
    find = _find if accumulate == 1 else partial(_find_in_parts, parts=accumulate)
    found = find(state, batch, key, objective=objective, rebalancer=rebalancer)
    total = rebalance.weighted_total(found.losses, found.loss_weights)
    grad_norm = optax.tree.norm(found.gradients)
    finite = _all_finite((found.losses, total, grad_norm, found.batch_stats))
    updates, opt_state = optimizer.update(
        found.gradients, state.opt_state, state.params
    )
    proposed = state._replace(
        params=optax.apply_updates(state.params, updates),
        batch_stats=found.batch_stats,
        opt_state=opt_state,
        loss_weights=found.loss_weights,
        rebalance_state=found.rebalance_state,
    )
    # Not lax.cond: a select is part of the update, a branch would wait for the norm.
    new = jax.tree.map(partial(jnp.where, finite), proposed, state)
    new = new._replace(step=state.step + 1, skipped=_counted(state.skipped, finite))
    metrics = {
        "total": total,
        "losses": found.losses,
        "weights": found.loss_weights,
        "learning_rate": schedule(state.step - state.skipped.total),
        "grad_norm": grad_norm,
        "skipped": new.skipped.total,
        "skipped_in_a_row": new.skipped.in_a_row,
    }
    samples = {"samples": batch["index"]} if "index" in batch else {}
    return new, metrics | samples


def _find(state, batch, key, *, objective, rebalancer) -> _Found:
    """Losses, weights and gradient of the whole batch in one pass."""

    def weighted(params):
        losses, batch_stats = objective(
            params, state.batch_stats, batch, key, state.loss_weights
        )
        weights, rebalance_state = _rebalanced(rebalancer, state, losses)
        total = rebalance.weighted_total(losses, weights)
        return total, (losses, weights, rebalance_state, batch_stats)

    gradients, aux = jax.grad(weighted, has_aux=True)(state.params)
    return _Found(*aux, gradients)


def _find_in_parts(state, batch, key, *, objective, rebalancer, parts: int) -> _Found:
    """The same as means over parts of the batch, in two passes."""

    def measure(params, batch_stats, part):
        part_key = jax.random.fold_in(key, part)
        of_part = parallel.part_of_batch(batch, part, parts=parts)
        return objective(params, batch_stats, of_part, part_key, state.loss_weights)

    def losses_of(batch_stats, part):
        losses, batch_stats = measure(state.params, batch_stats, part)
        return batch_stats, losses

    def add_gradient(carry, part):
        batch_stats, summed = carry

        def weighted(params):
            losses, new = measure(params, batch_stats, part)
            return rebalance.weighted_total(losses, weights), new

        gradients, batch_stats = jax.grad(weighted, has_aux=True)(state.params)
        return (batch_stats, jax.tree.map(jnp.add, summed, gradients)), None

    order = jnp.arange(parts)
    _, each = jax.lax.scan(losses_of, state.batch_stats, order)
    losses = jax.tree.map(lambda loss: loss.mean(0), each)
    weights, rebalance_state = _rebalanced(rebalancer, state, losses)
    start = (state.batch_stats, jax.tree.map(jnp.zeros_like, state.params))
    (batch_stats, summed), _ = jax.lax.scan(add_gradient, start, order)
    gradients = jax.tree.map(lambda gradient: gradient / parts, summed)
    return _Found(losses, weights, rebalance_state, batch_stats, gradients)


def _rebalanced(rebalancer, state: TrainState, losses: dict) -> tuple[dict, Any]:
    """The weights of this step, and the rebalancer's state after it."""
    return rebalancer.update(
        state.loss_weights, state.rebalance_state, losses=jax.lax.stop_gradient(losses)
    )


def _all_finite(tree) -> jax.Array:
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()


def _counted(skipped: Skipped, finite: jax.Array) -> Skipped:
    return Skipped(
        total=skipped.total + ~finite,
        in_a_row=jnp.where(finite, 0, skipped.in_a_row + 1),
    )


def compile_step(mesh: Mesh, *, state_sharding: Any = None, **pieces) -> Callable:
    """`train_step` jitted over `mesh`: batch split, state donated.

    The state lies as `state_sharding` says (`parallel.state_sharding`); None: whole on
    every device.
    """
    whole, split = parallel.replicated(mesh), parallel.over_batch(mesh)
    lies = whole
    if state_sharding is not None:
        lies = state_sharding
        pieces["objective"] = _of_split(pieces["objective"], state_sharding.params)
    return jax.jit(
        partial(train_step, **pieces),
        in_shardings=(lies, split),
        out_shardings=(lies, whole),
        donate_argnums=0,
    )


def _of_split(objective: Objective, shardings: Any) -> Objective:
    """The objective of parameters that lie split."""

    def of_split(params, *rest):
        return objective(parallel.whole_inside(params, shardings), *rest)

    return of_split
