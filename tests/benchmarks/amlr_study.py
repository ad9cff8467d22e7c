"""What is loss rebalancing worth on real depth? The AMLR paper's claims, small.

    AMLR_REAL_DATA=DIR python tests/benchmarks/amlr_study.py [--seeds 5] [--steps 150]
        [--only 7-Scenes] [--variants "silog only,fixed 1 : 10,gradient_balance"]

Trains a Swin-v2 of 0.2 million parameters from scratch with `silog_loss` and
`gradient_loss` on two recordings, a KITTI drive with sparse lidar depth and a room of
7-Scenes with dense depth, and tests it on frames of other times. A seed sets the first
parameters and the batches, the same ones for every rule. All rules are one compiled
step, which takes the rule's number; a loop of steps in Python, because XLA's
convolutions within `lax.scan` take seven times as long on a CPU. 15 minutes of CPU
time. Prints the tables of docs/amlr.md and, of a whole run, draws its pictures.
"""

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax

from amlr_jax import losses, metrics, rebalance
from amlr_jax.data import custom, depth_files, images
from amlr_jax.data.frames import Frame, Layout
from amlr_jax.evaluate.comparison import CONFIDENCE, RESAMPLES
from amlr_jax.models.decoders.depth import GradualDecoder
from amlr_jax.models.depth_network import DepthNetwork
from amlr_jax.models.swin_v2 import SwinV2

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

DRIVE = "2011_09_26/2011_09_26_drive_0013_sync"
TRUTH = "kitti/data_depth_annotated/val/2011_09_26_drive_0013_sync/proj_depth"
METRICS = ("abs_rel", "d1", "edges")
PAIRED = (("abs_rel", "silog only"), ("abs_rel", "best fixed"), ("edges", "silog only"))
BATCH, WINDOW, PEAK = 4, 5, 2e-3
SHARES = {"silog": 0.99, "gradient": 0.01}
windowed = partial(rebalance.every_k_steps, k=WINDOW)
GIVEN = optax.with_extra_args_support(optax.identity())  # weights stay as they start
RULES = {
    "fixed": GIVEN,
    "lee_kim": windowed(rebalance.lee_kim()),
    "amlr": windowed(rebalance.amlr(1e-3, shares=SHARES)),
    "log_amlr": windowed(rebalance.log_amlr(1e-2, shares=SHARES)),
    "relobralo": rebalance.relobralo(),
    "gradient_balance": windowed(rebalance.gradient_balance()),
}
# Fixed weights of silog and gradient loss.
WEIGHTS = {"silog only": (1, 0), "gradient only": (0, 1)}
GRID = {f"fixed 1 : {weight:g}": (1, weight) for weight in (0.1, 1, 10, 30, 100, 300)}
VARIANTS = {name: ("fixed", pair) for name, pair in (WEIGHTS | GRID).items()}
VARIANTS |= {name: (name, (0.5, 0.5)) for name in RULES if name != "fixed"}
FIGURES = Path(__file__).parents[2] / "docs" / "images"

# ---------------------------------------------------------------- recordings


class Recording(NamedTuple):
    """Images uint8 [N, H, W, 3] and depth float32 [N, H, W], 0 = none."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    crop: tuple[int, int]  # of training
    max_depth: float


def kitti(root: Path) -> Recording:
    """32 frames in a row; the test are the Eigen test frames a second or more away."""
    drive = root / "kitti/raw_data" / DRIVE / "image_02/data"
    found = custom.pairs(drive, root / TRUTH / "groundtruth/image_02")
    train = [frame for frame in found if 40 <= int(frame.key) <= 71]
    test = [frame for frame in found if not 31 <= int(frame.key) <= 79]
    read = partial(read_all, layout=Layout("kitti", "", 256.0, (), ()), factor=8)
    return Recording(read(train, kb_crop=True), read(test, kb_crop=True), (44, 80), 80)


def seven_scenes(root: Path) -> Recording:
    """The first 257 frames; the test is every second one of the last fifth."""
    found = custom.pairs(root / "seven_scenes/rgb", root / "seven_scenes/depth")
    layout = Layout("custom", "", 1000.0, (), (), invalid_values=(65535.0,))
    read = partial(read_all, layout=layout, factor=10)
    return Recording(read(found[:257]), read(found[267::2]), (48, 64), 10)


def read_all(
    frames: list[Frame], *, layout: Layout, factor: int, kb_crop: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Frames reduced by an integer: mean colours, and the nearest depth of a cell."""
    colours, depths = [], []
    for frame in frames:
        image = images.read_as_rgb(frame.image)
        depth = depth_files.read(frame, layout, image.shape[:2]).codes
        if kb_crop:
            top, left = metrics.kb_crop_offsets(*depth.shape)
            image, depth = (
                x[top : top + 352, left : left + 1216] for x in (image, depth)
            )
        height, width = (size // factor for size in depth.shape)
        depth = depth[: height * factor, : width * factor] / layout.depth_scale
        cells = depth.reshape(height, factor, width, factor).swapaxes(1, 2)
        nearest = np.where(cells > 0, cells, np.inf).min((2, 3))
        depths.append(np.where(np.isfinite(nearest), nearest, 0))
        image = image[: height * factor, : width * factor]
        colours.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    return np.stack(colours), np.stack(depths).astype(np.float32)


RECORDINGS = {"KITTI": kitti, "7-Scenes": seven_scenes}

# ---------------------------------------------------------------- training


def small_network(max_depth: float) -> DepthNetwork:
    """Three stages of one block each, and AMLR's decoder."""
    encoder = SwinV2(
        embed_dim=24,
        depths=(1, 1, 1),
        num_heads=(1, 2, 4),
        window_size=(8, 8, 8),
        pretrained_window_size=(8, 8, 8),
        use_shift=(False, False, False),
        residual_init=0.1,
    )
    options = {"max_depth": max_depth, "kernel_init": "he"}
    return DepthNetwork(encoder, GradualDecoder((32, 16), 8, **options))


class Training:
    """One compiled step for all rules, and the test."""

    def __init__(self, data: Recording, steps: int) -> None:
        self.data, self.network = data, small_network(data.max_depth)
        self.steps = steps
        schedule = optax.cosine_onecycle_schedule(steps, PEAK)
        self.optimizer = optax.adamw(schedule, weight_decay=0.05)
        self.init = jax.jit(partial(self.network.init, train=False))
        self.step = jax.jit(self._step)
        self.evaluate = jax.jit(self._evaluate)

    def start(self, key: jax.Array, weights: tuple[float, float]) -> tuple:
        """Parameters, statistics, moments, loss weights and the states of all rules."""
        image = jnp.zeros((1, *self.data.crop, 3))
        variables = self.init(key, image)
        params, statistics = variables["params"], variables["batch_stats"]
        named = dict(zip(SHARES, map(jnp.float32, weights), strict=True))
        states = {name: rule.init(named) for name, rule in RULES.items()}
        return params, statistics, self.optimizer.init(params), named, states

    def _losses(self, params: Any, statistics: Any, image, depth) -> tuple[dict, Any]:
        variables = {"params": params, "batch_stats": statistics}
        found, updated = self.network.apply(
            variables, image, train=True, mutable=["batch_stats"]
        )
        options = {"where": depth > 0}
        both = losses.silog_loss, losses.gradient_loss
        values = (loss(found, depth, **options) for loss in both)
        return dict(zip(SHARES, values, strict=True)), updated["batch_stats"]

    def _step(self, carry: tuple, rule: jax.Array, key: jax.Array) -> tuple:
        params, statistics, moments, weights, states = carry
        image, depth = draw(key, *self.data.train, self.data.crop)
        fixed = {"statistics": statistics, "image": image, "depth": depth}
        of_params = partial(self._losses, **fixed)
        found, pull, statistics = jax.vjp(of_params, params, has_aux=True)

        def norms() -> dict:  # of the decoder's head, the last layers that both share
            options = {"subset": lambda path: "head" in path, "has_aux": True}
            return rebalance.per_loss_gradients(of_params, params, **options).norms

        def branch(name: str, weights: dict, states: dict) -> tuple[dict, dict]:
            extra = {"losses": found, "gradient_norms": norms}
            weights, state = RULES[name].update(weights, states[name], **extra)
            return weights, states | {name: state}

        branches = [partial(branch, name) for name in RULES]
        weights, states = jax.lax.switch(rule, branches, weights, states)
        (gradient,) = pull(weights)
        updates, moments = self.optimizer.update(gradient, moments, params)
        params = optax.apply_updates(params, updates)
        return (params, statistics, moments, weights, states), (found, weights)

    def _evaluate(self, params: Any, statistics: Any, colours, depth) -> dict:
        """Metrics of each test frame."""
        variables = {"params": params, "batch_stats": statistics}
        found = self.network.apply(variables, colours / 255.0, train=False)
        edges = losses.gradient_loss(found, depth, where=depth > 0, per_image=True)
        values = metrics.depth_metrics(found, depth, where=depth > 0)
        return values | {"edges": jnp.sqrt(edges)}

    def run(self, seed: int, rule: str, weights: tuple) -> tuple[dict, dict]:
        """Metrics of each test frame, and losses and weights of each step."""
        first, *keys = jax.random.split(jax.random.key(seed), self.steps + 1)
        carry, record = self.start(first, weights), []
        for key in keys:
            carry, values = self.step(carry, list(RULES).index(rule), key)
            record.append(values)
        path = jax.tree.map(lambda *x: np.array(x), *record)
        measured = self.evaluate(*carry[:2], *self.data.test)
        return jax.tree.map(np.asarray, measured), path


def draw(key: jax.Array, colours, depth, crop: tuple[int, int]) -> tuple:
    """A batch of random crops, half of them mirrored."""

    def one(key):
        which, at, flip = jax.random.split(key, 3)
        index = jax.random.randint(which, (), 0, len(colours))
        room = jnp.array(depth.shape[1:]) - jnp.array(crop) + 1
        start = (jax.random.uniform(at, (2,)) * room).astype(int)
        image, target = (
            jax.lax.dynamic_slice(x[index], (*start, *rest), (*crop, *x.shape[3:]))
            for x, rest in ((jnp.asarray(colours), (0,)), (jnp.asarray(depth), ()))
        )
        mirrored = jax.random.bernoulli(flip)
        return [jnp.where(mirrored, x[:, ::-1], x) for x in (image / 255.0, target)]

    return tuple(jax.vmap(one)(jax.random.split(key, BATCH)))


def run_all(
    data: Recording, *, seeds: int, steps: int, variants: list[str]
) -> dict[str, list[tuple]]:
    """Variant -> for each seed the metrics of the test and the path of the run."""
    training, found = Training(data, steps), {name: [] for name in variants}
    for seed in range(seeds):
        for name in variants:
            found[name].append(training.run(seed, *VARIANTS[name]))
            print(f"seed {seed}, {name}", end="    \r", flush=True)
    return found


# ---------------------------------------------------------------- tables and pictures


def values_of(found: dict[str, list[tuple]], metric: str) -> dict[str, np.ndarray]:
    """A metric by variant, [seeds, frames], with the best fixed weights of the grid.

    Each seed takes the weights whose mean Abs Rel over the other seeds is the lowest.
    """
    values = {name: np.array([r[0][metric] for r in v]) for name, v in found.items()}
    runs = [found[name] for name in GRID if name in found]
    grid = np.array([[run[0]["abs_rel"].mean() for run in each] for each in runs])
    best = (grid.sum(1, keepdims=True) - grid).argmin(0)
    chosen = np.array([runs[k][seed][0][metric] for seed, k in enumerate(best)])
    return values | {"best fixed": chosen}


def difference(values: np.ndarray, to: np.ndarray) -> str:
    """Mean paired difference, and the interval over resampled seeds and frames."""
    paired, rng = values - to, np.random.default_rng(0)
    seeds, frames = (
        rng.multinomial(size, np.full(size, 1 / size), RESAMPLES) / size
        for size in paired.shape
    )
    means = np.sum((seeds @ paired) * frames, 1)
    low, high = np.quantile(means, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    star = "*" if low > 0 or high < 0 else ""
    return f"{paired.mean():+.4f} ({low:+.4f} to {high:+.4f}){star}"


def print_table(title: str, data: Recording, found: dict[str, list[tuple]]) -> None:
    """Markdown."""
    values = {metric: values_of(found, metric) for metric in METRICS}
    depth = data.test[1]
    constant = np.median(data.train[1][data.train[1] > 0])
    error = [np.mean(abs(constant - d[d > 0]) / d[d > 0]) for d in depth]
    options = {"where": depth > 0, "per_image": True}
    flat = np.sqrt(losses.gradient_loss(np.ones_like(depth), depth, **options)).mean()
    print(f"\n{title}: {len(data.train[0])} training and {len(depth)} test frames,")
    print(f"depth at {np.mean(depth > 0):.0%} of the pixels. The median depth of the")
    print(f"training frames: Abs Rel {np.mean(error):.3f}, edges {flat:.3f}\n")
    heading = "| weights | Abs Rel | d1 | edges | Abs Rel - silog only |"
    heading += " Abs Rel - best fixed | edges - silog only | gradient : silog |\n"
    print(heading + "|---" * 8 + "|")
    for name in values["abs_rel"]:
        means = [values[metric][name].mean(1) for metric in METRICS]
        cells = [f"{x.mean():.3f} ± {x.std(ddof=1):.3f}" for x in means]
        for metric, other in PAIRED:
            pair = values[metric][name], values[metric][other]
            cells.append(difference(*pair) if name != other else "")
        cells.append(balance(found[name]) if name in found else "")
        print("|", " | ".join([name, *cells]), "|", flush=True)


def balance(runs: list[tuple]) -> str:
    """The range over seeds of the last weight of the gradient loss over silog's."""
    last = [{name: path[-1] for name, path in run[1][1].items()} for run in runs]
    if not all(one["silog"] for one in last):
        return "-"
    ratios = [one["gradient"] / one["silog"] for one in last]
    return f"{min(ratios):.3g} to {max(ratios):.3g}"


def draw_weights(results: dict[str, dict], file: Path) -> None:
    """The weights over time, a line a seed; a column a rule and a row a recording."""
    moving = [name for name in RULES if name != "fixed"]
    options = {"figsize": (2.4 * len(moving), 5), "layout": "constrained"}
    options |= {"sharex": True, "sharey": True}
    figure, axes = plt.subplots(len(results), len(moving), **options)
    for row, (title, found) in zip(axes, results.items(), strict=True):
        for axis, name in zip(row, moving, strict=True):
            for loss, color in zip(SHARES, ("tab:blue", "tab:orange"), strict=True):
                paths = np.array([run[1][1][loss] for run in found[name]]).T
                lines = axis.plot(paths, color=color, lw=0.8)
                lines[0].set_label(loss)
            axis.set(title=name, yscale="log")
            axis.yaxis.set_major_formatter("{x:g}")
        row[0].set_ylabel(f"{title}\nweight")
    axes[0, 0].legend(frameon=False)
    figure.supxlabel("step")
    figure.savefig(file, dpi=80)


def draw_errors(results: dict[str, dict], file: Path) -> None:
    """Abs Rel against the error of edges: mean and standard deviation over seeds."""
    options = {"figsize": (11, 4.5), "layout": "constrained"}
    figure, axes = plt.subplots(1, len(results), **options)
    for axis, (title, found) in zip(axes, results.items(), strict=True):
        both = [values_of(found, metric) for metric in ("abs_rel", "edges")]
        for number, name in enumerate(both[0]):
            if name in ("gradient only", "best fixed"):  # off the scale; of the grid
                continue
            x, y = (values[name].mean(1) for values in both)
            options = {"xerr": x.std(ddof=1), "yerr": y.std(ddof=1), "label": name}
            marker = "o" if number < len(WEIGHTS | GRID) else "s"
            axis.errorbar(x.mean(), y.mean(), fmt=marker, capsize=2, **options)
        axis.set(title=title, xlabel="Abs Rel", ylabel="edges", xscale="log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("{x:g}")
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    figure.savefig(file, dpi=80)


def main() -> None:
    """Trains, prints, draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--only", choices=RECORDINGS)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    options = parser.parse_args()
    root, results = Path(os.environ["AMLR_REAL_DATA"]), {}
    size = {"seeds": options.seeds, "steps": options.steps}
    variants = options.variants.split(",")
    for title in [options.only] if options.only else RECORDINGS:
        data = RECORDINGS[title](root)
        results[title] = run_all(data, **size, variants=variants)
        print_table(title, data, results[title])
    if len(results) == len(RECORDINGS) and len(variants) == len(VARIANTS):
        draw_weights(results, FIGURES / "amlr_weights.png")
        draw_errors(results, FIGURES / "amlr_errors.png")


if __name__ == "__main__":
    main()
