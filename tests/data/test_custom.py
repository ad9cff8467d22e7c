"""Two folders of one's own become a data set, and what does not fit is named."""

import json
import math
import shutil
import unicodedata

import cv2
import numpy as np
import pytest
from PIL import Image

from amlr_jax.data import custom
from amlr_jax.data.prepared import prepare
from amlr_jax.runtime.errors import InputError

SIZE = (48, 64)
NAMES = [f"{room}/{n}" for room in ("hall", "yard/east") for n in range(5)]


def write(root, names=NAMES, *, ending="png", size=SIZE):
    """Images whose brightness tells the depth of 1 to 9 metres."""
    rng = np.random.default_rng(0)
    for name in names:
        depth = np.linspace(1, 9, size[0])[:, None] * rng.uniform(0.8, 1.1, size)
        depth[rng.random(size) < 0.3] = 0
        image = np.repeat((255 - 25 * depth)[..., None], 3, axis=-1)
        colour, truth = root / f"rgb/{name}.png", root / f"depth/{name}.{ending}"
        for path in (colour, truth):
            path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(colour), image.astype(np.uint8))
        if ending == "png":
            cv2.imwrite(str(truth), (1000 * depth).astype(np.uint16))
        else:
            (np.save if ending == "npy" else np.savez)(truth, depth.astype(np.float32))
    return root


def names(frames) -> list[str]:
    return [frame.key for frame in frames]


def test_last_fifth_of_each_folder_is_held_out(tmp_path):
    layout = custom.read_layout(write(tmp_path))
    assert names(layout.test) == ["hall/4", "yard/east/4"]
    assert len(layout.train) == 8
    assert (layout.depth_scale, layout.in_metres) == (1000.0, False)
    assert all(math.isnan(value) for value in layout.train[0].intrinsics)
    assert layout.train[0].depth == tmp_path / "depth" / "hall" / "0.png"


@pytest.mark.parametrize("ending", ["png", "npy", "npz"])
def test_prepared_depth_is_what_the_files_hold(tmp_path, ending):
    write(tmp_path / "data", ending=ending)
    layout = custom.read_layout(tmp_path / "data", depth_cap=8.0)
    data = prepare(layout, cache=tmp_path / "cache")
    example = data.test[0]
    if ending == "png":
        codes = cv2.imread(str(tmp_path / "data/depth/hall/4.png"), -1)
        want = codes / np.float32(1000)
    else:
        loaded = np.load(tmp_path / f"data/depth/hall/4.{ending}")
        want = loaded if ending == "npy" else loaded["arr_0"]
    got = example["depth"][..., 0].astype(np.float32) / np.float32(data.depth_scale)
    np.testing.assert_array_equal(got, np.where(want > 8, 0, want))
    assert example["key"] == b"hall/4"
    valid = np.concatenate([e["depth"][e["depth"] > 0] for e in data.train])
    valid = valid / data.depth_scale
    assert data.median_depth == pytest.approx(np.median(valid), abs=2e-3)
    assert data.valid_share == pytest.approx(len(valid) / (8 * SIZE[0] * SIZE[1]))


def test_unit_and_cap_change_the_prepared_set(tmp_path):
    write(tmp_path / "data")
    medians = [
        prepare(layout, cache=tmp_path / "cache").median_depth
        for layout in (
            custom.read_layout(tmp_path / "data", depth_scale=1000.0),
            custom.read_layout(tmp_path / "data", depth_scale=500.0),
            custom.read_layout(tmp_path / "data", depth_cap=3.0),
        )
    ]
    assert medians[1] == 2 * medians[0]
    assert medians[2] < 3 < medians[0]


def test_lists_in_the_folder(tmp_path):
    write(tmp_path)
    (tmp_path / "train.txt").write_text("rgb/hall/3.png\r\n\r\nyard/east/0\n")
    (tmp_path / "test.txt").write_text("hall/0.png")
    layout = custom.read_layout(tmp_path)
    assert names(layout.train) == ["hall/3", "yard/east/0"]
    assert names(layout.test) == ["hall/0"]
    (tmp_path / "train.txt").unlink()
    assert len(custom.read_layout(tmp_path).train) == 9


@pytest.mark.parametrize(
    "colour, depth",
    [("RGB", "Depth"), ("images", "depths"), ("color", "gt"), ("IMG", "depthmaps")],
)
def test_folders_of_similar_names(tmp_path, colour, depth):
    write(tmp_path)
    (tmp_path / "rgb").rename(tmp_path / colour)
    (tmp_path / "depth").rename(tmp_path / depth)
    (tmp_path / "test.txt").write_text(f"{colour}/hall/4.png\nyard/east/4")
    layout = custom.read_layout(tmp_path)
    assert names(layout.test) == ["hall/4", "yard/east/4"]
    assert layout.test[0].image == tmp_path / colour / "hall" / "4.png"
    (tmp_path / depth / "hall" / "2.png").unlink()
    with pytest.raises(InputError, match=f"{depth}/hall/2.png"):
        custom.read_layout(tmp_path)


def test_two_folders_that_could_hold_the_images(tmp_path):
    write(tmp_path)
    (tmp_path / "rgb").rename(tmp_path / "images")
    shutil.copytree(tmp_path / "images", tmp_path / "color")
    (tmp_path / "depth").rename(tmp_path / "Depth")
    with pytest.raises(InputError, match="no rgb files .*; expected .*/rgb/<name>"):
        custom.read_layout(tmp_path)


def test_lists_from_elsewhere_win(tmp_path):
    write(tmp_path)
    (tmp_path / "train.txt").write_text("hall/3")
    (tmp_path / "mine.txt").write_text("\n".join(NAMES[:5]))
    layout = custom.read_layout(tmp_path, train_list=str(tmp_path / "mine.txt"))
    assert names(layout.train) == NAMES[:4]
    assert names(layout.test) == ["hall/4"]
    (tmp_path / "mine.txt").write_text("hall/3\nhall/33")
    with pytest.raises(InputError, match=r"1 of 2 .*'hall/33' \(line 2\)"):
        custom.read_layout(tmp_path, train_list=str(tmp_path / "mine.txt"))


def test_cameras(tmp_path):
    write(tmp_path)
    camera = {"fx": 50, "fy": 51.5, "cx": 31.5, "cy": 23.5}
    path = tmp_path / "intrinsics.json"
    path.write_text(json.dumps(camera))
    assert custom.read_layout(tmp_path).test[0].intrinsics == (50.0, 51.5, 31.5, 23.5)
    each = {name: camera | {"cx": n} for n, name in enumerate(NAMES)}
    path.write_text(json.dumps(each))
    assert custom.read_layout(tmp_path).test[0].intrinsics[2] == 4.0
    del each["hall/3"]
    path.write_text(json.dumps(each))
    with pytest.raises(InputError, match=r"lacks 'hall/3' \(1 of 10 files\): hall/3"):
        custom.read_layout(tmp_path)


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "is not JSON"),
        ("[1, 2]", "must hold .*fx"),
        ('{"fx": 1, "fy": 1, "cx": 2}', 'must hold .*; got {"fx": 1'),
        ('{"hall": 3}', r"must hold .*; got 3 \(10 of 10 files\)"),
        ('{"fx": -1, "fy": 1, "cx": 2, "cy": 2}', "the first two positive"),
        ('{"fx": NaN, "fy": 1, "cx": 2, "cy": 2}', "the first two positive"),
    ],
)
def test_cameras_that_are_none(tmp_path, text, words):
    (write(tmp_path) / "intrinsics.json").write_text(text)
    with pytest.raises(InputError, match=words):
        custom.read_layout(tmp_path)


def test_files_without_a_partner(tmp_path):
    write(tmp_path)
    (tmp_path / "depth/hall/2.png").unlink()
    with pytest.raises(InputError, match="missing ground truth of 1 of 10 .*hall/2"):
        custom.read_layout(tmp_path)
    (tmp_path / "rgb/hall/2.png").unlink()
    (tmp_path / "rgb/hall/1.png").unlink()
    with pytest.raises(InputError, match="missing image of 1 of 9 .*hall/1"):
        custom.read_layout(tmp_path)


def test_mixed_and_doubled_files(tmp_path):
    write(tmp_path)
    write(tmp_path, ["hall/9"], ending="npy")
    with pytest.raises(InputError, match="mixes .npy, .png; keep"):
        custom.read_layout(tmp_path)
    (tmp_path / "depth/hall/9.png").touch()
    with pytest.raises(
        InputError, match=r"two files of one name: .*9.npy' and .*9.png"
    ):
        custom.read_layout(tmp_path)


def test_other_files_do_not_count(tmp_path):
    write(tmp_path)
    for name in ("rgb/hall/Thumbs.db", "rgb/.hidden.png", "depth/._0.png", "notes.md"):
        (tmp_path / name).touch()
    assert len(custom.read_layout(tmp_path).train) == 8


def test_empty_folders_say_the_layout(tmp_path):
    with pytest.raises(InputError, match="no rgb files at .*expected .*/rgb/<name>"):
        custom.read_layout(tmp_path)


def test_image_that_a_camera_held_on_its_side(tmp_path):
    write(tmp_path / "data")
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "data/rgb/hall/1.png"
    Image.open(path).save(path.with_suffix(".jpg"), exif=exif)
    path.unlink()
    layout = custom.read_layout(tmp_path / "data")
    with pytest.raises(InputError, match="1.jpg' must be stored upright"):
        prepare(layout, cache=tmp_path / "cache")


def test_odd_but_upright_jpeg(tmp_path):
    write(tmp_path / "data")
    path = tmp_path / "data/rgb/hall/1.png"
    cv2.imwrite(str(path.with_suffix(".JPG")), cv2.imread(str(path)))
    path.unlink()
    layout = custom.read_layout(tmp_path / "data")
    data = prepare(layout, cache=tmp_path / "cache")
    assert data.train[1]["image"].shape == (*SIZE, 3)


def test_no_measurement_within_the_cap(tmp_path):
    """A wrong unit leaves nothing: millimetres taken for metres."""
    write(tmp_path / "data")
    layout = custom.read_layout(tmp_path / "data", depth_scale=1.0, depth_cap=10.0)
    with pytest.raises(InputError, match="no valid ground-truth pixel.*depth_scale"):
        prepare(layout, cache=tmp_path / "cache")


# ---------------------------------------------------------------- names


def move(root, *, rgb="{}", depth="{}"):
    """Renames the files of a folder written by `write`: patterns of names."""
    for role, form in (("rgb", rgb), ("depth", depth)):
        for path in [p for p in (root / role).rglob("*") if p.is_file()]:
            path.rename(path.with_name(form.format(path.stem) + path.suffix))


def test_linked_folders_count(tmp_path):
    write(tmp_path / "disk")
    root = tmp_path / "data"
    for role in ("rgb", "depth"):
        (root / role).mkdir(parents=True)
        (root / role / "hall").symlink_to(tmp_path / "disk" / role / "hall")
        (root / role / "east").symlink_to(tmp_path / "disk" / role / "yard/east")
        (root / role / "loop").symlink_to(root / role)
    layout = custom.read_layout(root)
    assert names(layout.test) == ["east/4", "hall/4"] and len(layout.train) == 8
    (root / "rgb/yard").symlink_to(tmp_path / "not mounted")
    with pytest.raises(InputError, match="yard' is a link to nothing; restore"):
        custom.read_layout(root)


@pytest.mark.parametrize(
    "form, first, last",
    [
        ("frame_{}", 1, 120),
        ("{}", 0, 11),
        ("cam2-{}-x", 5, 14),
        ("20240101_{}", 98, 107),
    ],
)
def test_the_test_is_the_end_of_the_sequence(tmp_path, form, first, last):
    numbers = range(first, last + 1)
    for number in numbers:
        for role in ("rgb", "depth"):
            path = tmp_path / role / f"{form.format(number)}.png"
            path.parent.mkdir(exist_ok=True)
            path.touch()
    layout = custom.read_layout(tmp_path)
    keys = [form.format(number) for number in numbers]
    assert names(layout.train + layout.test) == keys
    assert len(layout.test) == len(keys) // 5
    listed = tmp_path / "train.txt"
    listed.write_text("\n".join(sorted(keys)))
    assert names(custom.read_layout(tmp_path).test) == names(layout.test)


def test_two_cameras_of_one_folder_are_split_at_one_moment(tmp_path):
    keys = [f"{camera}_{n}" for camera in ("left", "right") for n in range(8, 18)]
    write(tmp_path, keys)
    test = names(custom.read_layout(tmp_path).test)
    assert test == ["left_16", "right_16", "left_17", "right_17"]


@pytest.mark.parametrize(
    "rgb, depth",
    [
        ("{}.color", "{}.depth"),
        ("{}_rgb", "{}_depth"),
        ("{}", "{}_depth"),
        ("rgb_{}", "sync_depth_{}"),
        ("{}-Color", "{}-Depth"),
    ],
)
def test_names_that_tell_the_role(tmp_path, rgb, depth):
    write(tmp_path)
    move(tmp_path, rgb=rgb, depth=depth)
    layout = custom.read_layout(tmp_path)
    assert names(layout.train + layout.test)[-1] == "yard/east/4"
    assert len(layout.train) == 8 and not layout.notes
    (tmp_path / "test.txt").write_text(f"hall/{rgb.format(3)}.png\nhall/2")
    assert names(custom.read_layout(tmp_path).test) == ["hall/3", "hall/2"]


@pytest.mark.parametrize("rgb", ["{}.color", "{}_rgb", "{}"])
def test_images_and_depth_side_by_side(tmp_path, rgb):
    write(tmp_path)
    move(tmp_path, rgb=rgb, depth="{}.depth")
    for role in ("rgb", "depth"):
        for path in [p for p in (tmp_path / role).rglob("*") if p.is_file()]:
            target = tmp_path / path.relative_to(tmp_path / role)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        shutil.rmtree(tmp_path / role)
    (tmp_path / "hall/0.pose.txt").touch()
    layout = custom.read_layout(tmp_path)
    assert names(layout.test) == ["hall/4", "yard/east/4"] and len(layout.train) == 8
    assert layout.notes == (
        f"1 file is passed over in '{tmp_path}': .txt 1 (hall/0.pose.txt)",
    )


@pytest.mark.parametrize("form", ["NFC", "NFD", "latin-1"])
def test_names_in_another_unicode_form_or_encoding(tmp_path, form):
    write(tmp_path, [f"Küche/é{n}" for n in range(5)])
    for path in [tmp_path / "rgb/Küche", *(tmp_path / "rgb/Küche").iterdir()][::-1]:
        name = path.name.encode("latin-1").decode("utf-8", "surrogateescape")
        if form != "latin-1":
            name = unicodedata.normalize(form, path.name)
        path.rename(path.with_name(name))
    (tmp_path / "test.txt").write_text(unicodedata.normalize("NFD", "Küche/é1"))
    layout = custom.read_layout(tmp_path)
    assert names(layout.test) == ["Küche/é1"] and len(layout.train) == 4
    assert all(frame.image.is_file() for frame in layout.train)
    json.dumps(layout.train[0].key).encode()


def test_files_that_are_passed_over_are_counted(tmp_path):
    write(tmp_path)
    for name in ("rgb/a.heic", "rgb/b.HEIC", "rgb/c.txt", "depth/a.raw", "rgb/none"):
        (tmp_path / name).touch()
    images, depth = custom.read_layout(tmp_path).notes
    assert "4 files are" in images and ".heic 2, " in images and "none 1" in images
    assert "a.heic, b.HEIC, c.txt and 1 more" in images
    assert depth.endswith("depth': .raw 1 (a.raw)")


@pytest.mark.parametrize(
    "text",
    [
        "hall\\3.png\r\nyard\\east\\0\r\n",
        "./hall/3\n/yard/east/0/",
        "rgb\\hall\\3.png\nrgb/yard/east/0.JPG",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_of_windows(tmp_path, text, encoding):
    write(tmp_path)
    (tmp_path / "train.txt").write_text(text, encoding=encoding)
    assert names(custom.read_layout(tmp_path).train) == ["hall/3", "yard/east/0"]


def test_a_list_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(write(tmp_path)))
    (tmp_path / "mine.txt").write_text("hall/3\nhall/2")
    layout = custom.read_layout(tmp_path, train_list="~/mine.txt")
    assert names(layout.test) == ["hall/3"]
    (tmp_path / "mine.txt").write_bytes("Küche/3".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8: byte 1 is not; convert it: iconv"):
        custom.read_layout(tmp_path, train_list="~/mine.txt")
