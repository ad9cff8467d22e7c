"""Which checkpoints stay."""

from datetime import UTC, datetime, timedelta

import pytest

from amlr_jax.checkpoints.manager import Checkpoints, Stored, kept
from amlr_jax.runtime.errors import InputError

START = datetime(2026, 1, 1, tzinfo=UTC)
RULES = {"best": 0, "best_by": "abs_rel", "every_hours": 0.0}


def run(values, **options) -> list[int]:
    """Saved one after the other, an hour apart, and pruned after each."""
    stored: list[Stored] = []
    for step, metrics in enumerate(values, start=1):
        stored.append(Stored(step, START + timedelta(hours=step), metrics))
        stay = kept(stored, **(RULES | options))
        stored = [one for one in stored if one.step in stay]
    return [one.step for one in stored]


def errors(*values) -> list[dict]:
    return [{} if value is None else {"abs_rel": value} for value in values]


def test_the_latest():
    assert run(errors(*[None] * 5), keep=2) == [4, 5]
    assert run(errors(0.1), keep=2) == [1]


def test_the_best_beside_the_latest():
    values = errors(0.5, 0.1, 0.3, None, 0.2, 0.4)
    assert run(values, keep=1, best=1) == [2, 6]
    assert run(values, keep=1, best=2) == [2, 5, 6]
    assert run(values, keep=3, best=1) == [2, 4, 5, 6]


def test_without_metrics_none_is_best():
    assert run(errors(*[None] * 5), keep=1, best=3) == [5]
    assert run(errors(None, 0.2, None, None), keep=1, best=3) == [2, 4]


def test_of_equals_the_later():
    assert run(errors(0.1, 0.1, 0.5), keep=1, best=1) == [2, 3]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_best(value):
    assert run(errors(value, 0.3, value), keep=1, best=1) == [2, 3]


@pytest.mark.parametrize("name", ["d1", "d2", "d3"])
def test_more_accuracy_is_better(name):
    values = [{name: value} for value in (0.5, 0.9, 0.7)]
    assert run(values, keep=1, best=1, best_by=name) == [2, 3]


def test_one_each_so_many_hours_for_good():
    values = errors(*[None] * 9)
    assert run(values, keep=1, every_hours=3.0) == [1, 4, 7, 9]
    assert run(values, keep=2, every_hours=100.0) == [1, 8, 9]


def test_any_rule_keeps():
    values = errors(0.9, 0.8, 0.1, 0.7, 0.6, 0.5)
    assert run(values, keep=1, best=1, every_hours=4.0) == [1, 3, 5, 6]


def test_the_metric_must_be_there(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, best=1, best_by="absrel")
    with pytest.raises(InputError, match="best_by must be one of a, b; got 'absrel'"):
        checkpoints.save({}, step=1, metrics={"b": 1, "a": 2})
    checkpoints.close()
