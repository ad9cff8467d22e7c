"""Loss weights as optax transformations; needs jax and optax and nothing else.

A rule updates the weights in the jitted step; `losses` is a dict of scalars by name:

    rule = every_k_steps(log_amlr(1e-2, shares={"silog": 0.99, "gradient": 0.01}), 500)
    loss_weights = equal_weights(["silog", "gradient"])
    state = rule.init(loss_weights)
    # in the jitted step:
    loss_weights, state = rule.update(loss_weights, state, losses=losses)
    total = weighted_total(losses, loss_weights)
"""

from amlr_jax.rebalance.amlr import AMLRState, amlr, log_amlr
from amlr_jax.rebalance.baselines import LeeKimState, fixed, lee_kim, lee_kim_strength
from amlr_jax.rebalance.gradient_norms import CountState, gradient_balance
from amlr_jax.rebalance.gradients import LossGradients, per_loss_gradients
from amlr_jax.rebalance.history import (
    HistoryState,
    RelobraloState,
    dwa,
    relobralo,
    softadapt,
)
from amlr_jax.rebalance.hold import hold_loss_weights
from amlr_jax.rebalance.learned import FAMOState, UncertaintyState, famo, uncertainty
from amlr_jax.rebalance.loss_tree import LossTree
from amlr_jax.rebalance.transforms import (
    EveryKStepsState,
    clip_loss_weights,
    equal_weights,
    every_k_steps,
    normalize_loss_weights,
    skipped_updates,
    weighted_total,
)

__all__ = (
    "CountState",
    "LossGradients",
    "gradient_balance",
    "per_loss_gradients",
    "AMLRState",
    "EveryKStepsState",
    "FAMOState",
    "HistoryState",
    "LeeKimState",
    "LossTree",
    "UncertaintyState",
    "amlr",
    "clip_loss_weights",
    "RelobraloState",
    "dwa",
    "equal_weights",
    "every_k_steps",
    "famo",
    "fixed",
    "hold_loss_weights",
    "lee_kim",
    "lee_kim_strength",
    "log_amlr",
    "normalize_loss_weights",
    "relobralo",
    "skipped_updates",
    "softadapt",
    "uncertainty",
    "weighted_total",
)
