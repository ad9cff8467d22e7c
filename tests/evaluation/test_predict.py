"""Prediction fills a batch up to the devices and gives back what was asked for."""

import jax
import jax.numpy as jnp
import numpy as np

from amlr_jax import parallel
from amlr_jax.evaluation.predict import predictor
from tests.training.toy import Toy


def test_each_image_by_itself():
    network = Toy()
    variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    predict = predictor(network, parallel.make_mesh())
    image = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), np.uint8)
    together = predict(variables, image)
    assert together.shape == (3, 16, 24)
    for one, depth in zip(image, together, strict=True):
        np.testing.assert_allclose(predict(variables, one[None])[0], depth, rtol=1e-5)
