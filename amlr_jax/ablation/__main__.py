"""Trains the runs of a study with each seed and prints its table.

    python -m amlr_jax.ablation --study=FILE[:variant] --output=DIR \
        [--seeds=0,1,2] [--gpus=0,1] [--only=NAME,NAME] [--dry_run] [--config.KEY=VALUE]

The same command again goes on with what is missing. Every run has a workdir
DIR/NAME/seed_N of its own, with its log in log.txt. DIR gets table.md, table.json and
table.png. Without --gpus one run after the other uses all devices.
"""

import argparse
import sys
from pathlib import Path

from amlr_jax.runtime.command import fail
from amlr_jax.runtime.errors import InputError


def main(arguments: list[str]) -> int:
    """Parses and hands over; the exit status."""
    options, overrides = _parsed(arguments)
    # Imported here: a mistyped option is reported before the seconds that jax takes.
    from amlr_jax.ablation import run

    return run.run(options, overrides)


def _parsed(arguments: list[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    parser = argparse.ArgumentParser(
        prog="amlr_jax.ablation", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--study", required=True, help="FILE[:variant] of a study")
    parser.add_argument("--output", required=True, type=Path, help="folder of all runs")
    parser.add_argument("--seeds", default="0,1,2", help="numbers, e.g. 0,1,2")
    parser.add_argument("--gpus", default="", help="one run at a time on each: 0,1")
    parser.add_argument("--only", default="", help="names of runs, e.g. ssim_a,ssc")
    parser.add_argument("--dry_run", action="store_true", help="print the commands")
    options, rest = parser.parse_known_args(arguments)
    try:
        options.seeds = sorted({int(seed) for seed in options.seeds.split(",")})
    except ValueError:
        parser.error(f"--seeds must be numbers with commas, got '{options.seeds}'")
    return options, dict(_override(argument, parser) for argument in rest)


def _override(argument: str, parser: argparse.ArgumentParser) -> tuple[str, str]:
    key, is_given, value = argument.partition("=")
    if not (key.startswith("--config.") and is_given):
        parser.error(f"unknown option '{argument}'; overrides are --config.KEY=VALUE")
    return key.removeprefix("--config."), value


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        fail(error)
