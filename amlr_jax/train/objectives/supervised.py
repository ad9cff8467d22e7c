"""Objectives: plain functions from parameters and a batch to named, unweighted losses.

An objective is `objective(params, batch_stats, batch, key, loss_weights) -> (losses,
batch_stats)` with `losses` a dict of float32 scalars and `loss_weights` those that the
step before left, for an objective that has to choose by the weighted sum. Nothing else
in training knows what is learnt. The other objective is `self_supervised`.
"""

import inspect
from collections.abc import Callable, Mapping

import flax.linen as nn

from amlr_jax import losses
from amlr_jax.models.depth_network import as_float

DEPTH_LOSSES: dict[str, Callable] = {
    "scale_invariant": losses.scale_invariant_loss,
    "silog": losses.silog_loss,
    "gradient": losses.gradient_loss,
    "l1": losses.l1_loss,
    "berhu": losses.berhu_loss,
    "log_l1": losses.log_l1_loss,
}
# What the objective passes itself; a loss of the step is one scalar for the batch.
_OWN_ARGUMENTS = {"prediction", "target", "where", "per_image"}


def supervised(network: nn.Module, terms: Mapping[str, Mapping]) -> Callable:
    """Depth against ground truth; `terms` maps the name of a loss to its options.

    The batch holds `image` uint8 [B, H, W, 3] and `depth` float32 [B, H, W] metres,
    where 0 means that nothing was measured.
    """
    unknown = sorted(set(terms) - set(DEPTH_LOSSES))
    if unknown:
        known = ", ".join(DEPTH_LOSSES)
        raise ValueError(f"losses must be among {known}; got {', '.join(unknown)}")
    for name, options in terms.items():
        _check_options(name, options)

    def objective(params, batch_stats, batch, key, loss_weights=None):
        del loss_weights
        depth, new = network.apply(
            {"params": params, "batch_stats": batch_stats},
            as_float(batch["image"]),
            train=True,
            rngs={"drop_path": key},
            mutable=["batch_stats"],
        )
        target = batch["depth"]
        values = {
            name: DEPTH_LOSSES[name](depth, target, where=target > 0, **options)
            for name, options in terms.items()
        }
        return values, new["batch_stats"]

    return objective


def _check_options(name: str, options: Mapping) -> None:
    known = set(inspect.signature(DEPTH_LOSSES[name]).parameters) - _OWN_ARGUMENTS
    unknown = sorted(set(options) - known)
    if unknown:
        raise ValueError(f"losses.{name} has no option {', '.join(unknown)}")
