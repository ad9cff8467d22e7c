"""The written record forgets what came after the checkpoint, and only that."""

import json
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

from amlr_jax.runtime.workdir import METRICS, SPEED
from amlr_jax.train.log import Record, StepLog, as_row, not_finite
from configs import demo


def row(step, total=1.0):
    values = {"silog": total, "gradient": 0.5}
    return as_row(
        step,
        {"total": total, "losses": values, "weights": values}
        | {"learning_rate": 1e-3, "grad_norm": 2.0},
    )


def steps(folder):
    return [json.loads(line)["step"] for line in (folder / METRICS).open()]


BOARD = ("tensorboard",)


def write(folder, *, after, until):
    record = Record(folder, after=after, writers=BOARD)
    for step in range(after + 1, until + 1):
        record.write(row(step))
    record.close()


def test_goes_on_from_the_checkpoint(tmp_path):
    write(tmp_path, after=0, until=7)
    write(tmp_path, after=4, until=9)
    assert steps(tmp_path) == list(range(1, 10))


def test_line_that_a_kill_cut_short(tmp_path):
    write(tmp_path, after=0, until=3)
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 4, "tot')
    write(tmp_path, after=3, until=5)
    assert steps(tmp_path) == [1, 2, 3, 4, 5]


def test_names_what_is_not_finite():
    assert not_finite(row(1)) == []
    assert not_finite(row(1, total=float("nan"))) == ["total", "silog"]


def test_tensorboard_holds_every_number(tmp_path):
    write(tmp_path, after=0, until=2)
    (events,) = (tmp_path / "tensorboard").iterdir()
    data = events.read_bytes()
    for tag in (b"total", b"losses/silog", b"weights/gradient", b"learning_rate"):
        assert tag in data


def test_speed_has_a_file_of_its_own(tmp_path):
    """Appended to by every start: what was measured after the checkpoint was so."""
    for after in (0, 4):
        record = Record(tmp_path, after=after, writers=BOARD)
        record.write(row(after + 1))
        record.speed(after + 1, {"steps_per_second": 2.0})
        record.speed(after + 9, {"steps_per_second": 4.0, "mfu": 0.5})
        record.close()
    lines = [json.loads(line) for line in (tmp_path / SPEED).open()]
    assert [line["step"] for line in lines] == [1, 9, 5, 13]
    assert lines[1].keys() == {"step", "time", "steps_per_second", "mfu"}
    assert steps(tmp_path) == [1, 5]
    events = b"".join(p.read_bytes() for p in (tmp_path / "tensorboard").iterdir())
    assert b"run/steps_per_second" in events


def test_line_of_speed_that_a_kill_cut_short(tmp_path):
    (tmp_path / SPEED).write_text('{"step": 3}\n{"step": 4, "ti')
    record = Record(tmp_path, after=3)
    record.speed(5, {})
    record.close()
    lines = [json.loads(line)["step"] for line in (tmp_path / SPEED).open()]
    assert lines == [3, 5]


def test_silent_record_leaves_no_file(tmp_path):
    record = Record(tmp_path, after=0, writes=False)
    record.write(row(1))
    record.speed(1, {"steps_per_second": 2.0})
    record.scalars(1, {"abs_rel": 0.1}, prefix="eval/")
    record.close()
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------- a rule that does nothing


def told(rows, *, held=()) -> list[str]:
    """The warnings, and the last note of the bar, for (skipped updates, losses)."""
    config = demo.get_config()
    config.rebalance.held = dict.fromkeys(held, 0.1)
    progress = mock.Mock()
    meter = SimpleNamespace(due=lambda: False, note=lambda: "")
    others = (None, mock.Mock(), meter, progress, mock.Mock())
    log = StepLog(config, *others)
    said = []
    with mock.patch("amlr_jax.train.log.show", said.append):
        for step, (skipped, losses) in enumerate(rows, 1):
            metrics = {"total": 1.0, "losses": losses, "skipped_in_a_row": 0}
            log.step(step, metrics | {"skipped_updates": np.int32(skipped)})
        log.close()
    return [*said, progress.advance.call_args.kwargs["note"]]


@pytest.mark.parametrize(
    "loss, words", [(0.0, "gradient is 0)"), (-0.25, "gradient is -0.25)")]
)
def test_a_rule_that_never_starts(loss, words):
    """At its first skipped update, the tenth, the hundredth, and at the end."""
    losses = {"silog": 0.3, "gradient": loss}
    *said, note = told([(count, losses) for count in range(1, 131)])
    assert [line.split(" loss in ")[1].split(" of ")[0] for line in said] == [
        "1 update", "10 updates", "100 updates", "130 updates",
    ]  # fmt: skip
    assert all(words in line and "log_amlr has" in line for line in said)
    assert note.endswith("130 skipped updates of the weights")


def test_a_held_loss_is_not_the_reason():
    losses = {"silog": 0.3, "gradient": 0.0, "l1": -1.0}
    said = told([(1, losses)], held=["gradient"])[0]
    assert "(l1 is -1)" in said


def test_a_rule_that_works_says_nothing():
    assert told([(0, {"silog": 0.3, "gradient": 0.0})] * 5) == ["total 1.0000 "]


def test_a_few_skipped_updates_are_told_once():
    good, bad = {"silog": 0.3, "gradient": 0.1}, {"silog": 0.3, "gradient": 0.0}
    *said, _ = told([(0, good), (1, bad), (1, good), (1, good)])
    assert len(said) == 1 and "step 2" in said[0]
