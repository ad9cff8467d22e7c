"""Curves: thinning keeps extremes, ends and gaps; each quantity has its chart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amlr_jax.report import gather, series
from tests.report import runs


def run_of(rows) -> gather.Run:
    return gather.Run("one", None, {}, rows, None, [], [])


@given(st.integers(0, 2**32 - 1), st.integers(50, 3000))
def test_thinning_keeps_extremes_ends_and_order(seed, count):
    rng = np.random.default_rng(seed)
    steps, values = np.arange(count) * 3.0, rng.normal(size=count)
    spike = rng.integers(count)
    values[spike] = 1e6
    thinned = series.thin(steps, values, bins=10)
    assert len(thinned.values) <= max(40, 4 * 10)
    assert thinned.values.max() == 1e6 and thinned.values.min() == values.min()
    assert steps[spike] in thinned.steps
    assert thinned.steps[0] == 0 and thinned.steps[-1] == steps[-1]
    assert (np.diff(thinned.steps) > 0).all()
    kept = np.searchsorted(steps, thinned.steps)
    np.testing.assert_array_equal(values[kept], thinned.values)


def test_every_bin_keeps_its_extremes():
    values = np.random.default_rng(0).normal(size=5000)
    thinned = series.thin(np.arange(5000.0), values, bins=100)
    for part in np.array_split(np.arange(5000), 100):
        inside = (thinned.steps >= part[0]) & (thinned.steps <= part[-1])
        assert thinned.values[inside].max() == values[part].max()
        assert thinned.values[inside].min() == values[part].min()
    np.testing.assert_allclose(thinned.means, values.reshape(100, 50).mean(1))


def test_few_points_stay():
    steps = np.arange(40.0)
    thinned = series.thin(steps, steps**2, bins=10)
    np.testing.assert_array_equal(thinned.values, steps**2)
    assert len(thinned.means) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("count", [20, 5000])
def test_what_is_not_finite_breaks_the_line(bad, count):
    values = np.ones(count)
    values[7] = bad
    thinned = series.thin(np.arange(float(count)), values, bins=10)
    (gap,) = np.flatnonzero(np.isnan(thinned.values))
    assert thinned.steps[gap] == 7
    assert np.isfinite(thinned.means).all()


def test_nothing_finite_at_all():
    thinned = series.thin(np.arange(5000.0), np.full(5000, np.nan), bins=10)
    assert np.isnan(thinned.values).all() and len(thinned.means) == 0


def test_charts_of_a_run():
    made = series.charts([run_of([runs.row(step) for step in (1, 2, 4)])])
    by_title = {chart["title"]: chart["series"] for chart in made}
    assert list(by_title) == [
        "Losses, unweighted", "Losses, weighted", "Loss weights", "Total loss",
        "Learning rate", "Gradient norm",
    ]  # fmt: skip
    assert [c["title"] for c in made if c["exact"]] == ["Loss weights", "Learning rate"]
    silog, gradient = by_title["Losses, unweighted"]
    assert silog["x"] == [1, 2, 4] and silog["y"] == [2, 1, 0.5]
    assert [s["y"] for s in by_title["Losses, weighted"]] == [
        [1, 0.5, 0.25], [0.1875, 0.1875, 0.1875],
    ]  # fmt: skip
    assert [s["y"][0] for s in by_title["Loss weights"]] == [0.5, 0.75]
    assert gradient["kind"] == 1 and gradient["run"] == 0


def test_rows_without_a_part_are_left_out_of_its_chart():
    rows = [runs.row(1), {"step": 2}, runs.row(3, losses=None), runs.row(4, total="x")]
    rows += [runs.row(5, total=float("nan")), runs.row(6, weights={"silog": None})]
    made = {c["title"]: c["series"] for c in series.charts([run_of(rows)])}
    assert made["Losses, unweighted"][0]["x"] == [1, 4, 5, 6]
    assert made["Losses, weighted"][0]["x"] == [1, 4, 5]
    assert made["Total loss"][0]["x"] == [1, 3, 5, 6]
    assert made["Total loss"][0]["y"][2] is None and made["Total loss"][0]["bad"] == 1


def test_no_rows_no_charts():
    assert series.charts([run_of([])]) == []
