"""The page's JavaScript in an engine: what curves and points are computed by.

What needs a page (clicks, drawing, the canvas) is checked in a browser by
tests/benchmarks/report_in_browser.py.
"""

import json
import math
import re
from importlib import resources

import numpy as np
import pytest

from amlr_jax.report import page

quickjs = pytest.importorskip("quickjs", reason="pip install quickjs-ng")
FOLDER = resources.files(page.__package__)


@pytest.fixture(scope="module")
def call():
    """`call(expression, name=value)`: the JSON of an expression."""
    context = quickjs.Context()
    context.eval(FOLDER.joinpath("core.js").read_text(encoding="utf-8"))

    def evaluated(expression: str, **values):
        names, given = ", ".join(values), ", ".join(map(json.dumps, values.values()))
        code = f"JSON.stringify((({names}) => {expression})({given}))"
        return json.loads(context.eval(code))

    return evaluated


def test_page_script_parses():
    text = FOLDER.joinpath("page.js").read_text(encoding="utf-8")
    quickjs.Context().eval(f"(function () {{ {text} }})")
    with pytest.raises(quickjs.JSException):
        quickjs.Context().eval(f"(function () {{ {text} ) }})")


def test_scripts_have_nothing_that_ends_them_or_makes_markup_of_names():
    for name in ("core.js", "page.js"):
        text = FOLDER.joinpath(name).read_text(encoding="utf-8")
        assert "</" not in re.sub(r"</(svg|text|div|small)>", "", text)
        for markup in re.findall(r"innerHTML = (.*)", text):
            assert "name" not in markup and "title" not in markup


def test_smoothing_is_a_weighted_mean_of_uneven_steps(call):
    x, y, span = [0, 1, 2, 5, 9, 10], [3.0, 1.0, None, 4.0, 1.5, 9.0], 2.5
    known = np.array([value is not None for value in y])
    values = np.array([value or 0.0 for value in y])
    near = np.exp(-np.abs(np.subtract.outer(x, x)) / span) * known
    want = near @ values / near.sum(1)
    got = call("smooth(x, y, span)", x=x, y=y, span=span)
    assert got[2] is None
    np.testing.assert_allclose(np.array(got)[known].astype(float), want[known])
    assert call("smooth([7], [3], 1)") == [3]
    assert call("smooth([1, 2], [null, null], 1)") == [None, None]
    straight = list(range(0, 1000, 10))
    middle = call("smooth(x, x, 20)", x=straight)[50]
    assert middle == pytest.approx(500)  # no lag


@pytest.mark.parametrize(
    "lo, hi", [(0, 1), (-3, 17), (0.42, 0.43), (1e-7, 5e-6), (0, 9e9)]
)
def test_ticks_are_round_and_inside(call, lo, hi):
    found = call("ticks(lo, hi, 5, false)", lo=lo, hi=hi)
    assert 2 <= len(found) <= 8
    steps = np.diff(found)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    assert steps[0] / 10 ** math.floor(math.log10(steps[0] * 1.0001)) == pytest.approx(
        min((1, 2, 5), key=lambda f: abs(f - steps[0] / 10 ** math.floor(
            math.log10(steps[0] * 1.0001)))), rel=1e-6
    )  # fmt: skip
    air = 1e-6 * (hi - lo)
    assert min(found) >= lo - air and max(found) <= hi + air


@pytest.mark.parametrize("lo, hi", [(0.9, 1.2), (0.01, 1), (1e-9, 1e3), (2e-3, 3e-2)])
def test_log_ticks(call, lo, hi):
    found = call("ticks(lo, hi, 5, true)", lo=lo, hi=hi)
    assert 2 <= len(found) <= 12 and found == sorted(found)
    assert lo * (1 - 1e-9) <= found[0] and found[-1] <= hi * (1 + 1e-9)


def test_scale_and_what_has_no_place(call):
    at = "[0.1, 1, 10, 0, -1, null].map(scale(0.1, 10, 100, 0, {}))"
    assert call(at.format("true")) == [100, 50, 0, None, None, None]
    linear = call(at.format("false"))
    assert linear[:3] == pytest.approx([100, 100 - 0.9 / 9.9 * 100, 0])
    assert linear[5] is None
    assert call("[3].map(scale(3, 3, 0, 10, false))") == [0]


def test_range(call):
    assert call("range([1, null, 3], false)") == pytest.approx([0.9, 3.1])
    assert call("range([-1, 0, 2, 4], true)") == pytest.approx([2 / 1.1, 4.4])
    assert call("range([null], false)") is None and call("range([-1], true)") is None
    low, high = call("range([0, 0], false)")
    assert low < 0 < high


def test_paths_break_at_gaps(call):
    same = "scale(0, 10, 0, 10, false)"
    made = call(f"path([0, 1, 2, 3, 4], y, {same}, {same})", y=[1, 2, None, 4, None])
    assert made == "M0.0 1.0L1.0 2.0M3.0 4.0h.01"


def test_nearest(call):
    x = sorted(np.random.default_rng(0).integers(0, 1000, 50).tolist())
    for wanted in (-5, 0, 17, 333.3, 999, 4000):
        got = call("nearest(x, wanted)", x=x, wanted=wanted)
        assert abs(x[got] - wanted) == min(abs(v - wanted) for v in x)
    assert call("nearest([7], 3)") == 0


@pytest.mark.parametrize(
    "value, text",
    [(0, "0"), (1.23456, "1.235"), (30, "30"), (1e-5, "1e-5"), (1.5e-5, "1.5e-5"),
     (2.5e7, "2.5e7"), (-0.25, "-0.25"), (None, "-")],
)  # fmt: skip
def test_labels(call, value, text):
    assert call("label(value)", value=value) == text


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
