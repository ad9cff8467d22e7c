"""The check on every kind of data set: no false alarm, and what only they can have."""

import json
import math
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from amlr_jax import street
from amlr_jax.data import kitti, nyu
from amlr_jax.data.check import depth, facts, picture
from amlr_jax.data.check.findings import FAULT, WARNING
from tests import tiny_kitti
from tests.conftest import REPOSITORY
from tests.data import test_custom, test_nyu_tfds
from tests.data.test_check import bad, findings, matching

INDOOR = {"max_depth": 10.0, "kb_crop": False}


# ------------------------------------------------------------------- no false alarm


def test_real_kitti_is_clean(real_data, tmp_path):
    found = findings(
        real_data / "kitti", output=tmp_path, kb_crop=True, crop=(352, 704)
    )
    assert bad(found) == []
    assert matching(found, "counts", "41 training and 10 test frames")
    assert matching(found, "leak", "Eigen test", "2011_09_26_drive_0013_sync")
    page = cv2.imread(str(tmp_path / "check.png"))
    assert page.shape[1] == 3 * picture.WIDTH


def test_real_nyu_is_clean(real_data):
    crop = {"crop": (448, 576)}
    assert bad(findings(real_data / "nyu", name="nyu", **crop, **INDOOR)) == []


@pytest.fixture(scope="module")
def street_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("street") / "kitti"
    return street.generate(root, drives=1, frames=2, seed=0, workers=1)


def test_the_street_is_clean(street_root):
    options = {"street": {"drives": 1, "frames": 2, "seed": 0}}
    found = findings(
        street_root, name="street", kb_crop=True, crop=(352, 704), **options
    )
    assert bad(found) == []


# ------------------------------------------------------------------------ wrong units


def guesses(layout, factor, max_depth):
    """What the check says of depth that was read times a factor."""
    found = []
    for frame in layout.train + layout.test:
        known = facts.examine("train", frame, layout)
        metres = facts.read(frame, layout).metres
        summary = facts.summarize(metres * np.float32(factor), cap=0)
        found.append(known._replace(depth=summary))
    return depth.unit(facts.Examined(layout, tuple(found), None, max_depth))


def test_real_kitti_in_millimetres(real_data):
    layout = kitti.read_layout(real_data / "kitti", split="folder")
    layout = layout._replace(train=layout.train[::8], test=())
    (unit,) = guesses(layout, 1000 / 256, 80.0)
    assert "read as 256 a metre, stored as millimetres?" in unit.text
    assert guesses(layout, 1.0, 80.0) == []


def test_real_nyu_with_kittis_scale(real_data):
    layout = nyu.read_layout(real_data / "nyu", split="folder")
    (unit,) = guesses(layout, 256 / 1000, 10.0)
    assert "read as 1000 a metre, stored as KITTI's 256 a metre?" in unit.text
    assert guesses(layout, 1.0, 10.0) == []


# --------------------------------------------------------------------- your own folders


@pytest.fixture
def own(tmp_path):
    """Two folders of five frames, every image another."""
    root = test_custom.write(tmp_path / "mine")
    for number, path in enumerate(sorted(root.rglob("rgb/**/*.png"))):
        picture = cv2.imread(str(path))
        picture[0, 0] = number
        cv2.imwrite(str(path), picture)
    return root


CUSTOM = {"name": "custom", "crop": (48, 64), "depth_cap": 10.0, **INDOOR}


def test_own_folders_are_clean(own):
    found = findings(own, **CUSTOM)
    assert bad(found) == []
    assert matching(found, "intrinsics", "no camera is known")


@pytest.mark.parametrize(
    "depth_scale, unit",
    [(1.0, "millimetres"), (100.0, "millimetres"), (100_000.0, "millimetres")],
)
def test_a_wrong_depth_scale(own, depth_scale, unit):
    found = findings(own, depth_scale=depth_scale, **CUSTOM)
    text = f"read as {depth_scale:g} a metre (data.depth_scale), stored as {unit}"
    (one,) = matching(found, "scale", text)
    assert one.level == WARNING
    if depth_scale < 1000:
        assert matching(found, "depth", "of the measured pixels are beyond")


def test_all_depth_beyond_the_cap(own):
    found = findings(own, **(CUSTOM | {"depth_cap": 0.1}))
    (one,) = matching(found, "depth", "10 frames have no valid depth")
    assert one.level == FAULT


def not_measured(root, code, *, share=0.11, ending="png"):
    """Writes `code` at a share of the pixels of each depth map."""
    rng = np.random.default_rng(1)
    for path in sorted(root.rglob(f"depth/**/*.{ending}")):
        values = np.load(path) if ending == "npy" else cv2.imread(str(path), -1)
        values[rng.random(values.shape) < share] = code
        np.save(path, values) if ending == "npy" else cv2.imwrite(str(path), values)


@pytest.mark.parametrize(
    "code, ending, stored",
    [(65535, "png", "65535"), (1, "png", "1"), (65.504, "npy", "65.504")],
)
def test_a_value_that_may_mean_not_measured(tmp_path, code, ending, stored):
    root = test_custom.write(tmp_path / "mine", ending=ending)
    not_measured(root, code, ending=ending)
    options = CUSTOM | {"depth_cap": 80.0, "max_depth": 80.0}
    shared = "have the same extreme value"
    (one,) = matching(
        findings(root, **options), "depth", shared, f"stored as {stored};"
    )
    assert f"--config.data.invalid_values='({stored},)'" in one.text
    assert (one.level, len(one.names)) == (WARNING, 10)
    assert float(one.text.split("%")[0]) == pytest.approx(15, abs=3)  # of 74 % measured
    found = findings(root, **options, invalid_values=(code,))
    assert not matching(found, "depth", shared)
    capped = findings(root, **CUSTOM)  # 10 m
    assert bool(matching(capped, "depth", shared)) == (code == 1)


def test_faults_of_own_folders(own):
    (own / "rgb/hall/1.png").unlink()
    (own / "depth/hall/2.png").unlink()
    (own / "depth/yard/east/1.png").write_bytes(b"")
    cameras = {"fx": 0, "fy": 50, "cx": 32, "cy": 24}
    (own / "intrinsics.json").write_text(json.dumps(cameras))
    found = findings(own, **CUSTOM)
    assert matching(found, "layout", "training would stop")
    assert matching(found, "files", "image of 1 of 10", "rgb/hall/1.png")
    assert matching(found, "files", "ground truth of 1 of 10", "depth/hall/2.png")
    assert matching(found, "files", "damaged", "depth/yard/east/1.png")
    (camera,) = matching(found, "layout", "the first two positive")
    assert camera.level == FAULT


def test_random_lists_of_one_folder_are_a_warning(own):
    """A folder need not be a scene."""
    (own / "train.txt").write_text("hall/0\nhall/2\nyard/east/0\n")
    (own / "test.txt").write_text("hall/1\n")
    (one,) = matching(findings(own, **CUSTOM), "leak", "in training and test")
    assert (one.level, one.names) == (WARNING, ("hall",))


def test_a_float_array_of_another_size(tmp_path):
    root = test_custom.write(tmp_path / "mine", ending="npy")
    np.save(root / "depth/hall/2.npy", np.ones((9, 9), np.float32))
    (root / "depth/hall/3.npy").write_bytes(b"\x93NUMPY")
    found = findings(root, **CUSTOM)
    (size,) = matching(found, "sizes", "differ in size", "hall/2.npy")
    (damaged,) = matching(found, "files", "damaged", "hall/3.npy")
    assert size.level == damaged.level == FAULT


def test_one_name_twice(own):
    shutil.copyfile(own / "rgb/hall/1.png", own / "rgb/hall/1.jpg")
    found = findings(own, **CUSTOM)
    assert matching(found, "layout", "two files of one name", "hall/1.png")


# ------------------------------------------------------------------------------- NYUv2


def write_nyu(root, scene, numbers, size=(480, 640)):
    folder = root / scene
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        rng = np.random.default_rng([number, len(scene)])
        depth = np.linspace(6000, 1500, size[0])[:, None] * rng.uniform(0.9, 1.1, size)
        image = cv2.resize(rng.integers(0, 255, (12, 16, 3), np.uint8), size[::-1])
        cv2.imwrite(str(folder / f"rgb_{number:05d}.jpg"), image)
        path = folder / f"sync_depth_{number:05d}.png"
        cv2.imwrite(str(path), depth.astype(np.uint16))
    return root


NYU = {"name": "nyu", "crop": (448, 576), **INDOOR}


def test_nyu_counts_and_pairs(tmp_path):
    root = write_nyu(tmp_path / "nyu", "kitchen_0001", (1, 2, 3))
    write_nyu(root, "official_splits/test/kitchen", (7,))
    (root / "kitchen_0001/rgb_00002.jpg").unlink()
    (root / "kitchen_0001/sync_depth_00003.png").unlink()
    found = findings(root, split="official", **NYU)
    (counts,) = matching(found, "counts", "train 1 of 24231; test 1 of 654")
    assert counts.level == FAULT
    assert counts.names == ("kitchen_0001 has 1 of 3",)
    assert matching(found, "files", "image of 1 of 4", "rgb_00002.jpg")
    assert matching(found, "files", "ground truth of 1 of 4", "sync_depth_00003.png")


def test_nyu_images_of_another_size(tmp_path):
    root = write_nyu(tmp_path / "nyu", "kitchen_0001", (1, 2, 3), size=(448, 576))
    (one,) = bad(findings(root, **NYU))
    assert (one.check, one.level) == ("intrinsics", WARNING)
    assert one.names == ("kitchen_0001 448x576, not 480x640",)


def test_nyu_lists_that_share_a_scene(tmp_path):
    root = write_nyu(tmp_path / "nyu", "kitchen_0001", (1, 2))
    paths = []
    for number in (1, 2):
        paths.append(tmp_path / f"{number}.txt")
        stem = f"kitchen_0001/{{}}_{number:05d}"
        line = f"{stem.format('rgb')}.jpg {stem.format('sync_depth')}.png 518.8579\n"
        paths[-1].write_text(line)
    lists = {"list": str(paths[0]), "test_list": str(paths[1])}
    (one,) = bad(findings(root, **lists, **NYU))
    assert (one.check, one.level) == ("leak", FAULT)
    assert one.names == ("kitchen_0001",)


tfds_root = test_nyu_tfds.root


def test_nyu_of_tfds(tfds_root, tmp_path):
    options = NYU | {"name": "nyu_tfds", "split": "tfds"}
    found = findings(tfds_root, output=tmp_path / "out", **options)
    assert bad(found) == []
    assert matching(found, "counts", "3 training and 2 test frames")
    assert (tmp_path / "out" / "check.png").is_file()


# ------------------------------------------------------------ summaries of depth maps


def test_quantiles_of_a_set_are_those_of_its_pixels():
    rng = np.random.default_rng(0)
    maps = rng.lognormal(2, 1, (3, 40, 50)).astype(np.float32)
    maps[rng.random(maps.shape) < 0.5] = 0
    every = [facts.summarize(m, cap=0) for m in maps]
    for q in (0.01, 0.5, 0.99):
        want = np.quantile(maps[maps > 0], q)
        assert facts.quantile(every, q) == pytest.approx(want, rel=0.05)


def test_a_map_without_depth_has_finite_shares():
    found = facts.summarize(np.zeros((20, 30), np.float32), cap=0)
    assert (found.share, found.beyond) == (0.0, 0.0)
    assert math.isnan(facts.quantile([found], 0.5))


# ------------------------------------------------------------------------ the command


def run(root, *more):
    flags = tiny_kitti.flags(root, cache=root.parent / "cache")
    return subprocess.run(
        [sys.executable, "-m", "amlr_jax.data.check", *flags, *more],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


def test_exit_status_of_the_command(kitti_root, tmp_path):
    done = run(kitti_root, f"--output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "0 faults, 0 warnings" in done.stdout
    tiny_kitti.image_path(kitti_root, "0001", 2).write_bytes(b"")
    done = run(kitti_root)
    assert done.returncode == 1
    assert "0000000002.png" in done.stdout.replace("\n", "")
    assert not (kitti_root.parent / "cache").exists()


# ---------------------------------------------------------- which frames are the test


def test_the_frames_of_the_test_are_said(tmp_path):
    keys = [f"hall/frame_{n}" for n in range(1, 21)] + [
        f"yard/{n:03d}" for n in range(5)
    ]
    test_custom.write(tmp_path / "data", keys)
    (tmp_path / "data/rgb/a.heic").touch()
    found = findings(tmp_path / "data", name="custom", crop=(32, 32), **INDOOR)
    assert matching(found, "leak", "test is 5 frames", "hall: frame_17 to frame_20 (4)")
    assert matching(found, "leak", "yard: 004 (1)")
    assert matching(found, "layout", "passed over in", ".heic 1 (a.heic)")
    assert not matching(found, "leak", "neighbour", "stand between")


@pytest.mark.parametrize(
    "tested, beside",
    [([8, 9, *range(18, 21)], 3), ([3, 6], 3), ([18, 19, 20], 0), ([1, 2], 0)],
)
def test_test_frames_between_training_frames_are_said(tmp_path, tested, beside):
    keys = [f"frame_{n}" for n in range(1, 21)]
    test_custom.write(tmp_path / "data", keys)
    for part in ("train", "test"):
        rows = [k for n, k in enumerate(keys, 1) if (n in tested) == (part == "test")]
        (tmp_path / "data" / f"{part}.txt").write_text("\n".join(rows))
    found = findings(tmp_path / "data", name="custom", crop=(32, 32), **INDOOR)
    told = matching(found, "leak", "test frames stand between training frames")
    assert len(told) == bool(beside)
