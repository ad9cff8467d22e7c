"""KITTI's layout is read whole, and every fault in it is named."""

import shutil

import cv2
import numpy as np
import pytest

from amlr_jax.data import kitti, splits
from amlr_jax.data.depth_files import lidar_depth, read_scan
from amlr_jax.data.prepared import prepare
from amlr_jax.runtime.errors import InputError
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
    with pytest.raises(InputError, match=f"missing image of 1 of 10 .*{lost.name}"):
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


def test_unknown_split(kitti_root):
    with pytest.raises(InputError, match="eigen, eigen_697, benchmark, folder; got 'x"):
        kitti.read_layout(kitti_root, split="x")


def test_benchmark_is_train_and_val_by_folder(kitti_root):
    folder = kitti_root / "data_depth_annotated"
    with pytest.raises(InputError, match="benchmark needs drives under '.*val'"):
        kitti.read_layout(kitti_root, split="benchmark")
    (folder / "val").mkdir()
    drive = tiny_kitti.drive("0002")
    (folder / "train" / drive).rename(folder / "val" / drive)
    layout = kitti.read_layout(kitti_root, split="benchmark")
    assert {frame.key[:26] for frame in layout.train} == {tiny_kitti.drive("0001")}
    assert {frame.key[:26] for frame in layout.test} == {drive}
    assert (len(layout.train), len(layout.test)) == (6, 6)


def test_files_that_are_no_frames(kitti_root):
    """What a Mac leaves in every folder."""
    for path in (tiny_kitti.depth_path, tiny_kitti.image_path):
        place = path(kitti_root, "0001", 0)
        place.with_name(f"._{place.name}").touch()
    assert len(kitti.read_layout(kitti_root, split="folder").train) == 10


def test_lidar_test_frames_of_the_697(real_data, tmp_path):
    """Real test frames, listed as monodepth2 does, with the depth of their scans."""
    root, drive = real_data / "kitti", tiny_kitti.drive("0013")
    train, test = tmp_path / "train.txt", tmp_path / "test.txt"
    train.write_text(f"{tiny_kitti.DATE}/{drive} 55 l")
    test.write_text(f"{tiny_kitti.DATE}/{drive} 0000000060 l\n{drive} 50 l")
    layout = kitti.read_layout(
        root, split="eigen_697", train_list=str(train), test_list=str(test)
    )
    assert layout.in_metres
    assert [frame.depth.suffix for frame in layout.train + layout.test] == [
        ".png",
        ".bin",
        ".bin",
    ]
    data = prepare(layout, cache=tmp_path / "cache")
    points = read_scan(layout.test[0].depth.read_bytes())
    projection = np.reshape(layout.test[0].projection, (3, 4))
    want = lidar_depth(points, projection, (375, 1242), forward=True)
    example = data.test[0]
    np.testing.assert_array_equal(example["depth"][..., 0], want)
    codes = cv2.imread(str(layout.train[0].depth), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(data.train[0]["depth"][..., 0] * 256, codes)
    assert (data.depth_scale, example["depth"].dtype) == (1.0, np.float32)


def test_all_scans_of_the_697_are_wanted(kitti_root, monkeypatch):
    drive = tiny_kitti.drive("0001")
    monkeypatch.setattr(splits, "eigen_train", lambda: {drive: [0, 1]})
    with pytest.raises(InputError, match="697 of 697 test frames .*needs no lidar"):
        kitti.read_layout(kitti_root, split="eigen_697")


def test_the_test_alone(kitti_root, monkeypatch):
    """Training frames may lack their depth, and what is tested stays the same."""
    one, two = (tiny_kitti.drive(number) for number in tiny_kitti.DRIVES)
    monkeypatch.setattr(splits, "eigen_train", lambda: {one: [1, 3]})
    monkeypatch.setattr(splits, "eigen_test", lambda with_depth=True: {two: [0, 4]})
    shutil.rmtree(tiny_kitti.depth_path(kitti_root, "0001", 0).parents[3])
    with pytest.raises(InputError, match="missing ground truth of 2 of 2"):
        kitti.read_layout(kitti_root, split="eigen")
    layout = kitti.read_layout(kitti_root, split="eigen", test_only=True)
    assert layout.train == () and layout.test_only
    assert [frame.key[-1] for frame in layout.test] == ["0", "4"]
    usual = kitti.read_layout(kitti_root, split="folder")
    alone = kitti.read_layout(kitti_root, split="folder", test_only=True)
    assert (alone.test, alone.train) == (usual.test, ())


def test_a_list_of_the_test_alone(kitti_root, tmp_path):
    (tmp_path / "test.txt").write_text(f"{tiny_kitti.drive('0001')} 2 l")
    layout = kitti.read_layout(
        kitti_root, split="folder", test_list=str(tmp_path / "test.txt"), test_only=True
    )
    assert [frame.key[-1] for frame in layout.test] == ["2"]
    assert (layout.train, layout.split) == ((), "folder-list")


def test_eigen_reads_what_it_names(kitti_root, monkeypatch):
    """The published split on two drives: the frames it lists, and no others."""
    one, two = (tiny_kitti.drive(number) for number in tiny_kitti.DRIVES)
    monkeypatch.setattr(splits, "eigen_train", lambda: {one: [1, 3]})
    monkeypatch.setattr(splits, "eigen_test", lambda with_depth=True: {two: [0, 4]})
    layout = kitti.read_layout(kitti_root, split="eigen")
    assert [frame.key for frame in layout.train + layout.test] == [
        f"{drive}/{n:010d}" for drive, n in ((one, 1), (one, 3), (two, 0), (two, 4))
    ]
    assert layout.train[1].depth == tiny_kitti.depth_path(kitti_root, "0001", 3)


# ---------------------------------------------------------------- names of copies


def without_sync(root):
    for path in sorted(root.rglob("*_sync"), reverse=True):
        path.rename(path.with_name(path.name.removesuffix("_sync")))


def with_digits(root, *, count):
    for path in [p for p in root.rglob("*.png") if p.stem.isdecimal()]:
        path.rename(path.with_name(f"{int(path.stem):0{count}d}.png"))


@pytest.mark.parametrize(
    "change",
    [
        without_sync,
        lambda root: with_digits(root, count=9),
        lambda root: with_digits(root, count=1),
        lambda root: [p.rename(p.with_suffix(".PNG")) for p in root.rglob("0*.png")],
    ],
)
def test_copies_with_other_names_are_read(kitti_root, change):
    tiny_kitti.write(kitti_root, frames=12)
    before = kitti.read_layout(kitti_root, split="folder")
    change(kitti_root)
    after = kitti.read_layout(kitti_root, split="folder")
    for part in ("train", "test"):
        ours, theirs = getattr(after, part), getattr(before, part)
        assert [f.key for f in ours] == [f.key for f in theirs]
        assert [f.intrinsics for f in ours] == [f.intrinsics for f in theirs]
        assert all(f.image.is_file() and f.depth.is_file() for f in ours)


@pytest.mark.parametrize("digits", [9, 10])
@pytest.mark.parametrize("sync", ["", "_sync"])
def test_lists_with_other_names_are_read(kitti_root, digits, sync, tmp_path):
    drive = f"2011_09_26_drive_0001{sync}"
    truth = f"{drive}\\proj_depth\\groundtruth\\image_02\\{3:09d}.png"
    image = f"2011_09_26\\{drive}\\image_02\\data\\{3:0{digits}d}.png"
    for row in (f"{image} {truth} 721.5", f"2011_09_26\\{drive} 3 l"):
        path = tmp_path / "list.txt"
        path.write_text(row)
        layout = kitti.read_layout(kitti_root, split="folder", test_list=str(path))
        assert [f.key for f in layout.test] == ["2011_09_26_drive_0001_sync/0000000003"]


def test_linked_drives_are_read_and_unsynchronised_ones_are_not(kitti_root, tmp_path):
    moved = tmp_path / "other disk"
    moved.mkdir()
    for folder in ("raw_data/2011_09_26", "data_depth_annotated/train"):
        path = kitti_root / folder / tiny_kitti.drive("0002")
        path.rename(moved / folder.replace("/", "-"))
        path.symlink_to(moved / folder.replace("/", "-"))
    extract = kitti_root / "raw_data/2011_09_26/2011_09_26_drive_0003_extract"
    (extract / "image_02/data").mkdir(parents=True)
    assert len(kitti.read_layout(kitti_root, split="folder").train) == 10
    assert kitti.files.drives(kitti_root) == [*map(tiny_kitti.drive, ("0001", "0002"))]
    (moved / "data_depth_annotated-train").rename(moved / "away")
    with pytest.raises(InputError, match="drive_0002_sync' is a link to nothing"):
        kitti.read_layout(kitti_root, split="folder")
