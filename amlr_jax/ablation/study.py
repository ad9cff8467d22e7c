"""What a study is: the rows of a table, their runs, and what papers print for them.

A file in configs/ablations/ has `get_study(variant)`, which returns a `Study`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from amlr_jax.runtime import command as commands
from amlr_jax.runtime.errors import InputError

METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "d1", "d2", "d3")


class StudyRun(NamedTuple):
    """One config, trained with each seed."""

    name: str  # of its folder
    config: str  # FILE[:variant]
    overrides: Mapping[str, object] = {}  # dotted key -> value


class StudyRow(NamedTuple):
    """One row of a study's table."""

    label: Sequence[str]  # cells below the study's `factors`
    run: StudyRun
    published: Mapping[str, float] = {}
    head: int | None = None  # a side output, fine to coarse; None: the network's depth


class Study(NamedTuple):
    """A table. The rows are compared with the first one."""

    title: str
    factors: Sequence[str]  # headings of what differs between the rows
    rows: Sequence[StudyRow]
    metrics: Sequence[str] = METRICS
    note: str = ""  # what a reader must know

    @property
    def runs(self) -> list[StudyRun]:
        """The runs of all rows, each once."""
        return list({row.run.name: row.run for row in self.rows}.values())


def published(*values: float, names: Sequence[str] = METRICS) -> dict[str, float]:
    """A printed row by the names of its metrics."""
    return dict(zip(names, values, strict=True))


def load(file_and_variant: str) -> Study:
    """The study of FILE[:variant]; InputError if there is none."""
    return commands.made_by_file(file_and_variant, kind="study")


def config_of(run: StudyRun, *, seed: int) -> ConfigDict:
    """The config of one run, as `amlr_jax.main` would make it of its flags."""
    config = commands.load_config(run.config)
    for key, value in {**run.overrides, "seed": seed}.items():
        try:
            commands.override(config, key, value)
        except InputError as error:
            raise InputError(f"run '{run.name}': {error}") from error
    return config


def folder_of(output: Path, name: str, seed: int) -> Path:
    """The workdir of one run with one seed."""
    return output / name / f"seed_{seed}"
