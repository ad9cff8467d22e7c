"""A run that is killed every minute, beside the same run left alone.

    python tests/benchmarks/soak.py [--minutes=20] [--every=60] [--output=DIR]
        [--config=configs/demo.py] [--config.KEY=VALUE]

Both train `--config` to the same number of steps at the same time. One is sent
SIGKILL every so many seconds, wherever it is, and started again at once, for so many
minutes; then it may end. Prints how often it was killed, and at which steps; exit
status 1 if the parameters, batch statistics or a line of metrics.jsonl differ.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from amlr_jax.models import pretrained
from amlr_jax.runtime.console import bar, show

MAIN = "amlr_jax.main"


def main() -> int:
    """Runs both; 0 if they are equal."""
    options, overrides = _parsed()
    whole, killed = options.output / "whole", options.output / "killed"
    common = [f"--config={options.config}", *overrides]
    _prepare(common, options.output / "prepared")
    unbroken = _start(common, whole)
    killed_at = _kill_again_and_again(common, killed, options)
    _start(common, killed).wait()
    unbroken.wait()
    show(f"killed {len(killed_at)} times, after steps {killed_at}")
    return _compare(whole, killed)


def _parsed() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--every", type=float, default=60, help="seconds")
    parser.add_argument("--output", type=Path, default=Path("runs/soak"))
    parser.add_argument("--config", default="configs/demo.py")
    return parser.parse_known_args()


def _prepare(common: list[str], folder: Path) -> None:
    """Data and compiled programs, which the two runs would otherwise both make."""
    subprocess.run([*_command(common, folder), "--config.steps=1"], check=True)


def _command(common: list[str], folder: Path) -> list[str]:
    return [sys.executable, "-m", MAIN, *common, f"--workdir={folder}"]


def _start(common: list[str], folder: Path) -> subprocess.Popen:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(_command(common, folder), stdout=log, stderr=log)


def _kill_again_and_again(common: list[str], folder: Path, options) -> list[int]:
    """The newest written steps at each kill."""
    killed_at, seconds = [], int(60 * options.minutes)
    with bar("Soak", seconds) as report:
        while seconds > 0:
            process, wait = _start(common, folder), min(options.every, seconds)
            try:
                process.wait(timeout=wait)
                show("the run ended before the time was up: give it more steps")
                return killed_at
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            seconds -= wait
            killed_at.append(len(_rows(folder)))
            report.advance(int(wait), note=f"step {killed_at[-1]}")
    return killed_at


def _rows(folder: Path) -> list[dict]:
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    try:
        return [json.loads(line) for line in lines]
    except json.JSONDecodeError:  # the kill cut the last line short
        return [json.loads(line) for line in lines[:-1]]


def _compare(whole: Path, killed: Path) -> int:
    """Prints what differs; the exit status."""
    a, b = (pretrained.load_network(one).variables for one in (whole, killed))
    differing = sum(
        not np.array_equal(x, y)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
    lines = [_rows(whole), _rows(killed)]
    last = lines[0][-1]
    show(
        f"{len(jax.tree.leaves(a))} arrays after step {last['step']}: {differing} "
        f"differ; metrics.jsonl {'equal' if lines[0] == lines[1] else 'DIFFERS'}"
    )
    return int(differing > 0 or lines[0] != lines[1])


if __name__ == "__main__":
    sys.exit(main())
