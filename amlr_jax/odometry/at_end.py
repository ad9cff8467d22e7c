"""The odometry of a self-supervised run at its end, where true poses are known."""

from pathlib import Path

from ml_collections import ConfigDict

from amlr_jax.config import VIDEO
from amlr_jax.data import recordings, splits
from amlr_jax.data.kitti.files import read_list
from amlr_jax.odometry import drives, own_recordings, pose_network, results
from amlr_jax.odometry.drives import Drive
from amlr_jax.runtime import files, paths, workdir
from amlr_jax.runtime.console import show
from amlr_jax.runtime.distributed import is_first
from amlr_jax.runtime.errors import InputError

DRIVES = 2
FRAMES = 200  # of a drive, at most: `amlr_jax.odometry` measures whole drives


def of_run(config: ConfigDict, variables: dict, folder: Path) -> bool:
    """Writes odometry.json and trajectory.png to `folder`; returns whether it did.

    Measures two drives of `config.data`: the first ones without a training frame, as
    KITTI's of the Eigen test, or the first ones if all have some. Prints one line where
    the data has no readable poses, and nothing where the run has no pose network. All
    processes call it; the first writes.

    Args:
      config: the run's.
      variables: {"params", "batch_stats"} of its state.
    """
    weights = pose_network.of_state(config, variables)
    if weights is None or config.data.name not in VIDEO:
        return False
    try:
        found, choice = _chosen(paths.expanded(config.data.root), config.data)
        made = results.measure_drives(weights, found, how="7dof")
    except InputError as error:
        show(f"No trajectory: {error}")
        return False
    if is_first():
        facts = {"size": weights.size, "choice": choice}
        values = results.as_json(made, how="7dof", **facts)
        files.write_json(folder / workdir.ODOMETRY, values)
        results.write_picture(made, folder / workdir.TRAJECTORY, how="7dof")
        show(results.as_table(made, how="7dof"))
        show(f"{workdir.ODOMETRY}, {workdir.TRAJECTORY}: {choice}")
    return True


def _chosen(root: Path, data: ConfigDict) -> tuple[list[Drive], str]:
    """A few drives, and a sentence on whether the run was trained on them."""
    if data.name == recordings.NAME:
        own = own_recordings.find(data, limit=FRAMES)
        some = own[:DRIVES]
        return some, f"{len(some)} of {len(own)} recordings with poses, of the training"
    names = drives.drives_with_poses(root)
    held_out = _held_out(names, data.list)
    chosen = (held_out or names)[:DRIVES]
    if not chosen:
        raise InputError(f"no drive under '{root}' has oxts records and calibration")
    found = [drives.raw_drive(root, name, limit=FRAMES) for name in chosen]
    kind = "without a training frame" if held_out else "with training frames"
    return found, f"{len(found)} of {len(names)} drives with poses, {kind}"


def _held_out(names: list[str], train_list: str) -> list[str]:
    """The drives that the list does not name; without one, those of the Eigen test."""
    if train_list:
        trained = {row.drive for row in read_list(train_list)}
        return [name for name in names if name not in trained]
    tested = splits.eigen_test(with_depth=False)
    return [name for name in names if name in tested]
