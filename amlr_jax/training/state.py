"""All that a run is: what the step takes, gives back and a checkpoint holds."""

from typing import Any, NamedTuple

import jax


class TrainState(NamedTuple):
    """The whole state of training, a tree of arrays."""

    step: jax.Array  # shape=(), int32. Optimizer steps taken.
    params: Any  # float32 arrays of the network.
    batch_stats: Any  # float32 running mean and variance of batch norm.
    opt_state: Any
    loss_weights: dict[str, jax.Array]  # float32 scalars, by the name of the loss.
    rebalance_state: Any
    key: jax.Array  # shape=(), typed PRNG key; folded with `step` for each step.


def create(variables, *, optimizer, rebalancer, loss_weights, key) -> TrainState:
    """The state before the first step, from a network's initial variables."""
    params = variables["params"]
    return TrainState(
        step=jax.numpy.zeros((), jax.numpy.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        loss_weights=loss_weights,
        rebalance_state=rebalancer.init(loss_weights),
        key=key,
    )
