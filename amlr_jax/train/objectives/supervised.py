"""Supervised training: depth against ground truth."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from amlr_jax import losses
from amlr_jax.config import of_each_set
from amlr_jax.data import loader, sources
from amlr_jax.data.augment import Augmentation
from amlr_jax.data.prepared import Prepared
from amlr_jax.data.sources import Joined
from amlr_jax.models.depth_network import as_float
from amlr_jax.train.objectives.objective import Objective, Variables

DEPTH_LOSSES: dict[str, Callable] = {
    "scale_invariant": losses.scale_invariant_loss,
    "silog": losses.silog_loss,
    "gradient": losses.gradient_loss,
    "l1": losses.l1_loss,
    "berhu": losses.berhu_loss,
    "log_l1": losses.log_l1_loss,
}
# Probabilities of `Augmentation`, all keys of `config.data`.
CHANCES = ("flip", "brightness_contrast", "gamma", "hue_saturation", "cut_depth")


def objective(config: ConfigDict, network: nn.Module) -> Objective:
    """The losses of `config.losses` on the data sets of `config.data`."""
    each_set = of_each_set(config)
    terms = {name: dict(options) for name, options in config.losses.items()}

    def initial_variables(key: jax.Array) -> Variables:
        crop = next(iter(each_set.values())).data.crop
        image = jnp.zeros((1, *crop, 3), jnp.float32)
        return dict(network.init({"params": key}, image, train=False))

    def data_sets() -> tuple[Joined, Joined]:
        read = {n: sources.load(one.data) for n, one in each_set.items()}
        return Joined(read), Joined(read)

    def batches(data: Joined, **position: Any) -> Iterator[dict[str, np.ndarray]]:
        sets = zip(each_set.values(), data.sets.values(), data.starts(), strict=False)
        return loader.endless(
            [_part(*one) for one in sets],
            seed=config.seed,
            threads=config.data.threads,
            **position,
        )

    return Objective(
        loss_names=tuple(terms),
        initial_variables=initial_variables,
        losses=supervised(network, terms),
        data_sets=data_sets,
        batches=batches,
    )


def _part(config: ConfigDict, data: Prepared, start: int) -> loader.Part:
    """The training frames of one data set."""
    options, crop = config.data, tuple(config.data.crop)
    chances = {name: options[name] for name in CHANCES}
    augmentation = Augmentation(crop, max_depth=config.model.max_depth, **chances)
    kept = {"kb_crop": options.kb_crop, "weight": options.weight or 1.0, "start": start}
    return loader.training_part(data, augmentation, **kept)


def supervised(network: nn.Module, terms: Mapping[str, Mapping]) -> Callable:
    """The loss function of depth against ground truth.

    `terms` maps the name of a loss (`DEPTH_LOSSES`) to its options.

    The batch holds `image` uint8 [B, H, W, 3] and `depth` float32 [B, H, W] metres,
    where 0 means that the pixel was not measured.
    """

    def loss_function(params, batch_stats, batch, key, loss_weights=None):
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

    return loss_function
