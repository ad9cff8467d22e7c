"""The files of the container name what is there; no Docker is needed."""

import re

import pytest

from amlr_jax.__main__ import COMMANDS
from tests.conftest import REPOSITORY

LAUNCH = REPOSITORY / "launch"


def test_what_is_copied_is_there_and_not_ignored():
    text = (LAUNCH / "Dockerfile").read_text()
    copied = " ".join(re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE)).split()
    ignored = (REPOSITORY / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    for name in copied:
        assert (REPOSITORY / name).exists() and f"!{name}" in ignored, name


@pytest.mark.parametrize("file", ["Dockerfile", "compose.yaml"])
def test_extras_and_commands_exist(file):
    text = (LAUNCH / file).read_text()
    setup = (REPOSITORY / "setup.cfg").read_text()
    for extra in ",".join(re.findall(r"EXTRAS(?:=|: |:-)([\w,]+)", text)).split(","):
        assert not extra or f"\n{extra} =\n" in setup, extra
    for command in re.findall(r"(?:command: |^#       )(\w+) --", text, re.MULTILINE):
        assert command in COMMANDS
