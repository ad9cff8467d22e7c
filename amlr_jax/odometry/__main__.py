"""Measures a pose network on drives with known poses, and draws the trajectories.

    python -m amlr_jax.odometry --checkpoint=DIR --root=DIR --output=DIR [options]

DIR of --checkpoint is a self-supervised run's workdir, or monodepth2's weights as
`amlr_jax.convert` wrote them. --root is KITTI odometry (sequences/NN, poses/NN.txt),
raw KITTI with oxts, such as the embedded street, or your own recordings with poses as
TUM, KITTI or 7-Scenes write them (amlr_jax/odometry/own_recordings.py), of which it
takes the frames that the run's data.min_change keeps:

    --sequences=09,10     of KITTI odometry; the default where --root has poses
    --drives=all          or names as 2011_09_26_drive_0013; the default elsewhere

Writes odometry.json: the error over five frames as papers report it, ATE, RPE, and
KITTI's drift over 100 to 800 m; and for each drive NAME.txt, the predicted poses in
KITTI's format, scaled to metres, and NAME.png. By default the prediction is rotated,
moved and scaled to fit the truth first, since one camera gives no scale; --align=6dof,
scale or none allows less.
"""

from absl import flags

from amlr_jax.odometry.trajectories import ALIGNMENTS
from amlr_jax.runtime import command, files
from amlr_jax.runtime.errors import InputError

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Workdir of a run, or a converted checkpoint."
)
_ROOT = flags.DEFINE_string("root", None, "Folder of KITTI, or of own recordings.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the results.")
_SEQUENCES = flags.DEFINE_list("sequences", [], "Of KITTI odometry, as 09,10.")
_DRIVES = flags.DEFINE_list("drives", [], "Of raw KITTI: all, or their names.")
_ALIGN = flags.DEFINE_enum("align", "7dof", list(ALIGNMENTS), "What is fitted.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Image pairs.", lower_bound=1)


def main(argv: list[str]) -> None:
    """Finds the drives, predicts, measures and writes."""
    del argv
    # Imported here: a mistyped flag is reported before the seconds that jax takes.
    from amlr_jax.data.prepared import cache_folder
    from amlr_jax.odometry import drives, own_recordings, pose_network, results
    from amlr_jax.runtime import compilation

    checkpoint, root, output = map(command.path_of, (_CHECKPOINT, _ROOT, _OUTPUT))
    if output.resolve().is_relative_to(root.resolve()):
        raise InputError(
            f"--output '{output}' must not be in --root='{root}', whose poses have the "
            "same names as the results; choose another"
        )
    is_kitti = any((root / part).is_dir() for part in ("sequences", "raw_data"))
    if is_kitti or _SEQUENCES.value or _DRIVES.value or not root.is_dir():
        found = drives.find(root, sequences=_SEQUENCES.value, names=_DRIVES.value)
    else:
        found = own_recordings.find(pose_network.data_of(checkpoint, root))
    compilation.use_cache(cache_folder(""))
    weights = pose_network.load(checkpoint)
    files.make_writable(output, option="output")
    batch_size = _BATCH_SIZE.value or pose_network.BATCH
    made = results.measure_drives(
        weights, found, how=_ALIGN.value, batch_size=batch_size
    )
    facts = {"weights": str(checkpoint), "step": weights.step, "size": weights.size}
    results.write(made, output, how=_ALIGN.value, **facts)


if __name__ == "__main__":
    command.run(main, required=["checkpoint", "root", "output"])
