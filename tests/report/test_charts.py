"""Curves: thinning keeps extremes and gaps; each quantity has its chart."""

import re

import numpy as np
import pytest

from amlr_jax.report import charts
from amlr_jax.report.gather import RunFiles
from tests.report import runs


@pytest.mark.parametrize("count", [50, 999, 3000])
def test_thinning_keeps_extremes_and_order(count):
    rng = np.random.default_rng(count)
    steps, values = np.arange(count) * 3.0, rng.normal(size=count)
    values[rng.integers(count)] = 1e6
    kept_steps, kept = charts.thin(steps, values, bins=10)
    assert len(kept) <= max(30, 2 * 10)
    assert kept.max() == 1e6 and kept.min() == values.min()
    assert (np.diff(kept_steps) > 0).all()
    np.testing.assert_array_equal(values[np.searchsorted(steps, kept_steps)], kept)


def test_every_bin_keeps_its_extremes():
    values = np.random.default_rng(0).normal(size=5000)
    steps, kept = charts.thin(np.arange(5000.0), values, bins=100)
    for part in np.array_split(np.arange(5000), 100):
        inside = (steps >= part[0]) & (steps <= part[-1])
        assert kept[inside].max() == values[part].max()
        assert kept[inside].min() == values[part].min()


@pytest.mark.parametrize("count", [20, 5000])
def test_a_gap_stays_a_gap(count):
    values = np.ones(count)
    values[7] = np.nan
    steps, kept = charts.thin(np.arange(float(count)), values, bins=10)
    assert steps[np.isnan(kept)].tolist() == [7]


def test_means_of_finite_values():
    values = np.random.default_rng(0).normal(size=5001)
    values[17] = np.nan
    steps, found = charts.means(np.arange(5001.0), values)
    finite = np.delete(values, 17)
    np.testing.assert_allclose(found, finite.reshape(charts.MEANS, -1).mean(1))
    assert (np.diff(steps) > 0).all()


def series(rows) -> dict[str, list[charts.Series]]:
    run = RunFiles("one", rows=rows)
    return {t: charts.series_of([run], q) for t, q in charts.QUANTITIES.items()}


def test_quantities_of_a_run():
    made = series([runs.row(step) for step in (1, 2, 4)])
    silog, gradient = made["Losses, unweighted"]
    assert silog.steps.tolist() == [1, 2, 4] and silog.values.tolist() == [2, 1, 0.5]
    weighted = [one.values.tolist() for one in made["Losses, weighted"]]
    assert weighted == [[1, 0.5, 0.25], [0.1875, 0.1875, 0.1875]]
    assert [one.values[0] for one in made["Loss weights"]] == [0.5, 0.75]
    assert (gradient.name, gradient.kind, gradient.run) == ("gradient", 1, 0)


def test_rows_without_a_part_are_left_out_of_its_chart():
    rows = [runs.row(1), {"step": 2}, runs.row(3, losses=None), runs.row(4, total="x")]
    rows += [runs.row(5, total=float("inf")), runs.row(6, weights={"silog": None})]
    made = series(rows)
    assert made["Losses, unweighted"][0].steps.tolist() == [1, 4, 5, 6]
    assert made["Losses, weighted"][0].steps.tolist() == [1, 4, 5]
    assert made["Total loss"][0].steps.tolist() == [1, 3, 5, 6]
    assert np.isnan(made["Total loss"][0].values[2])


def lines(text: str) -> list[list[str]]:
    """The path data of the curves of each drawing."""
    drawings = re.findall(r'<svg class="(?:linear|log)".*?</svg>', text)
    curve = r'<path d="([^"]*)"[^>]*stroke: var\(--c\d\)'
    return [re.findall(curve, drawing) for drawing in drawings]


def test_charts_of_a_run():
    text = charts.html([RunFiles("one", rows=[runs.row(s) for s in range(1, 31)])])
    assert re.findall(r"<figcaption>([\w, ]+)<", text) == list(charts.QUANTITIES)
    assert [len(found) for found in lines(text)] == [2] * 6 + [1] * 6
    assert ">0.001<" in text  # the learning rate
    assert text.count(" checked") == 3  # the losses and their total fall to 1 / 30
    for label in ("silog", "gradient", "total", "learning rate"):
        assert f"</svg>{label}</span>" in text
    assert "not finite" not in text


def test_several_runs_have_colours_and_quantities_dashes():
    rows = [runs.row(step) for step in range(1, 9)]
    text = charts.html([RunFiles("a", rows=rows), RunFiles("b", rows=rows)])
    styles = re.findall(r"stroke:var\(--c(\d)\);stroke-dasharray:([\d,]*)", text)
    assert styles[:4] == [("0", ""), ("0", "7,3"), ("1", ""), ("1", "7,3")]
    assert "a: silog" in text and "b: gradient" in text


def test_many_noisy_steps_have_a_mean_and_a_bounded_size():
    rng = np.random.default_rng(0)
    rows = [runs.row(s, total=abs(rng.normal())) for s in range(1, 20_001)]
    text = charts.html([RunFiles("one", rows=rows)])
    assert len(text) < 400_000
    assert [len(found) for found in lines(text)[6:8]] == [2, 2]
    assert [len(found) for found in lines(text)[8:10]] == [1, 1]  # the learning rate


def test_what_has_no_place_is_counted():
    values = enumerate([1.0, -1.0, 0.0, float("nan")], start=1)
    rows = [runs.row(step, total=value) for step, value in values]
    text = charts.html([RunFiles("one", rows=rows)])
    assert "2 values not above 0 are not on the log axis; 1 values are not fin" in text


def test_nothing_to_draw():
    assert "No run has written" in charts.html([RunFiles("one")])
    rows = [runs.row(s, total=float("nan")) for s in (1, 2)]
    assert "2 values are not finite" in charts.html([RunFiles("one", rows=rows)])
