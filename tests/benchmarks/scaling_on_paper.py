"""The tables of docs/scaling.md: what moves between GPUs in a step, and what it costs.

    python tests/benchmarks/scaling_on_paper.py [--config configs/kitti.py:large]
    python tests/benchmarks/scaling_on_paper.py --activations [--remat] [--batch 1]

The first counts parameters and floating-point operations from the code and computes
the rest by the formulas below; nothing is compiled. The second compiles the gradient of
a config for this machine's CPU, float32, and prints XLA's account of its memory.
"""

import argparse
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from amlr_jax.runtime.command import load_config
from amlr_jax.train import build
from amlr_jax.train.flops import model_flops

FLOAT32 = 4  # bytes of a parameter, a moment and a gradient
# Assumed, not measured: share of the peak that a step reaches, and the peak.
UTILISATION, PEAK = 0.20, 989e12  # H100 or H200, bfloat16, dense, FLOP/s
# One way, bytes a second of a GPU (inside a machine) or of a machine.
INSIDE = {"NVLink 900 GB/s": 450e9, "PCIe 5 x16": 63e9, "PCIe 4 x16": 31.5e9}
BETWEEN = {"8 x NDR 400 Gb/s": 400e9, "1 x NDR 400 Gb/s": 50e9}
BETWEEN |= {"100 Gb/s Ethernet": 12.5e9}
GPUS_OF_A_MACHINE = 8


class Counts(NamedTuple):
    """Of a config: numbers in the arrays of a state, and operations for an image."""

    parameters: int
    split: int  # of them, those that FSDP splits
    flops: float  # forward and backward, of one image


def count(config) -> Counts:
    """Shapes and operations, without running or compiling anything."""
    made = build.components(config)
    state = jax.eval_shape(lambda: build.state_before_training(config, made))
    sizes = [math.prod(x.shape) for x in jax.tree.leaves(state.params)]
    smallest = config.parallel.fsdp_min_size
    split = sum(
        math.prod(x.shape)
        for x in jax.tree.leaves(state.params)
        if math.prod(x.shape) >= smallest
        and any(size % GPUS_OF_A_MACHINE == 0 for size in x.shape)
    )
    jaxpr = jax.make_jaxpr(gradient(made))(*arguments(config, state, 1))
    return Counts(sum(sizes), split, model_flops(jaxpr))


def gradient(made: build.Components):
    """The part of a step that is as large as its batch."""

    def of(params, batch_stats, weights, batch):
        def total(params):
            losses, stats = made.objective.losses(
                params, batch_stats, batch, jax.random.key(0), weights
            )
            return sum(weights[name] * loss for name, loss in losses.items()), stats

        return jax.grad(total, has_aux=True)(params)

    return of


def arguments(config, state, size: int) -> tuple:
    """Of `gradient`, as shapes; a batch of `size` random crops."""
    height, width = config.data.crop
    shape = jax.ShapeDtypeStruct
    batch = {
        "image": shape((size, height, width, 3), jnp.float32),
        "depth": shape((size, height, width), jnp.float32),
    }
    return state.params, state.batch_stats, state.loss_weights, batch


def ring(size: float, members: int) -> float:
    """Bytes that each member sends to gather, or to reduce and scatter, `size`."""
    return size * (members - 1) / members


def moved(counts: Counts, gpus: int) -> dict[str, float]:
    """Bytes that a GPU sends in a step."""
    size = FLOAT32 * counts.parameters
    return {
        "data parallel": 2 * ring(size, gpus),
        "FSDP, as here": 2 * ring(size, gpus),
        "FSDP, gathered twice": 3 * ring(size, gpus),
    }


def seconds_moving(counts: Counts, gpus: int, inside: float, between: float) -> float:
    """Of the sum of the gradients: in a ring, the slower of its links counts.

    Over machines all of a machine's network cards carry a part of the ring each.
    """
    size = 2 * ring(FLOAT32 * counts.parameters, gpus)
    return size / (inside if gpus <= GPUS_OF_A_MACHINE else min(inside, between))


def seconds_computing(counts: Counts, images: int) -> float:
    """Assumed: `images` on one GPU at `UTILISATION` of its peak."""
    return images * counts.flops / (UTILISATION * PEAK)


def memory(counts: Counts, gpus: int) -> tuple[float, float]:
    """Bytes of parameters, gradients and both moments on a GPU: whole, and split.

    Split over `gpus`: the parameters once more whole, while a step runs.
    """
    whole = 4 * FLOAT32 * counts.parameters
    if gpus == 1:
        return whole, whole
    rest = counts.parameters - counts.split
    return whole, FLOAT32 * (4 * counts.split / gpus + 4 * rest + counts.split)


def print_tables(name: str, counts: Counts) -> None:
    """As they stand in docs/scaling.md."""
    print(
        f"{name}: {counts.parameters:,} parameters, {counts.split:,} of them split by "
        f"FSDP, {counts.flops / 1e12:.2f} TFLOP an image (forward and backward)\n"
    )
    print("| GPUs | " + " | ".join(moved(counts, 2)) + " |\n|---|---|---|---|")
    for gpus in (1, 8, 64):
        cells = (f"{size / 1e9:.2f} GB" for size in moved(counts, gpus).values())
        print(f"| {gpus} | " + " | ".join(cells) + " |")
    print(
        "\n| GPUs | links | moving | 1 image a GPU | 8 images a GPU |\n"
        + "|---" * 5
        + "|"
    )
    rows = [(8, k, v, math.inf) for k, v in INSIDE.items()]
    rows += [(64, k, INSIDE["NVLink 900 GB/s"], v) for k, v in BETWEEN.items()]
    for gpus, links, inside, between in rows:
        moving = seconds_moving(counts, gpus, inside, between)
        cells = [efficiency(seconds_computing(counts, b), moving) for b in (1, 8)]
        print(
            f"| {gpus} | {links} | {1e3 * moving:.1f} ms | " + " | ".join(cells) + " |"
        )
    for images in (1, 8):
        time = seconds_computing(counts, images)
        print(f"\nassumed: {1e3 * time:.0f} ms for {images} images on a GPU", end="")
    print("\n\n| GPUs | data parallel | FSDP |\n|---|---|---|")
    for gpus in (1, 8, 64):
        cells = (f"{size / 1e9:.2f} GB" for size in memory(counts, gpus))
        print(f"| {gpus} | " + " | ".join(cells) + " |")


def efficiency(computing: float, moving: float) -> str:
    """From nothing overlapped to all that can be."""
    worst, best = computing / (computing + moving), computing / max(computing, moving)
    return f"{worst:.0%} to {best:.0%}"


def print_activations(config, size: int) -> None:
    """XLA's account of the compiled gradient."""
    made = build.components(config)
    state = jax.eval_shape(lambda: build.state_before_training(config, made))
    lowered = jax.jit(gradient(made)).lower(*arguments(config, state, size))
    found = lowered.compile().memory_analysis()
    print(
        f"batch {size}: {found.temp_size_in_bytes / 1e9:.2f} GB temporary, "
        f"{found.output_size_in_bytes / 1e9:.2f} GB gradients"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="configs/kitti.py:large")
    parser.add_argument("--activations", action="store_true")
    parser.add_argument("--remat", action="store_true")
    parser.add_argument("--batch", type=int, default=1)
    given = parser.parse_args()
    config = load_config(given.config)
    config.model.remat = given.remat
    if given.activations:
        print_activations(config, given.batch)
    else:
        print_tables(given.config, count(config))


if __name__ == "__main__":
    main()
