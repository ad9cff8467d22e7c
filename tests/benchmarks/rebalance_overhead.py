"""What the rules cost: an update of the weights, alone and in a step of training.

    python tests/benchmarks/rebalance_overhead.py [--rounds 30] [--steps 1]
        [--in_step fixed,amlr,log_amlr,gradient_balance/10]

First the update alone: a compiled loop of updates of two losses, by rule, in
microseconds and over `fixed`; of a rule by gradients the arithmetic of the weights,
without the backward passes. Then `--steps` steps of training with the rules of
`--in_step`, where `rule/k` updates every k steps, by default with the network, batch
and crop of `configs/kitti.py:tiny`, and the forward pass alone. All run in turn in one
process, so that they see the same machine; printed are the medians and the medians of
the paired ratios, and the size of each compiled step.
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
    "imtl_l": lambda: rebalance.imtl_l(1e-3),
    "geometric": rebalance.geometric,
    "random_weights": rebalance.random_weights,
    "gradient_balance": rebalance.gradient_balance,
    "ntk": rebalance.ntk,
    "grad_norm": lambda: rebalance.grad_norm(0.025),
    "mgda": rebalance.mgda,
    "upgrad": rebalance.upgrad,
    "cagrad": rebalance.cagrad,
    "pcgrad": rebalance.pcgrad,
}
UPDATES, FORWARD = 1000, "forward"  # in a timed loop; the losses without gradients


def updates_of(rule: str):
    """A compiled loop of updates with losses that change, from given weights."""
    made = RULES[rule]()

    def update(carry, noise):
        weights, state = carry
        losses = dict(zip(NAMES, 0.1 + noise, strict=True))
        gram = jnp.outer(noise, noise) * jnp.array([[1.0, -0.5], [-0.5, 1.0]])
        extra = {"gradient_norms": losses, "gradient_gram": gram}
        return made.update(weights, state, losses=losses, **extra), ()

    @jax.jit
    def loop(noises):
        weights = rebalance.equal_weights(NAMES)
        return jax.lax.scan(update, (weights, made.init(weights)), noises)[0]

    return loop


class Step:
    """Steps of training with a rule, or the losses alone, which keep their state."""

    def __init__(self, rule: str, network, options, batch) -> None:
        name, _, k = rule.partition("/")
        rebalancer = RULES[name]() if name in RULES else rebalance.fixed(SHARES)
        if k:
            rebalancer = rebalance.every_k_steps(rebalancer, int(k))
        schedule = optax.constant_schedule(1e-4)
        objective = objectives.supervised(network, {name: {} for name in NAMES})
        optimizer = optax.adamw(schedule)
        image = jnp.zeros((1, options.height, options.width, 3))
        init = jax.jit(partial(network.init, train=False))
        self.batch, self.steps = batch, options.steps
        self.state = initial_state(
            init(jax.random.key(0), image),
            optimizer=optimizer,
            rebalancer=rebalancer,
            loss_weights=rebalance.equal_weights(NAMES),
            key=jax.random.key(1),
        )
        if name == FORWARD:

            def losses(state, batch):
                variables = state.params, state.batch_stats
                rest = batch, state.key, state.loss_weights
                return state, objective(*variables, *rest)[0]

            self.step = jax.jit(losses, donate_argnums=0)
        else:
            self.step = compile_step(
                parallel.make_mesh(),
                objective=objective,
                rebalancer=rebalancer,
                optimizer=optimizer,
                schedule=schedule,
            )

    def cost(self) -> str:
        """What the compiler says, which no other work on the machine changes."""
        compiled = self.step.lower(self.state, self.batch).compile()
        lines = compiled.as_text().count(" = ")
        memory = compiled.memory_analysis().temp_size_in_bytes / 2**20
        flops = compiled.cost_analysis()["flops"]
        return f"{lines} instructions, {flops:.6g} FLOP, {memory:.0f} MiB of buffers"

    def __call__(self):
        for _ in range(self.steps):
            self.state, found = self.step(self.state, self.batch)
        return found


def batch_of(options) -> dict[str, np.ndarray]:
    """Random images, a fifth of the pixels with depth."""
    rng = np.random.default_rng(0)
    shape = (options.batch, options.height, options.width)
    depth_map = np.where(rng.random(shape) < 0.2, rng.uniform(2, 80, shape), 0)
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    return {"image": image, "depth": depth_map.astype(np.float32)}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="swin_v2_nano")
    parser.add_argument("--input_scale", type=float, default=0.5)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--height", type=int, default=352)
    parser.add_argument("--width", type=int, default=352)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--in_step", default="fixed,amlr,log_amlr,gradient_balance/10")
    options = parser.parse_args()
    noises = jax.random.uniform(jax.random.key(0), (UPDATES, len(NAMES)))
    loops = {rule: partial(updates_of(rule), noises) for rule in RULES}
    report("update, us", times_of(loops, options.rounds), 1e6 / UPDATES)
    network = depth.network(
        options.network, max_depth=80.0, input_scale=options.input_scale
    )
    batch = parallel.put_local(batch_of(options), parallel.make_mesh())
    names = [*options.in_step.split(","), FORWARD]
    runs = {name: Step(name, network, options, batch) for name in names}
    for name, run in runs.items():
        print(f"{name:20}{run.cost()}", flush=True)
    report("step, ms", times_of(runs, options.rounds), 1e3 / options.steps)


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
    print(f"{'rule':20}{title:>12}{'ratio':>10}   on {jax.devices()[0].device_kind}")
    for rule, seconds in times.items():
        ratios = [s / f for s, f in zip(seconds, times["fixed"], strict=True)]
        median = statistics.median(seconds) * factor
        print(f"{rule:20}{median:12.3f}{statistics.median(ratios):10.4f}", flush=True)


if __name__ == "__main__":
    main()
