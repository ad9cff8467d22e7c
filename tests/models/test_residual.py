"""The residual block of transformers: drop path, and rematerialisation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models import mix_transformer, residual, swin_v2


class _Branches(residual.Block):
    """Branches that add 1 and 10 times the input."""

    def attend(self, x):
        return x

    def transform(self, x):
        return 10 * jnp.ones_like(x)


class _Row(nn.Module):
    rates: tuple[float, ...]

    @nn.compact
    def __call__(self, x, train):
        blocks = [_Branches(drop_path=rate) for rate in self.rates]
        return residual.run_blocks(blocks, x, train=train)


def _apply(x, *rates, train=True, seed=0):
    rngs = {"drop_path": jax.random.key(seed)}
    return _Row(rates).apply({}, x, train, rngs=rngs)


def test_drop_path_takes_whole_samples_and_keeps_the_mean():
    x = jnp.ones((400, 2, 3, 4))
    np.testing.assert_array_equal(_apply(x, 0.0), 12 * x)
    np.testing.assert_array_equal(_apply(x, 0.25, train=False), 12 * x)
    y = np.asarray(_apply(x, 0.25)).reshape(400, -1)
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    both = [1 + a + b for a in (0, 1 / 0.75) for b in (0, 10 / 0.75)]
    np.testing.assert_allclose(np.unique(y), sorted(both), rtol=1e-6)
    assert abs(y.mean() - 12) < 0.8
    np.testing.assert_array_equal(_apply(x, 0.25), _apply(x, 0.25))
    assert not np.array_equal(_apply(x, 0.25, seed=1), _apply(x, 0.25))


def test_each_block_of_a_row_has_its_rate_and_its_draws(jit):
    rates = (0.0, 0.2, 0.6)

    class Counted(residual.Block):
        """A branch adds 1, or 8 the second, to the channel of its block."""

        number: int = 0

        def attend(self, x):
            return jnp.zeros_like(x).at[..., self.number].set(1.0)

        def transform(self, x):
            return 8 * self.attend(x)

    class Row(nn.Module):
        @nn.compact
        def __call__(self, x):
            blocks = [Counted(drop_path=r, number=n) for n, r in enumerate(rates)]
            return residual.run_blocks(blocks, x, train=True)

    x = jnp.zeros((4000, 1, 1, 3))
    y = np.asarray(jit(Row().apply)({}, x, rngs={"drop_path": jax.random.key(0)}))
    scaled = (y[:, 0, 0] * (1 - np.array(rates))).round(4)  # 0, 1, 8 or 9
    kept = np.stack([scaled % 2 == 1, scaled >= 8], -1).reshape(4000, -1)
    np.testing.assert_allclose(kept.mean(0), 1 - np.repeat(rates, 2), atol=0.03)
    related = np.corrcoef(kept[:, 2:].T)
    np.testing.assert_allclose(related, np.eye(4), atol=0.06)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_drop_path_at_its_bounds_has_finite_gradients(rate):
    x = jnp.full((3, 1, 1, 2), 5.0)
    y, gradient = jax.value_and_grad(lambda x: _apply(x, rate).sum())(x)
    assert y == x.size * (5 if rate else 20)
    np.testing.assert_array_equal(gradient, np.full(x.shape, 1 if rate else 2))


def _swin(remat):
    return swin_v2.SwinV2(
        embed_dim=8,
        depths=(3,),
        num_heads=(2,),
        window_size=(4,),
        pretrained_window_size=(2,),
        use_shift=(True,),
        residual_init=1.0,
        drop_path=0.5,
        remat=remat,
    )


def _mit(remat):
    sizes = {"embed_dims": (8,), "depths": (3,), "num_heads": (2,), "reductions": (2,)}
    return mix_transformer.MixTransformer(**sizes, drop_path=0.5, remat=remat)


@pytest.mark.parametrize("make", [_swin, _mit])
def test_recomputed_blocks_have_the_same_values_and_gradients(
    make, random_variables, jit
):
    image = jnp.asarray(np.random.default_rng(0).random((3, 24, 28, 3), np.float32))
    params = random_variables(make(False))["params"]

    def computed(net: nn.Module):
        def loss(params):
            rngs = {"drop_path": jax.random.key(7)}
            last = net.apply({"params": params}, image, train=True, rngs=rngs)[-1]
            return jnp.sin(last).sum()

        recomputes = "remat" in str(jax.make_jaxpr(jax.grad(loss))(params))
        return recomputes, jit(jax.value_and_grad(loss))(params)

    (kept, expected), (recomputed, found) = computed(make(False)), computed(make(True))
    assert (kept, recomputed) == (False, True)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())
