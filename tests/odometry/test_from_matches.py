"""Odometry from flow and depth: the pieces around `camera_motion`."""

import numpy as np
import pytest

from amlr_jax.models import pretrained
from amlr_jax.odometry import from_matches, pose_network
from amlr_jax.runtime import mesh as parallel
from amlr_jax.runtime.errors import InputError
from tests.odometry import toy


def test_steps_are_rotations_and_a_lost_pair_stands(capsys):
    weights = from_matches.MatchWeights(None, None, {}, None)
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[:] = toy.pose((0.1, -0.2, 0.05), (0.1, 0.2, -1))
    motion = np.column_stack([poses[:, :3].reshape(2, 12), [1, 0]]).astype(np.float32)
    motion[1, :12] = np.eye(4)[:3].ravel()
    found = weights.steps(motion, ["a.png", "b.png", "c.png"])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found[0], poses[0], atol=1e-6)
    turn = found[0, :3, :3]
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    np.testing.assert_array_equal(found[1], np.eye(4))
    assert "1 of 2 pairs of frames from a.png" in capsys.readouterr().out


def test_weights_without_a_flow_network_are_none():
    params = {"encoder": {}, "decoder": {}}
    found = pretrained.Pretrained(None, {"params": params}, {"options": {}})
    assert from_matches.load(found, None) is None


def test_the_camera_must_be_known_and_is_resized(tmp_path):
    path = tmp_path / "a.png"
    toy.write_image(path, (100, 100))
    height, width = toy.SIZE
    weights = from_matches.MatchWeights(None, None, {}, (2 * height, 2 * width))
    predict = pose_network.predictor(weights, parallel.make_mesh())
    with pytest.raises(InputError, match="needs the camera of"):
        predict([path, path])
    camera = pose_network._camera_seen(weights, [path], (10.0, 12.0, 5.0, 4.0))
    before = pose_network.read_pixels(path, None)[0]
    assert camera[0] == pytest.approx(10 * 2 * width / before[1])
