"""A generated sample of each published test set, read as its authors wrote it."""

import json
import struct

import cv2
import numpy as np
import pytest

from amlr_jax import config as keys
from amlr_jax.data import benchmarks, depth_files
from amlr_jax.evaluate import protocols
from amlr_jax.runtime.errors import InputError
from configs import zero_shot

SIZE = (6, 9)  # height, width
RNG = np.random.default_rng(0)
DEPTH = RNG.uniform(1, 9, SIZE).astype(np.float32)


def image(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (*SIZE, 3), np.uint8) if pixels is None else pixels
    assert cv2.imwrite(str(path), pixels)


def diode(root, part):
    stem = root / "val" / part / "scene_00019" / "scan_00183" / "00019_00183_000"
    image(stem.with_suffix(".png"))
    depth, mask = DEPTH.copy(), np.ones(SIZE, np.float32)
    depth[0, 0], mask[0, 1] = 0, 0  # no return, and one that is not valid
    np.save(f"{stem}_depth.npy", depth[..., None])
    np.save(f"{stem}_depth_mask.npy", mask)
    return np.where(mask > 0, depth, 0)


def eth3d(root):
    for name in ("DSC_0002", "DSC_0010"):
        image(root / "office" / "images" / "dslr_images" / f"{name}.JPG")
        path = root / "office/ground_truth_depth/dslr_images" / f"{name}.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        depth = DEPTH.copy()
        depth[2, 3] = np.inf
        path.write_bytes(depth.astype("<f4").tobytes())
    return np.where(np.isfinite(depth), depth, 0)


def ibims(root):
    masks = np.ones((2, *SIZE), np.uint8)
    masks[0, 1, 1] = masks[1, 2, 2] = 0
    image(root / "rgb" / "corridor_01.png")
    codes = np.round(DEPTH * 65535 / 50).astype(np.uint16)
    image(root / "depth" / "corridor_01.png", codes)
    for name, mask in zip(("mask_invalid", "mask_transp"), masks, strict=True):
        image(root / name / "corridor_01.png", mask)
    return np.where(masks.all(0), codes / (65535 / 50), 0)


def sintel(root):
    for name in ("clean", "final"):
        image(root / "training" / name / "alley_1" / "frame_0001.png")
    path = root / "training" / "depth" / "alley_1" / "frame_0001.dpt"
    path.parent.mkdir(parents=True)
    head = struct.pack("<fii", 202021.25, SIZE[1], SIZE[0])
    path.write_bytes(head + DEPTH.astype("<f4").tobytes())
    return DEPTH


def ddad(root):
    """A lidar to the left of the camera, turned by 90 degrees about the camera's y."""
    scene = root / "000150"
    image(scene / "rgb" / "CAMERA_01" / "1.png")
    turned = {"qw": np.sqrt(0.5), "qy": np.sqrt(0.5)}
    identity = {"rotation": {"qw": 1.0}, "translation": {"x": 2.0}}
    lidar = {"rotation": turned, "translation": {"x": 2.5, "y": 0.1}}
    # In the frame of the camera; two fall on one pixel, one is behind, one outside.
    seen = np.array([[0.05, 0.05, 5.0], [0.06, 0.06, 6.0], [0, 0, -3], [99, 0, 1]])
    rotation = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0.0]])
    points = (seen - [0.5, 0.1, 0]) @ rotation  # R^T (p - t)
    (scene / "point_cloud" / "LIDAR").mkdir(parents=True)
    rows = np.c_[points, np.ones(4)].astype(np.float32)
    np.savez(scene / "point_cloud" / "LIDAR" / "1.npz", data=rows)
    (scene / "calibration").mkdir()
    camera = {"fx": 10.0, "fy": 10.0, "cx": 4.5, "cy": 3.0, "skew": 0.0}
    calibration = {"names": ["LIDAR", "CAMERA_01"], "intrinsics": [{}, camera]}
    (scene / "calibration" / "c.json").write_text(json.dumps(calibration))
    data = [
        {"key": "a", "id": {"name": "CAMERA_01"}, "datum": {"image": {
            "filename": "rgb/CAMERA_01/1.png", "pose": identity}}},
        {"key": "b", "id": {"name": "LIDAR"}, "datum": {"point_cloud": {
            "filename": "point_cloud/LIDAR/1.npz", "pose": lidar}}},
    ]  # fmt: skip
    samples = [{"datum_keys": ["a", "b"], "calibration_key": "c"}]
    text = json.dumps({"data": data, "samples": samples})
    (scene / "scene_1.json").write_text(text)
    splits = {"0": {"filenames": []}, "1": {"filenames": ["000150/scene_1.json"]}}
    (root / "ddad.json").write_text(json.dumps({"scene_splits": splits}))
    want = np.zeros(SIZE, np.float32)
    want[3, 4] = 5.0  # u = 10 * 0.05 / 5 + 4.5 = 4.6, v = 3.1
    return want


SAMPLES = {
    "diode_indoors": lambda root: diode(root, "indoors"),
    "diode_outdoor": lambda root: diode(root, "outdoor"),
    "eth3d": eth3d, "ibims": ibims, "sintel": sintel, "ddad": ddad,
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample(name, tmp_path):
    want = SAMPLES[name](tmp_path)
    layout = benchmarks.read_layout(name, tmp_path)
    assert not layout.train
    assert len(layout.test) == (2 if name == "eth3d" else 1)
    want = np.where(want <= benchmarks.SETS[name].cap, want, 0)
    for frame in layout.test:
        depth = depth_files.read(frame, layout, SIZE).stored[..., 0]
        metres = depth / depth_files.stored_scale(layout)
        np.testing.assert_allclose(metres, want, rtol=1e-6)
    assert (want == 0).any() or name == "sintel"


def test_names_and_caps():
    """One table; the published caps."""
    assert (*benchmarks.SETS,) == keys.BENCHMARKS == (*SAMPLES,)
    for name, cap in {
        "diode_indoors": 10, "diode_outdoor": 80, "eth3d": 72, "ibims": 10,
        "sintel": 72, "ddad": 80,
    }.items():  # fmt: skip
        config = zero_shot.get_config(name)
        keys.check(config)
        assert protocols.choose(config) == name
        assert protocols.PRESETS[name].max_depth == cap


def test_another_cap(tmp_path):
    """Of the files and of the evaluation, together."""
    sintel(tmp_path)
    layout = benchmarks.read_layout("sintel", tmp_path, depth_cap=5.0)
    got = depth_files.read(layout.test[0], layout, SIZE).stored[..., 0]
    np.testing.assert_array_equal(got, np.where(DEPTH <= 5, DEPTH, 0))
    config = zero_shot.get_config("sintel")
    config.eval.max_depth = 100.0
    with pytest.raises(InputError, match="beyond the depth cap of sintel, 72 m; set"):
        protocols.check(config)
    config.data.depth_cap = 100.0
    protocols.check(config)


@pytest.mark.parametrize(
    "name, damage, message",
    [
        ("eth3d", lambda r: r / "office/ground_truth_depth/dslr_images/DSC_0002.JPG",
         "ground truth.*DSC_0002.JPG.*damaged"),
        ("sintel", lambda r: r / "training/depth/alley_1/frame_0001.dpt", "damaged"),
        ("ibims", lambda r: r / "mask_transp/corridor_01.png", "mask"),
        ("ddad", lambda r: r / "000150/scene_1.json", "not as DGP writes it"),
        ("ddad", lambda r: r / "000150/point_cloud/LIDAR/1.npz", "damaged"),
    ],
)  # fmt: skip
def test_files_that_are_damaged(name, damage, message, tmp_path):
    SAMPLES[name](tmp_path)
    damage(tmp_path).write_bytes(b"{}")
    with pytest.raises(InputError, match=message) as caught:
        layout = benchmarks.read_layout(name, tmp_path)
        depth_files.read(layout.test[0], layout, SIZE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SAMPLES)
def test_an_empty_folder(name, tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        benchmarks.read_layout(name, tmp_path)


def test_missing_depth_and_missing_mask(tmp_path):
    diode(tmp_path, "indoors")
    (depth,) = tmp_path.rglob("*_depth.npy")
    (mask,) = tmp_path.rglob("*_mask.npy")
    np.save(mask, np.ones((3, 9)))
    layout = benchmarks.read_layout("diode_indoors", tmp_path)
    with pytest.raises(InputError, match="has 27 pixels, its ground truth 54"):
        depth_files.read(layout.test[0], layout, SIZE)
    mask.unlink()
    layout = benchmarks.read_layout("diode_indoors", tmp_path)
    with pytest.raises(InputError, match="mask.*_depth_mask.npy"):
        depth_files.read(layout.test[0], layout, SIZE)
    depth.unlink()
    with pytest.raises(InputError, match="missing ground truth of 1 of 1 frames"):
        benchmarks.read_layout("diode_indoors", tmp_path)
