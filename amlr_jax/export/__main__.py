"""A trained network as one file that runs without this library.

    python -m amlr_jax.export --checkpoint=DIR --output=FILE --format=stablehlo
    python -m amlr_jax.export --checkpoint=DIR --output=FILE --format=onnx

DIR of --checkpoint is a run's workdir or what `amlr_jax.convert` wrote. FILE holds the
network with its weights, for images of one height and width; FILE.json says what goes
in and comes out and how to load it. If FILE is a folder, the file in it is
depth.stablehlo or depth.onnx. The file is run and compared with the network before the
command ends well.
"""

from pathlib import Path

from absl import flags

from amlr_jax.runtime import command

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
    command.run(main, required=["checkpoint", "output", "format"])
