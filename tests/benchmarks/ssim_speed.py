"""Forward and backward of our SSIM losses beside those of other libraries.

    python tests/benchmarks/ssim_speed.py [--rounds 10] [--threads 2]

All run in turn in one process on 8x192x640x3 float32, 64x192x640x3 on a GPU, and the
gradient is taken with respect to one image; printed are medians and ratios. Peers that
are not installed are skipped. On a GPU PyTorch runs there too, eager and compiled, and
the share of the memory bandwidth is printed: the bytes that must move (two images read,
one gradient written) per second, over those of a measured copy.
"""

import argparse
import functools
import importlib.util
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from amlr_jax import losses

SHAPE = (64 if jax.default_backend() == "gpu" else 8, 192, 640, 3)
TARGETS = (
    ("ssim", "torch eager", 0.6),
    ("ssim", "torch compiled", 0.5),
    ("ssim", "dm_pix box", 1 / 3),
    ("ssim", "dm_pix gaussian", 1 / 10),
    ("ssim_a", "ssim", 1.5),
    ("ssim masked", "ssim", 2.0),
)


def images() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two related images and a mask."""
    rng = np.random.default_rng(0)
    x = rng.random(SHAPE, np.float32)
    y = np.clip(x + 0.1 * rng.standard_normal(SHAPE, np.float32), 0, 1)
    return x, y, rng.random(SHAPE[:-1]) < 0.7


def on_jax(loss, x, y):
    """A call that waits for the loss and its gradient."""
    compiled = jax.jit(jax.value_and_grad(loss)).lower(x, y).compile()
    return lambda: jax.block_until_ready(compiled(x, y))


def shifted_box(z: jax.Array) -> jax.Array:
    """A 3x3 mean as nine shifted views."""
    h, w = z.shape[-3] - 2, z.shape[-2] - 2
    views = [z[..., i : i + h, j : j + w, :] for i in range(3) for j in range(3)]
    return sum(views) / 9


def reduced_box(z: jax.Array) -> jax.Array:
    """A 3x3 mean as one `reduce_window`."""
    size = (1,) * (z.ndim - 3) + (3, 3, 1)
    window = functools.partial(jax.lax.reduce_window, computation=jax.lax.add)
    return (
        window(
            z,
            init_value=0.0,
            window_dimensions=size,
            window_strides=(1,) * z.ndim,
            padding="VALID",
        )
        / 9
    )


def on_torch(x: np.ndarray, y: np.ndarray, threads: int) -> dict[str, Callable]:
    """Monodepth2's loss as PyTorch users write it: average pools, one-pass moments."""
    import torch

    torch.set_num_threads(threads)
    on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    x, y = (torch.tensor(a.transpose(0, 3, 1, 2).copy()) for a in (x, y))
    if on_gpu:
        x, y = x.cuda(), y.cuda()
    x.requires_grad_()
    pool, pad = torch.nn.AvgPool2d(3, 1), torch.nn.ReflectionPad2d(1)

    def loss(x, y):
        a, b = pad(x), pad(y)
        mean_a, mean_b = pool(a), pool(b)
        var_a, var_b = pool(a**2) - mean_a**2, pool(b**2) - mean_b**2
        covariance = pool(a * b) - mean_a * mean_b
        numerator = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
        denominator = (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
        return ((1 - numerator / denominator) / 2).clamp(0, 1).mean()

    def run(loss):
        x.grad = None
        loss(x, y).backward()
        if on_gpu:
            torch.cuda.synchronize()

    runs = {"torch eager": functools.partial(run, loss)}
    if on_gpu:  # compiling for a CPU takes a C++ compiler
        runs["torch compiled"] = functools.partial(run, torch.compile(loss))
    return runs


def prepare(threads: int) -> dict:
    """The calls by name."""
    x, y, where = images()
    a, b, where = jnp.asarray(x), jnp.asarray(y), jnp.asarray(where)
    masked = functools.partial(losses.ssim_loss, where=where)
    runs = {
        "ssim": on_jax(losses.ssim_loss, a, b),
        "ssim_a": on_jax(losses.additive_ssim_loss, a, b),
        "ssim_m": on_jax(losses.multiplicative_ssim_loss, a, b),
        "ssim masked": on_jax(masked, a, b),
    }
    if importlib.util.find_spec("torch"):
        runs |= on_torch(x, y, threads)
    else:
        print("torch is not installed: skipped")
    if importlib.util.find_spec("dm_pix"):
        import dm_pix

        filters = {"box": shifted_box, "reduced box": reduced_box, "gaussian": None}
        for name, box in filters.items():
            loss = functools.partial(dm_pix.ssim, filter_fn=box)
            mean = lambda x, y, f=loss: jnp.mean(1 - f(x, y)) / 2  # noqa: E731
            runs[f"dm_pix {name}"] = on_jax(mean, a, b)
    else:
        print("dm_pix is not installed: skipped")
    return runs


def measure(runs: dict, rounds: int) -> dict[str, float]:
    """Median seconds of each call, all in turn."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 2):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn >= 2:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def report_bandwidth(medians: dict[str, float], rounds: int) -> None:
    """The share of a copy's bandwidth, on a GPU."""
    if jax.default_backend() != "gpu":
        print("no GPU here: share of the memory bandwidth skipped")
        return
    x = jnp.ones((8, *SHAPE), jnp.float32)
    copy = jax.jit(lambda x: x + 1.0)
    seconds = measure({"copy": lambda: jax.block_until_ready(copy(x))}, rounds)["copy"]
    copied = 2 * x.nbytes / seconds
    needed = 3 * 4 * np.prod(SHAPE)
    print(f"copy {copied / 1e9:.0f} GB/s")
    for name in ("ssim", "ssim_a", "ssim masked"):
        print(f"{name:16}{needed / medians[name] / copied:8.1%} of it")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    medians = measure(prepare(options.threads), options.rounds)
    print(f"median ms of {options.rounds} rounds, {jax.devices()[0].device_kind}")
    for name, seconds in medians.items():
        print(f"{name:20}{seconds * 1e3:10.1f}")
    for ours, peer, target in TARGETS:
        if peer in medians:
            ratio = medians[ours] / medians[peer]
            verdict = "holds" if ratio <= target else "MISSED"
            print(f"{ours} / {peer}: {ratio:.3f} (at most {target:.3f}) {verdict}")
    report_bandwidth(medians, options.rounds)


if __name__ == "__main__":
    main()
