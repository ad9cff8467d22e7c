"""Runs of a study, one after the other or one on each GPU; what is done is skipped."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from amlr_jax.evaluate.measure_frames import RESULT
from amlr_jax.evaluate.side_outputs import RESULT as HEADS
from amlr_jax.runtime.console import Bar, show

LOG = "log.txt"
TENTH = 0.1  # of a second, between looks at the runs


class Job(NamedTuple):
    """One run with one seed."""

    name: str
    seed: int
    config: str
    overrides: dict[str, object]
    steps: int
    folder: Path
    by_head: bool = False  # its side outputs are measured, too

    def next_command(self) -> list[str]:
        """What is left to do first: training, the side outputs, or nothing."""
        if self._step_of(RESULT) != self.steps:
            return self._command("amlr_jax.main")
        if self.by_head and self._step_of(HEADS) != self.steps:
            return [*self._command("amlr_jax.evaluate"), "--resolutions"]
        return []

    def _step_of(self, name: str) -> int | None:
        try:
            return json.loads((self.folder / name).read_text()).get("step")
        except (OSError, ValueError):
            return None

    def _command(self, module: str) -> list[str]:
        given = {**self.overrides, "seed": self.seed}
        return [
            sys.executable,
            "-m",
            module,
            f"--config={self.config}",
            f"--workdir={self.folder}",
            *(f"--config.{key}={value}" for key, value in given.items()),
        ]


def run_all(jobs: Sequence[Job], *, gpus: Sequence[str], report: Bar) -> list[Job]:
    """Does what is not done yet, one run a GPU at a time; the jobs that failed.

    Without `gpus` one run after the other sees all devices. The programs of runs that
    differ in the seed alone are compiled once.
    """
    waiting = [job for job in jobs if job.next_command()]
    report.advance(len(jobs) - len(waiting))
    free, failed = list(gpus or [""]), []
    with _ended_with_us() as running:
        while waiting or running:
            while waiting and free:
                job = waiting.pop(0)
                if not job.next_command():  # done by another machine meanwhile
                    report.advance()
                    continue
                running.append(_started(job, free.pop(0)))
                report.advance(0, note=_note(running))
            time.sleep(TENTH)
            for one in [r for r in running if r.process.poll() is not None]:
                running.remove(one)
                left = one.job.next_command()
                if one.process.returncode == 0 and left and left != one.command:
                    running.append(_started(one.job, one.gpu))
                    continue
                free.append(one.gpu)
                report.advance(note=_note(running))
                if one.process.returncode or left:
                    failed.append(one.job)
                    show(f"{_label(one.job)} {_why(one.job)}")
    return failed


class _Running(NamedTuple):
    process: subprocess.Popen
    command: list[str]
    job: Job
    gpu: str


def _label(job: Job) -> str:
    return f"{job.name} seed {job.seed}"


def _note(running: list[_Running]) -> str:
    return ", ".join(_label(one.job) for one in running)


def _started(job: Job, gpu: str) -> _Running:
    job.folder.mkdir(parents=True, exist_ok=True)
    compiled = job.folder.parents[1] / "compiled"
    environment = {"JAX_COMPILATION_CACHE_DIR": str(compiled.absolute()), **os.environ}
    if gpu:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    command = job.next_command()
    with (job.folder / LOG).open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    return _Running(process, command, job, gpu)


@contextmanager
def _ended_with_us() -> Iterator[list[_Running]]:
    """The running processes, which end orderly if we do."""
    running = []
    try:
        yield running
    finally:
        for one in running:
            one.process.terminate()
        for one in running:
            one.process.wait()


def _why(job: Job) -> str:
    """The last line of its log, and where that is."""
    path = job.folder / LOG
    lines = path.read_text(errors="replace").strip().splitlines()
    return f"failed: {lines[-1] if lines else 'it printed nothing'} ({path})"
