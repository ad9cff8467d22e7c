"""Every planted fault in KITTI's layout is found and named, with all the others."""

import json
import shutil
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from amlr_jax.data import images
from amlr_jax.data.check.check_data import check
from amlr_jax.data.check.findings import FAULT, NOTE, WARNING, Finding
from amlr_jax.runtime.errors import InputError
from tests import tiny_kitti

FRAMES = 14  # KITTI has no depth for the first and last five: four are never without
DAMAGED, LOST = 6, 8  # frames of drive 0001


def findings(folder, *, output=None, name="kitti", max_depth=80.0, **changes):
    """What the check finds on the tiny frames, with changes to config.data."""
    config = tiny_kitti.config(folder, cache=folder.parent / "cache")
    with config.unlocked():
        config.data.update(name=name, **changes)
    return check(config.data, max_depth=max_depth, output=output)


def bad(found):
    return [finding for finding in found if finding.level != NOTE]


def matching(found, check_name, *words):
    """The findings of a check that have all of the words, in text or names."""
    texts = [(f, " ".join((f.text, *f.names))) for f in found if f.check == check_name]
    return [f for f, text in texts if all(word in text for word in words)]


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return tiny_kitti.write(tmp_path_factory.mktemp("clean") / "kitti", frames=FRAMES)


@pytest.fixture
def root(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "kitti")


def image(root, frame=DAMAGED, drive="0001"):
    return tiny_kitti.image_path(root, drive, frame)


def depth(root, frame=DAMAGED, drive="0001"):
    return tiny_kitti.depth_path(root, drive, frame)


def calibration(root):
    return root / "raw_data" / tiny_kitti.DATE / "calib_cam_to_cam.txt"


def test_the_clean_copy_has_neither_fault_nor_warning(clean):
    before = {p: p.stat().st_mtime_ns for p in clean.rglob("*")}
    found = findings(clean)
    assert bad(found) == []
    assert matching(found, "counts", "24 training and 4 test frames in 2 drives")
    assert matching(found, "leak", "last fifth")
    assert {p: p.stat().st_mtime_ns for p in clean.rglob("*")} == before


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def broken_stream(path):
    """Valid checksums around pixels that do not inflate."""
    data = cv2.imencode(".png", np.zeros((64, 192, 3), np.uint8))[1].tobytes()
    start = data.index(b"IDAT")
    length = int.from_bytes(data[start - 4 : start], "big")
    body = b"IDAT" + b"\x55" * length
    crc = zlib.crc32(body).to_bytes(4, "big")
    path.write_bytes(data[: start - 4] + data[start - 4 : start] + body + crc)
    with open(path, "ab") as file:
        file.write(data[start + 4 + length + 4 :])


def eight_bit(path):
    cv2.imwrite(str(path), np.full(tiny_kitti.SIZE, 20, np.uint8))


def palette(path):
    Image.open(path).convert("P").save(path)


def other_size(path):
    cv2.imwrite(str(path), np.full((32, 96), 5000, np.uint16))


def no_depth(path):
    cv2.imwrite(str(path), np.zeros(tiny_kitti.SIZE, np.uint16))


NAME = f"{DAMAGED:010d}"
FILE_FAULTS = {
    "missing image": (image, lambda p: p.unlink(), FAULT, "files", "image of 1 of"),
    "missing depth": (depth, lambda p: p.unlink(), FAULT, "files", "ground truth of 1"),
    "truncated image": (image, cut, FAULT, "files", "damaged"),
    "truncated depth": (depth, cut, FAULT, "files", "damaged"),
    "broken stream": (image, broken_stream, FAULT, "files", "damaged"),
    "empty": (image, lambda p: p.write_bytes(b""), FAULT, "files", "damaged"),
    "8-bit depth": (depth, eight_bit, FAULT, "files", "16-bit grey PNG"),
    "palette": (image, palette, FAULT, "files", "8-bit RGB"),
    "size": (depth, other_size, FAULT, "sizes", "64x192"),
    "no valid depth": (depth, no_depth, FAULT, "depth", "no valid depth"),
}


@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_a_faulty_file_is_found_and_no_other(root, fault):
    place, damage, level, name, words = FILE_FAULTS[fault]
    damage(place(root))
    found = findings(root)
    (one,) = matching(found, name, words, NAME)
    assert one.level == level
    assert len(one.names) == 1
    others = [f for f in bad(found) if f is not one]
    # A missing file stops the reader, which is told too.
    assert all(f.check == "layout" for f in others)
    assert len(others) == fault.startswith("missing")


def test_one_run_finds_all_faults(root, tmp_path):
    cut(image(root, 1))
    depth(root, 2).write_text("<html>Sign in</html>")
    image(root, LOST).unlink()
    depth(root, 7, "0002").unlink()
    other_size(depth(root, 3))
    calibration(root).unlink()
    found = findings(root, output=tmp_path / "out")
    for name, words in (
        ("layout", "training would stop"),
        ("files", "0000000001.png"),
        ("files", "0000000002.png"),
        ("files", f"image of 1 of 28 frames missing {image(root, LOST)}"),
        ("files", f"ground truth of 1 of 28 frames missing {depth(root, 7, '0002')}"),
        ("sizes", "0000000003.png"),
        ("layout", "calib_cam_to_cam.txt"),
        ("intrinsics", "no camera is known"),
    ):
        assert [f for f in matching(found, name, words) if f.level == FAULT], words
    written = json.loads((tmp_path / "out" / "check.json").read_text())
    assert written["faults"] == sum(f.level == FAULT for f in found)
    assert written["checks"]["files"]["result"] == FAULT
    assert cv2.imread(str(tmp_path / "out" / "check.png")).shape[1] == 3 * 480


def views_of(root, **changes):
    """What the check finds on video; drive 0002 is one of the Eigen test."""
    right = "P_rect_03: 100 0 96 -49.5 0 110 32 0.2 0 0 1 0.003\n"
    calibration(root).write_text(tiny_kitti.CALIBRATION + right)
    config = tiny_kitti.config(root, cache=root.parent / "cache")
    more = {"split": "folder"} | changes
    with config.unlocked():
        config.data.update(more)
    return check(config.data, max_depth=80.0, video=True)


def test_views_are_listed_and_training_frames_need_no_depth(root):
    found = views_of(root)
    assert matching(found, "counts", "10 views to train on (sources -1, +1)", "0001")
    assert matching(found, "counts", "4 test frames")
    assert matching(found, "leak", "2 views left out that would show frames of the")
    shutil.rmtree(depth(root).parents[3])
    found = views_of(root)
    assert matching(found, "counts", "12 views", "0001_sync (12)")
    assert matching(found, "counts", "2 test frames")
    assert matching(found, "intrinsics", "cameras of the views: 1", "fx 100, fy 110")
    (lost,) = matching(found, "files", "no image of the other camera (no stereo)")
    assert lost.level == NOTE and len(lost.names) == 12
    assert not bad(found)
    (lost,) = matching(views_of(root, stereo=True), "files", "camera (data.stereo)")
    assert lost.level == FAULT


def test_views_without_a_test_or_that_cannot_be(root):
    found = views_of(root, split="none", camera="monodepth2")
    assert matching(found, "counts", "no test frame, nothing to evaluate")
    assert matching(found, "counts", "12 views")
    assert matching(found, "intrinsics", "monodepth2's (data.camera)")
    assert not bad(found)
    (fault,) = bad(views_of(root, split="none", min_speed=1.0))
    assert fault.level == FAULT and "training would stop: oxts" in fault.text


def test_skip_bad_makes_damaged_training_frames_a_warning(root):
    cut(image(root, 1))
    cut(image(root, 13))
    found = matching(findings(root, skip_bad=True), "files", "damaged")
    assert {f.level: "0001.png" in f.names[0] for f in found} == {
        WARNING: True,
        FAULT: False,
    }


def test_a_whole_missing_drive_is_one_line(root):
    shutil.rmtree(image(root).parent)
    found = findings(root)
    (missing,) = matching(found, "files", "image of 14 of 28")
    assert missing.names == (f"all 14 of {tiny_kitti.drive('0001')}",)


@pytest.mark.parametrize(
    "row, level, words",
    [
        ("P_rect_02: 0 0 96 0 0 0 32 0 0 0 1 0", FAULT, "positive focal"),
        ("P_rect_03: 1 0 9 0 0 1 9 0 0 0 1 0", FAULT, "must hold 'P_rect_02:'"),
        ("P_rect_02: 100 0 250 0 0 110 32 0 0 0 1 0", FAULT, "outside the image"),
        ("P_rect_02: 100 0 180 0 0 110 32 0 0 0 1 0", WARNING, "far from the centre"),
        ("P_rect_02: 10 0 96 0 0 10 32 0 0 0 1 0", WARNING, "view would be 168"),
        ("P_rect_02: 9e3 0 96 0 0 9e3 32 0 0 0 1 0", WARNING, "view would be 1 "),
        ("P_rect_02: 100 0 96 0 0 200 32 0 0 0 1 0", WARNING, "fx and fy differ"),
    ],
)
def test_cameras_that_cannot_be(root, row, level, words):
    calibration(root).write_text(row + "\n")
    (one,) = [finding for finding in findings(root) if words in finding.text]
    assert one.level == level


def test_images_that_were_resized_without_their_calibration(root):
    with open(calibration(root), "a") as file:
        file.write("S_rect_02: 384 128\n")
    (one,) = matching(findings(root), "intrinsics", "images of another size")
    assert (one.level, one.names[0][-20:]) == (WARNING, " 64x192, not 128x384")


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"crop": (65, 96)}, ["data.crop=(65, 96) does not fit in 24 training"]),
        ({"kb_crop": True}, ["benchmark crop 352x1216 does not fit in 28 images"]),
        ({"resize": (32, 96)}, ["data.crop=(64, 96) does not fit", "32x96"]),
    ],
)
def test_crops_that_do_not_fit(clean, changes, words):
    (one,) = bad(findings(clean, **changes))
    assert one.level == FAULT
    assert matching([one], "sizes", *words)


def test_an_image_unlike_its_drive(root):
    tiny_kitti.write_frame(root, "0001", DAMAGED, size=(64, 200))
    (one,) = bad(findings(root))
    assert (one.check, one.level) == ("sizes", WARNING)
    assert one.names == (f"{tiny_kitti.drive('0001')}/{NAME} 64x200, not 64x192",)


@pytest.mark.parametrize(
    "per_metre, unit", [(1000, "millimetres"), (1, "whole metres")]
)
def test_depth_in_another_unit(root, per_metre, unit):
    for path in root.glob("data_depth_annotated/*/*/*/*/*/*.png"):
        code = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) * (per_metre / 256)
        cv2.imwrite(str(path), code.astype(np.uint16))
    (one,) = matching(findings(root), "scale", "")
    assert one.level == WARNING
    assert f"read as 256 a metre, stored as {unit}?" in one.text


def listed(tmp_path, name, *frames):
    """A list in monodepth2's format."""
    path = tmp_path / f"{name}.txt"
    rows = (f"{tiny_kitti.DATE}/{tiny_kitti.drive(d)} {n} l" for d, n in frames)
    path.write_text("\n".join(rows))
    return str(path)


def test_lists_of_separate_drives_are_clean(clean, tmp_path):
    """0001 is a drive of the Eigen training, 0002 of its test."""
    train = listed(tmp_path, "train", *(("0001", n) for n in range(FRAMES)))
    test = listed(tmp_path, "test", *(("0002", n) for n in range(FRAMES)))
    assert bad(findings(clean, list=train, test_list=test)) == []


def test_an_eigen_test_drive_in_a_training_list(clean, tmp_path):
    train = listed(tmp_path, "train", ("0001", 0), ("0002", 1))
    found = findings(clean, list=train, test_list=listed(tmp_path, "t", ("0002", 9)))
    drive = tiny_kitti.drive("0002")
    (tested,) = matching(found, "leak", "Eigen test")
    (shared,) = matching(found, "leak", "in training and test")
    assert tested.level == shared.level == FAULT
    assert tested.names == shared.names == (drive,)


def test_a_frame_in_both_lists_and_twice_in_one(clean, tmp_path):
    train = listed(tmp_path, "train", ("0001", 0), ("0001", 3), ("0001", 3))
    found = findings(clean, list=train, test_list=listed(tmp_path, "t", ("0001", 3)))
    key = f"{tiny_kitti.drive('0001')}/0000000003"
    (shared,) = matching(found, "leak", "1 frame is in training and test")
    (twice,) = matching(found, "leak", "listed more than once")
    assert (shared.level, shared.names) == (FAULT, (key,))
    assert (twice.level, twice.names) == (WARNING, (key,))


def test_a_missing_file_of_a_list(root, tmp_path):
    image(root).unlink()
    train = listed(tmp_path, "train", ("0001", DAMAGED), ("0001", 7))
    found = findings(root, list=train, test_list=listed(tmp_path, "t", ("0002", 3)))
    assert matching(found, "layout", "training would stop", "missing")
    (one,) = matching(found, "files", NAME)
    assert one.level == FAULT
    assert matching(found, "counts", "1 training and 1 test frames")


def test_identical_images_under_two_names(root):
    shutil.copyfile(image(root, 3), image(root, 13, "0002"))
    (one,) = bad(findings(root))
    assert (one.check, one.level) == ("leak", FAULT)
    assert one.names == (
        f"{tiny_kitti.drive('0002')}/0000000013 = "
        f"{tiny_kitti.drive('0001')}/0000000003",
    )


def test_counts_of_the_published_split(clean):
    """The tiny drives hold 9 frames of the Eigen training and 3 of its test."""
    found = findings(clean, split="eigen")
    (one,) = matching(found, "counts", "train 9 of 23158; test 3", " of 652")
    assert one.level == FAULT
    assert f"{tiny_kitti.drive('0005')} has 0 of 144" in one.names
    assert f"{tiny_kitti.drive('0001')} has 9 of 98" in one.names
    (missing,) = matching(found, "files", "image of", "of 23810 frames missing")
    assert f"all 144 of {tiny_kitti.drive('0005')}" in missing.names


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"root": "/nowhere"}, "data.root='/nowhere' does not exist; give the folder"),
        ({"root": "/etc/hosts"}, "data.root='/etc/hosts' is a file; give the folder"),
        ({"split": "eign"}, "data.split must be one of eigen"),
        ({"name": "kity"}, "data.name must be one of"),
        ({"list": "/nowhere.txt"}, "list '/nowhere.txt' cannot be read"),
        ({"depth_scale": 3.0}, "data.depth_scale=3.0 is for"),
    ],
)
def test_mistakes_in_the_config(clean, tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        findings(clean, output=tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_what_a_decoder_does_not_foresee_does_not_end_the_check(clean, monkeypatch):
    real = images.decode_rgb

    def refuse(path, data):
        if path == image(clean):
            raise RuntimeError("a bomb")
        return real(path, data)

    monkeypatch.setattr(images, "decode_rgb", refuse)
    (one,) = bad(findings(clean))
    key = f"{tiny_kitti.drive('0001')}/{NAME}"
    assert (one.check, one.level) == ("files", FAULT)
    assert one.names == (f"{key} cannot be read: a bomb",)


def test_output_that_cannot_be_made(clean, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="output .* cannot be written"):
        findings(clean, output=tmp_path / "file" / "out")


def test_output_must_not_be_in_the_data_set(clean):
    with pytest.raises(InputError, match="must not be in data.root"):
        findings(clean, output=clean / "report")
    assert not (clean / "report").exists()


def test_the_screen_shows_three_names_and_not_all_of_a_long_one():
    finding = Finding("files", FAULT, "4 lost", ("x" * 999, "b", "c", "d"))
    assert str(finding) == "4 lost: " + "x" * 300 + "..., b, c and 1 more"
