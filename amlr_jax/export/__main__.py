"""A trained network as one file that runs without this library.

    python -m amlr_jax.export --checkpoint=DIR --output=FILE

DIR of --checkpoint is a run's workdir, DIR@STEP or DIR@best for one checkpoint of it,
or what `amlr_jax.convert` wrote. FILE holds the network with its weights as StableHLO,
for images of one --height and --width, by default those of the training; FILE.json
describes input and output and how to load it. If FILE is a folder, the file in it is
depth.stablehlo. The exported network is run and compared with the original; if they
differ, nothing is written and the exit status is 1.

ONNX is not supported: jax2onnx (0.17) converts neither antialiased resizing nor padded
max pooling nor, where it works, any number of images.
"""

from absl import flags

from amlr_jax.runtime import command

_CHECKPOINT = command.checkpoint_flag()
_OUTPUT = flags.DEFINE_string("output", None, "New file to write, or its folder.")
flags.DEFINE_enum("format", "stablehlo", ["stablehlo"], "StableHLO for jax.export.")
_SIZE = [
    flags.DEFINE_integer("height", None, "Of the images, pixels.", lower_bound=1),
    flags.DEFINE_integer("width", None, "Of the images, pixels.", lower_bound=1),
]
_BATCH = flags.DEFINE_string("batch", "dynamic", "Images per call: dynamic, or N.")
_PLATFORMS = flags.DEFINE_list("platforms", "cpu,cuda", "Some of cpu, cuda, tpu.")


def main(argv: list[str]) -> None:
    """Passes the flags on."""
    del argv
    # Imported here: a mistyped flag is reported before the seconds that jax takes.
    from amlr_jax.export import stablehlo

    stablehlo.run(
        command.path_of(_CHECKPOINT),
        command.path_of(_OUTPUT),
        **{flag.name: flag.value for flag in _SIZE},
        batch=_BATCH.value,
        platforms=_PLATFORMS.value,
    )


if __name__ == "__main__":
    command.run(main, required=["checkpoint", "output"])
