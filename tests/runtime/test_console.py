"""Printing never ends a run: streams that cannot encode, or whose reader is gone."""

import io
import os
import pty
import subprocess
import sys

import pytest
from rich.table import Table

from amlr_jax.runtime import console
from tests.conftest import REPOSITORY

PRINTS = """
import sys
from amlr_jax.runtime.console import bar, show, watcher
from rich.table import Table
for line in range(400):
    show(f"line {line} of a table \u2193")
    watcher.print("and of the bar", line)
table = Table("Abs Rel \u2193")
table.add_row("\u00e9 \u65e5")
show(table)
with bar("Training", 3) as one:
    one.advance(note="\u65e5")
sys.exit(7)
"""


def run(*redirect: str, **variables) -> int:
    shell = " ".join(["exec", sys.executable, "-c", '"$CODE"', *redirect])
    environment = os.environ | {"CODE": PRINTS} | variables
    done = subprocess.run(
        ["bash", "-c", shell], cwd=REPOSITORY, env=environment, check=False,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode


@pytest.mark.parametrize(
    "redirect",
    [
        ("> >(head -1)", "2>&1"),
        ("2> >(head -1)",),
        (">&-", "2>&-"),
        ("> /dev/full", "2> /dev/full"),
    ],
)
def test_a_reader_that_is_gone(redirect):
    """With the status of the command; 120: the last flush of Python to a full disk."""
    assert run(*redirect) in ((7, 120) if "/dev/full" in redirect[0] else (7,))


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8"])
def test_an_encoding_without_the_characters(encoding):
    assert run(PYTHONIOENCODING=encoding) == 7


def test_what_can_be_encoded_is_written(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stream)
    table = Table("Abs Rel \u2193")
    table.add_row("\u00e9")
    console.show("\u00fc \u2193", table)
    said = stream.buffer.getvalue().decode("latin-1")
    assert "\u00fc ?" in said and "| Abs Rel ? |" in said and "\u00e9" in said


def test_a_stream_that_is_closed_or_absent(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in (closed, None):
        monkeypatch.setattr(sys, "stdout", stream)
        console.show("nobody reads this")


def test_a_terminal_with_a_running_bar():
    """rich puts its own stream before ours; what is printed comes out above the bar."""
    code = (
        "from amlr_jax.runtime.console import bar, show\n"
        "with bar('Training', 3) as one:\n"
        "    one.advance(); show('shown'); print('x1')\n"
    )
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(REPOSITORY)
        os.execv(sys.executable, [sys.executable, "-c", code])
    said = b""
    try:
        while part := os.read(terminal, 4096):
            said += part
    except OSError:  # the end, on Linux
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, said
    assert b"shown" in said and b"x1" in said and b"1/3" in said


def test_a_terminal_that_goes_away():
    code = (
        "import time\nfrom amlr_jax.runtime.console import bar, show\n"
        "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with bar('Training', 3) as one:\n"
        "    show('ready')\n"
        "    for _ in range(8): one.advance(); show('shown'); time.sleep(0.1)\n"
        "sys.exit(7)\n"
    )
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(REPOSITORY)
        os.execv(sys.executable, [sys.executable, "-c", code])
    while b"ready" not in os.read(terminal, 4096):
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
