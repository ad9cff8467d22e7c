"""Turns the depth of a network into metres, by known distances.

    python -m amlr_jax.calibrate --checkpoint=DIR --points=FILE.csv [--images=DIR]
    python -m amlr_jax.calibrate --checkpoint=DIR --ground_truth=DIR --images=DIR
    python -m amlr_jax.calibrate --checkpoint=DIR --camera_height=METRES --images=DIR
        --intrinsics=fx,fy,cx,cy

DIR of --checkpoint is a run's workdir, DIR@STEP or DIR@best, or what `amlr_jax.convert`
wrote. FILE.csv has lines image,x,y,metres: a pixel of an image, counted from the centre
of the first, and its depth along the optical axis. --ground_truth holds depth maps,
which may be sparse, as .png (16-bit), .npy, .npz, .tif or .exr; names are matched with
those of --images as in own folders. --camera_height is that over a level road, which
must fill the middle of the lower part of the images; the camera is given as in predict.

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

_CHECKPOINT = command.checkpoint_flag()
_POINTS = flags.DEFINE_string("points", None, "CSV file of image,x,y,metres.")
_GROUND_TRUTH = flags.DEFINE_string("ground_truth", None, "Folder of depth maps.")
_IMAGES = flags.DEFINE_string("images", None, "Folder of the images.")
_HEIGHT = flags.DEFINE_float("camera_height", None, "Metres over the road.")
_INTRINSICS = flags.DEFINE_string(
    "intrinsics", "", "fx,fy,cx,cy in pixels; a .json; KITTI's calib_cam_to_cam.txt."
)
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
    height = _HEIGHT.value
    if (points, truth, height).count(None) != 2 or (points is None and folder is None):
        raise InputError(
            "give known distances in one way: --points=FILE.csv, or --images=DIR with "
            "--ground_truth=DIR or --camera_height=METRES"
        )
    if height is not None and not (height > 0 and _INTRINSICS.value):
        raise InputError(
            f"--camera_height must be above 0, with --intrinsics; got {height:g} and "
            f"'{_INTRINSICS.value}'"
        )
    if height is not None and _SHIFT.value:
        raise InputError("--shift needs different distances; leave out --camera_height")
    # Imported here: a mistyped flag is reported before the seconds that jax takes.
    from amlr_jax.calibrate import calibrate, known
    from amlr_jax.data import cameras

    source = str(points or truth or f"height {height} m over the road")
    camera = cameras.reader(_INTRINSICS.value)
    if points:
        given = known.of_points(points, folder)
    elif truth and folder:
        given = known.of_folders(folder, truth, depth_scale=_DEPTH_SCALE.value)
    elif height and folder and camera:
        given = known.of_camera(folder, height, camera)
    checkpoint = command.path_of(_CHECKPOINT)
    calibrate.run(checkpoint, given, source=source, with_shift=_SHIFT.value)


if __name__ == "__main__":
    command.run(main, required=["checkpoint"])
