"""On the street, true depth and the camera of a view align the images of the view.

This holds the sources' order, the intrinsics through resize and flip, and the place of
the stereo partner to the pixels of a world that is known exactly.
"""

import cv2
import numpy as np
import pytest

from amlr_jax import geometry, street
from amlr_jax.data.kitti import sequences
from amlr_jax.data.views import prepare_views
from amlr_jax.data.views.augment import flip_view


class Street:
    """Views of two neighbouring frames of the street, and what is true of them."""

    def __init__(self, folder):
        root = street.generate(folder / "kitti", drives=1, frames=2, workers=1)
        made = sequences.read_sequences(root, offsets=(1,))
        assert [view.key[-11:] for view in made.train] == ["/0000000000", "0000000000r"]
        data = prepare_views(made, cache=folder / "c", stereo=True)
        self.left, self.right = data.train
        truths = {
            (camera, k): street.exact(1, k, camera=f"image_0{camera}")
            for camera in (2, 3)
            for k in (0, 1)
        }
        self.depth = {c: self.resized(truths[c, 0].depth) for c in (2, 3)}
        moving = {
            c: self.resized(truths[c, 0].moving.astype(np.float32)) for c in (2, 3)
        }
        self.still = {c: np.isfinite(self.depth[c]) & (moving[c] == 0) for c in (2, 3)}
        poses = {c: [truths[c, k].world_from_cam for k in (0, 1)] for c in (2, 3)}
        self.next_from_this = {c: np.linalg.solve(b, a) for c, (a, b) in poses.items()}

    def resized(self, array):
        return cv2.resize(array, (640, 192), interpolation=cv2.INTER_NEAREST_EXACT)

    def error(self, view, source, camera, pose, *, flipped=False):
        """Mean difference of target and source, warped and not, where all is still."""
        depth, still = self.depth[camera], self.still[camera]
        depth = np.where(still, depth, 1.0)
        if flipped:
            depth, still = depth[:, ::-1], still[:, ::-1]
        source = source.astype(np.float32)
        warped = geometry.warp(source, depth, pose, view["intrinsics"])
        fair = still & np.asarray(warped.valid)
        assert fair.mean() > 0.4
        target = view["image"].astype(np.float32)
        return tuple(
            np.abs(other - target)[fair].mean() for other in (warped.image, source)
        )


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    return Street(tmp_path_factory.mktemp("street"))


@pytest.mark.parametrize("flip", [False, True])
def test_true_depth_and_motion_align_the_frames_of_the_street(town, flip):
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0]) if flip else np.eye(4)
    for camera, view in ((2, town.left), (3, town.right)):
        view = flip_view(view) if flip else view
        pose = mirror @ town.next_from_this[camera] @ mirror
        warped, plain = town.error(view, view["sources"][0], camera, pose, flipped=flip)
        assert warped < 0.2 * plain, (camera, warped, plain)


@pytest.mark.parametrize("flip", [False, True])
def test_the_partner_is_where_it_is_said_to_be(town, flip):
    for camera, view in ((2, town.left), (3, town.right)):
        view = flip_view(view) if flip else view
        pose = np.eye(4)
        pose[:3, 3] = view["partner_from_target"]
        errors = []
        for shown in (pose, np.linalg.inv(pose)):
            warped, plain = town.error(
                view, view["partner"], camera, shown, flipped=flip
            )
            errors.append(warped / plain)
        assert errors[0] < 0.2
        assert errors[1] > 1.0  # the wrong side


def test_a_wrong_camera_aligns_worse(town):
    pose = town.next_from_this[2]
    errors = [
        town.error(
            town.left | {"intrinsics": town.left["intrinsics"] + np.float32(shift)},
            town.left["sources"][0],
            2,
            pose,
        )[0]
        for shift in ([0, 0, 0, 0], [0, 0, 0, 12], [0, 0, 12, 0], [60, 0, 0, 0])
    ]
    assert errors[0] == min(errors)
