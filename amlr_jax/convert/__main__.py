"""Converts published PyTorch weights to a folder that training starts from.

    python -m amlr_jax.convert --source=SOURCE --input=FILE --output=DIR

SOURCE is simmim, swinv2, mim_depth, glpdepth, mit, dinov2, dinov3, depth_anything_v2,
resnet18, gvo, or monodepth2, whose input is the folder of its .pth files. Then:
amlr_jax.main ... --config.init_from=DIR.
"""

from absl import flags

from amlr_jax.runtime import command

_SOURCE = flags.DEFINE_string(
    "source", None, "Kind of the weights: simmim, swinv2, glpdepth, dinov3, ..."
)
_INPUT = flags.DEFINE_string("input", None, "File with the weights; a folder of them.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write; must be new.")
_MAX_DEPTH = flags.DEFINE_float(
    "max_depth",
    None,
    "Largest depth in metres of a whole network, which no tensor tells; default 80 as "
    "for KITTI, 10 fits NYUv2. Of depth_anything_v2: that of a metric network, 20 "
    "indoors and 80 outdoors; without it the network is relative.",
)


def main(argv: list[str]) -> None:
    """Converts what the flags name."""
    del argv
    # Imported here: a mistyped flag is reported before the seconds that jax takes.
    from amlr_jax.convert import conversion

    conversion.convert(
        str(_SOURCE.value),
        command.path_of(_INPUT),
        command.path_of(_OUTPUT),
        max_depth=_MAX_DEPTH.value,
    )


if __name__ == "__main__":
    command.run(main, required=["source", "input", "output"])
