"""Depth of your own images and videos.

    python -m amlr_jax.predict --checkpoint=DIR --input=WHAT --output=DIR [options]

DIR of --checkpoint is a run's workdir, DIR@STEP or DIR@best for one checkpoint of it,
or what `amlr_jax.convert` wrote. WHAT is an image of any size, a folder, a pattern in
quotes ("frames/*.jpg") or a video. For each image NAME, the kinds of --save:

    png16          NAME_depth.png, 16-bit; codes a metre are in predictions.json
    npy, npz       NAME_depth.npy, or .npz with `depth`; float32 metres
    disparity      NAME_disparity.npy, of self-supervised networks: float32 s in (0, 1),
                   1 / depth = 1 / far + (1 / near - 1 / far) s; near and far are
                   disparity_depths in predictions.json. It is not in pixels
    confidence     NAME_confidence.npy, float32 in (0, 1]: exp(-s), s the standard
                   deviation of log depth over the views of --flip, or --flip --tile
    color          NAME_color.png, bright is near, with a scale in metres
    side_by_side   NAME_side_by_side.png, the image left of it
    ply            NAME_points.ply: x right, y down, z forward; needs a camera
    kitti          kitti.zip for the server of KITTI's depth prediction benchmark

Of a video, color and side_by_side are NAME_color.mp4 and NAME_side_by_side.mp4, H.264,
and the others a file for each frame in NAME/. All frames share the range of colours of
the first; --smooth also smooths the pictures over time, but not the arrays.

predictions.json has size and depth range of each, and the flicker of videos. The same
command again does what is missing; for other weights or options the folder is refused
unless --overwrite is given. A file that cannot be read is reported, the others are
predicted; then the exit status is 1.
"""

import sys

from absl import flags

from amlr_jax.runtime import command

_CHECKPOINT = command.checkpoint_flag()
_INPUT = flags.DEFINE_string("input", None, "Image, folder, pattern or video.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the results.")
_OPTIONS: list[flags.FlagHolder] = [
    flags.DEFINE_list(
        "save",
        "png16,npy,color",
        "Some of png16,npy,npz,disparity,confidence,color,side_by_side,ply,kitti.",
    ),
    flags.DEFINE_integer("batch_size", 1, "Images of one size at once.", lower_bound=1),
    flags.DEFINE_bool(
        "tile", False, "Test-time augmentation: the mean of 16 overlapping squares."
    ),
    flags.DEFINE_bool(
        "flip", False, "Test-time augmentation: the mean with the mirrored image."
    ),
    flags.DEFINE_string(
        "intrinsics",
        "",
        "fx,fy,cx,cy in pixels; a .json; KITTI's calib_cam_to_cam.txt.",
    ),
    flags.DEFINE_float("fov", None, "Instead: horizontal field of view in degrees."),
    flags.DEFINE_integer("ply_stride", 1, "Pixels from point to point.", lower_bound=1),
    flags.DEFINE_float("max_depth", None, "Metres of the darkest colour."),
    flags.DEFINE_integer(
        "limit", 0, "Most images, and frames of a video; 0: all.", lower_bound=0
    ),
    flags.DEFINE_float(
        "smooth",
        0.0,
        "Seconds over which the pictures of a video are smoothed; 0: not.",
        lower_bound=0.0,
    ),
    flags.DEFINE_bool("overwrite", False, "Replace what is in --output."),
]


def main(argv: list[str]) -> None:
    """Predicts with the flags as options."""
    del argv
    # Imported here: a mistyped flag is reported before the seconds that jax takes.
    from amlr_jax.predict import images_to_depth

    checkpoint, source, target = map(command.path_of, (_CHECKPOINT, _INPUT, _OUTPUT))
    options = images_to_depth.Options(**{f.name: f.value for f in _OPTIONS})
    if images_to_depth.run(checkpoint, source, target, options):
        sys.exit(1)


if __name__ == "__main__":
    command.run(main, required=["checkpoint", "input", "output"])
