"""Writes the page of one run, or of several side by side.

    python -m amlr_jax.report WORKDIR... [--output=FILE]

FILE is one self-contained HTML file; the default is report.html in WORKDIR, or in the
current folder for several. A run writes its own page when it ends; this command writes
it again, on any machine, also while a run goes on. WORKDIR@STEP and WORKDIR@best mean
one checkpoint of a run, so that two of one run can be compared.
"""

from pathlib import Path

from absl import flags

from amlr_jax.report import page
from amlr_jax.runtime import command, paths, workdir
from amlr_jax.runtime.errors import InputError

_OUTPUT = flags.DEFINE_string("output", None, "The HTML file.")


def main(argv: list[str]) -> None:
    """Checks the paths and writes the page."""
    folders = [paths.expanded(name) for name in argv]
    if not folders:
        raise InputError("name at least one workdir: amlr_jax.report WORKDIR...")
    home = folders[0] if len(folders) == 1 and folders[0].is_dir() else Path()
    output = paths.expanded(_OUTPUT.value or home / workdir.REPORT)
    if output.is_dir():
        raise InputError(f"--output '{output}' must be a file, not a folder")
    page.write(folders, output)
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, opens in any browser")


if __name__ == "__main__":
    command.run(main, takes_paths=True)
