"""Loss weights as optax transformations; needs jax and optax and nothing else.

A rule updates the weights in the jitted step; `losses` is a tree of scalars, such as a
dict by name:

    rule = every_k_steps(log_amlr(1e-2, shares={"silog": 0.99, "gradient": 0.01}), 500)
    loss_weights = equal_weights(["silog", "gradient"])
    state = rule.init(loss_weights)
    # in the jitted step:
    loss_weights, state = rule.update(loss_weights, state, losses=losses)
    total = weighted_total(losses, loss_weights)
"""

from amlr_jax.rebalance.amlr import AMLRState, amlr, log_amlr
from amlr_jax.rebalance.baselines import (
    LeeKimState,
    fixed,
    geometric,
    lee_kim,
    lee_kim_strength,
    random_weights,
)
from amlr_jax.rebalance.gradient_gram import cagrad, mgda, pcgrad, upgrad
from amlr_jax.rebalance.gradient_norms import (
    GradNormState,
    grad_norm,
    gradient_balance,
    ntk,
    ntk_norm,
)
from amlr_jax.rebalance.gradients import LossGradients, per_loss_gradients
from amlr_jax.rebalance.history import (
    HistoryState,
    RelobraloState,
    dwa,
    relobralo,
    softadapt,
)
from amlr_jax.rebalance.hold import hold_loss_weights
from amlr_jax.rebalance.learned import (
    FAMOState,
    UncertaintyState,
    famo,
    imtl_l,
    uncertainty,
)
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
from amlr_jax.rebalance.vector_rule import CountState, KeyState

__all__ = (
    "AMLRState",
    "CountState",
    "EveryKStepsState",
    "FAMOState",
    "GradNormState",
    "HistoryState",
    "KeyState",
    "LeeKimState",
    "LossGradients",
    "LossTree",
    "RelobraloState",
    "UncertaintyState",
    "amlr",
    "cagrad",
    "clip_loss_weights",
    "dwa",
    "equal_weights",
    "every_k_steps",
    "famo",
    "fixed",
    "geometric",
    "grad_norm",
    "gradient_balance",
    "hold_loss_weights",
    "imtl_l",
    "lee_kim",
    "lee_kim_strength",
    "log_amlr",
    "mgda",
    "normalize_loss_weights",
    "ntk",
    "ntk_norm",
    "pcgrad",
    "per_loss_gradients",
    "random_weights",
    "relobralo",
    "skipped_updates",
    "softadapt",
    "uncertainty",
    "upgrad",
    "weighted_total",
)
