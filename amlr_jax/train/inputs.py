"""inputs.json: the frames that a run trains and tests on, and the weights of its start.

    train, test    names of frames or views, in order; `files`, a hash of their sizes
    init_from      the folder of the weights, and a hash of its files
    changes        what changed between two starts and was accepted: step, what

A run that continues must find them again: frames that moved from training to the test
would make its results look better than they are.
"""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from amlr_jax.models import pretrained
from amlr_jax.runtime import files, paths, workdir
from amlr_jax.runtime.errors import InputError, counted, preview

PARTS = {"train": "training", "test": "test"}  # and their names in messages


def checked(
    folder: Path, config: ConfigDict, *, train_sets: Any, test_sets: Any
) -> dict:
    """The content of inputs.json for this start.

    Raises InputError if a run that has a checkpoint began with others, unless
    `config.accept_changes`.
    """
    now: dict[str, Any] = {
        "train": train_sets.contents("train")._asdict(),
        "test": test_sets.contents("test")._asdict(),
    }
    if config.init_from:
        source = paths.expanded(config.init_from)
        mark = pretrained.fingerprint(source)
        now["init_from"] = {"folder": str(source), "files": mark}
    path, step = folder / workdir.INPUTS, pretrained.newest_step(folder)
    before: dict = {}
    if step is not None and path.is_file():
        remedy = "remove it if the data set is still the same"
        before = files.read_json(path, *PARTS, remedy=remedy)
    now = json.loads(json.dumps(now)) | {"changes": before.get("changes", [])}
    changes = _changes(before, now) if before else []
    if changes and not config.accept_changes:
        raise InputError(
            f"the run in '{folder}' began with another set of data or weights: "
            f"{'; '.join(changes)}. Restore them, or choose another --workdir=DIR; "
            "--config.accept_changes=True goes on and records it"
        )
    if changes and step is not None:
        now["changes"].append({"step": int(step.name), "what": changes})
    if not now.get("init_from", {}).get("files") and "init_from" in before:
        now["init_from"] = before["init_from"]  # the folder is gone
    return now


def _changes(before: dict, now: dict) -> list[str]:
    """What differs, a sentence each."""
    found = []
    for (part, what), (other, there) in permutations(PARTS.items()):
        old, new = before[part], now[part]
        kept, known = set(new["names"]), {*old["names"], *before[other]["names"]}
        elsewhere = set(now[other]["names"])
        lost = [name for name in old["names"] if name not in kept]
        cases = {
            f"now in the {there}": [name for name in lost if name in elsewhere],
            "gone": [name for name in lost if name not in elsewhere],
            "new": [name for name in new["names"] if name not in known],
        }
        for text, names in cases.items():
            if names:
                count = counted(len(names), f"{what} frame")
                found.append(f"{count} {text} ({preview(names)})")
        if old != new and kept == set(old["names"]):
            same = old["names"] == new["names"]
            how = "have files of other sizes" if same else "are in another order"
            found.append(f"{what} frames {how}")
    weights = [side.get("init_from", {}) for side in (before, now)]
    marks = [side.get("files") for side in weights]
    if all(marks) and marks[0] != marks[1]:
        found.append(f"init_from '{weights[1]['folder']}' holds other weights")
    return found
