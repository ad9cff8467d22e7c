"""The checkpoints of a run: saved in the background, verified, restored and pruned.

orbax writes them and its preservation policies choose which ones stay. Its
`CheckpointManager` is not used: it chooses what to delete before the new checkpoint is
written and its metrics are measured, deletes file by file, and reads the metadata of
all checkpoints, damaged ones included, when it is made.
"""

import json
import math
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import (
    BestN,
    EveryNSeconds,
    LatestN,
    PreservationContext,
)

from amlr_jax.checkpoints import arrays, disk
from amlr_jax.runtime import files
from amlr_jax.runtime.console import show
from amlr_jax.runtime.distributed import is_first, of_first
from amlr_jax.runtime.errors import InputError, preview


class Checkpoints:
    """The checkpoints of one run in a folder.

    Kept are the latest `keep`, the `best` by the metric `best_by` (of equals the
    later), and for good the first one and one each `every_hours` (0: none).

    In several processes each makes one, and all call every method with the same
    arguments at the same point. They agree on what the first process finds; that one
    alone verifies, reports, quarantines and prunes.
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
        self._rules: dict[str, Any] = {"keep": keep, "best": best}
        self._rules |= {"best_by": best_by, "every_hours": every_hours}
        self._config = json.loads(json.dumps(config))
        self._step = 0  # that is being saved
        self._quiet = ExitStack()
        self._quiet.enter_context(arrays.quiet())
        self._checkpointer = ocp.AsyncCheckpointer(
            ocp.CompositeCheckpointHandler(),
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
        )
        if is_first():
            self._folder.mkdir(parents=True, exist_ok=True)
            disk.remove_leftovers(self._folder)

    def save(self, state: Any, *, step: int, metrics: dict | None = None) -> None:
        """Starts saving; if this step is there already, only adds `metrics` to it.

        Waits for the save before it, and copies the state from the device, so that it
        may be donated. As many batches were consumed as steps were taken.

        Raises:
          InputError: if this one or the one before cannot be written, or `best_by` is
            not among the metrics.
        """
        values = self._checked(metrics)
        self.wait()
        path = disk.path_of(self._folder, step)
        if of_first(path.exists()):
            if is_first() and values:
                _add_metrics(path, values)
            return
        record: dict = {"step": step, "batches": step, "time": time.time()}
        record |= {"config": self._config, "metrics": values, "leaves": kinds(state)}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(arrays.present(state)),
            data=ocp.args.JsonSave(record),
        )
        self._step = step
        try:
            self._checkpointer.save(path, args=items)
        except (OSError, ValueError) as error:
            raise InputError(self._not_written(error)) from error

    def _checked(self, metrics: dict | None) -> dict[str, float]:
        values = {name: float(value) for name, value in (metrics or {}).items()}
        best_by = self._rules["best_by"]
        if metrics is not None and self._rules["best"] and best_by not in values:
            raise InputError(
                f"checkpoint.best_by must be one of {', '.join(sorted(values))}; got "
                f"'{best_by}'"
            )
        return values

    def _seal(self) -> None:
        """orbax calls it in the first process, before it renames what is complete."""
        found = disk.unfinished(disk.path_of(self._folder, self._step))
        disk.write_checksums(max(found, key=lambda path: path.stat().st_mtime_ns))

    def wait(self) -> None:
        """Blocks until what was started is saved, then prunes.

        Raises InputError if it was not written.
        """
        if error := of_first(self._finish()):
            raise InputError(error)

    def _finish(self) -> str:
        """Waits, then prunes; why the last checkpoint was not written, or ""."""
        try:
            self._checkpointer.wait_until_finished()
        except (OSError, ValueError, RuntimeError) as error:  # orbax's, tensorstore's
            return self._not_written(error)
        if is_first():
            self._prune()
        return ""

    def _not_written(self, error: Exception) -> str:
        """The message, after removing what was written."""
        if is_first():
            arrays.remove_unfinished(disk.path_of(self._folder, self._step))
        then = "there is none before it; make room and start again"
        if found := disk.all_of(self._folder):
            last = int(found[-1].name)
            then = f"step {last} is safe: make room and start again to go on from there"
        return (
            f"checkpoint {self._step} cannot be written to '{self._folder}': "
            f"{disk.reason(error)}; {then}"
        )

    def _prune(self) -> None:
        found = disk.all_of(self._folder)
        stay = kept([_stored(path) for path in found], **self._rules)
        for path in found:
            if int(path.name) not in stay:
                disk.delete(path)

    def restore_newest(self, like: Any, sharding: Any) -> tuple[Any, dict] | None:
        """The newest good state and its record (`disk.record`); None if there is none.

        Newer ones that are damaged are reported and quarantined, so that their steps
        can be saved again. If none is good they stay in place, so that the next start
        does not begin anew.

        Args:
          like: a state or its shapes.
          sharding: of all leaves, or a tree of shardings like the state; the devices
            need not be those on which it was saved.

        Raises:
          InputError: if there are checkpoints and none is good, or if the newest good
            one has other leaves, shapes or dtypes than `like`.
        """
        self.wait()
        bad: dict[str, str] = {}
        for name in of_first([p.name for p in reversed(disk.all_of(self._folder))]):
            path = self._folder / name
            bad[name] = of_first(disk.damage(path) if is_first() else "")
            if bad[name]:
                continue
            record = disk.record(path)
            check_fits(path, record, like)
            try:
                state = arrays.load_onto(path / disk.STATE, like, sharding)
            except (OSError, ValueError, KeyError) as error:
                bad[name] = disk.reason(error)
                continue
            del bad[name]
            self._quarantine(bad, step=int(name))
            return state, record
        if bad:
            reasons = "; ".join(f"{name}: {why}" for name, why in bad.items())
            raise InputError(
                f"no checkpoint in '{self._folder}' is good ({reasons}); repair one, "
                "or move the folder away to begin anew"
            )
        if is_first() and any(self._folder.glob(f"{disk.BAD}*")):
            show(f"'{self._folder}' holds only bad checkpoints: beginning anew")
        return None

    def _quarantine(self, bad: dict[str, str], *, step: int) -> None:
        for name, why in bad.items() if is_first() else ():
            target = disk.quarantine(self._folder / name)
            show(
                f"Checkpoint '{self._folder / name}' is bad: {why}; quarantined as "
                f"'{target.name}', going on from step {step}"
            )

    def close(self) -> None:
        """Waits for what is being saved, in each process by itself, and frees orbax.

        Raises InputError if the last save failed; while another error is raised, shows
        it instead.
        """
        other = sys.exc_info()[0] is not None
        try:
            error = self._finish()
        finally:
            self._checkpointer.close()
            self._quiet.close()
        if error and other:
            show(f"Also, {error}")
        elif error:
            raise InputError(error)


def _add_metrics(path: Path, metrics: dict) -> None:
    """A failure does not end the run: only the choice of the best needs them."""
    try:
        files.write_json(path / disk.METRICS, metrics)
    except OSError as error:
        why = disk.reason(error)
        show(f"Checkpoint '{path}' keeps no metrics: {why}; not among the best")


# ---------------------------------------------------------------- fitting


def kinds(tree: Any) -> dict[str, list]:
    """{"params.Conv_0.bias": [shape, dtype]} of all leaves, as JSON keeps them."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    names = [jax.tree_util.keystr(p, simple=True, separator=".") for p, _ in leaves]
    kinds = [[list(leaf.shape), str(leaf.dtype)] for _, leaf in leaves]
    return dict(zip(names, kinds, strict=True))


def check_fits(path: Path, record: dict, like: Any) -> None:
    """Raises InputError if the checkpoint has other leaves, shapes or dtypes."""
    changes = [
        f"{name} was {_text(old)}, now {_text(new)}"
        for name, (old, new) in files.differences(record["leaves"], kinds(like)).items()
    ]
    if changes:
        raise InputError(
            f"checkpoint {int(path.name)} in '{path.parent}' does not fit this config: "
            f"{preview(changes)}"
        )


def _text(kind: list | None) -> str:
    return "absent" if kind is None else f"{kind[1]}{kind[0]}"


# ---------------------------------------------------------------- preservation


class Stored(NamedTuple):
    """A checkpoint as orbax's preservation policies take it."""

    step: int
    time: datetime  # of saving
    metrics: dict[str, float]


def _stored(path: Path) -> Stored:
    try:
        record = disk.record(path)
    except (OSError, ValueError):  # reported when it is to be restored
        record = {}
    saved = datetime.fromtimestamp(record.get("time", path.stat().st_mtime), UTC)
    return Stored(int(path.name), saved, record.get("metrics", {}))


def kept(
    stored: list[Stored], *, keep: int, best: int, best_by: str, every_hours: float
) -> set[int]:
    """The steps that stay, of checkpoints in the order of their steps.

    BestN is given only those with a finite metric, because it would keep the others
    while they are few.
    """
    measured = [s for s in stored if math.isfinite(s.metrics.get(best_by, math.nan))]
    falling = best_by not in disk.HIGHER_IS_BETTER
    rules: list[tuple[Any, list[Stored]]] = [(LatestN(keep), stored)]
    if best:
        best_n = BestN(get_metric_fn=lambda m: m[best_by], reverse=falling, n=best)
        rules.append((best_n, measured))
    if every_hours > 0:
        rules.append((EveryNSeconds(round(3600 * every_hours)), stored))
    steps: set[int] = set()
    for policy, some in rules:
        stays = policy.should_preserve(some, context=PreservationContext())
        steps |= {one.step for one, stay in zip(some, stays, strict=True) if stay}
    return steps
