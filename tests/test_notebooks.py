"""The notebooks of the documentation run from the first cell to the last."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
NOTEBOOKS = REPOSITORY / "docs" / "notebooks"


def execute(name: str, monkeypatch, *, quicker: tuple[str, str] | None = None) -> None:
    """Runs a notebook in its own folder; fails with the error of its cell.

    `quicker`: what is replaced in its code, and by what.
    """
    nbformat, nbclient = map(pytest.importorskip, ("nbformat", "nbclient"))
    pytest.importorskip("ipykernel")
    # The kernel and what it starts find the package without an installation.
    found = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, found)))
    text = (NOTEBOOKS / name).read_text()
    if quicker:
        assert quicker[0] in text
        text = text.replace(*quicker)
    notebook = nbformat.reads(text, as_version=4)
    where = {"metadata": {"path": str(NOTEBOOKS)}}
    nbclient.NotebookClient(notebook, timeout=900, resources=where).execute()


def test_balance_two_losses(monkeypatch):
    execute("balance_two_losses.ipynb", monkeypatch)


@pytest.mark.slow
def test_depth_of_your_images(monkeypatch):
    quicker = ("--config.steps=250", "--config.steps=3")
    execute("depth_of_your_images.ipynb", monkeypatch, quicker=quicker)
