"""A network of two layers, trained as the real ones: small, exact, quick."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from amlr_jax import rebalance
from amlr_jax.train.objectives import supervised as objectives
from amlr_jax.train.step import TrainState, initial_state, with_average

NAMES = ("silog", "gradient")


class Toy(nn.Module):
    """Convolution, batch norm, dropout of samples, convolution: depth in (0, 80)."""

    @nn.compact
    def __call__(self, image, *, train: bool):
        # A bias before batch norm has no gradient but rounding, which Adam enlarges.
        x = nn.Conv(8, (3, 3), use_bias=False)(image)
        x = nn.silu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        if train:
            key = self.make_rng("drop_path")
            keep = jax.random.bernoulli(key, 0.8, (len(x), 1, 1, 1))
            x = jnp.where(keep, x / 0.8, 0.0)
        return 80.0 * nn.sigmoid(nn.Conv(1, (3, 3))(x))[..., 0]


def pieces(rule=None, **overrides) -> dict:
    """Keyword arguments of `train_step`."""
    schedule = optax.constant_schedule(1e-2)
    rule = rebalance.log_amlr(1e-2) if rule is None else rule
    made = {
        "objective": objectives.supervised(Toy(), {name: {} for name in NAMES}),
        "rebalancer": rule,
        "optimizer": optax.adam(schedule),
        "schedule": schedule,
    }
    return made | overrides


def initial(made: dict) -> TrainState:
    init = jax.jit(partial(Toy().init, train=False))
    variables = init({"params": jax.random.key(0)}, jnp.zeros((1, 8, 8, 3)))
    state = initial_state(
        variables,
        optimizer=made["optimizer"],
        rebalancer=made["rebalancer"],
        loss_weights=rebalance.equal_weights(NAMES),
        key=jax.random.key(1),
    )
    return with_average(state) if made.get("ema") else state


def batches(count: int, *, size: int = 4) -> list[dict[str, np.ndarray]]:
    """Random images with sparse depth; the valid share differs between the samples."""
    rng = np.random.default_rng(0)
    out = []
    for _ in range(count):
        share = rng.uniform(0.05, 0.9, (size, 1, 1))
        depth = np.where(
            rng.random((size, 16, 24)) < share, rng.uniform(1, 80, (size, 16, 24)), 0
        )
        image = rng.integers(0, 256, (size, 16, 24, 3), np.uint8)
        out.append({"image": image, "depth": depth.astype(np.float32)})
    return out
