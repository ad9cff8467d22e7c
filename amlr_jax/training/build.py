"""From a config to the pieces of a run. Below this, functions take named arguments."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from amlr_jax import rebalance
from amlr_jax.errors import InputError
from amlr_jax.models import depth
from amlr_jax.training import objectives, state
from amlr_jax.training.optimizer import adamw, up_and_down

ADAM = ("b1", "b2", "eps")


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
            objective=objectives.supervised(network, _plain(config.losses)),
            rebalancer=_rebalancer(config.rebalance, list(config.losses)),
            optimizer=_optimizer(config.optimizer, schedule, network),
            schedule=schedule,
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"config: {error}") from error


def initial_state(config, made: Pieces) -> state.TrainState:
    """The state before the first step, a function of `config.seed` alone."""
    network_key, run_key = jax.random.split(jax.random.key(config.seed))
    image = jnp.zeros((1, *config.data.crop, 3), jnp.float32)
    variables = made.network.init({"params": network_key}, image, train=False)
    return state.create(
        variables,
        optimizer=made.optimizer,
        rebalancer=made.rebalancer,
        loss_weights=rebalance.equal_weights(config.losses),
        key=run_key,
    )


def _rebalancer(config, names: list[str]) -> optax.GradientTransformationExtraArgs:
    shares = {name: config.shares[name] for name in names if name in config.shares}
    if set(shares) != set(names):
        raise InputError(
            f"rebalance.shares must name each loss ({', '.join(sorted(names))}), "
            f"got {', '.join(sorted(config.shares))}"
        )
    total = sum(shares.values())
    if total <= 0:
        raise InputError(f"rebalance.shares must have a positive sum, got {shares}")
    shares = {name: share / total for name, share in shares.items()}
    rate, adam = config.learning_rate, {name: config[name] for name in ADAM}
    rules = {
        "amlr": lambda: rebalance.amlr(rate, shares=shares, **adam),
        "log_amlr": lambda: rebalance.log_amlr(rate, shares=shares, **adam),
        "lee_kim": rebalance.lee_kim,
        "fixed": lambda: rebalance.fixed(shares),
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


def _schedule(config) -> optax.Schedule:
    options = config.optimizer
    return up_and_down(
        config.steps,
        start=options.start,
        peak=options.peak,
        power=options.power,
        peak_at=options.peak_at,
    )


def _optimizer(config, schedule, network) -> optax.GradientTransformation:
    return adamw(
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
