"""The objective and its gradients beside PyTorch, both in double precision.

In float32 the two may choose another source at a pixel where two errors are nearly
alike, another cell where a sample falls on a pixel, another side of |x - y| = 0. So
gradients of single pixels differ, as those of PyTorch do from its own in float64. In
float64 almost nothing of that is left, and what could differ is the equations.
"""

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

pytest.importorskip("torch")

# The package asks for float32 by the name jnp.float32, in every module.
IN_DOUBLE = """
import jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
jnp.float32 = jnp.float64
import numpy as np, torch
torch.set_default_dtype(torch.float64)
from amlr_jax.losses import photometric
from tests.train import test_self_supervised as t
photometric.NOISE = 0.0
for options in ({"kind": "monodepth2"}, {"kind": "ssim_a"}):
    batch = t.made_batch()
    got, _, gradient = t.call(batch, **options)
    leaves = jax.tree.map(
        lambda p: torch.tensor(np.array(p), requires_grad=True),
        t.variables()["params"],
    )
    want = t.in_torch(leaves, batch, **options)
    for name, value in want.items():
        assert gradient["pose"]["r"].dtype == np.float64
        off = abs(float(got[name]) - value.item())
        assert off < 1e-6 * abs(value.item()), (options, name, off)
    sum(t.WEIGHTS[name] * value for name, value in want.items()).backward()
    theirs = jax.tree.map(lambda p: p.grad.numpy(), leaves)

    def compare(path, a, b):
        off = np.linalg.norm(a - b) / np.linalg.norm(b)
        print(options, jax.tree_util.keystr(path), off)
        assert off < 1e-5, (options, path, off)

    jax.tree_util.tree_map_with_path(compare, gradient, theirs)
print("equal")
"""


@pytest.mark.slow
def test_gradients_equal_those_of_the_equations():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_DOUBLE],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["equal"], done.stdout + done.stderr
