"""Runs of the toy on meshes, and what their programs move between devices."""

import re

import jax
import numpy as np

from amlr_jax.runtime import mesh as parallel
from amlr_jax.train.step import compile_step
from tests.train import toy

# Of a compiled program, all but sums: `x = f32[8,4]{1,0} all-gather(...)`
MOVE = re.compile(
    r"= \(?(\w+)\[([\d,]*)\].*? "
    r"(all-gather|all-to-all|collective-permute)(?:-start)?\("
)


def batches(count: int) -> list[dict[str, np.ndarray]]:
    """Global batches of eight with the indices of their samples."""
    index = np.arange(8, dtype=np.int32)
    return [batch | {"index": index} for batch in toy.batches(count, size=8)]


def start(made: dict, mesh, *, min_size: int):
    """The first state as it lies on the mesh, and how it lies."""
    shapes = jax.eval_shape(lambda: toy.initial(made))
    sharding = parallel.state_sharding(mesh, shapes, min_size=min_size)
    return jax.jit(lambda: toy.initial(made), out_shardings=sharding)(), sharding


def trained(made: dict, mesh, *, steps: int, min_size: int = 8):
    """The state after `steps`, each process putting its own part of the batch."""
    state, sharding = start(made, mesh, min_size=min_size)
    step = compile_step(mesh, state_sharding=sharding, **made)
    for batch in batches(steps):
        share = parallel.per_process_batch_size(mesh, 8)
        first = jax.process_index() * share
        own = {name: x[first : first + share] for name, x in batch.items()}
        state, _ = step(state, parallel.put_local(own, mesh))
    return state


def compared(state) -> tuple:
    """What has to be equal on every mesh."""
    return state.params, state.batch_stats, state.loss_weights


def parameters(made: dict, mesh, **options) -> list[np.ndarray]:
    """What is `compared` of `trained`, on the host."""
    kept = parallel.gathered(compared(trained(made, mesh, **options)), mesh)
    return [np.asarray(x) for x in jax.tree.leaves(kept)]


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest of all elements."""
    return float(np.abs(np.asarray(a) - np.asarray(b)).max())


def moves(text: str) -> list:
    """[kind, type, shape] of all that a compiled program moves but sums."""
    return [
        [kind, dtype, [int(n) for n in shape.split(",") if n]]
        for dtype, shape, kind in MOVE.findall(text)
    ]


def moved(made: dict, mesh, *, min_size: int = 8) -> list:
    """`moves` of the toy's step."""
    state, sharding = start(made, mesh, min_size=min_size)
    step = compile_step(mesh, state_sharding=sharding, **made)
    batch = parallel.put_local(batches(1)[0], mesh)
    return moves(step.lower(state, batch).compile().as_text())
