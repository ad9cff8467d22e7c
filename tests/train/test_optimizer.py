"""The schedule's published values, and AdamW with layer decay against PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from amlr_jax.train.optimizer import adamw, polynomial

# MIM-Depth on KITTI: 24,100 steps of 964 an epoch, 25 epochs, peak after 12 of them.
KITTI = polynomial(24100, peak_at=11568 / 24100)


@pytest.mark.parametrize(
    "step, rate",
    [
        (1, 3.010e-5),
        (964, 8.022e-5),
        (5784, 2.819e-4),
        (11568, 5.000e-4),
        (11568 + 964, 4.498e-4),
        (24100 - 963, 3e-5),
        (24100, 3e-5),
    ],
)
def test_schedule_of_the_reference(step, rate):
    assert float(KITTI(step - 1)) == pytest.approx(rate, rel=2e-4)


def test_schedule_of_amlr_is_symmetric():
    """KITTI, batch 6, 30 epochs: 115,770 steps with the peak at 57,885."""
    rate = jax.vmap(polynomial(115770))(jnp.arange(115770))
    assert int(jnp.argmax(rate)) == 57884
    assert float(rate.max()) == pytest.approx(5e-4)
    assert float(rate[-1]) == pytest.approx(3e-5)
    assert bool(jnp.all(rate >= 3e-5))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_schedule_of_tiny_runs_is_finite(steps):
    rates = [float(polynomial(steps)(count)) for count in range(steps + 3)]
    assert all(3e-5 - 1e-9 <= rate <= 5e-4 + 1e-9 for rate in rates)


def numpy_adamw(params, gradients, *, rate, decay, scale, steps=3):
    """Loshchilov & Hutter's AdamW with decoupled decay, in float64."""
    m = v = np.zeros_like(params)
    for t in range(1, steps + 1):
        m = 0.9 * m + 0.1 * gradients
        v = 0.999 * v + 0.001 * gradients**2
        update = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        params = params - rate * scale * (update + decay * params)
    return params


def test_adamw_with_layer_decay():
    rng = np.random.default_rng(0)
    params = {"first": {"kernel": rng.normal(size=(3, 4)), "bias": rng.normal(size=4)}}
    params["last"] = {"kernel": rng.normal(size=(4, 2))}
    gradients = jax.tree.map(lambda p: rng.normal(size=p.shape), params)
    optimizer = adamw(
        optax.constant_schedule(1e-2),
        layer_scale=lambda path: 0.5 if path[0] == "first" else 1.0,
        has_weight_decay=lambda path, ndim: ndim > 1,
        weight_decay=0.1,
    )
    got = jax.tree.map(jnp.float32, params)
    state = optimizer.init(got)
    for _ in range(3):
        updates, state = optimizer.update(
            jax.tree.map(jnp.float32, gradients), state, got
        )
        got = optax.apply_updates(got, updates)
    settings = {"kernel": 0.1, "bias": 0.0}
    for layer, scale in (("first", 0.5), ("last", 1.0)):
        for name in params[layer]:
            want = numpy_adamw(
                params[layer][name],
                gradients[layer][name],
                rate=1e-2,
                decay=settings[name],
                scale=scale,
            )
            np.testing.assert_allclose(got[layer][name], want, atol=1e-6)


def test_adamw_equals_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    start, gradient = rng.normal(size=(2, 5, 3)).astype(np.float32)
    parameter = torch.nn.Parameter(torch.tensor(start))
    reference = torch.optim.AdamW([parameter], lr=3e-3, weight_decay=0.05)
    optimizer = adamw(
        optax.constant_schedule(3e-3),
        layer_scale=lambda path: 1.0,
        has_weight_decay=lambda path, ndim: True,
    )
    got = {"w": jnp.asarray(start)}
    state = optimizer.init(got)
    for _ in range(20):
        parameter.grad = torch.tensor(gradient)
        reference.step()
        updates, state = optimizer.update({"w": jnp.asarray(gradient)}, state, got)
        got = optax.apply_updates(got, updates)
    # Both work in float32; 20 steps of 3e-3 leave this much rounding.
    np.testing.assert_allclose(got["w"], parameter.detach().numpy(), atol=5e-6)


def test_clip_norm():
    optimizer = adamw(
        optax.constant_schedule(1.0),
        layer_scale=lambda path: 1.0,
        has_weight_decay=lambda path, ndim: False,
        clip_norm=1e-3,
    )
    params = {"w": jnp.zeros(2)}
    _, state = optimizer.update({"w": jnp.full(2, 1e6)}, optimizer.init(params), params)
    moment = optax.tree.get(state, "mu")["w"]
    assert float(jnp.linalg.norm(moment)) == pytest.approx(0.1 * 1e-3, rel=1e-4)
