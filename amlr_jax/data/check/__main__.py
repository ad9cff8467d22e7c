"""Checks a data set before training.

    python -m amlr_jax.data.check --config=FILE[:variant] [--config.data.KEY=VALUE] \
        [--output=DIR]

Reads every training and test frame of the config and continues after each fault. For
self-supervision it lists the views and reads the test frames. The exit status is 1 if
there is a fault; warnings do not change it. With --output it writes check.json with
every name and check.png with twelve frames and their depth; without, it writes nothing.
The data set is not changed.
"""

import sys

from absl import flags

from amlr_jax.runtime import command

_CONFIG = command.config_flag()
_OUTPUT = flags.DEFINE_string(
    "output", "", "Folder for check.json and check.png; empty: print only."
)


def main(argv: list[str]) -> None:
    """Checks the data of the config; exit status 1 if a fault was found."""
    del argv
    # Imported here: a mistyped flag is reported before the seconds that jax takes.
    from amlr_jax import config as keys
    from amlr_jax.data.check.check_data import check
    from amlr_jax.data.check.findings import FAULT

    config = _CONFIG.value
    keys.check(config)
    found = check(
        config.data,
        max_depth=config.model.max_depth,
        video=keys.trains_on_video(config),
        output=command.path_of(_OUTPUT) if _OUTPUT.value else None,
    )
    if any(finding.level == FAULT for finding in found):
        sys.exit(1)


if __name__ == "__main__":
    command.run(main, required=["config"])
