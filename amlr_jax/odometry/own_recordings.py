"""Your own recordings with true poses, as drives.

The poses are those of the camera in the world (world from camera), in metres:

    ROOT/poses/<recording>.txt      lines of `timestamp tx ty tz qx qy qz qw` (TUM) or
                                    of a matrix 3 x 4 (KITTI), a line a frame; of TUM
                                    the nearest line where names are timestamps
    ROOT/groundtruth.txt            the same of the only recording
    ROOT/poses/<recording>/<name>.txt, <name>.pose.txt beside the frame, or
    ROOT/poses/<name>.txt           of the only recording: a matrix 4 x 4 (7-Scenes)

A pose that is not finite is none.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from scipy.spatial.transform import Rotation

from amlr_jax.data import custom, recordings
from amlr_jax.data.calibration import read_table
from amlr_jax.odometry.drives import Drive, longest_run, require_steps
from amlr_jax.runtime import paths
from amlr_jax.runtime.console import bar
from amlr_jax.runtime.errors import InputError, counted

AGREE = 0.02  # seconds between a frame and its pose, in TUM's own association
SKEWED = 0.01  # of R R^T from the identity; 7-Scenes has 4e-4
# A pose may be left out as NaN.
_numbers = partial(read_table, what="poses", finite=False)


def find(data: ConfigDict, *, limit: int | None = None) -> list[Drive]:
    """The recordings of `config.data` that have poses, or their first `limit` frames.

    Of each the longest run with poses among the frames that data.min_change keeps.
    InputError if none has poses, and for poses that are damaged or of other frames.
    """
    root, found = paths.expanded(data.root), recordings.find(data).images
    made = []
    for name, every in found.items():
        poses, source = _poses(root, name, every, alone=len(found) == 1)
        if not poses:
            continue
        with bar("Comparing frames", len(every)) as shown:
            kept = recordings.moving(every, data, shown.advance)
        run = longest_run(n for n, image in enumerate(kept) if image.key in poses)
        require_steps(f"recording '{name}' with poses", len(run))
        some = [kept[n] for n in run][:limit]
        note = f"{len(some)} of {counted(len(every), 'frame')}: consecutive ones with "
        note += f"poses, data.min_change={data.min_change:g}"
        world = np.stack([poses[image.key] for image in some])
        files = tuple(image.path for image in some)
        label = name.replace("/", "_") or root.resolve().name
        truth = np.linalg.inv(world[0]) @ world
        made.append(Drive(label, files, truth, source, (note,)))
    if not made:
        raise InputError(
            f"no recording under '{root}' has poses: expected poses/<recording>.txt as "
            "TUM or KITTI write them, or poses/<name>.txt for each frame as 7-Scenes; "
            "or sequences/ or raw_data/ of KITTI"
        )
    return made


def _poses(
    root: Path, name: str, every: Sequence[recordings.Image], *, alone: bool
) -> tuple[dict[str, np.ndarray], str]:
    """world_from_camera [4, 4] by the key of the frame, and where it was found."""
    whole = [root / "poses" / f"{name}.txt"] if name else []
    for path in whole + [root / "groundtruth.txt"] * alone:
        if path.is_file():
            return _of_lines(path, every), str(path.relative_to(root))
    found: dict[str, np.ndarray] = {}
    for image in every:
        key = custom.bare(image.key, "rgb") or image.key
        leaf = key.rpartition("/")[2]
        places = [root / "poses" / f"{key}.txt"]
        places += [image.path.with_name(f"{leaf}.pose.txt")]
        places += [root / "poses" / f"{leaf}.txt"] * alone
        file = next((place for place in places if place.is_file()), None)
        if file:
            matrix = _numbers(file, "4 x 4 numbers", widths=(4,))
            if len(matrix) != 4:
                raise InputError(f"poses '{file}' must hold 4 x 4 numbers")
            found |= _valid([image.key], matrix[None], file)
    return found, "a file for each frame"


def _of_lines(path: Path, every: Sequence[recordings.Image]) -> dict[str, np.ndarray]:
    """The pose of each frame from the lines of one file."""
    rows = _numbers(path, "lines of 8 numbers (TUM) or 12 (KITTI)", widths=(8, 12))
    keys = [image.key for image in every]
    names = [key.rpartition("/")[2] for key in keys]
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    if rows.shape[1] == 12:
        poses[:, :3] = rows.reshape(-1, 3, 4)
    else:
        turned = np.isfinite(rows).all(1) & (rows[:, 4:] != 0).any(1)
        poses[:, :3, 3] = rows[:, 1:4]
        poses[~turned] = np.nan
        poses[turned, :3, :3] = Rotation.from_quat(rows[turned, 4:]).as_matrix()
        if all(re.fullmatch(r"\d+\.\d+", name) for name in names):
            apart = abs(np.array(names, np.float64)[:, None] - rows[:, 0])
            nearest, near = apart.argmin(1), apart.min(1) <= AGREE
            keys = [key for key, good in zip(keys, near, strict=True) if good]
            poses = poses[nearest[near]]
    if len(keys) != len(poses):
        raise InputError(
            f"poses '{path}' has {counted(len(poses), 'line')} and its recording "
            f"{counted(len(keys), 'frame')}; give a line for each frame"
        )
    return _valid(keys, poses, path)


def _valid(keys: Sequence[str], poses: np.ndarray, path: Path) -> dict[str, np.ndarray]:
    """The finite poses by key; InputError for a matrix that is no rotation."""
    made = {}
    for key, pose in zip(keys, poses, strict=True):
        if not np.isfinite(pose).all():
            continue
        turn = pose[:3, :3]
        if abs(turn @ turn.T - np.eye(3)).max() > SKEWED or np.linalg.det(turn) < 0:
            raise InputError(f"poses '{path}': that of {key} is no rotation")
        made[key] = np.eye(4)
        made[key][:3] = np.c_[Rotation.from_matrix(turn).as_matrix(), pose[:3, 3]]
    return made
