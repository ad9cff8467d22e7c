"""Our rules against those of TorchJD and LibMTL: the same input, the same weights.

    pip install torchjd cvxpy clarabel qpsolvers quadprog LibMTL
    python tests/benchmarks/rebalance_parity.py [--steps 20]

Both get the same losses and gradients, some steps of 2 to 8 losses; a rule that draws
random numbers gets our draws. Printed are the largest difference of a weight, relative
to the largest weight, and the median over steps, in float64, so that the equations are
compared. The weights of LibMTL are those of the gradients in the direction that it
leaves in the parameters, or come from its learned parameters; what it returns is
another quantity for GLS, CAGrad and IMTL. Two minutes of CPU time.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from unittest import mock

import jax
import numpy as np
import torch
from torchjd import aggregation

from amlr_jax import rebalance

sys.modules["LibMTL.model"] = mock.Mock()  # networks, of an old torchvision
from LibMTL import weighting  # noqa: E402

SIZE, RATE = 12, 0.05  # of a gradient; of the learned weights
ALL, TWO, THREE, MORE = (2, 3, 5, 8), (2,), (3,), (3, 5, 8)


def ours(rule, losses: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The weights of each step, [steps, n]; rows are the gradients, [steps, n, p]."""
    names = [str(i) for i in range(losses.shape[1])]
    weights, found = dict.fromkeys(names, np.float64(1.0)), []
    state, update = rule.init(weights), jax.jit(rule.update)
    for loss, row in zip(losses, rows, strict=True):
        norms = dict(zip(names, np.linalg.norm(row, axis=1), strict=True))
        extra = {"gradient_norms": norms, "gradient_gram": row @ row.T}
        named = dict(zip(names, loss, strict=True))
        weights, state = update(weights, state, losses=named, **extra)
        found.append(jax.tree.leaves(weights))
    return np.array(found)


def torchjd(make: Callable, losses: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A weighting of TorchJD, from the Gram matrix."""
    del losses
    return np.stack([make()(torch.from_numpy(row @ row.T)).numpy() for row in rows])


class Peer:
    """A weighting of LibMTL whose shared parameters are one vector."""

    def __init__(self, name: str, count: int) -> None:
        self.rule = getattr(weighting, name)()
        self.rule.task_num, self.rule.device, self.rule.rep_grad = count, "cpu", False
        self.shared = torch.zeros(SIZE, requires_grad=True)
        self.rule.get_share_params = lambda: [self.shared]
        self.rule.zero_grad_share_params = lambda: self.shared.grad.zero_()
        self.rule.init_param()

    def step(self, loss: np.ndarray, row: np.ndarray, **options) -> np.ndarray:
        """The weights of the gradients in the direction that the rule leaves."""
        self.shared.grad = torch.zeros(SIZE)
        values = torch.from_numpy(loss) + torch.from_numpy(row) @ self.shared
        self.rule.backward(values, **options)
        return np.linalg.lstsq(row.T, self.shared.grad.numpy())[0]


def libmtl(name: str, losses: np.ndarray, rows: np.ndarray, **options) -> np.ndarray:
    """A rule without a state."""
    peer, steps = Peer(name, losses.shape[1]), zip(losses, rows, strict=True)
    return np.array([peer.step(*each, **options) for each in steps])


def learned(
    name: str, losses: np.ndarray, rows: np.ndarray, *, weights: Callable, after=False
) -> np.ndarray:
    """A rule with learned parameters, by torch's Adam; weights before or after it."""
    peer, found = Peer(name, losses.shape[1]), []
    peer.rule.loss_scale.data.zero_()  # where our weights of 1 start
    optimizer = torch.optim.Adam([peer.rule.loss_scale], RATE)
    peer.rule.epoch, peer.rule.train_loss_buffer = 1, losses[:1].T
    for each in zip(losses, rows, strict=True):
        before = weights(peer.rule.loss_scale.detach())
        optimizer.zero_grad()
        peer.step(*each, alpha=1.5)
        optimizer.step()
        found.append(weights(peer.rule.loss_scale.detach()) if after else before)
    return torch.stack(found).numpy()


def dwa(losses: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Our call number t sets the weights of LibMTL's epoch t + 1."""
    peer, found = Peer("DWA", losses.shape[1]), []
    peer.rule.train_loss_buffer = losses.T
    for peer.rule.epoch, row in enumerate(rows, 1):
        found.append(peer.step(losses[0], row, T=2.0))
    return np.array(found)


def keys_of(steps: int) -> list[jax.Array]:
    """The keys that our rules draw from."""
    return [jax.random.fold_in(jax.random.key(0), step) for step in range(steps)]


def rlw(losses: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """With our draws."""
    size = losses.shape[1:]
    draws = iter([np.array(jax.random.normal(k, size)) for k in keys_of(len(losses))])
    given = mock.Mock(sample=lambda: torch.from_numpy(next(draws)))
    with mock.patch.object(weighting.RLW, "distribution", given, create=True):
        return libmtl("RLW", losses, rows, dist="Normal")


def pcgrad(losses: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """In our orders."""
    n = losses.shape[1]
    keys = [key for step in keys_of(len(rows)) for key in jax.random.split(step, n)]
    orders = iter([jax.random.permutation(key, n).tolist() for key in keys])

    def shuffle(indices: list) -> None:
        indices[:] = next(orders)

    with mock.patch("random.shuffle", shuffle):
        return libmtl("PCGrad", losses, rows)


mgda = partial(libmtl, "MGDA", mgda_gn="none")
cagrad = partial(libmtl, "CAGrad", calpha=0.5, rescale=0)
# Name, our rule, theirs, numbers of losses. TorchJD draws the orders of PCGrad, which
# do not matter to two gradients; LibMTL's CAGrad has the 3 in its code.
JD = aggregation
CASES = [
    (
        "mgda, TorchJD",
        rebalance.mgda(),
        partial(torchjd, partial(JD.MGDAWeighting, epsilon=1e-9, max_iters=20_000)),
        ALL,
    ),
    ("upgrad, TorchJD", rebalance.upgrad(), partial(torchjd, JD.UPGradWeighting), ALL),
    (
        "cagrad, TorchJD",
        rebalance.cagrad(),
        partial(torchjd, partial(JD.CAGradWeighting, c=0.5)),
        ALL,
    ),
    ("pcgrad, TorchJD", rebalance.pcgrad(), partial(torchjd, JD.PCGradWeighting), TWO),
    ("geometric, LibMTL", rebalance.geometric(), partial(libmtl, "GLS"), ALL),
    ("dwa, LibMTL", rebalance.dwa(), dwa, ALL),
    ("random_weights, LibMTL", rebalance.random_weights(), rlw, ALL),
    (
        "uncertainty, LibMTL",
        rebalance.uncertainty(RATE),
        partial(learned, "UW", weights=lambda s: torch.exp(-s)),
        ALL,
    ),
    (
        "imtl_l, LibMTL",
        rebalance.imtl_l(RATE),
        partial(learned, "IMTL", weights=torch.exp),
        ALL,
    ),
    (
        "grad_norm, LibMTL",
        rebalance.grad_norm(RATE),
        partial(
            learned,
            "GradNorm",
            weights=lambda z: len(z) * torch.softmax(z, 0),
            after=True,
        ),
        ALL,
    ),
    ("mgda of two, LibMTL", rebalance.mgda(), mgda, TWO),
    ("mgda, LibMTL", rebalance.mgda(), mgda, MORE),
    ("cagrad, LibMTL", rebalance.cagrad(), cagrad, THREE),
    ("pcgrad, LibMTL", rebalance.pcgrad(), pcgrad, ALL),
]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    steps = parser.parse_args().steps
    jax.config.update("jax_enable_x64", True)
    torch.set_default_dtype(torch.float64)
    for name, rule, theirs, counts in CASES:
        found: list[float] = []
        for count in counts:
            rng = np.random.default_rng(count)
            losses = np.exp(rng.normal(size=(steps, count)))
            rows = rng.normal(size=(steps, count, SIZE))
            rows *= np.exp(rng.normal(size=(steps, count, 1)))
            expected = theirs(losses, rows)
            difference = np.abs(ours(rule, losses, rows) - expected).max(1)
            found.extend(difference / np.abs(expected).max(1))
        print(f"{name:24} {max(found):.1e}  {np.median(found):.1e}", flush=True)


if __name__ == "__main__":
    main()
