"""A trained network as a folder to give away, without pickles.

    python -m amlr_jax.share --checkpoint=DIR --output=DIR [--licence=NAME]
        [--push=USER/NAME]
    python -m amlr_jax.share --checkpoint=DIR --output=DIR --format=torch

DIR of --checkpoint is a run's workdir, DIR@STEP or DIR@best for one checkpoint of it,
or what `amlr_jax.convert` wrote. The first writes model.safetensors, model.json, the
run's config without the paths of this machine, its calibration, a picture and a model
card, README.md. Every --checkpoint and init_from takes the folder, and after --push,
which uploads it to the Hugging Face hub, hf://USER/NAME.

The second writes the parameters of a Swin-v2, GLPDepth, monodepth2 or Depth Anything V2
network under the names of its PyTorch original, as .safetensors files.
"""

from absl import flags

from amlr_jax.runtime import command
from amlr_jax.runtime.errors import InputError

_CHECKPOINT = command.checkpoint_flag()
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write; must be new.")
_FORMAT = flags.DEFINE_enum(
    "format", "jax", ["jax", "torch"], "Names and layout of the parameters."
)
_LICENCE = flags.DEFINE_string(
    "licence", None, "Of the weights, as the hub names it: apache-2.0, cc-by-nc-4.0."
)
_PUSH = flags.DEFINE_string("push", None, "Repository of the hub to upload to.")


def main(argv: list[str]) -> None:
    """Passes the flags on."""
    del argv
    if _FORMAT.value == "torch" and (_PUSH.value or _LICENCE.value):
        raise InputError("--push and --licence are for --format=jax; leave them out")
    # Imported here: a mistyped flag is reported before the seconds that jax takes.
    from amlr_jax.share import hub, reference

    places = command.path_of(_CHECKPOINT), command.path_of(_OUTPUT)
    if _FORMAT.value == "torch":
        reference.write(*places)
    else:
        licence = _LICENCE.value and _LICENCE.value.lower()
        hub.share(*places, licence=licence, repository=_PUSH.value)


if __name__ == "__main__":
    command.run(main, required=["checkpoint", "output"])
