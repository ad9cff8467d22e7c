"""Trains the runs of a study, one after the other or one on each GPU."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from amlr_jax.ablation.study import Study, StudyRun, config_of, folder_of
from amlr_jax.config import check
from amlr_jax.runtime import workdir
from amlr_jax.runtime.console import Bar, show
from amlr_jax.runtime.errors import InputError

LOG = "log.txt"
POLL = 0.1  # seconds between two checks of the running processes


class Job(NamedTuple):
    """One run with one seed."""

    run: StudyRun
    seed: int
    steps: int
    folder: Path
    by_head: bool = False  # its side outputs are measured, too

    @property
    def label(self) -> str:
        """The run and the seed, for messages."""
        return f"{self.run.name} seed {self.seed}"

    def next_command(self) -> list[str]:
        """What is left to do first: training, the side outputs, or nothing."""
        if self._step_of(workdir.EVALUATION) != self.steps:
            return self._command("amlr_jax.main")
        if self.by_head and self._step_of(workdir.SIDE_OUTPUTS) != self.steps:
            return [*self._command("amlr_jax.evaluate"), "--resolutions"]
        return []

    def _step_of(self, name: str) -> int | None:
        try:
            return json.loads((self.folder / name).read_text()).get("step")
        except (OSError, ValueError):
            return None

    def _command(self, module: str) -> list[str]:
        given = {**self.run.overrides, "seed": self.seed}
        return [
            *(sys.executable, "-m", module),
            f"--config={self.run.config}",
            f"--workdir={self.folder}",
            *(f"--config.{key}={value}" for key, value in given.items()),
        ]


class _Process(NamedTuple):
    popen: subprocess.Popen
    command: list[str]
    job: Job
    gpu: str


def jobs_of(
    study: Study,
    output: Path,
    *,
    seeds: Sequence[int],
    only: Sequence[str] = (),
    overrides: Mapping[str, object] | None = None,
) -> list[Job]:
    """Every run with the first seed, then with the next, so that a table grows evenly.

    Args:
      output: the folder of all runs.
      only: names of runs; none: all.
      overrides: dotted key -> value, for all runs.

    Raises:
      InputError: an unknown run, or a config that cannot be used.
    """
    known = [run.name for run in study.runs]
    unknown = sorted(set(only) - set(known))
    if unknown:
        raise InputError(f"--only: no run {unknown[0]}; there are {', '.join(known)}")
    by_head = {row.run.name for row in study.rows if row.head is not None}
    jobs = []
    for seed in seeds:
        for run in study.runs:
            if only and run.name not in only:
                continue
            run = run._replace(overrides={**run.overrides, **(overrides or {})})
            config = config_of(run, seed=seed)
            check(config)
            folder = folder_of(output, run.name, seed)
            jobs.append(Job(run, seed, config.steps, folder, run.name in by_head))
    return jobs


def run_all(jobs: Sequence[Job], *, gpus: Sequence[str], report: Bar) -> list[Job]:
    """Runs what is not finished, one job a GPU at a time; returns the failed jobs.

    Without `gpus` one run after the other uses all devices. All runs share one
    compilation cache: programs of runs that differ in the seed alone compile once.
    """
    waiting, free, failed = list(jobs), list(gpus or [""]), []
    with _terminated_at_the_end() as running:
        while waiting or running:
            while waiting and free:
                job = waiting.pop(0)
                if job.next_command():
                    running.append(_start(job, free.pop(0)))
                else:  # finished before, or by another machine meanwhile
                    report.advance()
            report.advance(0, note=", ".join(one.job.label for one in running))
            time.sleep(POLL)
            for one in [r for r in running if r.popen.poll() is not None]:
                running.remove(one)
                left = one.job.next_command()
                if one.popen.returncode == 0 and left and left != one.command:
                    running.append(_start(one.job, one.gpu))
                    continue
                free.append(one.gpu)
                report.advance()
                if one.popen.returncode or left:
                    failed.append(one.job)
                    show(f"{one.job.label} failed: {_last_line(one.job)}")
    return failed


def _start(job: Job, gpu: str) -> _Process:
    job.folder.mkdir(parents=True, exist_ok=True)
    compiled = job.folder.parents[1] / "compiled"
    environment = {"JAX_COMPILATION_CACHE_DIR": str(compiled.absolute()), **os.environ}
    if gpu:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    command = job.next_command()
    with (job.folder / LOG).open("a") as log:
        popen = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    return _Process(popen, command, job, gpu)


@contextmanager
def _terminated_at_the_end() -> Iterator[list[_Process]]:
    """A list of processes; those still in it get SIGTERM at the end of the block."""
    running: list[_Process] = []
    try:
        yield running
    finally:
        for one in running:
            one.popen.terminate()
        for one in running:
            one.popen.wait()


def _last_line(job: Job) -> str:
    """The last line of the log, and its path."""
    path = job.folder / LOG
    lines = path.read_text(errors="replace").strip().splitlines()
    return f"{lines[-1] if lines else 'it printed nothing'} ({path})"
