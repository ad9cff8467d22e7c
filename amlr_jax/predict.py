"""Depth of your own images.

    python -m amlr_jax.predict --checkpoint=DIR --input=IMAGE_OR_FOLDER --output=DIR

DIR of --checkpoint is a run's workdir or what `amlr_jax.convert` wrote. For each image
NAME, of any size: NAME_depth.png (16-bit), NAME_depth.npy (float32 metres) and
NAME_color.png. A file that is no image is reported, the others go on; then the exit
status is 1.
"""

import sys
from pathlib import Path

from absl import app, flags, logging

from amlr_jax.commands import parse, report_input_errors

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Workdir of a run, or a converted checkpoint."
)
_INPUT = flags.DEFINE_string("input", None, "Image, or folder of images.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the results.")


def main(argv: list[str]) -> None:
    """Checks the paths and hands over."""
    del argv
    logging.set_verbosity(logging.ERROR)
    # Imported here: a mistyped flag is reported before the seconds that jax takes.
    from amlr_jax.evaluation import images_to_depth

    failed = images_to_depth.run(
        *(Path(f.value).expanduser() for f in (_CHECKPOINT, _INPUT, _OUTPUT))
    )
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    flags.mark_flags_as_required(["checkpoint", "input", "output"])
    app.run(report_input_errors(main), flags_parser=parse, argv=sys.argv)
