"""Trains the runs of a study with each seed and prints its table.

    python -m amlr_jax.ablation --study=FILE[:variant] --output=DIR
        [--seeds=0,1,2] [--gpus=0,1] [--only=NAME,NAME] [--dry_run] [--config.KEY=VALUE]

The same command again continues with what is missing. Every run has its own workdir
DIR/NAME/seed_N, with its log in log.txt. DIR gets table.md, table.json and table.png.
Without --gpus one run after the other uses all devices.
"""

import shlex

from absl import flags

from amlr_jax.runtime import command
from amlr_jax.runtime.errors import InputError

_STUDY = flags.DEFINE_string("study", None, "FILE[:variant] of a study.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder of all runs.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Numbers, as 0,1,2.")
_GPUS = flags.DEFINE_list("gpus", [], "One run at a time on each, as 0,1.")
_ONLY = flags.DEFINE_list("only", [], "Names of runs, as ssim_a,ssc.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the commands and run nothing.")


def main(overrides: list[str]) -> int:
    """Trains what is missing and writes the table; 1 if a run failed."""
    seeds, changes = _seeds(_SEEDS.value), dict(map(_key_and_value, overrides))
    # Imported here: a mistyped flag is reported before the seconds that jax takes.
    from amlr_jax.ablation import schedule, study, table
    from amlr_jax.runtime import console, files

    found, output = study.load(str(_STUDY.value)), command.path_of(_OUTPUT)
    only = _ONLY.value
    jobs = schedule.jobs_of(found, output, seeds=seeds, only=only, overrides=changes)
    if _DRY_RUN.value:
        for job in jobs:
            left = job.next_command()
            console.show(shlex.join(left) if left else f"# done: {job.folder}")
        return 0
    files.make_writable(output, option="output")
    with console.bar("Runs", len(jobs)) as report:
        failed = schedule.run_all(jobs, gpus=_GPUS.value, report=report)
    table.write(found, output, seeds)
    return 1 if failed else 0


def _seeds(words: list[str]) -> list[int]:
    if not words or not all(word.isdecimal() for word in words):
        given = ",".join(words)
        raise InputError(f"--seeds must be numbers with commas, got '{given}'")
    return sorted(set(map(int, words)))


def _key_and_value(override: str) -> tuple[str, str]:
    key, is_given, value = override.partition("=")
    if not is_given:
        raise InputError(f"'{override}' has no value; write --config.KEY=VALUE")
    return key.removeprefix("--config."), value


if __name__ == "__main__":
    command.run(main, required=["study", "output"], takes_overrides=True)
