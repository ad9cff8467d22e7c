"""What the rules cost: an update of the weights, alone and in a step of training.

    python tests/benchmarks/rebalance_overhead.py [--network swin_v2_nano] [--rounds 30]
        [--in_step fixed,amlr,log_amlr]

First the update alone: a compiled loop of updates of two losses, by rule, in
microseconds and over `fixed`. Then the whole step of training with the rules of
`--in_step`, the default being the network of `configs/kitti.py:tiny`, and the share of
it that an update alone would take. All run in turn in one process, so that they see the
same machine; printed are the medians and the medians of the paired ratios. Of the rule
by gradients it is the arithmetic of the weights, not the backward passes, which are
timed in `pinn.py`. Needs jax, flax and optax alone.
"""

import argparse
import statistics
import time
from functools import partial

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
    "lee_kim": rebalance.lee_kim,
    "dwa": rebalance.dwa,
    "softadapt": rebalance.softadapt,
    "uncertainty": lambda: rebalance.uncertainty(1e-3),
    "famo": lambda: rebalance.famo(1e-3),
    "relobralo": rebalance.relobralo,
    "gradient_balance": rebalance.gradient_balance,
}
UPDATES = 10_000  # of a timed loop


def updates_of(rule: str):
    """A compiled loop of updates with losses that change, from given weights."""
    made = RULES[rule]()

    def update(carry, noise):
        weights, state = carry
        losses = dict(zip(NAMES, 0.1 + noise, strict=True))
        return made.update(weights, state, losses=losses, gradient_norms=losses), ()

    @jax.jit
    def loop(noises):
        weights = rebalance.equal_weights(NAMES)
        return jax.lax.scan(update, (weights, made.init(weights)), noises)[0]

    return loop


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
    parser.add_argument("--in_step", default="fixed,amlr,log_amlr")
    options = parser.parse_args()
    noises = jax.random.uniform(jax.random.key(0), (UPDATES, len(NAMES)))
    loops = {rule: partial(updates_of(rule), noises) for rule in RULES}
    updates = times_of(loops, options.rounds)
    report("update, us", updates, 1e6 / UPDATES)
    batch = parallel.put_local(batch_of(options), parallel.make_mesh())
    runs = {r: Step(*prepare(r, options), batch) for r in options.in_step.split(",")}
    steps = times_of(runs, options.rounds)
    report("step, ms", steps, 1e3)
    whole = statistics.median(steps["fixed"])
    print("Share of the step with fixed weights:")
    for rule, seconds in updates.items():
        print(f"{rule:18}{statistics.median(seconds) / UPDATES / whole:12.2e}")


class Step:
    """The step of a rule, which keeps its state."""

    def __init__(self, step, state, batch) -> None:
        self.step, self.state, self.batch = step, state, batch

    def __call__(self):
        self.state, _ = self.step(self.state, self.batch)
        return self.state


def times_of(runs: dict, rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, in turn, without the first two rounds (compilation)."""
    times: dict[str, list[float]] = {rule: [] for rule in runs}
    for turn in range(rounds + 2):
        for rule, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            if turn >= 2:
                times[rule].append(time.perf_counter() - start)
    return times


def report(title: str, times: dict[str, list[float]], factor: float) -> None:
    """Medians times a factor, and paired ratios to `fixed`."""
    print(f"{'rule':18}{title:>12}{'ratio':>10}   on {jax.devices()[0].device_kind}")
    for rule, seconds in times.items():
        ratios = [s / f for s, f in zip(seconds, times["fixed"], strict=True)]
        median = statistics.median(seconds) * factor
        print(f"{rule:18}{median:12.3f}{statistics.median(ratios):10.4f}", flush=True)


if __name__ == "__main__":
    main()
