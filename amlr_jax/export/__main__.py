"""A trained network as one file that runs without this library.

    python -m amlr_jax.export --checkpoint=DIR --output=FILE --format=stablehlo
    python -m amlr_jax.export --checkpoint=DIR --output=FILE --format=onnx

DIR of --checkpoint is a run's workdir or what `amlr_jax.convert` wrote. FILE holds the
network with its weights, for images of one height and width; FILE.json says what goes
in and comes out and how to load it. If FILE is a folder, the file in it is
depth.stablehlo or depth.onnx. The file is run and compared with the network before the
command ends well.
"""

import sys
from pathlib import Path

from absl import app, flags, logging

from amlr_jax.runtime.command import parse, report_input_errors

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Workdir of a run, or a converted checkpoint."
)
_OUTPUT = flags.DEFINE_string("output", None, "File to write, or its folder; new.")
_FORMAT = flags.DEFINE_enum(
    "format", None, ["stablehlo", "onnx"], "StableHLO for jax.export, or ONNX."
)
_HEIGHT = flags.DEFINE_integer("height", 352, "Of the images, pixels.", lower_bound=1)
_WIDTH = flags.DEFINE_integer("width", 1216, "Of the images, pixels.", lower_bound=1)
_BATCH = flags.DEFINE_string("batch", "dynamic", "Images at once: dynamic, or N.")
_PLATFORMS = flags.DEFINE_list(
    "platforms", None, "Of StableHLO: some of cpu, cuda, tpu; default cpu,cuda."
)


def main(argv: list[str]) -> None:
    """Hands the flags over."""
    del argv
    logging.set_verbosity(logging.ERROR)  # notes of orbax
    # Imported here: a mistyped flag is reported before the seconds that jax takes.
    from amlr_jax.export import exporting

    exporting.run(
        Path(_CHECKPOINT.value).expanduser(),
        Path(_OUTPUT.value).expanduser(),
        _FORMAT.value,
        size=(_HEIGHT.value, _WIDTH.value),
        batch=_BATCH.value,
        platforms=_PLATFORMS.value,
    )


if __name__ == "__main__":
    flags.mark_flags_as_required(["checkpoint", "output", "format"])
    app.run(report_input_errors(main), flags_parser=parse, argv=sys.argv)
