"""SIGKILL at random moments, some inside a save: nothing after a checkpoint is lost."""

import multiprocessing
import random
import time
from contextlib import closing
from pathlib import Path

import jax
import numpy as np

from amlr_jax.checkpoints import disk
from amlr_jax.checkpoints.manager import Checkpoints

KILLS = 20
ROWS = 100_000  # of 40 bytes


def state_of(step: int) -> dict:
    """4 MB that the step determines."""
    arrays = {"a": np.random.default_rng(step).integers(0, 99, (ROWS, 10), np.int32)}
    return jax.device_put(arrays | {"step": np.int32(step)})


def newest(checkpoints: Checkpoints) -> int:
    """Its step, once its state is seen to be that step's, bit for bit."""
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    found = checkpoints.restore_newest(jax.eval_shape(lambda: state_of(0)), one)
    if found is None:
        return 0
    state, record = found
    want = state_of(record["step"])
    assert all(np.array_equal(state[name], want[name]) for name in want)
    return record["step"]


def run(folder: Path, journal: Path) -> None:
    """Goes on from the newest checkpoint; the journal tells what is surely saved."""
    with closing(Checkpoints(folder, keep=2)) as checkpoints, journal.open("a") as out:
        step = newest(checkpoints)
        while True:
            print(step, file=out, flush=True)
            checkpoints.save(state_of(step + 1), step=step + 1)
            checkpoints.wait()
            step += 1


def kill_once(
    folder: Path, journal: Path, *, lines: int, delay: float
) -> tuple[int, bool]:
    """The newest step after a kill, and whether it came inside a save.

    The process is killed `delay` seconds after so many lines of its journal.
    """
    # Forked from a process that has imported all of it: a start takes no seconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    before = len(journal.read_text().splitlines())
    process = context.Process(target=run, args=(folder, journal), daemon=True)
    process.start()
    while process.is_alive() and len(journal.read_text().splitlines()) < before + lines:
        time.sleep(0.005)
    time.sleep(delay)
    assert process.is_alive()
    process.kill()
    process.join()
    inside = bool(disk.unfinished(folder / "*"))
    sure = int(journal.read_text().splitlines()[-1])
    with closing(Checkpoints(folder, keep=2)) as checkpoints:
        found = newest(checkpoints)
    assert sure <= found <= sure + 1
    return found, inside


def test_killed_at_random_moments(tmp_path):
    folder, journal = tmp_path / "checkpoints", tmp_path / "journal"
    journal.touch()
    rng = random.Random(0)
    found = [
        kill_once(folder, journal, lines=1 + kill % 3, delay=rng.uniform(0, 0.15))
        for kill in range(KILLS)
    ]
    reached = [step for step, _ in found]
    assert reached == sorted(reached)
    assert reached[-1] > KILLS // 2
    assert any(inside for _, inside in found)
    assert not list(folder.glob(f"{disk.BAD}*"))
