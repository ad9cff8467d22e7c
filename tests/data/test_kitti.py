"""KITTI's layout is read whole, and every fault in it is named."""

import shutil

import pytest

from amlr_jax.data import kitti
from amlr_jax.errors import InputError
from tests import tiny_kitti


def test_folder_split_holds_out_the_last_fifth(real_data):
    layout = kitti.read_layout(real_data / "kitti", split="folder")
    assert (len(layout.train), len(layout.test)) == (41, 10)
    assert max(f.key for f in layout.train) < min(f.key for f in layout.test)
    assert layout.train[0].intrinsics == (721.5377, 721.5377, 609.5593, 172.854)
    assert all(frame.image.is_file() for frame in layout.train + layout.test)


def test_each_drive_is_split_by_itself(kitti_root):
    layout = kitti.read_layout(kitti_root, split="folder")
    assert [f.key[-10:] for f in layout.test] == ["0000000005", "0000000005"]
    assert len(layout.train) == 10
    assert layout.train[0].intrinsics == (100.0, 110.0, 96.0, 32.0)


def test_merged_train_and_val(kitti_root):
    folder = kitti_root / "data_depth_annotated"
    for drive in list((folder / "train").iterdir()):
        drive.rename(folder / drive.name)
    (folder / "train").rmdir()
    assert len(kitti.read_layout(kitti_root, split="folder").train) == 10


def test_ends_of_a_drive_may_lack_depth(kitti_root):
    """KITTI annotates neither the first nor the last five frames of a drive."""
    tiny_kitti.write(kitti_root, frames=14)
    for frame in (0, 4, 9, 13):
        tiny_kitti.depth_path(kitti_root, "0001", frame).unlink()
    layout = kitti.read_layout(kitti_root, split="folder")
    assert len(layout.train + layout.test) == 10 + 14


def test_missing_root_says_the_layout(tmp_path):
    with pytest.raises(InputError, match="expected .*raw_data/<date>/<drive>/image_02"):
        kitti.read_layout(tmp_path / "nothing", split="folder")


def test_gap_in_the_ground_truth(kitti_root):
    tiny_kitti.write(kitti_root, frames=14)
    lost = tiny_kitti.depth_path(kitti_root, "0001", 7)
    lost.unlink()
    with pytest.raises(InputError, match=f"missing ground truth of 1 .*{lost.name}"):
        kitti.read_layout(kitti_root, split="folder")


def test_missing_image(kitti_root):
    lost = tiny_kitti.image_path(kitti_root, "0002", 3)
    lost.unlink()
    with pytest.raises(InputError, match=f"missing image of 1 of 12 .*{lost.name}"):
        kitti.read_layout(kitti_root, split="folder")


def test_listed_frames_must_all_be_there(kitti_root):
    """The tiny drive 0001 holds one listed frame, its sixth."""
    with pytest.raises(InputError, match="missing ground truth of 23157 of 23158"):
        kitti.read_layout(kitti_root, split="eigen")


def test_missing_calibration(kitti_root):
    (kitti_root / "raw_data" / tiny_kitti.DATE / "calib_cam_to_cam.txt").unlink()
    with pytest.raises(InputError, match="calibration .*calib_cam_to_cam.txt"):
        kitti.read_layout(kitti_root, split="folder")


def test_calibration_without_the_camera(kitti_root):
    path = kitti_root / "raw_data" / tiny_kitti.DATE / "calib_cam_to_cam.txt"
    path.write_text("P_rect_03: 1 2 3\n")
    with pytest.raises(InputError, match="must hold 'P_rect_02:'"):
        kitti.read_layout(kitti_root, split="folder")


def test_no_ground_truth_at_all(kitti_root):
    shutil.rmtree(kitti_root / "data_depth_annotated" / "train")
    with pytest.raises(InputError, match="no ground truth"):
        kitti.read_layout(kitti_root, split="folder")
