"""All commands by one name: `amlr-jax COMMAND` or `python -m amlr_jax COMMAND`."""

import runpy
import sys

# The name of a command to the module that `python -m` runs, with what it does.
COMMANDS = {
    "train": ("amlr_jax.main", "train a network"),
    "check": ("amlr_jax.data.check", "check a data set before training"),
    "evaluate": ("amlr_jax.evaluate", "measure a network on its test frames"),
    "predict": ("amlr_jax.predict", "depth of images and videos"),
    "app": ("amlr_jax.app", "a page on which images become depth"),
    "calibrate": ("amlr_jax.calibrate", "depth in metres, from known distances"),
    "report": ("amlr_jax.report", "one page of one or several runs"),
    "odometry": ("amlr_jax.odometry", "measure a pose network"),
    "convert": ("amlr_jax.convert", "PyTorch weights to start from"),
    "export": ("amlr_jax.export", "a network as StableHLO"),
    "share": ("amlr_jax.share", "a network as a folder for others, or for PyTorch"),
    "ablation": ("amlr_jax.ablation", "train and compare the rows of a table"),
}


def main() -> None:
    """Runs the command that the first argument names, with the rest of them."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        lines = (f"  {command:9} {what}" for command, (_, what) in COMMANDS.items())
        text = "\n".join(["usage: amlr-jax COMMAND [options]; --help after it", *lines])
        if name in ("-h", "--help"):
            print(text)
            return
        sys.exit(f"error: unknown command '{name}'\n{text}")
    module, _ = COMMANDS[name]
    del sys.argv[1]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
