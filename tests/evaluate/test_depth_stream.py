"""Batches are filled, order is kept, and what a network cannot do is one line."""

import numpy as np
import pytest

from amlr_jax.evaluate import depth_stream
from amlr_jax.runtime.errors import InputError

IMAGES = list(np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), np.uint8))


def brightness(image):
    return image.mean(-1).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_a_short_batch_is_filled(batch):
    shapes = []

    def predict(image):
        shapes.append(image.shape)
        return brightness(image)

    found = depth_stream.depths(predict, IMAGES, batch=batch)
    assert len(found) == 3 and shapes == [(max(batch, 3), 4, 6, 3)]
    np.testing.assert_array_equal(found, brightness(np.stack(IMAGES)))


def test_depth_that_is_not_finite():
    def predict(image):
        depth = brightness(image)
        depth[0, 0, 0] = np.nan
        return depth

    with pytest.raises(InputError, match="not finite"):
        depth_stream.depths(predict, IMAGES, batch=1)
