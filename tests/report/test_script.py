"""The page's JavaScript in an engine: the projection of points, depth and distance.

What needs a page (clicks, drawing, the canvas) is checked in a browser by
tests/benchmarks/report_in_browser.py.
"""

import base64
import json
import math
from importlib import resources

import numpy as np
import pytest

from amlr_jax.report import cloud, keep, page
from tests.report import runs

quickjs = pytest.importorskip("quickjs", reason="pip install quickjs-ng")
FOLDER = resources.files(page.__package__)


@pytest.fixture(scope="module")
def call():
    """`call(expression, name=value)`: the JSON of an expression."""
    context = quickjs.Context()
    context.eval(FOLDER.joinpath("page.js").read_text(encoding="utf-8"))

    def evaluated(expression: str, **values):
        names, given = ", ".join(values), ", ".join(map(json.dumps, values.values()))
        code = f"JSON.stringify((({names}) => {expression})({given}))"
        return json.loads(context.eval(code))

    return evaluated


def test_the_script_ends_no_element_and_makes_no_markup():
    text = FOLDER.joinpath("page.js").read_text(encoding="utf-8")
    assert "</" not in text and "innerHTML" not in text


def test_projection_against_matrices(call):
    rng = np.random.default_rng(0)
    points = rng.uniform(-3, 3, (20, 3)) + [0, 0, 10]
    view = {
        "centre": [0, 0, 10],
        "distance": 12,
        "yaw": 0.4,
        "pitch": -0.3,
        "focal": 500,
    }
    got = call(
        "{ const found = []; project(xyz, view, 640, 480, (...p) => found.push(p)); "
        "return found; }",
        xyz=points.ravel().tolist(), view=view,
    )  # fmt: skip
    c, s = math.cos(0.4), math.sin(0.4)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    c, s = math.cos(-0.3), math.sin(-0.3)
    tilt = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    seen = (points - [0, 0, 10]) @ turn.T @ tilt.T + [0, 0, 12]
    pixels = 500 * seen[:, :2] / seen[:, 2:] + [320, 240]
    np.testing.assert_allclose(np.array(got)[:, :2], pixels)
    np.testing.assert_allclose(np.array(got)[:, 2], seen[:, 2])
    assert [p[3] for p in got] == list(range(0, 60, 3))


def test_points_behind_the_camera_are_not_drawn(call):
    view = {"centre": [0, 0, 0], "distance": 1, "yaw": 0, "pitch": 0, "focal": 1}
    count = "{ let n = 0; project(xyz, view, 9, 9, () => n++); return n; }"
    assert call(count, xyz=[0, 0, -5, 0, 0, 5], view=view) == 1


@pytest.mark.parametrize("count", [10_000, 700])
def test_depth_under_the_pointer_is_that_of_the_array(call, tmp_path, count):
    runs.save(tmp_path, [runs.frame()])
    (frame,) = keep.load_frames(tmp_path / keep.FRAMES)
    made = cloud.depth_map("a", frame, count=count)
    values = np.frombuffer(base64.b64decode(made["depth"]), "<f4")
    assert values.size == made["rows"] * made["columns"] <= count
    made["depth"] = values.tolist()
    pixels = [(-3.0, 7.4), (80.4, 20.6), (159.9, 47.7), (31.0, 0.0)]
    found = call("pixels.map((p) => sampleAt(map, ...p))", map=made, pixels=pixels)
    fx, fy, cx, cy = frame.intrinsics
    for (u, v), at in zip(pixels, found, strict=True):
        z = frame.prediction[at["v"], at["u"]]
        assert at["z"] == z
        assert max(abs(at["u"] - u), abs(at["v"] - v)) <= 2 * made["step"] + 3 * (u < 0)
        point = [(at["u"] - cx) / fx * z, (at["v"] - cy) / fy * z, z]
        np.testing.assert_allclose(at["xyz"], point, rtol=1e-6)
    apart = call("distance(a, b)", a=found[0], b=found[1])
    ends = np.array([at["xyz"] for at in found[:2]])
    np.testing.assert_allclose(apart, np.linalg.norm(ends[0] - ends[1]))
