"""What is missing or damaged is said, and a folder that is no run is refused."""

import json

import pytest

from amlr_jax.report import gather
from amlr_jax.runtime.errors import InputError
from tests.report import runs


def test_a_whole_run(tmp_path):
    (run,) = gather.gather([runs.write(tmp_path / "one")])
    assert run.name == "one" and len(run.rows) == 30 and len(run.frames) == 2
    assert run.config["seed"] == 0 and run.evaluation["frames"] == 10
    assert run.notes == ["run.json is missing: no versions, devices, data"]


def test_damaged_lines_are_named_and_the_others_kept(tmp_path):
    notes: list[str] = []
    good = json.dumps(runs.row(2))
    lines = ['{"step": 1, "to', good, "[1]", '{"step": "x"}', '{"step": NaN}', "", good]
    path = tmp_path / "metrics.jsonl"
    path.write_bytes("\n".join(lines).encode() + b"\n\xff\xfe")
    assert len(gather.read_metrics(path, notes)) == 2
    assert notes == ["metrics.jsonl: lines 1, 3, 4, 5, 8 damaged and left out"]


@pytest.mark.parametrize(
    "name, text, note",
    [
        ("metrics.jsonl", "", "metrics.jsonl has no whole line: no curves"),
        ("metrics.jsonl", None, "metrics.jsonl is missing: no curves"),
        ("evaluation.json", None, "evaluation.json is missing: not evaluated yet"),
        ("evaluation.json", "{", "evaluation.json is damaged"),
        ("evaluation.json", "[]", "evaluation.json is damaged"),
        ("evaluation.json", '{"metrics": 1}', "evaluation.json is damaged"),
        ("config.json", None, "config.json is missing"),
        ("config.json", '"text"', "config.json is damaged"),
        ("frames.npz", None, "frames.npz is missing: no frames to show"),
        ("frames.npz", "no archive", "frames.npz is damaged"),
    ],
)
def test_what_is_not_whole_is_noted(tmp_path, name, text, note):
    folder = runs.write(tmp_path / "run")
    (folder / name).unlink()
    if text is not None:
        (folder / name).write_text(text)
    (run,) = gather.gather([folder])
    assert any(line.startswith(note) for line in run.notes), run.notes


def test_a_run_without_test_frames_has_one_note(tmp_path):
    folder = runs.write(tmp_path / "run")
    (folder / "run.json").write_text('{"data": {"test": 0}}')
    for name in ("evaluation.json", "frames.npz"):
        (folder / name).unlink()
    (run,) = gather.gather([folder])
    assert run.notes == [
        "no test frame to measure or show; amlr_jax.predict shows depth"
    ]


def test_a_cut_archive_is_noted(tmp_path):
    folder = runs.write(tmp_path / "run")
    whole = (folder / "frames.npz").read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 30):
        (folder / "frames.npz").write_bytes(whole[:length])
        (run,) = gather.gather([folder])
        assert run.frames == [] and "frames.npz is damaged" in run.notes[-1]


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        gather.gather([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="holds no run: none of config.json"):
        gather.gather([tmp_path])


def test_two_checkpoints_of_one_run(tmp_path):
    folder = runs.write(tmp_path / "one")
    for step, value in ((10, 0.4), (20, 0.3), (30, None)):
        path = folder / "checkpoints" / f"{step:08d}" / "data" / "metadata"
        path.parent.mkdir(parents=True)
        metrics = {} if value is None else {"abs_rel": value}
        path.write_text(json.dumps({"batches": step, "leaves": {}, "metrics": metrics}))
    names = [folder.with_name(f"one@{choice}") for choice in (10, "best", 30)]
    first, best, last = gather.gather(names)
    assert [run.name for run in (first, best, last)] == ["one@10", "one@20", "one@30"]
    assert [len(run.rows) for run in (first, best, last)] == [10, 20, 30]
    assert first.evaluation["metrics"] == {"abs_rel": 0.4}
    assert (best.evaluation["step"], best.evaluation["frames"]) == (20, 10)
    assert last.evaluation["metrics"]["abs_rel"] == 0.2  # evaluation.json's step
    assert not first.frames and len(last.frames) == 2
    assert first.notes[-1] == "frames.npz is of another step: no frames to show"
    with pytest.raises(InputError, match="named twice"):
        gather.gather([names[1], folder.with_name("one@20")])
    with pytest.raises(InputError, match="no checkpoint of step 7, only 10, 20, 30"):
        gather.gather([folder.with_name("one@7")])


def test_names_tell_runs_apart(tmp_path):
    folders = [runs.write(tmp_path / p, frames=0) for p in ("a/run", "b/run")]
    assert [run.name for run in gather.gather(folders)] == ["a/run", "b/run"]
    with pytest.raises(InputError, match="named twice"):
        gather.gather([folders[0], folders[0]])
