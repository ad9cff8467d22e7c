"""The written record forgets what came after the checkpoint, and only that."""

import json

from amlr_jax.runtime.workdir import METRICS, SPEED
from amlr_jax.train.log import Record, as_row, not_finite


def row(step, total=1.0):
    values = {"silog": total, "gradient": 0.5}
    return as_row(
        step,
        {"total": total, "losses": values, "weights": values}
        | {"learning_rate": 1e-3, "grad_norm": 2.0},
    )


def steps(folder):
    return [json.loads(line)["step"] for line in (folder / METRICS).open()]


def write(folder, *, after, until):
    record = Record(folder, after=after)
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
        record = Record(tmp_path, after=after)
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
