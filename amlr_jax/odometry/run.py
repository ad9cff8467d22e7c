"""From weights and a folder of drives to their odometry: what the command does."""

from pathlib import Path

from amlr_jax.data.kitti import odometry
from amlr_jax.evaluate import presets
from amlr_jax.odometry import drives, pose_weights
from amlr_jax.odometry.align import ALIGNMENTS
from amlr_jax.odometry.drives import Drive
from amlr_jax.odometry.results import (
    Result,
    as_json,
    as_table,
    results,
    write_picture,
    write_poses,
)
from amlr_jax.odometry.steps import BATCH
from amlr_jax.runtime import files
from amlr_jax.runtime.console import show
from amlr_jax.runtime.errors import InputError, preview

RESULT = "odometry.json"
ALL = "all"


def run(
    checkpoint: Path,
    root: Path,
    output: Path,
    *,
    sequences: str = "",
    names: str = "",
    how: str = "7dof",
    batch_size: int = BATCH,
) -> list[Result]:
    """Measures the pose network in `checkpoint` on drives under `root`.

    `sequences` and `names` as in `find`; `how` is one of `align.ALIGNMENTS`. Leaves in
    `output` odometry.json, and of each drive NAME.txt, the predicted poses in KITTI's
    format and scaled to metres, and NAME.png. InputError for what a user can mend.
    """
    presets.require("--align", how, ALIGNMENTS)
    if batch_size < 1:
        raise InputError(f"--batch_size must be at least 1, got {batch_size}")
    found = find(root, sequences=sequences, names=names)
    weights = pose_weights.load(checkpoint)
    files.make_writable(output)
    made = results(weights, found, how=how, batch_size=batch_size)
    facts = {"weights": str(checkpoint), "step": weights.step}
    values = as_json(made, weights.size, how=how, **facts)
    files.write_json(output / RESULT, values)
    for result in made:
        name = result.drive.name
        write_poses(result, output / f"{name}.txt")
        write_picture([result], output / f"{name}.png", how=how)
    show(as_table(made, how=how))
    show(f"Results in {output}: {RESULT}; of each drive its poses and a picture")
    return made


def find(root: Path, *, sequences: str = "", names: str = "") -> list[Drive]:
    """The drives that `sequences` ("09,10") or `names` ("all", or names) stand for.

    Neither given: sequences 9 and 10 where `root` has poses, else all raw drives with
    oxts. InputError for what is not there.
    """
    if sequences and names:
        raise InputError("give --sequences or --drives, not both")
    if not root.is_dir():
        raise InputError(f"--root '{root}' is no folder")
    if sequences or (not names and (root / "poses").is_dir()):
        return drives.find_sequences(root, _numbers(sequences) or odometry.TEST)
    return drives.find_drives(root, () if names == ALL else _words(names))


def _numbers(text: str) -> list[int]:
    words = _words(text)
    wrong = [word for word in words if not word.isdecimal()]
    if wrong:
        raise InputError(f"--sequences must be numbers as 09,10; got {preview(wrong)}")
    return [*dict.fromkeys(map(int, words))]


def _words(text: str) -> list[str]:
    return [*dict.fromkeys(word.strip() for word in text.split(",") if word.strip())]
