"""Flow geometry against PyTorch and plain loops; properties; degenerate input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax import geometry

torch = pytest.importorskip("torch")

rng = np.random.default_rng(0)
IMAGE, OTHER = rng.normal(size=(2, 2, 6, 9, 5)).astype(np.float32)
CONSISTENCY, VISIBILITY = (
    jax.jit(geometry.flow_consistency),
    jax.jit(geometry.flow_visibility),
)
FLOW = rng.normal(0, 3, (2, 6, 9, 2)).astype(np.float32)


def test_warp_and_its_gradients_are_those_of_torch():
    image = torch.tensor(IMAGE.transpose(0, 3, 1, 2), requires_grad=True)
    flow = torch.tensor(FLOW, requires_grad=True)
    v, u = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
    place = flow + torch.stack([u, v], -1)
    grid = 2 * place / torch.tensor([8.0, 5.0]) - 1
    options = {"padding_mode": "zeros", "align_corners": True}
    theirs = torch.nn.functional.grid_sample(image, grid, **options)
    weights = torch.tensor(OTHER.transpose(0, 3, 1, 2))
    (theirs * weights).sum().backward()

    def loss(image, flow):
        warped = geometry.flow_warp(image, flow)
        return jnp.sum(warped.image * OTHER), warped

    grads, ours = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(IMAGE, FLOW)
    expected = theirs.detach().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ours.image, expected, atol=2e-5)
    back = image.grad.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(grads[0], back, atol=2e-5)
    np.testing.assert_allclose(grads[1], flow.grad, atol=1e-4)
    inside = (grid.abs() <= 1).all(-1).numpy()
    assert (np.asarray(ours.valid) == inside).mean() > 0.99


def test_correlation_is_a_product_with_each_shifted_pixel():
    found = np.asarray(geometry.correlation(IMAGE, OTHER, radius=2))
    assert found.shape == (2, 6, 9, 25)
    for v, u, dv, du in ((0, 0, 0, 0), (3, 4, -2, 1), (5, 8, -1, -2), (2, 2, 2, 2)):
        expected = (IMAGE[:, v, u] * OTHER[:, v + dv, u + du]).sum(-1)
        place = (dv + 2) * 5 + du + 2
        np.testing.assert_allclose(found[:, v, u, place], expected, rtol=1e-5)
    assert (found[:, 0, 0, 0] == 0).all()  # outside


def splat(flow):
    height, width = flow.shape[:2]
    total = np.zeros((height, width))
    for v, u in np.ndindex(height, width):
        x, y = np.float32([u, v]) + flow[v, u]
        for j, i in np.ndindex(height, width):
            total[j, i] += max(0, 1 - abs(x - i)) * max(0, 1 - abs(y - j))
    return total.clip(0, 1)


def test_visibility_against_loops():
    expected = [splat(flow) for flow in FLOW]
    np.testing.assert_allclose(VISIBILITY(FLOW), expected, atol=1e-5)


def test_flow_that_is_not_finite_gives_nothing_and_spoils_nothing():
    bad = FLOW.copy()
    bad[0, 2, 3] = np.nan, np.inf
    seen = VISIBILITY(bad)
    assert jnp.isfinite(seen).all() and (seen <= VISIBILITY(FLOW)).all()


def test_consistent_where_both_ways_cancel():
    there = np.broadcast_to(np.float32([2, 1]), (6, 9, 2))
    error, near = CONSISTENCY(there, -there)
    places, inside = geometry.flow_matches(there)
    assert near[inside].all() and float(error[inside].max()) == 0
    assert (error[~inside] > 0).any()
    error, near = CONSISTENCY(there, 0 * there)
    np.testing.assert_allclose(error, 5.0)
    assert not near.any()
    assert places[0, 0].tolist() == [2, 1]


@pytest.mark.parametrize(
    "call",
    [
        lambda: geometry.flow_matches(FLOW[..., :1]),
        lambda: geometry.flow_warp(IMAGE, FLOW[:, :5]),
        lambda: geometry.correlation(IMAGE, OTHER[:, :5]),
        lambda: geometry.correlation(IMAGE, OTHER, radius=-1),
    ],
)
def test_shapes_that_do_not_fit(call):
    with pytest.raises(ValueError, match="must"):
        call()
