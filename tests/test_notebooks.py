"""The notebooks of the documentation run from the first cell to the last."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
NOTEBOOKS = REPOSITORY / "docs" / "notebooks"


def execute(name: str, monkeypatch) -> None:
    """Runs a notebook in its own folder; fails with the error of its cell."""
    nbformat, nbclient = map(pytest.importorskip, ("nbformat", "nbclient"))
    pytest.importorskip("ipykernel")
    # The kernel and what it starts find the package without an installation.
    found = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, found)))
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    where = {"metadata": {"path": str(NOTEBOOKS)}}
    nbclient.NotebookClient(notebook, timeout=900, resources=where).execute()


def test_balance_two_losses(monkeypatch):
    execute("balance_two_losses.ipynb", monkeypatch)


@pytest.mark.slow
def test_depth_of_your_images(monkeypatch):
    execute("depth_of_your_images.ipynb", monkeypatch)
