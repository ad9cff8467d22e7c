"""The step: one pure function from state and batch to state and metrics."""

from collections.abc import Callable
from functools import partial

import jax
import optax
from jax.sharding import Mesh

from amlr_jax import parallel, rebalance
from amlr_jax.training.state import TrainState


def train_step(
    state: TrainState,
    batch: dict[str, jax.Array],
    *,
    objective: Callable,
    rebalancer: optax.GradientTransformationExtraArgs,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
) -> tuple[TrainState, dict]:
    """Losses, the loss weights of this step, their total, and one optimizer step.

    Metrics: `total`, `losses` and `weights` by name, `learning_rate`, `grad_norm`.
    """
    key = jax.random.fold_in(state.key, state.step)

    def weighted(params):
        losses, batch_stats = objective(
            params, state.batch_stats, batch, key, state.loss_weights
        )
        loss_weights, rebalance_state = rebalancer.update(
            state.loss_weights,
            state.rebalance_state,
            losses=jax.lax.stop_gradient(losses),
        )
        total = rebalance.weighted_total(losses, loss_weights)
        return total, (losses, loss_weights, rebalance_state, batch_stats)

    (total, aux), gradients = jax.value_and_grad(weighted, has_aux=True)(state.params)
    losses, loss_weights, rebalance_state, batch_stats = aux
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    metrics = {
        "total": total,
        "losses": losses,
        "weights": loss_weights,
        "learning_rate": schedule(state.step),
        "grad_norm": optax.tree.norm(gradients),
    }
    new_state = TrainState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
        loss_weights=loss_weights,
        rebalance_state=rebalance_state,
        key=state.key,
    )
    return new_state, metrics


def compile_step(mesh: Mesh, **pieces) -> Callable:
    """`train_step` jitted over `mesh`: batch split, state whole and donated."""
    whole, split = parallel.replicated(mesh), parallel.over_batch(mesh)
    return jax.jit(
        partial(train_step, **pieces),
        in_shardings=(whole, split),
        out_shardings=(whole, whole),
        donate_argnums=0,
    )
