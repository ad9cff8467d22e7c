"""Prediction fills a batch up to the devices and gives back what was asked for."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from amlr_jax.evaluate.predictor import in_frame, predictor
from amlr_jax.runtime import mesh as parallel
from tests.evaluate.test_measure import PROTOCOL
from tests.train.toy import Toy


def test_each_image_by_itself():
    network = Toy()
    variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    predict = predictor(network, parallel.make_mesh())
    image = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), np.uint8)
    together = predict(variables, image)
    assert together.shape == (3, 16, 24)
    for one, depth in zip(image, together, strict=True):
        np.testing.assert_allclose(predict(variables, one[None])[0], depth, rtol=1e-5)


def test_in_the_frame_of_a_protocol():
    """BTS's: depth of the 352x1216 crop in the frame it was cut from."""
    network, mesh = Toy(), parallel.make_mesh()
    variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    image = np.random.default_rng(0).integers(0, 256, (1, 354, 1221, 3), np.uint8)
    protocol = PROTOCOL._replace(paste_back=True)
    predict = partial(predictor(network, mesh), variables)
    frame = in_frame(predict, protocol)(image)
    crop = predictor(network, mesh)(variables, image[:, 2:, 2:1218])
    np.testing.assert_allclose(frame[:, 2:, 2:1218], crop, rtol=1e-6)
    assert frame.shape == (1, 354, 1221)
    assert not frame[:, :2].any() and not frame[..., :2].any()
    assert not frame[..., 1218:].any()


def test_a_last_batch_and_a_prepared_shape_compile_nothing(capsys):
    network, mesh = Toy(), parallel.make_mesh()
    variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    image = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), np.uint8)
    expected = predictor(network, mesh)(variables, image)
    predict, whole = predictor(network, mesh, batch_size=3), parallel.replicated(mesh)
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), variables
    )
    capsys.readouterr()
    predict.prepare(shapes, image.shape)
    assert "Compiling the network, 3 x 16x24" in capsys.readouterr().out
    variables = jax.device_put(variables, whole)
    for count in (3, 2, 1):
        depth = predict(variables, image[:count])
        np.testing.assert_allclose(depth, expected[:count], rtol=1e-6)
    assert not capsys.readouterr().out
