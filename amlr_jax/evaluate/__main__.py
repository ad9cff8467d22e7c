"""Evaluates a depth network on the test frames of a config.

    python -m amlr_jax.evaluate --config=FILE[:variant] --workdir=DIR \
        [--protocol=NAME] [--test_mode=MODE] [--checkpoint=DIR] [--resolutions] \
        [--config.KEY=VALUE]

Writes evaluation.json, per_image.csv and frames.png to --workdir, the workdir of a run;
with --checkpoint, which is the workdir of a run or a folder of `amlr_jax.convert`, it
may be any folder. --protocol and --test_mode set --config.eval.protocol and
--config.eval.test_mode. --resolutions also evaluates each side output of a
self-supervised network, as Table 4 of "Better SSIM", and writes resolutions.json.
"""

from absl import flags

from amlr_jax.runtime import command

_CONFIG = command.config_flag()
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run and of the results.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    None,
    "Other weights: a run, its DIR@STEP or DIR@best; or converted.",
)
_PROTOCOL = flags.DEFINE_string("protocol", None, "Name of the evaluation protocol.")
_TEST_MODE = flags.DEFINE_string("test_mode", None, "Test-time augmentation.")
_RESOLUTIONS = flags.DEFINE_bool(
    "resolutions", False, "Also evaluate each side output of a self-supervised network."
)


def main(argv: list[str]) -> None:
    """Sets the config from the flags and evaluates."""
    del argv
    # Imported here: a mistyped flag is reported before the seconds that jax takes.
    from amlr_jax.evaluate import evaluator

    config = _CONFIG.value
    for key, flag in (("protocol", _PROTOCOL), ("test_mode", _TEST_MODE)):
        if flag.value is not None:
            config.eval[key] = flag.value
    evaluator.evaluate_weights(
        config,
        command.path_of(_WORKDIR),
        command.path_of(_CHECKPOINT) if _CHECKPOINT.value else None,
        resolutions=_RESOLUTIONS.value,
    )


if __name__ == "__main__":
    command.run(main, required=["config", "workdir"])
