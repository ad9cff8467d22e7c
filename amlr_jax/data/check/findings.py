"""Findings of the rules, and the reports of them: on the screen and as JSON."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict
from rich.markup import escape
from rich.table import Table

from amlr_jax.runtime.console import show
from amlr_jax.runtime.errors import counted, preview
from amlr_jax.runtime.files import write_json

FAULT, WARNING, NOTE = "fault", "warning", "note"
COLORS = {FAULT: "red", WARNING: "yellow", NOTE: "green"}  # from the worst level on
_NAME = 300  # characters of a name on the screen

# In the order of the summary; each with its subject.
CHECKS = {
    "layout": "the reader that training uses",
    "counts": "frames against the published numbers",
    "files": "every file exists and is readable",
    "sizes": "image, depth and crop fit together",
    "depth": "range and valid share",
    "scale": "the unit of depth",
    "intrinsics": "the cameras",
    "leak": "training and test do not overlap",
}


class Finding(NamedTuple):
    """One line of a report.

    A fault stops training or makes its results useless, a warning is a guess with its
    reason, a note is information.
    """

    check: str  # a key of CHECKS
    level: str  # a key of COLORS
    text: str
    names: tuple[str, ...] = ()  # all of the frames, drives or files concerned

    def __str__(self) -> str:
        names = [n[:_NAME] + "..." * (len(n) > _NAME) for n in self.names]
        return f"{self.text}: {preview(names)}" if names else self.text


def named(check: str, level: str, text: str, names: Sequence[str]) -> list[Finding]:
    """A finding about `names`, counted by `{n:one|several}`; none without names."""
    text = re.sub(r"\{n:(.*?)\}", lambda m: counted(len(names), m[1]), text)
    return [Finding(check, level, text, tuple(names))] if names else []


def print_report(findings: Sequence[Finding]) -> None:
    """Prints the findings, worst last, and the summary."""
    for finding in findings[::-1]:
        color = COLORS[finding.level]
        show(f"[{color}]{finding.level}[/{color}] {escape(str(finding))}")
    table = Table("check", "result", "faults", "warnings", "of")
    for check, meaning in CHECKS.items():
        faults, warnings = (_count(findings, k, check=check) for k in (FAULT, WARNING))
        result = _result(findings, check)
        color = COLORS.get(result, "green")
        shown = f"[{color}]{result}[/{color}]"
        table.add_row(check, shown, str(faults), str(warnings), meaning)
    show(table)


def _count(findings: Sequence[Finding], level: str, *, check: str = "") -> int:
    return sum(f.level == level and check in ("", f.check) for f in findings)


def _result(findings: Sequence[Finding], check: str) -> str:
    """The worst level of a check; "ok" if it has only notes."""
    bad = (k for k in (FAULT, WARNING) if _count(findings, k, check=check))
    return next(bad, "ok")


def totals(findings: Sequence[Finding]) -> str:
    """The last line of the report."""
    return ", ".join(
        counted(_count(findings, level), level) for level in (FAULT, WARNING)
    )


def write_report(path: Path, findings: Sequence[Finding], *, data: ConfigDict) -> None:
    """Writes all findings with the full lists of names."""
    content = {
        "data": data.to_dict(),
        "faults": _count(findings, FAULT),
        "warnings": _count(findings, WARNING),
        "checks": {
            check: {
                "result": _result(findings, check),
                "findings": [
                    {"level": f.level, "text": f.text, "names": list(f.names)}
                    for f in findings
                    if f.check == check
                ],
            }
            for check in CHECKS
        },
    }
    write_json(path, content)
