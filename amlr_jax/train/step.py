"""The training state and the step: a pure function of state and batch."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from amlr_jax import rebalance
from amlr_jax.rebalance.gradients import each_gradient
from amlr_jax.rebalance.vector_rule import GRAM, NORMS
from amlr_jax.runtime import mesh as meshes
from amlr_jax.train.flops import RECOMPUTED
from amlr_jax.train.objectives.objective import COUNTS
from amlr_jax.train.optimizer import moving_average

# (params, batch_stats, batch, key, loss_weights) -> (losses, batch_stats)
LossFunction = Callable


class Skipped(NamedTuple):
    """Counts of skipped steps: a loss or gradient was not finite, nothing changed."""

    total: jax.Array  # shape=(), int32. Since the first step.
    in_a_row: jax.Array  # shape=(), int32. Up to the last step; 0 if it was taken.


class TrainState(NamedTuple):
    """The whole state of training, a tree of arrays."""

    step: jax.Array  # shape=(), int32. Batches consumed: steps taken and skipped.
    params: Any  # float32 arrays of the network.
    batch_stats: Any  # float32 running mean and variance of batch norm.
    opt_state: Any
    loss_weights: dict[str, jax.Array]  # float32 scalars, by the name of the loss.
    rebalance_state: Any
    skipped: Skipped
    key: jax.Array  # shape=(), typed PRNG key; folded with `step` for each step.
    # {"params", "batch_stats"}: their moving averages; None without optimizer.ema
    average: Any = None


def initial_state(variables, *, optimizer, rebalancer, loss_weights, key) -> TrainState:
    """The state before the first step, from a network's initial variables."""
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        loss_weights=loss_weights,
        rebalance_state=rebalancer.init(loss_weights),
        skipped=Skipped(*(jnp.zeros((), jnp.int32) for _ in Skipped._fields)),
        key=key,
    )


def with_average(state: TrainState) -> TrainState:
    """The state whose averages begin with its parameters and batch statistics."""
    return state._replace(average=jax.tree.map(jnp.copy, _variables(state)))


def evaluated(state: TrainState) -> dict:
    """The {"params", "batch_stats"} to evaluate: the averages, where there are any."""
    return state.average or _variables(state)


def _variables(state: TrainState) -> dict:
    return {"params": state.params, "batch_stats": state.batch_stats}


class _Measured(NamedTuple):
    """Losses and gradients of a batch, before the step is taken or skipped."""

    losses: dict[str, jax.Array]
    loss_weights: dict[str, jax.Array]  # of this step
    rebalance_state: Any
    batch_stats: Any
    gradients: Any  # of the losses weighted by `loss_weights`


def train_step(
    state: TrainState,
    batch: dict[str, jax.Array],
    *,
    objective: LossFunction,
    rebalancer: optax.GradientTransformationExtraArgs,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    accumulate: int = 1,
    ema: float = 0.0,
) -> tuple[TrainState, dict]:
    """Computes losses, their weights and total, and takes one optimizer step.

    The step is skipped if a loss, the total, the norm of the gradient or a new batch
    statistic is not finite: parameters, batch statistics, loss weights and the states
    of optimizer and rebalancer do not change (bitwise), and `step` counts the batch.
    The decision is made on the device. `schedule` counts the steps taken, as the
    optimizer does.

    A rebalancer may read the gradient of each loss. They share the forward pass of the
    step and cost a backward pass each, where the rule updates: under `every_k_steps` in
    one step of k.

    `accumulate` > 1 splits the batch into that many parts, which run sequentially with
    separate batch statistics and random numbers; each part updates the running
    statistics in turn. A loss is the mean over the parts. For a mean over valid
    pixels this differs from the mean over the pixels of the batch: each part has the
    same weight. The loss weights of a step depend on its losses (AMLR, Eq. 9), so a
    first pass computes the losses of all parts and a second one differentiates them.

    `ema` > 0 is the decay of the moving averages of parameters and batch statistics
    (`optimizer.moving_average`), of a state `with_average`. A skipped step does not
    count.

    Metrics: `total`, `losses` and `weights` by name, `learning_rate`, `grad_norm`;
    `skipped` and `skipped_in_a_row`; `skipped_updates` of the loss weights; `samples`
    int32 [B], if the batch has `index`; the objective's `COUNTS`.
    Those of a skipped step are reported unchanged, so some are not finite.
    """
    key = jax.random.fold_in(state.key, state.step)
    measure: Callable = _measure
    if accumulate > 1:
        measure = partial(_measure_in_parts, parts=accumulate)
    measured = measure(state, batch, key, objective=objective, rebalancer=rebalancer)
    total = rebalance.weighted_total(measured.losses, measured.loss_weights)
    grad_norm = optax.tree.norm(measured.gradients)
    decisive = measured.losses, total, grad_norm, measured.batch_stats
    finite = jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(decisive)]).all()
    updates, opt_state = optimizer.update(
        measured.gradients, state.opt_state, state.params
    )
    proposed = state._replace(
        params=optax.apply_updates(state.params, updates),
        batch_stats=measured.batch_stats,
        opt_state=opt_state,
        loss_weights=measured.loss_weights,
        rebalance_state=measured.rebalance_state,
    )
    taken = state.step - state.skipped.total
    if ema:
        average = moving_average(
            state.average, _variables(proposed), decay=ema, count=taken + 1
        )
        proposed = proposed._replace(average=average)
    # A select fuses with the update, while lax.cond would wait for the norm.
    new = jax.tree.map(partial(jnp.where, finite), proposed, state)
    in_a_row = jnp.where(finite, 0, state.skipped.in_a_row + 1)
    skipped = Skipped(state.skipped.total + ~finite, in_a_row)
    new = new._replace(step=state.step + 1, skipped=skipped)
    metrics = {
        "total": total,
        "losses": measured.losses,
        "weights": measured.loss_weights,
        "learning_rate": schedule(taken),
        "grad_norm": grad_norm,
        "skipped": new.skipped.total,
        "skipped_in_a_row": new.skipped.in_a_row,
        "skipped_updates": rebalance.skipped_updates(new.rebalance_state),
    }
    samples = {"samples": batch["index"]} if "index" in batch else {}
    return new, metrics | samples | dict(new.batch_stats.get(COUNTS, {}))


def _measure(state, batch, key, *, objective, rebalancer) -> _Measured:
    """Losses, weights and gradient of the batch in one forward pass."""

    def losses_of(params):
        return objective(params, state.batch_stats, batch, key, state.loss_weights)

    losses, backward, batch_stats = jax.vjp(losses_of, state.params, has_aux=True)

    def gradients():
        each = each_gradient(losses, lambda one: backward(one)[0])
        return rebalance.LossGradients(losses, each)

    weights, rebalance_state = _rebalanced(rebalancer, state, losses, gradients)
    to_losses = jax.grad(rebalance.weighted_total)(losses, weights)
    total = backward(to_losses)[0]
    return _Measured(losses, weights, rebalance_state, batch_stats, total)


def _measure_in_parts(
    state, batch, key, *, objective, rebalancer, parts: int
) -> _Measured:
    """As `_measure`, with means over parts of the batch, in two passes."""

    def losses_of_part(params, batch_stats, part):
        part_key = jax.random.fold_in(key, part)
        of_part = meshes.part_of_batch(batch, part, parts=parts)
        return objective(params, batch_stats, of_part, part_key, state.loss_weights)

    def losses_of(batch_stats, part):
        losses, batch_stats = losses_of_part(state.params, batch_stats, part)
        return batch_stats, losses

    def add_gradient(carry, part):
        batch_stats, summed = carry

        def weighted(params):
            losses, new = losses_of_part(params, batch_stats, part)
            return rebalance.weighted_total(losses, weights), new

        gradients, batch_stats = jax.grad(weighted, has_aux=True)(state.params)
        return (batch_stats, jax.tree.map(jnp.add, summed, gradients)), None

    def gradients():
        def add(carry, part):
            batch_stats, summed = carry
            losses_of = partial(losses_of_part, batch_stats=batch_stats, part=part)
            losses, backward, new = jax.vjp(losses_of, state.params, has_aux=True)
            each = each_gradient(losses, lambda one: backward(one)[0])
            return (new, jax.tree.map(jnp.add, summed, each)), None

        count = len(losses)
        zeros = jax.tree.map(lambda p: jnp.zeros((count, *p.shape), p.dtype), start[1])
        (_, summed), _ = jax.lax.scan(add, (start[0], zeros), order)
        return rebalance.LossGradients(
            losses, jax.tree.map(lambda g: g / parts, summed)
        )

    order = jnp.arange(parts)
    with jax.named_scope(RECOMPUTED):
        _, each = jax.lax.scan(losses_of, state.batch_stats, order)
    losses = jax.tree.map(lambda loss: loss.mean(0), each)
    start = (state.batch_stats, jax.tree.map(jnp.zeros_like, state.params))
    weights, rebalance_state = _rebalanced(rebalancer, state, losses, gradients)
    (batch_stats, summed), _ = jax.lax.scan(add_gradient, start, order)
    gradients = jax.tree.map(lambda gradient: gradient / parts, summed)
    return _Measured(losses, weights, rebalance_state, batch_stats, gradients)


def _rebalanced(
    rebalancer, state: TrainState, losses: dict, gradients: Callable
) -> tuple[dict, Any]:
    """The weights of this step, and the rebalancer's state after it.

    A rule by gradients calls `gradients`, which computes `rebalance.LossGradients`.
    """

    def of_gradients(what: str) -> Any:
        with jax.named_scope(RECOMPUTED):
            return getattr(gradients(), what)

    extra = {NORMS: partial(of_gradients, "norms"), GRAM: partial(of_gradients, "gram")}
    return rebalancer.update(
        state.loss_weights,
        state.rebalance_state,
        losses=jax.lax.stop_gradient(losses),
        **extra,
    )


def compile_step(mesh: Mesh, *, state_sharding: Any = None, **pieces) -> Any:
    """`train_step` jitted over `mesh`: the batch is split, the state is donated.

    `state_sharding` comes from `runtime.mesh.state_sharding`; None: replicated.
    """
    replicated, split = meshes.replicated(mesh), meshes.over_batch(mesh)
    if state_sharding is None:
        state_sharding = replicated
    else:
        pieces["objective"] = _gathering(pieces["objective"], state_sharding.params)
    return jax.jit(
        partial(train_step, **pieces),
        in_shardings=(state_sharding, split),
        out_shardings=(state_sharding, replicated),
        donate_argnums=0,
    )


def _gathering(objective: LossFunction, shardings: Any) -> LossFunction:
    """A loss function that gathers sharded parameters before `objective`."""

    def gathering(params, *rest):
        return objective(meshes.gather_in_step(params, shardings), *rest)

    return gathering
