"""A trace is there after its steps, and a bad window is named."""

import sys

import jax
import pytest

from amlr_jax.runtime.workdir import PROFILE
from amlr_jax.train.meter import Profile


@jax.jit
def work(x):
    return (x @ x).sum()


def traces(folder):
    return sorted(p.suffix for p in (folder / PROFILE).rglob("*") if p.is_file())


def steps(profile, numbers):
    x = jax.numpy.ones((16, 16))
    for step in numbers:
        profile.before(step)
        profile.after(step, work(x))


def test_a_trace_of_the_window(tmp_path, capsys):
    profile = Profile(tmp_path, (2, 3))
    steps(profile, [1])
    assert not (tmp_path / PROFILE).exists()
    steps(profile, [2, 3, 4])
    assert ".pb" in traces(tmp_path)
    assert "Trace of step 2 to step 3 in" in capsys.readouterr().out
    count = len(traces(tmp_path))
    profile.close()
    steps(profile, [2, 3])
    assert len(traces(tmp_path)) == count
    assert "tensorflow" not in sys.modules


def test_the_end_of_the_run_inside_the_window(tmp_path, capsys):
    profile = Profile(tmp_path, (2, 30))
    steps(profile, [3, 4])
    profile.close()
    profile.close()
    assert ".pb" in traces(tmp_path)
    assert "Trace of step 3 to the end" in capsys.readouterr().out


@pytest.mark.parametrize("options", [{}, {"steps": (1, 3), "writes": False}])
def test_no_trace_where_none_is_asked_for(tmp_path, options):
    profile = Profile(tmp_path, **options)
    steps(profile, [1, 2, 3])
    profile.close()
    assert not list(tmp_path.iterdir())


def test_a_window_that_has_passed(tmp_path):
    profile = Profile(tmp_path, (2, 3))
    steps(profile, [4, 5])
    assert not list(tmp_path.iterdir())
