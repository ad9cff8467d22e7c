"""The losses of GVO's stages with networks that know the truth; degenerate frames."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.losses import photometric_error
from amlr_jax.models.bilinear import resize_aligned
from amlr_jax.models.camera_motion import Motion, trusted
from amlr_jax.train.objectives import depth_from_flow as depth_stage
from amlr_jax.train.objectives.depth_from_flow import NAMES, depth_from_flow
from amlr_jax.train.objectives.objective import COUNTS
from amlr_jax.train.objectives.optical_flow import (
    optical_flow,
    pairs_of,
    second_order_smoothness,
)
from tests.models.test_camera_motion import CAMERA, HEIGHT, WIDTH, pairs


class KnownFlow(nn.Module):
    """Gives its parameter, the flow at full size of [2P, H, W, 2], at a quarter."""

    def __call__(self, first, second):
        flow = self.get_variable("params", "flow") / 4
        levels = [
            resize_aligned(flow, (HEIGHT >> level, WIDTH >> level)) / 2**scale
            for scale, level in enumerate((2, 3))
        ]
        count = len(first)
        return [f[:count] for f in levels], [f[count:] for f in levels]


class KnownDepth(nn.Module):
    """Gives its parameter, the inverse depth [2P, H, W], as a disparity."""

    class Decoder:
        depth = staticmethod(lambda disparity: 1.0 / disparity)

    decoder = Decoder()

    def disparities(self, image, *, train):
        return [self.get_variable("params", "inverse")]


def batch(count=1, sources=1, *, black=False, seed=0):
    rng = np.random.default_rng(seed)
    shape = (count, 1 + sources, HEIGHT, WIDTH, 3)
    frames = rng.integers(0, 0 if black else 256, shape, np.uint8, endpoint=black)
    views = {"image": frames[:, 0], "sources": frames[:, 1:]}
    networks = {f"network_{name}": array for name, array in views.items()}
    return {**views, **networks, "intrinsics": np.tile(CAMERA, (count, 1))}


def test_pairs_hold_each_source_and_both_directions():
    made = batch(2, 2)
    found = pairs_of({**made, "intrinsics": np.float32([[1] * 4, [2] * 4])})
    assert found.image.shape == (8, HEIGHT, WIDTH, 3)
    expected = [made["image"][0], made["image"][0], made["image"][1], made["image"][1]]
    expected += [*made["sources"][0], *made["sources"][1]]
    np.testing.assert_allclose(found.image, np.float32(expected) / 255, atol=1e-6)
    assert found.intrinsics[:, 0].tolist() == [1, 1, 2, 2, 1, 1, 2, 2]
    np.testing.assert_array_equal(found.others(found.image)[0], found.image[4])


def test_second_order_smoothness_against_loops():
    rng = np.random.default_rng(0)
    flow, image = rng.normal(size=(1, 4, 5, 2)), rng.random((1, 4, 5, 3))
    total = 0.0
    for axis, size in ((1, 4), (2, 5)):
        terms = []
        for k in range(1, size - 1):
            f, i = np.moveaxis(flow, axis, 0), np.moveaxis(image, axis, 0)
            edge = np.abs(i[k + 1] - i[k]).mean(-1, keepdims=True)
            terms.append(np.exp(-10 * edge) * np.abs(f[k + 1] - 2 * f[k] + f[k - 1]))
        total += np.mean(terms) / 2
    found = second_order_smoothness(jnp.asarray(flow), jnp.asarray(image))
    np.testing.assert_allclose(found, total, rtol=1e-5)
    ramp = jnp.stack(jnp.meshgrid(jnp.arange(5.0), jnp.arange(4.0)), -1)[None]
    assert float(second_order_smoothness(ramp, jnp.asarray(image))) < 1e-6


def test_a_flow_that_leaves_the_image_is_not_trusted():
    outwards = np.tile(np.float32([1, 0]), (1, 6, 9, 1))
    found, _ = jax.jit(trusted)(outwards, -outwards)
    assert (found[0, :, 1:8] == 1).all() and not found[0, :, 8].any()


@pytest.fixture(scope="module")
def flow_loss():
    losses = optical_flow(KnownFlow(), photometric_error)

    def total(params, data):
        found, _ = losses(params, {}, data, None, None)
        return sum(found.values()), found

    return jax.jit(jax.grad(total, has_aux=True))


def test_flow_of_equal_frames_is_zero(flow_loss):
    still, random = np.zeros((2, HEIGHT, WIDTH, 2)), batch()
    same = {**random, "sources": random["image"][:, None]}
    run = {"flow": {"flow": np.float32(still)}}
    assert all(float(v) < 1e-6 for v in flow_loss(run, same)[1].values())
    assert float(flow_loss(run, random)[1]["photometric"]) > 0.1
    moved = {"flow": {"flow": np.float32(still + [8, 0])}}
    gradient, found = flow_loss(moved, same)
    # Both directions move by eight pixels, which is not consistent and no way out.
    assert float(found["photometric"]) > 0.1
    assert jnp.isfinite(gradient["flow"]["flow"]).all()
    assert gradient["flow"]["flow"].any()
    black = flow_loss(run, batch(black=True))
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(black))


@pytest.fixture(scope="module")
def depth_loss():
    """The gradient, losses and count of given motions; they have their own tests."""
    losses = depth_from_flow(KnownDepth(), KnownFlow(), photometric_error)

    def total(params, motion):
        start = {COUNTS: {"left_out": jnp.float32(2)}}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(depth_stage, "camera_motion", lambda *_, **__: motion)
            found, stats = losses(params, start, batch(), jax.random.key(0), None)
        return sum(found.values()), (found, stats[COUNTS]["left_out"])

    return jax.jit(jax.grad(total, has_aux=True))


def exact(found):
    """The truth of two frames and their motion, found in the first `found` of them."""
    flow, inverse, _, pose = pairs("forward", "sideways")
    places = np.tile(np.arange(0, HEIGHT * WIDTH, 10), (2, 1))
    motion = Motion(
        pose=np.float32(pose),
        found=np.arange(2) < found,
        rigid=np.ones(inverse.shape, bool),
        places=places,
        used=np.tile(np.arange(2)[:, None] < found, places.shape[1]),
        inverse_depth=np.take_along_axis(inverse.reshape(2, -1), places, axis=1),
    )
    return {"flow": {"flow": flow}, "inverse": np.float32(inverse)}, motion


def test_the_losses_of_pairs_without_a_motion_are_their_smoothness_alone(depth_loss):
    gradient, (found, left_out) = depth_loss(*exact(found=0))
    assert tuple(found) == NAMES
    assert float(left_out) == 2 + 2
    assert [float(found[name]) for name in NAMES[:3]] == [0, 0, 0]
    assert float(found["smoothness"]) > 0
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert not gradient["flow"]["flow"].any()


def test_the_true_depth_has_no_distance_to_that_of_the_matches(depth_loss):
    params, motion = exact(found=1)
    _, (found, left_out) = depth_loss(params, motion)
    assert float(left_out) == 2 + 1
    assert float(found["ba"]) < 1e-6
    assert float(found["consistency"]) > 0 and float(found["photometric"]) > 0
    params["inverse"] += np.float32([0.01, 0.5])[:, None, None]  # the second: left out
    gradient, (found, _) = depth_loss(params, motion)
    np.testing.assert_allclose(found["ba"], 0.01, rtol=1e-4)
    assert gradient["inverse"][0].any() and not gradient["flow"]["flow"].any()
