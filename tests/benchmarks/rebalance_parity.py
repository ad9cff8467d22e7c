"""Our rules against those of TorchJD: the same Gram matrix in, the same weights out.

    pip install torchjd cvxpy clarabel qpsolvers quadprog
    python tests/benchmarks/rebalance_parity.py [--matrices 20]

Printed is the largest difference of a weight, relative to the largest weight, over
random Gram matrices of 2 to 8 gradients; in float64, so that the solvers are compared.
TorchJD solves MGDA by Frank-Wolfe steps and CAGrad by a cone solver, to about 1e-3 and
1e-5 of a weight; tests/rebalance/test_by_gradients.py compares both with SciPy.
"""

import argparse

import jax
import numpy as np
import torch
from torchjd import aggregation

from amlr_jax import rebalance


def ours(rule, gram):
    weights = rebalance.equal_weights([f"{i:02}" for i in range(len(gram))])
    weights, _ = rule.update(
        weights, rule.init(weights), losses=weights, gradient_gram=gram
    )
    return np.array(jax.tree.leaves(weights))


def frank_wolfe(gram):
    weighting = aggregation.MGDAWeighting(epsilon=1e-9, max_iters=20_000)
    return weighting(torch.from_numpy(gram)).numpy()


RULES = {
    "mgda": (rebalance.mgda(), frank_wolfe),
    "upgrad": (
        rebalance.upgrad(),
        lambda gram: aggregation.UPGradWeighting()(torch.from_numpy(gram)).numpy(),
    ),
    "cagrad": (
        rebalance.cagrad(0.5),
        lambda gram: aggregation.CAGradWeighting(c=0.5)(torch.from_numpy(gram)).numpy(),
    ),
    "pcgrad": (  # of two gradients, whose order does not matter
        rebalance.pcgrad(),
        lambda gram: aggregation.PCGradWeighting()(torch.from_numpy(gram)).numpy(),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--matrices", type=int, default=20)
    count = parser.parse_args().matrices
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    for name, (rule, theirs) in RULES.items():
        worst = 0.0
        for _ in range(count):
            n = 2 if name == "pcgrad" else int(rng.integers(2, 9))
            rows = rng.normal(size=(n, 12)) * np.exp(rng.normal(size=(n, 1)))
            gram = rows @ rows.T
            expected = theirs(gram)
            difference = np.abs(ours(rule, gram) - expected).max()
            worst = max(worst, difference / np.abs(expected).max())
        print(f"{name:8} {worst:.1e} over {count} matrices")


if __name__ == "__main__":
    main()
