"""Measures a pose network on drives with known poses, and draws where it thinks it was.

    python -m amlr_jax.odometry --checkpoint=DIR --root=DIR --output=DIR [options]

DIR of --checkpoint is a self-supervised run's workdir, or monodepth2's weights as
`amlr_jax.convert` wrote them. --root is KITTI odometry (sequences/NN, poses/NN.txt) or
raw KITTI with oxts, such as the embedded street:

    --sequences=09,10     of KITTI odometry; the default where --root has poses
    --drives=all          or names as 2011_09_26_drive_0013; the default elsewhere

Leaves odometry.json: the error over five frames as papers report it, ATE, RPE, and
KITTI's drift over 100 to 800 m; and of each drive NAME.txt, the predicted poses in
KITTI's format, scaled to metres, and NAME.png. Without --align=6dof, scale or none the
whole prediction is rotated, moved and scaled onto the truth first, since poses of one
camera have no scale.
"""

from pathlib import Path

from absl import flags

from amlr_jax.runtime import command

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Workdir of a run, or a converted checkpoint."
)
_ROOT = flags.DEFINE_string("root", None, "Folder of KITTI odometry, or of raw KITTI.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the results.")
_SEQUENCES = flags.DEFINE_string("sequences", None, "Of KITTI odometry, as 09,10.")
_DRIVES = flags.DEFINE_string("drives", None, "Of raw KITTI: all, or their names.")
_ALIGN = flags.DEFINE_string("align", None, "7dof (default), 6dof, scale or none.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Pairs of images at once.")
_OPTIONS = {"sequences": _SEQUENCES, "names": _DRIVES, "how": _ALIGN}
_OPTIONS |= {"batch_size": _BATCH_SIZE}


def main(argv: list[str]) -> None:
    """Hands the flags over."""
    del argv
    # Imported here: a mistyped flag is reported before the seconds that jax takes.
    from amlr_jax.odometry import run

    given = {k: flag.value for k, flag in _OPTIONS.items() if flag.value is not None}
    paths = (Path(f.value).expanduser() for f in (_CHECKPOINT, _ROOT, _OUTPUT))
    run.run(*paths, **given)


if __name__ == "__main__":
    command.run(main, required=["checkpoint", "root", "output"])
