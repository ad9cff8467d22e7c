"""Checkpoints of everything: the state, its fingerprints, the config and the metrics.

Saving is asynchronous; a checkpoint appears under its step only when it is whole, so a
run killed while saving goes on from the one before. In the background it is then read
back and compared with what was on the device, and only after that are older ones
deleted. `steps` tells the files, `verification` the checks, `preservation` what stays.
"""

import json
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from amlr_jax.checkpoints import (
    array_store,
    fingerprint,
    preservation,
    restoring,
    verification,
)
from amlr_jax.checkpoints import files as steps
from amlr_jax.checkpoints.preservation import Policy
from amlr_jax.runtime.console import show
from amlr_jax.runtime.distributed import is_first, of_first
from amlr_jax.runtime.errors import InputError
from amlr_jax.train.state import TrainState


class Saving(NamedTuple):
    """A save that was started."""

    step: int
    size: int  # bytes of the state
    end: Future  # of `Ended`


class Ended(NamedTuple):
    """How a save ended."""

    error: Exception | None  # it was not written
    good: bool  # it was read back as it was saved


class Checkpoints:
    """The checkpoints of one run, in a folder.

    In several processes each makes one, and all call every method with the same
    arguments at the same point: they agree on what the first process finds, and that
    alone reads back, reports, puts aside and deletes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        best: int = 0,
        best_by: str = "abs_rel",
        every_hours: float = 0.0,
        config: dict | None = None,
    ) -> None:
        self._folder = folder.absolute()
        self._policy = Policy(keep, best, best_by, every_hours)
        self._config = json.loads(json.dumps(config))
        self._hush = array_store.Hush()
        self._hush.on()
        self._checkpointer = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._saving: Saving | None = None
        if is_first():
            self._folder.mkdir(parents=True, exist_ok=True)
            steps.remove_leftovers(self._folder)

    def latest(self) -> int | None:
        """The step of the newest whole checkpoint; `restore_newest` looks into it."""
        self.wait()
        return of_first(steps.newest(self._folder))

    def save(
        self,
        state: TrainState,
        *,
        step: int,
        metrics: dict | None = None,
        batches: int | None = None,
    ) -> None:
        """Starts saving; if this step is there already, only adds `metrics` to it.

        Waits for the save before it, and copies the state from the device, so that it
        may be donated. `batches` consumed are as many as steps unless given.

        Raises:
          InputError: if this one or the one before cannot be written, or `best_by` is
            not among the metrics.
        """
        metrics = preservation.checked(metrics, self._policy)
        size = sum(fingerprint.data(x).nbytes for x in jax.tree.leaves(state))
        path = steps.path_of(self._folder, step)
        if self._settled(step, size)["there"]:
            if is_first() and metrics:
                self._add_metrics(path, metrics)
            return
        record = self._record(state, step, metrics, batches)
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(record)
        )
        try:
            self._checkpointer.save(path, args=arguments)
        except (OSError, ValueError) as error:
            raise InputError(self._not_written(step, size, error)) from error
        self._saving = Saving(
            step, size, self._thread.submit(self._finish, path, record)
        )

    def _add_metrics(self, path: Path, metrics: dict) -> None:
        """They serve the choice of the best alone, so a run does not end without."""
        try:
            steps.write_json(path / steps.METRICS, metrics)
        except OSError as error:
            why = array_store.reason(error)
            show(f"Checkpoint '{path}' keeps no metrics: {why}; not among the best")

    def _record(self, state, step: int, metrics: dict, batches: int | None) -> dict:
        marks = fingerprint.of_tree(state)
        kinds = {
            name: fingerprint.shape_and_dtype(leaf)
            for name, leaf in fingerprint.named(state).items()
        }
        return {
            "step": step,
            "batches": step if batches is None else batches,
            "time": time.time(),
            "config": self._config,
            "metrics": metrics,
            "leaves": {name: [*kinds[name], mark] for name, mark in marks.items()},
        }

    def _finish(self, path: Path, record: dict) -> Ended:
        """In the background: waits for the files, reads them back, tidies up."""
        try:
            self._checkpointer.wait_until_finished()
            return Ended(None, good=not is_first() or self._verified(path, record))
        except (OSError, ValueError, RuntimeError) as error:  # orbax's, tensorstore's
            return Ended(error, good=False)

    def _verified(self, path: Path, record: dict) -> bool:
        why = verification.read_back(path, record)
        if why:
            aside = steps.set_aside(path)
            show(f"Checkpoint '{path}' is bad: {why}; put aside as '{aside.name}'")
        else:
            preservation.tidy(self._folder, self._policy)
        return not why

    def _joined(self) -> dict:
        """Waits for what is being saved, and how that ended in this process."""
        saving, self._saving = self._saving, None
        if saving is None:
            return {"error": "", "good": True}
        ended = saving.end.result()
        if ended.error is None:
            return {"error": "", "good": ended.good}
        why = self._not_written(saving.step, saving.size, ended.error)
        return {"error": why, "good": False}

    def _settled(self, step: int | None = None, size: int = 0) -> dict:
        """How the last save ended and whether `step` is there, on all processes.

        Raises InputError if the last was not written or this one cannot be.
        """
        found = {**self._joined(), "there": False}
        if step is not None and not found["error"]:
            found["there"] = steps.path_of(self._folder, step).exists()
            if not found["there"]:
                found["error"] = self._no_space(step, size)
        found = of_first(found)
        if found["error"]:
            raise InputError(found["error"])
        return found

    def _no_space(self, step: int, size: int) -> str:
        try:
            array_store.check_space(self._folder, size)
        except OSError as error:
            return self._not_written(step, 0, error)  # the error tells the sizes
        return ""

    def _not_written(self, step: int, size: int, error: Exception) -> str:
        """The message, after removing what was written of it."""
        if is_first():
            for half in steps.unfinished(self._folder, step):
                array_store.remove(half)
        space = array_store.space(self._folder, size) if size else ""
        last = steps.newest(self._folder)
        then = "there is none before it; make room and start again"
        if last is not None:
            then = f"step {last} is safe: make room and start again to go on from there"
        return (
            f"checkpoint {step} cannot be written to '{self._folder}': "
            f"{array_store.reason(error)}{space}; {then}"
        )

    def restore(
        self, like: TrainState, sharding: Any, *, step: int
    ) -> tuple[TrainState, int]:
        """The state of `step`, as `restore_newest`, and the batches consumed.

        Raises:
          InputError: if it is bad or does not fit.
        """
        self._settled()
        path = steps.path_of(self._folder, step)
        state, record = restoring.one(self._checkpointer, path, like, sharding)
        return state, record["batches"]

    def restore_newest(
        self, like: TrainState, sharding: Any
    ) -> tuple[TrainState, dict] | None:
        """The newest good state and its record (`steps.record`); None if there is none.

        Newer ones that are bad are reported and put aside, so that their steps can be
        saved again.

        Args:
          like: a state or its shapes.
          sharding: of all leaves, or a tree of shardings like the state; the devices
            need not be those on which it was saved.

        Raises:
          InputError: if there are checkpoints and none is good, or if one does not fit.
        """
        self._settled()
        return restoring.newest(self._checkpointer, self._folder, like, sharding)

    def wait(self) -> bool:
        """Blocks until what was started is saved and read back; False if it is bad."""
        return self._settled()["good"]

    def close(self) -> None:
        """Waits and lets go of the folder, in each process by itself.

        Raises InputError if the last save failed; where another error is under way,
        says so instead.
        """
        under_way = sys.exc_info()[0] is not None
        try:
            error = self._joined()["error"]
        finally:
            self._thread.shutdown()
            self._checkpointer.close()
            self._hush.off()
        if error and under_way:
            show(f"Also, {error}")
        elif error:
            raise InputError(error)
