"""NYUv2's layout is read whole, and every fault in it is named."""

import shutil
import unicodedata

import pytest

from amlr_jax.data import nyu
from amlr_jax.runtime.errors import InputError


def test_real_sample(real_data):
    layout = nyu.read_layout(real_data / "nyu", split="folder")
    assert [f.key for f in layout.test] == ["basement/00100", "dining_room/00003"]
    assert len(layout.train) == 4
    assert layout.depth_scale == 1000.0


def test_official_wants_the_published_counts(real_data, tmp_path):
    shutil.copytree(real_data / "nyu", tmp_path / "nyu")
    test = tmp_path / "nyu" / nyu.OFFICIAL_TEST
    shutil.copytree(real_data / "nyu" / "basement", test / "basement")
    with pytest.raises(InputError, match="needs 24,231 .* 654 .*, found 6 and 3"):
        nyu.read_layout(tmp_path / "nyu", split="official")
    assert len(nyu.read_layout(tmp_path / "nyu", split="folder").train) == 4


def test_missing_files_by_name(real_data, tmp_path):
    root = tmp_path / "nyu"
    shutil.copytree(real_data / "nyu", root)
    (root / "basement" / "rgb_00050.jpg").unlink()
    with pytest.raises(InputError, match="missing image of 1 .*rgb_00050"):
        nyu.read_layout(root, split="folder")
    (root / "basement" / "sync_depth_00050.png").unlink()
    (root / "basement" / "sync_depth_00100.png").unlink()
    with pytest.raises(InputError, match="missing ground truth of 1 .*depth_00100"):
        nyu.read_layout(root, split="folder")


def test_empty_root_says_the_layout(tmp_path):
    with pytest.raises(InputError, match="expected <scene>/rgb_NNNNN.jpg"):
        nyu.read_layout(tmp_path, split="folder")


def write(root, *numbers, scene="room"):
    folder = root / scene
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"rgb_{number}.jpg").touch()
        (folder / f"sync_depth_{number}.png").touch()
    return root


def test_unpadded_numbers_keep_their_order(tmp_path):
    write(tmp_path, *range(1, 121))
    write(tmp_path, *(f"{n:05d}" for n in range(5)), scene="padded")
    layout = nyu.read_layout(tmp_path, split="folder")
    assert layout.test[0].key == "padded/00004"
    rest = [frame.key for frame in layout.test[1:]]
    assert rest == [f"room/{n}" for n in range(97, 121)]
    assert layout.test[-1].image.name == "rgb_120.jpg"


def test_linked_scenes_and_upper_case_endings(tmp_path):
    write(tmp_path / "disk", *range(5))
    root = write(tmp_path / "nyu", *range(5), scene="here")
    (root / "there").symlink_to(tmp_path / "disk/room")
    (root / "here/rgb_2.jpg").rename(root / "here/rgb_2.JPEG")
    layout = nyu.read_layout(root, split="folder")
    assert (len(layout.train), len(layout.test)) == (8, 2)
    (root / "lost").symlink_to(tmp_path / "absent")
    with pytest.raises(InputError, match="lost' is a link to nothing"):
        nyu.read_layout(root, split="folder")


def test_lists_in_another_spelling(tmp_path):
    scene = unicodedata.normalize("NFD", "Küche")
    write(tmp_path, "00001", "00002", scene=scene)
    rows = (
        "/{0}\\rgb_{1}.jpg {0}\\sync_depth_{1}.png 518.8".format("Küche", n)
        for n in ("00001", "00002")
    )
    (tmp_path / "list.txt").write_text("\n".join(rows))
    layout = nyu.read_layout(
        tmp_path, split="folder", train_list=str(tmp_path / "list.txt")
    )
    assert [frame.image.is_file() for frame in layout.train + layout.test] == [True] * 2
