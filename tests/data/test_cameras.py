"""The camera that the user names, and one line where it cannot be meant."""

import json
import math
from pathlib import Path

import pytest

from amlr_jax.data import cameras
from amlr_jax.runtime.errors import InputError
from tests import tiny_kitti

SIZE = (376, 1242)
SOURCE = Path("/in/kitchen/0001.png"), "kitchen/0001"
ENTRY = {"fx": 720.0, "fy": 721.0, "cx": 610.0, "cy": 172.0}
CAMERA = tuple(ENTRY.values())


def test_numbers():
    assert cameras.reader("720,721,610,172", None)(*SOURCE, SIZE) == CAMERA
    assert cameras.reader("", None) is None


@pytest.mark.parametrize("content", [ENTRY, {"kitchen/0001": ENTRY, "other": {}}])
def test_json(content, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(content))
    assert cameras.reader(str(tmp_path / "c.json"), None)(*SOURCE, SIZE) == CAMERA


def test_kittis_calibration(tmp_path):
    path = tmp_path / "calib_cam_to_cam.txt"
    right = "P_rect_03: 90 0 80 0 0 95 30 0 0 0 1 0\n"
    path.write_text(tiny_kitti.CALIBRATION + right)
    read = cameras.reader(str(path), None)
    size = (64, 192)
    assert read(*SOURCE, size) == (100, 110, 96, 32)
    of_right = Path("/d/image_03/data/0.png"), "0"
    assert read(*of_right, size) == (90, 95, 80, 30)


@pytest.mark.parametrize("fov", [40.0, 90.0, 120.0])
def test_the_field_of_view_is_seen(fov):
    fx, fy, cx, cy = cameras.reader("", fov)(*SOURCE, SIZE)
    assert fx == fy and (cx, cy) == (620.5, 187.5)
    # The image reaches from half a pixel left of the first centre.
    left, right = (math.atan((u - cx) / fx) for u in (-0.5, 1241.5))
    assert math.degrees(right - left) == pytest.approx(fov)


@pytest.mark.parametrize(
    "intrinsics, fov, words",
    [
        ("720,721,610", None, "must be fx,fy,cx,cy in pixels"),
        ("720,721,610,nan", None, "must be fx,fy,cx,cy in pixels"),
        ("0,721,610,172", None, "must be fx,fy,cx,cy"),
        ("720,721,610,172", 65.0, "not both"),
        ("", 180.0, "between 0 and 180 degrees, got 180"),
        ("absent.json", None, "absent.json' cannot be read: No such file"),
        ("absent.txt", None, "absent.txt' cannot be read: No such file"),
        ("list.json", None, "must hold"),
        ("bad.json", None, "is not JSON"),
        ("half.json", None, 'must hold .* got {"fx": 1}'),
        ("empty.txt", None, "has no line 'P_rect_02:'"),
    ],
)
def test_mistakes(intrinsics, fov, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    contents = {"list.json": "[]", "bad.json": "{", "half.json": '{"fx": 1}'}
    for name, text in (contents | {"empty.txt": ""}).items():
        Path(name).write_text(text)
    with pytest.raises(InputError, match=words):
        cameras.reader(intrinsics, fov)


def test_a_camera_of_another_image(tmp_path):
    for size in ((50, 100), (188, 621), (752, 2484)):
        match = f"is {size[1]} x {size[0]}, but .* of another size.* at .610, 172."
        with pytest.raises(InputError, match=match):
            cameras.reader("720,721,610,172")(*SOURCE, size)
    told = {"kitchen": ENTRY | {"width": 800, "height": 300}}
    (tmp_path / "c.json").write_text(json.dumps(told))
    read = cameras.reader(str(tmp_path / "c.json"), option="data.intrinsics")
    assert read(*SOURCE, (300, 800)) == CAMERA  # a crop, far from the centre
    with pytest.raises(InputError, match="data.intrinsics .* size of 800 x 300"):
        read(*SOURCE, SIZE)
    (tmp_path / "c.json").write_text(json.dumps({"other": ENTRY}))
    with pytest.raises(InputError, match="0001.png' has no camera: .*kitchen/0001"):
        cameras.reader(str(tmp_path / "c.json"), None)(*SOURCE, SIZE)
