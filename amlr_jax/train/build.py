"""Builds network, objective, rebalancer and optimizer from a config.

Functions below this module take named arguments instead of a config.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from amlr_jax import rebalance
from amlr_jax.config import check, trains_on_video
from amlr_jax.models import depth, precision
from amlr_jax.models.depth_network import DepthNetwork
from amlr_jax.runtime.errors import InputError
from amlr_jax.runtime.rules import AUTO
from amlr_jax.train import freezing, optimizer
from amlr_jax.train.objectives import (
    depth_from_flow,
    optical_flow,
    self_supervised,
    supervised,
)
from amlr_jax.train.objectives.objective import Objective
from amlr_jax.train.step import TrainState, initial_state, with_average

OBJECTIVES = {
    "supervised": supervised.objective,
    "self_supervised": self_supervised.objective,
    "optical_flow": optical_flow.objective,
    "depth_from_flow": depth_from_flow.objective,
}
# Options of each schedule, all keys of `config.optimizer`.
SCHEDULES: dict[str, tuple[Callable[..., optax.Schedule], tuple[str, ...]]] = {
    "polynomial": (optimizer.polynomial, ("start", "peak", "power", "peak_at")),
    "step_decay": (optimizer.step_decay, ("peak", "drop_at", "drop")),
}
ADAMW = ("b1", "b2", "weight_decay", "clip_norm")  # keys of `config.optimizer`
ADAM = ("b1", "b2", "eps")  # and of `config.rebalance`


class Components(NamedTuple):
    """The functions that a run consists of."""

    network: DepthNetwork
    objective: Objective
    rebalancer: optax.GradientTransformationExtraArgs
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule


def components(config: ConfigDict) -> Components:
    """Network, objective, rebalancer and optimizer; InputError for a bad value."""
    check(config)
    try:
        network = depth.network(**dict(config.model))
        metric = config.data.stereo or not trains_on_video(config)
        network = network.clone(metric=metric)
        rate = schedule(config)
        objective = OBJECTIVES[config.objective](config, network)
        options = {key: config.optimizer[key] for key in ADAMW}
        made = Components(
            network=network,
            objective=objective,
            rebalancer=_rebalancer(config.rebalance, objective.loss_names),
            optimizer=optimizer.adamw(
                rate,
                layer_scale=depth.layer_scale(network, config.optimizer.layer_decay),
                has_weight_decay=depth.has_weight_decay,
                **options,
            ),
            schedule=rate,
        )
        patterns = config.optimizer.freeze
        return _with_frozen(made, patterns) if patterns else made
    except (TypeError, ValueError) as error:
        raise InputError(f"config: {error}") from error


def _with_frozen(made: Components, patterns: Sequence[str]) -> Components:
    """The same, training only the parameters that no pattern matches."""
    initial = made.objective.initial_variables
    shapes = jax.eval_shape(initial, jax.random.key(0))["params"]
    frozen = freezing.frozen(shapes, patterns)
    losses = freezing.without_gradient(made.objective.losses, frozen)
    return made._replace(
        objective=made.objective._replace(losses=losses),
        optimizer=optimizer.freezing(made.optimizer, frozen),
    )


def with_precision(config: ConfigDict, saved: dict | None) -> ConfigDict:
    """A copy of the config in which `model.dtype` and `model.attention` are chosen.

    "auto" is what the run of the config `saved` has, which goes on, and else the best
    of this device (`models.precision`). InputError for what it cannot compute with.
    """
    config = config.copy_and_resolve_references()
    model, old = config.model, (saved or {}).get("model") or {}
    asked = {key: model[key] for key in precision.Precision._fields}
    for key, value in asked.items():
        if value == AUTO:
            asked[key] = old.get(key)
    try:
        chosen = depth.chosen_precision(model.name, **asked)
    except ValueError as error:
        raise InputError(f"config: {error}") from error
    model.dtype, model.attention = precision.check(chosen)
    return config


def memory_remedy(config: ConfigDict) -> str:
    """The keys to change where a step does not fit into memory."""
    keys = [f"lower batch_size ({config.batch_size})"]
    keys.append(f"raise optimizer.accumulate ({config.optimizer.accumulate})")
    if not config.model.remat:
        keys.append("set model.remat=True")
    if config.model.dtype == "float32":
        keys.append("set model.dtype=bfloat16")
    return ", ".join(keys[:-1]) + f" or {keys[-1]}"


def state_before_training(config: ConfigDict, made: Components) -> TrainState:
    """The state before the first step, a function of `config.seed` alone.

    The network's values are of XLA's generator, which compiles in half of the time of
    JAX's own; the run's draws are of JAX's own.
    """
    network_key = jax.random.key(config.seed, impl="rbg")
    state = initial_state(
        made.objective.initial_variables(network_key),
        optimizer=made.optimizer,
        rebalancer=made.rebalancer,
        loss_weights=_initial_weights(config.rebalance, made.objective.loss_names),
        key=jax.random.key(config.seed),
    )
    return with_average(state) if config.optimizer.ema else state


def schedule(config: ConfigDict) -> optax.Schedule:
    """The learning rate of a step, given the number of steps before it."""
    options = config.optimizer
    make, names = SCHEDULES[options.schedule]
    begin, end = options.span or (0, config.steps)
    made = make(end - begin, **{name: options[name] for name in names})
    made = optimizer.warmed_up(made, options.warmup)
    return lambda count: made(jnp.clip(count - begin, 0, end - begin - 1))


def _initial_weights(config: ConfigDict, names: Sequence[str]) -> dict[str, jax.Array]:
    """Weights of step 0: equal, except those that the config gives."""
    given = dict(config.held)
    if config.rule == "fixed":
        given = {**config.weights, **given}
    free = [name for name in names if name not in given]
    weights = rebalance.equal_weights(free) if free else {}
    return weights | {n: jnp.float32(given[n]) for n in names if n in given}


def _rebalancer(
    config: ConfigDict, names: Sequence[str]
) -> optax.GradientTransformationExtraArgs:
    """The rule of `config`; the weights in `config.held` are constant."""
    held = dict(config.held)
    unknown = sorted(set(held) - set(names))
    if unknown or set(held) == set(names):
        raise InputError(
            f"rebalance.held must name some of the losses {', '.join(names)}, got "
            f"{', '.join(held)}"
        )
    rule = _rule(config, [name for name in names if name not in held])
    return rebalance.hold_loss_weights(rule, held) if held else rule


def _rule(
    config: ConfigDict, names: list[str]
) -> optax.GradientTransformationExtraArgs:
    if config.rule == "fixed" and config.weights:
        weights = _of_each("weights", config.weights, names)
        shares = dict.fromkeys(names, 1 / len(names))
    else:
        weights = shares = _shares(config, names)
    rate, adam = config.learning_rate, {name: config[name] for name in ADAM}
    rules: dict[str, Callable] = {
        "amlr": lambda: rebalance.amlr(rate, shares=shares, **adam),
        "log_amlr": lambda: rebalance.log_amlr(rate, shares=shares, **adam),
        "fixed": lambda: rebalance.fixed(weights),
        "uncertainty": lambda: rebalance.uncertainty(rate, **adam),
        "imtl_l": lambda: rebalance.imtl_l(rate, **adam),
        "famo": lambda: rebalance.famo(rate),
        "grad_norm": lambda: rebalance.grad_norm(rate, **adam),
    }
    rule = rules.get(config.rule, getattr(rebalance, config.rule))()
    if config.every_k_steps == 1:
        return rule
    return rebalance.every_k_steps(rule, config.every_k_steps)


def _shares(config: ConfigDict, names: list[str]) -> dict[str, float]:
    shares = _of_each("shares", config.shares, names)
    total = sum(shares.values())
    if total <= 0:
        raise InputError(f"rebalance.shares must have a positive sum, got {shares}")
    return {name: share / total for name, share in shares.items()}


def _of_each(key: str, given: Mapping[str, float], names: list[str]) -> dict:
    """The numbers of `rebalance.<key>` for the losses `names`."""
    found = {name: given[name] for name in names if name in given}
    if set(found) != set(names):
        raise InputError(
            f"rebalance.{key} must name each loss ({', '.join(sorted(names))}), "
            f"got {', '.join(sorted(given))}"
        )
    return found
