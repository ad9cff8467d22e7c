"""All that a run is: what the step takes, gives back and a checkpoint holds."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Skipped(NamedTuple):
    """Steps that changed nothing, their losses or gradient being not finite."""

    total: jax.Array  # shape=(), int32. Since the first step.
    in_a_row: jax.Array  # shape=(), int32. Up to the last step, 0 if it was taken.


class TrainState(NamedTuple):
    """The whole state of training, a tree of arrays."""

    step: jax.Array  # shape=(), int32. Batches seen: steps taken and skipped.
    params: Any  # float32 arrays of the network.
    batch_stats: Any  # float32 running mean and variance of batch norm.
    opt_state: Any
    loss_weights: dict[str, jax.Array]  # float32 scalars, by the name of the loss.
    rebalance_state: Any
    skipped: Skipped
    key: jax.Array  # shape=(), typed PRNG key; folded with `step` for each step.


def create(variables, *, optimizer, rebalancer, loss_weights, key) -> TrainState:
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
