"""The folder of a run: its file names, and its claim by one config.

Rank 0 makes and checks the folder. The other ranks check that they have the same config
and see the same folder.
"""

import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from amlr_jax.runtime import distributed
from amlr_jax.runtime.errors import InputError, preview
from amlr_jax.runtime.files import (
    changed,
    differences,
    flatten,
    make_writable,
    read_json,
)
from amlr_jax.runtime.locking import owned
from amlr_jax.runtime.rules import AUTO

# The files of a run.
CONFIG = "config.json"
CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
SPEED = "speed.jsonl"
TENSORBOARD = "tensorboard"
WRITERS = "writers.json"  # {writer of the log: its name of the run}
PROFILE = "profile"
PARAMETERS = "parameters.txt"
FACTS = "run.json"
INPUTS = "inputs.json"  # the frames and weights of the run
FRAMES = "frames.npz"
EVALUATION = "evaluation.json"
CALIBRATION = "calibration.json"  # also beside converted weights
SIDE_OUTPUTS = "resolutions.json"
CONFIDENCE = "confidence.json"
CONFIDENCE_PICTURE = "confidence.png"
PER_IMAGE = "per_image.csv"
COMPARISON = "comparison.json"
PREDICTIONS = "predictions.json"  # in a folder of predictions
FRAMES_PICTURE = "frames.png"
CURVES = "curves.png"
PANEL = "panel.png"
REPORT = "report.html"
ODOMETRY = "odometry.json"
TRAJECTORY = "trajectory.png"

# Keys that may change when a run continues, because they do not change the results.
FREE = {"checkpoint", "log", "eval", "steps", "parallel", "max_skipped"}
READING = ("data.root", "data.cache", "data.threads", "data.workers", "data.decoded")
FREE |= {"optimizer.span", *READING}
FREE |= {"model.attention", "model.remat", "compilation_cache", "accept_changes"}
# Keys that may differ between the processes of a run.
OF_A_HOST = (*READING, "init_from")
LOCK = ".lock"  # held by rank 0 as long as the run lasts
MARK = ".started"  # written by rank 0, read by the others
# Seconds until other hosts see a new file: NFS caches a listing for 60.
SEEN = 90


@contextmanager
def claim(
    folder: Path,
    config: dict,
    *,
    saved: dict | None = None,
    defaults: dict | None = None,
) -> Iterator[dict | None]:
    """Holds `folder` for a run of `config`; an error leaves no new, empty folder.

    Yields the config of the run so far in rank 0; None for a new run.

    Raises InputError if the folder cannot be written, holds a run of another config or
    is in use by another run, and if the processes of this one have different folders or
    configs. `saved` is the config in the newest checkpoint, which stands for a lost
    config.json. `defaults` of all keys are those of a run that an earlier version
    started, without the keys of this one.
    """
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    first = distributed.is_first()
    try:
        if first:
            make_writable(folder)
        lock = owned(folder / LOCK, what="workdir") if first else nullcontext()
        with lock:
            before = None
            if first:
                before = check_same_run(folder, config, saved=saved, defaults=defaults)
            _agree(folder, config)
            yield before
    except BaseException:
        for new in made if first else ():  # innermost first
            if new.is_dir() and not any(new.iterdir()):
                new.rmdir()
        raise


def _agree(folder: Path, config: dict) -> None:
    """Raises InputError if rank 0 has another config or another folder."""
    theirs = json.loads(distributed.from_first("config", json.dumps(config)))
    check_same_config(json.loads(json.dumps(config)), theirs)
    mark, text = folder / MARK, str(uuid.uuid4())
    first = distributed.is_first()
    if first and not distributed.is_alone():
        mark.write_text(text)
    text = distributed.from_first("workdir", text)
    try:
        if not first:
            _wait_for_mark(mark, text)
        distributed.meet("workdir seen", seconds=2 * SEEN)
    finally:
        if first:
            mark.unlink(missing_ok=True)


def check_same_config(ours: dict, theirs: dict) -> None:
    """Raises InputError if the config differs from that of rank 0."""
    changes = [
        f"{name} is {our}, there {their}"
        for name, (our, their) in differences(ours, theirs).items()
        if name not in OF_A_HOST
    ]
    if changes:
        raise InputError(
            f"this process has another config than process 0 "
            f"({preview(changes, limit=6)}); start all with the same options"
        )


def _wait_for_mark(mark: Path, text: str) -> None:
    until = time.monotonic() + SEEN
    while time.monotonic() < until:
        try:
            if mark.read_text() == text:
                return
            os.listdir(mark.parent)  # makes NFS ask the server
        except OSError:
            pass
        time.sleep(0.2)
    raise InputError(
        f"host {socket.gethostname()} does not see what process 0 writes to workdir "
        f"'{mark.parent}'; --workdir must be one folder that all hosts share"
    )


def check_same_run(
    folder: Path, config: dict, *, saved: dict | None, defaults: dict | None
) -> dict | None:
    """The config of the run in `folder`; raises InputError if it is another one's."""
    old = config_of(folder, saved=saved)
    if old is None:
        if (folder / CHECKPOINTS).exists():
            raise InputError(
                f"workdir '{folder}' holds checkpoints but no {CONFIG}, so they are "
                "another run's; choose another with --workdir=DIR"
            )
        return None
    known, set_here = flatten(old), differences(defaults or {}, config)
    changes = [
        changed(name, old, new)
        for name, (old, new) in differences(old, config).items()
        if not is_free(name)
        and old != AUTO  # chosen after it was saved
        and (name in known or name in set_here)  # not a later version's default
    ]
    if changes:
        raise InputError(
            f"workdir '{folder}' holds another run ({preview(changes, limit=6)}); "
            "choose another with --workdir=DIR or repeat its config"
        )
    return old


def config_of(folder: Path, *, saved: dict | None = None) -> dict | None:
    """The config of the run in `folder`: config.json, else `saved`, of a checkpoint."""
    path, remedy = folder / CONFIG, "choose another with --workdir=DIR"
    return read_json(path, remedy=remedy) if path.is_file() else saved


def is_free(name: str) -> bool:
    """Whether a dotted key may change when a run goes on."""
    return any(name == free or name.startswith(free + ".") for free in FREE)
