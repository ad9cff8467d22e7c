"""The pose network against PyTorch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amlr_jax.models import pose

torch = pytest.importorskip("torch")
from amlr_jax.models.from_torch.tables import TABLES  # noqa: E402
from tests.models import torch_monodepth2 as reference  # noqa: E402

SIZE = (32, 64)
TABLE = TABLES["monodepth2"]
CONVERT = {
    "encoder": {"table": TABLE, "prefix": "pose_encoder:", "strip": "pose/encoder/"},
    "decoder": {"table": TABLE, "prefix": "pose:", "strip": "pose/decoder/"},
}


def _modules():
    modules = {"encoder": reference.Encoder(images=2)}
    modules["decoder"] = reference.PoseDecoder()
    return {name: reference.randomize(m) for name, m in modules.items()}


def _torch_pose(modules, first, second):
    images = torch.cat([reference.from_nhwc(x) for x in (first, second)], 1)
    return modules["decoder"](modules["encoder"](images)[-1])


@pytest.fixture(scope="module")
def variables():
    parts = {
        name: reference.variables(module, **CONVERT[name])
        for name, module in _modules().items()
    }
    return {
        "params": {name: part["params"] for name, part in parts.items()},
        "batch_stats": {"encoder": parts["encoder"]["batch_stats"]},
    }


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.random((2, *SIZE, 3), np.float32)) for _ in range(2)]


@pytest.fixture(scope="module")
def predict(jit):
    return jit(functools.partial(pose.PoseNetwork().apply, train=False))


@pytest.fixture(scope="module")
def gradient(jit, variables):
    """Of a weighted sum of the six numbers, with batch statistics, in float64."""

    def loss(params, batch_stats, first, second):
        net = pose.PoseNetwork(dtype=first.dtype)
        (axis_angle, translation), _ = net.apply(
            {"params": params, "batch_stats": batch_stats},
            *(first, second),
            train=True,
            mutable=["batch_stats"],
        )
        return (axis_angle @ jnp.array([1.0, 2, 3])).sum() + translation.sum()

    compiled = jit(jax.grad(loss))

    def run(first, second):
        with jax.enable_x64(True):
            arrays = (variables["params"], variables["batch_stats"], first, second)
            return compiled(*reference.float64(arrays))

    return run


def test_pose_is_that_of_torch(predict, variables, images):
    ours = predict(variables, *images)
    with torch.no_grad():
        theirs = _torch_pose(_modules(), *images)
        swapped = _torch_pose(_modules(), *images[::-1])
    for x, y, other in zip(ours, *_arrays(theirs, swapped), strict=True):
        assert x.shape == (2, 3)
        assert np.abs(y).max() > 1e-3
        np.testing.assert_allclose(x, y, atol=1e-6)
        assert np.abs(y - other).max() > 1e-5  # the order of the frames matters


def _arrays(*poses):
    return [[part.numpy() for part in pose] for pose in poses]


def test_gradients_are_those_of_torch(gradient, images):
    grads = gradient(*images)
    modules = {n: module.double().train() for n, module in _modules().items()}
    axis_angle, translation = _torch_pose(modules, *reference.float64(images))
    weights = torch.tensor([1.0, 2, 3], dtype=torch.float64)
    ((axis_angle @ weights).sum() + translation.sum()).backward()
    expected = {n: reference.gradients(m, **CONVERT[n]) for n, m in modules.items()}
    jax.tree.map(_assert_close, grads, expected)
    assert not np.any(grads["decoder"]["conv3"]["bias"][6:])  # the second pose


def _assert_close(grad, expected):
    np.testing.assert_allclose(grad, expected, atol=1e-5 * np.abs(expected).max())


def test_gradient_is_finite_for_black_images(gradient, images):
    black = np.zeros_like(images[0])
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient(black, black)))


def test_bfloat16_is_close(jit, predict, variables, images):
    net = pose.PoseNetwork(dtype=jnp.bfloat16)
    half = jit(functools.partial(net.apply, train=False))(variables, *images)
    for x, y in zip(predict(variables, *images), half, strict=True):
        assert y.dtype == jnp.float32
        assert 0 < float(jnp.abs(y - x).max()) < 0.02 * float(jnp.abs(x).max())


def test_number_of_parameters(variables):
    shape = jax.ShapeDtypeStruct((1, *SIZE, 3), jnp.float32)
    init = functools.partial(pose.PoseNetwork().init, train=False)
    made = jax.eval_shape(init, jax.random.key(0), shape, shape)
    count = {
        name: sum(np.prod(x.shape) for x in jax.tree.leaves(part))
        for name, part in made["params"].items()
    }
    assert count == {"encoder": 11_185_920, "decoder": 1_314_572}
    shapes = functools.partial(jax.tree.map, jnp.shape)
    assert shapes(made) == shapes(variables)
