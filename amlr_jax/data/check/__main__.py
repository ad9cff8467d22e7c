"""Checks a data set before training.

    python -m amlr_jax.data.check --config=FILE[:variant] [--config.data.KEY=VALUE]
        [--output=DIR]

Reads every training and test frame of the config and continues after each fault. For
self-supervision it lists the views and reads the test frames. The exit status is 1 if
there is a fault; warnings do not change it. With --output it writes check.json with
every name and check.png with twelve frames and their depth; without, it writes nothing.
The sets of data.mix are checked one after the other, each with a folder in --output.
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
    from amlr_jax.runtime.console import show

    config = _CONFIG.value
    keys.check(config)
    output = command.path_of(_OUTPUT) if _OUTPUT.value else None
    each_set, found = keys.of_each_set(config), []
    several = len(each_set) > 1
    for label, one in each_set.items():
        if several:
            show(f"\n{label}, weight {one.data.weight or 1:g}:")
        found += check(
            one.data,
            max_depth=config.model.max_depth,
            video=keys.trains_on_video(config),
            output=output / label if output and several else output,
        )
    if any(finding.level == FAULT for finding in found):
        sys.exit(1)


if __name__ == "__main__":
    command.run(main, required=["config"])
