"""What bilinear sampling costs: `geometry.bilinear_sample` and what else one may write.

    python tests/benchmarks/sampling_speed.py [--height 192 --width 640 --batch 8]

Smooth random coordinates, as of a warp, border padding. All run in turn in
one process, so that all see the same machine; printed are medians in ms and the median
of the paired ratios to PyTorch's `grid_sample` (eager). `plain` is the same formula
left to automatic differentiation, `pairs` gathers two neighbours at a time, and
`map_coordinates` is `jax.scipy.ndimage`'s. Needs jax, numpy and torch.
"""

import argparse
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch

from amlr_jax.geometry import bilinear_sample
from amlr_jax.geometry.sampling import _cell

KINDS = {"forward": "", "to coordinates": "c", "to image": "i", "to both": "ic"}


def mix(a, b, c, d, x, y):
    """The four pixels of a cell, weighted."""
    return (a * (1 - x) + b * x) * (1 - y) + (c * (1 - x) + d * x) * y


@jax.vmap
def plain(image, coordinates):
    """Four gathers by a flat index."""
    cell = _cell(coordinates, image.shape)
    pixels = image.reshape(-1, image.shape[-1])
    corners = [pixels.at[i].get(mode="promise_in_bounds") for i in cell.corners]
    return mix(*corners, cell.x, cell.y)


@jax.vmap
def pairs(image, coordinates):
    """Two gathers of two neighbours each."""
    cell = _cell(coordinates, image.shape)
    channels = image.shape[-1]
    numbers = jax.lax.GatherDimensionNumbers((2, 3), (), (0,))
    take = partial(
        jax.lax.gather,
        image.reshape(-1, channels),
        dimension_numbers=numbers,
        slice_sizes=(2, channels),
        mode="promise_in_bounds",
    )
    upper, lower = (take(cell.corners[k][..., None]) for k in (0, 2))
    corners = [row[..., k, :] for row in (upper, lower) for k in (0, 1)]
    return mix(*corners, cell.x, cell.y)


@jax.vmap
def map_coordinates(image, coordinates):
    """One channel at a time."""
    where = [coordinates[..., 1], coordinates[..., 0]]
    sample = partial(
        jax.scipy.ndimage.map_coordinates, coordinates=where, order=1, mode="nearest"
    )
    return jax.vmap(sample, in_axes=-1, out_axes=-1)(image)


SAMPLERS = {
    "bilinear_sample": bilinear_sample,
    "plain": plain,
    "pairs": pairs,
    "map_coordinates": map_coordinates,
}


def in_jax(sampler, kind, image, coordinates, weight):
    """A call that samples, and differentiates a weighted sum."""
    arrays = [jnp.asarray(a) for a in (image, coordinates, weight)]
    if not kind:
        function = jax.jit(lambda i, c, w: sampler(i, c))
    else:
        wanted = tuple("ic".index(k) for k in kind)
        function = jax.jit(
            jax.grad(lambda i, c, w: jnp.sum(sampler(i, c) * w), argnums=wanted)
        )
    return lambda: jax.block_until_ready(function(*arrays))


def in_torch(kind, image, coordinates, weight):
    """The same in PyTorch, channels first, coordinates already scaled to [-1, 1]."""
    height, width = image.shape[1:3]
    half = np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
    images, weights = (
        torch.from_numpy(a).permute(0, 3, 1, 2).contiguous() for a in (image, weight)
    )
    grid = torch.from_numpy(coordinates / half - 1)

    def call():
        i = images.detach().requires_grad_("i" in kind)
        c = grid.detach().requires_grad_("c" in kind)
        sample = torch.nn.functional.grid_sample(
            i, c, padding_mode="border", align_corners=True
        )
        if kind:
            (sample * weights).sum().backward()

    return call


def inputs(options):
    """Image and weight in [0, 1], and a grid bent by smooth waves of a few pixels."""
    rng = np.random.default_rng(0)
    shape = (options.batch, options.height, options.width)
    v, u = np.mgrid[: options.height, : options.width].astype(np.float32)
    bent = np.stack([u + 6 * np.sin(v / 17) - 2.3, v + 4 * np.sin(u / 31) + 1.7], -1)
    coordinates = np.broadcast_to(bent, (*shape, 2)).astype(np.float32)
    image, weight = rng.random((2, *shape, options.channels), np.float32)
    return image, coordinates, weight


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    arrays = inputs(options)
    print(f"{'':18}{'':16}{'ms':>8}{'/ torch':>9}   {jax.devices()[0].device_kind}")
    for title, kind in KINDS.items():
        calls = {"grid_sample": in_torch(kind, *arrays)}
        calls |= {n: in_jax(s, kind, *arrays) for n, s in SAMPLERS.items()}
        report(title, measure(calls, options.rounds))


def measure(calls, rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, in turn; the first two rounds only warm up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= 2:
                times[name].append(time.perf_counter() - start)
    return times


def report(title: str, times: dict[str, list[float]]) -> None:
    """Medians in ms, and paired ratios to `grid_sample`."""
    for name, seconds in times.items():
        both = zip(seconds, times["grid_sample"], strict=True)
        ratio = statistics.median(s / t for s, t in both)
        print(f"{title:18}{name:16}{statistics.median(seconds) * 1e3:8.1f}{ratio:9.2f}")


if __name__ == "__main__":
    main()
