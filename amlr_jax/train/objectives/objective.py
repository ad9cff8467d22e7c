"""The interface of a training objective: initial variables, losses and batches."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from amlr_jax.data.sources import Joined

Variables = dict[str, Any]  # {"params", "batch_stats"}
Batch = dict[str, np.ndarray]
# In the batch statistics: numbers since the first step that each step reports by name.
COUNTS = "counts"
Losses = dict[str, jax.Array]  # float32 scalars by name, unweighted


class Objective(NamedTuple):
    """The only interface between the training loop and an objective.

    losses: (params, batch_stats, batch, key, loss_weights) -> (losses, batch_stats),
      a pure function. `loss_weights` are those after the previous step, for objectives
      that select pixels by the weighted sum.
    data_sets: () -> (training sets, test sets), by the same labels.
    batches: (training sets, batch_size=, start=, process=, workers=) -> iterator of
      dicts of arrays, endless, from batch number `start` on; to be closed.
    needs: the networks that it does not train and that `init_from` must have.
    """

    loss_names: tuple[str, ...]
    initial_variables: Callable[[jax.Array], Variables]
    losses: Callable[..., tuple[Losses, Any]]
    data_sets: Callable[[], tuple[Joined, Joined]]
    batches: Callable[..., Iterator[Batch]]
    needs: tuple[str, ...] = ()
