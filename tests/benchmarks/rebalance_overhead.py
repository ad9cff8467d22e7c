"""What AMLR costs: the time of a step with `amlr` over a step with fixed weights.

    python tests/benchmarks/rebalance_overhead.py [--network swin_v2_nano] [--rounds 30]

Both steps run in turn in one process, so that both see the same machine; printed are
the medians and the median of the paired ratios. Needs jax, flax and optax alone.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from amlr_jax import rebalance
from amlr_jax.models import depth
from amlr_jax.runtime import mesh as parallel
from amlr_jax.train.objectives import supervised as objectives
from amlr_jax.train.step import compile_step, initial_state

NAMES = ("silog", "gradient")
SHARES = {"silog": 0.99, "gradient": 0.01}
RULES = {
    "fixed": lambda: rebalance.fixed(SHARES),
    "amlr": lambda: rebalance.amlr(1e-4, shares=SHARES),
    "log_amlr": lambda: rebalance.log_amlr(1e-2, shares=SHARES),
}


def prepare(rule: str, options):
    """A compiled step and its state."""
    network = depth.network(
        options.network, max_depth=80.0, input_scale=options.input_scale
    )
    schedule = optax.constant_schedule(1e-4)
    optimizer, rebalancer = optax.adamw(schedule), RULES[rule]()
    step = compile_step(
        parallel.make_mesh(),
        objective=objectives.supervised(network, {name: {} for name in NAMES}),
        rebalancer=rebalancer,
        optimizer=optimizer,
        schedule=schedule,
    )
    image = jnp.zeros((1, options.height, options.width, 3))
    variables = jax.jit(lambda: network.init(jax.random.key(0), image, train=False))()
    first = initial_state(
        variables,
        optimizer=optimizer,
        rebalancer=rebalancer,
        loss_weights=rebalance.equal_weights(NAMES),
        key=jax.random.key(1),
    )
    return step, first


def batch_of(options) -> dict[str, np.ndarray]:
    """Random images, a fifth of the pixels with depth."""
    rng = np.random.default_rng(0)
    shape = (options.batch, options.height, options.width)
    depth_map = np.where(rng.random(shape) < 0.2, rng.uniform(2, 80, shape), 0)
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    return {"image": image, "depth": depth_map.astype(np.float32)}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="swin_v2_nano")
    parser.add_argument("--input_scale", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--height", type=int, default=352)
    parser.add_argument("--width", type=int, default=704)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    batch = parallel.put_local(batch_of(options), parallel.make_mesh())
    runs = {rule: prepare(rule, options) for rule in RULES}
    times: dict[str, list[float]] = {rule: [] for rule in RULES}
    for turn in range(options.rounds + 2):
        for rule, (step, current) in runs.items():
            start = time.perf_counter()
            current, _ = jax.block_until_ready(step(current, batch))
            runs[rule] = (step, current)
            if turn >= 2:  # compilation, and the first run of the compiled step
                times[rule].append(time.perf_counter() - start)
    report(times)


def report(times: dict[str, list[float]]) -> None:
    """Medians in ms, and paired ratios to `fixed`."""
    print(f"{'rule':10}{'ms':>10}{'ratio':>10}   on {jax.devices()[0].device_kind}")
    for rule, seconds in times.items():
        ratios = [s / f for s, f in zip(seconds, times["fixed"], strict=True)]
        median = statistics.median(seconds) * 1e3
        print(f"{rule:10}{median:10.1f}{statistics.median(ratios):10.4f}")


if __name__ == "__main__":
    main()
