"""Rows of equal transformer blocks: their drop path, and one compiled body for a row.

Most instructions of a network are copies of one block: 18 in the third stage of Swin
V2. On a GPU `run_blocks` compiles such a row once, as a loop over stacked parameters.
The parameters keep the names of single blocks outside of the loop: the stacks exist in
the compiled function alone.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

# Repeats from which a row is a loop, by platform; without an entry never. On a CPU the
# large network compiles as long as a loop (28 and 31 s), which needs 0.9 GB more.
LEAST = {"gpu": 4}


class Drop(NamedTuple):
    """Stochastic depth of a block with two branches."""

    keep: Any  # probability of a branch of a sample
    keys: Any  # one for each branch


class Block(nn.Module):
    """x + attend(x), then x + transform(x), with drop path; (B, H, W, C).

    Subclasses define both branches, as a block of `attention` and an MLP.

    Attributes:
      drop_path: rate of both branches.
      num_heads, attention: of the attention; see `attention.attention`.
      norm_eps: of the norms.
      dtype: of the matrix products and the residual stream.
    """

    drop_path: float = 0.0
    num_heads: int = 1
    norm_eps: float = 1e-6
    dtype: Any = jnp.float32
    attention: str = "xla"

    @nn.compact
    def __call__(
        self, x_BHWC: jax.Array, train: bool, drop: Drop | None = None
    ) -> jax.Array:
        drop = self.drop(train) if drop is None else drop
        x_BHWC = x_BHWC.astype(self.dtype)
        x_BHWC = x_BHWC + drop_path(self.attend(x_BHWC), drop, 0)
        return x_BHWC + drop_path(self.transform(x_BHWC), drop, 1)

    @nn.nowrap
    def drop(self, train: bool) -> Drop | None:
        """Draws for a call; None to keep everything. Call it once for each call."""
        if not train or not self.drop_path:
            return None
        own: Any = self.scope  # as of two `nn.Dropout`, whose numbers these are
        scopes = (own.push(f"Dropout_{n}", reuse=True) for n in range(2))
        keys = jnp.stack([scope.make_rng("drop_path") for scope in scopes])
        return Drop(jnp.float32(1 - self.drop_path), keys)


def drop_path(x_BHWC: jax.Array, drop: Drop | None, branch: int) -> jax.Array:
    """Stochastic depth: drops the branch of each sample with the rate of its block.

    What is kept is divided by the probability of that, so the mean stays. Huang et al.,
    "Deep Networks with Stochastic Depth", ECCV 2016.
    """
    if drop is None:
        return x_BHWC
    shape = (len(x_BHWC), 1, 1, 1)
    kept = jax.random.bernoulli(drop.keys[branch], drop.keep, shape)
    share = jnp.maximum(drop.keep, 1e-6).astype(x_BHWC.dtype)
    return jnp.where(kept, x_BHWC / share, 0)


def run_blocks(
    parent: nn.Module,
    blocks: Sequence[Block],
    x_BHWC: jax.Array,
    *,
    train: bool,
    period: int = 1,
    remat: bool = False,
) -> jax.Array:
    """The blocks one after the other; long rows are a loop, which is compiled once.

    Args:
      parent: the module whose children the blocks are; call it in its compact method.
      period: block n is equal to block n + `period`, but for its drop path.
      remat: recompute every block in the backward pass instead of keeping it.
    """
    repeats = 0 if parent.is_initializing() else len(blocks) // period
    if repeats < LEAST.get(jax.default_backend(), math.inf):
        repeats = 0
    if repeats:
        looped = blocks[: repeats * period]
        x_BHWC = _loop(parent, looped, x_BHWC, train, period=period, remat=remat)
    call = nn.remat(_call, static_argnums=2) if remat else _call
    for block in blocks[repeats * period :]:
        x_BHWC = call(block, x_BHWC, train)
    return x_BHWC


def _call(block: Block, x: jax.Array, train: bool) -> jax.Array:
    return block(x, train)


def _loop(parent, blocks, x, train: bool, *, period: int, remat: bool) -> jax.Array:
    """`lax.scan` over groups of `period` blocks."""
    params = [parent.variables["params"][block.name] for block in blocks]
    drops = [block.drop(train) for block in blocks]
    drawn = [drop for drop in drops if drop is not None]
    if drawn:  # a block without a drop path keeps all, with any key
        drops = [drop or drawn[0]._replace(keep=jnp.float32(1)) for drop in drops]
    units = [block.clone(parent=None, name=None) for block in blocks[:period]]
    pairs = list(zip(params, drops, strict=True))
    stacked = [
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *pairs[place::period])
        for place in range(period)
    ]

    def body(x, group):
        for unit, (leaves, drop) in zip(units, group, strict=True):
            x = unit.apply({"params": leaves}, x, train, drop)
        return x, None

    body = jax.checkpoint(body, prevent_cse=False) if remat else body
    return jax.lax.scan(body, x, stacked)[0]
