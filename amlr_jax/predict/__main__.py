"""Depth of your own images and videos.

    python -m amlr_jax.predict --checkpoint=DIR --input=WHAT --output=DIR [options]

DIR of --checkpoint is a run's workdir or what `amlr_jax.convert` wrote. WHAT is an
image of any size, a folder, a pattern in quotes ("frames/*.jpg") or a video. For each
image NAME, as --save says:

    png16          NAME_depth.png, 16-bit; predictions.json says codes a metre
    npy, npz       NAME_depth.npy, or .npz with `depth`; float32 metres
    disparity      NAME_disparity.npy, of self-supervised networks: float32 s in (0, 1),
                   1 / depth = 1 / far + (1 / near - 1 / far) s; near and far are
                   disparity_depths in predictions.json. It is not in pixels
    color          NAME_color.png, bright is near, with a scale in metres
    side_by_side   NAME_side_by_side.png, the image left of it
    ply            NAME_points.ply; x right, y down, z forward; needs a camera
    kitti          kitti.zip for the server of KITTI's depth prediction benchmark

Of a video, color and side_by_side are NAME_color.mp4 and NAME_side_by_side.mp4, and the
others a file for each frame in NAME/. predictions.json has size and depth range of
each. The same command again goes on with what is missing; for other weights or options
the folder is refused unless --overwrite is given. A file that cannot be read is
reported, the others go on; then the exit status is 1.
"""

import sys
from pathlib import Path

from absl import flags

from amlr_jax.runtime import command

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Workdir of a run, or a converted checkpoint."
)
_INPUT = flags.DEFINE_string("input", None, "Image, folder, pattern or video.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the results.")
_SAVE = flags.DEFINE_string(
    "save", None, "png16,npy,npz,disparity,color,side_by_side,ply,kitti; some of them."
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Images of one size at once.")
_TILE = flags.DEFINE_bool("tile", None, "In 16 overlapping squares, as MIM-Depth.")
_FLIP = flags.DEFINE_bool("flip", None, "The mean with the mirrored image.")
_INTRINSICS = flags.DEFINE_string(
    "intrinsics", None, "fx,fy,cx,cy in pixels; a .json; KITTI's calib_cam_to_cam.txt."
)
_FOV = flags.DEFINE_float("fov", None, "Horizontal field of view, in place of that.")
_PLY_STRIDE = flags.DEFINE_integer("ply_stride", None, "Pixels from point to point.")
_MAX_DEPTH = flags.DEFINE_float("max_depth", None, "Metres of the darkest colour.")
_LIMIT = flags.DEFINE_integer("limit", None, "Only so many images, or frames.")
_OVERWRITE = flags.DEFINE_bool("overwrite", None, "Replace what is in --output.")
_OPTIONS = (_BATCH_SIZE, _TILE, _FLIP, _INTRINSICS, _FOV)
_OPTIONS += (_PLY_STRIDE, _MAX_DEPTH, _LIMIT, _OVERWRITE)


def main(argv: list[str]) -> None:
    """Collects what was given and hands over."""
    del argv
    # Imported here: a mistyped flag is reported before the seconds that jax takes.
    from amlr_jax.predict import images_to_depth

    given = {flag.name: flag.value for flag in _OPTIONS if flag.value is not None}
    if _SAVE.value is not None:
        kinds = (kind.strip() for kind in _SAVE.value.split(","))
        given["save"] = tuple(dict.fromkeys(kinds))
    failed = images_to_depth.run(
        *(Path(f.value).expanduser() for f in (_CHECKPOINT, _INPUT, _OUTPUT)),
        images_to_depth.Options(**given),
    )
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    command.run(main, required=["checkpoint", "input", "output"])
