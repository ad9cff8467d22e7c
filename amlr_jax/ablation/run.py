"""From a study and seeds to runs and a table."""

import shlex
from argparse import Namespace
from pathlib import Path

from amlr_jax.ablation import schedule, table
from amlr_jax.ablation.figures import figures, folder_of
from amlr_jax.ablation.schedule import Job
from amlr_jax.ablation.study import Study, config_of, load
from amlr_jax.config import check
from amlr_jax.runtime import files
from amlr_jax.runtime.console import bar, show
from amlr_jax.runtime.errors import InputError


def run(options: Namespace, overrides: dict[str, str]) -> int:
    """Trains what is missing, writes the table; 1 if a run failed."""
    study = load(options.study)
    output = options.output.expanduser()
    jobs = _jobs(study, output, options, overrides)
    if options.dry_run:
        for job in jobs:
            left = job.next_command()
            show(shlex.join(left) if left else f"# done: {job.folder}")
        return 0
    files.make_writable(output)
    gpus = [gpu for gpu in options.gpus.split(",") if gpu]
    with bar("Runs", len(jobs)) as report:
        failed = schedule.run_all(jobs, gpus=gpus, report=report)
    write(study, output, options.seeds)
    return 1 if failed else 0


def _jobs(study: Study, output: Path, options, overrides: dict[str, str]) -> list[Job]:
    """Every run with the first seed, then with the next: a table grows evenly."""
    chosen = [name for name in options.only.split(",") if name]
    known = [run.name for run in study.runs]
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        raise InputError(f"--only: no run {unknown[0]}; there are {', '.join(known)}")
    by_head = {row.run.name for row in study.rows if row.head is not None}
    jobs = []
    for seed in options.seeds:
        for one in study.runs:
            if chosen and one.name not in chosen:
                continue
            config = config_of(one, seed=seed, more=overrides)
            check(config)
            jobs.append(
                Job(
                    one.name,
                    seed,
                    one.config,
                    {**one.overrides, **overrides},
                    config.steps,
                    folder_of(output, one.name, seed),
                    by_head=one.name in by_head,
                )
            )
    return jobs


def write(study: Study, output: Path, seeds: list[int]) -> None:
    """table.md, table.json and table.png of what is measured, and the table shown."""
    rows = figures(study, output, seeds)
    (output / "table.md").write_text(table.markdown(study, rows))
    files.write_json(output / "table.json", table.as_json(study, rows))
    table.picture(study, rows, output / "table.png")
    show(table.rich_table(study, rows))
    show(f"Results in {output}: table.md, table.json, table.png")
