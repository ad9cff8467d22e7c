"""Do the loss weights stay where they belong? `amlr` and `log_amlr` in a simulation.

    python tests/benchmarks/amlr_stability.py [--seeds 64] [--figure FILE.png]

Two losses near 0.1 and 0.02 with multiplicative noise, shares .99 and .01, for the
115,770 steps of the paper's KITTI run; no network. Once without a trend, where weights
should stay, and once with a gradient loss that falls tenfold, which they should answer.
Under a minute on two cores. Prints the tables of docs/amlr_stability.md and draws its
figure. Needs jax, optax, matplotlib.
"""

import argparse
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

from amlr_jax import rebalance

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

NAMES = ("gradient", "silog")
MEANS = np.array([0.02, 0.1])
SHARES = {"gradient": 0.01, "silog": 0.99}
RULES = {"amlr": rebalance.amlr, "log_amlr": rebalance.log_amlr}
RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
TIMESTEPS = {"batch": 1, "quarter epoch": 965, "epoch": 3859}
NOISES = (0.05, 0.2)  # standard deviation of the logarithm of a batch's loss
FALLS = (1.0, 10.0)  # the gradient loss ends at its start divided by this
STEPS, RECORD = 115_770, 227  # a record every 227 steps, 17 an epoch
BAND = 1.05
FIGURE = Path(__file__).parents[2] / "docs" / "amlr_stability.png"

# ---------------------------------------------------------------- simulation


def run(rule: str, every: int, noise, fall, rate, normals) -> dict[str, jax.Array]:
    """One run, from standard normal numbers [records, RECORD, 2].

    Returns w^1, the weights of Eq. 9, [2]; w / w^1 at each record [records, 2], and
    its extremes over all steps from w^1 on, [2].
    """
    rule = rebalance.every_k_steps(RULES[rule](rate, shares=SHARES), every)

    def step(carry, inputs):
        weights, state, first, low, high = carry
        at, normal = inputs
        losses = MEANS * jnp.exp(noise * normal)
        losses *= jnp.array([fall ** (-at / (STEPS - 1)), 1.0])
        losses = dict(zip(NAMES, losses, strict=True))
        weights, state = rule.update(weights, state, losses=losses)
        now = jnp.stack([weights[name] for name in NAMES])
        first = jnp.where(state.inner.count <= 2, now, first)
        ratio = jnp.where(state.inner.count < 2, 1.0, now / first)
        low, high = jnp.minimum(low, ratio), jnp.maximum(high, ratio)
        return (weights, state, first, low, high), None

    def record(carry, inputs):
        carry, _ = jax.lax.scan(step, carry, inputs)
        return carry, jnp.stack([carry[0][name] for name in NAMES])

    weights, ones = rebalance.equal_weights(NAMES), jnp.ones(2)
    carry = (weights, rule.init(weights), ones, ones, ones)
    steps = jnp.arange(STEPS, dtype=jnp.float32).reshape(-1, RECORD)
    (*_, first, low, high), path = jax.lax.scan(record, carry, (steps, normals))
    return {"first": first, "path": path / first, "low": low, "high": high}


@partial(jax.jit, static_argnums=(0, 1))
def simulate(rule: str, every: int, normals) -> dict[str, jax.Array]:
    """All runs of a rule and timestep in one scan: [noise, fall, rate, seed, ...]."""
    runs = partial(run, rule, every)
    for axis in (3, 2, 1, 0):
        runs = jax.vmap(
            runs, [0 if argument == axis else None for argument in range(4)]
        )
    return runs(jnp.array(NOISES), jnp.array(FALLS), jnp.array(RATES), normals)


def simulate_all(seeds: int) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """(rule, timestep) -> the runs; every rule sees the same noise."""
    shape = (seeds, STEPS // RECORD, RECORD, 2)
    normals = np.random.default_rng(0).standard_normal(shape, np.float32)
    return {
        (rule, timestep): jax.tree.map(np.asarray, simulate(rule, every, normals))
        for rule in RULES
        for timestep, every in TIMESTEPS.items()
    }


# ---------------------------------------------------------------- tables


def departures(runs) -> np.ndarray:
    """The largest factor between any weight and its w^1, infinite if it was <= 0.

    [noise, fall, rate, seed].
    """
    low, high = runs["low"].min(-1), runs["high"].max(-1)
    reached = np.maximum(high, 1 / np.where(low > 0, low, 1))
    return np.where(low > 0, reached, np.inf)


def balances(runs) -> np.ndarray:
    """w_gradient / w_silog over its value in w^1, [noise, fall, rate, seed, records].

    NaN from where a weight is not positive on.
    """
    positive = np.minimum.accumulate((runs["path"] > 0).all(-1), axis=-1)
    gradient, silog = np.moveaxis(runs["path"], -1, 0)
    return np.where(positive, gradient / np.where(positive, silog, 1), np.nan)


def factor(x: float) -> str:
    """A factor as a percentage when it is small."""
    if not np.isfinite(x):
        return "<= 0"
    return f"{100 * (x - 1):.1f} %" if x < 2 else f"x {x:.3g}"


def row(runs, noise: int, rate: int) -> list[str]:
    """Departure, seeds outside, seeds not positive; then the balance under a trend."""
    still, moving = departures(runs)[noise, :, rate]
    moved = balances(runs)[noise, 1, rate, :, -1]
    followed = f"{np.median(moved):.3g} ({moved.min():.3g} .. {moved.max():.3g})"
    return [
        f"{factor(np.median(still))} ({factor(still.max())})",
        f"{np.sum(still > BAND)}",
        f"{np.sum(np.isinf(still))}",
        followed if np.isfinite(moving).all() else f"<= 0 in {np.isinf(moving).sum()}",
    ]


def print_tables(results) -> None:
    """Markdown: one table a noise level, then the accuracy of w^1."""
    for index, noise in enumerate(NOISES):
        print(f"\nNoise {noise:.0%}\n")
        print("| rule | timestep | lambda | departure | outside | <= 0 | balance |")
        print("|---|---|---|---|---|---|---|")
        for (rule, timestep), runs in results.items():
            for rate, name in enumerate(RATES):
                cells = [f"`{rule}`", timestep, f"{name:.0e}", *row(runs, index, rate)]
                print("|", " | ".join(cells), "|")
    print("\n| timestep | " + " | ".join(f"noise {n:.0%}" for n in NOISES) + " |")
    print("|---" * (1 + len(NOISES)) + "|")
    for timestep in TIMESTEPS:
        first = np.log(results["log_amlr", timestep]["first"][:, 0, 0])
        spread = np.std(first[..., 0] - first[..., 1], axis=-1)
        print(f"| {timestep} | " + " | ".join(f"{x:.1%}" for x in spread) + " |")


# ---------------------------------------------------------------- figure


def draw(results, file: Path, *, noise: int = 1, seeds: int = 16) -> None:
    """Balance over epochs: a row per rule and trend, a column per timestep.

    Of the first seeds only, so that single runs can be told apart.
    """
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False})
    plt.rcParams.update({"axes.spines.right": False, "legend.frameon": False})
    figure, axes = plt.subplots(
        4,
        len(TIMESTEPS),
        figsize=(11, 11),
        sharex=True,
        sharey="row",
        layout="constrained",
    )
    rows = [(rule, trend) for rule in RULES for trend in (0, 1)]
    for line, (rule, trend) in zip(axes, rows, strict=True):
        for axis, (timestep, every) in zip(line, TIMESTEPS.items(), strict=True):
            runs = balances(results[rule, timestep])[noise, trend, :, :seeds]
            _panel(axis, runs, every / TIMESTEPS["epoch"], trend)
        ticks = (1e-2, 0.1, 1, 10, 100) if rule == "amlr" else (0.5, 1, 2, 5, 10)
        line[0].set(ylim=(0.6 * ticks[0], 1.6 * ticks[-1]))
        line[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        line[0].set_yticks([], minor=True)
        name = "gradient loss falls tenfold" if trend else "no trend"
        line[0].set_ylabel(f"{rule}, {name}\n" + r"$w_{grad}/w_{silog}$ over its start")
    for axis, timestep in zip(axes[0], TIMESTEPS, strict=True):
        axis.set_title(f"updated every {timestep}")
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
    handles, labels = axes[1, 0].get_legend_handles_labels()
    title = f"Balance of the weights under {NOISES[noise]:.0%} noise, a line per seed"
    figure.legend(handles, labels, loc="outside upper center", ncols=8, title=title)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _panel(axis, runs: np.ndarray, window: float, trend: int) -> None:
    """All seeds of all lambdas from w^1 on; a cross where a weight turns <= 0."""
    epochs = np.arange(1, runs.shape[-1] + 1) * RECORD / TIMESTEPS["epoch"]
    shown = epochs >= 2 * window
    axis.axhspan(1 / BAND, BAND, color="0.85", zorder=0, label="5 % band")
    if trend:  # since the middle of the window of w^1
        wanted = FALLS[1] ** ((epochs - 1.5 * window) / epochs[-1])
        axis.plot(epochs[shown], wanted[shown], "k--", lw=1.2, label="keeps the share")
    colors = plt.cm.viridis(np.linspace(0.0, 0.9, len(RATES)))
    for size, rate, color, seeds in zip(
        (9, 6, 5, 5, 5), RATES, colors, runs, strict=True
    ):
        lines = axis.plot(epochs[shown], seeds[:, shown].T, color=color, lw=0.8)
        lines[0].set_label(rf"$\lambda = 10^{{{np.log10(rate):.0f}}}$")
        alive = np.isfinite(seeds).sum(-1)
        for seed, count in zip(seeds, alive, strict=True):
            if count < len(epochs):
                last = (epochs[count - 1], seed[count - 1]) if count else (0, 1)
                axis.plot(*last, "x", color=color, ms=size, mew=1.5)
    axis.set_yscale("log")


def main() -> None:
    """Simulates, prints, draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=64)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    options = parser.parse_args()
    results = simulate_all(options.seeds)
    print_tables(results)
    draw(results, options.figure)


if __name__ == "__main__":
    main()
