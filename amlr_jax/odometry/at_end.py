"""The odometry of a self-supervised run at its end, where true poses are known."""

from pathlib import Path

from amlr_jax.data import sources, splits
from amlr_jax.data.kitti import listed
from amlr_jax.odometry import drives, pose_weights
from amlr_jax.odometry.drives import Drive
from amlr_jax.odometry.results import as_json, as_table, results, write_picture
from amlr_jax.odometry.run import RESULT
from amlr_jax.runtime import files
from amlr_jax.runtime.console import show
from amlr_jax.runtime.distributed import is_first
from amlr_jax.runtime.errors import InputError

PICTURE = "trajectory.png"
DRIVES = 2
FRAMES = 200  # of a drive, at most: this is a look, `amlr_jax.odometry` measures


def of_run(config, variables: dict, folder: Path) -> bool:
    """Leaves odometry.json and trajectory.png in `folder`; whether it did.

    Of two drives of `config.data`: those that are not trained on if there are such, as
    KITTI's of the Eigen test, else the first. Where the data has no poses, or none that
    can be read, or the run no pose network, it is one line or nothing. All processes
    call it; the first writes.

    Args:
      config: the run's.
      variables: {"params", "batch_stats"} of its state.
    """
    weights = pose_weights.of_state(config, variables)
    if weights is None or config.data.name not in sources.DRIVES:
        return False
    try:
        found, note = _chosen(Path(config.data.root), config.data)
        made = results(weights, found)
    except InputError as error:
        show(f"No trajectory: {error}")
        return False
    if is_first():
        values = as_json(made, weights.size, how="7dof", choice=note)
        files.write_json(folder / RESULT, values)
        write_picture(made, folder / PICTURE, how="7dof")
        show(as_table(made, how="7dof"), f"{RESULT}, {PICTURE}: {note}")
    return True


def _chosen(root: Path, data) -> tuple[list[Drive], str]:
    """A few drives, and what they are to the run."""
    names = drives.drives_with_poses(root)
    held_out = _held_out(names, data.list)
    chosen = (held_out or names)[:DRIVES]
    if not chosen:
        raise InputError(f"no drive under '{root}' has oxts records and calibration")
    found = [drives.first_frames(d, FRAMES) for d in drives.find_drives(root, chosen)]
    kind = "without a training frame" if held_out else "with training frames"
    return found, f"{len(found)} of {len(names)} drives with poses, {kind}"


def _held_out(names: list[str], train_list: str) -> list[str]:
    """Those not trained on: what is not listed; without a list, the Eigen test."""
    if train_list:
        trained = {row.drive for row in listed.named(train_list)}
        return [name for name in names if name not in trained]
    tested = splits.eigen_test(with_depth=False)
    return [name for name in names if name in tested]
