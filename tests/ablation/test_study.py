"""The studies in configs/ablations, and the messages for mistakes in them."""

import re
import subprocess
import sys

import pytest

from amlr_jax.ablation import schedule, study
from amlr_jax.config import check
from amlr_jax.runtime import command as commands
from amlr_jax.runtime.errors import InputError
from amlr_jax.train import build
from configs.ablations import amlr, better_ssim
from tests.conftest import REPOSITORY

STUDIES = {
    f"configs/ablations/{module.__name__.split('.')[-1]}.py:{variant}"
    for module in (amlr, better_ssim)
    for variant in module.VARIANTS
}


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_every_run_of_a_study_builds(name):
    found = study.load(name)
    assert len({row.run for row in map(_hashable, found.rows)}) == len(found.runs)
    for run in found.runs:
        config = study.config_of(run, seed=3)
        check(config)
        build.components(config)
        assert config.seed == 3
        for key, value in run.overrides.items():
            assert _at(config, key) == value
    for row in found.rows:
        assert len(row.label) == len(found.factors)
        assert not row.published or row.published.keys() == set(found.metrics)


def _hashable(row):
    overrides = tuple(row.run.overrides.items())
    return row._replace(run=(row.run.name, row.run.config, overrides))


def _at(config, key: str):
    for part in key.split("."):
        config = config[part]
    return config


def test_tables_have_the_papers_rows():
    rows = {v: len(better_ssim.get_study(v).rows) for v in better_ssim.VARIANTS}
    assert rows == {"table1": 10, "table2": 23, "table3": 6, "table4": 8, "street": 5}
    best = min(
        better_ssim.get_study("table2").rows, key=lambda row: row.published["sq_rel"]
    )
    assert best.label in [("0.3", "0.5", "0.5", "0.5"), ("0.3", "0.5", "0.5", "0.6")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.py", "no study file 'nowhere.py'"),
        ("configs/kitti.py", "has no `get_study`"),
        ("configs/ablations/amlr.py:table9", "has variants table4, street; got"),
    ],
)
def test_no_such_study(name, message):
    with pytest.raises(InputError, match=re.escape(message)):
        study.load(name)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("selfsup.gama", 2.0, "unknown config key 'selfsup.gama'; did you mean selfs"),
        ("steps", "many", "steps cannot be 'many'"),
        ("steps", 2.5, "steps: "),
    ],
)
def test_a_wrong_override_names_run_and_key(key, value, message):
    run = study.StudyRun("mine", "configs/demo_selfsup.py:baseline", {key: value})
    with pytest.raises(InputError, match=f"run 'mine': {re.escape(message)}"):
        study.config_of(run, seed=0)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("data.flip", "0.25", 0.25),
        ("data.kb_crop", "false", False),
        ("data.crop", "(64,96)", (64, 96)),
        ("data.root", "3", "3"),
        ("steps", "7", 7),
    ],
)
def test_override_reads_text_as_the_command_line_does(key, text, value):
    config = commands.load_config("configs/kitti.py")
    commands.override(config, key, text)
    assert _at(config, key) == value


TABLE4 = "configs/ablations/better_ssim.py:table4"


def jobs(tmp_path, **options):
    return schedule.jobs_of(study.load(TABLE4), tmp_path, seeds=[1, 2], **options)


def test_a_table_grows_evenly(tmp_path):
    made = jobs(tmp_path, overrides={"steps": "7"})
    assert [(job.run.name, job.seed) for job in made] == [
        ("ssim_a", 1), ("ssc", 1), ("ssim_a", 2), ("ssc", 2),
    ]  # fmt: skip
    assert all(job.by_head and job.steps == 7 for job in made)
    assert made[1].folder == tmp_path / "ssc" / "seed_1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ["sc"]}, "--only: no run sc; there are ssim_a, ssc"),
        ({"overrides": {"step": "3"}}, "unknown config key 'step'; did you mean steps"),
    ],
)
def test_mistakes_are_named(options, message, tmp_path):
    with pytest.raises(InputError, match=re.escape(message)):
        jobs(tmp_path, **options)


def ablation(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "amlr_jax.ablation", f"--study={TABLE4}", *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_dry_run_prints_what_main_would_get(tmp_path):
    done = ablation(
        f"--output={tmp_path / 'o'}", "--seeds=1,2", "--only=ssc", "--dry_run",
        "--config.data.root=/data",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert f"--workdir={tmp_path / 'o' / 'ssc' / 'seed_1'}" in lines[0]
    assert "--config.data.root=/data --config.seed=1" in lines[0]
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds=a"], "--seeds must be numbers with commas, got 'a'"),
        (["--sed=3"], "unknown option '--sed'; did you mean seeds?"),
        (["--config.steps"], "'--config.steps' has no value; write --config.KEY=VALUE"),
    ],
)
def test_mistakes_are_one_line(arguments, message, tmp_path):
    done = ablation(f"--output={tmp_path}", "--dry_run", *arguments)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and message in line
