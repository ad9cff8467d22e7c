"""Which runs start, on which GPU, and how a failed run is reported."""

import json
import sys

import pytest

from amlr_jax.ablation import schedule
from amlr_jax.ablation.schedule import Job
from amlr_jax.ablation.study import StudyRun

WRITES = """
import json, os, sys, time
folder, name, step = sys.argv[1:4]
time.sleep(0.2)
with open(os.path.join(folder, "seen"), "a") as seen:
    seen.write(f"{name} {os.environ.get('CUDA_VISIBLE_DEVICES')} {time.time()}\\n")
if step == "bad":
    sys.exit("error: it went wrong")
json.dump({"step": int(step)}, open(os.path.join(folder, name), "w"))
"""


class Bar:
    """Counts what is reported as done."""

    done = 0

    def advance(self, steps=1, *, note=None):
        self.done += steps


class Toy(Job):
    """A job whose commands write the files that the real ones would."""

    def _command(self, module: str) -> list[str]:
        name = "evaluation.json" if module == "amlr_jax.main" else "resolutions.json"
        step = "bad" if self.run.name == "bad" else str(self.steps)
        return [sys.executable, "-c", WRITES, str(self.folder), name, step]


def toy(tmp_path, name: str, seed: int = 0, **more) -> Toy:
    folder = tmp_path / name / f"seed_{seed}"
    return Toy(StudyRun(name, "c.py"), seed, 5, folder, **more)


def seen(job: Job) -> list[list[str]]:
    path = job.folder / "seen"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split() for line in lines]


def test_what_is_done_is_skipped(tmp_path):
    done, new, short = (toy(tmp_path, n) for n in ("done", "new", "short"))
    for job, step in ((done, 5), (short, 4)):
        job.folder.mkdir(parents=True)
        (job.folder / "evaluation.json").write_text(json.dumps({"step": step}))
    report = Bar()
    assert schedule.run_all([done, new, short], gpus=[], report=report) == []
    assert report.done == 3
    assert [len(seen(job)) for job in (done, new, short)] == [0, 1, 1]
    assert schedule.run_all([done, new, short], gpus=[], report=Bar()) == []
    assert len(seen(new)) == 1


def test_a_run_on_each_gpu_at_a_time(tmp_path):
    jobs = [toy(tmp_path, "a", seed) for seed in range(4)]
    schedule.run_all(jobs, gpus=["0", "3"], report=Bar())
    used = sorted(seen(job)[0][1] for job in jobs)
    assert set(used) == {"0", "3"}


def test_side_outputs_follow_the_training(tmp_path):
    job = toy(tmp_path, "a", by_head=True)
    assert schedule.run_all([job], gpus=[], report=Bar()) == []
    assert [line[0] for line in seen(job)] == ["evaluation.json", "resolutions.json"]
    assert job.next_command() == []


def test_a_failure_is_told_and_the_others_go_on(tmp_path, capsys):
    bad, good = toy(tmp_path, "bad", 7), toy(tmp_path, "good")
    assert schedule.run_all([bad, good], gpus=[], report=Bar()) == [bad]
    assert "bad seed 7 failed: error: it went wrong" in capsys.readouterr().out
    assert good.next_command() == []


def test_the_running_end_with_us(tmp_path):
    with pytest.raises(KeyboardInterrupt), schedule._terminated_at_the_end() as running:
        running.append(schedule._start(toy(tmp_path, "slow"), ""))
        raise KeyboardInterrupt
    assert running[0].popen.poll() is not None


def test_commands_are_mains(tmp_path):
    job = Job(StudyRun("a", "configs/demo.py", {"steps": 7}), 3, 7, tmp_path, True)
    command = job.next_command()
    assert command[1:4] == ["-m", "amlr_jax.main", "--config=configs/demo.py"]
    assert command[-2:] == ["--config.steps=7", "--config.seed=3"]
    (tmp_path / "evaluation.json").write_text('{"step": 7}')
    assert job.next_command()[-1] == "--resolutions"
    (tmp_path / "resolutions.json").write_text('{"step": 7}')
    assert job.next_command() == []
