"""Turns the depth of a network into metres, by known distances.

    python -m amlr_jax.calibrate --checkpoint=DIR --points=FILE.csv [--images=DIR]
    python -m amlr_jax.calibrate --checkpoint=DIR --ground_truth=DIR --images=DIR

DIR of --checkpoint is a run's workdir, DIR@STEP or DIR@best, or what `amlr_jax.convert`
wrote. FILE.csv has lines image,x,y,metres: a pixel of an image, counted from the centre
of the first, and its depth along the optical axis. --ground_truth holds depth maps,
which may be sparse, as .png (16-bit), .npy, .npz, .tif or .exr; names are matched with
those of --images as in own folders.

metres = factor * depth of the network. The factor is the median over all known
distances, which a few wrong ones do not move; --shift also fits metres to be added. It
is written to calibration.json beside the weights, with its 95 % interval. predict,
evaluate, export and amlr_jax.load apply it. A network that predicts metres already may
be calibrated, too, for a camera unlike that of its training. To go back, remove the
file.
"""

from absl import flags

from amlr_jax.runtime import command, paths
from amlr_jax.runtime.errors import InputError

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Workdir of a run, or its DIR@STEP or DIR@best; or converted."
)
_POINTS = flags.DEFINE_string("points", None, "CSV file of image,x,y,metres.")
_GROUND_TRUTH = flags.DEFINE_string("ground_truth", None, "Folder of depth maps.")
_IMAGES = flags.DEFINE_string("images", None, "Folder of the images.")
_DEPTH_SCALE = flags.DEFINE_float(
    "depth_scale",
    0.0,
    "Stored value of a metre in --ground_truth, KITTI's 256; 0: 1000 in PNGs, else 1.",
    lower_bound=0.0,
)
_SHIFT = flags.DEFINE_bool("shift", False, "Fit metres to be added, too.")


def main(argv: list[str]) -> None:
    """Checks which distances are given, and calibrates."""
    del argv
    points, truth, folder = (
        paths.expanded(flag.value) if flag.value else None
        for flag in (_POINTS, _GROUND_TRUTH, _IMAGES)
    )
    if (points is None) == (truth is None) or (truth is not None and folder is None):
        raise InputError(
            "give known distances: --points=FILE.csv, or --ground_truth=DIR with "
            "--images=DIR"
        )
    # Imported here: a mistyped flag is reported before the seconds that jax takes.
    from amlr_jax.calibrate import calibrate

    calibrate.run(
        command.path_of(_CHECKPOINT),
        points=points,
        truth=truth,
        images=folder,
        depth_scale=_DEPTH_SCALE.value,
        with_shift=_SHIFT.value,
    )


if __name__ == "__main__":
    command.run(main, required=["checkpoint"])
