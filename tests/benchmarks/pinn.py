"""What is a rule worth on PINNs? Burgers, Allen-Cahn and Helmholtz, error and cost.

    python tests/benchmarks/pinn.py [--seeds 5] [--steps 1500] [--only burgers]

The rules of RULES against equal weights and against the best fixed weights of a grid,
which each seed takes from the other seeds. A seed sets the first parameters and the
points of every step, the same ones for all rules. The runs advance in turn, a chunk of
steps each, so all timings see the same machine. A quarter of an hour of CPU time.
Prints the tables of docs/benchmarks.md. Needs jax, optax, scipy and the bootstrap of
`evaluate`.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.integrate import solve_ivp

from amlr_jax import rebalance
from amlr_jax.evaluate.comparison import bootstrap_interval

WIDTHS = (32, 32, 32)
INSIDE, EDGE = 128, 32  # random points a step of an equation, and of a condition
WINDOW = 50  # steps between two updates of a rule that compares means of losses
CHUNK, PEAK = 500, 5e-3
GRID = (0.1, 1.0, 10.0, 100.0, 1000.0)  # weight of the conditions; the equation's is 1
VISCOSITY, DIFFUSION, WAVES = 0.05 / np.pi, 1e-2, (1, 3)
windowed = partial(rebalance.every_k_steps, k=WINDOW)
RULES = {
    "fixed": optax.with_extra_args_support(optax.identity()),  # as they start
    "lee_kim": windowed(rebalance.lee_kim()),
    "amlr": windowed(rebalance.amlr(1e-3)),
    "log_amlr": windowed(rebalance.log_amlr(1e-2)),
    "dwa": windowed(rebalance.dwa()),
    "softadapt": windowed(rebalance.softadapt(normalized=True)),
    "uncertainty": rebalance.uncertainty(1e-3),  # and imtl_l, the same function
    "famo": rebalance.famo(1e-3),
    "relobralo": rebalance.relobralo(),
    "geometric": rebalance.geometric(),
    "random_weights": rebalance.random_weights(),
    "gradient_balance": windowed(rebalance.gradient_balance()),
    "ntk": windowed(rebalance.ntk()),
    "grad_norm": rebalance.grad_norm(0.025),  # this and the last four at every step
    "mgda": rebalance.mgda(),
    "upgrad": rebalance.upgrad(),
    "cagrad": rebalance.cagrad(),
    "pcgrad": rebalance.pcgrad(),
}

# ---------------------------------------------------------------- problems


class Problem(NamedTuple):
    """An equation on a rectangle of (t or x, x or y)."""

    low: tuple[float, float]
    high: tuple[float, float]
    features: Callable  # points [N, 2] -> inputs of the network
    # (u, inside, edge) -> name -> residuals [parts, N]; u: [N, 2] -> [N]
    residuals: Callable
    reference: Callable  # (axis 0, axis 1) -> u [len(axis 0), len(axis 1)], float64


def along(u: Callable, axis: int) -> Callable:
    """The derivative of u along a coordinate."""
    return lambda x: jax.jvp(u, (x,), (jnp.zeros_like(x).at[:, axis].set(1.0),))[1]


def burgers(u, inside, edge) -> dict:
    """u_t + u u_x = nu u_xx, u(0, x) = -sin(pi x), u(t, -1) = u(t, 1) = 0."""
    u_x = along(u, 1)
    change = along(u, 0)(inside) + u(inside) * u_x(inside)
    start, left, right = (
        edge.at[:, 0].set(0.0),
        *(edge.at[:, 1].set(x) for x in (-1, 1)),
    )
    return {
        "equation": (change - VISCOSITY * along(u_x, 1)(inside))[None],
        "initial": (u(start) + jnp.sin(jnp.pi * start[:, 1]))[None],
        "boundary": jnp.stack([u(left), u(right)]),
    }


def burgers_reference(t, x) -> np.ndarray:
    """Cole-Hopf: a ratio of Gauss-Hermite integrals over the heat kernel."""
    node, weight = np.polynomial.hermite.hermgauss(200)
    at = x[None, :, None] - np.sqrt(4 * VISCOSITY * t)[:, None, None] * node
    mass = weight * np.exp(-np.cos(np.pi * at) / (2 * np.pi * VISCOSITY))
    return -(np.sin(np.pi * at) * mass).sum(-1) / mass.sum(-1)


def allen_cahn(u, inside, edge) -> dict:
    """u_t = D u_xx + 5 (u - u^3), u(0, x) = x^2 cos(pi x), periodic by the features."""
    value, start = u(inside), edge.at[:, 0].set(0.0)
    growth = DIFFUSION * along(along(u, 1), 1)(inside) + 5 * (value - value**3)
    wanted = start[:, 1] ** 2 * jnp.cos(jnp.pi * start[:, 1])
    return {
        "equation": (along(u, 0)(inside) - growth)[None],
        "initial": (u(start) - wanted)[None],
    }


def allen_cahn_reference(t, x, *, modes: int = 512) -> np.ndarray:
    """Fourier in x, an adaptive method of order 8 in time."""
    grid = np.linspace(-1, 1, modes, endpoint=False)
    k2 = (np.pi * np.fft.rfftfreq(modes, 1 / modes)) ** 2

    def change(_, u):
        u_xx = np.fft.irfft(-k2 * np.fft.rfft(u), modes)
        return DIFFUSION * u_xx + 5 * (u - u**3)

    first, options = (
        grid**2 * np.cos(np.pi * grid),
        {"rtol": 1e-9, "atol": 1e-9, "first_step": 1e-5},
    )
    found = solve_ivp(change, (0, t[-1]), first, "DOP853", t_eval=t, **options)
    series = np.fft.rfft(found.y.T) / modes
    waves = np.exp(1j * np.pi * np.outer(np.arange(modes // 2 + 1), x + 1))
    twice = np.where(np.arange(modes // 2 + 1) % (modes // 2) == 0, 1, 2)
    return ((series * twice) @ waves).real


def helmholtz(u, inside, edge) -> dict:
    """u_xx + u_yy + u = q, u = 0 at the edge; q such that u is the sine product."""
    laplacian = sum(along(along(u, axis), axis)(inside) for axis in (0, 1))
    a, b = WAVES
    exact = jnp.prod(jnp.sin(jnp.pi * jnp.array(WAVES) * inside), -1)
    source = (1 - (a**2 + b**2) * jnp.pi**2) * exact
    sides = [edge.at[:, axis].set(x) for axis in (0, 1) for x in (-1, 1)]
    return {
        "equation": (laplacian + u(inside) - source)[None],
        "boundary": jnp.stack([u(side) for side in sides]),
    }


def helmholtz_reference(x, y) -> np.ndarray:
    """The exact solution."""
    a, b = WAVES
    return np.outer(np.sin(a * np.pi * x), np.sin(b * np.pi * y))


def periodic(x: jax.Array) -> jax.Array:
    """(t, cos pi x, sin pi x)."""
    angle = jnp.pi * x[:, 1:]
    return jnp.concatenate([x[:, :1], jnp.cos(angle), jnp.sin(angle)], -1)


PROBLEMS = {
    "burgers": Problem((0, -1), (1, 1), lambda x: x, burgers, burgers_reference),
    "allen_cahn": Problem(
        (0, -1), (0.5, 1), periodic, allen_cahn, allen_cahn_reference
    ),
    "helmholtz": Problem((-1, -1), (1, 1), lambda x: x, helmholtz, helmholtz_reference),
}

# ---------------------------------------------------------------- network and training


def network(params, features: Callable, x: jax.Array) -> jax.Array:
    """A multilayer perceptron with tanh, [N, 2] -> [N]."""
    x = features(x)
    for kernel, bias in params[:-1]:
        x = jnp.tanh(x @ kernel + bias)
    return (x @ params[-1][0] + params[-1][1])[:, 0]


class Training:
    """A compiled loop of steps for each rule."""

    def __init__(self, problem: Problem, steps: int) -> None:
        self.problem = problem
        self.optimizer = optax.adam(optax.cosine_decay_schedule(PEAK, steps, 0.01))
        self.names = list(jax.eval_shape(self._losses, *self._first(jax.random.key(0))))
        self.chunk = jax.jit(self._chunk, static_argnums=0)

    def start(self, key: jax.Array, rule: str, weight: float | None = None) -> tuple:
        """The carry of `chunk`: weights of the conditions, or equal ones for a rule."""
        params, key = self._first(key)
        weights = rebalance.equal_weights(self.names)
        if weight is not None:
            weights = {name: jnp.float32(weight) for name in self.names}
            weights["equation"] = jnp.float32(1)
        state = RULES[rule].init(weights)
        return params, self.optimizer.init(params), weights, state, key

    def _first(self, key: jax.Array) -> tuple[list, jax.Array]:
        inputs = self.problem.features(jnp.zeros((1, 2))).shape[1]
        sizes, kernel = (inputs, *WIDTHS, 1), jax.nn.initializers.glorot_normal()
        shapes = zip(jax.random.split(key, 4), sizes[:-1], sizes[1:], strict=True)
        return [(kernel(k, (a, b)), jnp.zeros(b)) for k, a, b in shapes], key

    def _points(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Random points in the rectangle, for the equation and for the conditions."""
        low, high = jnp.array(self.problem.low), jnp.array(self.problem.high)
        inner, outer = jax.random.split(key)
        return tuple(
            jax.random.uniform(key, (count, 2), minval=low, maxval=high)
            for key, count in ((inner, INSIDE), (outer, EDGE))
        )

    def _residuals(self, params: list, inside: jax.Array, edge: jax.Array) -> dict:
        u = partial(network, params, self.problem.features)
        return self.problem.residuals(u, inside, edge)

    def _losses(self, params: list, key: jax.Array) -> dict:
        found = self._residuals(params, *self._points(key))
        return {name: jnp.sum(jnp.mean(r**2, 1)) for name, r in found.items()}

    def _kernel_norms(self, params: list, key: jax.Array) -> dict:
        """The root of the mean diagonal of each loss's tangent kernel."""
        inside, edge = self._points(key)

        def norm(name: str, parts: int) -> jax.Array:
            def residual(params: list, x: jax.Array, *, part: int) -> jax.Array:
                return self._residuals(params, x[None], x[None])[name][part, 0]

            points = inside if name == "equation" else edge
            each = [partial(residual, part=part) for part in range(parts)]
            norms = [rebalance.ntk_norm(r, params, points) for r in each]
            return jnp.linalg.norm(jnp.stack(norms))

        shapes = jax.eval_shape(self._residuals, params, inside, edge)
        return {name: norm(name, len(r)) for name, r in shapes.items()}

    def _step(self, rule: str, carry: tuple) -> tuple:
        params, moments, weights, state, key = carry
        key, now = jax.random.split(key)
        losses_of = partial(self._losses, key=now)
        losses, pull = jax.vjp(losses_of, params)

        def gradients() -> rebalance.LossGradients:
            return rebalance.per_loss_gradients(losses_of, params)

        weights, state = RULES[rule].update(
            weights,
            state,
            losses=losses,
            gradient_norms=lambda: (
                self._kernel_norms(params, now) if rule == "ntk" else gradients().norms
            ),
            gradient_gram=lambda: gradients().gram,
        )
        (gradient,) = pull(weights)
        updates, moments = self.optimizer.update(gradient, moments)
        params = optax.apply_updates(params, updates)
        return params, moments, weights, state, key

    def _chunk(self, rule: str, carry: tuple) -> tuple:
        return jax.lax.fori_loop(0, CHUNK, lambda _, now: self._step(rule, now), carry)


class Runs(NamedTuple):
    """The runs of one rule, or of one weight of the grid."""

    rule: str
    carries: list  # of each seed
    seconds: list  # of each chunk


def train(problem: Problem, seeds: int, steps: int) -> dict[str, Runs]:
    """Advances all runs in turn, a chunk each: by weight of the grid, and by rule."""
    training, runs = Training(problem, steps), {}
    keys = jax.random.split(jax.random.key(0), seeds)
    variants = {f"{weight:g}": ("fixed", weight) for weight in GRID}
    variants |= {name: (name,) for name in RULES if name != "fixed"}
    for name, (rule, *weight) in variants.items():
        carries = [training.start(key, rule, *weight) for key in keys]
        runs[name] = Runs(rule, carries, [])
        jax.block_until_ready(training.chunk(rule, carries[0]))  # compiles
    for _ in range(steps // CHUNK):
        for seed in range(seeds):
            for one in runs.values():
                start = time.perf_counter()
                carry = training.chunk(one.rule, one.carries[seed])
                one.carries[seed] = jax.block_until_ready(carry)
                one.seconds.append(time.perf_counter() - start)
    return runs


def errors_of(problem: Problem, runs: dict[str, Runs]) -> dict[str, np.ndarray]:
    """The relative L2 error of each seed, on 101 x 257 points."""
    shape = (101, 257)
    ends = zip(problem.low, problem.high, shape, strict=True)
    axes = [np.linspace(*each) for each in ends]
    truth = problem.reference(*axes)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    points = jnp.asarray(grid.reshape(-1, 2))
    value = jax.jit(lambda params: network(params, problem.features, points))

    def error(carry) -> float:
        found = np.asarray(value(carry[0])).reshape(truth.shape)
        return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))

    return {
        name: np.array([error(c) for c in one.carries]) for name, one in runs.items()
    }


# ---------------------------------------------------------------- table


def best_of_grid(errors: dict[str, np.ndarray]) -> np.ndarray:
    """The error of each seed under the weight that is best for the other seeds."""
    logs = np.log([errors[f"{weight:g}"] for weight in GRID])
    others = logs.sum(1, keepdims=True) - logs
    return np.exp(logs[others.argmin(0), np.arange(logs.shape[1])])


def ratio(errors: np.ndarray, to: np.ndarray) -> str:
    """The geometric mean of the paired ratios, and its interval over seeds."""
    logs = np.log(errors / to)
    low, high = np.exp(bootstrap_interval(logs[:, None]))[:, 0]
    star = "*" if low > 1 or high < 1 else ""
    return f"{np.exp(logs.mean()):.2f} ({low:.2f} to {high:.2f}){star}"


def print_table(
    name: str, errors: dict[str, np.ndarray], runs: dict[str, Runs]
) -> None:
    """Markdown; errors in percent."""
    best, equal = best_of_grid(errors), errors["1"]
    print(f"\n{name}\n\n| weights | error, % | over equal | over best fixed | step |")
    print("|---|---|---|---|---|", flush=True)
    for label, found in {**errors, "best of the grid": best}.items():
        cost = ""
        if label in RULES:
            seconds = zip(runs[label].seconds, runs["1"].seconds, strict=True)
            cost = f"{statistics.median(a / b for a, b in seconds):.3f}"
        label = f"fixed, {label}" if label not in RULES else f"`{label}`"
        cells = [f"{100 * found.mean():.3g} ± {100 * found.std(ddof=1):.2g}"]
        cells += [ratio(found, equal), ratio(found, best), cost]
        print("|", " | ".join([label, *cells]), "|", flush=True)
    step = statistics.median(runs["1"].seconds) / CHUNK
    print(f"\nA step with fixed weights: {1e3 * step:.2f} ms")


def main() -> None:
    """Trains and prints, one problem after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--only", choices=PROBLEMS)
    options = parser.parse_args()
    for name in [options.only] if options.only else PROBLEMS:
        problem = PROBLEMS[name]
        runs = train(problem, options.seeds, options.steps)
        print_table(name, errors_of(problem, runs), runs)


if __name__ == "__main__":
    main()
