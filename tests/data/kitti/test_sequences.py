"""Views of KITTI have their neighbours, their partner, and the right side of it."""

import cv2
import numpy as np
import pytest

from amlr_jax.data.kitti import files, sequences
from amlr_jax.runtime.errors import InputError
from tests import tiny_kitti

DATE, DRIVE = tiny_kitti.DATE, tiny_kitti.drive("0001")
CALIBRATION = (
    "P_rect_02: 100 0 96 4.5 0 110 32 0.2 0 0 1 0.003\n"
    "P_rect_03: 100 0 96 -45.5 0 110 32 0.2 0 0 1 0.003\n"
)


@pytest.fixture
def raw_root(tmp_path):
    """Drive 0001 with both cameras, 0002 (an Eigen test drive) with the left one."""
    for camera in (files.LEFT, files.RIGHT):
        write_images(tmp_path, DRIVE, camera, range(6))
    write_images(tmp_path, tiny_kitti.drive("0002"), files.LEFT, range(6))
    (tmp_path / "raw_data" / DATE / "calib_cam_to_cam.txt").write_text(CALIBRATION)
    return tmp_path


def write_images(root, drive, camera, frames):
    folder = files.drive_folder(root, drive) / camera / "data"
    folder.mkdir(parents=True)
    for n in frames:
        (folder / f"{n:010d}.png").touch()


def numbers(views) -> list[int]:
    return [int(view.image.stem) for view in views]


def test_every_inner_frame_of_both_sides(raw_root):
    found = sequences.read_sequences(raw_root)
    assert numbers(found.train) == [1, 2, 3, 4, 1, 2, 3, 4]
    left, right = found.train[0], found.train[4]
    assert [path.stem[-1] for path in left.sources] == ["0", "2"]
    assert (left.key, right.key) == (f"{DRIVE}/0000000001", f"{DRIVE}/0000000001r")
    assert (left.partner, right.partner) == (right.image, left.image)
    np.testing.assert_allclose(left.partner_from_target, [-0.5, 0, 0], atol=1e-12)
    np.testing.assert_allclose(right.partner_from_target, [0.5, 0, 0], atol=1e-12)
    assert left.intrinsics == (100.0, 110.0, 96.0, 32.0)
    assert (found.split, found.test) == ("eigen_zhou_like", ())


def test_offsets(raw_root):
    found = sequences.read_sequences(raw_root, offsets=(-2, 1))
    assert numbers(found.train) == [2, 3, 4, 2, 3, 4]
    assert [int(path.stem) for path in found.train[0].sources] == [0, 3]
    with pytest.raises(InputError, match="offsets must be different and not 0"):
        sequences.read_sequences(raw_root, offsets=(-1, 0, 1))


def test_gaps_break_the_sequence(raw_root):
    files.image_path(raw_root, DRIVE, files.LEFT, 2).unlink()
    found = sequences.read_sequences(raw_root)
    assert numbers(found.train) == [4, 1, 2, 3, 4]
    assert found.train[2].partner is None  # frame 2, right
    assert found.train[2].partner_from_target is None


def test_standing_frames_are_left_out_and_counted(raw_root):
    folder = files.drive_folder(raw_root, DRIVE) / "oxts" / "data"
    folder.mkdir(parents=True)
    for n in range(6):
        forward = 0.3 if n < 3 else 4.0
        row = [*["0"] * 8, str(forward), "0.4", *["0"] * 20]
        (folder / f"{n:010d}.txt").write_text(" ".join(row))
    found = sequences.read_sequences(raw_root, min_speed=1.0)
    assert numbers(found.train) == [3, 4, 3, 4]
    assert found.notes == (f"4 frames of {DRIVE} slower than 1 m/s",)
    assert sequences.speed(raw_root, DRIVE, 0) == 0.5  # 0.3 ahead, 0.4 to the left
    (folder / f"{3:010d}.txt").write_text("1 2 3")
    with pytest.raises(InputError, match="oxts record .*03.txt' line 1 must hold 30"):
        sequences.read_sequences(raw_root, min_speed=1.0)
    with pytest.raises(InputError, match="moves at 9 m/s or more"):
        (folder / f"{3:010d}.txt").write_text(" ".join(["0"] * 30))
        sequences.read_sequences(raw_root, min_speed=9.0)


def test_only_test_drives(real_data):
    with pytest.raises(InputError, match="28 drives of the Eigen test are left out"):
        sequences.read_sequences(real_data / "kitti")


def test_list_wants_every_neighbour(raw_root, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(f"{DATE}/{DRIVE} 3 r\n{DATE}/{DRIVE} 1 l")
    found = sequences.read_sequences(raw_root, train_list=str(path))
    assert numbers(found.train) == [3, 1]
    assert found.train[0].image.parts[-3] == files.RIGHT
    path.write_text(f"{DATE}/{DRIVE} 3 r\n{DATE}/{DRIVE} 0 l\n{DATE}/{DRIVE} 9 l")
    words = f"2 of 3 frames .*: {DRIVE}/0000000000 at -1, {DRIVE}/0000000009;"
    with pytest.raises(InputError, match=words):
        sequences.read_sequences(raw_root, train_list=str(path))


def test_exchanged_cameras(raw_root):
    path = raw_root / "raw_data" / DATE / "calib_cam_to_cam.txt"
    path.write_text(CALIBRATION.replace("-45.5", "45.5"))
    with pytest.raises(InputError, match="to the right of the left one"):
        sequences.read_sequences(raw_root)
    path.write_text(CALIBRATION.replace("P_rect_03", "P_rect_01"))
    with pytest.raises(InputError, match="must hold 'P_rect_03:' and 12 numbers"):
        sequences.read_sequences(raw_root)
    path.write_text(CALIBRATION.replace(": 100", ": -100"))
    with pytest.raises(InputError, match="positive focal lengths"):
        sequences.read_sequences(raw_root)


def real_views(real_data, tmp_path, rows):
    path = tmp_path / "list.txt"
    drive = tiny_kitti.drive("0013")
    path.write_text("\n".join(f"{DATE}/{drive} {row}" for row in rows))
    return sequences.read_sequences(real_data / "kitti", train_list=str(path)).train


def test_real_neighbours_of_both_sides(real_data, tmp_path):
    rows = [f"{n} {side}" for n in range(41, 47) for side in "lr"]
    views = real_views(real_data, tmp_path, rows)
    assert len(views) == 12
    assert all(path.is_file() for view in views for path in view.sources)
    assert views[0].partner == views[1].image
    assert views[0].partner_from_target[0] == pytest.approx(-0.5327, abs=1e-4)


def test_real_depth_moves_left_pixels_onto_right_ones(real_data, tmp_path):
    """Disparity by the offset explains the other image; its mirror image does not."""
    (view,) = real_views(real_data, tmp_path, ["42 l"])
    truth = real_data / "kitti/data_depth_annotated/val" / tiny_kitti.drive("0013")
    path = truth / "proj_depth/groundtruth/image_02" / f"{view.image.stem}.png"
    depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) / 256
    left, right = (
        cv2.GaussianBlur(cv2.imread(str(p), 0), (5, 5), 0).astype(np.float32)
        for p in (view.image, view.partner)
    )
    v, u = np.nonzero(depth)
    shift = view.intrinsics[0] * view.partner_from_target[0] / depth[v, u]

    def error(there):
        inside = (there >= 0) & (there <= left.shape[1] - 1)
        columns, rows = there[inside].astype(np.float32), v[inside].astype(np.float32)
        seen = cv2.remap(right, columns[None], rows[None], cv2.INTER_LINEAR)[0]
        return np.mean(np.abs(seen - left[v, u][inside]))

    assert error(u + shift) < 0.4 * min(error(u - shift), error(u))
