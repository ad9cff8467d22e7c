"""Lists are recognised from their lines, and every fault in them is named."""

from pathlib import Path

import pytest

from amlr_jax.data import kitti, lists, nyu
from amlr_jax.data.frames import UNKNOWN_CAMERA, Frame
from amlr_jax.runtime.errors import InputError
from tests import tiny_kitti

DATE = tiny_kitti.DATE
DRIVE = tiny_kitti.drive("0001")
DEPTH = f"{DRIVE}/proj_depth/groundtruth/image_02"


def bts(frame: int, *, depth: bool = True, drive: str = DRIVE) -> str:
    image = f"{DATE}/{drive}/image_02/data/{frame:010d}.png"
    truth = f"{drive}/proj_depth/groundtruth/image_02/{frame:010d}.png"
    return f"{image} {truth if depth else 'None'} 721.5377"


def glp(frame: int, *, part: str = "train", drive: str = DRIVE) -> str:
    image, truth, _ = bts(frame, drive=drive).split()
    return f"/raw_data/{image} /data_depth_annotated/{part}/{truth}"


def md2(frame: int, *, side: str = "l") -> str:
    return f"{DATE}/{DRIVE} {frame} {side}"


def write(tmp_path: Path, *rows: str, name="list.txt", end="\n") -> str:
    path = tmp_path / name
    path.write_bytes(end.join(rows).encode())  # no newline at the end, as published
    return str(path)


def keys(frames) -> list[str]:
    return [frame.key.removeprefix(f"{DRIVE}/") for frame in frames]


@pytest.mark.parametrize(
    "kind, row",
    [
        ("bts", bts(1)),
        ("bts", "kitchen/rgb_00045.jpg kitchen/sync_depth_00045.png 518.8579"),
        ("glp", glp(1)),
        ("monodepth2", md2(1)),
    ],
)
def test_formats_are_recognised(tmp_path, kind, row):
    listing = lists.read_list(write(tmp_path, row, "", row, end="\r\n"))
    assert listing.kind == kind
    assert [line.line for line in listing.rows] == [1, 3]


def test_rows(tmp_path):
    pairs = lists.read_list(write(tmp_path, bts(3), bts(4, depth=False))).rows
    assert pairs[0].depth == f"{DEPTH}/0000000003.png"
    assert pairs[1] == lists.Pair(2, pairs[1].image, None)
    numbered = lists.read_list(write(tmp_path, md2(7, side="r"))).rows
    assert numbered == (lists.Numbered(1, f"{DATE}/{DRIVE}", 7, "r"),)


@pytest.mark.parametrize(
    "rows, words",
    [
        ([md2(1), bts(2)], "mixes formats: line 1 .* monodepth2, line 2 .* bts"),
        ([md2(1), "", "one two three four"], "line 3: 'one two three four' is in no"),
        ([f"{DATE}/{DRIVE} one l"], "line 1: .* is in no known format"),
        ([f"{DATE}/{DRIVE} 1 m"], "line 1: .* is in no known format"),
        (["", " "], "is empty"),
    ],
)
def test_faults_of_a_list_are_one_line(tmp_path, rows, words):
    with pytest.raises(InputError, match=words):
        lists.read_list(write(tmp_path, *rows))


def test_files_that_are_no_lists(tmp_path):
    with pytest.raises(InputError, match="list '.*nothing' cannot be read: No such"):
        lists.read_list(tmp_path / "nothing")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="text file in UTF-8"):
        lists.read_list(tmp_path / "bytes")


FORMATS = {"bts": bts, "glp": glp, "monodepth2": md2}


@pytest.mark.parametrize("form", FORMATS)
def test_kitti_list_gives_its_frames(kitti_root, tmp_path, form):
    """Frames of drive 0001 in the list's order, the last fifth for the test."""
    rows = [FORMATS[form](n) for n in (4, 0, 2, 1, 3)]
    path = write(tmp_path, *rows, end="\r\n")
    layout = kitti.read_layout(kitti_root, split="folder", train_list=path)
    assert keys(layout.train) == [f"{n:010d}" for n in range(4)]
    assert keys(layout.test) == ["0000000004"]
    assert layout.split == "list-folder"
    assert layout.train[0].depth == tiny_kitti.depth_path(kitti_root, "0001", 0)
    assert "--config.data.test_list=FILE" in layout.notes[0]


def test_two_lists(kitti_root, tmp_path):
    train, test = write(tmp_path, glp(3), glp(1)), write(tmp_path, bts(5), name="test")
    layout = kitti.read_layout(
        kitti_root, split="eigen", train_list=train, test_list=test
    )
    assert keys(layout.train) == ["0000000003", "0000000001"]
    assert keys(layout.test) == ["0000000005"]
    assert (layout.split, layout.notes) == ("list", ())


def test_test_list_alone_leaves_the_rest_for_training(kitti_root, tmp_path):
    path = write(tmp_path, bts(5), bts(0))
    layout = kitti.read_layout(kitti_root, split="folder", test_list=path)
    assert len(layout.train) == 10
    assert not set(layout.train) & set(layout.test)


def test_incomplete_split_is_held_out_and_said(kitti_root, tmp_path):
    path = write(tmp_path, *map(bts, range(5)))
    layout = kitti.read_layout(kitti_root, split="eigen", train_list=path)
    assert layout.split == "list-folder"
    assert "data.split=eigen is not complete (missing ground truth" in layout.notes[0]


def test_frames_in_both_lists(kitti_root, tmp_path):
    path = write(tmp_path, bts(1), bts(2))
    with pytest.raises(InputError, match="2 frames of data.list also in the test"):
        kitti.read_layout(kitti_root, split="eigen", train_list=path, test_list=path)


def test_usual_test_frames_are_kept_apart(tmp_path):
    def frame(name):
        return Frame(name, tmp_path / name, tmp_path / name, UNKNOWN_CAMERA)

    a, b, c = map(frame, ("d/1", "d/2", "d/3"))
    chosen = lists.choose("eigen", usual=lambda _: ((a,), (b,)), train=(c,), test=None)
    assert chosen == ((c,), (b,), "list-eigen", ())
    with pytest.raises(InputError, match="1 frame of data.list also in the .*: d/2"):
        lists.choose("eigen", usual=lambda _: ((a,), (b,)), train=(b, c), test=None)


def test_none_is_left_out_and_counted(kitti_root, tmp_path):
    path = write(tmp_path, bts(1), bts(2), bts(3, depth=False), bts(0))
    layout = kitti.read_layout(kitti_root, split="folder", train_list=path)
    assert len(layout.train + layout.test) == 3
    assert layout.notes[0].startswith("1 of 4 frames of list")
    assert layout.notes[0].endswith(f"{DRIVE}/0000000003")


def test_monodepth2_frames_without_annotation(kitti_root, tmp_path):
    tiny_kitti.depth_path(kitti_root, "0001", 2).unlink()
    path = write(tmp_path, *map(md2, range(4)))
    layout = kitti.read_layout(kitti_root, split="folder", train_list=path)
    assert len(layout.train + layout.test) == 3
    assert "1 of 4 frames" in layout.notes[0]
    only = write(tmp_path, md2(2))
    with pytest.raises(InputError, match="no frame of list .* has depth"):
        kitti.read_layout(kitti_root, split="folder", train_list=only)


def test_missing_files_are_counted_and_named(kitti_root, tmp_path):
    path = write(tmp_path, *map(bts, range(3, 11)))
    words = "ground truth of 5 of 8 frames of list .*/0000000006.png, .* and 2 more"
    with pytest.raises(InputError, match=words):
        kitti.read_layout(kitti_root, split="folder", train_list=path)
    tiny_kitti.image_path(kitti_root, "0001", 3).unlink()
    path = write(tmp_path, bts(3), bts(4))
    with pytest.raises(InputError, match="image of 1 of 2 frames .*0000000003"):
        kitti.read_layout(kitti_root, split="folder", train_list=path)


@pytest.mark.parametrize("to", ["merged", "val"])
def test_the_folder_of_the_depth_may_be_another(kitti_root, tmp_path, to):
    folder = kitti_root / "data_depth_annotated"
    target = folder if to == "merged" else folder / "val"
    target.mkdir(exist_ok=True)
    for drive in list((folder / "train").iterdir()):
        drive.rename(target / drive.name)
    path = write(tmp_path, *map(glp, range(5)))
    layout = kitti.read_layout(kitti_root, split="folder", train_list=path)
    assert len(layout.train) == 4


def test_jpeg_for_png(kitti_root, tmp_path):
    png = tiny_kitti.image_path(kitti_root, "0001", 1)
    png.rename(png.with_suffix(".jpg"))
    path = write(tmp_path, bts(1), bts(0))
    layout = kitti.read_layout(kitti_root, split="folder", train_list=path)
    assert layout.test[0].image == png.with_suffix(".jpg")


@pytest.mark.parametrize(
    "row, words",
    [
        ("9 0 l", "line 1: '9' is not KITTI's <date>/<date>_drive_NNNN"),
        ("kitchen/rgb_1.jpg kitchen/d_1.png", "line 1: 'kitchen/rgb_1.jpg' is not K"),
        (f"{DATE}/drive_1 5 l", "line 1: .* is not KITTI's <date>/<date>_drive_NNNN"),
        (bts(1).replace(DEPTH, "depth"), "line 1: 'depth/.*' is not KITTI's <drive>"),
        (bts(1).replace("0001.png 2011", "0002.png 2011"), "of different frames"),
    ],
)
def test_lines_that_are_not_kitti(kitti_root, tmp_path, row, words):
    with pytest.raises(InputError, match=words):
        kitti.read_layout(kitti_root, split="folder", train_list=write(tmp_path, row))


def test_real_kitti_in_three_formats(real_data, tmp_path):
    """The same eight real frames, one of them None in BTS's list."""
    root, drive = real_data / "kitti", tiny_kitti.drive("0013")
    numbers = range(41, 49)
    rows = {
        "bts": [bts(n, drive=drive) for n in numbers],
        "glp": [glp(n, drive=drive) for n in numbers],  # it lies in val
        "md2": [f"{DATE}/{drive} {n} l" for n in numbers],
    }
    rows["bts"].append(bts(0, drive=drive, depth=False))
    found = {
        name: kitti.read_layout(
            root, split="folder", train_list=write(tmp_path, *lines)
        )
        for name, lines in rows.items()
    }
    assert found["bts"].train == found["glp"].train == found["md2"].train
    assert len(found["md2"].train) == 7
    assert found["md2"].train[0].intrinsics == (721.5377, 721.5377, 609.5593, 172.854)
    assert "1 of 9 frames" in found["bts"].notes[0]


@pytest.mark.parametrize("form", ["{0} {1} 518.8579", "/{0} /{1}"])
def test_real_nyu(real_data, tmp_path, form):
    scene = "basement/{}_{:05d}.{}"
    rows = [
        form.format(scene.format("rgb", n, "jpg"), scene.format("sync_depth", n, "png"))
        for n in (0, 50, 100)
    ]
    root = real_data / "nyu"
    path = write(tmp_path, *rows)
    layout = nyu.read_layout(root, split="folder", train_list=path)
    assert keys(layout.train) == ["basement/00000", "basement/00050"]
    assert keys(layout.test) == ["basement/00100"]


def test_nyu_official_test_folder_and_faults(real_data, tmp_path):
    root = tmp_path / "nyu"
    scene = root / nyu.OFFICIAL_TEST / "basement"
    scene.parent.mkdir(parents=True)
    scene.symlink_to(real_data / "nyu" / "basement")
    (root / "dining_room").symlink_to(real_data / "nyu" / "dining_room")
    pair = "{0}/rgb_{1}.jpg {0}/sync_depth_{1}.png 518.8579"
    train = write(tmp_path, pair.format("dining_room", "00001"))  # a .png on disk
    test = write(tmp_path, pair.format("basement", "00050"), name="test")
    layout = nyu.read_layout(root, split="official", train_list=train, test_list=test)
    assert layout.train[0].image.name == "rgb_00001.png"
    assert layout.test[0].depth.is_relative_to(root / nyu.OFFICIAL_TEST)
    lost = write(tmp_path, pair.format("kitchen", "00001"))
    with pytest.raises(InputError, match="1 of 1 frames .*kitchen/sync_depth_00001"):
        nyu.read_layout(root, split="folder", train_list=lost)
    with pytest.raises(InputError, match="format of monodepth2"):
        nyu.read_layout(root, split="folder", train_list=write(tmp_path, md2(1)))


def test_repeated_lines_never_reach_both_parts(kitti_root, tmp_path):
    path = write(tmp_path, *[bts(n) for n in (4, 3, 4, 4)])
    layout = kitti.read_layout(kitti_root, split="folder", train_list=path)
    assert keys(layout.train) == ["0000000003"]
    assert keys(layout.test) == ["0000000004"]
