"""CPU time of an image by each network, all networks in turn in every round.

    python tests/benchmarks/network_speed.py [--rounds=3] [--side=352] [NAME ...]

CPU time is the sum over the cores, so that other work on the machine matters little.
Weights are zeros; time does not depend on them.
"""

import argparse
import time

import jax
import jax.numpy as jnp

from amlr_jax.config import MODELS
from amlr_jax.models import depth


def compiled(name: str, side: int):
    """The forward pass of an image and its arguments."""
    network = depth.network(name, max_depth=80.0, dtype="float32", attention="xla")
    shapes = depth.variable_shapes(network)
    variables = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    image = jnp.full((1, side, side, 3), 0.5)
    forward = jax.jit(lambda v, x: network.apply(v, x, train=False))
    return forward.lower(variables, image).compile(), variables, image


def main() -> None:
    """Prints the least CPU time of each network over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=352)
    parser.add_argument("names", nargs="*", default=[*MODELS])
    options = parser.parse_args()
    runs = {name: compiled(name, options.side) for name in options.names}
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds + 1):  # the first one is not counted
        for name, (forward, *arguments) in runs.items():
            start = time.process_time()
            jax.block_until_ready(forward(*arguments))
            spent[name].append(time.process_time() - start)
    for name, times in spent.items():
        print(f"{name:14} {1000 * min(times[1:]):8.0f} ms", flush=True)


if __name__ == "__main__":
    main()
