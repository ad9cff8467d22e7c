"""From a config to the pieces of a run. Below this, functions take named arguments."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from amlr_jax import rebalance
from amlr_jax.models import depth
from amlr_jax.models.pose import PoseNetwork
from amlr_jax.runtime.errors import InputError
from amlr_jax.train import optimizer, state
from amlr_jax.train.objectives import self_supervised
from amlr_jax.train.objectives import supervised as objectives

ADAM = ("b1", "b2", "eps")
# Options of each schedule, all keys of `config.optimizer`.
SCHEDULES = {
    "up_and_down": (optimizer.up_and_down, ("start", "peak", "power", "peak_at")),
    "step": (optimizer.step, ("peak", "drop_at", "drop", "warmup")),
}
ERROR = {"monodepth2": ("ssim_weight",), "ssim_a": ()}
ERROR["ssim_m"] = ("ssim_weight", "alpha", "beta", "gamma")


class Pieces(NamedTuple):
    """The functions that a run is made of."""

    network: nn.Module
    objective: Callable
    rebalancer: optax.GradientTransformationExtraArgs
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule


def pieces(config) -> Pieces:
    """Network, objective, rebalancer and optimizer; InputError for a bad value."""
    try:
        network = depth.network(**_model_options(config.model))
        schedule = _schedule(config)
        return Pieces(
            network=network,
            objective=_objective(config, network),
            rebalancer=_rebalancer(config.rebalance, loss_names(config)),
            optimizer=_optimizer(config.optimizer, schedule, network),
            schedule=schedule,
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"config: {error}") from error


def loss_names(config) -> tuple[str, ...]:
    """The losses of the objective that a config names."""
    if config.objective == "supervised":
        return tuple(config.losses)
    return self_supervised.loss_names(config.selfsup.kind)


def initial_state(config, made: Pieces) -> state.TrainState:
    """The state before the first step, a function of `config.seed` alone."""
    network_key, run_key = jax.random.split(jax.random.key(config.seed))
    return state.create(
        _initial_variables(config, made.network, network_key),
        optimizer=made.optimizer,
        rebalancer=made.rebalancer,
        loss_weights=_initial_weights(config),
        key=run_key,
    )


def _initial_variables(config, network: nn.Module, key: jax.Array) -> dict:
    if config.objective == "supervised":
        image = jnp.zeros((1, *config.data.crop, 3), jnp.float32)
        return network.init({"params": key}, image, train=False)
    return self_supervised.initial_variables(network, _pose(config), key)


def _initial_weights(config) -> dict[str, jax.Array]:
    """Equal, but for weights that are known: an objective may choose by them."""
    options = config.rebalance
    known = dict(options.held)
    if options.rule == "fixed":
        known = {**options.weights, **known}
    names = loss_names(config)
    moved = [name for name in names if name not in known]
    start = rebalance.equal_weights(moved) if moved else {}
    return start | {n: jnp.float32(known[n]) for n in names if n in known}


def _objective(config, network: nn.Module) -> Callable:
    if config.objective == "supervised":
        return objectives.supervised(network, _plain(config.losses))
    options, data = config.selfsup, config.data
    self_supervised.loss_names(options.kind)
    return self_supervised.self_supervised(
        network,
        _pose(config),
        kind=options.kind,
        error={name: options[name] for name in ERROR[options.kind]},
        offsets=tuple(data.offsets),
        stereo=data.stereo,
        automask=options.automask,
        average=options.average,
        scales=options.scales,
    )


def _pose(config) -> PoseNetwork | None:
    if not config.selfsup.neighbours:
        return None
    return PoseNetwork(dtype=depth.DTYPES[config.model.dtype])


def _rebalancer(config, names) -> optax.GradientTransformationExtraArgs:
    """The rule of the losses, but for those whose weights are held."""
    held = dict(config.held)
    unknown = sorted(set(held) - set(names))
    if unknown or set(held) == set(names):
        raise InputError(
            f"rebalance.held must name some of the losses {', '.join(names)}, got "
            f"{', '.join(held)}"
        )
    rule = _rule(config, [name for name in names if name not in held])
    return rebalance.hold_loss_weights(held, rule) if held else rule


def _rule(config, names: list[str]) -> optax.GradientTransformationExtraArgs:
    if config.rule == "fixed" and config.weights:
        weights = _of_each("weights", config.weights, names)
        shares = dict.fromkeys(names, 1 / len(names))
    else:
        weights = shares = _shares(config, names)
    rate, adam = config.learning_rate, {name: config[name] for name in ADAM}
    rules = {
        "amlr": lambda: rebalance.amlr(rate, shares=shares, **adam),
        "log_amlr": lambda: rebalance.log_amlr(rate, shares=shares, **adam),
        "lee_kim": rebalance.lee_kim,
        "fixed": lambda: rebalance.fixed(weights),
        "dwa": rebalance.dwa,
        "softadapt": rebalance.softadapt,
        "uncertainty": lambda: rebalance.uncertainty(rate, **adam),
        "famo": lambda: rebalance.famo(rate),
    }
    if config.rule not in rules:
        known = ", ".join(rules)
        raise InputError(f"rebalance.rule must be one of {known}; got '{config.rule}'")
    rule = rules[config.rule]()
    if config.every_k_steps == 1:
        return rule
    return rebalance.every_k_steps(config.every_k_steps, rule)


def _shares(config, names: list[str]) -> dict[str, float]:
    shares = _of_each("shares", config.shares, names)
    total = sum(shares.values())
    if total <= 0:
        raise InputError(f"rebalance.shares must have a positive sum, got {shares}")
    return {name: share / total for name, share in shares.items()}


def _of_each(key: str, given, names: list[str]) -> dict[str, float]:
    """The numbers of `rebalance.<key>` for the losses `names`."""
    found = {name: given[name] for name in names if name in given}
    if set(found) != set(names):
        raise InputError(
            f"rebalance.{key} must name each loss ({', '.join(sorted(names))}), "
            f"got {', '.join(sorted(given))}"
        )
    return found


def _schedule(config) -> optax.Schedule:
    options = config.optimizer
    if options.schedule not in SCHEDULES:
        known = ", ".join(SCHEDULES)
        raise InputError(
            f"optimizer.schedule must be one of {known}; got '{options.schedule}'"
        )
    make, names = SCHEDULES[options.schedule]
    return make(config.steps, **{name: options[name] for name in names})


def _optimizer(config, schedule, network) -> optax.GradientTransformation:
    return optimizer.adamw(
        schedule,
        layer_scale=depth.layer_scale(network, config.layer_decay),
        has_weight_decay=depth.has_weight_decay,
        b1=config.b1,
        b2=config.b2,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
    )


def _model_options(config) -> dict:
    options = dict(config)
    if options["decoder_init"] not in (None, "he"):
        options["decoder_init"] = float(options["decoder_init"])
    return options


def _plain(config) -> dict[str, dict]:
    return {name: dict(options) for name, options in config.items()}
