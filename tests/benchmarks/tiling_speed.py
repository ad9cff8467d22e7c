"""Shifted windows with flip: one batched call beside a loop over the crops.

    python tests/benchmarks/tiling_speed.py [--network swin_v2_nano] [--rounds 3]
        [--threads 2] [--at_once 0]

One 352x1216 image, 16 windows and their mirrors, random weights. The batched call also
looks at the spare window for KITTI's last nine columns, 34 squares in all; the loop
calls the compiled network on 32 crops, one after the other, and averages on the host.
Both run in turn in one process; printed are medians, their ratio, and what the Eigen
test set of 652 frames would take.
"""

import argparse
import os
import statistics
import time

import numpy as np

SIZE = (352, 1216)
WINDOWS = 16
FRAMES = 652


def limit_threads(threads: int) -> None:
    """So many cores, before jax starts its pool."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:threads] if threads else cores)


def prepare(name: str, at_once: int) -> dict:
    """The two calls, each from a host image to host depth."""
    import jax
    import jax.numpy as jnp

    from amlr_jax.evaluate.predictor import predictor
    from amlr_jax.evaluate.tiling import Mode, window_starts
    from amlr_jax.models import depth
    from amlr_jax.runtime import mesh as parallel

    network = depth.network(name, max_depth=80.0)
    init = jax.jit(lambda key, x: network.init(key, x, train=False))
    variables = init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    mesh = parallel.make_mesh()
    variables = jax.device_put(variables, parallel.replicated(mesh))
    image = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), np.uint8)
    batched = predictor(
        network, mesh, mode=Mode("shifted_flip", WINDOWS), at_once=at_once
    )
    single = predictor(network, mesh)
    starts = window_starts(*SIZE, count=WINDOWS)

    def loop():
        total, seen = np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32)
        for start in starts:
            columns = np.s_[:, start : start + SIZE[0]]
            crop = image[0][columns]
            one, other = (single(variables, x[None])[0] for x in (crop, crop[:, ::-1]))
            total[columns] += (one + other[:, ::-1]) / 2
            seen[columns] += 1
        return total / np.maximum(seen, 1)

    return {
        "one batched call": lambda: batched(variables, image)[0],
        "loop over 32 crops": loop,
        "one plain pass": lambda: single(variables, image)[0],
    }


def measure(calls: dict, rounds: int) -> dict[str, float]:
    """Median seconds of each call, all in turn, after one round that compiles."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Prints the medians, the ratio and the estimate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="swin_v2_nano")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="0: all cores")
    parser.add_argument("--at_once", type=int, default=0, help="eval.at_once")
    options = parser.parse_args()
    limit_threads(options.threads)
    calls = prepare(options.network, options.at_once)
    batched, loop = (calls[n]() for n in list(calls)[:2])
    covered = np.s_[:, :1207]  # the reference's windows end here
    print(f"largest difference {np.abs(batched - loop)[covered].max():.1e} m")
    medians = measure(calls, options.rounds)
    for name, seconds in medians.items():
        estimate = seconds * FRAMES / 60
        print(f"{name:20}{seconds:9.3f} s   {FRAMES} frames: {estimate:7.1f} min")
    ratio = medians["loop over 32 crops"] / medians["one batched call"]
    print(f"loop / batched {ratio:.2f}")


if __name__ == "__main__":
    main()
