"""Trains a depth network.

    python -m amlr_jax.main --config=FILE[:variant] --workdir=DIR [--config.KEY=VALUE]

The same command again continues from the newest checkpoint in DIR. The scripts in
`launch/` start it in several processes, on one machine or on many.
"""

from absl import flags

from amlr_jax.config import check, networks
from amlr_jax.runtime import command, distributed, signals

__doc__ = f"{__doc__}\n{networks()}\n"  # what --help shows

_CONFIG = command.config_flag()
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run; made if missing.")


def main(argv: list[str]) -> None:
    """Checks the config, joins the other processes and trains."""
    del argv
    config = _CONFIG.value
    check(config)
    with signals.ending_at_once():
        distributed.start(heartbeat=config.parallel.heartbeat)
        with distributed.ending_together():
            # Here, because a mistyped flag is reported before jax's seconds of import.
            from amlr_jax import pipeline

            pipeline.train(config, command.path_of(_WORKDIR))


if __name__ == "__main__":
    command.run(main, required=["config", "workdir"])
