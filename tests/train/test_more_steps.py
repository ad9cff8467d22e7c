"""A run that goes on with other `steps`: the learning rate does not jump unasked."""

import json

import numpy as np
import pytest

from amlr_jax import pipeline
from amlr_jax.runtime.errors import InputError
from amlr_jax.train import build
from amlr_jax.train.loop import with_schedule_of
from configs import demo, demo_selfsup
from tests.train.test_loop import rows

CONFIGS = {"polynomial": demo.get_config, "step_decay": demo_selfsup.get_config}


def rates(config, start: int, stop: int) -> list[float]:
    schedule = build.schedule(config)
    return [float(schedule(count)) for count in range(start, stop)]


def config_of(schedule: str, steps: int, span=()):
    config = CONFIGS[schedule]()
    config.steps, config.optimizer.span = steps, span
    config.optimizer.warmup = min(config.optimizer.warmup, 5)
    return config


@pytest.mark.parametrize("schedule", CONFIGS)
@pytest.mark.parametrize("steps, done", [(90, 60), (90, 20), (40, 20), (60, 60)])
def test_the_schedule_stays_as_it_was(schedule, steps, done, capsys):
    """More or fewer steps, at the end of the run or in its middle."""
    before = config_of(schedule, 60)
    after = config_of(schedule, steps)
    kept = with_schedule_of(before.to_dict(), after, done=done)
    planned = rates(before, 0, 60)
    want = planned[:steps] + planned[-1:] * (steps - 60)
    np.testing.assert_allclose(rates(kept, 0, steps), want, rtol=1e-6)
    said = capsys.readouterr().out
    assert ("learning rate follows the schedule of steps 0 to 60" in said) == (
        steps != 60
    )
    assert after.optimizer.span == ()  # the caller's is not changed


def test_it_is_kept_once_more():
    """The same command, and again more steps."""
    first = with_schedule_of(
        config_of("polynomial", 60).to_dict(), config_of("polynomial", 90), done=60
    )
    for steps in (90, 120):
        again = config_of("polynomial", steps)
        written = json.loads(json.dumps(first.to_dict()))
        kept = with_schedule_of(written, again, done=70)
        assert tuple(kept.optimizer.span) == (0, 60)


@pytest.mark.parametrize("schedule", CONFIGS)
def test_a_new_schedule_from_here(schedule, capsys):
    before, after = config_of(schedule, 60), config_of(schedule, 90, span=(60, 90))
    kept = with_schedule_of(before.to_dict(), after, done=60)
    np.testing.assert_allclose(
        rates(kept, 60, 90), rates(config_of(schedule, 30), 0, 30), rtol=1e-6
    )
    assert "schedule of steps 60 to 90" in capsys.readouterr().out


def test_the_schedule_of_all_steps_when_asked(capsys):
    before, after = config_of("polynomial", 60), config_of("polynomial", 90, (0, 90))
    kept = with_schedule_of(before.to_dict(), after, done=60)
    assert rates(kept, 60, 90) == rates(config_of("polynomial", 90), 60, 90)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("before", [None, config_of("polynomial", 60).to_dict()])
def test_nothing_is_kept_without_a_checkpoint(before, capsys):
    kept = with_schedule_of(before, config_of("polynomial", 90), done=0)
    assert kept.optimizer.span == ()
    assert not capsys.readouterr().out


def test_a_config_from_before_this_key():
    before = config_of("polynomial", 60).to_dict()
    del before["optimizer"]["span"]
    kept = with_schedule_of(before, config_of("polynomial", 90), done=60)
    assert tuple(kept.optimizer.span) == (0, 60)


def test_fewer_steps_than_done(tmp_path):
    config = config_of("polynomial", 200)
    with pytest.raises(InputError, match="steps=200, but .* a run of 300 steps"):
        with_schedule_of(config.to_dict(), config, done=300)


@pytest.mark.slow
def test_a_run_that_goes_on(tiny_config, tmp_path, capsys):
    """Six steps, refused with fewer, and eight at the last rate."""
    tiny_config.optimizer.span = ()
    pipeline.train(tiny_config, tmp_path)
    files = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    tiny_config.steps = 4
    with pytest.raises(InputError, match="steps=4, but .* a run of 6 steps"):
        pipeline.train(tiny_config, tmp_path)
    assert files == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    tiny_config.steps = 8
    state = pipeline.train(tiny_config, tmp_path)
    assert int(state.step) == 8
    found = [row["learning_rate"] for row in rows(tmp_path)]
    assert found[6] == found[7] == found[5] < found[2]
    assert "schedule of steps 0 to 6" in capsys.readouterr().out
    assert json.loads((tmp_path / "config.json").read_text())["optimizer"]["span"] == [
        0,
        6,
    ]
